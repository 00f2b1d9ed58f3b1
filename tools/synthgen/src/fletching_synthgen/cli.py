"""synthgen: training data from an LLM, without losing a token paid for.

Reads    nothing (--brainstorm), tasks, texts or examples; the input decides what is made
Writes   tasks; from tasks or texts, examples; from examples, the same and more (--job)
Holds    8,192 rows, --concurrency x 16 requests, 300 bytes a row; the responses are on disk

  synthgen --brainstorm 50 --model gpt-5-mini | synthgen --model gpt-5-mini --per-row 20 -o p.arrow
  synthgen corpus.parquet --model qwen3 --base-url http://localhost:8000/v1 --per-row 3 -o p.arrow

A killed run resumes when the same command is given again; no request is paid for twice.
"""

from __future__ import annotations

import os

from fletching import cli
from fletching.errors import UsageError
from fletching.report import Report
from fletching_synthgen.options import Options


def check(options: Options) -> None:
    """Refuse options that contradict each other. Raises UsageError."""
    if options.brainstorm:
        _check_brainstorm(options)
    if options.api_key_env and options.api_key_file:
        raise UsageError(
            "--api-key-env and --api-key-file both give a key", "leave one of them out"
        )
    outputs = [options.output, options.rejects, options.ledger]
    files = [os.path.abspath(path) for path in outputs if path not in (None, "-")]
    if len(set(files)) < len(files):
        raise UsageError(
            "two of --output, --rejects and --ledger are the same file",
            "name a different file for each",
        )
    if options.journal and os.path.exists(options.journal) and not os.path.isdir(options.journal):
        raise UsageError(
            f"--journal {options.journal} is no folder",
            "name a folder; it is created where it does not exist",
        )
    if options.replace_scores:
        _check_replace_scores(options)


def _check_brainstorm(options: Options) -> None:
    if options.inputs:
        raise UsageError("--brainstorm reads nothing, but a file is named", "leave one of them out")
    if options.job:
        raise UsageError(
            "--job is for examples or texts, and --brainstorm reads nothing",
            "leave one of them out",
        )
    if options.limit:
        raise UsageError(
            "--limit is for rows read, and --brainstorm reads nothing",
            "leave it out; --brainstorm N is the number of tasks",
        )


def _check_replace_scores(options: Options) -> None:
    from fletching_synthgen.jobs.registry import job_names, score_jobs

    if options.job not in score_jobs():
        raise UsageError(f"--replace-scores is for --job {job_names(score_jobs())}", "leave it out")


def run(options: Options, report: Report) -> int:
    """Write the output of one run; the exit code."""
    if options.export_prompts:
        from fletching_synthgen.prompts.library import PromptLibrary

        folder = options.export_prompts
        names = PromptLibrary(options.prompts).export(folder)
        report.note(
            f"{len(names)} files in {folder}; edit some, delete the others, and pass "
            f"--prompts {folder}"
        )
        return 0
    check(options)

    from fletching_synthgen.run import GenerationRun

    return GenerationRun(options, report, TOOL.version).execute()


TOOL = cli.Tool(
    name="synthgen",
    options=Options,
    run=run,
    doc=__doc__,
    usage=(
        "synthgen (--brainstorm N | [TASKS|TEXTS|EXAMPLES...]) --model M [--base-url URL] [-o OUT]"
    ),
    check=check,
)


def main(argv: list[str] | None = None) -> int:
    """Run the command line; the exit code."""
    return cli.main(TOOL, argv)
