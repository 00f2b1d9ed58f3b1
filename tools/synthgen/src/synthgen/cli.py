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

from fletching import cli
from fletching.errors import UsageError
from fletching.report import Report
from synthgen.options import Options


def check(options: Options) -> None:
    if options.brainstorm and options.inputs:
        raise UsageError("--brainstorm reads nothing, but a file is named", "leave one of them out")
    if options.brainstorm and options.job:
        raise UsageError(
            "--job is for examples, and --brainstorm reads nothing", "leave one of them out"
        )
    if options.brainstorm and options.limit:
        raise UsageError(
            "--limit is for rows read, and --brainstorm reads nothing",
            "leave it out; --brainstorm N says how many",
        )
    if options.api_key_env and options.api_key_file:
        raise UsageError(
            "--api-key-env and --api-key-file both give a key", "leave one of them out"
        )
    files = [
        os.path.abspath(path)
        for path in (options.output, options.rejects, options.ledger)
        if path not in (None, "-")
    ]
    if len(set(files)) < len(files):
        raise UsageError(
            "two of --output, --rejects and --ledger are the same file",
            "give each a name of its own",
        )
    if options.journal and os.path.exists(options.journal) and not os.path.isdir(options.journal):
        raise UsageError(
            f"--journal {options.journal} is no folder",
            "name a folder; it is made where it does not exist",
        )
    if options.replace_scores and options.job != "judge":
        raise UsageError("--replace-scores is for --job judge", "leave it out")


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
    "synthgen",
    Options,
    run,
    __doc__,
    "synthgen (--brainstorm N | [TASKS|TEXTS|EXAMPLES...]) --model M [--base-url URL] [-o OUT]",
)


def main(argv: list[str] | None = None) -> int:
    return cli.main(TOOL, argv)
