"""From rows of a table to drafts of examples, by mode. Pure functions over batches."""

from __future__ import annotations

import string
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fletching import keys
from fletching.report import Report
from fletching.text import content_id

if TYPE_CHECKING:
    from csv2pairs.cli import Options


@dataclass
class Drafts:
    """Examples of one batch with the keys by which they are split and given negatives.

    rows: id, query, pos, domain?, kept columns. n examples, P positives at most.
    """

    rows: pa.RecordBatch
    query_keys: np.ndarray  # uint64 (n,)
    pos_keys: np.ndarray  # uint64 (n, P), ABSENT where there are fewer
    links: np.ndarray  # uint64 (n, L): two examples with a link in common are never each other's negatives
    pools: np.ndarray  # uint64 (n,): the column a positive comes from, in mode each
    categories: np.ndarray  # uint64 (n,)
    domains: np.ndarray  # uint64 (n,)
    groups: np.ndarray  # uint64 (n,): --split-by

    def filter(self, keep: np.ndarray) -> Drafts:
        arrays = (self.query_keys, self.pos_keys, self.links, self.pools, self.categories, self.domains, self.groups)
        return Drafts(self.rows.filter(pa.array(keep)), *(array[keep] for array in arrays))


def columns(options: Options) -> pa.Schema:
    """The columns of a draft."""
    fields = [pa.field("id", pa.string(), False), pa.field("query", pa.string(), False), pa.field("pos", pa.list_(pa.string()), False)]
    if options.domain:
        fields.append(pa.field("domain", pa.string()))
    return pa.schema([*fields, *(pa.field(name, pa.string()) for name in options.keep)])


def fill(template: str, batch: pa.RecordBatch) -> pa.StringArray:
    """The template of each row; an empty cell leaves nothing behind.

    >>> fill("{a}: {b}", pa.record_batch({"a": ["x"], "b": [None]})).to_pylist()
    ['x: ']
    """
    parts: list = []
    for literal, name, _, _ in string.Formatter().parse(template):
        parts += [literal] if literal else []
        parts += [batch[name].fill_null("")] if name else []
    if not any(isinstance(part, pa.Array) for part in parts):
        return pa.array(["".join(parts)] * batch.num_rows, pa.string())
    return pc.binary_join_element_wise(*parts, "")


def fuse(names: tuple[str, ...], batch: pa.RecordBatch) -> pa.StringArray:
    """`col: value, col: value` of the cells that hold something."""
    pieces = [pc.if_else(_present(batch[name]), pc.binary_join_element_wise(f"{name}: ", pc.utf8_trim_whitespace(batch[name]), ""), None) for name in names]
    return pc.binary_join_element_wise(*pieces, ", ", null_handling="skip")


def _present(cells: pa.StringArray) -> pa.BooleanArray:
    return pc.fill_null(pc.not_equal(pc.utf8_trim_whitespace(cells), ""), False)


def draft(batch: pa.RecordBatch, options: Options, report: Report) -> Drafts:
    """The examples of a batch of table rows; what is dropped is counted."""
    batch = _drop(batch, _present(batch[options.query]), "with an empty query", report)
    names = options.pos + ((options.category,) if options.category_positive else ())
    if options.mode == "group":
        batch = _drop(batch, _present(batch[options.category]), "without a category", report)
        positives: list[pa.StringArray] = []
    elif options.mode == "fused":
        positives = [fill(options.template, batch) if options.template else fuse(names, batch)]
    else:
        positives = [batch[name] for name in names]
    positives = [pc.if_else(_present(cells), cells, pa.scalar(None, pa.string())) for cells in positives]
    query_keys = keys.of(batch[options.query])
    pos_keys = np.stack([keys.of(cells) for cells in positives], 1) if positives else np.zeros((len(batch), 0), np.uint64)
    if options.mode == "each":
        return _each(batch, positives, query_keys, pos_keys, options, report)
    return _one(batch, positives, query_keys, pos_keys, options, report)


def _drop(batch: pa.RecordBatch, keep: pa.BooleanArray, reason: str, report: Report) -> pa.RecordBatch:
    kept = batch.filter(keep)
    report.drop(reason, batch.num_rows - kept.num_rows)
    return kept


def _one(batch: pa.RecordBatch, positives: list, query_keys: np.ndarray, pos_keys: np.ndarray, options: Options, report: Report) -> Drafts:
    """One example a row: modes list, fused and group."""
    usable = (pos_keys != keys.ABSENT) & (pos_keys != query_keys[:, None])  # (n, P)
    for later in range(1, pos_keys.shape[1]):  # the same text in two columns is one positive
        usable[:, later] &= ~(pos_keys[:, :later] == pos_keys[:, later : later + 1]).any(1)
    if positives:
        empty = ~(pos_keys != keys.ABSENT).any(1)
        report.drop("without a positive", int(empty.sum()))
        report.drop("with a positive equal to the query", int((~usable.any(1) & ~empty).sum()))
        keep = usable.any(1)
        batch, query_keys, pos_keys, usable = batch.filter(pa.array(keep)), query_keys[keep], pos_keys[keep], usable[keep]
        positives = [cells.filter(pa.array(keep)) for cells in positives]
    width = len(positives)
    order = np.flatnonzero(usable.ravel())  # row-major: row * P + column
    stacked = pa.concat_arrays(positives) if positives else pa.array([], pa.string())
    items = stacked.take(pa.array(order % max(width, 1) * len(batch) + order // max(width, 1), pa.int64()))
    offsets = np.concatenate([[0], usable.sum(1).cumsum()]) if width else np.zeros(len(batch) + 1)
    lists = pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), items)
    # Item j of a row's list must be key j of its row: squeeze the unused ones out to the right.
    squeezed = np.where(usable, pos_keys, keys.ABSENT)
    squeezed = np.take_along_axis(squeezed, np.argsort(~usable, axis=1, kind="stable"), 1)
    return _finish(batch, lists, query_keys, squeezed, pos_keys, np.zeros(len(batch), np.uint64), options)


def _each(batch: pa.RecordBatch, positives: list, query_keys: np.ndarray, pos_keys: np.ndarray, options: Options, report: Report) -> Drafts:
    """An example for every positive of a row, in order of row and column."""
    present = pos_keys != keys.ABSENT
    counts = present.sum(1)
    report.drop("without a positive", int((counts == 0).sum()))
    report.add("for further positives of the same row", int((counts[counts > 0] - 1).sum()))
    equal = present & (pos_keys == query_keys[:, None])
    report.drop("with a positive equal to the query", int(equal.sum()))
    row, col = np.nonzero(present & ~equal)
    items = pa.concat_arrays(positives).take(pa.array(col * len(batch) + row, pa.int64()))
    lists = pa.ListArray.from_arrays(pa.array(np.arange(len(row) + 1), pa.int32()), items)
    return _finish(batch.take(pa.array(row)), lists, query_keys[row], pos_keys[row, col][:, None], pos_keys[row], col.astype(np.uint64), options)


def _finish(batch: pa.RecordBatch, lists: pa.ListArray, query_keys: np.ndarray, pos_keys: np.ndarray, linked: np.ndarray, pools: np.ndarray, options: Options) -> Drafts:
    n = batch.num_rows
    categories = keys.of(batch[options.category]) if options.category else np.zeros(n, np.uint64)
    domains = keys.of(batch[options.domain]) if options.domain else np.zeros(n, np.uint64)
    groups = keys.of(batch[options.split_by]) if options.split_by else np.zeros(n, np.uint64)
    # In mode group the rows of a category answer each other, so the category links them.
    links = np.column_stack([query_keys, categories if options.mode == "group" else linked])
    ids = _ids(batch, lists, options)
    passed = [batch[options.domain]] if options.domain else []
    arrays = [ids, batch[options.query], lists, *passed, *(batch[name] for name in options.keep)]
    return Drafts(pa.RecordBatch.from_arrays(arrays, schema=columns(options)), query_keys, pos_keys, links, pools, categories, domains, groups)


def _ids(batch: pa.RecordBatch, lists: pa.ListArray, options: Options) -> pa.StringArray:
    """The user's id, else a hash of the content."""
    contents = zip(batch[options.query].to_pylist(), lists.to_pylist())
    if not options.id:
        return pa.array([content_id(query, *positives) for query, positives in contents], pa.string())
    given = batch[options.id].to_pylist()
    return pa.array([own if own else content_id(query, *positives) for own, (query, positives) in zip(given, contents)], pa.string())
