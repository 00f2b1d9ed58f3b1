"""What each example draws from the others: hard negatives, and in --mode group its positives."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import polars as pl
from polars import col
from polars.selectors import by_name

from csv2pairs.keys import (
    KeySpace,
    first_that_holds,
    left_join,
    mixed,
    ranges_of,
)
from csv2pairs.links import LinkedTexts, LinkKind, shared_links
from csv2pairs.options import Options
from csv2pairs.pairs import CATEGORY_POOL, ONE_POOL
from csv2pairs.pools import TextPools, distinct_texts
from csv2pairs.stored_pairs import StoredPairs

# Its own texts, which an example draws neither as a positive of its group nor as a negative.
OWN = ("query_key", "pos_keys")
EXCLUDED = (*OWN, "name_key", "neg_keys", "near_texts")  # no negatives; not all examples have all
KEYS = ("row", "seed", "column", "category_key", "domain_key", *EXCLUDED)


class PairSampler:
    """The pools of all stored pairs, and what examples draw from them.

    splits: (n,); negatives and positives come from the example's own split. links: of the rows.
    ids_repeat: does an id of the user's come up twice? Only then do ids link examples.
    """

    def __init__(
        self, pairs: StoredPairs, splits: pl.Series, options: Options, *, ids_repeat: bool
    ) -> None:
        self.pairs = pairs
        self.splits = splits
        self.options = options
        self.k = options.negatives_per_row
        self.is_group = options.mode == "group"
        self.drawn_key = "query_key" if options.negatives_from == "query" else "pos_keys"
        self.positives: TextPools | None = None
        self.near: TextPools | None = None
        self.far: TextPools | None = None
        if self.is_group:
            known = self._known("pos_keys", LinkKind.TEXT)
            self.positives = self._pools("group", "pos_keys", known)
        if self.k:
            last = LinkKind.ID if ids_repeat else LinkKind.CATEGORY
            known = self._known(self.drawn_key, last)
            self.near = self._pools("near", self.drawn_key, known)
            if options.category and not self.is_group and options.shortfall == "widen":
                self.far = self._pools("far", self.drawn_key, known)

    # --- the pools ---

    def _known(self, drawn: str, last: LinkKind) -> LinkedTexts:
        holders = (block.select("row", "text") for block in self._texts(drawn))
        return LinkedTexts(shared_links(self.pairs.links, LinkKind.ROW, last), holders)

    def _pools(self, pool: str, drawn: str, known: LinkedTexts) -> TextPools:
        columns = ["text", "source", "seed"]
        distinct = []
        for is_in_range in ranges_of("pool", len(self.pairs.keys)):
            blocks = map(self._with_pools, self._texts(drawn))
            candidates = [block.select(columns, pool=pool).filter(is_in_range) for block in blocks]
            distinct.append(distinct_texts(pl.concat(candidates)))
        return TextPools.from_texts(pl.concat(distinct), known)

    def _texts(self, drawn: str) -> Iterator[pl.DataFrame]:
        """All texts, with the keys of their examples: text (its key), source (its number)."""
        source = 0
        for block in self.pairs.keys.frames():
            texts = block.with_columns(text=drawn)
            if drawn == "pos_keys":
                texts = texts.explode("text")
            yield texts.with_row_index("source", offset=source)
            source += len(texts)

    def _with_pools(self, examples: pl.DataFrame) -> pl.DataFrame:
        """The pools `near`, `far` and `group` that texts of these examples are in.

        A negative comes from the same column as the positive: no title among the descriptions.
        Where the positive is the name of a category, it comes from the domain at once.
        """
        rows = examples.with_columns(split=self.splits.gather(examples["number"]))
        if self.is_group or self.drawn_key == "query_key":
            rows = rows.with_columns(column=pl.lit(ONE_POOL, pl.UInt8))
        rows = rows.with_columns(
            far=mixed("split", "domain_key", "column"),
            group=mixed("split", "domain_key", "category_key"),
        )
        if self.is_group or not self.options.category:
            return rows.with_columns(near="far")
        is_name = col.column == CATEGORY_POOL
        near = pl.when(is_name).then("far").otherwise(mixed("far", "category_key"))
        return rows.with_columns(near=near)

    # --- draws ---

    def draw(self, examples: pl.DataFrame) -> pl.DataFrame:
        """`positives` and `negatives` of these examples, lists of numbers of texts; `reason`.

        examples: `number` and KEYS. is_short: fewer negatives than requested; is_widened: some are
        from outside the category.
        """
        nothing = pl.lit([], pl.List(pl.UInt32))
        rows = self._with_pools(examples).with_columns(
            positives=nothing,
            negatives=nothing,
        )
        rows = rows.with_columns(further=nothing)
        reasons = {}
        if self.positives is not None:
            seed = mixed(KeySpace.GROUP_POSITIVES, "seed")
            requests = self._requests(rows.with_columns(seed=seed), "group", OWN)
            most = self.options.group_positives or len(self.positives.texts)
            drawn = self.positives.draw(requests, most)
            rows = _with_lists(rows, drawn, positives="source")
            reasons["alone in its category"] = col.positives.list.len() == 0
        if self.near is not None:
            drawn = self.near.draw(self._requests(rows, "near", EXCLUDED), self.k)
            rows = _with_lists(
                rows,
                drawn,
                negatives="source",
                near_texts="text",
            )
        is_short = col.negatives.list.len() < self.k
        if self.far is not None:
            requests = self._requests(rows.filter(is_short), "far", EXCLUDED)
            rows = _with_lists(
                rows,
                self.far.draw(requests, self.k),
                further="source",
            )
        all_negatives = pl.concat_list("negatives", "further").list.head(self.k)
        rows = rows.with_columns(negatives=all_negatives)
        if self.options.shortfall == "drop":
            reasons[f"with fewer than {self.k} negatives"] = is_short
        return rows.select(
            "positives",
            "negatives",
            is_short=is_short,
            is_widened=col.further.list.len() > 0,
            reason=first_that_holds(reasons),
        )

    def _requests(self, rows: pl.DataFrame, pool: str, excluded: Sequence[str]) -> pl.DataFrame:
        return rows.select(
            "number",
            "row",
            pool=pool,
            seed=mixed(self.options.seed, "seed"),
            excluded=pl.concat_list(by_name(*excluded, require_all=False)),
        )


def _with_lists(rows: pl.DataFrame, drawn: pl.DataFrame, **names: str) -> pl.DataFrame:
    """The lists drawn under these names; an empty one where a row drew nothing."""
    lists = drawn.select("number", **{new: col(name) for new, name in names.items()})
    joined = left_join(rows.drop(*names, strict=False), lists, "number")
    return joined.with_columns(col(*names).fill_null([]))
