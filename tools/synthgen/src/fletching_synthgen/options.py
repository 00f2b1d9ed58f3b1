"""The options of synthgen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fletching.options import (
    IO,
    LimitOptions,
    OutputOptions,
    PromptTemplateOptions,
    RejectsOptions,
    ScoreWritingOptions,
    SeedOptions,
    ServerOptions,
    StandardOptions,
    option,
    override,
    positional,
    required,
)

# Headings in --help.
WORK = "what to make"
SERVER = "server"
CAPS = "caps and rates"
TaskGroup = Literal["short-long", "long-short", "short-short", "long-long", "sts", "bitext"]


@dataclass(frozen=True, kw_only=True)
@override(
    "base_url",
    None,
    because="synthgen also reads the variable of the openai package",
    help="OpenAI-compatible server, e.g. http://localhost:8000/v1 [OPENAI_BASE_URL or OpenAI's]",
    group=SERVER,
)
@override(
    "api_key_env",
    None,
    because="the key of OpenAI is not sent to another server unless it is named",
    help="environment variable that holds the API key [OPENAI_API_KEY, for OpenAI's server only]",
    group=SERVER,
    advanced=False,
)
@override(
    "prompt_template",
    "Instruct: {}\\nQuery: ",
    because="here the prompts are made, and every later tool prepends them as they are",
    help="makes the `prompt` of an example from the text of its task",
    group=WORK,
)
class Options(
    LimitOptions,
    PromptTemplateOptions,
    RejectsOptions,
    ScoreWritingOptions,
    ServerOptions,
    OutputOptions,
    SeedOptions,
    StandardOptions,
):
    """What synthgen reads, makes and may spend."""

    inputs: tuple[str, ...] = positional(
        "tasks, texts or examples: files, folders, globs or URLs; none or - is stdin", "INPUT"
    )
    journal: str | None = option(
        None,
        "keep the responses here [OUT.journal; for stdout in the user's cache]",
        metavar="DIR",
        group=IO,
        rows=False,
    )
    ledger: str | None = option(
        None,
        "write tokens, money and diversity here, as `measures`",
        metavar="FILE",
        group=IO,
        advanced=True,
        rows=False,
    )

    brainstorm: int | None = option(
        None, "generate N tasks of each of --types; reads nothing", metavar="N", low=1, group=WORK
    )
    types: tuple[TaskGroup, ...] = option(
        ("short-long", "long-short", "short-short", "long-long", "sts", "bitext"),
        "groups of tasks to brainstorm",
        metavar="T,T",
        group=WORK,
    )
    job: str | None = option(
        None,
        "what to do with examples; queries is what is done with texts anyway",
        choices="fletching_synthgen.jobs.registry:NAMED_JOBS",
        group=WORK,
    )
    per_row: int = option(
        1,
        "examples per task, queries per passage, negatives or paraphrases per example",
        metavar="N",
        low=1,
        high=1000,
        group=WORK,
    )
    queries_per_text: int | None = option(
        None,
        "queries per passage, each kind before one comes again [--per-row]",
        metavar="N",
        low=1,
        high=1000,
        group=WORK,
    )
    query_kinds: tuple[str, ...] = option(
        (),
        "kinds of query for a passage: question, keywords, title, claim, how-to, problem [all]",
        metavar="K,K",
        group=WORK,
    )
    queries_per_request: int | None = option(
        None,
        "queries of a passage in one request; a small LLM does better with 1 [all]",
        metavar="N",
        low=1,
        group=WORK,
        advanced=True,
    )
    evidence: bool = option(
        True,
        "ask for no quotation from the passage, and keep queries without one",
        group=WORK,
        advanced=True,
    )
    languages: tuple[str, ...] = option(
        ("en",),
        "languages of queries and documents, e.g. en,de; all: 93, sampled by weight",
        metavar="L,L",
        group=WORK,
    )
    prompts: str | None = option(
        None,
        "folder of files that replace our prompts, attribute values, languages or seed tasks",
        metavar="DIR",
        group=WORK,
        advanced=True,
        rows=False,
    )
    export_prompts: str | None = option(
        None,
        "copy our prompts and attribute values to a new folder for editing, then stop",
        metavar="DIR",
        group=WORK,
        advanced=True,
        rows=False,
    )
    length_slack: float = option(
        0.5,
        "tolerance of requested lengths, as a fraction",
        metavar="X",
        low=0,
        group=WORK,
        advanced=True,
    )
    language_check: bool = option(
        True, "keep texts that are plainly in another language", group=WORK, advanced=True
    )
    repair: bool = option(
        True,
        "drop responses without the right form instead of asking for it once",
        group=WORK,
        advanced=True,
    )

    model: str = required("name of the LLM on the server", metavar="M", group=SERVER)
    api_key_file: str | None = option(
        None,
        "file that holds the API key and nothing else",
        metavar="FILE",
        group=SERVER,
        rows=False,
    )
    response_format: Literal[
        "auto", "json-schema", "json-object-schema", "json-object", "prompt"
    ] = option(
        "auto",
        "structured output mode; auto probes the server once",
        group=SERVER,
        advanced=True,
        rows=False,
    )
    sampling_temperature: float = option(
        1.0,
        "sampling temperature of the LLM",
        metavar="T",
        low=0,
        high=2,
        group=SERVER,
        advanced=True,
    )
    top_p: float = option(
        1.0, "nucleus sampling", metavar="P", low=0, high=1, group=SERVER, advanced=True
    )
    answer_tokens: int = option(
        4096, "token limit of a response", metavar="N", low=1, group=SERVER, advanced=True
    )
    body: str | None = option(
        None,
        "JSON file with more fields of each request (seed, reasoning_effort, ...)",
        metavar="FILE",
        group=SERVER,
        advanced=True,
        rows=False,
    )
    timeout: float = option(
        180.0,
        "timeout of a whole response, in seconds",
        metavar="S",
        low=0.01,
        group=SERVER,
        advanced=True,
        rows=False,
    )
    retries: int = option(
        8,
        "retries after 408, 409, 429, 5xx, timeouts and lost connections",
        metavar="N",
        low=0,
        group=SERVER,
        advanced=True,
        rows=False,
    )
    longest_wait: float = option(
        600.0,
        "stop if the server asks for a longer pause, in seconds",
        metavar="S",
        low=0,
        group=SERVER,
        advanced=True,
        rows=False,
    )
    batch_api: bool = option(
        False,
        "use the OpenAI Batch API: within a day, at about half the price",
        group=SERVER,
        rows=False,
    )
    poll: float = option(
        60.0,
        "with --batch-api: seconds between two looks at a batch",
        metavar="S",
        low=0.01,
        group=SERVER,
        advanced=True,
        rows=False,
    )

    concurrency: int = option(
        32, "requests in flight", metavar="N", low=1, high=2048, group=CAPS, rows=False
    )
    requests_per_minute: int | None = option(
        None, "rate limit of requests", metavar="N", low=1, group=CAPS, advanced=True, rows=False
    )
    tokens_per_minute: int | None = option(
        None,
        "rate limit of tokens, sent and received",
        metavar="N",
        low=1,
        group=CAPS,
        advanced=True,
        rows=False,
    )
    max_requests: int | None = option(
        None,
        "cap on requests of the whole job, killed runs included",
        metavar="N",
        low=0,
        group=CAPS,
        advanced=True,
    )
    max_tokens: int | None = option(
        None,
        "cap on tokens of the whole job, sent and received",
        metavar="N",
        low=0,
        group=CAPS,
        advanced=True,
    )
    max_cost: float | None = option(
        None,
        "cap on dollars of the whole job, killed runs included",
        metavar="X",
        low=0,
        group=CAPS,
    )
    prices: str | None = option(
        None,
        "price table: {model: {input, output, cached, batch}}, dollars a million tokens",
        metavar="FILE",
        group=CAPS,
        advanced=True,
        rows=False,
    )
    dry_run: bool = option(
        False,
        "print an estimate of requests, tokens and dollars, then stop",
        group=CAPS,
        rows=False,
    )
