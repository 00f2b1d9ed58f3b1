"""Tasks → examples, in the six groups of Wang et al. 2024 (arXiv 2401.00368), with the value sets of its tables.

Each task is asked `per_row` times; every time the axes and the language are drawn anew.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from fletching import schema as contract
from fletching.errors import InputError
from fletching.text import content_id
from synthgen import language_check, text_validation
from synthgen.llm import response_parsing
from synthgen.llm.response_parsing import Unusable
from synthgen.prompts import attributes
from synthgen.prompts.library import Language
from synthgen.request_plan import Request, Row, Setting, rows_of

SCALE = 5  # of the nearness that STS and bitext ask for; scores are written as a share of it


@dataclass(frozen=True)
class Group:
    """The fields of a group's reply, and which one is what."""

    query: str
    pos: str
    neg: str | None
    words: int  # of the reply, where no axis says it
    query_length: str | None = None  # the axis, or a range, that says how long the query is
    document_length: str | None = None

    @property
    def fields(self) -> tuple[str, ...]:
        return tuple(name for name in (self.query, self.pos, self.neg) if name)


GROUPS = {
    "short-long": Group(
        "user_query",
        "positive_document",
        "hard_negative_document",
        500,
        "query_length",
        "num_words",
    ),
    "long-short": Group("input_text", "label", "misleading_label", 120, "num_words"),
    "short-short": Group("input", "positive_document", None, 30),
    "long-long": Group("input", "positive_document", None, 700, "num_words", "num_words"),
    "sts": Group("S1", "S2", "S3", 60),
    "bitext": Group("S1", "S2", "S3", 60),
}
PLACES = {"task", "language", "target_language"}


class Examples:
    name = "examples"
    writes = "examples"
    asks_for_rows = True
    keeps_rows = False

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self.axes = {kind: setting.materials.axes.get(kind, {}) for kind in GROUPS}
        self.prompts = {
            kind: setting.prompt(f"example.{kind}", PLACES | set(self.axes[kind]))
            for kind in GROUPS
        }

    def columns(self, source: pa.Schema | None) -> pa.Schema:
        names = [
            "id",
            "query",
            "pos",
            "neg",
            "pos_scores",
            "neg_scores",
            "pos_score_kind",
            "neg_score_kind",
            "prompt",
            "task",
        ]
        every = dict.fromkeys(axis for group in self.axes.values() for axis in group)
        own = [
            "task_id",
            *(
                f"synth_{axis}"
                for axis in [*every, "language", "target_language", "model", "request"]
            ),
        ]
        tasks = contract.load("tasks")
        passed = [
            field
            for field in source or []
            if tasks.field(field.name) is None and field.name not in own
        ]
        return contract.load("examples").arrow(
            names, [*(pa.field(name, pa.string()) for name in own), *passed]
        )

    def waves(
        self, batches: Callable[[], Iterable[pa.RecordBatch]]
    ) -> Iterator[Callable[[], Iterator[Request]]]:
        yield lambda: (
            self._ask(row, number)
            for row in rows_of(batches())
            for number in range(self.setting.per_row)
        )

    def _ask(self, row: Row, number: int) -> Request:
        kind, setting = row["type"], self.setting
        slot = f"{kind}/{row['id']}/{number}"
        wish: dict[str, Any] = attributes.sample(self.axes[kind], setting.seed, slot)
        source, target = self._languages(row, slot)
        wish |= {"language": source, "target_language": target}
        values = {
            **wish,
            "task": row["text"],
            "language": source.name,
            "target_language": target.name,
        }
        schema = response_parsing.shape(**{name: "string" for name in GROUPS[kind].fields})
        return setting.request(
            slot, self.prompts[kind], values, schema, self._words(kind, wish), [wish], row
        )

    def _languages(self, row: Row, slot: str) -> tuple[Language, Language]:
        """Of query and document: those of the task, else drawn."""
        given, other = (
            self._named(row[name], row["id"]) for name in ("language", "target_language")
        )
        if row["type"] == "bitext" and not (given and other):
            return attributes.pair(self.setting.bitext_languages, self.setting.seed, slot)
        first = given or attributes.language(self.setting.languages, self.setting.seed, slot)
        return first, other or first

    def _named(self, code: str | None, task: str) -> Language | None:
        found = self.setting.language(code)
        if code and not found:
            raise InputError(
                f"task {task} is in the language {code!r}, which languages.tsv does not know",
                "add a line to languages.tsv in --prompts DIR",
            )
        return found

    def _words(self, kind: str, wish: dict[str, Any]) -> int:
        group = GROUPS[kind]
        asked = attributes.words_asked(wish.get("num_words", ""))
        copies = 1 if kind == "long-short" else 2
        return asked[0] * copies + 25 if asked else group.words

    def without_reply(self, request: Request) -> list[dict[str, Any]]:
        return []

    def rows(self, request: Request, reply: dict[str, Any]) -> list[dict[str, Any] | Unusable]:
        [wish] = request.wishes
        assert request.row is not None
        kind = request.row["type"]
        try:
            texts = self._checked(GROUPS[kind], kind, wish, reply, request)
        except Unusable as problem:
            return [problem]
        return [self._row(GROUPS[kind], kind, wish, texts, request.row, request)]

    def _checked(
        self, group: Group, kind: str, wish: dict[str, Any], reply: dict[str, Any], request: Request
    ) -> dict[str, str]:
        setting = self.setting
        texts = {name: text_validation.clean(reply[name], name) for name in group.fields}
        for name, text in texts.items():
            text_validation.no_leak(text, request.leaks, group.fields, name)
            if setting.check_language and not (
                kind == "long-short" and name != group.query
            ):  # a label may be a code
                language_check.in_language(
                    text, wish["language"] if name == group.query else wish["target_language"], name
                )
            axis = group.query_length if name == group.query else group.document_length
            if axis in wish:
                text_validation.of_length(text, wish[axis], setting.slack, name)
        text_validation.different(texts[group.query], texts[group.pos], "positive equals query")
        if group.neg:
            text_validation.different(texts[group.query], texts[group.neg], "negative equals query")
            text_validation.different(
                texts[group.pos], texts[group.neg], "negative equals positive"
            )
        return texts

    def _row(
        self,
        group: Group,
        kind: str,
        wish: dict[str, Any],
        texts: dict[str, str],
        task: Row,
        request: Request,
    ) -> dict[str, Any]:
        query, pos, neg = (
            texts[group.query],
            [texts[group.pos]],
            [texts[group.neg]] if group.neg else None,
        )
        row = dict(
            id=content_id(request.key, query, *pos),
            query=query,
            pos=pos,
            neg=neg,
            prompt=task["text"],
            task=f"synthetic/{kind}",
            task_id=task["id"],
        )
        if "high_score" in wish and "low_score" in wish:
            row |= dict(
                pos_scores=[float(wish["high_score"]) / SCALE],
                neg_scores=[float(wish["low_score"]) / SCALE],
            )
            row |= dict(pos_score_kind="label", neg_score_kind="label")
        sampled = {
            f"synth_{axis}": value.code if isinstance(value, Language) else value
            for axis, value in wish.items()
        }
        return row | sampled
