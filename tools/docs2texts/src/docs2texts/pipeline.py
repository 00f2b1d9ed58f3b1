"""One run, from files to rows.

Boilerplate is known only after the last document: the blocks of all wait on disk, then each
document is cut into texts, and what repeats is dropped.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

from docs2texts.account import Account
from docs2texts.block_store import BlockStore
from docs2texts.blocks import Span, TextBlock
from docs2texts.chunking import TITLE_SEPARATOR, Chunk, Chunker
from docs2texts.files import ListedFile
from docs2texts.options import Options
from docs2texts.reading import ReadDocument, UnreadableDocumentError, read_document
from docs2texts.repeats import BoilerplateCounter, RepeatFilter, text_key
from docs2texts.tokens import token_counter
from fletching import schema
from fletching.io import AtomicOutputs, Writer
from fletching.report import Report
from fletching.table import KeySet
from fletching.text import content_id

SPAN = ("start", "end", "first_line", "last_line", "page")
OF_SOURCE = [pa.field("source", pa.string()), pa.field("format", pa.string())]
COLUMNS = schema.load("texts").arrow(
    ["id", "text", "title"], [*OF_SOURCE, *(pa.field(name, pa.int64()) for name in SPAN)]
)
REASON = pa.field("reject_reason", pa.string())
ROWS_AT_ONCE = 1024

Row = dict[str, Any]


class BufferedTexts:
    """Rows for a writer, in batches."""

    def __init__(self, writer: Writer) -> None:
        self.writer = writer
        self.rows: list[Row] = []

    def append(self, row: Row) -> None:
        """Add a row."""
        self.rows.append(row)
        if len(self.rows) >= ROWS_AT_ONCE:
            self.flush()

    def flush(self) -> None:
        """Write the rows that wait."""
        self.writer.write(pa.RecordBatch.from_pylist(self.rows, self.writer.columns))
        self.rows = []


class DocumentPipeline:
    """The documents of one command line as `texts`. provenance: keywords for the lineage."""

    def __init__(self, options: Options, report: Report, *, provenance: Mapping[str, Any]) -> None:
        self.options = options
        self.report = report
        self.provenance = provenance
        self.account = Account(report)
        self.ids: dict[str, int] = {}

    def write(self, files: Sequence[ListedFile]) -> None:
        """Write all outputs; they appear together or not at all."""
        options = self.options
        chunker = Chunker(
            token_counter(options.model),
            max_tokens=options.max_tokens,
            overlap=options.overlap,
        )
        with AtomicOutputs() as outputs, BlockStore() as store:
            self.out = BufferedTexts(self._writer(outputs, options.output, COLUMNS))
            self.rejects: BufferedTexts | None = None
            if options.rejects:
                columns = COLUMNS.append(REASON)
                writer = self._writer(outputs, options.rejects, columns, count=False)
                self.rejects = BufferedTexts(writer)
            boilerplate = self._read(files, store)
            self._write_texts(store, chunker, boilerplate)
            self.out.flush()
            if self.rejects is not None:
                self.rejects.flush()
            self.account.close()

    def _writer(
        self, outputs: AtomicOutputs, path: str | None, columns: pa.Schema, *, count: bool = True
    ) -> Writer:
        writer = Writer(self.report, path, "texts", columns=columns, count=count, **self.provenance)
        return outputs.add(writer)

    # --- reading ---

    def _read(self, files: Sequence[ListedFile], store: BlockStore) -> KeySet:
        """Store the blocks of all documents; the keys of those that are boilerplate."""
        counter = BoilerplateCounter(self.options.boilerplate)
        with self.report.progress("reading", len(files), "documents") as progress:
            for file in files:
                try:
                    document = read_document(file, self.options)
                except UnreadableDocumentError as error:
                    self._reject_document(file.source, str(error))
                else:
                    self._keep(document, store)
                    counter.add([block.text for block in document.blocks])
                progress.advance()
        return counter.common()

    def _keep(self, document: ReadDocument, store: BlockStore) -> None:
        store.append(document)
        account = self.account
        account.read += 1
        if document.encoding:
            account.encodings[document.encoding].append(document.source)
        if document.fallback:
            account.fallbacks.append(document.source)

    def _reject_document(self, source: str, reason: str) -> None:
        self.account.drop_document(source, reason)
        if self.rejects is not None:
            row = {"id": content_id(source), "text": "", "source": source}
            self.rejects.append({**row, REASON.name: reason})

    # --- writing ---

    def _write_texts(self, store: BlockStore, chunker: Chunker, boilerplate: KeySet) -> None:
        repeats = RepeatFilter(self.options.near_duplicates)
        with self.report.progress("cutting", len(store.names), "documents") as progress:
            for document in store.documents():
                kept = [*self._text_blocks(document, boilerplate)]
                for chunk in chunker.chunks(kept):
                    reason = repeats.reason(chunk.text)
                    if reason is None:
                        self.account.pieces += 1
                        self.out.append(self._row(document, chunk))
                    else:
                        self._reject(document, chunk, reason)
                progress.advance()

    def _text_blocks(self, document: ReadDocument, boilerplate: KeySet) -> Iterator[TextBlock]:
        """The blocks without navigation and boilerplate."""
        for block in document.blocks:
            if block.form == "navigation":
                self._reject(document, _as_chunk(block), "navigation")
            elif len(boilerplate) and text_key(block.text) in boilerplate:
                self._reject(document, _as_chunk(block), "boilerplate")
            else:
                yield block

    def _reject(self, document: ReadDocument, chunk: Chunk, reason: str) -> None:
        self.account.drop_text(reason)
        if self.rejects is not None:
            self.rejects.append({**self._row(document, chunk), REASON.name: reason})

    def _row(self, document: ReadDocument, chunk: Chunk) -> Row:
        span: Span = chunk.span
        row = {"text": chunk.text, "title": chunk.title or None}
        names = {"source": document.source, "format": document.format}
        return {"id": self._id(document.source, chunk), **row, **names, **vars(span)}

    def _id(self, source: str, chunk: Chunk) -> str:
        """Of source, title and text; a text that stands there twice gets its number too."""
        identity = content_id(source, chunk.title, chunk.text)
        number = self.ids.get(identity, 0)
        self.ids[identity] = number + 1
        return identity if not number else f"{identity}-{number + 1}"


def _as_chunk(block: TextBlock) -> Chunk:
    return Chunk(title=TITLE_SEPARATOR.join(block.headings), text=block.text, span=block.span)
