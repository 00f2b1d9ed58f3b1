"""Which ranked candidates become negatives: the range of ranks, the guards, the draw."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import numpy.typing as npt

from fletching import text_keys
from fletching.table import KeySet
from fletching.table.ragged_array import ranks_within
from hnmine.arrays import Keys, Mask, Numbers, Scores
from hnmine.guards import GuardChain, NegativeCandidates
from hnmine.rank_range import RankRange

Uniform = npt.NDArray[np.float64]


class NegativeKind(IntEnum):
    """Where a negative comes from, in the order in which a row lists them."""

    OLD = 0
    MINED = 1
    PADDING = 2


@dataclass(frozen=True, kw_only=True)
class ChosenNegatives:
    """n negatives of some rows, those of a row in their final order."""

    kind: NegativeKind
    rows: Numbers  # (n,)
    numbers: Numbers  # (n,), of texts in the pool
    scores: Scores  # (n,), cosines to the query


@dataclass(frozen=True, kw_only=True)
class RankedCandidates:
    """The candidates of w rows by rank, as far as a search looked."""

    candidates: NegativeCandidates  # (w, k), best first
    without_rank: Mask  # (w, k)

    def sees(self, ranks: RankRange, *, raw: bool) -> Mask:
        """Which rows see the whole range of ranks, (w,)."""
        rows, width = self.without_rank.shape
        if raw:
            return np.full(rows, width >= ranks.high)
        reached: Mask = (~self.without_rank).sum(1) >= ranks.high
        return reached

    def where(self, mask: Mask) -> RankedCandidates:
        """The rows that the mask (w,) marks."""
        return RankedCandidates(
            candidates=self.candidates.where(mask), without_rank=self.without_rank[mask]
        )


class NegativeSelector:
    """Chooses negatives for blocks of rows.

    A draw depends on seed, row id and text, and on nothing else.
    """

    def __init__(self, guards: GuardChain, ranks: RankRange) -> None:
        self.guards = guards
        self.ranks = ranks
        self.evidence = guards.evidence
        self.options = guards.evidence.options

    def select(self, ranked: RankedCandidates) -> ChosenNegatives:
        """The negatives of each row, nearest first."""
        candidates = ranked.candidates
        eligible = self.guards.in_range(candidates, self._in_range(ranked))
        priority = np.where(eligible, self._priority(candidates), np.inf)
        order = np.argsort(priority, axis=1, kind="stable")
        owners, columns = self._draw(candidates, order, eligible.sum(1))
        nearest_first = np.lexsort((columns, owners))
        owners = owners[nearest_first]
        columns = columns[nearest_first]
        return ChosenNegatives(
            kind=NegativeKind.MINED,
            rows=candidates.rows[owners, 0],
            numbers=candidates.numbers[owners, columns],
            scores=candidates.scores[owners, columns],
        )

    def _in_range(self, ranked: RankedCandidates) -> Mask:
        """Which candidates (w, k) lie in the range of ranks and can be chosen."""
        candidates = ranked.candidates
        if self.options.raw_range:  # FlagEmbedding's slice: ranks from 0, known answers have one
            ranks = np.broadcast_to(
                np.arange(candidates.numbers.shape[1]), candidates.numbers.shape
            )
            is_seen = ranks < self.ranks.high
        else:
            ranks = (~ranked.without_rank).cumsum(1)
            is_seen = ranks <= self.ranks.high
        self.guards.count_without_rank(candidates, is_seen)
        eligible = is_seen & (ranks >= self.ranks.low) & ~ranked.without_rank
        return eligible & ~self._are_old_negatives(candidates)

    def _are_old_negatives(self, candidates: NegativeCandidates) -> Mask:
        old = self.evidence.queries.old_negatives.take(candidates.rows[:, 0])
        if not len(old.values):
            return np.zeros(candidates.numbers.shape, bool)
        known = KeySet(text_keys.mix(old.owners, old.values))
        rows = np.arange(len(candidates.rows))[:, None]
        return known.contains(text_keys.mix(rows, candidates.numbers))

    def _priority(self, candidates: NegativeCandidates) -> Uniform:
        """The smallest are drawn first, (w, k)."""
        shape = candidates.numbers.shape
        if self.options.sample == "top":
            return np.broadcast_to(np.arange(shape[1], dtype=float), shape)
        seeds = self.evidence.queries.draw_seeds[candidates.rows]
        noise = uniform(text_keys.mix(seeds, self.evidence.pool.text_keys[candidates.numbers]))
        if self.options.sample == "random":
            return noise
        # Gumbel noise on s/T: a draw without replacement, p ~ exp(s/T) (Kool et al., ICML 2019).
        gumbel = -np.log(-np.log(noise))
        return -(candidates.scores.astype(float) / self.options.sample_temperature + gumbel)

    def _draw(
        self, candidates: NegativeCandidates, order: Numbers, eligible: Numbers
    ) -> tuple[Numbers, Numbers]:
        """(row in the block, column) of what is drawn: up to --negatives of each row, in any order.

        order: the columns (w, k) in the order of the draw, of which the first eligible[i] of row
        i count. Guards of the stage `draw` see only what is drawn; what they reject is drawn
        again.
        """
        rows = len(order)
        looked_at = np.zeros(rows, np.int64)
        accepted = np.zeros(rows, np.int64)
        owners = [np.zeros(0, np.int64)]
        columns = [np.zeros(0, np.int64)]
        while True:
            wanted = np.minimum(self.options.negative_count - accepted, eligible - looked_at)
            if not wanted.any():
                break
            # With wanted [2, 0, 1] and looked_at [5, 9, 3]: positions 5, 6 of row 0 and 3 of row 2.
            row = np.repeat(np.arange(rows), wanted)
            column = order[row, looked_at[row] + ranks_within(wanted)]
            is_accepted = self.guards.drawn(
                NegativeCandidates(
                    rows=candidates.rows[row, 0],
                    numbers=candidates.numbers[row, column],
                    scores=candidates.scores[row, column],
                    positive_scores=candidates.positive_scores[row, 0],
                )
            )
            owners.append(row[is_accepted])
            columns.append(column[is_accepted])
            looked_at += wanted
            accepted += np.bincount(row[is_accepted], minlength=rows)
        return np.concatenate(owners), np.concatenate(columns)


def uniform(keys: Keys) -> Uniform:
    """A number in (0, 1) for each key."""
    return ((keys >> np.uint64(11)).astype(float) + 0.5) / 2**53
