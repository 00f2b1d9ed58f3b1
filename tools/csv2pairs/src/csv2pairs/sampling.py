"""What each example draws from the others: hard negatives, and in --mode group its positives."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import polars as pl

from csv2pairs.keys import KeySpace, left_join, mixed
from csv2pairs.options import Options
from csv2pairs.pairs import CATEGORY_POOL, ONE_POOL
from csv2pairs.pools import TextPools
from csv2pairs.reasons import count_reasons, first_that_holds
from csv2pairs.shared_links import LinkedTexts, shared_links
from csv2pairs.stored_pairs import StoredPairs
from fletching.report import Report

DRAWS_AT_ONCE = 1 << 22
SHORT = "rows_short_of_negatives"
WIDENED = "rows_widened_to_the_domain"
KEYS = ("seed", "column", "category_key", "domain_key", "links", "excluded")


class PairSampler:
    """The pools of all stored pairs, and what examples draw from them.

    splits: (n,); negatives and positives come from the example's own split.
    ids_repeat: does an id of the user's come up twice? Only then do ids link examples.
    """

    def __init__(
        self, pairs: StoredPairs, splits: pl.Series, options: Options, *, ids_repeat: bool
    ) -> None:
        self.pairs = pairs
        self.splits = splits
        self.options = options
        self.k = options.negatives_per_row
        self.by_query = options.negatives_from == "query"
        self.by_category = bool(options.category) and options.mode != "group"
        self.positives: TextPools | None = None
        self.near: TextPools | None = None
        self.far: TextPools | None = None
        if options.mode == "group":
            self.positives = self._pools("group", ["query_key"], by_query=False)
        if self.k:
            links = ["links", "id_link"] if ids_repeat else ["links"]
            self.near = self._pools("near", links, by_query=self.by_query)
        if self.near and self.by_category and options.shortfall == "widen":
            self.far = self._pools(
                "far",
                [],
                by_query=self.by_query,
                known=self.near.known,
            )

    @property
    def columns(self) -> list[str]:
        """The columns of examples that `draw` looks at."""
        draws = self.positives is not None or self.near is not None
        return [*KEYS, "query_key", "pos_keys"] if draws else []

    @property
    def block(self) -> int:
        """How many examples draw at once."""
        return max(1, DRAWS_AT_ONCE // max(1, self.k, self._most_positives))

    @property
    def _most_positives(self) -> int:
        if self.positives is None or self.options.group_positives:
            return self.options.group_positives
        return int(self.positives.starts["size"].max() or 1)  # type: ignore[arg-type]

    # --- the pools ---

    def _pools(
        self,
        pool: str,
        links: Sequence[str],
        *,
        by_query: bool,
        known: LinkedTexts | None = None,
    ) -> TextPools:
        if known is None:
            holders = (block.select("number", "text") for block in self._texts([], by_query))
            known = LinkedTexts(shared_links(self.pairs, links), holders)
        candidates = [
            self._with_pools(block).select("text", "source", "seed", pool=pool)
            for block in self._texts(KEYS, by_query)
        ]
        return TextPools.from_candidates(pl.concat(candidates), known)

    def _texts(self, columns: Sequence[str], by_query: bool) -> Iterator[pl.DataFrame]:
        """number, text (its key), source (its number) and these columns, of all texts."""
        name = "query_key" if by_query else "pos_keys"
        source = 0
        for block in self.pairs.frames([*columns, name]):
            texts = block.rename({name: "text"})
            if not by_query:
                texts = texts.explode("text")
            yield texts.with_row_index("source", offset=source)
            source += len(texts)

    def _with_pools(self, examples: pl.DataFrame) -> pl.DataFrame:
        """The pools `near`, `far` and `group` that texts of these examples are in.

        A negative comes from the same column as the positive: no title among the descriptions.
        Where the positive is the name of a category, it comes from the domain at once.
        """
        is_one_pool = self.by_query or self.options.mode == "group"
        column = pl.lit(ONE_POOL, pl.UInt8) if is_one_pool else pl.col("column")
        pooled = examples.with_columns(
            split=self.splits.gather(examples["number"]),
            column=column,
        )
        pooled = pooled.with_columns(
            far=mixed("split", "domain_key", "column"),
            group=mixed("split", "domain_key", "category_key"),
        )
        near = pl.col("far")
        if self.by_category:
            in_category = mixed("far", "category_key")
            is_name = pl.col("column") == CATEGORY_POOL
            near = pl.when(is_name).then("far").otherwise(in_category)
        return pooled.with_columns(near=near)

    # --- draws ---

    def draw(self, examples: pl.DataFrame) -> pl.DataFrame:
        """`positives` and `negatives` of these examples, lists of numbers of texts; `reason`.

        examples: a block of stored pairs with `columns`. is_short: fewer negatives than requested;
        is_widened: some are from outside the category.
        """
        pooled = examples.with_columns(is_short=False, is_widened=False)
        if self.columns:
            pooled = self._with_pools(pooled)
        reasons = {}
        if self.positives is not None:
            requests = self._requests(
                pooled.with_columns(seed=mixed(KeySpace.GROUP_POSITIVES, "seed")), "group"
            )
            drawn = self.positives.draw(requests, self._most_positives)
            pooled = _with_lists(pooled, drawn, positives="sources")
            reasons["alone in its category"] = pl.col("positives").list.len() == 0
        if self.near is not None:
            pooled = self._with_negatives(pooled, self.near)
            if self.options.shortfall == "drop":
                reasons[f"with fewer than {self.k} negatives"] = pl.col("is_short")
        reason = first_that_holds(reasons) if reasons else pl.lit(None, pl.String)
        return pooled.with_columns(reason=reason)

    def _with_negatives(self, pooled: pl.DataFrame, near: TextPools) -> pl.DataFrame:
        drawn = near.draw(self._requests(pooled, "near"), self.k)
        pooled = _with_lists(
            pooled,
            drawn,
            negatives="sources",
            near_texts="texts",
        )
        is_short = pl.col("negatives").list.len() < self.k
        short = pooled.filter(is_short)
        if self.far is not None and len(short):
            more = self.far.draw(
                self._requests(short, "far", "near_texts"),
                self.k,
            )
            pooled = _with_lists(pooled, more, further="sources").with_columns(
                negatives=pl.concat_list("negatives", "further").list.head(self.k),
                is_widened=pl.col("further").list.len() > 0,
            )
        return pooled.with_columns(is_short=is_short)

    def _requests(self, pooled: pl.DataFrame, pool: str, *excluded: str) -> pl.DataFrame:
        of_row = ["query_key", "pos_keys"] if pool == "group" else ["links", "excluded"]
        return pooled.select(
            "number",
            pool=pool,
            seed=mixed(self.options.seed, "seed"),
            excluded=pl.concat_list(*of_row, *excluded),
        )


def _with_lists(rows: pl.DataFrame, drawn: pl.DataFrame, **names: str) -> pl.DataFrame:
    """The lists drawn under these names; an empty one where a row drew nothing."""
    lists = drawn.select(
        "number",
        **{new: pl.col(name) for new, name in names.items()},
    )
    kept = rows.drop(*names, strict=False)
    joined = left_join(kept, lists, "number")
    return joined.with_columns(pl.col(*names).fill_null([]))


class SamplingAccount:
    """How many rows drew fewer negatives than requested, or were dropped for it."""

    def __init__(self, options: Options, report: Report) -> None:
        self.options = options
        self.report = report
        self.is_complete = False  # nothing more is counted

    def count(self, drawn: pl.DataFrame) -> None:
        """Add the rows of a block. Once for each block of the run."""
        if self.is_complete:
            return
        count_reasons(drawn, self.report)
        if not self.options.negatives_per_row:
            return
        kept = drawn.filter(pl.col("reason").is_null())
        for name, column in ((SHORT, "is_short"), (WIDENED, "is_widened")):
            before = self.report.measures.get(name, 0)
            self.report.measures[name] = before + int(kept[column].sum())

    def note_shortfall(self) -> None:
        """Tell the user of rows that are written with fewer or with wider negatives."""
        short = self.report.measures.get(SHORT)
        if short:
            self.report.note(
                f"{short:,} rows have fewer than {self.options.negatives_per_row} negatives; "
                "--shortfall widen fills them, drop leaves them out"
            )
        widened = self.report.measures.get(WIDENED)
        if widened:
            self.report.note(f"{widened:,} rows have negatives from outside their category")
