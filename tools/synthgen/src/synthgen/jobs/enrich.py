"""Examples → the same examples with more hard negatives, or with a judge's scores. No row comes or goes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pyarrow as pa

from fletching import schema as contract
from fletching.text import content_id, normalise
from synthgen import text_validation
from synthgen.llm import response_parsing
from synthgen.llm.response_parsing import Unusable
from synthgen.prompts.library import quoted
from synthgen.request_plan import Request, Row, Setting, rows_of

TASK = "Find texts that serve the query."  # of rows without a prompt
TOP = 10  # of the judge's scale; scores are written as a share of it
SCORES = response_parsing.shape(scores=["integer"])
PROTECTED = ("reranker", "label", "judge")


def with_columns(source: pa.Schema, *names: str) -> pa.Schema:
    """The columns read, these known ones, and who made the difference."""
    columns = contract.extend(contract.load("examples"), source, *names)
    for name in ("synth_model", "synth_request"):
        if name not in columns.names:
            columns = columns.append(pa.field(name, pa.string()))
    return columns


class Negatives:
    name = "negatives"
    writes = "examples"
    asks_for_rows = False
    keeps_rows = True
    shape = response_parsing.shape(negatives=["string"])

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self.prompt = setting.prompt("negatives", {"task", "query", "positive", "count"})

    def columns(self, source: pa.Schema | None) -> pa.Schema:
        assert source is not None
        return with_columns(source, "neg")

    def waves(
        self, batches: Callable[[], Iterable[pa.RecordBatch]]
    ) -> Iterator[Callable[[], Iterator[Request]]]:
        yield lambda: (self._ask(row) for row in rows_of(batches()))

    def _ask(self, row: Row) -> Request:
        values = {
            "task": quoted(row["prompt"] or TASK),
            "query": quoted(row["query"]),
            "positive": quoted(row["pos"][0]),
            "count": self.setting.per_row,
        }
        words = round(text_validation.words(row["pos"][0]) + 2) * self.setting.per_row
        return self.setting.request(
            f"negatives/{row['id']}", self.prompt, values, self.shape, words, [{}], row
        )

    def without_reply(self, request: Request) -> list[dict[str, Any]]:
        return [{}]

    def rows(self, request: Request, reply: dict[str, Any]) -> list[dict[str, Any] | Unusable]:
        """The row with those of the new texts that are negatives; Unusable for each that is not."""
        row = request.row
        assert row is not None
        before = row["neg"] or []
        taken = {normalise(text) for text in [row["query"], *row["pos"], *before]}
        new: list[str] = []
        problems: list[dict[str, Any] | Unusable] = []
        for text in reply["negatives"][: self.setting.per_row]:
            try:
                text = text_validation.clean(text, "negative")
                text_validation.no_leak(text, request.leaks, ("negatives",), "negative")
                if normalise(text) in taken:
                    raise Unusable("negative equals another text", text[:80])
            except Unusable as problem:
                problems.append(problem)
            else:
                taken.add(normalise(text))
                new.append(text)
        if not new:
            return [{}, *(problems or [Unusable("empty reply", "no negative in it")])]
        changed: dict[str, Any] = {"neg": before + new}
        if row["neg_ids"] is not None or (
            row["neg"] == [] and row.batch.schema.get_field_index("neg_ids") >= 0
        ):
            changed["neg_ids"] = (row["neg_ids"] or []) + [content_id(text) for text in new]
        if row["neg_scores"] is not None:  # the new ones have none, and scores are aligned
            changed |= {"neg_scores": None, "neg_score_kind": None}
        return [changed, *problems]


class Judge:
    name = "judge"
    writes = "examples"
    asks_for_rows = False
    keeps_rows = True

    def __init__(self, setting: Setting, replace_scores: bool) -> None:
        self.setting, self.replace_scores = setting, replace_scores
        self.prompt = setting.prompt("judge", {"task", "query", "count", "documents"})

    def columns(self, source: pa.Schema | None) -> pa.Schema:
        assert source is not None
        negatives = ["neg_scores", "neg_score_kind"] if "neg" in source.names else []
        return with_columns(source, "pos_scores", "pos_score_kind", *negatives)

    def waves(
        self, batches: Callable[[], Iterable[pa.RecordBatch]]
    ) -> Iterator[Callable[[], Iterator[Request]]]:
        yield lambda: (self._ask(row) for row in rows_of(batches()))

    def _sides(self, row: Row) -> tuple[bool, bool]:
        """Are the positives, are the negatives to be judged? Better scores stand."""
        free = {
            side: self.replace_scores
            or row[f"{side}_score_kind"] not in PROTECTED
            or row[f"{side}_scores"] is None
            for side in ("pos", "neg")
        }
        return free["pos"], free["neg"] and bool(row["neg"])

    def _ask(self, row: Row) -> Request:
        pos, neg = self._sides(row)
        texts = (row["pos"] if pos else []) + (row["neg"] if neg else [])
        slot = f"judge/{row['id']}"
        if not texts:
            return Request("", slot, (), {}, row=row)
        numbered = "\n".join(
            f"Text {number}: {quoted(text)}" for number, text in enumerate(texts, 1)
        )
        values = {
            "task": quoted(row["prompt"] or TASK),
            "query": quoted(row["query"]),
            "count": len(texts),
            "documents": numbered,
        }
        return self.setting.request(
            slot, self.prompt, values, SCORES, 2 * len(texts) + 4, [{}], row
        )

    def without_reply(self, request: Request) -> list[dict[str, Any]]:
        return [{}]

    def rows(self, request: Request, reply: dict[str, Any]) -> list[dict[str, Any] | Unusable]:
        row, scores = request.row, reply["scores"]
        assert row is not None
        pos, neg = self._sides(row)
        here = len(row["pos"]) if pos else 0
        wanted = here + (len(row["neg"]) if neg else 0)
        if len(scores) != wanted:
            return [{}, Unusable("wrong number of scores", f"{len(scores)} for {wanted} texts")]
        if not all(0 <= score <= TOP for score in scores):
            return [{}, Unusable("score off the scale", str(scores)[:80])]
        shares = [score / TOP for score in scores]
        changed: dict[str, Any] = (
            {"pos_scores": shares[:here], "pos_score_kind": "judge"} if pos else {}
        )
        return [changed | ({"neg_scores": shares[here:], "neg_score_kind": "judge"} if neg else {})]
