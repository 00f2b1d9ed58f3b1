"""synthgen: training data from an LLM, without losing a token paid for.

Reads    nothing (--brainstorm), tasks, texts or examples: what it reads decides what it does
Writes   tasks; from tasks or texts, examples; from examples, the same and more (--job)
Holds    8,192 rows, --concurrency x 16 requests, 300 bytes a row; the answers are on disk

  synthgen --brainstorm 50 --model gpt-5-mini | synthgen --model gpt-5-mini --per-row 20 -o p.arrow
  synthgen corpus.parquet --model qwen3 --base-url http://localhost:8000/v1 --per-row 3 -o p.arrow

A killed run goes on where it was when the same command is given again, and asks nothing twice.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Literal

from fletching import cli
from fletching.errors import Usage
from fletching.options import IO, Output, Seed, Standard
from fletching.report import Report

WORK = "what to make"
SERVER = "server"
CAPS = "caps and rates"

Group = Literal["short-long", "long-short", "short-short", "long-long", "sts", "bitext"]


@dataclass(frozen=True, kw_only=True)
class Options(Output, Seed, Standard):
    inputs: tuple[str, ...] = cli.positional("tasks, texts or examples: files, folders, globs or URLs; none or - is stdin", "INPUT")
    limit: int | None = cli.option(None, "read the first N rows only", metavar="N", low=1, group=IO, advanced=True)
    rejects: str | None = cli.option(
        None, "write what was not fit here, with its raw text and the reason", metavar="FILE", group=IO, rows=False
    )
    journal: str | None = cli.option(
        None, "keep the answers here [OUT.journal; for stdout in the user's cache]", metavar="DIR", group=IO, rows=False
    )
    ledger: str | None = cli.option(
        None, "write tokens, money and diversity here, as measures", metavar="FILE", group=IO, advanced=True, rows=False
    )

    brainstorm: int | None = cli.option(None, "think up N tasks of each of --types; reads nothing", metavar="N", low=1, group=WORK)
    types: tuple[Group, ...] = cli.option(
        ("short-long", "long-short", "short-short", "long-long", "sts", "bitext"), "groups of tasks to think up", metavar="T,T", group=WORK
    )
    job: Literal["negatives", "paraphrase", "translate", "judge"] | None = cli.option(None, "what to do with examples", group=WORK)
    per_row: int = cli.option(
        1, "examples a task, queries a passage, negatives or paraphrases an example", metavar="N", low=1, high=1000, group=WORK
    )
    languages: tuple[str, ...] = cli.option(
        ("en",), "of queries and documents, e.g. en,de; all: 93, the big ones more often", metavar="L,L", group=WORK
    )
    prompts: str | None = cli.option(
        None, "files that stand in for our prompts, value sets, languages, seed tasks", metavar="DIR", group=WORK, advanced=True, rows=False
    )
    export_prompts: str | None = cli.option(
        None,
        "copy our prompts and value sets to a new folder, to be edited; then stop",
        metavar="DIR",
        group=WORK,
        advanced=True,
        rows=False,
    )
    length_slack: float = cli.option(0.5, "lengths may miss what was asked by this share", metavar="X", low=0, group=WORK, advanced=True)
    language_check: bool = cli.option(True, "keep texts that are plainly in another language", group=WORK, advanced=True)
    repair: bool = cli.option(True, "drop a reply that cannot be read; else its right form is asked for once", group=WORK, advanced=True)
    replace_scores: bool = cli.option(False, "judge: overwrite scores of a reranker, label or judge", group=WORK, advanced=True)

    model: str = cli.required("name of the model, as the server knows it", metavar="M", group=SERVER)
    base_url: str | None = cli.option(
        None, "an OpenAI-compatible server, e.g. http://localhost:8000/v1 [OpenAI's]", metavar="URL", group=SERVER, rows=False
    )
    api_key_env: str | None = cli.option(
        None, "environment variable with the key [OPENAI_API_KEY, for OpenAI's server alone]", metavar="NAME", group=SERVER, rows=False
    )
    api_key_file: str | None = cli.option(None, "file with the key, and nothing else", metavar="FILE", group=SERVER, rows=False)
    response_format: Literal["auto", "json-schema", "json-object-schema", "json-object", "prompt"] = cli.option(
        "auto", "how the form of replies is demanded; auto tries the server once", group=SERVER, advanced=True, rows=False
    )
    temperature: float = cli.option(1.0, "of the sampling", metavar="T", low=0, high=2, group=SERVER, advanced=True)
    top_p: float = cli.option(1.0, "of the sampling", metavar="P", low=0, high=1, group=SERVER, advanced=True)
    answer_tokens: int = cli.option(4096, "longest reply", metavar="N", low=1, group=SERVER, advanced=True)
    body: str | None = cli.option(
        None,
        "JSON file with more fields of each request (seed, reasoning_effort, ...)",
        metavar="FILE",
        group=SERVER,
        advanced=True,
        rows=False,
    )
    timeout: float = cli.option(180.0, "seconds for a whole reply", metavar="S", low=0.01, group=SERVER, advanced=True, rows=False)
    retries: int = cli.option(
        8,
        "more attempts after 408, 409, 429, 5xx, time-outs and lost connections",
        metavar="N",
        low=0,
        group=SERVER,
        advanced=True,
        rows=False,
    )
    longest_wait: float = cli.option(
        600.0, "longest pause in seconds that a server may ask for", metavar="S", low=0, group=SERVER, advanced=True, rows=False
    )
    batch: bool = cli.option(False, "by the OpenAI Batch API: within a day, for about half the price", group=SERVER, rows=False)
    poll: float = cli.option(60.0, "--batch: seconds between looks", metavar="S", low=0.01, group=SERVER, advanced=True, rows=False)

    concurrency: int = cli.option(32, "requests in flight", metavar="N", low=1, high=2048, group=CAPS, rows=False)
    requests_per_minute: int | None = cli.option(None, "never more than this", metavar="N", low=1, group=CAPS, advanced=True, rows=False)
    tokens_per_minute: int | None = cli.option(
        None, "never more than this, sent and made together", metavar="N", low=1, group=CAPS, advanced=True, rows=False
    )
    max_requests: int | None = cli.option(
        None, "ask no more than this in the whole job, killed runs included", metavar="N", low=0, group=CAPS, advanced=True
    )
    max_tokens: int | None = cli.option(
        None, "no more tokens than this in the whole job, sent and made together", metavar="N", low=0, group=CAPS, advanced=True
    )
    max_cost: float | None = cli.option(
        None, "spend no more dollars than this in the whole job, killed runs included", metavar="X", low=0, group=CAPS
    )
    prices: str | None = cli.option(
        None,
        "price table: {model: {input, output, cached, batch}}, dollars a million tokens",
        metavar="FILE",
        group=CAPS,
        advanced=True,
        rows=False,
    )
    dry_run: bool = cli.option(False, "print how many requests, tokens and dollars it would take, and ask nothing", group=CAPS, rows=False)


def check(options: Options) -> None:
    if options.brainstorm and options.inputs:
        raise Usage("--brainstorm reads nothing, but a file is named", "leave one of them out")
    if options.brainstorm and options.job:
        raise Usage("--job is for examples, and --brainstorm reads nothing", "leave one of them out")
    if options.brainstorm and options.limit:
        raise Usage("--limit is for rows read, and --brainstorm reads nothing", "leave it out; --brainstorm N says how many")
    if options.api_key_env and options.api_key_file:
        raise Usage("--api-key-env and --api-key-file both give a key", "leave one of them out")
    files = [os.path.abspath(path) for path in (options.output, options.rejects, options.ledger) if path not in (None, "-")]
    if len(set(files)) < len(files):
        raise Usage("two of --output, --rejects and --ledger are the same file", "give each a name of its own")
    if options.journal and os.path.exists(options.journal) and not os.path.isdir(options.journal):
        raise Usage(f"--journal {options.journal} is no folder", "name a folder; it is made where it does not exist")
    if options.replace_scores and options.job != "judge":
        raise Usage("--replace-scores is for --job judge", "leave it out")


def run(options: Options, report: Report) -> int:
    if options.export_prompts:
        from synthgen.prompts.library import Materials

        names = Materials(options.prompts).export(options.export_prompts)
        report.note(
            f"{len(names)} files in {options.export_prompts}; edit them, delete the others, and pass --prompts {options.export_prompts}"
        )
        return 0
    check(options)

    from synthgen.run import Run

    return Run(options, report, TOOL.version).go()


TOOL = cli.Tool(
    "synthgen", Options, run, __doc__, "synthgen (--brainstorm N | [TASKS|TEXTS|EXAMPLES...]) --model M [--base-url URL] [-o OUT]"
)


def main(argv: list[str] | None = None) -> int:
    return cli.main(TOOL, argv)
