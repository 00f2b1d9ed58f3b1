"""Each text once, as rows of `texts`: the whole output of --mode texts, or --texts-out."""

from __future__ import annotations

import pyarrow as pa

from csv2pairs import templates
from csv2pairs.options import Options
from csv2pairs.pairing.content_ids import text_ids
from fletching import schema, text_keys
from fletching.io import Writer
from fletching.report import Report
from fletching.table import GrowingKeySet


def plain_columns() -> pa.Schema:
    """The columns of `texts` without domain and kept columns."""
    return schema.load("texts").arrow(["id", "text"])


class RowTexts:
    """--mode texts: one text for each row of the table."""

    def __init__(self, options: Options, report: Report) -> None:
        self.options = options
        self.report = report
        self.template = templates.parse(options.template) if options.template else None
        self.pos = [templates.parse(text, "--pos", column=True) for text in options.pos]
        self.texts_written = GrowingKeySet()
        self.columns = self._columns()

    def _columns(self) -> pa.Schema:
        names = ["id", "text"]
        if self.options.domain:
            names.append("domain")
        kept = [pa.field(name, pa.string()) for name in self.options.keep]
        return schema.load("texts").arrow(names, kept)

    def rows(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """The rows to write for a batch of table rows; what is dropped is counted."""
        texts = self._fill(batch)
        keys = text_keys.hash_texts(texts)
        is_empty = keys == text_keys.ABSENT
        is_first = self.texts_written.add_new(keys) & ~is_empty
        self.report.drop("empty", int(is_empty.sum()))
        self.report.drop("duplicate", int((~is_first & ~is_empty).sum()))
        kept = batch.filter(pa.array(is_first))
        texts = texts.filter(pa.array(is_first))
        return self._assemble(kept, texts)

    def _fill(self, batch: pa.RecordBatch) -> pa.StringArray:
        if self.template is not None:
            return self.template.fill(batch)
        return templates.fuse(self.pos, batch)

    def _assemble(self, batch: pa.RecordBatch, texts: pa.StringArray) -> pa.RecordBatch:
        options = self.options
        user_ids = batch[options.id] if options.id else None
        arrays = {"id": text_ids(texts, user_ids), "text": texts}
        if options.domain:
            arrays["domain"] = batch[options.domain]
        arrays |= {name: batch[name] for name in options.keep if name not in arrays}
        columns = [arrays[name] for name in self.columns.names]
        return pa.RecordBatch.from_arrays(columns, schema=self.columns)


class PairTexts:
    """--texts-out: every text of the pairs, or of --texts-template, once in each file."""

    def __init__(self, writer: Writer) -> None:
        self.writer = writer
        self.texts_written = GrowingKeySet()

    def write(
        self,
        query: pa.StringArray,
        positives: pa.StringArray,
        row_texts: pa.StringArray | None,
    ) -> None:
        """Write what is new: of the template where there is one, else queries and positives."""
        texts = row_texts if row_texts is not None else pa.concat_arrays([query, positives])
        keys = text_keys.hash_texts(texts)
        is_new = self.texts_written.add_new(keys) & (keys != text_keys.ABSENT)
        texts = texts.filter(pa.array(is_new))
        arrays = [text_ids(texts, None), texts]
        self.writer.write(pa.RecordBatch.from_arrays(arrays, schema=self.writer.columns))
