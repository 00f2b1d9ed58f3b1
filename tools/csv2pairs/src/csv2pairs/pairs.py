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
            texts = rows.with_columns(
                text="query", content="query_key", links=pl.concat_list("query_key")
            )
            return self._with_links_of_ids(with_ids(texts, "text"))
        texts = self._positives(rows)
        if self.options.neg:
            rows = left_join(rows, self._table_negatives(rows, texts), "row")
        return self._with_keys(self._drafts(rows, texts))

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
        rows_with_texts = self._with_row_links(rows, texts)
        if mode == "each":
            _check_positives(rows_with_texts)
        units = len(texts) if mode == "each" else len(rows_with_texts)
        self.report.add("for further positives of the same row", units - len(rows_with_texts))
        self.report.drop("without a positive", len(rows) - len(rows_with_texts))
        self.report.drop("with a positive equal to the query", units - len(drafts))
        return rows_with_texts.join(
            drafts,
            on="row",
            maintain_order="left_right",
        )

    def _with_row_links(self, rows: pl.DataFrame, texts: pl.DataFrame) -> pl.DataFrame:
        """The rows that have texts, with the keys of all of them."""
        link = col.key
        if self.options.category_positive:
            # The name of a category links no rows: it is what they differ from others by.
            link = link.filter(link != col.category_key)
        of_row = texts.group_by(col.row.set_sorted(), maintain_order=True)
        return rows.join(
            of_row.agg(row_links=link),
            on="row",
            maintain_order="left",
        )

    def _with_keys(self, drafts: pl.DataFrame) -> pl.DataFrame:
        is_group = self.options.mode == "group"
        has_group = is_group or self.options.category_positive
        excluded = [col("pos_keys" if is_group else "group_key")]
        if self.options.neg:
            excluded.append(col.neg_keys.fill_null([]))
        drafts = drafts.with_columns(
            group_key=col.category_key if has_group else ABSENT,
            group_link=moved("category_key", KeySpace.CATEGORY),
        ).with_columns(
            links=pl.concat_list("query_key", "group_link" if is_group else "row_links"),
            excluded=pl.concat_list(excluded),
            content=mixed(*CONTENT),
        )
        drafts = self._with_links_of_ids(with_ids(drafts, "query", "pos"))
        return drafts.with_columns(seed=mixed("id_key", "content"))

    def _with_links_of_ids(self, drafts: pl.DataFrame) -> pl.DataFrame:
        """With id_key, id_link and split_links."""
        spaces = {f"split:{n}": KeySpace.SPLIT_BY + n for n in range(len(self.options.split_by))}
        if self.options.texts_template:
            spaces["row_text"] = KeySpace.ROW_TEXT
        drafts = drafts.with_columns(id_key=hashed("id"))
        keys = drafts.select("id_key", *(hashed(name) for name in spaces))
        moved_keys = {name: moved(name, space) for name, space in spaces.items()}
        id_link = moved("id_key", KeySpace.ID) if self.options.id else ABSENT
        links = keys.with_columns(
            id_link=id_link,
            **moved_keys,
        ).drop("id_key")
        split_links = links.select(pl.concat_list(pl.all())).to_series()
        return drafts.with_columns(links["id_link"], split_links=split_links)


def _check_positives(rows: pl.DataFrame) -> None:
    """Raise InputError for a row whose pairs would fill the memory: each has the links of all."""
    most = rows["row_links"].list.len().max()
    if isinstance(most, int) and most > MOST_POSITIVES:
        raise InputError(
            f"a row has {most:,} positives; --mode each takes up to {MOST_POSITIVES:,}",
            "split the row, or keep them together by --mode list",
        )


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
