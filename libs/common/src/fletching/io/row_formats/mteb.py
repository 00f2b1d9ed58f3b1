"""MTEB retrieval sets in a local folder: corpus, queries and judgements as JSON lines or Parquet.

Each of `corpus` and `queries` is a file or a folder of files; the judgements (`query-id`,
`corpus-id`, `score`) lie in `qrels/`, `default/` or `data/`, one file or more for each split.
"""

from __future__ import annotations

import os

from fletching.errors import InputError
from fletching.io.formats import input_extensions, without_compression
from fletching.io.opening import open_rows
from fletching.io.row_formats.beir import BeirFolder, part_of
from fletching.io.row_formats.collection_files import COLUMNS, write_collection
from fletching.io.row_formats.judged_rows import JudgedCollection, JudgedRows, choose_split
from fletching.io.row_formats.row_format import Batches, RowFormat, WriteAccount, register
from fletching.io.sources import Source, resolve
from fletching.protocols import RowSource
from fletching.qrels import Grades
from fletching.schema import Schema

JUDGEMENTS = ("qrels", "default", "data")
ANY_COLUMNS = Schema("judgements", "1.0", "", fields=())


class MtebFolder:
    """A folder as the mteb library publishes retrieval sets."""

    def matches(self, path: str) -> bool:
        """Are there corpus, queries and a folder of judgements, and is it no BEIR folder?"""
        if not os.path.isdir(path) or BeirFolder().matches(path):
            return False
        parts = (part_of(path, "corpus"), part_of(path, "queries"))
        return all(parts) and bool(_judgement_files(path))

    def open(self, path: str, schema: Schema) -> RowSource:
        """The judged queries of a split, or the corpus. Raises InputError."""
        corpus = part_of(path, "corpus")
        if schema.name != "examples":
            first = resolve([corpus])[0] if os.path.isdir(corpus) else Source(corpus, corpus)
            return open_rows(first, schema)
        files = _judgement_files(path)
        splits = sorted({_split(file) for file in files})
        split = choose_split(path, splits, "keep the judgements of one split in the folder")
        grades: Grades = {}
        for file in files:
            if _split(file) == split:
                _read_judgements(file, grades)
        collection = JudgedCollection(
            where=path,
            corpus=corpus,
            queries=part_of(path, "queries"),
            grades=grades,
            judged_by=f"positives of the split {split}; grade 0 is a negative",
        )
        return JudgedRows(collection)


def _judgement_files(folder: str) -> list[str]:
    for name in JUDGEMENTS:
        path = os.path.join(folder, name)
        if os.path.isdir(path):
            entries = sorted(os.listdir(path))
            data = [entry for entry in entries if _is_data(entry)]
            if data:
                return [os.path.join(path, entry) for entry in data]
    return []


def _is_data(name: str) -> bool:
    return without_compression(name).endswith(input_extensions())


def _split(path: str) -> str:
    """`test` of test.jsonl and of test-00000-of-00001.parquet."""
    return os.path.basename(path).split(".")[0].split("-")[0]


def _read_judgements(path: str, grades: Grades) -> None:
    opened = open_rows(Source(path, path), ANY_COLUMNS)
    missing = [name for name in COLUMNS if name not in opened.schema.names]
    if missing:
        what = f"{path} has no column `{missing[0]}`, which judgements need"
        raise InputError(what, "give query-id, corpus-id and score")
    for _, batch in opened.batches():
        columns = [batch.column(name).to_pylist() for name in COLUMNS]
        for query, document, grade in zip(*columns):
            grades.setdefault(str(query), {})[str(document)] = int(grade)


def _from_examples(batches: Batches, path: str) -> WriteAccount:
    return write_collection(batches, path, "qrels/train.jsonl")


register(
    RowFormat(
        name="mteb",
        summary="MTEB retrieval folder",
        columns="corpus, queries {id, text}; qrels {query-id, corpus-id, score}",
        becomes="a row for each query: documents judged above 0 as `pos`, those judged 0 as `neg`",
        folder=MtebFolder(),
        from_examples=_from_examples,
    )
)
