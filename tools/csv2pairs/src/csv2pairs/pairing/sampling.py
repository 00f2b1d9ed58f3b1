"""What each example is given from others: hard negatives, and in --mode group its positives."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from csv2pairs.negatives import Holders, Pools, Rows
from csv2pairs.options import Options
from csv2pairs.pairing.pair_builder import CATEGORY
from csv2pairs.spool import Spool
from fletching import text_keys

BLOCK = 8192
PLACES = 1 << 22  # places drawn at once
POSITIVES = 0x905  # the draws of positives and negatives of a row are independent


@dataclass
class Drawn:
    """Numbers of items (or of queries) for m rows, -1 behind the last; None where nothing is drawn."""

    positives: np.ndarray | None  # int64 (m, p)
    negatives: np.ndarray | None  # int64 (m, k)
    widened: np.ndarray  # bool (m,): some negatives come from outside the category
    dropped: dict[str, np.ndarray]  # reason: bool (m,); at most one reason a row
    short: np.ndarray  # bool (m,): fewer negatives than asked for

    @property
    def keep(self) -> np.ndarray:
        return ~np.logical_or.reduce([self.short & False, *self.dropped.values()])


class Draws:
    """All pools of a spool. splits: int64 (n,); negatives and positives come from the row's own split."""

    def __init__(
        self, spool: Spool, splits: np.ndarray, options: Options, ids_repeat: bool
    ) -> None:
        self.spool, self.options = spool, options
        # Ids tie rows together only where one comes up again.
        self.links = np.column_stack([spool.links, spool.id_links]) if ids_repeat else spool.links
        self.group = options.mode == "group"
        self.by_query = options.negatives_from == "query"
        rows = np.arange(spool.rows)
        if self.group:
            self.category = text_keys.mix(splits, spool.domains, spool.categories)
            ties = np.ascontiguousarray(spool.links[:, :1])
            holders = Holders(spool.item_keys, rows, ties)
            self.positives = Pools(
                self.category, spool.item_keys, rows, spool.row_keys, ties, holders
            )
        if options.negatives:
            self._negatives(splits, rows)

    def _negatives(self, splits: np.ndarray, rows: np.ndarray) -> None:
        spool, options = self.spool, self.options
        text = spool.query_keys if self.by_query else spool.item_keys
        owner = rows if self.by_query else spool.owners()
        # A negative answers to the same column as the positive: no title among the descriptions.
        column = np.zeros(len(text), np.uint8) if self.by_query or self.group else spool.item_pools
        # What holds the texts: an item of a row is a positive even where negatives are queries.
        holders = Holders(text, owner, self.links)
        wide = text_keys.mix(splits[owner], spool.domains[owner], column)
        self.first_item = (
            column[spool.starts[:-1]]
            if len(column) and not self.by_query
            else np.zeros(spool.rows, np.uint8)
        )
        self.wide = text_keys.mix(splits, spool.domains, self.first_item)
        # In mode group the category holds the positives, so negatives come from the domain at once; so
        # do the names of other categories.
        self.hard = bool(options.category) and not self.group
        narrow = (
            np.where(column == CATEGORY, wide, text_keys.mix(wide, spool.categories[owner]))
            if self.hard
            else wide
        )
        self.narrow = (
            np.where(
                self.first_item == CATEGORY, self.wide, text_keys.mix(self.wide, spool.categories)
            )
            if self.hard
            else self.wide
        )
        self.near = Pools(narrow, text, owner, spool.row_keys, self.links, holders)
        widen = options.shortfall == "widen" and self.hard
        self.far = Pools(wide, text, owner, spool.row_keys, self.links, holders) if widen else None

    @property
    def block(self) -> int:
        """How many rows are drawn for at once."""
        return max(1, min(BLOCK, PLACES // max(1, self.options.negatives, self._most_positives())))

    def _most_positives(self) -> int:
        if not self.group:
            return 0
        return self.options.positives or int(
            self.positives.size.max() if len(self.positives.size) else 1
        )

    def draw(self, rows: np.ndarray) -> Drawn:
        """rows: int64 (m,), numbers of examples."""
        spool, options, dropped = self.spool, self.options, {}
        links, query = self.links[rows], spool.query_keys[rows, None]
        short, widened, positives, negatives = (
            np.zeros(len(rows), bool),
            np.zeros(len(rows), bool),
            None,
            None,
        )
        if self.group:
            asked = Rows(links[:, :1], query, text_keys.mix(POSITIVES, spool.row_keys[rows]))
            positives = _candidates(
                self.positives,
                self.positives.draw(
                    self.category[rows], asked, self._most_positives(), options.seed
                ),
            )
            dropped["alone in its category"] = positives[:, 0] < 0
        if options.negatives:
            asked = Rows(
                links,
                np.concatenate([query, spool.own_category[rows, None]], 1),
                spool.row_keys[rows],
            )
            places = self.near.draw(self.narrow[rows], asked, options.negatives, options.seed)
            negatives = _candidates(self.near, places)
            if self.far is not None:
                widened = self._widen(rows, asked, places, negatives)
            short = negatives[:, -1] < 0
        if options.shortfall == "drop" and options.negatives:
            alone = dropped.get("alone in its category", short & False)
            dropped[f"with fewer than {options.negatives} negatives"] = short & ~alone
        return Drawn(positives, negatives, widened, dropped, short)

    def _widen(
        self, rows: np.ndarray, asked: Rows, places: np.ndarray, negatives: np.ndarray
    ) -> np.ndarray:
        """Fill the rows that are short from the domain; which were."""
        assert self.far is not None
        short = np.flatnonzero(places[:, -1] < 0)
        have = np.where(
            places[short] >= 0, self.near.text[places[short].clip(min=0)], text_keys.ABSENT
        )
        mine = asked[short]
        barred = np.concatenate([mine.barred, have], 1)
        more = _candidates(
            self.far,
            self.far.draw(
                self.wide[rows[short]],
                Rows(mine.links, barred, mine.keys),
                places.shape[1],
                self.options.seed,
            ),
        )
        joined = np.concatenate([negatives[short], more], 1)
        negatives[short] = np.take_along_axis(
            joined, np.argsort(joined < 0, axis=1, kind="stable"), 1
        )[:, : places.shape[1]]
        widened = np.zeros(len(rows), bool)
        widened[short] = more[:, 0] >= 0
        return widened


def _candidates(pools: Pools, places: np.ndarray) -> np.ndarray:
    return (
        np.where(places >= 0, pools.candidate[places.clip(min=0)], -1)
        if len(pools.candidate)
        else places
    )
