"""The options of synthgen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fletching.options import (
    IO,
    OutputOptions,
    SeedOptions,
    StandardOptions,
    option,
    positional,
    required,
)

WORK = "what to make"
SERVER = "server"
CAPS = "caps and rates"
Group = Literal["short-long", "long-short", "short-short", "long-long", "sts", "bitext"]


@dataclass(frozen=True, kw_only=True)
class Options(OutputOptions, SeedOptions, StandardOptions):
    inputs: tuple[str, ...] = positional(
        "tasks, texts or examples: files, folders, globs or URLs; none or - is stdin", "INPUT"
    )
    limit: int | None = option(
        None, "read the first N rows only", metavar="N", low=1, group=IO, advanced=True
    )
    rejects: str | None = option(
        None,
        "write what was not fit here, with its raw text and the reason",
        metavar="FILE",
        group=IO,
        rows=False,
    )
    journal: str | None = option(
        None,
        "keep the answers here [OUT.journal; for stdout in the user's cache]",
        metavar="DIR",
        group=IO,
        rows=False,
    )
    ledger: str | None = option(
        None,
        "write tokens, money and diversity here, as measures",
        metavar="FILE",
        group=IO,
        advanced=True,
        rows=False,
    )

    brainstorm: int | None = option(
        None, "think up N tasks of each of --types; reads nothing", metavar="N", low=1, group=WORK
    )
    types: tuple[Group, ...] = option(
        ("short-long", "long-short", "short-short", "long-long", "sts", "bitext"),
        "groups of tasks to think up",
        metavar="T,T",
        group=WORK,
    )
    job: Literal["negatives", "paraphrase", "translate", "judge"] | None = option(
        None, "what to do with examples", group=WORK
    )
    per_row: int = option(
        1,
        "examples a task, queries a passage, negatives or paraphrases an example",
        metavar="N",
        low=1,
        high=1000,
        group=WORK,
    )
    languages: tuple[str, ...] = option(
        ("en",),
        "of queries and documents, e.g. en,de; all: 93, the big ones more often",
        metavar="L,L",
        group=WORK,
    )
    prompts: str | None = option(
        None,
        "files that stand in for our prompts, value sets, languages, seed tasks",
        metavar="DIR",
        group=WORK,
        advanced=True,
        rows=False,
    )
    export_prompts: str | None = option(
        None,
        "copy our prompts and value sets to a new folder, to be edited; then stop",
        metavar="DIR",
        group=WORK,
        advanced=True,
        rows=False,
    )
    length_slack: float = option(
        0.5,
        "lengths may miss what was asked by this share",
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
        "drop a reply that cannot be read; else its right form is asked for once",
        group=WORK,
        advanced=True,
    )
    replace_scores: bool = option(
        False, "judge: overwrite scores of a reranker, label or judge", group=WORK, advanced=True
    )

    model: str = required("name of the model, as the server knows it", metavar="M", group=SERVER)
    base_url: str | None = option(
        None,
        "an OpenAI-compatible server, e.g. http://localhost:8000/v1 [OpenAI's]",
        metavar="URL",
        group=SERVER,
        rows=False,
    )
    api_key_env: str | None = option(
        None,
        "environment variable with the key [OPENAI_API_KEY, for OpenAI's server alone]",
        metavar="NAME",
        group=SERVER,
        rows=False,
    )
    api_key_file: str | None = option(
        None, "file with the key, and nothing else", metavar="FILE", group=SERVER, rows=False
    )
    response_format: Literal[
        "auto", "json-schema", "json-object-schema", "json-object", "prompt"
    ] = option(
        "auto",
        "how the form of replies is demanded; auto tries the server once",
        group=SERVER,
        advanced=True,
        rows=False,
    )
    temperature: float = option(
        1.0, "of the sampling", metavar="T", low=0, high=2, group=SERVER, advanced=True
    )
    top_p: float = option(
        1.0, "of the sampling", metavar="P", low=0, high=1, group=SERVER, advanced=True
    )
    answer_tokens: int = option(
        4096, "longest reply", metavar="N", low=1, group=SERVER, advanced=True
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
        "seconds for a whole reply",
        metavar="S",
        low=0.01,
        group=SERVER,
        advanced=True,
        rows=False,
    )
    retries: int = option(
        8,
        "more attempts after 408, 409, 429, 5xx, time-outs and lost connections",
        metavar="N",
        low=0,
        group=SERVER,
        advanced=True,
        rows=False,
    )
    longest_wait: float = option(
        600.0,
        "longest pause in seconds that a server may ask for",
        metavar="S",
        low=0,
        group=SERVER,
        advanced=True,
        rows=False,
    )
    batch: bool = option(
        False,
        "by the OpenAI Batch API: within a day, for about half the price",
        group=SERVER,
        rows=False,
    )
    poll: float = option(
        60.0,
        "--batch: seconds between looks",
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
        None, "never more than this", metavar="N", low=1, group=CAPS, advanced=True, rows=False
    )
    tokens_per_minute: int | None = option(
        None,
        "never more than this, sent and made together",
        metavar="N",
        low=1,
        group=CAPS,
        advanced=True,
        rows=False,
    )
    max_requests: int | None = option(
        None,
        "ask no more than this in the whole job, killed runs included",
        metavar="N",
        low=0,
        group=CAPS,
        advanced=True,
    )
    max_tokens: int | None = option(
        None,
        "no more tokens than this in the whole job, sent and made together",
        metavar="N",
        low=0,
        group=CAPS,
        advanced=True,
    )
    max_cost: float | None = option(
        None,
        "spend no more dollars than this in the whole job, killed runs included",
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
        "print how many requests, tokens and dollars it would take, and ask nothing",
        group=CAPS,
        rows=False,
    )
