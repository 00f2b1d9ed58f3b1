"""The command line of a tool that trains: what each of them refuses, and one run in one process or in several."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, Protocol

from fletching import cli
from fletching.errors import UsageError
from fletching.report import Report
from fletching.train.distributed import process_group
from fletching.train.run_dir import RunDir


class TrainingJob(Protocol):
    """What a run stands on, made once from the options."""

    @property
    def manifest(self) -> dict[str, Any]:
        """What must be equal for a run to go on from a checkpoint."""

    def dry_run(self) -> None: ...

    def train(self, folder: RunDir, newest: str | None) -> None: ...


def check(options: Any) -> None:
    """Raises Usage where options that all of these tools have contradict each other."""
    for engine in ("DEEPSPEED", "FSDP", "MEGATRON_LM"):
        if os.environ.get(f"ACCELERATE_USE_{engine}", "").lower() in ("1", "true"):
            raise UsageError(
                f"ACCELERATE_USE_{engine} is set, and {engine} of accelerate does not carry the gradient of a global batch in parts",
                "put torchrun --nproc-per-node N before the command, and leave accelerate out",
            )
    if process_group.world_size() > 1 and options.dry_run:
        raise UsageError("--dry-run is for one process", "start it without torchrun")
    if options.epochs is not None and options.steps is not None:
        raise UsageError("--epochs and --steps both say how long to train", "leave one of them out")
    if options.output is None and not options.dry_run:
        raise UsageError("-o is missing", "name the folder of the model: -o DIR")


def run(
    options: Any,
    report: Report,
    tool: cli.Tool,
    job: Callable[[Any, Report, cli.Tool, str], TrainingJob],
) -> None:
    """Train, or say what training would do. job: makes the Job whose files lie in the given folder."""
    # Threads that wait sleep: on a busy machine, spinning ones make a step several times as slow.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    if options.dry_run:
        dry_run(options, report, tool, job)
        return
    if not process_group.is_main():
        report.quiet, report.json_summary = True, None
    with process_group.join_group():
        folder = RunDir(options.output)
        try:
            made = job(options, report, tool, folder.path)
            newest = folder.resume_or_start(made.manifest)
        except BaseException:
            folder.abandon()
            raise
        made.train(folder, newest)


def dry_run(
    options: Any,
    report: Report,
    tool: cli.Tool,
    job: Callable[[Any, Report, cli.Tool, str], TrainingJob],
) -> None:
    import tempfile

    with tempfile.TemporaryDirectory(prefix=f"{tool.name}-") as scratch:
        job(options, report, tool, scratch).dry_run()
    report.drop(
        "not trained: dry run", report.rows_in + report.added.total() - report.dropped.total()
    )


def main(tool: cli.Tool, argv: list[str] | None) -> int:
    """The exit code; one of several processes ends here."""
    with process_group.rank_zero_output():
        try:
            code = cli.main(tool, argv)
        except SystemExit as silent:
            code = int(silent.code or 0)
    process_group.exit_rank(code)
    return code
