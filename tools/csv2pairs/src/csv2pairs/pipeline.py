"""From table to files: drafts straight through, or spooled, split, partitioned and given negatives."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import pyarrow as pa

from csv2pairs import splitting, templates
from csv2pairs.key_set import Seen
from csv2pairs.options import Options
from csv2pairs.pairing.pair_builder import Drafting, Drafts
from csv2pairs.pairing.sampling import Drawn, Draws
from csv2pairs.partition import Part, parts
from csv2pairs.readers.table import Table
from csv2pairs.spool import Spool, take
from fletching import schema, text_keys
from fletching.io import AtomicOutputs, Writer
from fletching.report import Report
from fletching.text import content_id

STRINGS = pa.list_(pa.string())
KNOWN = {"id": pa.string(), "query": pa.string(), "pos": STRINGS, "neg": STRINGS}
BLOCK = 8192


class Outputs:
    """One run: where its rows go. `lineage` holds what every Writer is told."""

    def __init__(
        self,
        table: Table,
        options: Options,
        shares: dict[str, float],
        report: Report,
        lineage: dict[str, Any],
    ) -> None:
        self.table, self.options, self.shares, self.report = table, options, shares, report
        self.lineage = lineage | {"sources": [table]}
        self.texts_written = Seen()

    def write(self) -> None:
        if self.options.mode == "texts":
            self._write_texts()
            return
        self.drafting = Drafting(self.options, self.report)
        self.columns = self._example_columns()
        with contextlib.ExitStack() as stack:
            drafts = self._drafts()
            options = self.options
            if options.negatives or self.shares or options.partition_by or options.mode == "group":
                self._write_spooled(Spool(drafts, stack))
            else:
                self._write_straight(drafts)

    # --- texts ---

    def _write_texts(self) -> None:
        options, report = self.options, self.report
        template = templates.parse(options.template) if options.template else None
        pos = [templates.parse(text, "--pos", column=True) for text in options.pos]
        passed = [*([options.domain] if options.domain else []), *options.keep]
        fields = [pa.field(name, pa.string()) for name in options.keep]
        columns = schema.load("texts").arrow(
            ["id", "text", *(["domain"] if options.domain else [])], fields
        )
        with (
            Writer(report, options.output, "texts", columns, **self.lineage) as out,
            report.progress("reading") as progress,
        ):
            for batch in self.table:
                texts = template.fill(batch) if template else templates.fuse(pos, batch)
                found = text_keys.hash_texts(texts)
                empty = found == text_keys.ABSENT
                fresh = self.texts_written.first(found) & ~empty
                report.drop("empty", int(empty.sum()))
                report.drop("duplicate", int((~fresh & ~empty).sum()))
                kept, texts = batch.filter(pa.array(fresh)), texts.filter(pa.array(fresh))
                ids = _text_ids(texts, kept[options.id] if options.id else None)
                by_name = {
                    "id": ids,
                    "text": texts,
                    **dict(zip(columns.names[2:], (kept[name] for name in passed))),
                }
                out.write(
                    pa.RecordBatch.from_arrays(
                        [by_name[name] for name in columns.names], schema=columns
                    )
                )
                progress.advance(len(batch))

    def _texts_beside(
        self, out: Writer, query: pa.StringArray, items: pa.StringArray, text: pa.StringArray | None
    ) -> None:
        """Write each text once: of the template where there is one, else queries and positives."""
        texts = text if text is not None else pa.concat_arrays([query, items])
        found = text_keys.hash_texts(texts)
        texts = texts.filter(
            pa.array(self.texts_written.first(found) & (found != text_keys.ABSENT))
        )
        out.write(pa.RecordBatch.from_arrays([_text_ids(texts, None), texts], schema=out.columns))

    # --- examples ---

    def _example_columns(self) -> pa.Schema:
        options = self.options
        names = [
            "id",
            "query",
            "pos",
            *(["neg"] if options.negatives else []),
            *(["domain"] if options.domain else []),
        ]
        known = [name for name in options.keep if schema.load("examples").field(name)]
        passed = [pa.field(name, pa.string()) for name in options.keep if name not in known]
        return schema.load("examples").arrow([*names, *known], passed)

    def _drafts(self) -> Iterator[Drafts]:
        """Drafts of every batch without repetitions."""
        seen, ids, repeated = Seen(), Seen(), 0
        with self.report.progress("reading") as progress:
            for batch in self.table:
                draft = self.drafting.drafts(batch)
                fresh = seen.first(draft.content)
                self.report.drop("duplicate", int((~fresh).sum()))
                draft = draft.filter(fresh)
                if self.options.id:
                    repeated += self._repeated_ids(draft, ids)
                yield draft
                progress.advance(len(batch))
        if repeated:
            self.report.measures["rows_with_an_id_seen_before"] = repeated
            self.report.note(
                f"{repeated:,} rows have an id that came up before; they stay, tied to each other: one split, never each other's negatives"
            )

    @staticmethod
    def _repeated_ids(draft: Drafts, ids: Seen) -> int:
        """How many rows of the table repeat an id. Examples of one row stand side by side and count once."""
        own, query = draft.id_links, draft.query_keys
        head = np.ones(len(own), bool)
        head[1:] = (own[1:] != own[:-1]) | (query[1:] != query[:-1])
        return int((~ids.first(own[head])).sum())

    def _row(
        self,
        ids: pa.StringArray,
        query: pa.StringArray,
        pos: pa.ListArray,
        neg: pa.ListArray | None,
        passed: pa.RecordBatch,
    ) -> pa.RecordBatch:
        arrays: dict[str, Any] = {name: passed[name] for name in passed.schema.names}
        if self.options.domain:
            arrays["domain"] = passed[self.options.domain]
        arrays |= {"id": ids, "query": query, "pos": pos, "neg": neg}
        return pa.RecordBatch.from_arrays(
            [arrays[name] for name in self.columns.names], schema=self.columns
        )

    def _writer(self, path: str | None) -> Writer:
        return Writer(self.report, path, "examples", self.columns, **self.lineage)

    def _texts_writer(self, path: str) -> Writer:
        return Writer(
            self.report,
            path,
            "texts",
            schema.load("texts").arrow(["id", "text"]),
            count=False,
            **self.lineage,
        )

    def _write_straight(self, drafts: Iterator[Drafts]) -> None:
        with AtomicOutputs(self._writer(self.options.output)) as outputs:
            out = outputs.writers[0]
            texts = (
                outputs.add(self._texts_writer(self.options.texts_out))
                if self.options.texts_out
                else None
            )
            for draft in drafts:
                pos = pa.ListArray.from_arrays(_offsets(draft.counts), draft.items)
                out.write(self._row(draft.ids, draft.query, pos, None, draft.passed))
                if texts:
                    self._texts_beside(texts, draft.query, draft.items, draft.text)

    # --- spooled: negatives, splits, partitions ---

    def _write_spooled(self, spool: Spool) -> None:
        options, shares = self.options, self.shares
        splits = np.zeros(spool.rows, np.int64)
        if shares:
            items = [spool.item_keys] if options.mode == "group" else []  # one a row there
            groups = splitting.components(
                np.column_stack([spool.links, spool.id_links, spool.apart, *items])
            )
            splits = splitting.assign(groups, shares, options.seed)
            self._tell_large_group(groups)
        draws = Draws(spool, splits, options, "rows_with_an_id_seen_before" in self.report.measures)
        outs = parts(spool, splits, list(shares), options)
        counted = len(outs) > 1 and (options.mode == "group" or options.shortfall == "drop")
        if counted:  # a file's footer tells the drops of the whole run, so they are known before the first ends
            for part in outs:
                for rows in _blocks(part.rows, draws.block):
                    self._count(draws.draw(rows))
        with AtomicOutputs() as outputs, self.report.progress("writing", spool.rows) as progress:
            for part in outs:
                out = outputs.add(self._writer(part.path))
                self._write_part(spool, draws, part, out, not counted, progress)
                if len(outs) > 1:
                    self.report.note(f"{part.name}: {out.rows:,} rows in {part.path}")
                    out.complete()
            self._write_spooled_texts(spool, splits, outputs)
        self._tell_shortfall()

    def _tell_large_group(self, groups: np.ndarray) -> None:
        """Why the splits may not have their shares: many rows hang together by common texts."""
        largest = int(np.unique(groups, return_counts=True)[1].max()) if len(groups) else 0
        self.report.measures["largest_group_of_tied_rows"] = largest
        if largest > max(1, 0.05 * len(groups)) and len(groups) >= 20:
            self.report.note(
                f"{largest:,} of {len(groups):,} rows hang together by texts in common and stay in one split; shares may be missed"
            )

    def _write_part(
        self, spool: Spool, draws: Draws, part: Part, out: Writer, count: bool, progress: Any
    ) -> None:
        with _Behind(out) as behind:
            for rows in _blocks(part.rows, draws.block):
                drawn = draws.draw(rows)
                if count:
                    self._count(drawn)
                examples = self._examples(spool, rows, drawn, draws.by_query)
                behind.write(
                    examples if drawn.keep.all() else examples.filter(pa.array(drawn.keep))
                )
                progress.advance(len(rows))

    def _examples(
        self, spool: Spool, rows: np.ndarray, drawn: Drawn, by_query: bool
    ) -> pa.RecordBatch:
        ids, query = take(spool.ids, rows), take(spool.queries, rows)
        if drawn.positives is not None:
            pos = _lists(spool.items, drawn.positives)
        else:
            pos = pa.ListArray.from_arrays(
                _offsets(spool.counts[rows]), take(spool.items, spool.places(rows))
            )
        neg = (
            _lists(spool.queries if by_query else spool.items, drawn.negatives)
            if drawn.negatives is not None
            else None
        )
        passed = (
            spool.passed.take(pa.array(rows)).combine_chunks().to_batches()
            if spool.passed.num_columns
            else []
        )
        return self._row(
            ids, query, pos, neg, passed[0] if passed else pa.RecordBatch.from_pydict({})
        )

    def _count(self, drawn: Drawn) -> None:
        for reason, rows in drawn.dropped.items():
            self.report.drop(reason, int(rows.sum()))
        for name, rows in (
            ("rows_short_of_negatives", drawn.short),
            ("rows_widened_to_the_domain", drawn.widened),
        ):
            if self.options.negatives:
                self.report.measures[name] = self.report.measures.get(name, 0) + int(
                    (rows & drawn.keep).sum()
                )

    def _tell_shortfall(self) -> None:
        short = self.report.measures.get("rows_short_of_negatives")
        if short:
            self.report.note(
                f"{short:,} rows have fewer than {self.options.negatives} negatives; --shortfall widen fills them, drop leaves them out"
            )
        widened = self.report.measures.get("rows_widened_to_the_domain")
        if widened:
            self.report.note(f"{widened:,} rows have negatives from outside their category")

    def _write_spooled_texts(
        self, spool: Spool, splits: np.ndarray, outputs: AtomicOutputs
    ) -> None:
        if not self.options.texts_out:
            return
        for number, name in enumerate(self.shares or [""]):
            out = outputs.add(self._texts_writer(self.options.texts_out.replace("{split}", name)))
            self.texts_written = Seen()
            for rows in _blocks(np.flatnonzero(splits == number), BLOCK):
                text = take(spool.text, rows) if self.drafting.text else None
                self._texts_beside(
                    out, take(spool.queries, rows), take(spool.items, spool.places(rows)), text
                )


class _Behind:
    """A writer one step behind: a file is encoded while the next rows are drawn.

    A stream is written at once: a thread that waits for its reader could not be interrupted.
    """

    def __init__(self, out: Writer) -> None:
        self.out = out
        self.thread = ThreadPoolExecutor(1)
        self.last: Future | None = None

    def write(self, batch: pa.RecordBatch) -> None:
        if self.out.temporary is None:
            self.out.write(batch)
            return
        if self.last:
            self.last.result()
        self.last = self.thread.submit(self.out.write, batch)

    def __enter__(self) -> _Behind:
        return self

    def __exit__(self, kind: Any, failure: BaseException | None, trace: Any) -> None:
        self.thread.shutdown()
        if failure is None and self.last:
            self.last.result()


def _blocks(rows: np.ndarray, size: int) -> Iterator[np.ndarray]:
    return (rows[start : start + size] for start in range(0, len(rows), size))


def _offsets(counts: np.ndarray) -> pa.Array:
    return pa.array(np.concatenate([[0], counts.cumsum()]), pa.int32())


def _lists(texts: pa.LargeStringArray, places: np.ndarray) -> pa.ListArray:
    """The texts at int64 (m, k) places as lists; -1 stands for none."""
    return pa.ListArray.from_arrays(
        _offsets((places >= 0).sum(1)), take(texts, places[places >= 0])
    )


def _text_ids(texts: pa.StringArray, given: pa.StringArray | None) -> pa.StringArray:
    own = given.to_pylist() if given is not None else [None] * len(texts)
    return pa.array(
        [
            cell if cell and cell.strip() else content_id(text)
            for cell, text in zip(own, texts.to_pylist())
        ],
        pa.string(),
    )
