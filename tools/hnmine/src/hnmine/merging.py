"""Negatives from the candidates of all parts of a pool: what one run over the whole would mine.

Texts are looked up by hash at the end, those that were drawn alone; a guard that looks at texts,
such as --reranker, needs those of all candidates in the range.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pyarrow as pa

from fletching.arrays import Keys, Mask, Numbers
from fletching.errors import InputError
from fletching.report import Report
from fletching.table import KeySet, RaggedArray
from fletching.table.key_set import GrowingKeySet
from hnmine.candidate_files import CandidateFile, DigestedRows, check_digest
from hnmine.candidates import Evidence, RerankerScores
from hnmine.guards import GuardChain
from hnmine.merged_candidates import SCHEMA, MergedCandidates
from hnmine.mined_negatives import MinedNegatives, PoolSize, report_account, scored
from hnmine.options import Options
from hnmine.pool import DocumentPool, TextHashes
from hnmine.queries import (
    MinedQueries,
    MiningRows,
    QueryGroups,
    draw_seeds_of,
    pairs_of,
    taken_of,
)
from hnmine.selection import NegativeKind, NegativeSelector, with_kind
from hnmine.stored_texts import Origin, TextBatch

if TYPE_CHECKING:
    from fletching.encode.reranker import Reranker

PAIR_BY_HASH = {"row": pl.Int32, "candidate": pl.UInt64}
NEGATIVE_BY_HASH = PAIR_BY_HASH | {"score": pl.Float32, "kind": pl.Int8}
WITHOUT_TEXTS = {*SCHEMA, "rank", "noise"}  # columns that are known before texts are looked up


class CandidateMerger:
    """One merge. corpus: the texts of --corpus, which are read once."""

    def __init__(
        self,
        rows: MiningRows,
        files: Sequence[CandidateFile],
        corpus: DigestedRows | None,
        *,
        ranks: range,
        options: Options,
        report: Report,
    ) -> None:
        self.rows = rows
        self.corpus = corpus
        self.ranks = ranks
        self.options = options
        self.report = report
        self.files = files
        self.parts = [file.part for file in files]
        self.merged = MergedCandidates(rows, files, width=ranks[-1])
        self.groups = QueryGroups(rows)
        if len(rows) and not self.texts:
            raise InputError("the pool is empty: there is nothing to mine from", "add --corpus")

    @property
    def texts(self) -> int:
        """The number of texts in the whole pool."""
        return sum(part.texts for part in self.parts)

    def merge(self, reranker: Reranker | None) -> tuple[DocumentPool, MinedNegatives]:
        """The texts that were looked up, and the negatives, by number of these texts."""
        selector = self._selector(UnreadTexts(), None, self._taken_by_hash())
        if _needs_texts(selector.guards):
            pool = self._pool(self._hashes_in_range(selector))
            selector = self._selector(pool, reranker, taken_of(self.rows, pool))
            frames = (_numbered(frame, pool) for frame in self.merged.frames())
            mined = [selector.select(selector.with_ranks(frame)) for frame in frames]
        else:
            by_hash = [pl.DataFrame(schema=NEGATIVE_BY_HASH)]
            for frame in self.merged.frames():
                by_hash.append(selector.select(selector.with_ranks(frame)))
            drawn = pl.concat(by_hash)
            pool = self._pool(KeySet(drawn["candidate"].to_numpy()))
            mined = [_numbered(drawn, pool)]
        old = pairs_of(self.rows, pool, Origin.OLD_NEGATIVE)
        old = old.with_columns(score=_joined(self.merged.old_scores))
        kept = with_kind(old, NegativeKind.OLD)
        negatives = pl.concat([kept, *mined]).sort("row", "kind", maintain_order=True)
        size = PoolSize(texts=self.texts, rows_without_texts=self.merged.rows_without_texts)
        report_account(negatives, selector.guards, pool=size, report=self.report)
        positives = pairs_of(self.rows, pool, Origin.POSITIVE)
        positives = positives.with_columns(score=_joined(self.merged.positive_scores))
        scorer = selector.evidence.reranker
        kind = self.options.score_kind
        return pool, scored(negatives, positives, scorer=scorer, kind=kind)

    def _pool(self, hashes: KeySet) -> DocumentPool:
        """The texts of these hashes, and those of the rows as variants."""

        def belongs(texts: TextHashes) -> Mask:
            """Those that are looked up."""
            return hashes.contains(texts.equal)

        pool = DocumentPool(
            self.rows.table,
            self.corpus,
            keep_neg=self.options.keep_neg,
            pool_only=self.options.pool_only,
            belongs=belongs,
        )
        if self.corpus is not None:
            check_digest(self.files[0], "corpus", self.corpus.digest)
        pool.has_ids = self.texts > 0 and all(part.all_have_ids for part in self.parts)
        return pool

    def _selector(
        self, pool: DocumentPool | UnreadTexts, reranker: Reranker | None, taken: pl.DataFrame
    ) -> NegativeSelector:
        groups = self.groups
        nothing = RaggedArray.from_lengths(np.zeros(0, np.int64), np.zeros(len(groups), np.int64))
        positives = groups.positives(pool) if isinstance(pool, DocumentPool) else nothing
        queries = MinedQueries(
            vectors=np.zeros((0, 0), np.float32),
            domains=self.merged.domains,
            keys=groups.keys,
            groups=groups.of_rows,
            first_rows=groups.first_rows,
            draw_seeds=draw_seeds_of(self.rows, self.options.seed),
            known_answers=KeySet(np.zeros(0, np.uint64)),  # the parts say which they are
            positives=pl.DataFrame(schema=PAIR_BY_HASH),
            old_negatives=pl.DataFrame(schema=PAIR_BY_HASH),
            taken=taken,
            group_positives=positives,
            lowest_positive_scores=np.zeros(0, np.float32),  # in the frames
        )
        evidence = Evidence(
            options=self.options,
            queries=queries,
            pool=pool,
            vectors=queries.vectors,
            query_texts=self.rows.query_texts,
            reranker=RerankerScores(reranker, pool, self.rows.query_texts) if reranker else None,
        )
        return NegativeSelector(GuardChain(evidence), low=self.ranks[0], high=self.ranks[-1])

    def _taken_by_hash(self) -> pl.DataFrame:
        """The negatives that are kept, by the hash of domain and text."""
        frames = [pl.DataFrame(schema=PAIR_BY_HASH)]
        first_row = 0
        for unit in self.rows.units if self.options.keep_neg else ():
            old = TextBatch.of_lists(unit, "neg", origin=Origin.OLD_NEGATIVE, first_row=first_row)
            columns = {"row": old.rows, "candidate": old.equals}
            frames.append(pl.DataFrame(columns, schema=PAIR_BY_HASH))
            first_row += len(unit)
        return pl.concat(frames)

    def _hashes_in_range(self, selector: NegativeSelector) -> KeySet:
        """Of all candidates that may be drawn: 8 bytes each."""
        hashes = GrowingKeySet()
        for frame in self.merged.frames():
            in_range = selector.in_range(selector.seen(selector.with_ranks(frame)))
            hashes.add_new(in_range["candidate"].to_numpy())
        return KeySet(np.concatenate([np.zeros(0, np.uint64), *hashes.runs]))


class UnreadTexts:
    """The texts of a pool of which nothing is read: none of them has a number yet."""

    text_keys: Keys = np.zeros(0, np.uint64)

    def texts(self, numbers: Numbers) -> pa.Array:
        """No guard comes here: what names texts has them looked up first."""
        raise LookupError("the texts of the pool are not read")


def _needs_texts(guards: GuardChain) -> bool:
    """Does a guard name more than what the parts wrote?"""
    names = {
        name
        for stage in guards.of_stage.values()
        for rejects in stage.values()
        for name in rejects.meta.root_names()
    }
    return not names <= WITHOUT_TEXTS


def _numbered(candidates: pl.DataFrame, pool: DocumentPool) -> pl.DataFrame:
    """The same candidates by their numbers in a pool in place of their hashes."""
    numbers = pool.numbers_of(candidates["candidate"].to_numpy())
    return candidates.with_columns(candidate=pl.Series(numbers, dtype=pl.Int32))


def _joined(scores: Sequence[np.ndarray]) -> pl.Series:
    return pl.Series("score", np.concatenate([np.zeros(0, np.float32), *scores]))
