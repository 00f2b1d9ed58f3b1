"""Rows of the table with the texts that the options make of them, and the keys of these."""

from __future__ import annotations

import polars as pl

from csv2pairs import templates
from csv2pairs.keys import ABSENT, hashed
from csv2pairs.options import Options
from csv2pairs.reasons import drop_by_reason, first_that_holds
from fletching.errors import InputError
from fletching.report import Report

KEPT = "kept:"  # of columns that are copied to the output
LISTS = "lists:"  # of cells that are lists, beside their text
ALIGNED = {"pos_id": "pos:0", "score": "pos:0", "neg_id": "neg:0"}


class RowBuilder:
    """The texts of each row: `query` (in --mode texts the text), `id`, lists `pos:N` and `neg:N`.

    positives: how many lists of positives there are; the last one may be the category.
    """

    def __init__(self, options: Options, report: Report) -> None:
        self.options = options
        self.report = report
        self.rows_before = 0
        self.pos = [templates.parse(text, "--pos", column=True) for text in options.pos]
        self.template = templates.parse(options.template) if options.template else None
        self.query = self._one_text()
        if options.mode != "texts":
            self.query = templates.parse(options.query or "", "--query", column=True).fill()
        self.sources = [] if options.mode == "texts" else self._sources()
        self.positives = len(self.sources)

    def _one_text(self) -> pl.Expr:
        """--template, or all columns of --pos."""
        if self.template is not None:
            return self.template.fill()
        is_bare = self.options.mode != "fused" and len(self.pos) == 1
        return self.pos[0].fill() if is_bare else templates.fuse(self.pos)

    def _sources(self) -> list[pl.Expr]:
        """Where positives come from: columns and templates, or one text from all of them."""
        options = self.options
        sources = [template.fill() for template in self.pos]
        if self.template is not None:
            sources.append(self.template.fill())
        if options.mode in ("fused", "group"):
            sources = [self._one_text() if sources else self.query]
        if options.category_positive:
            sources.append(pl.col(options.category or ""))
        return sources

    def rows(self, cells: pl.DataFrame) -> pl.DataFrame:
        """Those that have a query, in --mode group also a category; others are counted."""
        options = self.options
        lists = [name for name, kind in cells.schema.items() if kind == pl.List(pl.String)]
        # Lazy: lists that nothing reads as text are not joined.
        plan = cells.lazy().with_columns(pl.col(lists).name.prefix(LISTS))
        plan = plan.with_columns(pl.col(lists).list.join(" ", ignore_nulls=True))
        rows = plan.select(**self._columns(lists)).collect().with_row_index("row")
        rows = rows.with_columns(
            query_key=hashed("query"),
            category_key=hashed("category", repeated=True),
            domain_key=hashed("domain", repeated=True),
        )
        what = "empty" if options.mode == "texts" else "with an empty query"
        reasons = {what: pl.col("query_key") == ABSENT}
        if options.mode == "group":
            reasons["without a category"] = pl.col("category_key") == ABSENT
        rows = drop_by_reason(self._without_bad_rows(rows), reasons, self.report)
        self.rows_before += len(cells)
        return rows

    def _columns(self, lists: list[str]) -> dict[str, pl.Expr]:
        options = self.options
        columns = {
            "query": self.query,
            "id": _column(options.id),
            "category": _column(options.category),
            "domain": _column(options.domain),
        }
        if options.texts_template:
            columns["row_text"] = templates.parse(options.texts_template).fill()
        columns |= {f"split:{n}": pl.col(name) for n, name in enumerate(options.split_by)}
        columns |= {KEPT + name: pl.col(name) for name in options.keep}
        columns |= {f"pos:{n}": _as_list(text, lists) for n, text in enumerate(self.sources)}
        columns |= {f"neg:{n}": _as_list(pl.col(name), lists) for n, name in enumerate(options.neg)}
        for role in ALIGNED:
            if name := getattr(options, role):
                columns[role] = _as_list(pl.col(name), lists)
        if options.score:
            number = (
                pl.element()
                .str.strip_chars()
                .cast(
                    pl.Float64,
                    strict=False,
                )
            )
            columns["score"] = columns["score"].list.eval(number)
        return columns

    def _without_bad_rows(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Without rows whose scores or ids fit no text. Raises InputError as --bad-rows says."""
        reasons = {}
        for role, texts in ALIGNED.items():
            if name := getattr(self.options, role):
                items = pl.col(role).list.len()
                differ = items.ne_missing(pl.col(texts).list.len())
                reasons[f"with more or fewer items in `{name}` than texts"] = differ
        if self.options.score:
            is_number = pl.element().is_finite().fill_null(False)
            reason = f"with a score in `{self.options.score}` that is no finite number"
            reasons[reason] = ~pl.col("score").list.eval(is_number).list.all()
        if not reasons:
            return rows
        if self.options.bad_rows == "drop":
            return drop_by_reason(rows, reasons, self.report)
        bad = rows.with_columns(reason=first_that_holds(reasons)).drop_nulls("reason")
        first_bad = bad.head(1).select("row", "query", "reason")
        for row, query, reason in first_bad.iter_rows():
            number = self.rows_before + row + 1
            raise InputError(
                f"row {number:,} of the table (query {query!r:.60}) is one {reason}",
                "correct the row, or leave such rows out by --bad-rows drop",
            )
        return rows


def _column(name: str | None) -> pl.Expr:
    return pl.col(name) if name else pl.lit(None, pl.String)


def _as_list(text: pl.Expr, lists: list[str]) -> pl.Expr:
    """The texts of a cell: of a list all, else the one."""
    name = text.meta.output_name(raise_if_undetermined=False)
    if text.meta.is_column() and name in lists:
        return pl.col(LISTS + name)
    return pl.concat_list(text)
