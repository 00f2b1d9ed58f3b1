"""Hard negatives from the same category or domain: distinct, seeded by row, never a known positive."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fletching.keys import ABSENT, mix

SMALL = 64  # pools up to this size are permuted whole; larger ones are drawn from until enough fit
ROUNDS = 8


@dataclass
class Candidates:
    """Texts that can become negatives: of example `example`, item `item` of its list."""

    example: np.ndarray  # int64 (c,)
    item: np.ndarray  # int64 (c,)
    text: np.ndarray  # uint64 (c,), key of the text
    pool: np.ndarray  # uint64 (c,), key of the pool it belongs to


class Pools:
    """Distinct candidates, sorted by pool and text, so that file order has no say in the draw."""

    def __init__(self, candidates: Candidates, links: np.ndarray) -> None:
        self.links = links
        order = np.lexsort((candidates.example, candidates.text, candidates.pool))
        pool, text = candidates.pool[order], candidates.text[order]
        first = np.ones(len(order), bool)
        first[1:] = (pool[1:] != pool[:-1]) | (text[1:] != text[:-1])
        starts = np.flatnonzero(first)
        self.text = text[starts]
        self.example = candidates.example[order][starts]
        self.item = candidates.item[order][starts]
        self.shared = np.diff(np.append(starts, len(order))) > 1  # the text of several examples
        # Which (text, link) pairs exist; asked only for texts that several examples hold.
        several = order[np.repeat(self.shared, np.diff(np.append(starts, len(order))))]
        pairs = mix(candidates.text[several][:, None], links[candidates.example[several]])
        self.known = np.unique(pairs[links[candidates.example[several]] != ABSENT])
        self.names, self.start = np.unique(pool[starts], return_index=True)
        self.size = np.diff(np.append(self.start, len(starts)))

    def draw(self, pools: np.ndarray, rows: np.ndarray, row_keys: np.ndarray, query_keys: np.ndarray, k: int, seed: int, taken: np.ndarray | None = None) -> np.ndarray:
        """k candidates for each row, int64 (len(rows), k); -1 where the pool has no more.

        pools: key of each row's pool. row_keys: what seeds a row's draw. taken: candidate texts, uint64
        (len(rows), t), that a row has already.
        """
        chosen = np.full((len(rows), k), -1, np.int64)
        at = np.searchsorted(self.names, pools).clip(max=max(len(self.names) - 1, 0))
        exists = self.names[at] == pools if len(self.names) else np.zeros(len(rows), bool)
        size = np.where(exists, self.size[at], 0) if len(self.names) else np.zeros(len(rows), np.int64)
        start = self.start[at] if len(self.names) else size
        base = mix(seed, row_keys)
        taken = taken if taken is not None else np.zeros((len(rows), 0), np.uint64)

        def accept(active: np.ndarray, proposal: np.ndarray) -> None:
            """Take what fits of proposals, int64 (len(active), m), from left to right."""
            for j in range(proposal.shape[1]):
                place = proposal[:, j]
                fits = (place >= 0) & (chosen[active, -1] < 0)
                fits &= ~(chosen[active] == place[:, None]).any(1)
                fits[fits] = ~self._excluded(place[fits], rows[active][fits], query_keys[active][fits], taken[active][fits])
                free = (chosen[active] >= 0).sum(1)
                chosen[active[fits], free[fits]] = place[fits]

        small = np.flatnonzero((size > 0) & (size <= SMALL))
        for part in np.array_split(small, max(1, len(small) * SMALL // (1 << 22))):
            accept(part, _permuted(base[part], start[part], size[part]))
        active = np.flatnonzero(size > SMALL)
        for turn in range(ROUNDS):
            counters = np.arange(turn * (k + 3), (turn + 1) * (k + 3))
            numbers = mix(base[active][:, None], counters[None, :])
            accept(active, start[active][:, None] + (numbers % size[active][:, None].astype(np.uint64)).astype(np.int64))
            active = active[chosen[active, -1] < 0]
        for row in active:  # nearly everything of a large pool is excluded: look at all of it
            accept(np.array([row]), _permuted(base[[row]], start[[row]], size[[row]]))
        return chosen

    def _excluded(self, places: np.ndarray, rows: np.ndarray, query_keys: np.ndarray, taken: np.ndarray) -> np.ndarray:
        """Is the candidate the query itself, a text the row has, or tied to the row by any link?"""
        text, own = self.text[places], self.links[rows]  # (m,), (m, L)
        wrong = (text == query_keys) | (taken == text[:, None]).any(1)
        theirs = self.links[self.example[places]]  # (m, L)
        wrong |= ((own[:, :, None] == theirs[:, None, :]) & (own != ABSENT)[:, :, None]).any((1, 2))
        wrong |= (own == text[:, None]).any(1)
        several = np.flatnonzero(self.shared[places] & ~wrong)
        if len(several) and len(self.known):
            asked = mix(text[several][:, None], own[several])
            found = self.known[np.searchsorted(self.known, asked).clip(max=len(self.known) - 1)] == asked
            wrong[several] = (found & (own[several] != ABSENT)).any(1)
        return wrong


def _permuted(base: np.ndarray, start: np.ndarray, size: np.ndarray) -> np.ndarray:
    """All places of each row's pool in random order, int64 (m, largest size); -1 behind the last."""
    width = int(size.max()) if len(size) else 0
    places = np.arange(width)
    numbers = mix(base[:, None], places[None, :]) >> np.uint64(1)
    numbers[places[None, :] >= size[:, None]] = np.iinfo(np.uint64).max  # behind all others
    order = np.argsort(numbers, axis=1, kind="stable")
    return np.where(order < size[:, None], start[:, None] + order, -1)
