"""Brainstorm: tasks of the four asymmetric groups from the model, those of the two symmetric ones from a list.

Each call shows some seed tasks and asks for about twenty more. What is still missing after a round, because
of duplicates or short replies, is asked for in another one.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import pyarrow as pa

from fletching import schema as contract
from fletching.text import content_id, normalise
from synthgen import text_validation
from synthgen.llm import response_parsing
from synthgen.llm.response_parsing import Unusable
from synthgen.prompts import attributes
from synthgen.prompts.library import fill
from synthgen.request_plan import Request, Setting

SYMMETRIC = ("sts", "bitext")
A_CALL = 20  # tasks asked for in one call, as in the paper
SHOWN = 4  # seed tasks shown in each
ROUNDS = 4
SHAPE = response_parsing.shape(tasks=["string"])
LENGTH = (5, 60)  # words of a task, before slack


class Tasks:
    name = "brainstorm"
    writes = "tasks"
    asks_for_rows = True
    keeps_rows = False

    def __init__(self, setting: Setting, types: Sequence[str], count: int) -> None:
        self.setting, self.types, self.count = setting, tuple(types), count
        self.seen: dict[str, set[str]] = {kind: set() for kind in types}
        self.prompts = {
            kind: setting.prompt(f"brainstorm.{kind}", {"count", "examples"})
            for kind in types
            if kind not in SYMMETRIC
        }
        self.seeds = {kind: setting.materials.lines(f"seeds.{kind}.txt") for kind in self.prompts}

    def columns(self, source: pa.Schema | None) -> pa.Schema:
        known = contract.load("tasks").arrow(["id", "text", "type", "language", "target_language"])
        return known.append(pa.field("synth_model", pa.string())).append(
            pa.field("synth_request", pa.string())
        )

    def waves(
        self, batches: Callable[[], Iterable[pa.RecordBatch]]
    ) -> Iterator[Callable[[], Iterator[Request]]]:
        first = {kind: 0 for kind in self.prompts}
        yield self._listed
        for _ in range(ROUNDS):
            missing = {kind: self.count - len(self.seen[kind]) for kind in self.prompts}
            calls = {
                kind: range(first[kind], first[kind] + -(-left // A_CALL))
                for kind, left in missing.items()
                if left > 0
            }
            if not calls:
                return
            yield functools.partial(self._round, calls)
            first |= {kind: numbers.stop for kind, numbers in calls.items()}

    def _round(self, calls: dict[str, range]) -> Iterator[Request]:
        return (self._ask(kind, call) for kind, numbers in calls.items() for call in numbers)

    def _ask(self, kind: str, call: int) -> Request:
        slot = f"brainstorm/{kind}/{call}"
        shown = attributes.chosen(self.seeds[kind], SHOWN, self.setting.seed, slot)
        values = {"count": A_CALL, "examples": "\n".join(f"- {task}" for task in shown)}
        return self.setting.request(
            slot, self.prompts[kind], values, SHAPE, A_CALL * 22, [{"type": kind}]
        )

    def _listed(self) -> Iterator[Request]:
        """Tasks of the symmetric groups: one text each, and in bitext a pair of languages for each task."""
        for kind in self.types:
            if kind in SYMMETRIC:
                templates = self.setting.materials.lines(f"tasks.{kind}.txt")
                for number in range(self.count):
                    yield Request(
                        "",
                        f"{kind}/{number}",
                        (),
                        {},
                        wishes=(
                            {
                                "type": kind,
                                "number": number,
                                "template": templates[number % len(templates)],
                            },
                        ),
                    )

    def without_reply(self, request: Request) -> list[dict[str, Any]]:
        [wish] = request.wishes
        if "template" not in wish:
            return []
        pair: dict[str, Any] = {}
        names = {}
        if wish["type"] == "bitext":
            source, target = attributes.pair(
                self.setting.bitext_languages, self.setting.seed, request.slot
            )
            pair = {"language": source.code, "target_language": target.code}
            names = {"language": source.name, "target_language": target.name}
        text = fill(wish["template"], names)
        return [
            {
                "id": content_id(request.slot, text, str(self.setting.seed)),
                "text": text,
                "type": wish["type"],
                **pair,
            }
        ]

    def rows(self, request: Request, reply: dict[str, Any]) -> list[dict[str, Any] | Unusable]:
        [wish] = request.wishes
        return [self._row(wish["type"], text, request) for text in reply["tasks"]] or [
            Unusable("empty reply", "no task in it")
        ]

    def _row(self, kind: str, text: str, request: Request) -> dict[str, Any] | Unusable:
        seen = self.seen[kind]
        try:
            text = text_validation.clean(text, "task")
            text_validation.of_length(text, LENGTH, self.setting.slack, "task")
            text_validation.no_leak(text, request.leaks, tuple(SHAPE["required"]), "task")
        except Unusable as problem:
            return problem
        if normalise(text) in seen or any(
            normalise(text) == normalise(seed) for seed in self.seeds[kind]
        ):
            return Unusable("duplicate", text[:80])
        if len(seen) == self.count:
            return Unusable("more than asked for", text[:80])
        seen.add(normalise(text))
        return {"id": content_id(kind, text), "text": text, "type": kind}
