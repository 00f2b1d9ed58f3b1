"""From rows of the table to examples, by mode: a frame goes in, a frame comes out.

Columns of examples beside those of the output; keys are UInt64, ABSENT for none:

row            of the table: the links of its texts are those of all its examples
query_key, category_key, domain_key, pos_keys, neg_keys
group_key      of the category, where its name is a text or it makes the positives
name_key       the same where its name is a text
category_link, id_link     links of the row beside those of its texts
column         of its positive: negatives come from the same column of other rows
seed           what its draws depend on
content        equal for examples that say the same
"""

from __future__ import annotations

import polars as pl
from polars import col

from csv2pairs.keys import (
    ABSENT,
    KeySpace,
    hashed,
    left_join,
    mixed,
    moved,
    with_ids,
)
from csv2pairs.options import Options
from csv2pairs.rows import ALIGNED, RowBuilder
from fletching.report import Report

# Numbers of the pools that negatives come from.
ONE_POOL = 0
CATEGORY_POOL = 0xC  # the names of categories
FIRST_COLUMN_POOL = 16
CONTENT = ("query_key", "fold", "domain_key", "group_key")
LEFT_OUT = "negatives_of_the_table_left_out"


class PairBuilder:
    """How the options make examples of rows."""

    def __init__(self, options: Options, report: Report) -> None:
        self.options = options
        self.report = report
        self.row_builder = RowBuilder(options, report)

    def pairs(self, cells: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
        """The examples of a block of table rows, and the positives of these; drops are counted."""
        rows = self.row_builder.rows(cells)
        if self.options.mode == "texts":
            texts = with_ids(rows.with_columns(text="query", content="query_key"), "text")
            return self._with_id_keys(texts), rows.head(0).select(
                "row", "category_key", key="query_key"
            )
        texts = self._positives(rows)
        if self.options.neg:
            rows = left_join(rows, self._table_negatives(rows, texts), "row")
            rows = rows.with_columns(col.neg_keys.fill_null([]))
        examples = with_ids(self._drafts(rows, texts), "query", "pos")
        examples = self._with_id_keys(examples).with_columns(group_key=ABSENT)
        if self.options.mode == "group":
            link = moved(col.category_key, KeySpace.CATEGORY)
            examples = examples.with_columns(group_key="category_key", category_link=link)
        if self.options.category_positive:
            examples = examples.with_columns(group_key="category_key", name_key="category_key")
        examples = examples.with_columns(content=mixed(*CONTENT))
        return examples.with_columns(seed=mixed("id_key", "content")), texts

    def _with_id_keys(self, examples: pl.DataFrame) -> pl.DataFrame:
        keys = examples.with_columns(id_key=hashed("id"))
        if not self.options.id:
            return keys
        return keys.with_columns(id_link=moved(col.id_key, KeySpace.ID))

    # --- the texts ---

    def _positives(self, rows: pl.DataFrame) -> pl.DataFrame:
        """All positives that are not empty, in order of row and column."""
        columns = {f"pos:{n}": FIRST_COLUMN_POOL + n for n in range(self.row_builder.positives)}
        if self.options.category_positive:
            columns[f"pos:{len(columns) - 1}"] = CATEGORY_POOL
        if self.options.mode != "each":
            columns = dict.fromkeys(columns, ONE_POOL)
        return _texts_of(
            rows,
            columns,
            {
                "pos_ids": "pos_id",
                "pos_scores": "score",
            },
        )

    def _table_negatives(self, rows: pl.DataFrame, positives: pl.DataFrame) -> pl.DataFrame:
        """row, `neg`: what --neg names, without the row's query, positives and repetitions."""
        columns = {f"neg:{number}": number for number in range(len(self.options.neg))}
        negatives = _texts_of(rows, columns, {"neg_ids": "neg_id"})
        is_distinct = pl.struct("row", "key").is_first_distinct()
        others = negatives.filter(is_distinct, col.key != col.query_key)
        usable = others.join(
            positives,
            on=["row", "key"],
            how="anti",
            maintain_order="left",
        )
        measures = self.report.measures
        measures[LEFT_OUT] = measures.get(LEFT_OUT, 0) + len(negatives) - len(usable)
        of_row = usable.group_by("row", maintain_order=True)
        return of_row.agg(
            col("^neg_ids$"),
            neg="text",
            neg_keys="key",
        )

    # --- the examples ---

    def _drafts(self, rows: pl.DataFrame, texts: pl.DataFrame) -> pl.DataFrame:
        """Rows with their positives; --mode each makes one of each, the others one of all."""
        mode = self.options.mode
        is_usable = pl.lit(True)
        if mode != "group":
            is_usable = col.key != col.query_key
        if mode not in ("each", "group"):
            is_usable &= pl.struct("row", "key").is_first_distinct()
        unit = pl.int_range(pl.len(), dtype=pl.UInt32) if mode == "each" else col.row
        usable = texts.with_columns(unit=unit.set_sorted()).filter(is_usable)
        rank = pl.int_range(pl.len()).over("unit") if mode != "each" else pl.lit(0)
        folded = usable.with_columns(rank=rank).with_columns(
            fold=pl.when(col.rank == 0).then("key").otherwise(mixed("key", "rank"))
        )
        drafts = folded.group_by("unit", maintain_order=True).agg(
            col("^pos_ids|pos_scores$"),
            col("row", "column").first(),
            col.fold.bitwise_xor(),
            pos="text",
            pos_keys="key",
        )
        rows_with_texts = texts["row"].n_unique()
        units = len(texts) if mode == "each" else rows_with_texts
        self.report.add("for further positives of the same row", units - rows_with_texts)
        self.report.drop("without a positive", len(rows) - rows_with_texts)
        self.report.drop("with a positive equal to the query", units - len(drafts))
        others = rows.select(pl.exclude("^(pos|neg):.*$", *ALIGNED))
        return others.join(drafts, on="row", maintain_order="left_right")


def _texts_of(rows: pl.DataFrame, columns: dict[str, int], aligned: dict[str, str]) -> pl.DataFrame:
    """The texts of these list columns that are not empty, one a row, in order of row and column.

    columns: by name, the number that goes into `column`. aligned: by new name, the lists beside.
    """
    beside = {name: col(source) for name, source in aligned.items() if source in rows.columns}
    parts = [
        rows.select(
            "row",
            "query_key",
            "category_key",
            text=name,
            **beside,
        )
        .explode("text", *beside)
        .with_columns(column=pl.lit(number, pl.UInt8))
        for name, number in columns.items()
    ]
    texts = pl.concat(parts)
    if len(parts) > 1:
        texts = texts.sort("row", maintain_order=True)
    return texts.with_columns(key=hashed("text")).filter(col.key != ABSENT)
