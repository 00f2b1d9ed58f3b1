"""A retrieval collection from a folder in BEIR's layout.

corpus.jsonl and queries.jsonl (or .jsonl.gz, .parquet), and qrels/SPLIT.tsv.
"""

from __future__ import annotations

import glob
import os

from fletching.errors import InputError
from fletching.io import Reader
from fletching.qrels import Grades, read_qrels
from fletching.report import Report
from fletching.titled_texts import titled_texts
from mteb_eval.data.collection import RetrievalCollection


def read_beir_folder(report: Report, name: str, folder: str, split: str) -> RetrievalCollection:
    """The judged queries of qrels/SPLIT.tsv and the whole corpus; title and text joined by a blank.

    Queries without a relevant document are left out. Raises InputError where a file is missing or
    damaged, or where the judgements name an unknown query or no relevant document.
    """
    grades = _read_judgements(folder, split)
    documents: dict[str, str] = {}
    for batch in Reader(report, [_only_file(folder, "corpus")], "texts", count=False):
        documents |= zip(batch["id"].to_pylist(), titled_texts(batch).to_pylist())
    queries: dict[str, str] = {}
    for batch in Reader(report, [_only_file(folder, "queries")], "texts"):
        for identity, text in zip(batch["id"].to_pylist(), batch["text"].to_pylist()):
            if identity in grades:
                queries[identity] = text
    missing = next((query for query in grades if query not in queries), None)
    if missing is not None:
        raise InputError(
            f"{folder}: qrels/{split}.tsv judges query {missing!r}, which queries.jsonl lacks",
            "use files of the same release",
        )
    relevant = {query: judged for query, judged in grades.items() if max(judged.values()) > 0}
    left_out = len(grades) - len(relevant)
    if left_out:
        report.note(f"{name}: {left_out:,} queries without a relevant document are left out")
    if not relevant:
        raise InputError(
            f"{folder}/qrels/{split}.tsv holds no positive judgement", "pass another --beir-split"
        )
    return RetrievalCollection(
        name=name,
        split=split,
        queries={query: queries[query] for query in relevant},
        documents=documents,
        relevant=relevant,
    )


def has_judgements(folder: str) -> bool:
    """Does the folder have BEIR's layout?"""
    return bool(_splits(folder))


def _splits(folder: str) -> list[str]:
    """The splits that the folder has judgements of."""
    paths = glob.glob(os.path.join(glob.escape(folder), "qrels", "*.tsv"))
    return sorted(os.path.basename(path).removesuffix(".tsv") for path in paths)


def _read_judgements(folder: str, split: str) -> Grades:
    path = os.path.join(folder, "qrels", f"{split}.tsv")
    if not os.path.exists(path):
        splits = "|".join(_splits(folder))
        fix = f"pass --beir-split {splits}" if splits else "a BEIR folder has qrels/test.tsv"
        raise InputError(f"{path} does not exist", fix)
    return read_qrels(path)


def _only_file(folder: str, stem: str) -> str:
    """The one file called `stem` with any extension. Raises InputError for none or several."""
    paths = sorted(glob.glob(os.path.join(glob.escape(folder), f"{stem}.*")))
    paths = [path for path in paths if not path.endswith(".md")]
    if len(paths) != 1:
        raise InputError(
            f"{folder} holds {len(paths)} files {stem}.*",
            f"a BEIR folder has one {stem}.jsonl, .jsonl.gz or .parquet",
        )
    return paths[0]
