"""The guard: data on which a tuned model should still be what its base is.

`examples` are a task like any other. Of `texts`, such as the training corpus, a sample is taken
whose nearest neighbours by the baseline are the truth (`mteb_eval.neighbours`).
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass

import xxhash

from fletching.errors import InputError
from fletching.io import Reader
from fletching.report import Report
from fletching.text import content_id
from fletching.titled_texts import titled_texts
from mteb_eval.data.examples_collection import read_examples
from mteb_eval.data.local_tasks import LocalRetrieval
from mteb_eval.options import Options

GUARD = "guard"  # the name of the task
NEIGHBOURS = 10
METRICS = ("ndcg_at_10", "recall_at_10", "recall_at_100")  # of neighbours: order, overlap, nearby
UINT64 = 0xFFFF_FFFF_FFFF_FFFF


@dataclass(frozen=True)
class GuardTexts:
    """Distinct texts by id, sorted by id."""

    texts: dict[str, str]


def load_guard(options: Options, report: Report) -> LocalRetrieval | GuardTexts | None:
    """What --guard names: a task of `examples`, or a sample of `texts`; None without it.

    Raises InputError where a file of texts holds too few different ones.
    """
    if options.guard is None:
        return None
    reader = Reader(report, [options.guard], ["examples", "texts"], count=False)
    if reader.schema.name == "examples":
        return LocalRetrieval(read_examples(report, GUARD, [options.guard]))
    sample = sample_texts(reader, size=options.guard_texts, seed=options.seed)
    if len(sample.texts) <= NEIGHBOURS:
        raise InputError(
            f"--guard {options.guard} holds {len(sample.texts)} different texts, "
            f"too few for {NEIGHBOURS} neighbours",
            f"name a file of more than {NEIGHBOURS} texts; --guard-texts samples at least as many",
        )
    return GuardTexts(sample.texts)


def sample_texts(reader: Reader, *, size: int, seed: int) -> GuardTexts:
    """The `size` distinct texts of the lowest hashes: whatever the order of the rows."""
    heap: list[tuple[int, str]] = []  # the highest hash first, by its sign
    members: set[str] = set()
    for batch in reader:
        for text in titled_texts(batch).to_pylist():
            rank = -xxhash.xxh3_64_intdigest(text.encode(), seed=seed & UINT64)
            if text in members or not text.strip():
                continue
            if len(heap) < size:
                heapq.heappush(heap, (rank, text))
                members.add(text)
            elif (rank, text) > heap[0]:
                _, last = heapq.heappushpop(heap, (rank, text))
                members.add(text)
                members.remove(last)
    return GuardTexts(dict(sorted((content_id(text), text) for text in members)))
