"""Tasks and benchmarks that mteb knows by name, on data from a local folder.

Nothing is downloaded while models are evaluated: `--fetch` does that, first and alone. A task's data are
looked for in DATA/<task> and DATA/<its repository>, as a BEIR folder, as one file a split (STS), or as a
copy of the repository, which is what --fetch makes.
"""

from __future__ import annotations

import contextlib
import glob
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
from mteb_eval.data import collection, sentence_pairs
from mteb_eval.data.local_tasks import pair_table, retrieval_split

EXTENSIONS = (".parquet", ".jsonl", ".jsonl.gz", ".csv", ".csv.gz", ".tsv")


def find(names: Sequence[str], benchmarks: Sequence[str]) -> list[AbsTask]:
    """The tasks of these names, then those of the benchmarks; a task of several parts is its parts."""
    found: list[AbsTask] = []
    try:
        for name in names:
            found += _parts(mteb.get_task(name))
        for name in benchmarks:
            for task in mteb.get_benchmark(name).tasks:
                found += _parts(task)
    except KeyError as error:
        told = str(error.args[0]).removeprefix("KeyError: ").strip("\"'")
        raise UsageError(f"mteb: {told}", "mteb.get_tasks() lists the names") from None
    distinct = {task.metadata.name: task for task in found}
    foreign = next(
        (task for task in distinct.values() if task.metadata.modalities != ["text"]), None
    )
    if foreign:
        raise UsageError(
            f"{foreign.metadata.name} needs {', '.join(foreign.metadata.modalities)}, but models here read text",
            "leave it out",
        )
    return list(distinct.values())


def _parts(task: AbsTask) -> list[AbsTask]:
    return (
        [part for own in task.tasks for part in _parts(own)]
        if isinstance(task, AbsTaskAggregate)
        else [task]
    )


def folder_of(task: AbsTask, data: str) -> str | None:
    """Where the data of a task stand, or None."""
    repository = task.metadata.dataset["path"]
    places = (task.metadata.name, repository, repository.split("/")[-1])
    return next(
        (path for path in (os.path.join(data, place) for place in places) if os.path.isdir(path)),
        None,
    )


def require(tasks: Sequence[AbsTask], data: str) -> None:
    """Refuse when the data of a task are missing; all of them are named at once."""
    missing = [task for task in tasks if folder_of(task, data) is None]
    if missing:
        told = "; ".join(
            f"{task.metadata.name} ({task.metadata.dataset['path']})" for task in missing
        )
        names = ",".join(task.metadata.name for task in missing)
        first = missing[0].metadata.name
        raise InputError(
            f"no data under {data}/ for {told}",
            f"with a network, once: mteb-eval --fetch --tasks {names} --data {data}\n"
            f"       without: put a BEIR folder or a copy of the repository at {data}/{first}/, or test.csv for an STS task",
        )


def load(report: Report, task: AbsTask, data: str) -> AbsTask:
    """The task with its data in memory."""
    folder = folder_of(task, data)
    assert folder is not None  # `require` has looked
    if isinstance(task, AbsTaskRetrieval) and glob.glob(
        os.path.join(glob.escape(folder), "qrels", "*.tsv")
    ):
        splits = {
            split: collection.from_beir(report, task.metadata.name, folder, split)
            for split in task.eval_splits
        }
        task.dataset = {
            "default": {split: retrieval_split(found) for split, found in splits.items()}
        }
        task.data_loaded = True
    elif (
        isinstance(task, AbsTaskSTS)
        and not task.metadata.is_multilingual
        and (files := _split_files(folder, task.eval_splits))
    ):
        tables = {
            split: sentence_pairs.read(
                report, task.metadata.name, path, labelled=False, split=split
            )
            for split, path in files.items()
        }
        task.dataset = DatasetDict(
            {split: pair_table(table, "score", table.labels) for split, table in tables.items()}
        )
        task.data_loaded = True
    else:
        _from_copy(task, folder)
    return task


def _split_files(folder: str, splits: Sequence[str]) -> dict[str, str]:
    """One file a split, `test.csv`; empty unless every split has one."""
    found = {
        split: next(
            (
                path
                for ending in EXTENSIONS
                if os.path.exists(path := os.path.join(folder, split + ending))
            ),
            "",
        )
        for split in splits
    }
    return found if all(found.values()) else {}


def _from_copy(task: AbsTask, folder: str) -> None:
    """Let mteb read a copy of the task's repository."""
    own = {
        name: value for name, value in task.metadata.dataset.items() if name != "trust_remote_code"
    }
    local = own | {"path": os.path.abspath(folder), "revision": own["revision"]}
    task.metadata = task.metadata.model_copy(update={"dataset": local})
    try:
        with offline():
            task.load_data()
    except Exception as error:  # datasets, pyarrow and mteb each raise their own
        told = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InputError(
            f"{folder} cannot be read as the data of {task.metadata.name}: {told}",
            "fetch it again, or see README.md for the layouts",
        ) from error
    task.metadata = task.metadata.model_copy(update={"dataset": own})


@contextlib.contextmanager
def offline() -> Iterator[None]:
    """No call to the hub from `datasets`, which asks it even for a local folder's newer version."""
    import datasets.config

    before = datasets.config.HF_HUB_OFFLINE
    datasets.config.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        datasets.config.HF_HUB_OFFLINE = before


def fetch(report: Report, tasks: Sequence[AbsTask], data: str) -> None:
    """Copy the repositories of the tasks, at the revision that mteb names, to DATA/<task>; code stays away."""
    from huggingface_hub import snapshot_download

    os.makedirs(data, exist_ok=True)
    for task in tasks:
        name, source = task.metadata.name, task.metadata.dataset
        if folder_of(task, data):
            report.note(f"{name}: its data stand in {folder_of(task, data)} already")
            continue
        temporary = os.path.join(data, f".{name}.fetching")
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
            told = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise InputError(
                f"{source['path']} cannot be fetched: {told}",
                "check the network and HF_TOKEN, then run --fetch again: it goes on",
            ) from error
        shutil.rmtree(os.path.join(temporary, ".cache"), ignore_errors=True)
        os.replace(temporary, os.path.join(data, name))
