"""From table to files: drafts straight through, or spooled, split and given negatives."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from csv2pairs import pairs, split
from csv2pairs.negatives import Candidates, Pools
from csv2pairs.table import Table
from fletching import keys, schema
from fletching.report import Report
from fletching.stream import Writer
from fletching.text import content_id

if TYPE_CHECKING:
    from csv2pairs.cli import Options

STRINGS = pa.list_(pa.string())


def write_texts(table: Table, options: Options, shares: dict[str, float], report: Report, lineage: dict[str, Any]) -> None:
    """--mode texts: one text a row, by template."""
    columns = _text_columns(options)
    seen: set[int] = set()
    with Writer(report, options.output, "texts", columns, **lineage) as out, report.progress("reading") as progress:
        for batch in table:
            texts = pairs.fill(options.template, batch) if options.template else pairs.fuse(options.pos, batch)
            text_keys = keys.of(texts)
            fresh = _first_seen(text_keys, seen)
            report.drop("empty", int((text_keys == keys.ABSENT).sum()))
            report.drop("duplicate", int((~fresh & (text_keys != keys.ABSENT)).sum()))
            kept = batch.filter(pa.array(fresh))
            texts = texts.filter(pa.array(fresh))
            ids = kept[options.id] if options.id else pa.array([content_id(text) for text in texts.to_pylist()], pa.string())
            passed = [kept[name] for name in ((options.domain,) if options.domain else ()) + options.keep]
            out.write(pa.RecordBatch.from_arrays([ids, texts, *passed], schema=columns))
            progress.advance(len(batch))


def _text_columns(options: Options) -> pa.Schema:
    names = ["id", "text", *(["domain"] if options.domain else [])]
    passed = [pa.field(name, pa.string()) for name in options.keep]
    return schema.load("texts").arrow(names, passed)


def write_examples(table: Table, options: Options, shares: dict[str, float], report: Report, lineage: dict[str, Any]) -> None:
    columns = pairs.columns(options)
    drafts = _drafts(table, options, report)
    with contextlib.ExitStack() as stack:
        if options.texts_out:
            drafts = _texts_beside(drafts, stack.enter_context(Writer(report, options.texts_out, "texts", _plain_texts(), count=False, **lineage)))
        if not (options.negatives or shares or options.mode == "group"):
            out = stack.enter_context(Writer(report, options.output, "examples", columns, **lineage))
            for draft in drafts:
                out.write(draft.rows)
            return
        spool = Spool(drafts, columns, stack)
        names = list(shares) or [""]
        labels = split.components(np.column_stack([spool.links, spool.groups, spool.ids])) if shares else spool.ids
        splits = split.assign(labels, shares, options.seed) if shares else np.zeros(len(spool.ids), np.int64)
        _write_splits(spool, splits, names, columns, options, report, lineage)


def _drafts(table: Table, options: Options, report: Report) -> Iterator[pairs.Drafts]:
    """Drafts of every batch without exact repetitions."""
    seen: set[int] = set()
    with report.progress("reading") as progress:
        for batch in table:
            draft = pairs.draft(batch, options, report)
            fresh = _first_seen(keys.mix(draft.query_keys, *draft.pos_keys.T, draft.domains), seen)
            report.drop("duplicate", int((~fresh).sum()))
            yield draft.filter(fresh)
            progress.advance(len(batch))


def _first_seen(text_keys: np.ndarray, seen: set[int]) -> np.ndarray:
    """Which keys come up for the first time; ABSENT never does."""
    fresh = np.zeros(len(text_keys), bool)
    for row, key in enumerate(text_keys.tolist()):
        if key and key not in seen:
            seen.add(key)
            fresh[row] = True
    return fresh


def _plain_texts() -> pa.Schema:
    return schema.load("texts").arrow(["id", "text"])


def _texts_beside(drafts: Iterator[pairs.Drafts], out: Writer) -> Iterator[pairs.Drafts]:
    """Pass drafts on and write each of their texts once."""
    seen: set[int] = set()
    for draft in drafts:
        texts = pa.concat_arrays([draft.rows["query"], draft.rows["pos"].flatten()])
        texts = texts.filter(pa.array(_first_seen(keys.of(texts), seen)))
        ids = pa.array([content_id(text) for text in texts.to_pylist()], pa.string())
        out.write(pa.RecordBatch.from_arrays([ids, texts], schema=_plain_texts()))
        yield draft


class Spool:
    """All drafts: their rows in a temporary Arrow file, their keys in memory."""

    def __init__(self, drafts: Iterator[pairs.Drafts], columns: pa.Schema, stack: contextlib.ExitStack) -> None:
        file = stack.enter_context(tempfile.NamedTemporaryFile(prefix="csv2pairs-", suffix=".arrow"))
        writer = pa.ipc.new_file(file, columns)
        parts: list[pairs.Drafts] = []
        for draft in drafts:
            if draft.rows.num_rows:
                writer.write_batch(draft.rows)
                parts.append(draft)
        writer.close()
        file.flush()
        reader = pa.ipc.open_file(pa.memory_map(file.name))
        self.batches = [reader.get_batch(i) for i in range(reader.num_record_batches)]
        self.starts = np.cumsum([0, *(len(batch) for batch in self.batches)])
        nothing = np.zeros(0, np.uint64)
        self.query_keys = np.concatenate([part.query_keys for part in parts] or [nothing])
        self.pos_keys = np.concatenate([part.pos_keys for part in parts] or [nothing[:, None]])
        self.links = np.concatenate([part.links for part in parts] or [nothing[:, None]])
        self.pools = np.concatenate([part.pools for part in parts] or [nothing])
        self.categories = np.concatenate([part.categories for part in parts] or [nothing])
        self.domains = np.concatenate([part.domains for part in parts] or [nothing])
        self.groups = np.concatenate([part.groups for part in parts] or [nothing])
        # The key of an id seeds the draws of its row and keeps equal ids in one split.
        self.ids = np.concatenate([keys.of(part.rows["id"]) for part in parts] or [nothing])

    def texts(self, examples: np.ndarray, items: np.ndarray, column: str) -> pa.StringArray:
        """The query of each example, or item `items` of its positives, read batch by batch."""
        order = np.argsort(examples, kind="stable")
        chunks = np.searchsorted(self.starts, examples[order], side="right") - 1
        found = []
        for chunk in np.unique(chunks):
            mine = order[chunks == chunk]
            rows = examples[mine] - self.starts[chunk]
            values = self.batches[chunk][column]
            if column == "pos":
                rows = values.offsets.to_numpy()[rows] + items[mine]
                values = values.values
            found.append(values.take(pa.array(rows)))
        back = np.empty(len(order), np.int64)
        back[order] = np.arange(len(order))
        return pa.concat_arrays(found).take(pa.array(back)) if found else pa.array([], pa.string())


def _write_splits(spool: Spool, splits: np.ndarray, names: list[str], columns: pa.Schema, options: Options, report: Report, lineage: dict[str, Any]) -> None:
    positives = _draw_positives(spool, splits, options) if options.mode == "group" else None
    negatives, pools = _draw_negatives(spool, splits, options) if options.negatives else (None, None)
    full = schema.extend(schema.load("examples"), columns, "neg") if options.negatives else columns
    outputs = [options.output.format(split=name) if name and options.output else options.output for name in names]
    with contextlib.ExitStack() as stack:
        outs = [stack.enter_context(Writer(report, path, "examples", full, count=False, **lineage)) for path in outputs]
        progress = stack.enter_context(report.progress("writing", len(spool.ids)))
        for batch, start in zip(spool.batches, spool.starts):
            rows = np.arange(start, start + len(batch))
            keep = np.ones(len(rows), bool)
            if positives is not None:
                lists = _lists(spool, positives, rows, "query")
                batch = batch.set_column(columns.get_field_index("pos"), columns.field("pos"), lists)
                alone = (positives[1][rows] < 0).all(1)
                report.drop("alone in its category", int(alone.sum()))
                keep &= ~alone
            if negatives is not None and pools is not None:
                lists = _lists(spool, (pools, negatives), rows, options.negatives_from if options.mode != "group" else "query")
                arrays = {"neg": lists, **{field.name: batch[field.name] for field in columns}}
                batch = pa.RecordBatch.from_arrays([arrays[field.name] for field in full], schema=full)
                short = (negatives[rows] >= 0).sum(1) < options.negatives
                if options.shortfall == "drop":
                    report.drop(f"with fewer than {options.negatives} negatives", int((short & keep).sum()))
                    keep &= ~short
                report.measures["rows_short_of_negatives"] = report.measures.get("rows_short_of_negatives", 0) + int((short & keep).sum())
            for number, out in enumerate(outs):
                part = batch.filter(pa.array(keep & (splits[rows] == number)))
                report.rows_out += part.num_rows
                out.write(part)
            progress.advance(len(rows))
        short = report.measures.get("rows_short_of_negatives")
        if short:
            report.note(f"{short:,} rows have fewer than {options.negatives} negatives; --shortfall widen fills them, drop leaves them out")
        for name, out in zip(names, outs):
            if name:
                report.note(f"{name}: {out.rows:,} rows in {out.path}")
        report.check()


def _lists(spool: Spool, drawn: tuple[Pools, np.ndarray] | tuple[Pools, Any], rows: np.ndarray, column: str) -> pa.ListArray:
    """The texts of the places drawn for these rows."""
    pools, places = drawn[0], drawn[1][rows]  # (m, k)
    counts = (places >= 0).sum(1)
    flat = places[places >= 0]
    texts = spool.texts(pools.example[flat], pools.item[flat], column)
    return pa.ListArray.from_arrays(pa.array(np.concatenate([[0], counts.cumsum()]), pa.int32()), texts)


def _draw_positives(spool: Spool, splits: np.ndarray, options: Options) -> tuple[Pools, np.ndarray]:
    """--mode group: other rows' queries of the same category and domain."""
    rows = np.arange(len(spool.ids))
    pool = keys.mix(splits, spool.domains, spool.categories)
    pools = Pools(Candidates(rows, np.zeros_like(rows), spool.query_keys, pool), spool.query_keys[:, None])
    return pools, pools.draw(pool, rows, spool.ids, spool.query_keys, options.positives, options.seed)


def _draw_negatives(spool: Spool, splits: np.ndarray, options: Options) -> tuple[np.ndarray, Pools]:
    """Places of the negatives, (n, k), from category, then, to widen, from the domain."""
    rows = np.arange(len(spool.ids))
    by_query = options.mode == "group" or options.negatives_from == "query"
    if by_query:
        example, item, text = rows, np.zeros_like(rows), spool.query_keys
    else:
        example, item = np.nonzero(spool.pos_keys != keys.ABSENT)
        text = spool.pos_keys[example, item]
    column = np.zeros_like(spool.pools) if by_query else spool.pools
    wide = keys.mix(splits, spool.domains, column)
    # In mode group the category holds the positives, so negatives come from the domain at once.
    narrow = keys.mix(wide, spool.categories) if options.category and options.mode != "group" else wide
    widen = options.shortfall == "widen" and narrow is not wide
    # Both pools stand in one list, so that a place means the same text wherever it was drawn.
    owners = [np.concatenate([array] * (1 + widen)) for array in (example, item, text)]
    pool = np.concatenate([narrow[example], wide[example]] if widen else [narrow[example]])
    pools = Pools(Candidates(*owners, pool), spool.links)
    chosen = pools.draw(narrow, rows, spool.ids, spool.query_keys, options.negatives, options.seed)
    if widen:
        short = np.flatnonzero(chosen[:, -1] < 0)
        taken = np.where(chosen[short] >= 0, pools.text[chosen[short]], keys.ABSENT)
        more = pools.draw(wide[short], rows[short], spool.ids[short], spool.query_keys[short], options.negatives, options.seed, taken)
        joined = np.concatenate([chosen[short], more], 1)
        chosen[short] = np.take_along_axis(joined, np.argsort(joined < 0, axis=1, kind="stable"), 1)[:, : options.negatives]
    return chosen, pools
