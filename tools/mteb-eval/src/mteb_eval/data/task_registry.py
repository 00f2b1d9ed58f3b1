"""Tasks and benchmarks that mteb knows by name, on data from a local folder.

Nothing is downloaded while models are evaluated: `--fetch` does that, first and alone. The data
of a task are in DATA/<task> or DATA/<its repository>: a BEIR folder, one file per split (STS), or
a copy of the repository, which is what --fetch makes.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator, Sequence

import mteb
from datasets import DatasetDict
from mteb.abstasks.abstask import AbsTask
from mteb.abstasks.aggregated_task import AbsTaskAggregate
from mteb.abstasks.retrieval import AbsTaskRetrieval
from mteb.abstasks.sts import AbsTaskSTS

from fletching.errors import InputError, UsageError
from fletching.report import Report
from fletching.table import atomic
from mteb_eval.data.beir_folder import has_judgements, read_beir_folder
from mteb_eval.data.local_tasks import pair_table, retrieval_split
from mteb_eval.data.sentence_pairs import read_pairs

EXTENSIONS = (".parquet", ".jsonl", ".jsonl.gz", ".csv", ".csv.gz", ".tsv")


def find_tasks(names: Sequence[str], benchmarks: Sequence[str]) -> list[AbsTask]:
    """The tasks of these names, then those of the benchmarks; aggregates become their parts.

    Raises UsageError for a name that mteb does not know, and for a task that is not on texts alone.
    """
    tasks: list[AbsTask] = []
    try:
        for name in names:
            tasks += _flatten(mteb.get_task(name))
        for name in benchmarks:
            for task in mteb.get_benchmark(name).tasks:
                tasks += _flatten(task)
    except KeyError as error:
        reason = str(error.args[0]).removeprefix("KeyError: ").strip("\"'")
        raise UsageError(f"mteb: {reason}", "mteb.get_tasks() lists the names") from None
    distinct = {task.metadata.name: task for task in tasks}
    for name, task in distinct.items():
        if task.metadata.modalities != ["text"]:
            modalities = ", ".join(task.metadata.modalities)
            raise UsageError(
                f"{name} needs {modalities}, but models here read text", "leave it out"
            )
    return list(distinct.values())


def _flatten(task: AbsTask) -> list[AbsTask]:
    """The task, or all tasks of an aggregate."""
    if not isinstance(task, AbsTaskAggregate):
        return [task]
    return [leaf for part in task.tasks for leaf in _flatten(part)]


def find_folder(task: AbsTask, data: str) -> str | None:
    """The folder of a task's data, or None."""
    repository = task.metadata.dataset["path"]
    for name in (task.metadata.name, repository, repository.split("/")[-1]):
        folder = os.path.join(data, name)
        if os.path.isdir(folder):
            return folder
    return None


def require_data(tasks: Sequence[AbsTask], data: str) -> None:
    """Raises InputError where data are missing; it names all such tasks at once."""
    missing = [task.metadata for task in tasks if find_folder(task, data) is None]
    if not missing:
        return
    listed = "; ".join(f"{task.name} ({task.dataset['path']})" for task in missing)
    names = ",".join(task.name for task in missing)
    first = f"{data}/{missing[0].name}/"
    raise InputError(
        f"no data under {data}/ for {listed}",
        f"with a network, once: mteb-eval --fetch --tasks {names} --data {data}\n"
        f"       without: put a BEIR folder or a copy of the repository at {first}, "
        "or test.csv for an STS task",
    )


def load_task(report: Report, task: AbsTask, data: str) -> AbsTask:
    """The task with its data in memory; `require_data` has found its folder."""
    folder = find_folder(task, data)
    assert folder is not None
    if isinstance(task, AbsTaskRetrieval) and has_judgements(folder):
        _load_beir_folder(report, task, folder)
        return task
    if isinstance(task, AbsTaskSTS) and not task.metadata.is_multilingual:
        files = _split_files(folder, task.eval_splits)
        if files:
            _load_pairs(report, task, files)
            return task
    _load_repository(task, folder)
    return task


def _load_beir_folder(report: Report, task: AbsTaskRetrieval, folder: str) -> None:
    name = task.metadata.name
    splits = {}
    for split in task.eval_splits:
        splits[split] = retrieval_split(
            read_beir_folder(report, name=name, folder=folder, split=split)
        )
    task.dataset = {"default": splits}
    task.data_loaded = True


def _load_pairs(report: Report, task: AbsTaskSTS, files: dict[str, str]) -> None:
    name = task.metadata.name
    splits = DatasetDict()
    for split, path in files.items():
        pairs = read_pairs(report, name, path, labelled=False, split=split)
        splits[split] = pair_table(pairs, "score", pairs.labels)
    task.dataset = splits
    task.data_loaded = True


def _split_files(folder: str, splits: Sequence[str]) -> dict[str, str]:
    """The file of each split, e.g. test.csv; {} unless every split has one."""
    files = {}
    for split in splits:
        paths = [os.path.join(folder, split + extension) for extension in EXTENSIONS]
        present = [path for path in paths if os.path.exists(path)]
        if not present:
            return {}
        files[split] = present[0]
    return files


def _load_repository(task: AbsTask, folder: str) -> None:
    """Let mteb read a copy of the task's repository."""
    dataset = dict(task.metadata.dataset)
    dataset.pop("trust_remote_code", None)
    local = dataset | {"path": os.path.abspath(folder)}
    task.metadata = task.metadata.model_copy(update={"dataset": local})
    try:
        with offline():
            task.load_data()
    except Exception as error:  # datasets, pyarrow and mteb each raise their own
        raise InputError(
            f"{folder} cannot be read as the data of {task.metadata.name}: {_first_line(error)}",
            "fetch it again, or see README.md for the layouts",
        ) from error
    task.metadata = task.metadata.model_copy(update={"dataset": dataset})


@contextlib.contextmanager
def offline() -> Iterator[None]:
    """`datasets` without the hub, which it asks for a newer version even of a local folder."""
    import datasets.config

    before = datasets.config.HF_HUB_OFFLINE
    datasets.config.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        datasets.config.HF_HUB_OFFLINE = before


def fetch_tasks(report: Report, tasks: Sequence[AbsTask], data: str) -> None:
    """Copy the repository of each task, at the revision that mteb names, to DATA/<task>.

    Python files are left out. Raises InputError where a download fails; what is complete stays.
    """
    os.makedirs(data, exist_ok=True)
    for task in tasks:
        folder = find_folder(task, data)
        if folder:
            report.note(f"{task.metadata.name}: its data are in {folder} already")
        else:
            _fetch(report, task, data)


def _fetch(report: Report, task: AbsTask, data: str) -> None:
    from huggingface_hub import snapshot_download

    name, source = task.metadata.name, task.metadata.dataset
    temporary = os.path.join(data, f".{name}.fetching")  # kept on failure, to be resumed
    report.note(f"{name}: fetching {source['path']}")
    try:
        snapshot_download(
            source["path"],
            repo_type="dataset",
            revision=source["revision"],
            local_dir=temporary,
            ignore_patterns=["*.py"],
        )
    except Exception as error:
        raise InputError(
            f"{source['path']} cannot be fetched: {_first_line(error)}",
            "check the network and HF_TOKEN, then run --fetch again: it resumes",
        ) from error
    shutil.rmtree(os.path.join(temporary, ".cache"), ignore_errors=True)
    atomic.move_folder(temporary, os.path.join(data, name))


def _first_line(error: Exception) -> str:
    """The first line of an exception's text, or its type where it has none."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
