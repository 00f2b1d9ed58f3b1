"""Examples → the same rows and new ones, whose query says it in other words or in another language."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pyarrow as pa

from fletching.text import content_id, normalise
from synthgen import language_check, text_validation
from synthgen.jobs.enrich import with_columns
from synthgen.llm import response_parsing
from synthgen.llm.response_parsing import Unusable
from synthgen.prompts.library import quoted
from synthgen.request_plan import Request, Row, Setting, rows_of

# Scores of a row are scores of its old query.
RESCORED = {"pos_scores": None, "neg_scores": None, "pos_score_kind": None, "neg_score_kind": None}


class Paraphrase:
    name = "paraphrase"
    writes = "examples"
    asks_for_rows = True
    keeps_rows = True
    shape = response_parsing.shape(queries=["string"])

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self.prompt = setting.prompt("paraphrase", {"query", "positive", "count"})

    def columns(self, source: pa.Schema | None) -> pa.Schema:
        assert source is not None
        return with_columns(source)

    def waves(
        self, batches: Callable[[], Iterable[pa.RecordBatch]]
    ) -> Iterator[Callable[[], Iterator[Request]]]:
        yield lambda: (self._ask(row) for row in rows_of(batches()))

    def _ask(self, row: Row) -> Request:
        values = {
            "query": quoted(row["query"]),
            "positive": quoted(row["pos"][0]),
            "count": self.setting.per_row,
        }
        words = round(text_validation.words(row["query"]) + 4) * self.setting.per_row
        return self.setting.request(
            f"paraphrase/{row['id']}",
            self.prompt,
            values,
            self.shape,
            words,
            [{}] * self.setting.per_row,
            row,
        )

    def without_reply(self, request: Request) -> list[dict[str, Any]]:
        return [{}]

    def rows(self, request: Request, reply: dict[str, Any]) -> list[dict[str, Any] | Unusable]:
        row = request.row
        assert row is not None
        taken = {normalise(text) for text in [row["query"], *row["pos"]]}
        found = reply["queries"][: self.setting.per_row]
        rows: list[dict[str, Any] | Unusable] = [{}]
        for text in found:
            try:
                text = text_validation.clean(text, "query")
                text_validation.no_leak(text, request.leaks, ("queries",), "query")
                if normalise(text) in taken:
                    raise Unusable("the same query again", text[:80])
            except Unusable as problem:
                rows.append(problem)
            else:
                taken.add(normalise(text))
                rows.append(_renewed(request, row, text))
        return rows + [Unusable("fewer than asked for")] * (self.setting.per_row - len(found))


class Translate:
    """Each query in each language of --languages; the documents stay as they are, so that rows become cross-lingual."""

    name = "translate"
    writes = "examples"
    asks_for_rows = True
    keeps_rows = True
    shape = response_parsing.shape(translation="string")

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self.prompt = setting.prompt("translate", {"query", "language"})

    def columns(self, source: pa.Schema | None) -> pa.Schema:
        assert source is not None
        columns = with_columns(source)
        return (
            columns
            if "synth_language" in columns.names
            else columns.append(pa.field("synth_language", pa.string()))
        )

    def waves(
        self, batches: Callable[[], Iterable[pa.RecordBatch]]
    ) -> Iterator[Callable[[], Iterator[Request]]]:
        yield lambda: (
            self._ask(row, number)
            for row in rows_of(batches())
            for number in range(len(self.setting.languages))
        )

    def _ask(self, row: Row, number: int) -> Request:
        language = self.setting.languages[number]
        values = {"query": quoted(row["query"]), "language": language.name}
        wish = {"language": language, "first": number == 0}
        return self.setting.request(
            f"translate/{row['id']}/{language.code}",
            self.prompt,
            values,
            self.shape,
            round(text_validation.words(row["query"]) + 4),
            [wish],
            row,
        )

    def without_reply(self, request: Request) -> list[dict[str, Any]]:
        return [{}] if request.wishes[0]["first"] else []

    def rows(self, request: Request, reply: dict[str, Any]) -> list[dict[str, Any] | Unusable]:
        row, wish = request.row, request.wishes[0]
        assert row is not None
        try:
            text = text_validation.clean(reply["translation"], "translation")
            text_validation.no_leak(text, request.leaks, ("translation",), "translation")
            text_validation.different(text, row["query"], "the same query again")
            if self.setting.check_language:
                language_check.in_language(text, wish["language"], "translation")
        except Unusable as problem:
            return [*self.without_reply(request), problem]
        return [
            *self.without_reply(request),
            _renewed(request, row, text) | {"synth_language": wish["language"].code},
        ]


def _renewed(request: Request, row: Row, query: str) -> dict[str, Any]:
    """The row under another query: everything else stands, but for the id and the scores."""
    scores = {
        name: value
        for name, value in RESCORED.items()
        if row.batch.schema.get_field_index(name) >= 0
    }
    return {"id": content_id(request.key, query), "query": query, **scores}
