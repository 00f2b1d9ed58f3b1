"""From rows of the table to examples, by mode: a frame goes in, a frame comes out.

Columns of examples beside those of the output; keys are UInt64, ABSENT for none:

row            of the table: the links of its texts are those of all its examples
query_key, category_key, domain_key, id_key, pos_keys
excluded       keys of texts that it never draws
column         of its positive: negatives come from the same column of other rows
content        equal for examples that say the same
seed           what its draws depend on
"""

from __future__ import annotations

import polars as pl
from polars import DataFrame, Expr, Series, col, concat_list, lit, when
from polars.selectors import matches

from csv2pairs.keys import (
    ABSENT,
    drop_by_reason,
    first_that_holds,
    hashed,
    left_join,
    mixed,
    with_ids,
)
from csv2pairs.options import Options
from csv2pairs.table import fuse, list_columns, template
from fletching.errors import InputError
from fletching.report import Report
from fletching.table import GrowingKeySet
from fletching.text_keys import hash_repeated_texts

KEPT = "kept:"  # of columns that are copied to the output
SPLIT = "split:"  # of columns whose equal values keep rows in one split
LISTS = "lists:"  # of cells that are lists, beside their text
# Numbers of the columns that positives come from; draws depend on them.
ANY_COLUMN = 0
CATEGORY_COLUMN = 0xC  # the names of categories
FIRST_COLUMN = 16
# Lists beside those of texts: the option that names the column, the texts of the first column.
ALIGNED = {
    "pos_ids": ("pos_id", "pos:16"),
    "pos_scores": ("score", "pos:16"),
    "neg_ids": ("neg_id", "neg:0"),
}


class ExampleBuilder:
    """How the options make examples of the table, a block of rows after the other."""

    def __init__(self, options: Options, report: Report) -> None:
        self.options = options
        self.report = report
        self.rows_read = self.left_out = self.repeated_ids = 0
        self.contents = GrowingKeySet()
        self.ids = GrowingKeySet()
        self.lists = list_columns(options)
        self.columns = self._columns()

    def examples(self, cells: DataFrame) -> tuple[DataFrame, DataFrame]:
        """The new examples of a block, and the positives of all its rows: row, key, category_key.

        Drops are counted. Raises InputError where a row is bad and --bad-rows says so.
        """
        rows = self._rows(cells)
        if self.options.mode == "texts":
            positives = rows.head(0).select(
                "row",
                "category_key",
                key="query_key",
            )
            examples = with_ids(rows.with_columns(text="query", content="query_key"), "text")
            examples = examples.with_columns(id_key=hashed("id"))
        else:
            positives = self._positives(rows)
            examples = with_ids(self._pairs(rows, positives), "query", "pos")
            examples = self._with_keys(examples)
        is_new = Series(self.contents.add_new(examples["content"].to_numpy()))
        examples = drop_by_reason(examples, {"duplicate": ~lit(is_new)}, self.report)
        if self.options.id and self.options.mode != "texts":
            ids = examples.filter(col.row.is_first_distinct())["id_key"]
            self.repeated_ids += int((~self.ids.add_new(ids.to_numpy())).sum())
        return examples, positives

    def _with_keys(self, examples: DataFrame) -> DataFrame:
        has_name = self.options.category_positive
        has_group = has_name or self.options.mode == "group"
        excluded = ["query_key", "pos_keys"]
        excluded += ["category_key"] if has_name else []
        excluded += ["neg_keys"] if self.options.neg else []
        group = col.category_key if has_group else ABSENT
        parts = ("query_key", "fold", "domain_key", group)
        content = mixed(*parts)
        examples = examples.with_columns(
            id_key=hashed("id"), content=content, excluded=concat_list(excluded)
        )
        return examples.with_columns(seed=mixed("id_key", "content"))

    # --- rows ---

    def _rows(self, cells: DataFrame) -> DataFrame:
        """Those that have a query, in --mode group also a category; others are counted."""
        # Lazy: lists that nothing reads as text are not joined.
        plan = cells.lazy().with_columns(col(self.lists).name.prefix(LISTS))
        plan = plan.with_columns(col(self.lists).list.join(" ", ignore_nulls=True))
        rows = plan.select(**self.columns).collect().with_row_index("row", offset=self.rows_read)
        self.rows_read += len(cells)
        rows = rows.with_columns(
            query_key=hashed("query"),
            category_key=hashed("category", hash_repeated_texts),
            domain_key=hashed("domain", hash_repeated_texts),
        )
        reasons = self._bad_rows(rows)
        what = "empty" if self.options.mode == "texts" else "with an empty query"
        reasons[what] = col.query_key == ABSENT
        if self.options.mode == "group":
            reasons["without a category"] = col.category_key == ABSENT
        return drop_by_reason(rows, reasons, self.report)

    def _columns(self) -> dict[str, Expr]:
        """What is read from a row, by name; `pos:…` and `neg:…` are lists of texts."""
        options = self.options
        if options.mode == "texts":
            columns = {"query": self._one_text()}
        else:
            columns = {"query": template(options.query or "", "--query")}
            columns |= self._lists_of_positives()
        for role in ("id", "category", "domain"):
            name = getattr(options, role)
            columns[role] = col(name) if name else lit(None, pl.String)
        if options.texts_template:
            columns["row_text"] = template(options.texts_template)
        columns |= {f"{SPLIT}{n}": col(name) for n, name in enumerate(options.split_by)}
        columns |= {KEPT + name: col(name) for name in options.keep}
        columns |= {f"neg:{n}": col(LISTS + name) for n, name in enumerate(options.neg)}
        for name, (option, _) in ALIGNED.items():
            if source := getattr(options, option):
                columns[name] = col(LISTS + source)
        if options.score:
            number = pl.element().str.strip_chars().cast(pl.Float64, strict=False)
            columns["pos_scores"] = columns["pos_scores"].list.eval(number)
        return columns

    def _lists_of_positives(self) -> dict[str, Expr]:
        """Those of each column or template, or of the one text of all of them, by name."""
        options = self.options
        if options.mode in ("fused", "group"):
            lists = [concat_list(self._one_text())]
        else:
            lists = [
                col(LISTS + text) if text in self.lists else concat_list(template(text, "--pos"))
                for text in options.pos
            ]
            if options.template:
                lists.append(concat_list(template(options.template)))
        columns = {f"pos:{number}": texts for number, texts in enumerate(lists, FIRST_COLUMN)}
        if options.category_positive:
            columns[f"pos:{CATEGORY_COLUMN}"] = concat_list(options.category)
        return columns

    def _one_text(self) -> Expr:
        """--template, the one column of --pos or the query, or all of --pos as `col: value`."""
        options = self.options
        if options.template:
            return template(options.template)
        if len(options.pos) > 1 or options.mode == "fused":
            return fuse(options.pos)
        text = options.pos[0] if options.pos else options.query
        return template(text or "", "--pos")

    def _bad_rows(self, rows: DataFrame) -> dict[str, Expr]:
        """Scores or ids that fit no text, by reason. Raises InputError as --bad-rows says."""
        reasons = {}
        for name, (option, texts) in ALIGNED.items():
            if source := getattr(self.options, option):
                differ = col(name).list.len().ne_missing(col(texts).list.len())
                reasons[f"with more or fewer items in `{source}` than texts"] = differ
        if source := self.options.score:
            is_number = pl.element().is_finite().fill_null(False)
            are_numbers = col.pos_scores.list.eval(is_number).list.all()
            reasons[f"with a score in `{source}` that is no finite number"] = ~are_numbers
        if self.options.bad_rows == "refuse":
            bad = rows.select(
                "row",
                "query",
                reason=first_that_holds(reasons),
            ).drop_nulls("reason")
            for row, query, reason in bad.head(1).iter_rows():
                raise InputError(
                    f"row {row + 1:,} of the table (query {query!r:.60}) is one {reason}",
                    "correct the row, or leave such rows out by --bad-rows drop",
                )
        return reasons

    # --- pairs ---

    def _positives(self, rows: DataFrame) -> DataFrame:
        """All positives that are not empty, in order of row and column."""
        texts = _texts_of(rows, "pos:", "^pos_ids|pos_scores$")
        if self.options.mode == "each" and self.options.negatives_from == "pos":
            return texts
        return texts.with_columns(column=lit(ANY_COLUMN, pl.UInt8))

    def _table_negatives(self, rows: DataFrame, positives: DataFrame) -> DataFrame:
        """row, `neg`: what --neg names, without the row's query, positives and repetitions."""
        negatives = _texts_of(rows, "neg:", "^neg_ids$")
        is_distinct = pl.struct("row", "key").is_first_distinct()
        others = negatives.filter(is_distinct, col.key != col.query_key)
        usable = others.join(
            positives,
            on=["row", "key"],
            how="anti",
            maintain_order="left",
        )
        self.left_out += len(negatives) - len(usable)
        of_row = usable.group_by("row", maintain_order=True)
        return of_row.agg(
            col("^neg_ids$"),
            neg="text",
            neg_keys="key",
        )

    def _pairs(self, rows: DataFrame, positives: DataFrame) -> DataFrame:
        """Rows with their positives; --mode each makes one of each, the others one of all.

        `fold` is a hash of the positives in their order.
        """
        mode = self.options.mode
        is_usable = lit(True) if mode == "group" else col.key != col.query_key
        if mode in ("list", "fused"):
            is_usable &= pl.struct("row", "key").is_first_distinct()
        unit = pl.int_range(pl.len(), dtype=pl.UInt32) if mode == "each" else col.row
        usable = positives.with_columns(unit=unit.set_sorted()).filter(is_usable)
        rank = lit(0) if mode == "each" else pl.int_range(pl.len()).over("unit")
        fold = when(rank == 0).then("key").otherwise(mixed("key", rank))
        of_unit = usable.with_columns(fold=fold).group_by("unit", maintain_order=True)
        pairs = of_unit.agg(
            col("^pos_ids|pos_scores$"),
            col("row", "column").first(),
            col.fold.bitwise_xor(),
            pos="text",
            pos_keys="key",
        )
        rows_with_positives = positives["row"].n_unique()
        units = len(positives) if mode == "each" else rows_with_positives
        self.report.add("for further positives of the same row", units - rows_with_positives)
        self.report.drop("without a positive", len(rows) - rows_with_positives)
        self.report.drop("with a positive equal to the query", units - len(pairs))
        others = rows.select(pl.exclude("^(pos|neg)(:.*|_ids|_scores)$"))
        if self.options.neg:
            others = left_join(others, self._table_negatives(rows, positives), "row")
            others = others.with_columns(col.neg_keys.fill_null([]))
        return others.join(
            pairs,
            on="row",
            maintain_order="left_right",
        )

    def note_counts(self) -> None:
        """Tell the user what was left out or repeated."""
        if self.options.neg:
            self.report.measures["negatives_of_the_table_left_out"] = self.left_out
        if self.left_out:
            self.report.note(
                f"{self.left_out:,} texts of --neg are left out: the query or a positive of their "
                "row, or a repetition"
            )
        if self.repeated_ids:
            self.report.measures["rows_with_an_id_seen_before"] = self.repeated_ids
            self.report.note(
                f"{self.repeated_ids:,} rows repeat the id of an earlier row; they are kept, "
                "in one split with it, and never become each other's negatives"
            )


def _texts_of(rows: DataFrame, prefix: str, beside: str) -> DataFrame:
    """The texts of list columns that are not empty, one a row, in order of row and column.

    prefix: of the names of the columns, before the number of each. beside: which columns are lists
    beside the texts, as a pattern.
    """
    names = [name for name in rows.columns if name.startswith(prefix)]
    parts = [
        rows.select(col("row", "query_key", "category_key"), matches(beside), text=name)
        .explode("text", matches(beside))
        .with_columns(column=lit(int(name.removeprefix(prefix)), pl.UInt8))
        for name in names
    ]
    texts = pl.concat(parts)
    if len(parts) > 1:
        texts = texts.sort("row", maintain_order=True)
    return texts.with_columns(key=hashed("text")).filter(col.key != ABSENT)
