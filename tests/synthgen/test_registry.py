"""A job or a judge is one registered class: --job, --help, the checks and the run read the registry."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import pytest

from fletching import schema as contract
from fletching_synthgen import cli, columns
from fletching_synthgen.jobs import registry
from fletching_synthgen.jobs.judge import JudgeJob
from fletching_synthgen.jobs.registry import (
    JOBS_BY_INPUT,
    NAMED_JOBS,
    GenerationJob,
    RowOrRejection,
    RowwiseJob,
)
from fletching_synthgen.llm.response_parsing import object_schema
from fletching_synthgen.prompts.library import quote
from fletching_synthgen.request_plan import InputRow, PlannedRequest


class YesNoJudge(JudgeJob):
    """Scores of 0 and 1, by its own prompt."""

    name = "yes-no"
    top_score: ClassVar[int] = 1
    prompt_text: ClassVar[str | None] = (
        "The task: {task} The query: {query}\n{documents}\n1 or 0 for each of {count}.\n{format}"
    )


class TopicJob(RowwiseJob):
    """Writes the topic of each query into `domain`."""

    name = "topic"
    adds_rows = False
    keeps_input_rows = True
    SCHEMA = object_schema(topic="string")

    def columns(self, source: Any) -> Any:
        return columns.enriched_examples(source, ["domain"])

    def requests(self, row: InputRow) -> list[PlannedRequest]:
        text = "Name the topic of {query}.\n{format}"
        request = self.settings.request(
            f"topic/{row.text('id')}",
            self.settings.prompt("topic", {"query"}, text=text),
            {"query": quote(row.text("query"))},
            schema=self.SCHEMA,
            expected_words=2,
            requested_attributes=[{}],
            row=row,
        )
        return [request]

    def rows(self, request: PlannedRequest, content: dict[str, Any]) -> list[RowOrRejection]:
        return [{"domain": content["topic"]}]


class TaskCopyJob(TopicJob):
    """The same for a schema that no job of ours reads."""

    name = "topic-of-measures"
    reads = "measures"


@pytest.fixture
def register(monkeypatch: pytest.MonkeyPatch) -> Callable[[type[GenerationJob]], None]:
    """register(Job): as the decorator does, until the test ends."""

    def register(job: type[GenerationJob]) -> None:
        for jobs in (NAMED_JOBS, JOBS_BY_INPUT):
            len(jobs)  # reads the modules first
            monkeypatch.setattr(jobs, "_entries", dict(jobs._entries))
        registry.register_job(job)

    return register


def test_a_judge_is_one_registered_class(
    register: Any, serve: Any, generate: Any, examples: Any
) -> None:
    register(YesNoJudge)
    server = serve(
        write=lambda body: {"scores": [1, 0, 1][: body["messages"][0]["content"].count("Text ")]}
    )
    labelled = {**examples[0], "pos_scores": [0.25], "pos_score_kind": "label"}
    done = generate(server, [labelled, examples[1]], "--job", "yes-no")
    assert done.rc == 0, done.err
    assert done.rows[0]["pos_scores"] == [0.25]
    assert done.rows[1]["pos_scores"] == [1.0, 0.0]
    assert done.rows[1]["neg_scores"] == [1.0]
    [body] = server.chat_requests
    assert "1 or 0 for each of 3." in body["messages"][0]["content"]
    replaced = generate(server, [labelled], "--job", "yes-no", "--replace-scores", name="b")
    assert replaced.rows[0]["pos_scores"] == [1.0]


def test_a_job_on_examples_is_one_registered_class(
    register: Any, serve: Any, generate: Any, examples: Any
) -> None:
    register(TopicJob)
    done = generate(serve(write=lambda body: {"topic": "birds"}), examples, "--job", "topic")
    assert done.rc == 0, done.err
    assert [row["domain"] for row in done.rows] == ["birds", "birds"]
    assert [row["price"] for row in done.rows] == [3, 4]
    assert {row["synth_model"] for row in done.rows} == {"scripted-1"}


def choices_of_job(invoke: Any) -> set[str]:
    """What --help offers for --job."""
    [line] = [line for line in invoke(cli.main, "--help").text.splitlines() if "--job " in line]
    return set(line.split()[1].split("|"))


def test_a_registered_job_is_in_help_and_in_the_suggestions(
    register: Any, invoke: Any, generate: Any, examples: Any
) -> None:
    assert choices_of_job(invoke) == {"judge", "negatives", "paraphrase", "queries", "translate"}
    register(TopicJob)
    assert "topic" in choices_of_job(invoke)
    done = generate("http://127.0.0.1:9/v1", examples, "--job", "topik")
    assert done.rc == 2
    assert "did you mean topic?" in done.err


def test_a_job_may_read_a_schema_that_no_other_job_reads(register: Any) -> None:
    assert registry.readable_schemas() == ["tasks", "examples", "texts"]
    register(TaskCopyJob)
    assert registry.readable_schemas() == ["tasks", "examples", "texts", "measures"]
    assert registry.find_job("measures", None) is TaskCopyJob


def test_two_jobs_of_one_name_are_refused(register: Any) -> None:
    register(TopicJob)
    with pytest.raises(ValueError, match="job topic"):
        register(type("Other", (TopicJob,), {}))


def test_each_job_reads_and_writes_known_schemas() -> None:
    jobs = {job.name: job for jobs in (NAMED_JOBS, JOBS_BY_INPUT) for job in jobs.values()}.values()
    assert len(jobs) == 7
    for job in jobs:
        assert contract.load(job.writes)
        assert job.reads == registry.NOTHING or contract.load(job.reads)
