"""The tasks of a run: the user's own data first, then those that mteb knows by name."""

from __future__ import annotations

from collections.abc import Iterator

from mteb.abstasks.abstask import AbsTask
from mteb.abstasks.retrieval import AbsTaskRetrieval

from fletching.errors import UsageError
from fletching.report import Report
from mteb_eval.data import task_registry
from mteb_eval.data.beir_folder import read_beir_folder
from mteb_eval.data.candidate_blocks import read_in_blocks
from mteb_eval.data.collection import RetrievalCollection
from mteb_eval.data.examples_collection import read_examples
from mteb_eval.data.guard_texts import GUARD, GuardTexts, load_guard
from mteb_eval.data.local_tasks import LocalPairClassification, LocalRetrieval, LocalSts
from mteb_eval.data.names import name_paths, subset_label, task_name
from mteb_eval.data.sentence_pairs import read_pairs
from mteb_eval.options import Options

TaskSplit = tuple[str, str]  # label of the task, split


def load_tasks(options: Options, report: Report) -> tuple[list[AbsTask], GuardTexts | None]:
    """All tasks with their data in memory, in the order of --help; and the texts of a guard.

    Raises UsageError where two have the same name, InputError for missing or damaged data.
    """
    registered = task_registry.find_tasks(options.tasks, options.benchmark)
    task_registry.require_data(registered, options.data)  # before any other data are read
    tasks = list(_own_tasks(options, report))
    guard = load_guard(options, report)
    if isinstance(guard, AbsTask):
        tasks.append(guard)
    tasks += [task_registry.load_task(report, task, options.data) for task in registered]
    names = [task.metadata.name for task in tasks]
    if isinstance(guard, GuardTexts):
        names.append(GUARD)
    duplicate = next((name for name in names if names.count(name) > 1), None)
    if duplicate:
        raise UsageError(f"two data sets are called {duplicate}", "name one of them, as NAME=FILE")
    return tasks, guard if isinstance(guard, GuardTexts) else None


def _own_tasks(options: Options, report: Report) -> Iterator[AbsTask]:
    for name, path in name_paths(options.examples, "data set").items():
        yield LocalRetrieval(_read_examples(options, report, name=task_name(name), path=path))
    for name, folder in name_paths(options.beir, "data set").items():
        collection = read_beir_folder(
            report, name=task_name(name), folder=folder, split=options.beir_split
        )
        yield LocalRetrieval(collection)
    for name, path in name_paths(options.sts, "data set").items():
        yield LocalSts(read_pairs(report, task_name(name), path, labelled=False))
    for name, path in name_paths(options.pairs, "data set").items():
        yield LocalPairClassification(read_pairs(report, task_name(name), path, labelled=True))


def _read_examples(
    options: Options, report: Report, *, name: str, path: str
) -> RetrievalCollection:
    if options.mrr_candidates:
        return read_in_blocks(
            report,
            name,
            [path],
            size=options.mrr_candidates,
            seed=options.seed,
            limit=options.limit,
            reverse=options.reverse,
        )
    return read_examples(
        report,
        name,
        [path],
        corpus=options.corpus,
        with_negatives=options.corpus_negatives,
        limit=options.limit,
        reverse=options.reverse,
    )


def query_texts(tasks: list[AbsTask]) -> dict[TaskSplit, dict[str, str]]:
    """Query texts by id, of each split of each retrieval task."""
    texts: dict[TaskSplit, dict[str, str]] = {}
    for task in tasks:
        if not isinstance(task, AbsTaskRetrieval):
            continue
        for subset, splits in task.dataset.items():
            label = subset_label(task.metadata.name, subset)
            for split, data in splits.items():
                queries = data["queries"]
                texts[label, split] = dict(zip(queries["id"], queries["text"]))
    return texts
