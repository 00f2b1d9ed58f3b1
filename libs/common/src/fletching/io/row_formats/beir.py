"""BEIR folders: corpus.jsonl, queries.jsonl and qrels/SPLIT.tsv.

As `examples`: a row for each judged query, positives and (grade 0) negatives with title and id.
As `texts`: the corpus. The split is train where there is one; `DIR/qrels/dev.tsv` names another.
"""

from __future__ import annotations

import glob
import os

from fletching.io.formats import COMPRESSED
from fletching.io.opening import open_rows
from fletching.io.row_formats.collection_files import write_collection
from fletching.io.row_formats.judged_rows import JudgedCollection, JudgedRows, choose_split
from fletching.io.row_formats.row_format import Batches, RowFormat, WriteAccount, register
from fletching.io.sources import Source
from fletching.protocols import RowSource
from fletching.qrels import read_qrels
from fletching.schema import Schema

EXTENSIONS = (".jsonl", *(f".jsonl{extension}" for extension in COMPRESSED), ".parquet")


def part_of(folder: str, name: str) -> str:
    """The file or folder of a collection that holds `name`; "" where there is none."""
    paths = [os.path.join(folder, name + extension) for extension in (*EXTENSIONS, "")]
    return next((path for path in paths if os.path.exists(path)), "")


class BeirFolder:
    """A folder in BEIR's layout, or one of its files of judgements."""

    def matches(self, path: str) -> bool:
        """Are there corpus, queries and qrels/*.tsv?"""
        folder, judgements = _parts(path)
        return bool(judgements and part_of(folder, "corpus") and part_of(folder, "queries"))

    def open(self, path: str, schema: Schema) -> RowSource:
        """The judged queries of a split, or the corpus. Raises InputError."""
        folder, judgements = _parts(path)
        corpus = part_of(folder, "corpus")
        if schema.name != "examples":
            return open_rows(Source(corpus, corpus), schema)
        files = {_split(file): file for file in judgements}
        fix = f"name the judgements: {os.path.join(folder, 'qrels', 'SPLIT.tsv')}"
        split = choose_split(path, sorted(files), fix)
        collection = JudgedCollection(
            where=path,
            corpus=corpus,
            queries=part_of(folder, "queries"),
            grades=read_qrels(files[split]),
            judged_by=f"positives of qrels/{split}.tsv; grade 0 is a negative",
        )
        return JudgedRows(collection)


def _parts(path: str) -> tuple[str, list[str]]:
    """(the folder of the collection, its files of judgements, or the one that the path names)."""
    if os.path.isdir(path):
        return path, sorted(glob.glob(os.path.join(glob.escape(path), "qrels", "*.tsv")))
    qrels, name = os.path.split(path)
    is_judgements = os.path.basename(qrels) == "qrels" and name.endswith(".tsv")
    return os.path.dirname(qrels) or ".", [path] if is_judgements else []


def _split(path: str) -> str:
    return os.path.basename(path).removesuffix(".tsv")


def _from_examples(batches: Batches, path: str) -> WriteAccount:
    return write_collection(batches, path, "qrels/train.tsv")


register(
    RowFormat(
        name="beir",
        summary="BEIR folder",
        columns="corpus.jsonl {_id, title, text}, queries.jsonl {_id, text}, qrels/train.tsv",
        becomes="a row for each query: documents judged above 0 as `pos`, those judged 0 as `neg`",
        folder=BeirFolder(),
        from_examples=_from_examples,
    )
)
