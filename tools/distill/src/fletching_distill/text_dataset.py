"""The texts to learn from: each distinct one of the input once, on disk in the run's folder.

In memory: about 150 bytes a distinct text, besides the pages that the system keeps of the file.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

from fletching import schema
from fletching.digest import RowDigest
from fletching.errors import InputError
from fletching.io import Reader
from fletching.prompts import QueryPrompts
from fletching.protocols import Role
from fletching.report import Report
from fletching.table import DiskTable
from fletching.text import text_hash
from fletching.titled_texts import titled_texts

COLUMNS = pa.schema(
    [
        pa.field("id", pa.string(), False),
        pa.field("role", pa.string(), False),
        pa.field("prompt", pa.string()),
        pa.field("text", pa.string(), False),
        pa.field("row", pa.int64(), False),
    ]
)
QUERY_ALIASES = {"text": ("query",), "prompt": ("instruction", "prompt_for_query")}


@dataclass(kw_only=True, slots=True)
class StudentText:
    """One text of the input.

    role: decides whose prompt and length it gets. prompt: in place of the role's.
    row: of the input, from 0.
    """

    id: str
    role: Role
    prompt: str | None
    text: str
    row: int

    def prompted(self, prompts: Mapping[str, str]) -> str:
        """The text after its prompt, or after that of its role."""
        prompt = prompts[self.role] if self.prompt is None else self.prompt
        return prompt + self.text


@dataclass(frozen=True)
class DatasetSummary:
    """What was written: the digest of the texts, and the number of rows that were read.

    is_row_aligned: were these `texts` rather than examples, so that row i of an array is row i?
    """

    digest: str
    rows: int
    is_row_aligned: bool


class TextDataset:
    """Random access to the texts that `write_distinct_texts` wrote: dataset[number].

    Raises InputError where there is none.
    """

    def __init__(self, path: str) -> None:
        self.table = DiskTable.open(path)
        if not len(self):
            raise InputError(
                "there is no text to learn on", "look at what the program before this one dropped"
            )

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, number: int) -> StudentText:
        return StudentText(**self.table.row(number))

    def parts(self) -> Iterator[list[StudentText]]:
        """All texts in order, a few thousand at a time."""
        for batch in self.table:
            yield [StudentText(**row) for row in batch.to_pylist()]


def open_reader(report: Report, inputs: Sequence[str], limit: int | None) -> Reader:
    """The input as texts, examples, or texts in a column `query`."""
    return Reader(report, inputs, ["texts", "examples", query_texts()], limit=limit)


def query_texts() -> schema.Schema:
    """`texts` whose text may be in a column `query`: RAG-Retrieval's format for distillation."""
    texts = schema.load("texts")
    fields = tuple(
        dataclasses.replace(field, aliases=(*field.aliases, *QUERY_ALIASES.get(field.name, ())))
        for field in texts.fields
    )
    return dataclasses.replace(texts, fields=fields)


def write_distinct_texts(
    reader: Reader, path: str, report: Report, *, prompt_template: str | None = None
) -> DatasetSummary:
    """Write each distinct (role, prompt, text) once.

    Blank and repeated texts are dropped and counted. prompt_template: completes the prompts of
    queries.
    """
    prompts = QueryPrompts(prompt_template, report)
    digest, rows = RowDigest(), 0
    seen: set[bytes] = set()
    is_examples = reader.schema.name == "examples"
    role: Role = "query" if reader.renamed.get("text") == "query" else "document"
    with DiskTable(COLUMNS, path) as table:
        for batch in reader:
            texts = list(
                texts_of_examples(batch, rows)
                if is_examples
                else texts_of_documents(batch, rows, role)
            )
            texts = _with_complete_prompts(texts, prompts)
            report.add("positives and negatives", len(texts) - batch.num_rows)
            kept = [text for text in texts if _keeps(text, seen, report)]
            rows += batch.num_rows
            columns = pa.RecordBatch.from_pylist(
                [dataclasses.asdict(text) for text in kept], schema=COLUMNS
            )
            digest.update(columns)
            table.append(columns)
        table.finish()
    return DatasetSummary(digest.hexdigest(), rows, is_row_aligned=not is_examples)


def _with_complete_prompts(texts: list[StudentText], prompts: QueryPrompts) -> list[StudentText]:
    """The texts; the prompts of queries as encoders take them."""
    queries = [number for number, text in enumerate(texts) if text.role == "query"]
    completed = prompts.complete([texts[number].prompt for number in queries])
    for number, prompt in zip(queries, completed):
        if prompt != texts[number].prompt:
            texts[number] = dataclasses.replace(texts[number], prompt=prompt)
    return texts


def _keeps(text: StudentText, seen: set[bytes], report: Report) -> bool:
    """Is it neither blank nor repeated? Enters it in `seen`, or its drop in the report."""
    if not text.text.strip():
        report.drop("blank")
        return False
    key = bytes.fromhex(text_hash(f"{text.role}\0{text.prompt}\0{text.text}"))
    if key in seen:
        report.drop("repeated")
        return False
    seen.add(key)
    return True


def texts_of_documents(batch: pa.RecordBatch, first_row: int, role: Role) -> Iterator[StudentText]:
    """The texts of `texts`, each after its title, where it has one."""
    ids, prompts = (
        schema.column(batch, name, pa.string()).to_pylist() for name in ("id", "prompt")
    )
    texts = titled_texts(batch).to_pylist()
    for row, (text_id, prompt, text) in enumerate(zip(ids, prompts, texts), first_row):
        yield StudentText(id=text_id, role=role, prompt=prompt, text=text, row=row)


def texts_of_examples(batch: pa.RecordBatch, first_row: int) -> Iterator[StudentText]:
    """The query, the positives and the negatives of each row."""
    texts = batch.select(["id", "query", "pos"]).to_pylist()
    prompts = schema.column(batch, "prompt", pa.string()).to_pylist()
    negatives, positive_ids, negative_ids = (
        schema.column(batch, name, pa.list_(pa.string())).to_pylist()
        for name in ("neg", "pos_ids", "neg_ids")
    )
    for number, example in enumerate(texts):
        row = first_row + number
        yield StudentText(
            id=example["id"],
            role="query",
            prompt=prompts[number],
            text=example["query"],
            row=row,
        )
        yield from _documents(example["pos"], positive_ids[number], row)
        yield from _documents(negatives[number] or [], negative_ids[number], row)


def _documents(texts: list[str], ids: list[str] | None, row: int) -> Iterator[StudentText]:
    """Documents of a row, with their ids where they have any."""
    for text, text_id in zip(texts, ids or [""] * len(texts)):
        yield StudentText(id=text_id or "", role="document", prompt=None, text=text, row=row)
