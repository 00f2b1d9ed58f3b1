"""The training rows as a data set: each row as one epoch sees it, its negatives sampled.

In memory: about 32 bytes a row, besides the pages of the file that the system keeps.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import xxhash

from contrast_train.losses.requirements import Row, scored_documents
from fletching import seeded_random
from fletching.errors import InputError
from fletching.table import BatchTable, DiskTable, RaggedArray
from fletching.text import normalise

Prompts = tuple[str | None, str | None]  # before queries, before documents; None: the model's
NO_PROMPTS: Prompts = (None, None)


@dataclass(frozen=True, kw_only=True)
class TrainingExample:
    """A row as one epoch sees it: its positives and hard negatives chosen.

    row: its number. ids: the id of a document by its text, where it has one. known_texts
    (keys of normalised texts), known_ids: all documents that any row of the data calls a
    positive of this query; none of them may be its negative. scores: of the documents of its
    list; None where the loss reads none. prompt, doc_prompt: before the query and before its
    documents; None: the model's.
    """

    row: int
    query: str
    prompt: str | None = None
    positives: tuple[str, ...] = ()
    negatives: tuple[str, ...] = ()
    ids: Mapping[str, str]
    known_texts: frozenset[int]
    known_ids: frozenset[str]
    scores: Mapping[str, float] | None = None
    doc_prompt: str | None = None


class KnownAnswers(NamedTuple):
    """All documents that the data call positives of a query, and the query itself."""

    texts: frozenset[int]  # keys of normalised texts
    ids: frozenset[str]


class NumberedBatch(NamedTuple):
    """Rows that can be trained, with their numbers (rows,)."""

    numbers: npt.NDArray[np.int64]
    rows: pa.RecordBatch


class TrainingDataset:
    """Random access to rows in the columns of `examples_table`, and to the known answers of
    each query among them.

    dataset[epoch, row] is a `TrainingExample`; what it samples depends on (seed, epoch, id of
    the row) alone. with_scores: give the scores of each row's own documents too.
    min_pos_score: positives scored below it by anything but a cosine are none. task_prompts:
    by task.
    """

    def __init__(
        self,
        table: BatchTable,
        *,
        seed: int = 0,
        negatives: int | None = None,
        all_positives: bool = False,
        with_scores: bool = False,
        min_pos_score: float | None = None,
        task_prompts: Mapping[str, Prompts] | None = None,
    ) -> None:
        self.table = table
        self.seed = seed
        self.negatives = negatives
        self.all_positives = all_positives
        self.with_scores = with_scores
        self.min_pos_score = min_pos_score
        self.task_prompts = task_prompts or {}
        keys = np.fromiter(map(text_key, self.column("query")), np.uint64, len(self))
        self.query_keys, self.query_of_row = np.unique(keys, return_inverse=True)
        self.rows_of_query = RaggedArray.from_pairs(
            self.query_of_row, np.arange(len(self)), len(self.query_keys)
        )
        self.known_answers = functools.lru_cache(4096)(self._known_answers)

    @classmethod
    def open(cls, path: str, **sampling: Any) -> TrainingDataset:  # noqa: ANN401
        """The rows that `examples_table.write` wrote. Raises InputError without a row."""
        table = DiskTable.open(path)
        if not len(table):
            raise InputError(
                "there is no row to train on", "look at what the program before this one dropped"
            )
        return cls(table, **sampling)

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, key: tuple[int, int]) -> TrainingExample:
        epoch, number = key
        row = self.row(number)
        known = self.known_answers(int(self.query_of_row[number]))
        ids = document_ids(row)
        query_prompt, doc_prompt = self.prompts_of(row)
        negatives = self._sample_negatives(epoch, row, known)
        return TrainingExample(
            row=number,
            query=row["query"],
            prompt=query_prompt,
            positives=self._sample_positives(epoch, row),
            negatives=negatives,
            ids={text: name for text, name in ids.items() if name is not None},
            known_texts=known.texts,
            known_ids=known.ids,
            scores=self._scores(row, negatives),
            doc_prompt=doc_prompt,
        )

    def examples(self, keys: Sequence[tuple[int, int]]) -> list[TrainingExample]:
        """The rows of a batch."""
        return [self[key] for key in keys]

    __getitems__ = examples  # what a DataLoader calls

    def prompts_of(self, row: Row) -> Prompts:
        """Before the query of a row and before its documents: its own, else its task's."""
        query_prompt, doc_prompt = self.task_prompts.get(row["task"], NO_PROMPTS)
        return query_prompt if row["prompt"] is None else row["prompt"], doc_prompt

    def row(self, number: int) -> dict[str, Any]:
        """One row as it was read."""
        return self.table.row(number)

    def row_ids(self, numbers: list[int]) -> list[str]:
        """What the user calls these rows."""
        return [self.row(number)["id"] for number in numbers]

    def sample(self, count: int) -> list[TrainingExample]:
        """At most so many rows of the first epoch, at equal distances."""
        numbers = np.linspace(0, len(self) - 1, min(count, len(self))).astype(int)
        return [self[0, number] for number in numbers.tolist()]

    @property
    def trainable_rows(self) -> int:
        """All of them."""
        return len(self)

    def numbered_batches(self, _: npt.NDArray[np.bool_]) -> Iterator[NumberedBatch]:
        """All rows with their numbers, in their order."""
        for start, batch in zip(self.table.offsets, self.table.batches):
            yield NumberedBatch(np.arange(start, start + len(batch)), batch)

    def column(self, name: str) -> Iterator[Any]:
        """One column, row by row."""
        for batch in self.table.batches:
            yield from batch[name].to_pylist()

    def _sample_positives(self, epoch: int, row: Row) -> tuple[str, ...]:
        """All distinct positives in random order, or the first of them."""
        kept = set(positives_of(row, self.min_pos_score))
        order = seeded_random.permuted(self.seed, f"{epoch} pos {row['id']}", len(row["pos"]))
        shuffled = (row["pos"][position] for position in order)
        distinct = tuple(dict.fromkeys(text for text in shuffled if text in kept))
        return distinct if self.all_positives else distinct[:1]

    def _sample_negatives(self, epoch: int, row: Row, known: KnownAnswers) -> tuple[str, ...]:
        """At most `negatives` distinct hard negatives, none of them known to answer the
        query.
        """
        pool = row["neg"] or []
        limit = len(pool) if self.negatives is None else self.negatives
        ids = document_ids(row)
        chosen: dict[int, str] = {}
        for position in seeded_random.permuted(self.seed, f"{epoch} neg {row['id']}", len(pool)):
            if len(chosen) == limit:
                break
            text = pool[position]
            key = text_key(text)
            is_answer = key in known.texts or ids[text] in known.ids
            if text.strip() and not is_answer:
                chosen.setdefault(key, text)
        return tuple(chosen.values())

    def _scores(self, row: Row, negatives: tuple[str, ...]) -> dict[str, float] | None:
        """The scores of the row's positives and of the negatives that were sampled."""
        if not self.with_scores:
            return None
        listed = {*negatives, *row["pos"]}
        scores = scored_documents(row)
        return {text: score for text, score in scores.items() if text in listed}

    def _known_answers(self, query: int) -> KnownAnswers:
        texts = {int(self.query_keys[query])}
        ids: set[str] = set()
        for number in self.rows_of_query[query].tolist():
            row = self.row(number)
            kept = set(positives_of(row, self.min_pos_score))
            for text, name in zip(row["pos"], row["pos_ids"] or [None] * len(row["pos"])):
                if text in kept:
                    texts.add(text_key(text))
                    if name:
                        ids.add(name)
        return KnownAnswers(frozenset(texts), frozenset(ids))

    def repeated_queries(self) -> int:
        """How many rows have a query that an earlier row has."""
        return len(self) - len(self.query_keys)

    def prompts(self) -> Counter[tuple[str, str | None]]:
        """The number of rows by (task, prompt)."""
        tasks = (name or "" for name in self.column("task"))
        return Counter(zip(tasks, self.column("prompt")))


def positives_of(row: Row, min_pos_score: float | None) -> list[str]:
    """The texts of a row that answer its query: not blank, and not scored below the minimum."""
    texts = [text for text in row["pos"] if text.strip()]
    scores = row["pos_scores"]
    if min_pos_score is None or row["pos_score_kind"] == "cosine" or scores is None:
        return texts
    return [
        text for text, score in zip(row["pos"], scores) if text.strip() and score >= min_pos_score
    ]


def document_ids(row: Row) -> dict[str, str | None]:
    """The id of each positive and negative by its text."""
    ids: dict[str, str | None] = {}
    for role in ("pos", "neg"):
        texts = row[role] or []
        ids.update(zip(texts, row[f"{role}_ids"] or [None] * len(texts)))
    return ids


def text_key(text: str) -> int:
    """A 64-bit key, the same for texts that are equal after normalisation."""
    return xxhash.xxh3_64_intdigest(normalise(text).encode())
