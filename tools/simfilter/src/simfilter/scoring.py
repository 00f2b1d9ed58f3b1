"""From input batches to scored units: shards, decontamination, scores, ranks."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from fletching import schema
from fletching.io import Reader, Writer
from fletching.report import Report
from simfilter import decontaminate, pair_scores, positive_units
from simfilter.criteria import Scored
from simfilter.options import Options


def models(
    options: Options, rank: int | None, report: Report, stack: contextlib.ExitStack
) -> tuple[Any, Any]:
    """What encodes and what reranks; None for what is not needed."""
    encoder: Any = None
    reranker: Any = None
    if options.vectors:
        from fletching.encode.precomputed import PrecomputedEmbeddings

        encoder = stack.enter_context(
            PrecomputedEmbeddings(options.vectors, report, options.query_prompt, options.doc_prompt)
        )
    elif options.model and (rank is not None or not (options.use_scores or options.reranker)):
        from fletching.encode import Encoder

        encoder = stack.enter_context(Encoder(options, report))
    if options.reranker:
        from fletching.encode.reranker import Reranker

        reranker = stack.enter_context(Reranker(options.reranker, options))
    return encoder, reranker


class Work:
    """The scoring of one run. `kind` names what the scores measure."""

    def __init__(
        self,
        options: Options,
        rank: int | None,
        shard: tuple[int, int],
        columns: pa.Schema,
        encoder: Any,
        reranker: Any,
        rejects: Writer | None,
        report: Report,
    ) -> None:
        self.options, self.shard, self.columns, self.report, self.rejects = (
            options,
            shard,
            columns,
            report,
            rejects,
        )
        self.encoder, self.rank = encoder, rank
        self.scorer: Any
        if options.use_scores:
            self.kind, self.scorer = "given", pair_scores.given
        elif reranker:
            self.kind, self.scorer = "reranker", pair_scores.by_reranker(reranker)
        else:
            self.kind, self.scorer = "cosine", pair_scores.by_cosine(encoder)

    def scored(
        self, reader: Reader, corpus: Reader | None, stack: contextlib.ExitStack
    ) -> Iterator[Scored]:
        """Units with scores, and with ranks where they are asked for."""
        batches: Iterable[pa.RecordBatch] = reader
        ranks = None
        if self.shard != (0, 1) or self.rank is not None:
            batches = positive_units.spooled(reader, reader.columns, stack)
        if self.rank is not None:
            from simfilter.pool_rank import Pool, ranker

            ranks = ranker(Pool(batches, corpus or (), self.encoder, self.report), self.encoder)
        pieces: Iterable[pa.RecordBatch] = positive_units.units(batches)
        if self.shard != (0, 1):
            pieces = positive_units.shard(list(pieces), self.shard, self.report)
        with self.report.progress("scoring", unit="rows") as progress:
            for unit in self._clean(pieces):
                scores = self.scorer(unit)
                yield Scored(self._made(unit, scores), scores, ranks(unit) if ranks else None)
                progress.advance(len(unit))

    def _made(self, unit: pa.RecordBatch, scores: np.ndarray) -> pa.RecordBatch:
        if self.kind != "given":
            return pair_scores.with_scores(
                unit, self.columns, scores, self.kind, self.options.replace_scores
            )
        return pa.RecordBatch.from_arrays(
            [schema.column(unit, field.name, field.type) for field in self.columns],
            schema=self.columns,
        )

    def _clean(self, pieces: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """The rows that stand in no evaluation set."""
        if not self.options.decontaminate:
            yield from pieces
            return
        evaluation = decontaminate.Evaluation(self.options.decontaminate, self.options.ngram)
        for unit in pieces:
            clean, wrong, reasons = decontaminate.split(unit, evaluation, self.report)
            if self.rejects and len(wrong):
                self.rejects.write(positive_units.rejected(wrong, self.columns, reasons))
            if len(clean):
                yield clean
        evaluation.tell(self.report)
