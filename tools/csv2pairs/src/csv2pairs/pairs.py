"""From rows of the table to examples, by mode: a frame goes in, a frame comes out.

Columns of examples beside those of the output; keys are UInt64, ABSENT for none:

query_key, category_key, domain_key, pos_keys
links          keys of query and positives: examples with one in common are never each other's
               negatives, and stay in one split
id_link        the same for ids that the user gives
split_links    further keys that keep examples in one split
excluded       keys of further texts that are no negatives of the example
column         of its positive: negatives come from the same column of other rows
seed           what its draws depend on
content        equal for examples that say the same
"""

from __future__ import annotations

import polars as pl

from csv2pairs.content_ids import with_ids
from csv2pairs.keys import ABSENT, KeySpace, hashed, left_join, mixed, moved
from csv2pairs.options import Options
from csv2pairs.reasons import drop_by_reason
from csv2pairs.rows import RowBuilder
from fletching.errors import InputError
from fletching.report import Report

# Numbers of the pools that negatives come from.
ONE_POOL = 0
CATEGORY_POOL = 0xC  # the names of categories
FIRST_COLUMN_POOL = 16
CONTENT = ("query_key", "fold", "domain_key", "group_key")
MOST_POSITIVES = 4096  # of a row that becomes pairs: they take 8 bytes times its square
LEFT_OUT = "negatives_of_the_table_left_out"


class PairBuilder:
    """How the options make examples of rows."""

    def __init__(self, options: Options, report: Report) -> None:
        self.options = options
        self.report = report
        self.row_builder = RowBuilder(options, report)

    def pairs(self, cells: pl.DataFrame) -> pl.DataFrame:
        """The examples of a block of table rows; what is dropped is counted."""
        rows = self.row_builder.rows(cells)
        if self.options.mode == "texts":
            return self._texts_alone(rows)
        texts = self._positives(rows)
        link = pl.col("key")
        if self.options.category_positive:
            # The name of a category links no rows: it is what they differ from others by.
            link = link.filter(link != pl.col("category_key"))
        of_row = texts.group_by("row").agg(row_links=link, texts=pl.len())
        rows = left_join(rows, of_row, "row")
        if self.options.neg:
            rows = self._with_table_negatives(rows, texts)
        is_each = self.options.mode == "each"
        if is_each:
            _check_positives(of_row)
        drafts = _one_a_positive(rows, texts) if is_each else self._one_a_row(rows, texts)
        self.report.add(
            "for further positives of the same row",
            len(drafts) - len(rows),
        )
        reasons = {
            "without a positive": pl.col("texts").is_null(),
            "with a positive equal to the query": pl.col("pos").is_null(),
        }
        return self._with_keys(drop_by_reason(drafts, reasons, self.report))

    # --- the texts ---

    def _positives(self, rows: pl.DataFrame) -> pl.DataFrame:
        """All positives that are not empty, in order of row and column."""
        columns = {f"pos:{n}": FIRST_COLUMN_POOL + n for n in range(self.row_builder.positives)}
        if self.options.category_positive:
            columns[f"pos:{len(columns) - 1}"] = CATEGORY_POOL
        aligned = {"pos_ids": "pos_id", "pos_scores": "score"}
        return _texts_of(rows, columns, aligned)

    def _with_table_negatives(self, rows: pl.DataFrame, texts: pl.DataFrame) -> pl.DataFrame:
        """The rows with `neg`: what --neg names, without the row's query and positives."""
        columns = {f"neg:{number}": number for number in range(len(self.options.neg))}
        negatives = _texts_of(rows, columns, {"neg_ids": "neg_id"})
        is_distinct = pl.struct("row", "key").is_first_distinct()
        is_query = pl.col("key") == pl.col("query_key")
        others = negatives.filter(~is_query, is_distinct)
        usable = others.join(
            texts,
            on=["row", "key"],
            how="anti",
            maintain_order="left",
        )
        measures = self.report.measures
        measures[LEFT_OUT] = measures.get(LEFT_OUT, 0) + len(negatives) - len(usable)
        lists = usable.group_by("row", maintain_order=True).agg(
            pl.col("^neg_ids$"), neg="text", neg_keys="key"
        )
        return left_join(rows, lists, "row")

    # --- the modes ---

    def _texts_alone(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Mode texts: the text is all that a row has."""
        rows = self._with_split_links(rows).with_columns(
            text="query", content="query_key", links=pl.concat_list("query_key")
        )
        rows = with_ids(rows, "text").with_columns(id_key=hashed("id"))
        return rows.with_columns(id_link=self._id_link())

    def _one_a_row(self, rows: pl.DataFrame, texts: pl.DataFrame) -> pl.DataFrame:
        """Modes list, fused and group: a draft for each row, with its distinct positives."""
        if self.options.mode != "group":
            is_distinct = pl.struct("row", "key").is_first_distinct()
            is_query = pl.col("key") == pl.col("query_key")
            texts = texts.filter(is_distinct & ~is_query)
        rank = pl.int_range(pl.len()).over("row")
        ranked = texts.with_columns(rank=rank)
        fold = pl.when(pl.col("rank") == 0).then("key").otherwise(mixed("key", "rank"))
        folded = ranked.with_columns(fold=fold)
        lists = folded.group_by("row", maintain_order=True).agg(
            pl.col("^pos_ids|pos_scores$"),
            pl.col("fold").bitwise_xor(),
            pos="text",
            pos_keys="key",
            column=pl.lit(ONE_POOL, pl.UInt8).first(),
        )
        return left_join(rows, lists, "row")

    # --- the keys ---

    def _with_keys(self, drafts: pl.DataFrame) -> pl.DataFrame:
        is_group = self.options.mode == "group"
        has_group = is_group or self.options.category_positive
        drafts = drafts.with_columns(
            group_key=pl.col("category_key") if has_group else ABSENT,
            group_link=moved("category_key", KeySpace.CATEGORY),
        )
        excluded = [pl.col("pos_keys" if is_group else "group_key")]
        if self.options.neg:
            excluded.append(pl.col("neg_keys").fill_null([]))
        drafts = self._with_split_links(drafts).with_columns(
            links=pl.concat_list("query_key", "group_link" if is_group else "row_links"),
            excluded=pl.concat_list(excluded),
            content=mixed(*CONTENT),
        )
        drafts = with_ids(drafts, "query", "pos").with_columns(id_key=hashed("id"))
        return drafts.with_columns(
            id_link=self._id_link(),
            seed=mixed("id_key", "content"),
        )

    def _id_link(self) -> pl.Expr:
        return moved("id_key", KeySpace.ID) if self.options.id else ABSENT

    def _with_split_links(self, drafts: pl.DataFrame) -> pl.DataFrame:
        spaces = {f"split:{n}": KeySpace.SPLIT_BY + n for n in range(len(self.options.split_by))}
        if self.options.texts_template:
            spaces["row_text"] = KeySpace.ROW_TEXT
        keys = drafts.select("row", *(hashed(name) for name in spaces))
        links = keys.select(moved(name, space) for name, space in spaces.items())
        is_empty = pl.lit([], pl.List(pl.UInt64))
        return drafts.with_columns(
            split_links=links.select(pl.concat_list(pl.all())).to_series() if spaces else is_empty
        )


def _check_positives(of_row: pl.DataFrame) -> None:
    """Raise InputError for a row whose pairs would fill the memory: each has the links of all."""
    most = of_row["texts"].max()
    if isinstance(most, int) and most > MOST_POSITIVES:
        raise InputError(
            f"a row has {most:,} positives; --mode each takes up to {MOST_POSITIVES:,}",
            "split the row, or keep them together by --mode list",
        )


def _texts_of(
    rows: pl.DataFrame,
    columns: dict[str, int],
    aligned: dict[str, str],
) -> pl.DataFrame:
    """The texts of these list columns that are not empty, one a row, in order of row and column.

    columns: by name, the number that goes into `column`. aligned: by new name, the lists beside.
    """
    beside = {name: pl.col(source) for name, source in aligned.items() if source in rows.columns}
    parts = [
        rows.select("row", "query_key", "category_key", text=name, **beside)
        .explode("text", *beside)
        .with_columns(column=pl.lit(number, pl.UInt8))
        for name, number in columns.items()
    ]
    texts = pl.concat(parts)
    if len(parts) > 1:
        texts = texts.sort("row", maintain_order=True)
    keyed = texts.with_columns(key=hashed("text"))
    return keyed.filter(pl.col("key") != ABSENT)


def _one_a_positive(rows: pl.DataFrame, texts: pl.DataFrame) -> pl.DataFrame:
    """Mode each: a draft for each positive; `pos` is null where it is the query or missing."""
    lists: dict[str, str] = {
        name: name for name in ("pos_ids", "pos_scores") if name in texts.columns
    }
    lists |= {"pos": "text", "pos_keys": "key"}
    is_usable = pl.col("key") != pl.col("query_key")
    single = {
        name: pl.when(is_usable).then(pl.concat_list(source)) for name, source in lists.items()
    }
    alone = texts.select("row", "column", fold="key", **single)
    return rows.join(
        alone,
        on="row",
        how="left",
        maintain_order="left_right",
    )
