"""Hard negatives from the same category or domain: distinct, seeded by row, never a known positive.

A text may become a negative of a row when it stands in the row's pool, is not the row's query or one of
its positives, and no example that holds it is tied to the row by a link (a query, positive or id in
common). Texts are compared by their keys, that is, after normalisation.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fletching.text_keys import ABSENT, mix

SMALL = 64  # pools up to this size (or 4 k) are permuted whole; larger ones are drawn from until enough fit
ROUNDS = 8
SPARE = 3  # proposals more than k in each round
CELLS = 1 << 21  # numbers of a permutation held at once


@dataclass
class Rows:
    """What a draw must know of the m rows it is for."""

    links: np.ndarray  # uint64 (m, L)
    barred: np.ndarray  # uint64 (m, B): texts that the row has: its query, its category's name, negatives drawn before
    keys: np.ndarray  # uint64 (m,): what seeds the draws

    def __getitem__(self, which: np.ndarray) -> Rows:
        return Rows(self.links[which], self.barred[which], self.keys[which])

    def __len__(self) -> int:
        return len(self.keys)


class Holders:
    """Texts that several examples hold: whom else each of them is tied to."""

    def __init__(self, text: np.ndarray, owner: np.ndarray, links: np.ndarray) -> None:
        """text: uint64 (c,); owner: int64 (c,), the example that holds it; links: uint64 (n, L)."""
        order = np.argsort(text, kind="stable")
        ordered = text[order]
        same = ordered[1:] == ordered[:-1]
        several = np.zeros(len(text), bool)
        several[1:] |= same
        several[:-1] |= same
        self.shared = np.zeros(len(text), bool)  # of each candidate
        self.shared[order] = several
        mine = np.flatnonzero(self.shared)
        theirs = links[owner[mine]]
        self.known = np.unique(mix(text[mine][:, None], theirs)[theirs != ABSENT])

    def tie(self, text: np.ndarray, links: np.ndarray) -> np.ndarray:
        """bool (m,): is the shared text held by an example that has one of the row's links? links: (m, L)."""
        if not len(self.known):
            return np.zeros(len(text), bool)
        asked = mix(text[:, None], links)
        found = (
            self.known[np.searchsorted(self.known, asked).clip(max=len(self.known) - 1)] == asked
        )
        return (found & (links != ABSENT)).any(1)


class Pools:
    """The distinct texts of each pool, sorted by pool and text, so that file order has no say in the draw.

    pool, text: uint64 (c,); owner: int64 (c,); name: uint64 (n,), a key by which one of several examples
    that hold a text is chosen. A place is a number into the sorted arrays; `candidate` leads back.
    """

    def __init__(
        self,
        pool: np.ndarray,
        text: np.ndarray,
        owner: np.ndarray,
        name: np.ndarray,
        links: np.ndarray,
        holders: Holders,
    ) -> None:
        self.links, self.holders = links, holders
        order = np.lexsort((text, pool))
        order = order[_first_by_name(pool, text, owner, name, order)]
        self.candidate, self.text, self.owner = order, text[order], owner[order]
        self.shared = holders.shared[order]
        self.names, self.start = np.unique(pool[order], return_index=True)
        self.size = np.diff(np.append(self.start, len(order)))

    def draw(self, pools: np.ndarray, rows: Rows, k: int, seed: int) -> np.ndarray:
        """k places for each row, int64 (m, k); -1 where its pool has no more. pools: uint64 (m,)."""
        chosen = np.full((len(rows), k), -1, np.int64)
        if not len(self.names) or not k:
            return chosen
        at = np.searchsorted(self.names, pools).clip(max=len(self.names) - 1)
        start, size = self.start[at], np.where(self.names[at] == pools, self.size[at], 0)
        base = mix(seed, rows.keys)
        whole = size <= max(SMALL, 4 * k)
        self._permute(np.flatnonzero(whole & (size > 0)), start, size, base, rows, chosen)
        left = np.flatnonzero(~whole)
        for turn in range(ROUNDS):
            if not len(left):
                return chosen
            counters = np.arange(turn * (k + SPARE), (turn + 1) * (k + SPARE), dtype=np.uint64)
            numbers = mix(base[left][:, None], counters[None, :]) % size[left][:, None].astype(
                np.uint64
            )
            self._accept(left, start[left][:, None] + numbers.astype(np.int64), rows, chosen)
            left = left[chosen[left, -1] < 0]
        self._exhaust(left, at, start, size, base, rows, chosen)
        return chosen

    def eligible(self, places: np.ndarray, rows: Rows) -> np.ndarray:
        """bool (m, p): may the place, of the row's pool, become a negative of it? places: int64 (m, p), -1 for none."""
        inside = places.clip(min=0)
        text, theirs = self.text[inside], self.links[self.owner[inside]]  # (m, p), (m, p, L)
        wrong = places < 0
        for own in rows.barred.T:
            wrong |= text == own[:, None]
        for own in rows.links.T:
            wrong |= (text == own[:, None]) | (
                (theirs == own[:, None, None]).any(2) & (own != ABSENT)[:, None]
            )
        row, col = np.nonzero(self.shared[inside] & ~wrong)
        if len(row):
            wrong[row, col] = self.holders.tie(text[row, col], rows.links[row])
        return ~wrong

    def _accept(
        self, which: np.ndarray, places: np.ndarray, rows: Rows, chosen: np.ndarray
    ) -> None:
        """Fill the rows `which` from left to right with the proposals that fit, int64 (len(which), p)."""
        k = chosen.shape[1]
        before = chosen[which]
        fits = self.eligible(places, rows[which])
        for later in range(1, places.shape[1]):  # no place twice
            fits[:, later] &= ~(places[:, :later] == places[:, later : later + 1]).any(1)
        if (before[:, 0] >= 0).any():
            fits &= ~(places[:, :, None] == before[:, None, :]).any(2)
        rank = fits.cumsum(1) - 1 + (before >= 0).sum(1)[:, None]
        row, column = np.nonzero(fits & (rank < k))
        chosen[which[row], rank[row, column]] = places[row, column]

    def _permute(
        self,
        which: np.ndarray,
        start: np.ndarray,
        size: np.ndarray,
        base: np.ndarray,
        rows: Rows,
        chosen: np.ndarray,
    ) -> None:
        """Fill rows from their whole pool in random order. which: rows of small pools."""
        which = which[np.argsort(size[which], kind="stable")]  # pools of one size side by side
        while len(which):
            count = max(1, CELLS // int(size[which[-1]]))
            part, which = which[:count], which[count:]
            places = _shuffled(base[part], start[part], size[part])
            fits = self.eligible(places, rows[part])
            rank = fits.cumsum(1) - 1
            row, column = np.nonzero(fits & (rank < chosen.shape[1]))
            chosen[part[row], rank[row, column]] = places[row, column]

    def _exhaust(
        self,
        which: np.ndarray,
        at: np.ndarray,
        start: np.ndarray,
        size: np.ndarray,
        base: np.ndarray,
        rows: Rows,
        chosen: np.ndarray,
    ) -> None:
        """Rows that are tied to nearly all of a large pool: look at all of it, once for rows alike."""
        alike = mix(at[which], rows.links[which][:, 0])
        for name in np.unique(alike):
            group = which[alike == name]
            places = start[group[0]] + np.arange(size[group[0]])
            first = rows[group[:1]]
            places = places[
                self.eligible(
                    places[None, :], Rows(first.links[:, :1], first.barred[:, :1], first.keys)
                )[0]
            ]
            for row in group:
                mine = places[np.argsort(mix(base[row], places), kind="stable")][None, :]
                found = mine[self.eligible(mine, rows[np.array([row])])][: chosen.shape[1]]
                chosen[row], chosen[row, : len(found)] = -1, found


def _first_by_name(
    pool: np.ndarray, text: np.ndarray, owner: np.ndarray, name: np.ndarray, order: np.ndarray
) -> np.ndarray:
    """Numbers into `order`: of each text of a pool the example with the smallest name."""
    new = np.ones(len(order), bool)
    new[1:] = (pool[order[1:]] != pool[order[:-1]]) | (text[order[1:]] != text[order[:-1]])
    starts = np.flatnonzero(new)
    if len(starts) == len(order):
        return starts
    group = new.cumsum() - 1
    repeated = np.flatnonzero(np.diff(np.append(starts, len(order)))[group] > 1)
    ranked = repeated[np.lexsort((name[owner[order[repeated]]], group[repeated]))]
    winners = ranked[np.append(True, group[ranked[1:]] != group[ranked[:-1]])]
    starts[group[winners]] = winners
    return starts


def _shuffled(base: np.ndarray, start: np.ndarray, size: np.ndarray) -> np.ndarray:
    """All places of each row's pool in random order, int64 (m, largest size); -1 behind the last."""
    places = np.arange(int(size.max()) if len(size) else 0)
    numbers = mix(base[:, None], places[None, :]) >> np.uint64(1)
    numbers[places[None, :] >= size[:, None]] = np.iinfo(np.uint64).max  # behind all others
    order = np.argsort(numbers, axis=1, kind="stable")
    return np.where(order < size[:, None], start[:, None] + order, -1)
