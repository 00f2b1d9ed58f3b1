"""What one command line does: mine, search a part of the pool, merge parts, or score the input.

What imports torch, which takes seconds, is imported when the inputs have been opened.
"""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from fletching import cli, lineage, schema
from fletching.encode.batching import WINDOW
from fletching.encode.opening import open_encoder
from fletching.io import Reader, Writer
from fletching.lineage import Node
from fletching.options import Shard
from fletching.report import Report
from hnmine import candidate_files, output_rows
from hnmine.candidate_files import CandidateFile, DigestedRows, PoolPart
from hnmine.mined_negatives import MinedNegatives
from hnmine.options import Options
from hnmine.pool import DocumentPool
from hnmine.queries import MiningRows

if TYPE_CHECKING:
    from fletching.encode.precomputed import PrecomputedEmbeddings
    from fletching.encode.reranker import Reranker


class MiningRun:
    """One run. version: of the tool. ranks: those of --range."""

    def __init__(self, options: Options, ranks: range, *, version: str, report: Report) -> None:
        self.options, self.ranks = options, ranks
        self.version, self.report = version, report
        self.shard = Shard.parse(options.shard)
        self.stack = contextlib.ExitStack()  # what is open until the end of the run

    def run(self) -> None:
        """Do what the options ask for."""
        with self.stack:
            if self.options.score_all:
                self._score_input()
            elif self.options.merge:
                self._merge_parts()
            elif self.options.pool_shard:
                self._search_part()
            else:
                self._mine_whole_pool()

    def _mine_whole_pool(self) -> None:
        options, report = self.options, self.report
        reader, corpus = self._open_inputs(options.inputs)
        from hnmine.mine import mine_negatives

        reranker = self._open_reranker()
        encoder = self.stack.enter_context(open_encoder(options, options.vectors, report))
        models = {"model": encoder.settings} | _settings_of(reranker)
        out = self._open_output(reader, corpus, models)
        rows = self.stack.enter_context(MiningRows(reader, report, self.shard))
        output_rows.check_old_negatives(rows, options, report)
        pool = DocumentPool(
            rows.table, corpus, keep_neg=options.keep_neg, pool_only=options.pool_only
        )
        mined = mine_negatives(
            rows,
            pool,
            encoder=encoder,
            reranker=reranker,
            ranks=self.ranks,
            options=options,
            report=report,
        )
        self._write(out, rows, pool, mined=mined)

    def _score_input(self) -> None:
        reader, corpus = self._open_inputs(self.options.inputs)
        reranker = self._open_reranker()
        assert reranker is not None  # `check` saw to it
        out = self._open_output(reader, corpus, _settings_of(reranker))
        rows = self.stack.enter_context(MiningRows(reader, self.report, self.shard))
        columns = output_rows.columns_of(self.options, reader.columns)
        units = output_rows.scored_units(
            rows, columns, reranker=reranker, options=self.options, report=self.report
        )
        for unit in units:
            out.write(unit)

    def _search_part(self) -> None:
        """Write the candidates of --pool-shard."""
        options, report = self.options, self.report
        shard = Shard.parse(options.pool_shard, "--pool-shard")
        assert shard is not None
        reader, corpus = self._open_inputs(options.inputs)
        digested, texts = DigestedRows(reader), _digested(corpus)
        rows = self.stack.enter_context(MiningRows(digested, report, self.shard))
        pool = DocumentPool(
            rows.table,
            texts,
            keep_neg=options.keep_neg,
            pool_only=options.pool_only,
            belongs=candidate_files.share_filter(shard),
        )
        part = PoolPart(
            shard=f"{shard.index}/{shard.count}",
            rows=digested.digest,
            corpus=texts.digest if texts else "",
            texts=len(pool),
            all_have_ids=pool.all_have_ids,
        )
        report.measures["pool"] = len(pool)
        self._write_candidates(rows, pool, part, sources=[reader, corpus])

    def _write_candidates(
        self,
        rows: MiningRows,
        pool: DocumentPool,
        part: PoolPart,
        *,
        sources: Sequence[Reader | None],
    ) -> None:
        from hnmine.candidate_search import candidate_units
        from hnmine.ranked_pool import RankedPool

        options, report = self.options, self.report
        wanted = functools.partial(_prompted_texts, rows, pool)
        encoder = open_encoder(options, options.vectors, report, wanted=wanted)
        self.stack.enter_context(encoder)
        settings = self._row_options() | {"model": encoder.settings} | part.as_option()
        settings.pop("reranker", None)  # a path, and --merge is what opens it
        out = Writer(
            report,
            options.output,
            "candidates",
            columns=candidate_files.COLUMNS,
            version=self.version,
            options=settings,
            sources=[source for source in sources if source is not None],
        )
        self.stack.enter_context(out)
        ranked_pool = RankedPool(
            rows, pool, encoder=encoder, ranks=self.ranks, options=options, report=report
        )
        for unit in candidate_units(ranked_pool, rows):
            out.write(unit)

    def _merge_parts(self) -> None:
        """Mine from the candidates of --merge."""
        options, report = self.options, self.report
        inputs, parts = _split_inputs(options.inputs)
        files = candidate_files.open_candidates([*options.merge, *parts], report)
        candidate_files.check_options(files[0], self._row_options())
        candidate_files.check_has_corpus(files[0], bool(options.corpus))
        reader, corpus = self._open_inputs(inputs)
        reranker = self._open_reranker()
        models = {"model": files[0].settings.get("model")} | _settings_of(reranker)
        out = self._open_output(reader, corpus, models)
        digested = DigestedRows(reader)
        rows = self.stack.enter_context(MiningRows(digested, report, self.shard))
        candidate_files.check_digest(files[0], "rows", digested.digest)
        output_rows.check_old_negatives(rows, options, report)
        pool, mined = self._mined_from(files, rows, corpus, reranker=reranker)
        self._write(out, rows, pool, mined=mined)

    def _mined_from(
        self,
        files: list[CandidateFile],
        rows: MiningRows,
        corpus: Reader | None,
        *,
        reranker: Reranker | None,
    ) -> tuple[DocumentPool, MinedNegatives]:
        from hnmine.merging import CandidateMerger

        texts = _digested(corpus)
        merger = CandidateMerger(
            rows, files, texts, ranks=self.ranks, options=self.options, report=self.report
        )
        return merger.merge(reranker)

    def _write(
        self, out: Writer, rows: MiningRows, pool: DocumentPool, *, mined: MinedNegatives
    ) -> None:
        units = output_rows.mined_units(
            rows, out.columns, pool=pool, mined=mined, options=self.options, report=self.report
        )
        for unit in units:
            out.write(unit)

    # --- what a run opens

    def _open_inputs(self, inputs: Sequence[str]) -> tuple[Reader, Reader | None]:
        """The rows, and the texts of --corpus."""
        options = self.options
        reader = Reader(self.report, inputs, "examples", limit=options.limit)
        if not options.corpus:
            return reader, None
        return reader, Reader(self.report, options.corpus, "texts", count=False)

    def _open_reranker(self) -> Reranker | None:
        if not self.options.reranker:
            return None
        from fletching.encode.reranker import Reranker

        return self.stack.enter_context(Reranker(self.options.reranker, self.options))

    def _open_output(self, reader: Reader, corpus: Reader | None, models: Node) -> Writer:
        """The output of mined or scored rows. models: what is known of them, by option."""
        out = Writer(
            self.report,
            self.options.output,
            "examples",
            columns=output_rows.columns_of(self.options, reader.columns),
            version=self.version,
            options=self._row_options() | models,
            sources=[reader] if corpus is None else [reader, corpus],
        )
        return self.stack.enter_context(out)

    def _row_options(self) -> Node:
        return cli.row_options(self.options)


def _prompted_texts(
    rows: MiningRows, pool: DocumentPool, vectors: PrecomputedEmbeddings
) -> Iterator[list[str]]:
    """The queries and texts of a part of the pool, as their vectors are looked up."""
    for unit in rows.units:
        prompts = schema.column(unit, "prompt", pa.string()).to_pylist()
        yield vectors.prompted(unit["query"].to_pylist(), "query", prompts)
    for start in range(0, pool.vectors_needed, WINDOW):
        numbers = np.arange(start, min(start + WINDOW, pool.vectors_needed))
        yield vectors.prompted(pool.texts(numbers).to_pylist(), "document")


def _settings_of(reranker: Reranker | None) -> Node:
    """What the lineage says of a --reranker."""
    return {} if reranker is None else {"reranker": reranker.settings}


def _digested(corpus: Reader | None) -> DigestedRows | None:
    return None if corpus is None else DigestedRows(corpus)


def _split_inputs(inputs: Sequence[str]) -> tuple[list[str], list[str]]:
    """(examples, candidates): a shell puts what a pattern of --merge matches behind its first."""
    parts = [name for name in inputs if _holds_candidates(name)]
    return [name for name in inputs if name not in parts], parts


def _holds_candidates(path: str) -> bool:
    """Does the stamp of a local Parquet or Arrow file say so?"""
    if not os.path.isfile(path):
        return False
    try:
        with open(path, "rb") as file:
            is_parquet = file.read(4) == b"PAR1"
        if is_parquet:
            columns = pq.read_schema(path)
        else:
            with pa.OSFile(path) as source:
                columns = pa.ipc.open_file(source).schema
    except (pa.ArrowException, OSError):  # read as examples, which says what is wrong with it
        return False
    return lineage.read(columns.metadata).get("schema") == "candidates"
