"""Rows of the table with the texts that the options make of them, and the keys of these."""

from __future__ import annotations

import polars as pl
from polars import col

from csv2pairs.keys import (
    ABSENT,
    KeySpace,
    drop_by_reason,
    first_that_holds,
    hashed,
    moved,
)
from csv2pairs.options import Options
from csv2pairs.table import list_columns
from csv2pairs.templates import Template, fuse, parse
from fletching.errors import InputError
from fletching.report import Report
from fletching.text_keys import hash_repeated_texts

KEPT = "kept:"  # of columns that are copied to the output
SPLIT = "split:"  # of keys that keep rows in one split
LISTS = "lists:"  # of cells that are lists, beside their text
ALIGNED = {
    "pos_id": "pos:0",
    "score": "pos:0",
    "neg_id": "neg:0",
}


class RowBuilder:
    """The texts of each row: `query` (in --mode texts the text), `id`, lists `pos:N` and `neg:N`.

    positives: how many lists of positives there are; the last one may be the category.
    """

    def __init__(self, options: Options, report: Report) -> None:
        self.options = options
        self.report = report
        self.rows_before = 0
        self.lists = list_columns(options)
        self.pos = [parse(text, "--pos") for text in options.pos]
        self.template = [parse(options.template)] if options.template else []
        positives = [] if options.mode == "texts" else self._positives()
        self.positives = len(positives)
        self.split_spaces: dict[str, int] = {
            f"{SPLIT}{n}": KeySpace.SPLIT_BY + n for n in range(len(options.split_by))
        }
        if options.texts_template:
            self.split_spaces[SPLIT + "text"] = KeySpace.ROW_TEXT
        self.columns = self._columns()
        self.columns |= {f"pos:{n}": texts for n, texts in enumerate(positives)}

    def rows(self, cells: pl.DataFrame) -> pl.DataFrame:
        """Those that have a query, in --mode group also a category; others are counted."""
        # Lazy: lists that nothing reads as text are not joined.
        plan = cells.lazy().with_columns(col(self.lists).name.prefix(LISTS))
        plan = plan.with_columns(col(self.lists).list.join(" ", ignore_nulls=True))
        rows = plan.select(**self.columns).collect().with_row_index("row", offset=self.rows_before)
        self.rows_before += len(cells)
        rows = rows.with_columns(
            query_key=hashed("query"),
            category_key=hashed("category", hash_repeated_texts),
            domain_key=hashed("domain", hash_repeated_texts),
            **{name: moved(hashed(name), space) for name, space in self.split_spaces.items()},
        )
        what = "empty" if self.options.mode == "texts" else "with an empty query"
        reasons = {what: col.query_key == ABSENT}
        if self.options.mode == "group":
            reasons["without a category"] = col.category_key == ABSENT
        return drop_by_reason(self._without_bad_rows(rows), reasons, self.report)

    def _columns(self) -> dict[str, pl.Expr]:
        options = self.options
        columns = {"query": parse(options.query, "--query").fill()} if options.query else {}
        if options.mode == "texts":
            columns = {"query": self._one_text()}
        for role in ("id", "category", "domain"):
            name = getattr(options, role)
            columns[role] = col(name) if name else pl.lit(None, pl.String)
        if options.texts_template:
            columns["row_text"] = parse(options.texts_template).fill()
            columns[SPLIT + "text"] = columns["row_text"]
        columns |= {f"{SPLIT}{n}": col(name) for n, name in enumerate(options.split_by)}
        columns |= {KEPT + name: col(name) for name in options.keep}
        columns |= {f"neg:{n}": col(LISTS + name) for n, name in enumerate(options.neg)}
        for role in ALIGNED:
            if name := getattr(options, role):
                columns[role] = col(LISTS + name)
        if options.score:
            number = pl.element().str.strip_chars().cast(pl.Float64, strict=False)
            columns["score"] = columns["score"].list.eval(number)
        return columns

    def _one_text(self) -> pl.Expr:
        """--template, the one column of --pos, or all of them as `col: value`."""
        texts = self.template or self.pos
        is_bare = len(texts) == 1 and (self.template or self.options.mode != "fused")
        return texts[0].fill() if is_bare else fuse(texts)

    def _positives(self) -> list[pl.Expr]:
        """The list of positives of each column or template, or of the one text of all of them."""
        options = self.options
        texts = [*self.pos, *self.template]
        if options.mode in ("fused", "group") and texts:
            lists = [pl.concat_list(self._one_text())]
        else:
            query = parse(options.query or "", "--query")
            lists = [self._as_list(text) for text in texts or [query]]
        if options.category_positive:
            lists.append(self._as_list(parse(options.category or "", "--category")))
        return lists

    def _as_list(self, text: Template) -> pl.Expr:
        """The texts of a cell: of a list all, else the one."""
        if text.is_column and text.columns[0] in self.lists:
            return col(LISTS + text.columns[0])
        return pl.concat_list(text.fill())

    def _without_bad_rows(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Without rows whose scores or ids fit no text. Raises InputError as --bad-rows says."""
        reasons = {}
        for role, texts in ALIGNED.items():
            if name := getattr(self.options, role):
                items = col(role).list.len()
                differ = items.ne_missing(col(texts).list.len())
                reasons[f"with more or fewer items in `{name}` than texts"] = differ
        if self.options.score:
            is_number = pl.element().is_finite().fill_null(False)
            reason = f"with a score in `{self.options.score}` that is no finite number"
            reasons[reason] = ~col.score.list.eval(is_number).list.all()
        if self.options.bad_rows == "refuse":
            marked = rows.with_columns(reason=first_that_holds(reasons)).drop_nulls("reason")
            first_bad = marked.select("row", "query", "reason").head(1)
            for row, query, reason in first_bad.iter_rows():
                raise InputError(
                    f"row {row + 1:,} of the table (query {query!r:.60}) is one {reason}",
                    "correct the row, or leave such rows out by --bad-rows drop",
                )
        return drop_by_reason(rows, reasons, self.report)
