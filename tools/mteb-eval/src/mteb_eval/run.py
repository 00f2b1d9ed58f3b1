"""The whole run: tasks from the options, every model on every task, figures, table, measures, demands."""

from __future__ import annotations

import dataclasses
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TextIO

from mteb.abstasks.abstask import AbsTask

from fletching import cli
from fletching.encode import Encoder
from fletching.errors import Usage
from fletching.report import Report
from fletching.stream import Writer
from mteb_eval import collection, comparison, evaluation, gate, measures, table
from mteb_eval.comparison import Figure
from mteb_eval.encoder import Model, Variant
from mteb_eval.outcome import Outcome
from mteb_eval.tasks import OwnRetrieval

Outcomes = dict[tuple[str, str], dict[str, Outcome]]  # by (task, split), then by run


def compare(options: Any, report: Report, version: str, out: TextIO) -> int:
    """Evaluate, print, write; 1 where a demand is not met."""
    evaluation.hush()
    gains = gate.parse("--require-gain", options.require_gain)
    losses = gate.parse("--max-loss", options.max_loss)
    models = named(options.model, "model")
    tasks = own_tasks(options, report)
    outcomes = measure(options, report, models, tasks)
    runs = list(next(iter(outcomes.values())))
    baseline = find_baseline(options, models, runs)
    figures = [
        figure
        for by_run in outcomes.values()
        for metric in metrics_of(next(iter(by_run.values())), options.metrics)
        for figure in comparison.figures(by_run, baseline, metric, options.seed)
    ]
    missed = gate.failures(gains, losses, figures, {by_run[baseline].label: by_run[baseline].main for by_run in outcomes.values()})
    report.drop("rows evaluated", report.rows_in)
    print_table(out, outcomes, figures, baseline, texts_of(tasks), options.changed)
    if options.output is not None:
        write(options, report, version, figures, outcomes)
    for line in missed:
        print(f"mteb-eval: {line}", file=sys.stderr)
    return 1 if missed else 0


# --- what is named -------------------------------------------------------------------------------


def named(items: Sequence[str], what: str) -> dict[str, str]:
    """NAME=PATH as given; else the shortest end of the path that tells it from the others."""
    pairs = []
    for item in items:
        name, equals, path = item.partition("=")
        given = equals and re.fullmatch(r"[\w.@-]+", name) and not os.path.exists(item)
        pairs.append((name, path) if given else ("", item))
    names: dict[str, str] = {}
    for name, path in pairs:
        name = name or _short(path, [other for _, other in pairs if other != path])
        if names.setdefault(name, path) != path or [path for _, path in pairs].count(path) > 1:
            raise Usage(f"two {what}s are called {name}", f"name each {what} once, as NAME={path} where names clash")
    return names


def _short(path: str, others: Sequence[str]) -> str:
    parts = path.rstrip("/").split("/")
    for size in range(1, len(parts) + 1):
        end = parts[-size:]
        if not any(other.rstrip("/").split("/")[-size:] == end for other in others):
            break
    return "/".join(end)


def find_baseline(options: Any, models: dict[str, str], runs: Sequence[str]) -> str:
    if options.baseline is None:
        return runs[0]
    wanted = next((name for name, path in models.items() if options.baseline in (name, path)), options.baseline)
    if wanted not in runs:
        raise Usage(f"--baseline {options.baseline} is none of the models", f"pass one of {', '.join(runs)}")
    return wanted


def own_tasks(options: Any, report: Report) -> list[AbsTask]:
    tasks: list[AbsTask] = []
    for name, path in task_names(options.examples).items():
        found = collection.from_examples(
            report, name, [path], corpus=options.corpus, with_negatives=options.corpus_negatives, limit=options.limit
        )
        tasks.append(OwnRetrieval(found))
    return tasks


def task_names(items: Sequence[str]) -> dict[str, str]:
    """Tasks by name; a file without one is called by its stem."""
    return {
        re.sub(r"[^\w.-]", "-", re.sub(r"(\.(parquet|arrows?|feather|jsonl|ndjson|json|csv|tsv|gz|zst))+$", "", name)).strip("-")
        or "stdin": path
        for name, path in named(items, "data set").items()
    }


def texts_of(tasks: Sequence[AbsTask]) -> dict[tuple[str, str], dict[str, str]]:
    """Query texts by id, by (task, split)."""
    found = {}
    for task in tasks:
        for subset, splits in task.dataset.items() if isinstance(task, OwnRetrieval) else ():
            for split, data in splits.items():
                label = task.metadata.name if subset == "default" else f"{task.metadata.name}[{subset}]"
                found[label, split] = dict(zip(data["queries"]["id"], data["queries"]["text"]))
    return found


def metrics_of(outcome: Outcome, wanted: Sequence[str]) -> list[str]:
    """The metrics to show: those wanted that the task has, else its main one."""
    keys = [table.metric_key(name) for name in wanted]
    return [key for key in keys if key in outcome.scores] or [outcome.main]


# --- the work ------------------------------------------------------------------------------------


def measure(options: Any, report: Report, models: dict[str, str], tasks: Sequence[AbsTask]) -> Outcomes:
    """Every variant of every model on every task, one model in memory at a time."""
    outcomes: Outcomes = {}
    store = evaluation.Store(
        options.results or (f"{os.path.splitext(options.output)[0]}.results" if options.output not in (None, "-") else None)
    )
    with vectors_on_disk(options) as cache:
        for name, path in models.items():
            report.note(f"loading {name}")
            with Encoder(dataclasses.replace(options, model=path, cache=cache), report) as encoder:
                for task in tasks:
                    model = Model(name, encoder, Variant(), report)
                    for outcome in evaluation.evaluate(model, task, task.metadata.revision, store, report):
                        outcomes.setdefault((outcome.label, outcome.split), {})[model.name] = outcome
    return outcomes


@contextmanager
def vectors_on_disk(options: Any) -> Iterator[str]:
    """The folder of vectors: --cache; else beside the output, gone on success; else a temporary one."""
    if options.cache:
        yield options.cache
        return
    beside = options.output if options.output not in (None, "-") else options.results
    if beside is None:
        with tempfile.TemporaryDirectory(prefix="mteb-eval-") as folder:
            yield folder
        return
    yield f"{beside}.cache"
    shutil.rmtree(f"{beside}.cache", ignore_errors=True)


def print_table(
    out: TextIO, outcomes: Outcomes, figures: Sequence[Figure], baseline: str, texts: dict[tuple[str, str], dict[str, str]], changed: int
) -> None:
    width = shutil.get_terminal_size((120, 24)).columns
    lines = []
    for place, by_run in outcomes.items():
        lines.append(table.heading(by_run[baseline]))
        lines += table.block([figure for figure in figures if (figure.task, figure.split) == place], baseline)
        for run, outcome in by_run.items():
            if run == baseline or not changed:
                continue
            rose, fell = comparison.moves(by_run[baseline], outcome, texts.get(place, {}), changed)
            found = table.moved(rose, fell, width)
            lines += [f"  {run} against {baseline}:", *found] if found else []
        lines.append("")
    out.write("\n".join(lines))
    out.flush()


def write(options: Any, report: Report, version: str, figures: Sequence[Figure], outcomes: Outcomes) -> None:
    rows = measures.rows(figures, [(run, outcome) for by_run in outcomes.values() for run, outcome in by_run.items()])
    with Writer(report, options.output, "measures", measures.COLUMNS, version=version, options=cli.row_options(options)) as file:
        report.add("figures", rows.num_rows)
        file.write(rows)
