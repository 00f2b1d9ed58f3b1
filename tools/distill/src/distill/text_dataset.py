"""The texts to learn on: read from texts or examples, each distinct one once, on disk in the run's folder.

In memory: about 150 bytes a distinct text, besides the pages that the system keeps of the file.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from fletching import schema
from fletching.digest import RowDigest
from fletching.errors import InputError
from fletching.io import Reader
from fletching.report import Report
from fletching.text import text_hash

COLUMNS = pa.schema(
    [
        pa.field("id", pa.string(), False),
        pa.field("role", pa.string(), False),  # query | document: whose prompt and length it gets
        pa.field("prompt", pa.string()),  # its own, in place of the role's
        pa.field("text", pa.string(), False),
        pa.field("row", pa.int64(), False),  # of the input, from 0
    ]
)


class Text(NamedTuple):
    id: str
    role: str
    prompt: str | None
    text: str
    row: int

    def prompted(self, prompts: dict[str, str]) -> str:
        return (prompts[self.role] if self.prompt is None else self.prompt) + self.text


@dataclass(frozen=True)
class Spooled:
    """What was written: the digest of the texts, and how many rows they were read from."""

    digest: str
    rows: int
    one_a_row: bool  # texts, not examples: row-aligned vectors can be joined


def query_texts() -> schema.Schema:
    """`texts` whose text may stand in a column `query`: the fourth format of RAG-Retrieval, without positives."""
    texts = schema.load("texts")
    more = {"text": ("query",), "prompt": ("instruction", "prompt_for_query")}
    fields = tuple(
        replace(field, aliases=(*field.aliases, *more.get(field.name, ())))
        for field in texts.fields
    )
    return replace(texts, fields=fields)


def open_reader(report: Report, inputs: tuple[str, ...], limit: int | None) -> Reader:
    return Reader(report, inputs, ["texts", "examples", query_texts()], limit=limit)


def spool(reader: Reader, path: str, report: Report) -> Spooled:
    """Write the distinct (role, prompt, text); blank and repeated texts are dropped, and counted."""
    digest, seen, rows = RowDigest(), set[bytes](), 0
    of_examples = reader.schema.name == "examples"
    role = "query" if reader.renamed.get("text") == "query" else "document"
    with pa.OSFile(path, "wb") as file, pa.ipc.new_file(file, COLUMNS) as writer:
        for batch in reader:
            kept = []
            texts = list(of_rows(batch, rows) if of_examples else as_they_are(batch, rows, role))
            report.add("positives and negatives", len(texts) - batch.num_rows)
            for text in texts:
                key = bytes.fromhex(text_hash(f"{text.role}\0{text.prompt}\0{text.text}"))
                reason = "blank" if not text.text.strip() else "repeated" if key in seen else ""
                if reason:
                    report.drop(reason)
                else:
                    seen.add(key)
                    kept.append(text._asdict())
            rows += batch.num_rows
            written = pa.RecordBatch.from_pylist(kept, schema=COLUMNS)
            digest.update(written)
            writer.write_batch(written)
    return Spooled(digest.hexdigest(), rows, not of_examples)


def as_they_are(batch: pa.RecordBatch, first: int, role: str) -> Iterator[Text]:
    columns = [
        schema.column(batch, name, pa.string()).to_pylist()
        for name in ("id", "title", "prompt", "text")
    ]
    for row, (name, title, prompt, text) in enumerate(zip(*columns), first):
        yield Text(name, role, prompt, f"{title} {text}" if title else text, row)


def of_rows(batch: pa.RecordBatch, first: int) -> Iterator[Text]:
    """The query, the positives and the negatives of each row; a document's id where it has one."""
    names = ("pos", "neg", "pos_ids", "neg_ids")
    lists = [schema.column(batch, name, pa.list_(pa.string())).to_pylist() for name in names]
    prompts = schema.column(batch, "prompt", pa.string()).to_pylist()
    for row, (name, query, prompt, pos, neg, pos_ids, neg_ids) in enumerate(
        zip(batch["id"].to_pylist(), batch["query"].to_pylist(), prompts, *lists), first
    ):
        yield Text(name, "query", prompt, query, row)
        for texts, ids in ((pos, pos_ids), (neg or [], neg_ids)):
            for text, own in zip(texts, ids or [None] * len(texts)):
                yield Text(own or "", "document", None, text, row)


class Texts:
    """Random access to spooled texts: texts[number] gives a `Text`."""

    def __init__(self, path: str) -> None:
        opened = pa.ipc.open_file(pa.memory_map(path))
        self.batches = [opened.get_batch(number) for number in range(opened.num_record_batches)]
        self.starts = np.cumsum([0] + [len(batch) for batch in self.batches]).tolist()
        if not len(self):
            raise InputError(
                "there is no text to learn on", "look at what the program before this one dropped"
            )

    def __len__(self) -> int:
        return self.starts[-1]

    def __getitem__(self, number: int) -> Text:
        part = bisect.bisect_right(self.starts, number) - 1
        place = number - self.starts[part]
        return Text(*(column[place].as_py() for column in self.batches[part].columns))

    def parts(self) -> Iterator[list[Text]]:
        """All texts in order, a few thousand at a time."""
        for batch in self.batches:
            yield [
                Text(*values) for values in zip(*(column.to_pylist() for column in batch.columns))
            ]
