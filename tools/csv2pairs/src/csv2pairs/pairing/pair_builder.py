"""From rows of a table to pairs, by mode. Batches go in and come out; nothing is written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from csv2pairs import templates
from csv2pairs.array_types import Integers, Keys, Mask, SmallIntegers
from csv2pairs.key_space import KeySpace, move_keys
from csv2pairs.options import Options
from csv2pairs.pairing.content_ids import pair_ids
from csv2pairs.pairing.pair_batch import (
    CATEGORY_POOL,
    FIRST_COLUMN_POOL,
    ONE_POOL,
    PairBatch,
    PairKeys,
    Positives,
)
from fletching import text_keys
from fletching.report import Report


@dataclass(frozen=True)
class QueryRows:
    """n rows of the table with the query of each."""

    cells: pa.RecordBatch
    query: pa.StringArray
    query_keys: Keys

    def __len__(self) -> int:
        return len(self.query)

    def filter(self, keep: Mask) -> QueryRows:
        """Some of the rows; keep: (n,)."""
        if keep.all():
            return self
        rows = pa.array(keep)
        return QueryRows(self.cells.filter(rows), self.query.filter(rows), self.query_keys[keep])

    def take(self, rows: Integers) -> QueryRows:
        """Rows by number; one may come up several times."""
        indices = pa.array(rows)
        return QueryRows(self.cells.take(indices), self.query.take(indices), self.query_keys[rows])


@dataclass(frozen=True)
class PositiveColumns:
    """The texts that may be positives of n rows: P for each row, some of them empty."""

    texts: Sequence[pa.StringArray]  # P of (n,)
    keys: Keys  # (n, P)
    pools: SmallIntegers  # (P,)

    @property
    def filled(self) -> Mask:
        """Which are texts and not empty, (n, P)."""
        is_filled: Mask = self.keys != text_keys.ABSENT
        return is_filled

    def select(self, row: Integers, column: Integers, counts: Integers) -> Positives:
        """The positives at (row, column), in order of rows; counts: how many of each row kept."""
        return Positives(
            texts=self._texts_at(row, column),
            keys=self.keys[row, column],
            pools=self.pools[column],
            counts=counts,
        )

    def _texts_at(self, row: Integers, column: Integers) -> pa.StringArray:
        first = self.texts[0]
        if len(self.texts) > 1:
            end_to_end = column * len(first) + row
            return pa.concat_arrays(self.texts).take(pa.array(end_to_end, pa.int64()))
        return first if len(row) == len(first) else first.take(pa.array(row))


class PairBuilder:
    """How the options make pairs of rows."""

    def __init__(self, options: Options, report: Report) -> None:
        self.options = options
        self.report = report
        self.query = templates.parse(options.query or "", "--query", column=True)
        self.pos = [templates.parse(text, "--pos", column=True) for text in options.pos]
        self.template = templates.parse(options.template) if options.template else None
        self.row_template = None
        if options.texts_template:
            self.row_template = templates.parse(options.texts_template, "--texts-template")
        names = [options.domain, *options.keep]
        if options.partition_by == "category":
            names.insert(1, options.category)
        self.passed = list(dict.fromkeys(name for name in names if name))

    def pairs(self, batch: pa.RecordBatch) -> PairBatch:
        """The examples of a batch of table rows; what is dropped is counted."""
        options = self.options
        query = self.query.fill(batch)
        rows = QueryRows(batch, query, text_keys.hash_texts(query))
        has_query = rows.query_keys != text_keys.ABSENT
        rows = self._drop_others(rows, has_query, "with an empty query")
        if options.mode == "group":
            categories = text_keys.hash_repeated_texts(rows.cells[options.category])
            has_category = categories != text_keys.ABSENT
            rows = self._drop_others(rows, has_category, "without a category")
        columns = self._positive_columns(rows)
        if options.mode == "each":
            return self._one_for_each_positive(rows, columns)
        return self._one_for_each_row(rows, columns)

    def _drop_others(self, rows: QueryRows, keep: Mask, reason: str) -> QueryRows:
        self.report.drop(reason, int((~keep).sum()))
        return rows.filter(keep)

    # --- the texts ---

    def _positive_columns(self, rows: QueryRows) -> PositiveColumns:
        options = self.options
        if options.mode == "group":
            texts = [self._row_text(rows)]
            pools = [ONE_POOL]
        elif options.mode == "fused":
            texts = [self._fused_text(rows)]
            pools = [FIRST_COLUMN_POOL]
        else:
            sources = [*self.pos, self.template] if self.template else self.pos
            texts = [template.fill(rows.cells) for template in sources]
            pools = list(range(FIRST_COLUMN_POOL, FIRST_COLUMN_POOL + len(texts)))
        if options.category_positive:
            texts.append(rows.cells[options.category])
            pools.append(CATEGORY_POOL)
        keys = [
            rows.query_keys if cells is rows.query else text_keys.hash_texts(cells)
            for cells in texts
        ]
        return PositiveColumns(texts, np.stack(keys, axis=1), np.array(pools, np.uint8))

    def _row_text(self, rows: QueryRows) -> pa.StringArray:
        """The text under which a row becomes a positive of others, in --mode group."""
        if self.template is None and not self.pos:
            return rows.query
        if self.template is None and len(self.pos) == 1:
            return self.pos[0].fill(rows.cells)
        return self._fused_text(rows)

    def _fused_text(self, rows: QueryRows) -> pa.StringArray:
        if self.template is not None:
            return self.template.fill(rows.cells)
        return templates.fuse(self.pos, rows.cells)

    # --- the modes ---

    def _one_for_each_positive(self, rows: QueryRows, columns: PositiveColumns) -> PairBatch:
        """Mode each: an example for every positive of a row, in order of row and column."""
        counts = columns.filled.sum(axis=1)
        equals_query = columns.filled & (columns.keys == rows.query_keys[:, None])
        self.report.drop("without a positive", int((counts == 0).sum()))
        self.report.add(
            "for further positives of the same row", int((counts[counts > 0] - 1).sum())
        )
        self.report.drop("with a positive equal to the query", int(equals_query.sum()))
        row, column = np.nonzero(columns.filled & ~equals_query)
        positives = columns.select(row, column, np.ones(len(row), np.int64))
        if len(columns.texts) == 1 and len(row) == len(rows):  # every row gives one example
            return self._finish(rows, positives, columns.keys)
        return self._finish(rows.take(row), positives, columns.keys[row])

    def _one_for_each_row(self, rows: QueryRows, columns: PositiveColumns) -> PairBatch:
        """Modes list, fused and group."""
        usable: Mask = columns.filled
        has_text = usable.any(axis=1)
        if self.options.mode != "group":
            usable &= columns.keys != rows.query_keys[:, None]
            usable &= ~_repeats_earlier(columns.keys)
        keep: Mask = np.any(usable, axis=1)
        self.report.drop("without a positive", int((~has_text).sum()))
        self.report.drop("with a positive equal to the query", int((has_text & ~keep).sum()))
        row, column = np.nonzero(usable)
        one_pool = PositiveColumns(columns.texts, columns.keys, np.zeros_like(columns.pools))
        positives = one_pool.select(row, column, usable.sum(axis=1)[keep])
        return self._finish(rows.filter(keep), positives, columns.keys[keep])

    # --- the keys ---

    def _finish(self, rows: QueryRows, positives: Positives, column_keys: Keys) -> PairBatch:
        """column_keys: (n, P), of all positives that the row of an example has."""
        options = self.options
        user_ids = rows.cells[options.id] if options.id else None
        ids = pair_ids(rows.query, positives.texts, positives.counts, user_ids=user_ids)
        row_texts = self.row_template.fill(rows.cells) if self.row_template else None
        category = self._column_keys(rows, options.category)
        absent = np.full(len(rows), text_keys.ABSENT)
        category_positive = category if options.category_positive else absent
        if options.category_positive:
            # The name of a category links no rows: it is what they differ from others by.
            is_category = column_keys == category_positive[:, None]
            column_keys = np.where(is_category, text_keys.ABSENT, column_keys)
        domain = self._column_keys(rows, options.domain)
        group = category if options.mode == "group" else category_positive
        # In mode each, every positive is one example.
        texts = [positives.keys] if options.mode == "each" else column_keys.T
        content = text_keys.mix(rows.query_keys, *texts, domain, group)
        id_keys = text_keys.hash_texts(ids)
        keys = PairKeys(
            query=rows.query_keys,
            links=self._links(rows, column_keys, category),
            id_links=move_keys(id_keys, KeySpace.ID) if options.id else absent,
            split_links=self._split_links(rows, row_texts),
            category_positive=category_positive,
            seeds=text_keys.mix(id_keys, content),
            category=category,
            domain=domain,
        )
        return PairBatch(
            ids=ids,
            query=rows.query,
            positives=positives,
            passed=rows.cells.select(self.passed),
            row_texts=row_texts,
            content=content,
            keys=keys,
        )

    def _links(self, rows: QueryRows, column_keys: Keys, category: Keys) -> Keys:
        """What makes examples no negatives of each other, (n, L)."""
        if self.options.mode == "group":  # the rows of a category are each other's positives
            links = [rows.query_keys, move_keys(category, KeySpace.CATEGORY)]
        else:
            links = [rows.query_keys, *column_keys.T]
        return np.column_stack(links)

    def _column_keys(self, rows: QueryRows, name: str | None) -> Keys:
        """The keys of a column of few distinct values; ABSENT where no column is named."""
        if not name:
            return np.full(len(rows), text_keys.ABSENT)
        return text_keys.hash_repeated_texts(rows.cells[name])

    def _split_links(self, rows: QueryRows, row_texts: pa.StringArray | None) -> Keys:
        """What else keeps rows in one split: --split-by and --texts-template, (n, S)."""
        links = []
        for number, name in enumerate(self.options.split_by):
            keys = self._column_keys(rows, name)
            links.append(move_keys(keys, KeySpace.SPLIT_BY + number))
        if row_texts is not None:
            links.append(move_keys(text_keys.hash_texts(row_texts), KeySpace.ROW_TEXT))
        if not links:
            return np.zeros((len(rows), 0), np.uint64)
        return np.column_stack(links)


def _repeats_earlier(keys: Keys) -> Mask:
    """Which of P keys of a row (n, P) come up in a column before: one text is one positive."""
    repeats = np.zeros(keys.shape, bool)
    for column in range(1, keys.shape[1]):
        equals_earlier = keys[:, :column] == keys[:, column : column + 1]
        repeats[:, column] = equals_earlier.any(axis=1)
    return repeats
