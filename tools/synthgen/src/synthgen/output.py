"""From outcomes to batches of rows: the checks' verdicts counted, duplicates out, rejects kept with their raw text."""

from __future__ import annotations

import collections
import itertools
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import xxhash

from fletching import schema as contract
from fletching.report import Report
from fletching.text import normalise
from synthgen.llm.client import Outcome
from synthgen.llm.response_parsing import Unusable
from synthgen.request_plan import Job, Request, Row

BLOCK = 1024  # rows
REJECTS = contract.load("texts").arrow(
    ["id", "text"],
    [
        pa.field(name, pa.string())
        for name in ("reject_reason", "reject_detail", "synth_slot", "source_id", "synth_request")
    ],
)


def key(*parts: str) -> int:
    """64 bits of normalised texts: equal for texts that differ in case, blanks or width alone."""
    return xxhash.xxh3_64_intdigest("\0".join(normalise(part) for part in parts).encode())


@dataclass
class Diversity:
    """How much alike the rows of one task are, over the first thousand; memory does not grow with the rest."""

    rows: int = 0
    words: Counter[str] = field(default_factory=Counter)
    pairs: Counter[str] = field(default_factory=Counter)
    openings: Counter[str] = field(default_factory=Counter)
    lengths: Counter[str] = field(default_factory=Counter)
    first: int = 1000

    def see(self, texts: dict[str, str]) -> None:
        self.rows += 1
        for name, text in texts.items():
            self.lengths[name] += len(text.split())
        if self.rows <= self.first:
            tokens = re.findall(r"\w+", next(iter(texts.values())).lower())
            self.words.update(tokens)
            self.pairs.update(f"{a} {b}" for a, b in itertools.pairwise(tokens))
            self.openings[" ".join(tokens[:3])] += 1

    def figures(self) -> dict[str, float]:
        """distinct_1, distinct_2: different words and word pairs as a share of all (Li et al. 2016, arXiv 1510.03055)."""
        shown = min(self.rows, self.first)
        figures = {
            "distinct_1": len(self.words) / max(self.words.total(), 1),
            "distinct_2": len(self.pairs) / max(self.pairs.total(), 1),
            "commonest_opening": max(self.openings.values(), default=0) / max(shown, 1),
        }
        means = {f"{name}_words": total / max(self.rows, 1) for name, total in self.lengths.items()}
        return {
            "rows": self.rows,
            **{name: round(value, 4) for name, value in (figures | means).items()},
        }


class Rows:
    """Collects rows by the input row they come from, so that columns that nobody changed are copied by Arrow."""

    def __init__(self, columns: pa.Schema, inherit: bool) -> None:
        self.columns, self.inherit = columns, inherit
        self.batch: pa.RecordBatch | None = None
        self.indices: list[int] = []
        self.values: list[dict[str, Any]] = []

    def add(self, row: Row | None, values: dict[str, Any]) -> Iterator[pa.RecordBatch]:
        batch = row.batch if row else None
        if self.values and (batch is not self.batch or len(self.values) == BLOCK):
            yield self.flush()
        self.batch = batch
        self.indices.append(row.index if row else 0)
        self.values.append(values)

    def flush(self) -> pa.RecordBatch:
        taken = (
            self.batch.take(pa.array(self.indices, pa.int64())) if self.batch is not None else None
        )
        arrays = [self._column(column, taken) for column in self.columns]
        self.indices, self.values = [], []
        return pa.RecordBatch.from_arrays(arrays, schema=self.columns)

    def _column(self, column: pa.Field, taken: pa.RecordBatch | None) -> pa.Array:
        """New values where a row has them, else those of its input row."""
        at = taken.schema.get_field_index(column.name) if taken is not None else -1
        # Of a task or a passage, the unknown columns alone are the row's own.
        passed = at >= 0 and (self.inherit or contract.load("examples").field(column.name) is None)
        changed = any(column.name in values for values in self.values)
        if passed and taken is not None and not changed:
            return taken.column(at)
        before = (
            taken.column(at).to_pylist()
            if passed and taken is not None
            else [None] * len(self.values)
        )
        return pa.array(
            [values.get(column.name, old) for values, old in zip(self.values, before)], column.type
        )


class Output:
    """The rows of a job, in the order of its plan."""

    def __init__(self, job: Job, columns: pa.Schema, report: Report, model: str) -> None:
        self.job, self.report, self.model = job, report, model
        self.rows = Rows(columns, inherit=job.keeps_rows)
        self.rejects = Rows(REJECTS, inherit=False)
        self.seen: set[int] = set()
        self.rejected: Counter[str] = Counter()
        self.details: dict[str, str] = {}  # the first of each reason
        self.accepted = 0
        self.diversity: dict[str, Diversity] = collections.defaultdict(Diversity)

    def take(
        self, request: Request, outcome: Outcome | None
    ) -> Iterator[tuple[pa.RecordBatch | None, pa.RecordBatch | None]]:
        """(rows, rejects) that are ready to be written."""
        found = self._found(request, outcome)
        for item in found:
            if isinstance(item, Unusable):
                self._reject(item, request)
                raw = outcome.raw if outcome else ""
                for batch in self.rejects.add(None, self._rejected(item, request, raw)):
                    yield None, batch
            else:
                for batch in self.rows.add(request.row, item):
                    yield batch, None

    def end(self) -> tuple[pa.RecordBatch | None, pa.RecordBatch | None]:
        return (
            self.rows.flush() if self.rows.values else None,
            self.rejects.flush() if self.rejects.values else None,
        )

    def _found(self, request: Request, outcome: Outcome | None) -> list[dict[str, Any] | Unusable]:
        """The rows and problems of a request, duplicates made problems, and the account of them."""
        if outcome is None or outcome.reply is None:
            found: list[dict[str, Any] | Unusable] = [*self.job.without_reply(request)]
            if (
                outcome is None
            ):  # nothing was asked: such rows are new only where the job makes them up
                self._add(0 if self.job.keeps_rows else len(found))
                return found
            lost = max(len(request.wishes), 1) if self.job.asks_for_rows else 1
            self._add(lost if self.job.asks_for_rows else 0)
            return found + [outcome.problem or Unusable("no reply")] * lost
        found = self.job.rows(request, outcome.reply)
        made = [
            self._fresh(item, request) if isinstance(item, dict) and item else item
            for item in found
        ]
        kept = len(self.job.without_reply(request)) if self.job.asks_for_rows else len(made)
        self._add(len(made) - kept if self.job.asks_for_rows else 0)
        self.accepted += sum(isinstance(item, dict) and bool(item) for item in made)
        marks = {"synth_model": outcome.model, "synth_request": request.key}
        return [item | marks if isinstance(item, dict) and item else item for item in made]

    def _fresh(self, row: dict[str, Any], request: Request) -> dict[str, Any] | Unusable:
        """The row, or "duplicate": the same query for the same thing, or the same pair, was there before."""
        if self.job.writes == "tasks":
            self.diversity[row["type"]].see({"text": row["text"]})
            return row
        if not self.job.asks_for_rows:
            return row
        parent = request.row
        pos = row["pos"] if "pos" in row else parent["pos"] if parent else []
        scope = row.get("task_id") or (row.get("pos_ids") or [parent["id"] if parent else ""])[0]
        keys = {key("query", row["query"], str(scope)), key("pair", row["query"], *pos)}
        if keys & self.seen:
            return Unusable("duplicate", row["query"][:80])
        self.seen |= keys
        texts = {"query": row["query"], "pos": pos[0]} | (
            {"neg": row["neg"][0]} if row.get("neg") else {}
        )
        self.diversity[row.get("task") or self.job.name].see(texts)
        return row

    def _add(self, rows: int) -> None:
        self.report.add(f"{self.job.writes} asked for", rows)

    def _reject(self, problem: Unusable, request: Request) -> None:
        self.rejected[problem.reason] += 1
        self.details.setdefault(problem.reason, problem.detail)
        if self.job.asks_for_rows:
            self.report.drop(problem.reason)

    def _rejected(self, problem: Unusable, request: Request, raw: str) -> dict[str, Any]:
        source = request.row["id"] if request.row else None
        raw = raw.encode("utf-8", "replace").decode()
        detail = problem.detail.encode("utf-8", "replace").decode()
        return dict(
            id=request.slot,
            text=raw,
            reject_reason=problem.reason,
            reject_detail=detail,
            synth_slot=request.slot,
            source_id=source,
            synth_request=request.key,
        )
