"""What each pair draws from the others: hard negatives, and in --mode group its positives."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from csv2pairs.array_types import Integers, Keys, Mask, SmallIntegers
from csv2pairs.key_space import KeySpace
from csv2pairs.negatives import NONE, Candidates, DrawRequests, SharedTexts, TextPools
from csv2pairs.options import Options
from csv2pairs.pairing.pair_batch import CATEGORY_POOL
from csv2pairs.pairing.stored_pairs import StoredPairs
from fletching import text_keys

BLOCK = 8192  # rows
DRAWS_AT_ONCE = 1 << 22
ALONE = "alone in its category"


@dataclass(kw_only=True)
class SampledBlock:
    """What m rows draw: numbers of texts, NONE behind the last; None where nothing is drawn."""

    positives: Integers | None = None  # (m, p)
    negatives: Integers | None = None  # (m, k)
    is_short: Mask  # (m,): fewer negatives than requested
    is_widened: Mask  # (m,): some negatives come from outside the category
    dropped: dict[str, Mask] = field(default_factory=dict)  # (m,) by reason, at most one a row

    @property
    def keep(self) -> Mask:
        """The rows that are written, (m,)."""
        dropped = np.zeros(len(self.is_short), bool)
        for rows in self.dropped.values():
            dropped |= rows
        return ~dropped


class PairSampler:
    """The pools of all stored pairs, and what rows draw from them.

    splits: int64 (n,); negatives and positives come from the row's own split.
    ids_repeat: does an id of the user's come up twice? Only then do ids link rows.
    """

    def __init__(
        self, pairs: StoredPairs, splits: Integers, options: Options, *, ids_repeat: bool
    ) -> None:
        self.pairs = pairs
        self.options = options
        self.group_sampler = None
        if options.mode == "group":
            self.group_sampler = GroupSampler(pairs, splits, options)
        self.negative_sampler = None
        if options.negatives_per_row:
            links = pairs.keys.links
            if ids_repeat:
                links = np.column_stack([links, pairs.keys.id_links])
            self.negative_sampler = NegativeSampler(pairs, splits, options, links=links)

    @property
    def block(self) -> int:
        """How many rows draw at once."""
        most_positives = self.group_sampler.most if self.group_sampler else 0
        draws = max(1, self.options.negatives_per_row, most_positives)
        return max(1, min(BLOCK, DRAWS_AT_ONCE // draws))

    def draw(self, rows: Integers) -> SampledBlock:
        """What these examples draw; rows: (m,), their numbers."""
        nobody = np.zeros(len(rows), bool)
        block = SampledBlock(is_short=nobody, is_widened=nobody)
        is_alone = nobody
        if self.group_sampler is not None:
            block.positives = self.group_sampler.draw(rows)
            is_alone = block.positives[:, 0] == NONE
            block.dropped[ALONE] = is_alone
        if self.negative_sampler is not None:
            block.negatives, block.is_widened = self.negative_sampler.draw(rows)
            block.is_short = block.negatives[:, -1] == NONE
            if self.options.shortfall == "drop":
                reason = f"with fewer than {self.options.negatives_per_row} negatives"
                block.dropped[reason] = block.is_short & ~is_alone
        return block


class GroupSampler:
    """The positives of --mode group: other rows of the same category, domain and split."""

    def __init__(self, pairs: StoredPairs, splits: Integers, options: Options) -> None:
        keys = pairs.keys
        self.keys = keys
        self.options = options
        self.pool = text_keys.mix(splits, keys.domain, keys.category)
        rows = np.arange(len(pairs))
        query_links = np.ascontiguousarray(keys.links[:, :1])
        texts = pairs.positive_keys.values
        candidates = Candidates(
            pool=self.pool, text=texts, owner=rows, owner_seeds=keys.seeds, links=query_links
        )
        self.pools = TextPools(candidates, SharedTexts(texts, rows, query_links))

    @property
    def most(self) -> int:
        """The most positives that a row may draw."""
        if self.options.group_positives:
            return self.options.group_positives
        return int(self.pools.sizes.max()) if len(self.pools.sizes) else 1

    def draw(self, rows: Integers) -> Integers:
        """Numbers of positives for these examples, (m, most)."""
        keys = self.keys
        requests = DrawRequests(
            links=keys.links[rows, :1],
            excluded=keys.query[rows, None],
            seeds=text_keys.mix(KeySpace.GROUP_POSITIVES, keys.seeds[rows]),
        )
        positions = self.pools.draw(self.pool[rows], requests, k=self.most, seed=self.options.seed)
        return self.pools.candidates_at(positions)


class NegativeSampler:
    """Hard negatives from the row's category, and with --shortfall widen from its domain.

    A negative comes from the same column as the positive: no title among the descriptions. Where
    the positive is the name of a category, and in --mode group, whose categories hold the
    positives, negatives come from the domain at once.

    links: (n, L); examples with one in common are never each other's negatives.
    """

    def __init__(
        self, pairs: StoredPairs, splits: Integers, options: Options, *, links: Keys
    ) -> None:
        self.keys = pairs.keys
        self.links = links
        self.k = options.negatives_per_row
        self.seed = options.seed
        by_query = options.negatives_from == "query"
        text = pairs.keys.query if by_query else pairs.positive_keys.values
        rows = np.arange(len(pairs))
        owner = rows if by_query else pairs.positive_keys.owners
        if by_query or options.mode == "group":
            column: SmallIntegers = np.zeros(len(text), np.uint8)
        else:
            column = pairs.pools
        first = rows if by_query else pairs.positive_keys.offsets[:-1]
        shared_texts = SharedTexts(text, owner, links)
        far_pool = self._domain_pools(splits, owner, column)
        near_pool = far_pool
        self.far_pool = self._domain_pools(splits, rows, column[first])
        self.near_pool = self.far_pool
        by_category = bool(options.category) and options.mode != "group"
        if by_category:
            near_pool = self._category_pools(far_pool, owner, column)
            self.near_pool = self._category_pools(self.far_pool, rows, column[first])
        near = self._candidates(near_pool, text, owner)
        self.near = TextPools(near, shared_texts)
        self.far = None
        if by_category and options.shortfall == "widen":
            far = self._candidates(far_pool, text, owner)
            self.far = TextPools(far, shared_texts)

    def _domain_pools(self, splits: Integers, owner: Integers, column: SmallIntegers) -> Keys:
        """The pool of texts (c,) of these owners and columns within domain and split."""
        return text_keys.mix(splits[owner], self.keys.domain[owner], column)

    def _category_pools(self, pools: Keys, owner: Integers, column: SmallIntegers) -> Keys:
        """The pools within the category; the names of categories stay in those of the domain."""
        narrower = text_keys.mix(pools, self.keys.category[owner])
        return np.where(column == CATEGORY_POOL, pools, narrower)

    def _candidates(self, pool: Keys, text: Keys, owner: Integers) -> Candidates:
        seeds = self.keys.seeds
        return Candidates(pool=pool, text=text, owner=owner, owner_seeds=seeds, links=self.links)

    def draw(self, rows: Integers) -> tuple[Integers, Mask]:
        """Numbers of negatives for these examples (m, k), and which were widened (m,)."""
        query = self.keys.query[rows, None]
        category_positive = self.keys.category_positive[rows, None]
        requests = DrawRequests(
            links=self.links[rows],
            excluded=np.concatenate([query, category_positive], axis=1),
            seeds=self.keys.seeds[rows],
        )
        positions = self.near.draw(self.near_pool[rows], requests, k=self.k, seed=self.seed)
        negatives = self.near.candidates_at(positions)
        is_widened = np.zeros(len(rows), bool)
        if self.far is not None:
            short = np.flatnonzero(positions[:, -1] == NONE)
            excluded = np.concatenate(
                [requests.excluded[short], self.near.texts_at(positions[short])], axis=1
            )
            wider = DrawRequests(requests.links[short], excluded, requests.seeds[short])
            pools = self.far_pool[rows[short]]
            far_positions = self.far.draw(pools, wider, k=self.k, seed=self.seed)
            more = self.far.candidates_at(far_positions)
            negatives[short] = _first_numbers(negatives[short], more)
            is_widened[short] = more[:, 0] != NONE
        return negatives, is_widened


def _first_numbers(numbers: Integers, more: Integers) -> Integers:
    """The first k of two draws (m, k) end to end, without the NONE between them.

    [[4, NONE]] and [[7, 9]] give [[4, 7]].
    """
    both = np.concatenate([numbers, more], axis=1)
    numbers_first = np.argsort(both == NONE, axis=1, kind="stable")
    joined = np.take_along_axis(both, numbers_first, axis=1)
    return joined[:, : numbers.shape[1]]
