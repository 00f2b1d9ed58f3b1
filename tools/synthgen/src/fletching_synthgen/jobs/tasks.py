"""Brainstorm: tasks of the asymmetric groups from the model, of the symmetric ones from a list.

Each call shows some seed tasks and asks for twenty more. What is missing after a round, because
of duplicates or short responses, is asked for in another.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from fletching.text import content_id, normalise
from fletching_synthgen import columns, text_validation
from fletching_synthgen.jobs.registry import (
    NOTHING,
    BatchSource,
    GeneratedRow,
    GenerationJob,
    RequestRound,
    RowOrRejection,
    register_job,
)
from fletching_synthgen.llm.response_parsing import RejectedResponseError, object_schema
from fletching_synthgen.prompts import attributes
from fletching_synthgen.prompts.library import fill_template
from fletching_synthgen.request_plan import PlannedRequest

if TYPE_CHECKING:
    import pyarrow as pa

    from fletching_synthgen.options import Options
    from fletching_synthgen.request_plan import RequestSettings

SYMMETRIC = ("sts", "bitext")
TASKS_PER_CALL = 20  # as in the paper
SEED_TASKS_PER_CALL = 4
ROUNDS = 4
SCHEMA = object_schema(tasks=["string"])
TASK_WORDS = (5, 60)  # before slack
EXPECTED_WORDS = 22  # of a task, for the estimate of a dry run


@register_job
class BrainstormJob(GenerationJob):
    """Thinks up tasks, `options.brainstorm` of each of `options.types`."""

    name = "brainstorm"
    reads = NOTHING
    writes = "tasks"
    adds_rows = True
    keeps_input_rows = False

    def __init__(self, settings: RequestSettings, options: Options) -> None:
        super().__init__(settings, options)
        self.count = options.brainstorm or 0  # tasks wanted of each group
        self.accepted: dict[str, set[str]] = {group: set() for group in options.types}
        asymmetric: list[str] = [group for group in options.types if group not in SYMMETRIC]
        placeholders = {"count", "examples"}
        self.prompts = {
            group: settings.prompt(f"brainstorm.{group}", placeholders) for group in asymmetric
        }
        self.seed_tasks = {
            group: settings.library.lines(f"seeds.{group}.txt") for group in asymmetric
        }

    def columns(self, source: pa.Schema | None) -> pa.Schema:
        """Tasks, with the model and request that made them."""
        return columns.new_tasks()

    def request_rounds(self, batches: BatchSource) -> Iterator[RequestRound]:
        """The listed tasks, then rounds of calls for as many tasks as are missing."""
        yield self._listed_tasks
        next_call = dict.fromkeys(self.prompts, 0)
        for _ in range(ROUNDS):
            calls: dict[str, range] = {}
            for group, first in next_call.items():
                missing = self.count - len(self.accepted[group])
                if missing > 0:
                    calls[group] = range(first, first + -(-missing // TASKS_PER_CALL))
            if not calls:
                return
            yield functools.partial(self._requests, calls)
            next_call |= {group: numbers.stop for group, numbers in calls.items()}

    def _requests(self, calls: Mapping[str, range]) -> Iterator[PlannedRequest]:
        for group, numbers in calls.items():
            for number in numbers:
                yield self._request(group, number)

    def _request(self, group: str, number: int) -> PlannedRequest:
        slot = f"brainstorm/{group}/{number}"
        shown = attributes.sample_items(
            self.seed_tasks[group], self.settings.seed, slot, count=SEED_TASKS_PER_CALL
        )
        values = {
            "count": TASKS_PER_CALL,
            "examples": "\n".join(f"- {task}" for task in shown),
        }
        return self.settings.request(
            slot,
            self.prompts[group],
            values,
            schema=SCHEMA,
            expected_words=TASKS_PER_CALL * EXPECTED_WORDS,
            requested_attributes=[{"type": group}],
        )

    def _listed_tasks(self) -> Iterator[PlannedRequest]:
        """Requests of the symmetric groups, which ask nothing: their tasks are from a list."""
        for group in self.options.types:
            if group not in SYMMETRIC:
                continue
            templates = self.settings.library.lines(f"tasks.{group}.txt")
            for number in range(self.count):
                template = templates[number % len(templates)]
                requested = {"type": group, "number": number, "template": template}
                yield PlannedRequest(
                    key="",
                    slot=f"{group}/{number}",
                    messages=(),
                    schema={},
                    requested_attributes=(requested,),
                )

    def rows_without_response(self, request: PlannedRequest) -> list[GeneratedRow]:
        """The task of a request that asks nothing; in bitext, each with a pair of languages."""
        [requested] = request.requested_attributes
        if "template" not in requested:
            return []
        codes: dict[str, str] = {}
        names: dict[str, str] = {}
        if requested["type"] == "bitext":
            source, target = attributes.sample_language_pair(
                self.settings.bitext_languages, self.settings.seed, request.slot
            )
            codes = {"language": source.code, "target_language": target.code}
            names = {"language": source.name, "target_language": target.name}
        text = fill_template(requested["template"], names)
        task_id = content_id(request.slot, text, str(self.settings.seed))
        return [{"id": task_id, "text": text, "type": requested["type"], **codes}]

    def rows(self, request: PlannedRequest, content: dict[str, Any]) -> list[RowOrRejection]:
        """The new tasks of a response."""
        [requested] = request.requested_attributes
        texts = content["tasks"]
        if not texts:
            return [RejectedResponseError("empty reply", "no task in it")]
        return [self._row(requested["type"], text, request) for text in texts]

    def _row(self, group: str, text: str, request: PlannedRequest) -> RowOrRejection:
        accepted = self.accepted[group]
        try:
            text = text_validation.clean_text(text, "task")
            text_validation.check_length(
                text, TASK_WORDS, slack=self.settings.length_slack, field="task"
            )
            text_validation.check_no_leak(
                text, request.prompt_phrases, reply_fields=SCHEMA["required"], field="task"
            )
        except RejectedResponseError as rejection:
            return rejection
        normal_form = normalise(text)
        seed_forms = (normalise(task) for task in self.seed_tasks[group])
        shown = text[: text_validation.SHOWN_CHARACTERS]
        if normal_form in accepted or normal_form in seed_forms:
            return RejectedResponseError("duplicate", shown)
        if len(accepted) == self.count:
            return RejectedResponseError("more than asked for", shown)
        accepted.add(normal_form)
        return {"id": content_id(group, text), "text": text, "type": group}
