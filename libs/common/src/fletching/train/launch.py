"""The command line of a tool that trains: its checks, and its run in one or more processes."""

from __future__ import annotations

import contextlib
import gc
import os
import sys
from collections.abc import Iterator, Sequence
from typing import Any, Protocol, TypeVar

from fletching import cli
from fletching.early_checks import OpenInputs, check_inputs, check_models
from fletching.errors import UsageError
from fletching.options import TrainingOptions
from fletching.report import Report
from fletching.table import atomic
from fletching.train import agreement
from fletching.train.distributed import process_group
from fletching.train.manifest import PATHS, Manifest, digest_command
from fletching.train.run_dir import RunDir

ENGINES_OF_ACCELERATE = ("DEEPSPEED", "FSDP", "MEGATRON_LM")

# How many kernels oneDNN, and torch's layer over it, keep: 1024 each without these.
KERNEL_CACHES = ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY")
MOST_KERNELS = "128"

# What may differ between the processes of a run: how one speaks, and its machine.
OPTIONS_OF_A_PROCESS = (
    *("config", "print_config", "quiet", "verbose", "json_summary", "html"),
    *("output", "device", "activations"),
)
SAME_COMMAND = "give the same command, in the same versions, on every machine"
SAME_FILES = "put the same models and files on every machine, or on a disk that all share"

OptionsOfTool = TypeVar("OptionsOfTool", bound=TrainingOptions)
OptionsTaken = TypeVar("OptionsTaken", bound=TrainingOptions, contravariant=True)


class TrainingJob(Protocol):
    """The resolved inputs of a run, made once from the options."""

    @property
    def manifest(self) -> Manifest:
        """What must be equal for a run to resume from a checkpoint."""

    def dry_run(self) -> None:
        """Report what training would do."""

    def train(self, folder: RunDir, newest: str | None, /) -> None:
        """Train, from the checkpoint `newest` where there is one, and publish the model."""


class JobFactory(Protocol[OptionsTaken]):
    """Makes the job of a tool. run_path: the folder of its files."""

    def __call__(
        self, options: OptionsTaken, report: Report, tool: cli.Tool, run_path: str
    ) -> TrainingJob:
        """The job of these options."""


def check(options: TrainingOptions) -> None:
    """Raise UsageError where options that every training tool has contradict each other."""
    for engine in ENGINES_OF_ACCELERATE:
        if os.environ.get(f"ACCELERATE_USE_{engine}", "").lower() in ("1", "true"):
            raise UsageError(
                f"ACCELERATE_USE_{engine} is set, and {engine} of accelerate does not carry "
                "the gradient of a global batch in parts",
                "put torchrun --nproc-per-node N before the command, and leave accelerate out",
            )
    if process_group.world_size() > 1 and options.dry_run:
        raise UsageError("--dry-run is for one process", "start it without torchrun")
    if options.epochs is not None and options.steps is not None:
        raise UsageError("--epochs and --steps both say how long to train", "leave one of them out")
    if options.output is None and not options.dry_run:
        raise UsageError("-o is missing", "name the folder of the model: -o DIR")


def run(
    options: OptionsOfTool,
    report: Report,
    tool: cli.Tool,
    *,
    job: JobFactory[OptionsOfTool],
    inputs: Sequence[str],
    open_inputs: OpenInputs[OptionsOfTool],
) -> None:
    """Train, or report what training would do (--dry-run).

    open_inputs: opens `inputs` as the job will, before torch is imported.
    """

    def check_early() -> None:
        check_models(options)
        if process_group.is_main():  # which reads them
            check_inputs(options, inputs, tool=tool.name, open_inputs=open_inputs)

    is_alone = process_group.world_size() == 1
    if is_alone:
        check_early()
    set_environment()
    if options.dry_run:
        dry_run(options, report, tool, job=job)
        return
    if not process_group.is_main():
        report.quiet = True
        report.json_summary = None
    with process_group.join_group():
        if not is_alone:
            check_early()  # now that all hear of a failure
            agreement.refuse_differences("options", shared_options(options), SAME_COMMAND)
        command = digest_command(tool.name, cli.row_options(options))
        run_dir = RunDir(options.output or "", command)
        try:
            with without_garbage_collection():
                training_job = job(options, report, tool, run_path=run_dir.path)
            known = {key: value for key, value in training_job.manifest.items() if value}
            agreement.refuse_differences("data or models", known, SAME_FILES)
            if run_dir.is_finished(training_job.manifest):
                note_finished(report, run_dir)
                return
            newest = run_dir.resume_or_start(training_job.manifest)
            for line in run_dir.passed_over:
                report.note(f"{line}; going on from the one before")
        except BaseException:
            run_dir.abandon()
            raise
        training_job.train(run_dir, newest)


def set_environment() -> None:
    """What libraries read from the environment when torch is imported; the user's values stay."""
    # Threads that wait sleep: on a busy machine, spinning ones make a step several times as
    # slow.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    # Texts bring new shapes at every step, and a kernel of one costs up to megabytes.
    for name in KERNEL_CACHES:
        os.environ.setdefault(name, MOST_KERNELS)


def shared_options(options: TrainingOptions) -> dict[str, Any]:
    """The options that every process must have, by field name.

    Not paths of models and files, which are compared by their content.
    """
    return {
        name: value
        for name, value in vars(options).items()
        if name not in (*PATHS, *OPTIONS_OF_A_PROCESS)
    }


@contextlib.contextmanager
def without_garbage_collection() -> Iterator[None]:
    """Python looks for no cycles of objects in here.

    torch and its libraries make a million objects that live on; each search walks all of them,
    which is a tenth of the time that the imports take.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def freeze_imports() -> None:
    """Leave what was imported so far out of every later search for cycles, the Trainer's included.

    One search walks the million objects of torch and its libraries: half a second. Only the first
    run of a process does it: another one would keep the models of those before for good.
    """
    if not gc.get_freeze_count():
        gc.freeze()


def note_finished(report: Report, run_dir: RunDir) -> None:
    """Say that an earlier run is done; every row that was read counts as dropped."""
    report.note(f"{run_dir.output} is done: an earlier run of this command published it")
    drop_rest(report, "trained on by an earlier run")


def drop_rest(report: Report, reason: str) -> None:
    """Count every row that was read, and not yet dropped, as dropped."""
    rows = report.rows_in + report.added.total() - report.dropped.total()
    report.drop(reason, rows)


def dry_run(
    options: OptionsOfTool, report: Report, tool: cli.Tool, *, job: JobFactory[OptionsOfTool]
) -> None:
    """Report what training would do; every row that was read counts as dropped."""
    with atomic.scratch_folder(tool.name) as scratch:
        job(options, report, tool, run_path=scratch).dry_run()
    drop_rest(report, "not trained: dry run")


def main(tool: cli.Tool, argv: Sequence[str] | None) -> int:
    """The exit code; a program, and one of several processes, ends here."""
    words = sys.argv[1:] if argv is None else argv
    with process_group.rank_zero_output():
        try:
            code = cli.main(tool, words)
        except SystemExit as silent:
            code = int(silent.code or 0)
    process_group.exit_rank(code)
    if argv is None:
        cli.leave(code)
    return code
