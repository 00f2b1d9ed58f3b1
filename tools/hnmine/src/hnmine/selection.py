"""Which of the ranked texts become negatives: the window of ranks, the guards, the draw."""

from __future__ import annotations

from collections import Counter

import numpy as np

from fletching import text_keys
from fletching.encode import memmap_buffer
from hnmine.options import Options
from hnmine.pool import Pool
from hnmine.queries import Queries
from hnmine.reranker_guard import Verdict

PAD_TRIES = 50  # random texts looked at for each negative that is missing


class Chooser:
    """Negatives for blocks of rows. `removed` counts each candidate that a guard took out, by the first that saw it."""

    def __init__(
        self,
        queries: Queries,
        pool: Pool,
        vectors: np.ndarray,
        verdict: Verdict | None,
        window: tuple[int, int],
        options: Options,
    ) -> None:
        self.queries, self.pool, self.vectors, self.verdict = queries, pool, vectors, verdict
        self.window, self.options = window, options
        self.removed: Counter[str] = Counter()

    def choose(
        self, rows: np.ndarray, numbers: np.ndarray, cosines: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(i, number, cosine) of the negatives of rows[i], nearest first.

        rows (w,); numbers, cosines (w, k), best first, -1 where there is nothing.
        """
        able = self._in_window(rows, numbers)
        self._guard_scores(rows, cosines, able)
        columns = np.argsort(
            np.where(able, self._preference(rows, numbers, cosines), np.inf), axis=1, kind="stable"
        )
        i, place = self._draw(rows, numbers, columns, able.sum(1))
        order = np.lexsort((place, i))
        i, place = i[order], place[order]
        return i, numbers[i, place], cosines[i, place]

    def enough(self, rows: np.ndarray, numbers: np.ndarray) -> np.ndarray:
        """Does each row see its whole window in these numbers (w, k)?"""
        if self.options.raw_range:
            return np.full(len(rows), numbers.shape[1] >= self.window[1])
        return (~self._known(rows, numbers)).sum(1) >= self.window[1]

    def _known(self, rows: np.ndarray, numbers: np.ndarray) -> np.ndarray:
        return self.queries.knows(rows, self.pool.text_keys[numbers]) | (numbers < 0)

    def _in_window(self, rows: np.ndarray, numbers: np.ndarray) -> np.ndarray:
        """Which candidates stand in the window of ranks and are no positive."""
        low, high = self.window
        known = self._known(rows, numbers)
        if (
            self.options.raw_range
        ):  # FlagEmbedding's slice: ranks from low + 1 on, positives counted
            ranks = np.broadcast_to(np.arange(numbers.shape[1]), numbers.shape)
            inside = (ranks >= low) & (ranks < high)
        else:
            ranks = (~known).cumsum(1)
            inside = (ranks >= low) & (ranks <= high)
        self._count("positive or copy", known & (numbers >= 0) & (inside | (ranks < low)))
        able = inside & ~known
        item, old = self.queries.old.of(rows)
        if len(old):
            held = np.unique(text_keys.mix(item, old))
            asked = text_keys.mix(np.arange(len(rows))[:, None], numbers)
            able &= held[np.minimum(np.searchsorted(held, asked), len(held) - 1)] != asked
        return able

    def _guard_scores(self, rows: np.ndarray, cosines: np.ndarray, able: np.ndarray) -> None:
        """Take out of `able` (w, k) what scores too near to a positive, or too far from the query."""
        options = self.options
        floor = self.queries.floor[self.queries.group[rows]][:, None]  # (w, 1)
        guards = {}
        if options.max_ratio:
            # Written with |p|, so that a negative p moves the bound down too (NV-Retriever, arXiv 2407.15831).
            guards["above --max-ratio"] = cosines > floor - (1 - options.max_ratio) * np.abs(floor)
        if options.margin is not None:
            guards["above --margin"] = cosines > floor - options.margin
        if options.max_sim is not None:
            guards["above --max-sim"] = cosines > options.max_sim
        if options.min_sim is not None:
            guards["below --min-sim"] = cosines < options.min_sim
        for reason, wrong in guards.items():
            self._count(reason, able & wrong)
            able &= ~wrong

    def _preference(self, rows: np.ndarray, numbers: np.ndarray, cosines: np.ndarray) -> np.ndarray:
        """The smallest are drawn first, float64 (w, k). A draw depends on seed, row id and text, on nothing else."""
        if self.options.sample == "top":
            return np.broadcast_to(np.arange(numbers.shape[1], dtype=float), numbers.shape)
        uniform = self._uniform(rows, self.pool.text_keys[numbers])
        if self.options.sample == "random":
            return uniform
        # Gumbel noise on s/T: a draw without replacement with probability ~ exp(s/T) (Kool et al., ICML 2019).
        return -(cosines.astype(float) / self.options.sample_temperature - np.log(-np.log(uniform)))

    def _uniform(self, rows: np.ndarray, keys: np.ndarray) -> np.ndarray:
        mixed = text_keys.mix(self.queries.draws[rows][:, None], keys)
        return ((mixed >> np.uint64(11)).astype(float) + 0.5) / 2**53

    def _draw(
        self, rows: np.ndarray, numbers: np.ndarray, columns: np.ndarray, able: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """(i, column) of up to K candidates of each row, taken in the order of `columns` (w, k), of which able[i] count.

        The guards that cost much see only what is drawn; what they refuse is drawn again.
        """
        wanted = self.options.negatives
        taken, found = np.zeros(len(rows), np.int64), np.zeros(len(rows), np.int64)
        parts = []
        while True:
            need = np.minimum(wanted - found, able - taken)
            if not need.sum():
                break
            i = np.repeat(np.arange(len(rows)), need)
            place = columns[i, taken[i] + np.arange(len(i)) - np.repeat(need.cumsum() - need, need)]
            good = self._accept(rows[i], numbers[i, place])
            parts.append((i[good], place[good]))
            taken += need
            found += np.bincount(i[good], minlength=len(rows))
        if not parts:
            return np.zeros(0, np.int64), np.zeros(0, np.int64)
        return np.concatenate([i for i, _ in parts]), np.concatenate([place for _, place in parts])

    def _accept(self, rows: np.ndarray, numbers: np.ndarray) -> np.ndarray:
        """Which pairs (row, number) are no near copy of a positive and no positive to the reranker."""
        item, positive = self.queries.merged.of(self.queries.group[rows])
        near = (
            memmap_buffer.pairwise_dot(self.vectors, numbers[item], self.vectors, positive)
            >= self.options.near_copy
        )
        copies = np.zeros(len(rows), bool)
        copies[item[near]] = True
        self._count("near copy of a positive", copies)
        good = ~copies
        if self.verdict is not None and good.any():
            positive_too = np.zeros(len(rows), bool)
            positive_too[good] = self.verdict.positive(rows[good], numbers[good])
            self._count("positive to --reranker", positive_too)
            good &= ~positive_too
        return good

    def pad(
        self, rows: np.ndarray, first: int, last: int, missing: np.ndarray, taken: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """(i, number) of missing[i] random texts of the domain [first, last) for rows[i], under the same guards.

        taken: sorted keys mix(row, number) of the negatives that stand already.
        """
        parts = [(np.zeros(0, np.int64), np.zeros(0, np.int64))]
        missing = missing.copy()
        for attempt in range(PAD_TRIES):
            i = np.flatnonzero(missing)
            if not len(i):
                break
            numbers = first + (
                text_keys.mix(self.queries.draws[rows[i]], attempt) % np.uint64(last - first)
            ).astype(np.int64)
            able = ~self._known(rows[i], numbers[:, None])
            asked = text_keys.mix(rows[i], numbers)
            able[np.isin(asked, taken), 0] = False
            cosines = memmap_buffer.pairwise_dot(
                self.queries.vectors, rows[i], self.vectors, numbers
            )[:, None]
            self._guard_scores(rows[i], cosines, able)
            good = able[:, 0]
            good[good] = self._accept(rows[i][good], numbers[good])
            parts.append((i[good], numbers[good]))
            taken = np.append(taken, asked[good])
            missing[i[good]] -= 1
        return np.concatenate([i for i, _ in parts]), np.concatenate(
            [number for _, number in parts]
        )

    def _count(self, reason: str, wrong: np.ndarray) -> None:
        self.removed[reason] += int(wrong.sum())
