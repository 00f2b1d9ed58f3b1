"""Hard negatives of the same category or domain: distinct, seeded by row, never a known positive.

A text may become a negative of a row when it belongs to the row's pool, is not the row's query or
one of its positives, and no example that has it is linked to the row (by a query, positive or id
in common). Texts are compared by their keys, that is, after normalisation.

Letters of shapes: m rows, k negatives each, p proposals, L links, c candidates, n examples.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from csv2pairs.array_types import Integers, Keys, Mask
from fletching.table import KeySet
from fletching.text_keys import ABSENT, mix

SMALL = 64  # pools up to this size (or 4 k) are permuted whole; others are sampled until k fit
ROUNDS = 8
SPARE = 3  # proposals more than k in each round
CELLS = 1 << 21  # numbers in the permutations of one block of rows
NONE = -1  # where a row has no more negatives


@dataclass(frozen=True)
class DrawRequests:
    """What a draw must know of the m rows it is for."""

    links: Keys  # (m, L)
    excluded: Keys  # (m, E): texts of the row: its query, its category's name, earlier negatives
    seeds: Keys  # (m,): what its draws depend on

    def __getitem__(self, rows: Integers) -> DrawRequests:
        return DrawRequests(self.links[rows], self.excluded[rows], self.seeds[rows])

    def __len__(self) -> int:
        return len(self.seeds)


class SharedTexts:
    """Texts that several examples have: which links lead to one of those examples.

    text: (c,), the key of each candidate. owner: (c,), the example that it comes from.
    links: (n, L).
    """

    def __init__(self, text: Keys, owner: Integers, links: Keys) -> None:
        self.is_shared = _occurs_twice(text)  # (c,)
        candidates = np.flatnonzero(self.is_shared)
        holder_links = links[owner[candidates]]
        pairs = mix(text[candidates][:, None], holder_links)
        self.known_pairs = KeySet(pairs[holder_links != ABSENT])

    def linked_to(self, text: Keys, links: Keys) -> Mask:
        """Is the shared text in an example that has one of the row's links? (m,); links: (m, L)."""
        if not len(self.known_pairs):
            return np.zeros(len(text), bool)
        is_known = self.known_pairs.contains(mix(text[:, None], links))
        is_linked: Mask = (is_known & (links != ABSENT)).any(axis=1)
        return is_linked


def _occurs_twice(keys: Keys) -> Mask:
    """Which keys (c,) are equal to another one."""
    order = np.argsort(keys, kind="stable")
    equals_next = keys[order[1:]] == keys[order[:-1]]
    repeated = np.zeros(len(keys), bool)
    repeated[order[1:]] |= equals_next
    repeated[order[:-1]] |= equals_next
    return repeated


@dataclass(frozen=True, kw_only=True)
class Candidates:
    """c texts that may become negatives, with the pool and the example that each comes from."""

    pool: Keys  # (c,)
    text: Keys  # (c,)
    owner: Integers  # (c,): numbers of examples
    owner_seeds: Keys  # (n,): of examples with one text, the smallest one is chosen
    links: Keys  # (n, L)


class TextPools:
    """The distinct texts of each pool, sorted by pool and text: file order does not affect a draw.

    A position is a number into the sorted arrays; `candidate` leads back to the candidates.
    """

    def __init__(self, candidates: Candidates, shared_texts: SharedTexts) -> None:
        self.links = candidates.links
        self.shared_texts = shared_texts
        order = _distinct_in_order(candidates)
        self.candidate = order
        self.text = candidates.text[order]
        self.owner = candidates.owner[order]
        self.is_shared = shared_texts.is_shared[order]
        self.names, self.starts = np.unique(candidates.pool[order], return_index=True)
        self.sizes = np.diff(np.append(self.starts, len(order)))

    def draw(self, pools: Keys, requests: DrawRequests, k: int, seed: int) -> Integers:
        """k positions for each row, (m, k); NONE where its pool has no more. pools: (m,)."""
        if not len(self.names) or not k:
            return np.full((len(requests), k), NONE, np.int64)
        number = np.minimum(np.searchsorted(self.names, pools), len(self.names) - 1)
        exists = self.names[number] == pools
        draw = PoolDraw(
            pools=self,
            requests=requests,
            pool_number=number,
            start=self.starts[number],
            size=np.where(exists, self.sizes[number], 0),
            seeds=mix(seed, requests.seeds),
            chosen=np.full((len(requests), k), NONE, np.int64),
        )
        draw.run()
        return draw.chosen

    def eligible(self, positions: Integers, requests: DrawRequests) -> Mask:
        """Which positions of a row's pool may become its negatives: (m, p), as `positions`."""
        inside = np.maximum(positions, 0)
        text: Keys = self.text[inside]
        owner_links = self.links[self.owner[inside]]  # (m, p, L)
        refused: Mask = positions == NONE
        for excluded in requests.excluded.T:
            refused |= text == excluded[:, None]
        for link in requests.links.T:
            refused |= text == link[:, None]
            has_link = (owner_links == link[:, None, None]).any(axis=2)
            refused |= has_link & (link != ABSENT)[:, None]
        row, column = np.nonzero(self.is_shared[inside] & ~refused)
        if len(row):
            links = requests.links[row]
            refused[row, column] = self.shared_texts.linked_to(text[row, column], links)
        return ~refused

    def candidates_at(self, positions: Integers) -> Integers:
        """The candidates behind positions; NONE stays."""
        if not len(self.candidate):
            return positions
        return np.where(positions == NONE, NONE, self.candidate[np.maximum(positions, 0)])

    def texts_at(self, positions: Integers) -> Keys:
        """The keys of the texts at positions; ABSENT for NONE."""
        return np.where(positions == NONE, ABSENT, self.text[np.maximum(positions, 0)])


@dataclass(frozen=True, kw_only=True)
class PoolDraw:
    """One draw of up to k positions for each of m rows, filled into `chosen` from left to right."""

    pools: TextPools
    requests: DrawRequests
    pool_number: Integers  # (m,)
    start: Integers  # (m,): the first position of the row's pool
    size: Integers  # (m,): of the row's pool; 0 where there is none
    seeds: Keys  # (m,)
    chosen: Integers  # (m, k)

    @property
    def k(self) -> int:
        """How many are drawn for a row."""
        return int(self.chosen.shape[1])

    def run(self) -> None:
        """Small pools are permuted whole; large ones are sampled, in the end searched."""
        is_small = self.size <= max(SMALL, 4 * self.k)
        self._permute(np.flatnonzero(is_small & (self.size > 0)))
        unfilled = np.flatnonzero(~is_small)
        for number in range(ROUNDS):
            if not len(unfilled):
                return
            self._fill(unfilled, self._proposals(unfilled, number))
            unfilled = unfilled[self.chosen[unfilled, -1] == NONE]
        self._search(unfilled)

    def _permute(self, rows: Integers) -> None:
        """Fill rows from their whole pool in random order, a block of rows at a time."""
        by_size = rows[np.argsort(self.size[rows], kind="stable")]  # equal sizes side by side
        while len(by_size):
            largest = int(self.size[by_size[-1]])
            count = max(1, CELLS // largest)
            block = by_size[:count]
            by_size = by_size[count:]
            self._fill_in_order(block, self._permutations(block))

    def _permutations(self, rows: Integers) -> Integers:
        """All positions of each row's pool in random order, (r, largest size); NONE at the end."""
        size = self.size[rows][:, None]
        ranks = np.arange(int(size.max()))
        numbers = mix(self.seeds[rows][:, None], ranks[None, :]) >> np.uint64(1)
        numbers[ranks[None, :] >= size] = np.iinfo(np.uint64).max  # behind all others
        order = np.argsort(numbers, axis=1, kind="stable")
        return np.where(order < size, self.start[rows][:, None] + order, NONE)

    def _fill_in_order(self, rows: Integers, positions: Integers) -> None:
        """Give the rows, which have nothing yet, the first k eligible of distinct positions."""
        eligible = self.pools.eligible(positions, self.requests[rows])
        rank = eligible.cumsum(axis=1) - 1
        row, column = np.nonzero(eligible & (rank < self.k))
        self.chosen[rows[row], rank[row, column]] = positions[row, column]

    def _proposals(self, rows: Integers, number: int) -> Integers:
        """Random positions of each row's pool, (r, k + SPARE), in round `number`; some repeat."""
        width = self.k + SPARE
        counters = np.arange(number * width, (number + 1) * width, dtype=np.uint64)
        numbers = mix(self.seeds[rows][:, None], counters[None, :])
        offsets = numbers % self.size[rows][:, None].astype(np.uint64)
        return self.start[rows][:, None] + offsets.astype(np.int64)

    def _fill(self, rows: Integers, proposals: Integers) -> None:
        """Add the eligible proposals (r, p) that a row does not have yet, up to k."""
        before = self.chosen[rows]
        accepted = self.pools.eligible(proposals, self.requests[rows])
        for later in range(1, proposals.shape[1]):  # no position twice
            equals_earlier = proposals[:, :later] == proposals[:, later : later + 1]
            accepted[:, later] &= ~equals_earlier.any(axis=1)
        if (before[:, 0] != NONE).any():
            accepted &= ~(proposals[:, :, None] == before[:, None, :]).any(axis=2)
        filled = (before != NONE).sum(axis=1)
        rank = accepted.cumsum(axis=1) - 1 + filled[:, None]
        row, column = np.nonzero(accepted & (rank < self.k))
        self.chosen[rows[row], rank[row, column]] = proposals[row, column]

    def _search(self, rows: Integers) -> None:
        """Rows that are linked to nearly all of a large pool: look at all of it.

        What rows with one pool and query may all have is looked up once for them together.
        """
        for group in self._rows_with_one_pool_and_query(rows):
            start = self.start[group[0]]
            whole_pool = np.arange(start, start + self.size[group[0]])
            first = self.requests[group[:1]]
            query_alone = DrawRequests(first.links[:, :1], first.excluded[:, :1], first.seeds)
            remaining = whole_pool[self.pools.eligible(whole_pool[None, :], query_alone)[0]]
            for row in group:
                order = np.argsort(mix(self.seeds[row], remaining), kind="stable")
                self.chosen[row] = NONE
                self._fill_in_order(np.array([row]), remaining[order][None, :])

    def _rows_with_one_pool_and_query(self, rows: Integers) -> Iterator[Integers]:
        keys = mix(self.pool_number[rows], self.requests.links[rows, 0])
        for key in np.unique(keys):
            yield rows[keys == key]


def _distinct_in_order(candidates: Candidates) -> Integers:
    """The candidates sorted by pool and text, of equal ones that with the smallest owner seed."""
    pool = candidates.pool
    text = candidates.text
    order = np.lexsort((text, pool))
    is_new = np.ones(len(order), bool)
    is_new[1:] = pool[order[1:]] != pool[order[:-1]]
    is_new[1:] |= text[order[1:]] != text[order[:-1]]
    starts = np.flatnonzero(is_new)
    if len(starts) == len(order):
        return order
    group = is_new.cumsum() - 1  # the number of the text that each place of `order` has
    sizes = np.diff(np.append(starts, len(order)))
    repeated = np.flatnonzero(sizes[group] > 1)
    seeds = candidates.owner_seeds[candidates.owner[order[repeated]]]
    ranked = repeated[np.lexsort((seeds, group[repeated]))]
    is_smallest = np.append(True, group[ranked[1:]] != group[ranked[:-1]])
    winners = ranked[is_smallest]
    starts[group[winners]] = winners
    return order[starts]
