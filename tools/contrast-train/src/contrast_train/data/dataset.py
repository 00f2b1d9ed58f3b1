"""The training rows on disk: spooled once, memory-mapped, read in any order.

A row of `texts` becomes one of `examples` with the text as its query and no positive.
In memory: about 40 bytes a row, besides the pages that the system keeps of the file.
"""

from __future__ import annotations

import bisect
import functools
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import xxhash

from contrast_train.losses.requirements import NOTHING, Census, Needs, scored
from fletching import schema, seeded_random
from fletching.digest import RowDigest
from fletching.errors import InputError
from fletching.report import Report
from fletching.text import normalise

SCORES = ("pos_scores", "neg_scores", "pos_score_kind", "neg_score_kind")
NAMES = ("id", "query", "pos", "neg", "pos_ids", "neg_ids", *SCORES, "prompt", "task")
COLUMNS = pa.schema(
    [
        pa.field(name, each.arrow, each.nullable)
        for name in NAMES
        if (each := schema.load("examples").field(name))
    ]
)


@dataclass(frozen=True)
class Drawn:
    """A row as one epoch sees it: its positives and hard negatives chosen.

    known_texts (hashes of normalised texts) and known_ids: all documents that any row of the data set
    calls a positive of this query; none of them may be a negative of it.
    """

    row: int
    query: str
    prompt: str | None
    positives: tuple[str, ...]
    negatives: tuple[str, ...]
    ids: dict[str, str]  # document text: its id, where there is one
    known_texts: frozenset[int]
    known_ids: frozenset[str]
    scores: dict[str, float] = field(
        default_factory=dict
    )  # the scored documents of its list: their scores
    doc_prompt: str | None = None  # of its documents; None: the model's


def spool(
    batches: Iterable[pa.RecordBatch],
    path: str,
    report: Report,
    needs: Needs = NOTHING,
    template: str | None = None,
) -> tuple[str, Census]:
    """Write the columns that training needs to an Arrow file; gives the digest of the rows, and what they carry.

    Rows that cannot be trained (blank query, no positive that is not blank, not what the loss `needs`) are
    dropped, and counted. template: what a row's prompt is put into, e.g. "Instruct: {}\\nQuery: ".
    """
    digest, census = RowDigest(), Census()
    with pa.OSFile(path, "wb") as file, pa.ipc.new_file(file, COLUMNS) as writer:
        for batch in batches:
            batch = _filled(_as_examples(batch), template)
            keep = []
            for row in batch.to_pylist():
                reason = needs.lack(row)
                report.drop(reason, 1 if reason else 0)
                keep.append(not reason)
                if not reason:
                    census.count(row)
            batch = batch.filter(pa.array(keep, pa.bool_()))
            digest.update(batch)
            writer.write_batch(batch)
    return digest.hexdigest(), census


def _as_examples(batch: pa.RecordBatch) -> pa.RecordBatch:
    if "query" in batch.schema.names:
        return pa.RecordBatch.from_arrays(
            [schema.column(batch, each.name, each.type) for each in COLUMNS], schema=COLUMNS
        )
    titles = schema.column(batch, "title", pa.string()).to_pylist()
    texts = [
        f"{title} {text}" if title else text
        for title, text in zip(titles, batch["text"].to_pylist())
    ]
    columns = {
        "id": batch["id"],
        "query": pa.array(texts, pa.string()),
        "prompt": schema.column(batch, "prompt", pa.string()),
    }
    columns["pos"] = pa.array([[]] * len(texts), pa.list_(pa.string()))
    return pa.RecordBatch.from_arrays(
        [
            columns[each.name] if each.name in columns else pa.nulls(len(texts), each.type)
            for each in COLUMNS
        ],
        schema=COLUMNS,
    )


def _filled(batch: pa.RecordBatch, template: str | None) -> pa.RecordBatch:
    if template is None:
        return batch
    prompts = [
        prompt if prompt is None else template.replace("{}", prompt)
        for prompt in batch["prompt"].to_pylist()
    ]
    return batch.set_column(
        NAMES.index("prompt"), COLUMNS.field("prompt"), pa.array(prompts, pa.string())
    )


class Rows:
    """Random access to spooled rows, and to what is known of each query.

    rows[epoch, number] gives a `Drawn`; the choice depends on (seed, epoch, id of the row) alone.
    lists: give the scores of each row's own documents too. min_score: a positive scored below it by
    anything but a cosine is none. prompts: query and document prompt of each task that has them.
    """

    def __init__(
        self,
        path: str,
        *,
        seed: int = 0,
        negatives: int | None = None,
        all_positives: bool = False,
        lists: bool = False,
        min_score: float | None = None,
        prompts: dict[str, tuple[str | None, str | None]] | None = None,
    ) -> None:
        self.file = pa.memory_map(path)
        opened = pa.ipc.open_file(self.file)
        self.batches = [opened.get_batch(number) for number in range(opened.num_record_batches)]
        self.starts = np.cumsum([0] + [len(batch) for batch in self.batches]).tolist()
        self.seed, self.negatives, self.all_positives = seed, negatives, all_positives
        self.lists, self.min_score, self.of_task = lists, min_score, prompts or {}
        hashes = [text_key(query) for batch in self.batches for query in batch["query"].to_pylist()]
        self.query_hash = np.array(hashes, np.uint64)
        self.by_query = np.argsort(self.query_hash, kind="stable")
        self.sorted_hash = self.query_hash[self.by_query]
        self.known = functools.lru_cache(4096)(self._known)

    def __len__(self) -> int:
        return self.starts[-1]

    def column(self, name: str) -> Iterator[Any]:
        for batch in self.batches:
            yield from batch[name].to_pylist()

    def raw(self, number: int) -> dict[str, Any]:
        part = bisect.bisect_right(self.starts, number) - 1
        batch = self.batches[part]
        place = number - self.starts[part]
        return {name: column[place].as_py() for name, column in zip(NAMES, batch.columns)}

    def __getitem__(self, key: tuple[int, int]) -> Drawn:
        epoch, number = key
        row = self.raw(number)
        texts, ids = self.known(int(self.query_hash[number]))
        order = [
            row["pos"][i]
            for i in seeded_random.permuted(self.seed, f"{epoch} pos {row['id']}", len(row["pos"]))
        ]
        true = set(positives_of(row, self.min_score))
        positives = list(dict.fromkeys(text for text in order if text in true))
        named = dict(
            zip(
                row["pos"] + (row["neg"] or []),
                (row["pos_ids"] or [None] * len(row["pos"]))
                + (row["neg_ids"] or [None] * len(row["neg"] or [])),
            )
        )
        negatives = self._negatives(epoch, row, named, texts, ids)
        scores = scored(row) if self.lists else {}
        query_prompt, doc_prompt = self.of_task.get(row["task"], (None, None))
        return Drawn(
            number,
            row["query"],
            query_prompt if row["prompt"] is None else row["prompt"],
            tuple(positives if self.all_positives else positives[:1]),
            negatives,
            {text: name for text, name in named.items() if name is not None},
            texts,
            ids,
            {
                text: score
                for text, score in scores.items()
                if text in negatives or text in row["pos"]
            },
            doc_prompt,
        )

    def _negatives(
        self,
        epoch: int,
        row: dict[str, Any],
        named: dict[str, str | None],
        texts: frozenset[int],
        ids: frozenset[str],
    ) -> tuple[str, ...]:
        """At most `negatives` distinct hard negatives, none of them known to answer the query."""
        pool = row["neg"] or []
        wanted = len(pool) if self.negatives is None else self.negatives
        chosen: dict[int, str] = {}
        for place in seeded_random.permuted(self.seed, f"{epoch} neg {row['id']}", len(pool)):
            if len(chosen) == wanted:
                break
            text = pool[place]
            key = text_key(text)
            if text.strip() and key not in texts and named[text] not in ids:
                chosen.setdefault(key, text)
        return tuple(chosen.values())

    def _known(self, query: int) -> tuple[frozenset[int], frozenset[str]]:
        """All positives of a query in the whole data set, as text hashes and as ids."""
        low, high = (
            np.searchsorted(self.sorted_hash, np.uint64(query), side) for side in ("left", "right")
        )
        found = [self.raw(int(number)) for number in self.by_query[low:high]]
        true = [
            (text, row["pos_ids"] and row["pos_ids"][place])
            for row in found
            for text, place in self._true(row)
        ]
        return frozenset(text_key(text) for text, _ in true) | {query}, frozenset(
            name for _, name in true if name
        )

    def _true(self, row: dict[str, Any]) -> Iterator[tuple[str, int]]:
        kept = set(positives_of(row, self.min_score))
        yield from ((text, place) for place, text in enumerate(row["pos"]) if text in kept)

    def repeated_queries(self) -> int:
        return len(self) - len(np.unique(self.sorted_hash))

    def prompts(self) -> Counter[tuple[str, str | None]]:
        """How many rows have which (task, prompt)."""
        return Counter(zip((name or "" for name in self.column("task")), self.column("prompt")))


def positives_of(row: dict[str, Any], min_score: float | None) -> list[str]:
    """The texts of a row that answer its query: not blank, and not scored below `min_score`."""
    scores = (
        row["pos_scores"] if min_score is not None and row["pos_score_kind"] != "cosine" else None
    )
    return [
        text
        for place, text in enumerate(row["pos"])
        if text.strip() and (scores is None or scores[place] >= min_score)
    ]


def text_key(text: str) -> int:
    """Equal for texts that count as equal."""
    return xxhash.xxh3_64_intdigest(normalise(text).encode())


def open_rows(path: str, **draws: Any) -> Rows:
    rows = Rows(path, **draws)
    if not len(rows):
        raise InputError(
            "there is no row to train on", "look at what the program before this one dropped"
        )
    return rows


def remove(path: str) -> None:
    if os.path.exists(path):
        os.unlink(path)
