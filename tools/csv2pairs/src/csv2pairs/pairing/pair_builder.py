"""From rows of a table to drafts of examples, by mode. Pure functions over batches."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from csv2pairs import templates
from csv2pairs.options import Options
from fletching import text_keys
from fletching.report import Report
from fletching.text import content_id

CATEGORY = 0xC  # the pool of positives that are the category's name; columns count from 16


@dataclass
class Drafts:
    """n examples of one batch with the keys by which they are split and given negatives.

    Example i has the positives items[starts[i] : starts[i] + counts[i]], m items in all. In --mode group
    the one item is the text under which the row becomes the positive of others.
    """

    ids: pa.StringArray
    query: pa.StringArray  # (n,)
    items: pa.StringArray  # (m,)
    counts: np.ndarray  # int64 (n,)
    passed: pa.RecordBatch  # domain, category and kept columns
    text: pa.StringArray | None  # --texts-template
    query_keys: np.ndarray  # uint64 (n,)
    item_keys: np.ndarray  # uint64 (m,)
    item_pools: np.ndarray  # uint8 (m,): the column an item comes from, in --mode each
    links: (
        np.ndarray
    )  # uint64 (n, L): two examples with a link in common are never each other's negatives
    id_links: (
        np.ndarray
    )  # uint64 (n,): the same for the ids that the user gives; ABSENT for ids of content
    apart: np.ndarray  # uint64 (n, S): examples with one of these in common stay in one split too
    own_category: (
        np.ndarray
    )  # uint64 (n,): the category's name where it is a positive, never a negative of the row
    content: np.ndarray  # uint64 (n,): equal for examples that say the same
    row_keys: np.ndarray  # uint64 (n,): what seeds the draws of a row
    categories: np.ndarray  # uint64 (n,)
    domains: np.ndarray  # uint64 (n,)

    def filter(self, keep: np.ndarray) -> Drafts:
        if keep.all():
            return self
        rows, items = pa.array(keep), np.repeat(keep, self.counts)
        parts = {}
        for name, value in vars(self).items():
            if name in ("items", "item_keys", "item_pools"):
                parts[name] = value.filter(pa.array(items)) if name == "items" else value[items]
            else:
                parts[name] = (
                    value[keep] if isinstance(value, np.ndarray) else value and value.filter(rows)
                )
        return Drafts(**parts)


class Drafting:
    """How the options make examples of rows."""

    def __init__(self, options: Options, report: Report) -> None:
        self.options, self.report = options, report
        self.query = templates.parse(options.query or "", "--query", column=True)
        self.pos = [templates.parse(text, "--pos", column=True) for text in options.pos]
        self.template = templates.parse(options.template) if options.template else None
        self.text = (
            templates.parse(options.texts_template, "--texts-template")
            if options.texts_template
            else None
        )
        names = [
            options.domain,
            options.category if options.partition_by == "category" else None,
            *options.keep,
        ]
        self.passed = list(dict.fromkeys(name for name in names if name))

    def drafts(self, batch: pa.RecordBatch) -> Drafts:
        """The examples of a batch of table rows; what is dropped is counted."""
        options = self.options
        query = self.query.fill(batch)
        query_keys = text_keys.hash_texts(query)
        batch, query, query_keys = self._drop(
            batch, query, query_keys, query_keys != text_keys.ABSENT, "with an empty query"
        )
        if options.mode == "group":
            grouped = text_keys.hash_repeated_texts(batch[options.category]) != text_keys.ABSENT
            batch, query, query_keys = self._drop(
                batch, query, query_keys, grouped, "without a category"
            )
        columns, pools = self._positives(batch, query)
        column_keys = np.stack(
            [query_keys if cells is query else text_keys.hash_texts(cells) for cells in columns], 1
        )  # (n, P)
        if options.mode == "each":
            return self._each(batch, query, query_keys, columns, column_keys, pools)
        return self._one(batch, query, query_keys, columns, column_keys)

    def _drop(
        self,
        batch: pa.RecordBatch,
        query: pa.StringArray,
        query_keys: np.ndarray,
        keep: np.ndarray,
        reason: str,
    ) -> tuple:
        if keep.all():
            return batch, query, query_keys
        self.report.drop(reason, int((~keep).sum()))
        return batch.filter(pa.array(keep)), query.filter(pa.array(keep)), query_keys[keep]

    def _positives(
        self, batch: pa.RecordBatch, query: pa.StringArray
    ) -> tuple[list[pa.StringArray], np.ndarray]:
        """The positives of each row, one array a place, and the pool of each place."""
        if self.options.mode == "group":
            return [self._whole(batch) if self.template or self.pos else query], np.zeros(
                1, np.uint8
            )
        if self.options.mode == "fused":
            columns = [self._whole(batch)]
        else:
            columns = [
                template.fill(batch)
                for template in [*self.pos, *([self.template] if self.template else [])]
            ]
        pools = [*range(16, 16 + len(columns))]
        if self.options.category_positive:
            columns.append(batch[self.options.category])
            pools.append(CATEGORY)
        return columns, np.array(pools, np.uint8)

    def _whole(self, batch: pa.RecordBatch) -> pa.StringArray:
        if self.template:
            return self.template.fill(batch)
        return (
            self.pos[0].fill(batch)
            if self.options.mode == "group" and len(self.pos) == 1
            else templates.fuse(self.pos, batch)
        )

    def _each(
        self,
        batch: pa.RecordBatch,
        query: pa.StringArray,
        query_keys: np.ndarray,
        columns: list,
        column_keys: np.ndarray,
        pools: np.ndarray,
    ) -> Drafts:
        """An example for every positive of a row, in order of row and column."""
        filled = column_keys != text_keys.ABSENT
        counts = filled.sum(1)
        self.report.drop("without a positive", int((counts == 0).sum()))
        self.report.add(
            "for further positives of the same row", int((counts[counts > 0] - 1).sum())
        )
        equal = filled & (column_keys == query_keys[:, None])
        self.report.drop("with a positive equal to the query", int(equal.sum()))
        row, place = np.nonzero(filled & ~equal)
        items, ones = _items(columns, row, place), np.ones(len(row), np.int64)
        if len(row) == len(batch) and len(columns) == 1:  # every row gives one example
            return self._finish(
                batch,
                query,
                query_keys,
                items,
                ones,
                column_keys[:, 0],
                np.repeat(pools, len(row)),
                column_keys,
            )
        rows = pa.array(row)
        return self._finish(
            batch.take(rows),
            query.take(rows),
            query_keys[row],
            items,
            ones,
            column_keys[row, place],
            pools[place],
            column_keys[row],
        )

    def _one(
        self,
        batch: pa.RecordBatch,
        query: pa.StringArray,
        query_keys: np.ndarray,
        columns: list,
        column_keys: np.ndarray,
    ) -> Drafts:
        """One example a row: modes list, fused and group."""
        usable = column_keys != text_keys.ABSENT  # (n, P)
        empty = ~usable.any(1)
        if self.options.mode != "group":
            usable &= column_keys != query_keys[:, None]
            for later in range(
                1, column_keys.shape[1]
            ):  # the same text in two columns is one positive
                usable[:, later] &= ~(
                    column_keys[:, :later] == column_keys[:, later : later + 1]
                ).any(1)
        keep = usable.any(1)
        self.report.drop("without a positive", int(empty.sum()))
        self.report.drop("with a positive equal to the query", int((~keep & ~empty).sum()))
        row, place = np.nonzero(usable)
        items = _items(columns, row, place)
        kept = pa.array(keep)
        pools = np.zeros(len(row), np.uint8)
        return self._finish(
            batch.filter(kept),
            query.filter(kept),
            query_keys[keep],
            items,
            usable.sum(1)[keep],
            column_keys[row, place],
            pools,
            column_keys[keep],
        )

    def _finish(
        self,
        batch: pa.RecordBatch,
        query: pa.StringArray,
        query_keys: np.ndarray,
        items: pa.StringArray,
        counts: np.ndarray,
        item_keys: np.ndarray,
        pools: np.ndarray,
        column_keys: np.ndarray,
    ) -> Drafts:
        options, nothing = self.options, np.zeros(len(query), np.uint64)
        categories = (
            text_keys.hash_repeated_texts(batch[options.category]) if options.category else nothing
        )
        domains = (
            text_keys.hash_repeated_texts(batch[options.domain]) if options.domain else nothing
        )
        groups = [
            _named(text_keys.hash_repeated_texts(batch[name]), 0x590 + number)
            for number, name in enumerate(options.split_by)
        ]
        own_category = categories if options.category_positive else nothing
        if (
            options.category_positive
        ):  # the name of a category ties no rows together: it is what they differ from others by
            column_keys = np.where(
                column_keys == own_category[:, None], text_keys.ABSENT, column_keys
            )
        ids = self._ids(batch, query, items, counts)
        id_keys = text_keys.hash_texts(ids)
        # Of mode each, an item is one example; of mode group, the category makes the difference.
        said = [item_keys] if options.mode == "each" else column_keys.T
        content = text_keys.mix(
            query_keys, *said, domains, categories if options.mode == "group" else own_category
        )
        text = self.text.fill(batch) if self.text else None
        apart = [*groups, *([_named(text_keys.hash_texts(text), 0x7E)] if text is not None else [])]
        # In mode group the rows of a category answer each other, so the category links them.
        links = (
            [query_keys, _named(categories, 0xCA)]
            if options.mode == "group"
            else [query_keys, *column_keys.T]
        )
        id_links = _named(id_keys, 0x1D) if options.id else nothing
        return Drafts(
            ids, query, items, counts, batch.select(self.passed), text, query_keys, item_keys, pools, np.column_stack(links), id_links,
            np.column_stack(apart) if apart else np.zeros((len(query), 0), np.uint64), own_category, content, text_keys.mix(id_keys, content), categories, domains,
        )  # fmt: skip

    def _ids(
        self,
        batch: pa.RecordBatch,
        query: pa.StringArray,
        items: pa.StringArray,
        counts: np.ndarray,
    ) -> pa.StringArray:
        """The user's id, else a hash of the content."""
        given = batch[self.options.id] if self.options.id else None
        if given is not None and templates.present(given).false_count == 0:
            return given
        own = _content_ids(query, items, counts)
        return own if given is None else pc.if_else(templates.present(given), given, own)


def _content_ids(
    query: pa.StringArray, items: pa.StringArray, counts: np.ndarray
) -> pa.StringArray:
    """`content_id` of each query and its positives; where all rows have one positive, a block at a time."""
    if not (counts == 1).all():
        texts, ends = items.to_pylist(), counts.cumsum().tolist()
        contents = zip(query.to_pylist(), [0, *ends], ends)
        return pa.array(
            [content_id(text, *texts[start:end]) for text, start, end in contents], pa.string()
        )
    parts = [
        part for texts in (query, items) for part in (_length_bytes(texts), texts.cast(pa.binary()))
    ]
    joined = pc.binary_join_element_wise(*parts, b"").to_pylist()
    return pa.array(list(map(xxhash.xxh3_64_hexdigest, joined)), pa.string())


def _length_bytes(texts: pa.StringArray) -> pa.BinaryArray:
    """The length of each text in bytes, as 8 bytes."""
    lengths = pc.binary_length(texts).to_numpy().astype("<u8")
    ends = np.arange(len(texts) + 1, dtype=np.int32) * 8
    return pa.BinaryArray.from_buffers(
        pa.binary(), len(texts), [None, pa.py_buffer(ends), pa.py_buffer(lengths)]
    )


def _items(columns: list[pa.StringArray], row: np.ndarray, place: np.ndarray) -> pa.StringArray:
    """Cell (row, place) of each pair of indices."""
    if len(columns) == 1:
        return columns[0] if len(row) == len(columns[0]) else columns[0].take(pa.array(row))
    return pa.concat_arrays(columns).take(pa.array(place * len(columns[0]) + row, pa.int64()))


def _named(keys: np.ndarray, kind: int) -> np.ndarray:
    """Keys of another kind of thing than texts, so that an id never equals a query; ABSENT stays."""
    return np.where(keys == text_keys.ABSENT, text_keys.ABSENT, text_keys.mix(kind, keys))
