"""What a job is, and the registries of jobs: by name for --job, by schema for other inputs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from fletching.errors import UsageError
from fletching.registry import Registry
from fletching_synthgen.llm.response_parsing import RejectedResponseError
from fletching_synthgen.request_plan import InputRow, PlannedRequest, RequestSettings, input_rows

if TYPE_CHECKING:
    import pyarrow as pa

    from fletching_synthgen.options import Options

NOTHING = "nothing"  # what a job without input reads
NAMED_INPUTS = ("examples", "texts")  # a job on these is a choice of --job
# Unstamped input is the first of these whose required columns it has.
READ_FIRST = ("tasks", "examples", "texts")

GeneratedRow = dict[str, Any]  # columns that differ from the row read; {} is the row as it is
RowOrRejection = GeneratedRow | RejectedResponseError
# Both can be called again, for another pass.
BatchSource = Callable[[], Iterable["pa.RecordBatch"]]
RequestRound = Callable[[], Iterator[PlannedRequest]]


class GenerationJob(ABC):
    """What a run does with its input: from rows to requests, and from responses to rows.

    name: as on the command line and in the lineage.
    reads: schema of the input. A job on `examples` or `texts` is a choice of --job; one on another
    schema than `examples` is what happens to its rows without --job.
    writes: schema of the output.
    adds_rows: each requested row is new; otherwise requests enrich the rows read.
    keeps_input_rows: the rows read are part of the output.
    writes_scores: --replace-scores applies.
    """

    name: ClassVar[str]
    reads: ClassVar[str] = "examples"
    writes: ClassVar[str] = "examples"
    adds_rows: ClassVar[bool]
    keeps_input_rows: ClassVar[bool]
    writes_scores: ClassVar[bool] = False

    def __init__(self, settings: RequestSettings, options: Options) -> None:
        self.settings = settings
        self.options = options

    @abstractmethod
    def columns(self, source: pa.Schema | None) -> pa.Schema:
        """The columns of the output; source: those of the input, where there is one."""

    @abstractmethod
    def request_rounds(self, batches: BatchSource) -> Iterator[RequestRound]:
        """Rounds of requests; each is completed before the next is taken."""

    @abstractmethod
    def rows(self, request: PlannedRequest, content: dict[str, Any]) -> list[RowOrRejection]:
        """The rows of a response's content, and why others are missing."""

    def rows_without_response(self, request: PlannedRequest) -> list[GeneratedRow]:
        """The rows that are written even if there is no response."""
        return [{}] if self.keeps_input_rows else []


class RowwiseJob(GenerationJob):
    """A job whose requests are each about one row, all in one round."""

    @abstractmethod
    def requests(self, row: InputRow) -> Iterable[PlannedRequest]:
        """The requests about a row."""

    def request_rounds(self, batches: BatchSource) -> Iterator[RequestRound]:
        """One round with the requests of all rows."""

        def request_round() -> Iterator[PlannedRequest]:
            """The requests of all rows, in order."""
            for row in input_rows(batches()):
                yield from self.requests(row)

        yield request_round


Job = TypeVar("Job", bound=GenerationJob)
# By the name that --job takes.
NAMED_JOBS: Registry[type[GenerationJob]] = Registry("job", package="fletching_synthgen.jobs")
JOBS_BY_INPUT: Registry[type[GenerationJob]] = Registry("job on", package="fletching_synthgen.jobs")


def register_job(job: type[Job]) -> type[Job]:
    """Class decorator: add a job to the registries, by its name and by what it reads."""
    if job.reads in NAMED_INPUTS:
        NAMED_JOBS.register(job.name, job)
    if job.reads != "examples":
        JOBS_BY_INPUT.register(job.reads, job)
    return job


def readable_schemas() -> list[str]:
    """The schemas that some job reads."""
    others = [schema for schema in JOBS_BY_INPUT if schema not in (*READ_FIRST, NOTHING)]
    return [*READ_FIRST, *others]


def find_job(schema: str, name: str | None) -> type[GenerationJob]:
    """The job for an input of this schema; name: of --job. Raises UsageError."""
    if name is not None:
        return NAMED_JOBS[name]
    if schema == "examples":
        names = [name for name, job in NAMED_JOBS.items() if job.reads == schema]
        raise UsageError(
            "the input holds examples: what should be done with them?",
            f"pass --job {job_names(names)}",
        )
    return JOBS_BY_INPUT[schema]


def score_jobs() -> list[str]:
    """Names of the jobs that write scores."""
    return [name for name, job in NAMED_JOBS.items() if job.writes_scores]


def job_names(names: Iterable[str]) -> str:
    """The names as an English list: a, b or c."""
    *first, last = names
    return f"{', '.join(first)} or {last}" if first else last
