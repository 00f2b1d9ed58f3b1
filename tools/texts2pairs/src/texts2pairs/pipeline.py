"""One run, in two passes over the texts, which wait on disk: which queries are ambiguous is known
only after the last text.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import pyarrow as pa

from fletching import schema
from fletching.io import AtomicOutputs, Reader, Writer
from fletching.report import Report
from fletching.table import DiskTable, KeySet
from fletching.text import content_id
from texts2pairs.ambiguity import QueryOwners, query_key
from texts2pairs.options import Options
from texts2pairs.text_queries import TextQueries, TextRow, queries_of
from texts2pairs.written_queries import WrittenQueries, is_copied

READ = pa.schema([(name, pa.string()) for name in ("id", "text", "title", "source", "format")])
READ = READ.append(pa.field("domain", pa.string()))
KEPT = [pa.field("kind", pa.string()), pa.field("document", pa.string())]
EXAMPLES = schema.load("examples").arrow(["id", "query", "pos", "pos_ids", "domain"], KEPT)
REASON = pa.field("reject_reason", pa.string())
TEXTS = schema.load("texts").arrow(["id", "text", "domain"])
ROWS_AT_ONCE = 1024
TELLING_WORDS = 3  # of a heading: with fewer, those above it are put before
MOST_POSITIVES = 8  # of a heading: the first texts of its section
NO_QUERY = "without a query"
AMBIGUOUS = "a query of several texts"
SHORT = "a query of too few words"
COPIED = "a written query that stands in its text"
EMPTY = "a written query of an empty text"
WRITTEN = "written"  # the kind of a query that no text gave

Row = dict[str, Any]
Read = tuple[TextRow, TextQueries]


class BufferedPairs:
    """Rows for a writer, in batches."""

    def __init__(self, writer: Writer) -> None:
        self.writer = writer
        self.rows: list[Row] = []

    def extend(self, rows: Iterable[Row]) -> None:
        """Add rows; those that are enough for a batch are written."""
        self.rows += rows
        if len(self.rows) >= ROWS_AT_ONCE:
            self.flush()

    def flush(self) -> None:
        """Write the rows that wait."""
        self.writer.write(pa.RecordBatch.from_pylist(self.rows, self.writer.columns))
        self.rows = []


class PairRows:
    """The texts of one command line as pairs.

    written: queries beside those of the texts. provenance: keywords for the lineage.
    """

    def __init__(
        self,
        options: Options,
        report: Report,
        *,
        written: WrittenQueries,
        provenance: Mapping[str, Any],
    ) -> None:
        self.options = options
        self.report = report
        self.written = written
        self.provenance = provenance

    def write(self, reader: Reader) -> None:
        """Write all outputs; they appear together or not at all."""
        options = self.options
        self.written.read()
        with AtomicOutputs() as outputs:
            out = BufferedPairs(outputs.add(self._writer(options.output, "examples", EXAMPLES)))
            rejects = corpus = None
            if options.rejects:
                columns = EXAMPLES.append(REASON)
                writer = self._writer(options.rejects, "examples", columns, count=False)
                rejects = BufferedPairs(outputs.add(writer))
            if options.corpus_out:
                writer = self._writer(options.corpus_out, "texts", TEXTS, count=False)
                corpus = BufferedPairs(outputs.add(writer))
            with DiskTable.from_batches(READ, map(_known_columns, reader)) as table:
                ambiguous = self._ambiguous(table)
                for texts in self._sections(table):
                    kept, dropped = self._pairs(texts, ambiguous)
                    out.extend(kept)
                    if rejects is not None:
                        rejects.extend(dropped)
                    if corpus is not None:
                        corpus.extend(map(_searched, texts))
            for buffer in filter(None, (out, rejects, corpus)):
                buffer.flush()

    def _writer(
        self, path: str | None, name: str, columns: pa.Schema, *, count: bool = True
    ) -> Writer:
        return Writer(self.report, path, name, columns=columns, count=count, **self.provenance)

    def _read(self, table: DiskTable) -> Iterator[Read]:
        """All texts with their queries."""
        for batch in table:
            for row in batch.to_pylist():
                filled = {name: row[name] or "" for name in ("title", "source", "format")}
                text = TextRow(id=row["id"], text=row["text"], domain=row["domain"], **filled)
                yield text, queries_of(text, self.options)

    def _ambiguous(self, table: DiskTable) -> KeySet:
        owners = QueryOwners()
        answered: set[str] = set()
        with self.report.progress("comparing queries", len(table), "texts") as progress:
            for row, queries in self._read(table):
                for title in queries.titles:
                    owners.add(title, row.section)
                for _, query in queries.sentences:
                    owners.add(query, row.id)
                for query in self.written.of(row.id):
                    owners.add(query, row.id)
                    answered.add(row.id)
                progress.advance()
        self.written.tell_missing(answered)
        return owners.ambiguous()

    def _sections(self, table: DiskTable) -> Iterator[list[Read]]:
        """The texts that follow each other in one section."""
        with self.report.progress("writing", len(table), "texts") as progress:
            for _, section in itertools.groupby(self._read(table), key=_section_of):
                texts = [*section]
                yield texts
                progress.advance(len(texts))

    def _pairs(self, texts: list[Read], ambiguous: KeySet) -> tuple[list[Row], list[Row]]:
        """(pairs, dropped pairs with their reasons) of a section."""
        kept: list[Row] = []
        dropped: list[Row] = []
        answers: set[str] = set()
        pairs = (*_section_pairs(texts, ambiguous), *_text_pairs(texts), *self._written(texts))
        for row in pairs:
            reason = self._reason(row, ambiguous)
            answers.update(row["pos_ids"])
            if reason:
                dropped.append(_rejected(row, reason))
            else:
                kept.append(row)
        self._account(len(kept) + len(dropped) - len(answers))
        for read in texts:
            if read[0].id not in answers:
                dropped.append(_rejected(_row("", None, [read]), NO_QUERY))
        for row in dropped:
            self.report.drop(row[REASON.name])
        return kept, dropped

    def _written(self, texts: list[Read]) -> Iterator[Row]:
        """The queries that were written for each text."""
        for read in texts:
            for query in self.written.of(read[0].id):
                yield _row(query, WRITTEN, [read])

    def _account(self, surplus: int) -> None:
        """Queries of a section beyond one a text; below 0, texts that share the section's one."""
        self.report.add("further queries", max(surplus, 0))
        self.report.drop("in one pair with others of their section", max(-surplus, 0))

    def _reason(self, row: Row, ambiguous: KeySet) -> str:
        """Why a pair is dropped; "" where it is kept."""
        if len(row["query"].split()) < self.options.min_words:
            return SHORT
        if row["kind"] == WRITTEN:
            text = row["pos"][0]
            if not text.strip():
                return EMPTY
            if is_copied(row["query"], text):
                return COPIED
        return AMBIGUOUS if query_key(row["query"]) in ambiguous else ""


def _rejected(row: Row, reason: str) -> Row:
    row[REASON.name] = reason
    return row


def _section_of(read: Read) -> str:
    return read[0].section


def _searched(read: Read) -> Row:
    """A text as it is searched: without what became a query."""
    row, queries = read
    return {"id": row.id, "text": queries.positive, "domain": row.domain}


def _section_pairs(texts: list[Read], ambiguous: KeySet) -> Iterator[Row]:
    """The title of a section with its texts: the shortest form that says enough and that no other
    section has.
    """
    queries = texts[0][1]
    if not queries.titles:
        return
    answers = [read for read in texts if read[1].positive.strip()]
    if not answers:
        return
    query = queries.titles[-1]
    for title in queries.titles:
        is_telling = len(title.split()) >= TELLING_WORDS
        if is_telling and query_key(title) not in ambiguous:
            query = title
            break
    yield _row(query, queries.title_kind, answers[:MOST_POSITIVES])


def _text_pairs(texts: list[Read]) -> Iterator[Row]:
    """The queries of each text alone."""
    for row, queries in texts:
        for kind, query in queries.sentences:
            yield _row(query, kind, [(row, queries)])


def _row(query: str, kind: str | None, answers: list[Read]) -> Row:
    first = answers[0][0]
    return {
        "id": content_id(kind or "", query, first.id),
        "query": query,
        "pos": [queries.positive for _, queries in answers],
        "pos_ids": [row.id for row, _ in answers],
        "domain": first.domain,
        "kind": kind,
        "document": first.document,
    }


def _known_columns(batch: pa.RecordBatch) -> pa.RecordBatch:
    """The columns that count, nulls where the input has none."""
    columns = [schema.column(batch, name, pa.string()).cast(pa.string()) for name in READ.names]
    return pa.RecordBatch.from_arrays(columns, schema=READ)
