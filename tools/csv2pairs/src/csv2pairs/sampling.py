"""What each example draws from the others: hard negatives, and in --mode group its positives."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import polars as pl
from polars import DataFrame, col, concat_list, lit, when

from csv2pairs.examples import CATEGORY_COLUMN
from csv2pairs.keys import KeySpace, first_that_holds, left_join, mixed, ranges_of
from csv2pairs.links import LinkedTexts, LinkKind, shared_links
from csv2pairs.options import Options
from csv2pairs.pools import TextPools, distinct_texts
from csv2pairs.stored_pairs import StoredPairs

KEYS = ("row", "seed", "column", "category_key", "domain_key", "query_key", "pos_keys", "excluded")


class PairSampler:
    """The pools of all stored pairs, and what examples draw from them, each from its own split."""

    def __init__(self, pairs: StoredPairs, options: Options) -> None:
        self.pairs = pairs
        self.options = options
        self.k = options.negatives_per_row
        self.is_group = options.mode == "group"
        self.widens = bool(options.category) and options.shortfall == "widen" and not self.is_group
        self.drawn_key = "query_key" if options.negatives_from == "query" else "pos_keys"
        self.pools: dict[str, TextPools] = {}
        if self.is_group:
            self._add_pools(["group"], "pos_keys", LinkKind.TEXT)
        if self.k:
            pools = ["near", "far"] if self.widens else ["near"]
            self._add_pools(pools, self.drawn_key, LinkKind.ID)

    # --- the pools ---

    def _add_pools(self, pools: Sequence[str], drawn: str, last: LinkKind) -> None:
        """Pools of the texts of a key; rows with a link up to this kind draw none of each other."""
        holders = (frame.select("row", "text") for frame in self._texts(drawn))
        linked = LinkedTexts(shared_links(self.pairs.links, last), holders)
        for pool in pools:
            distinct = []
            for is_in_range in ranges_of("pool", len(self.pairs.examples)):
                texts = [
                    frame.select("text", "source", "seed", pool=pool).filter(is_in_range)
                    for frame in map(self._with_pools, self._texts(drawn))
                ]
                distinct.append(distinct_texts(pl.concat(texts)))
            self.pools[pool] = TextPools(pl.concat(distinct), linked)

    def _texts(self, drawn: str) -> Iterator[DataFrame]:
        """All texts, with the keys of their examples: text (its key), source (its number)."""
        source = 0
        for frame in self.pairs.examples.frames(*KEYS):
            texts = frame.with_columns(text=drawn)
            if drawn == "pos_keys":
                texts = texts.explode("text")
            yield texts.with_row_index("source", offset=source)
            source += len(texts)

    def _with_pools(self, examples: DataFrame) -> DataFrame:
        """The pools `near`, `far` and `group` that texts of these examples are in.

        A negative comes from the same column as the positive: no title among the descriptions.
        Where the positive is the name of a category, it comes from the domain at once.
        """
        rows = examples.with_columns(split=self.pairs.splits.gather(examples["number"]))
        rows = rows.with_columns(
            far=mixed("split", "domain_key", "column"),
            group=mixed("split", "domain_key", "category_key"),
        )
        is_wide = lit(True) if self.is_group else col.column == CATEGORY_COLUMN
        near = when(is_wide).then("far").otherwise(mixed("far", "category_key"))
        return rows.with_columns(near=near)

    # --- draws ---

    def draw(self, examples: DataFrame) -> DataFrame:
        """`pos` and `neg` of these examples, lists of numbers of texts; the `reason` of a drop.

        examples: `number` and KEYS. is_short: fewer negatives than requested; is_widened: some are
        from outside the category.
        """
        rows = self._with_pools(examples)
        reasons = {}
        is_short = is_widened = lit(False)
        if self.is_group:
            rows = self._draw(rows, "group", into="pos")
            reasons["alone in its category"] = col.pos.list.len() == 0
        if self.k:
            rows = self._draw(rows, "near", into="neg")
            is_short = col.neg.list.len() < self.k
        if self.widens:
            excluded = concat_list("excluded", "neg_texts")
            rows = rows.with_columns(
                excluded=excluded,
                far=when(is_short).then("far"),
            )
            rows = self._draw(rows, "far", into="further")
            is_widened = col.further.list.len() > 0
            rows = rows.with_columns(neg=concat_list("neg", "further").list.head(self.k))
        if self.options.shortfall == "drop":
            reasons[f"with fewer than {self.k} negatives"] = is_short
        return rows.select(
            *self.pairs.drawn,
            is_short=is_short,
            is_widened=is_widened,
            reason=first_that_holds(reasons),
        )

    def _draw(self, rows: DataFrame, pool: str, into: str) -> DataFrame:
        """Rows with the lists that they draw: `into` of numbers of texts, `into_texts` of keys."""
        most = self.k
        seed = col.seed
        if pool == "group":
            most = self.options.group_positives or len(self.pools[pool].texts)
            seed = mixed(KeySpace.GROUP_POSITIVES, "seed")
        seed = mixed(self.options.seed, seed)
        requests = rows.select("number", "row", "excluded", pool=pool, seed=seed)
        drawn = self.pools[pool].draw(requests, most)
        lists = drawn.rename({"source": into, "text": f"{into}_texts"})
        filled = col(into, f"{into}_texts").fill_null([])
        return left_join(rows, lists, "number").with_columns(filled)
