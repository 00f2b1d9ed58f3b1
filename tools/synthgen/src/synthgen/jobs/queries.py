"""Texts → examples: queries that a passage answers, each with a style, an asker and a length of its own.

One request a passage asks for all its queries, so that the passage is paid for once. Each query comes with a
quotation; it must stand in the passage, or the query cannot be answered from it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pyarrow as pa

from fletching import schema as contract
from fletching.text import content_id
from synthgen import language_check, text_validation
from synthgen.llm import response_parsing
from synthgen.llm.response_parsing import Unusable
from synthgen.prompts import attributes
from synthgen.prompts.library import quoted
from synthgen.request_plan import Request, Row, Setting, rows_of

SHAPE = response_parsing.shape(queries=[{"query": "string", "evidence": "string"}])
PROMPT = "Given a search query, retrieve passages that answer or serve it."
ABOUT = ("the passage", "this passage", "the text above", "according to the text", "the author")


class Queries:
    name = "queries"
    writes = "examples"
    asks_for_rows = True
    keeps_rows = False

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self.axes = setting.materials.axes.get("queries", {})
        self.prompt = setting.prompt("queries", {"passage", "count", "wishes", "language"})

    def columns(self, source: pa.Schema | None) -> pa.Schema:
        own = [f"synth_{axis}" for axis in [*self.axes, "language", "evidence", "model", "request"]]
        texts = contract.load("texts")
        passed = [
            field
            for field in source or []
            if texts.field(field.name) is None and field.name not in own
        ]
        names = ["id", "query", "pos", "pos_ids", "prompt", "task", "domain"]
        return contract.load("examples").arrow(
            names, [*(pa.field(name, pa.string()) for name in own), *passed]
        )

    def waves(
        self, batches: Callable[[], Iterable[pa.RecordBatch]]
    ) -> Iterator[Callable[[], Iterator[Request]]]:
        yield lambda: (self._ask(row) for row in rows_of(batches()))

    def _ask(self, row: Row) -> Request:
        setting = self.setting
        slot = f"queries/{row['id']}"
        wishes: list[dict[str, Any]] = [
            attributes.sample(self.axes, setting.seed, f"{slot}/{number}")
            for number in range(setting.per_row)
        ]
        spoken = attributes.language(setting.languages, setting.seed, slot)
        lines = [
            f"{number}. "
            + "; ".join(f"{axis.replace('_', ' ')}: {value}" for axis, value in wish.items())
            for number, wish in enumerate(wishes, 1)
        ]
        text = f"{row['title']}\n{row['text']}" if row["title"] else row["text"]
        values = {
            "passage": quoted(text),
            "count": len(wishes),
            "wishes": "\n".join(lines),
            "language": spoken.name,
        }
        wishes = [wish | {"language": spoken} for wish in wishes]
        return setting.request(slot, self.prompt, values, SHAPE, 35 * len(wishes), wishes, row)

    def without_reply(self, request: Request) -> list[dict[str, Any]]:
        return []

    def rows(self, request: Request, reply: dict[str, Any]) -> list[dict[str, Any] | Unusable]:
        found = reply["queries"][: len(request.wishes)]
        rows: list[dict[str, Any] | Unusable] = [
            self._row(request, wish, item) for wish, item in zip(request.wishes, found)
        ]
        return rows + [Unusable("fewer than asked for")] * (len(request.wishes) - len(found))

    def _row(
        self, request: Request, wish: dict[str, Any], item: dict[str, str]
    ) -> dict[str, Any] | Unusable:
        passage = request.row
        assert passage is not None
        try:
            query = text_validation.clean(item["query"], "query")
            text_validation.no_leak(query, request.leaks, ("evidence",), "query")
            if any(words in query.lower() for words in ABOUT):
                raise Unusable("speaks of the passage", query[:80])
            if "query_length" in wish:
                text_validation.of_length(query, wish["query_length"], self.setting.slack, "query")
            if self.setting.check_language:
                language_check.in_language(query, wish["language"], "query")
            text_validation.different(query, passage["text"], "positive equals query")
            evidence = text_validation.clean(item["evidence"], "evidence")
            if not text_validation.stands_in(
                evidence, f"{passage['title'] or ''}\n{passage['text']}"
            ):
                raise Unusable("evidence not in the passage", evidence[:80])
        except Unusable as problem:
            return problem
        row = dict(
            id=content_id(request.key, query),
            query=query,
            pos=[passage["text"]],
            pos_ids=[passage["id"]],
            prompt=PROMPT,
            task="synthetic/queries",
        )
        sampled = {f"synth_{axis}": value for axis, value in wish.items()} | {
            "synth_language": wish["language"].code,
            "synth_evidence": evidence,
        }
        return row | {"domain": passage["domain"]} | sampled
