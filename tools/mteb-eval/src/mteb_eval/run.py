"""The whole run: tasks from the options, every model on every task, figures, table, measures, demands."""

from __future__ import annotations

import dataclasses
import itertools
import os
import resource
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TextIO

from mteb.abstasks.abstask import AbsTask
from mteb.abstasks.retrieval import AbsTaskRetrieval

from fletching import cli, training_index
from fletching.encode import Encoder
from fletching.errors import UsageError
from fletching.io import Writer
from fletching.report import Report
from mteb_eval import evaluation, prompt_consistency
from mteb_eval.data import collection, known_training_sets, sentence_pairs, task_registry
from mteb_eval.data.local_tasks import OwnPairs, OwnRetrieval, OwnSts, digest
from mteb_eval.data.names import named, task_name
from mteb_eval.encoder import Model, Variant
from mteb_eval.report import html_report, text_report
from mteb_eval.report.html_report import Section
from mteb_eval.scoring import comparison, contamination, measures, quality_gate
from mteb_eval.scoring.comparison import Figure
from mteb_eval.scoring.contamination import Overlap
from mteb_eval.scoring.metrics import metric_key
from mteb_eval.scoring.task_result import Outcome

MOVES_SHOWN = 3  # of more runs the table shows no queries; --html has them all
LENGTH_MATTERS = (
    "Classification",
    "MultilabelClassification",
    "Clustering",
    "PairClassification",
    "Regression",
)
Outcomes = dict[tuple[str, str], dict[str, Outcome]]  # by (task, split), then by run


def compare(options: Any, report: Report, version: str, out: TextIO) -> int:
    """Evaluate, print, write; 1 where a demand is not met."""
    evaluation.hush()
    gains = quality_gate.parse("--require-gain", options.require_gain)
    losses = quality_gate.parse("--max-loss", options.max_loss)
    if options.fetch:
        task_registry.fetch(
            report, task_registry.find(options.tasks, options.benchmark), options.data
        )
        if not options.model:
            return 0
    models = named(options.model, "model")
    tasks = all_tasks(options, report)
    mains = {task.metadata.name: task.metadata.main_score for task in tasks}
    find_baseline(options, models, None)
    quality_gate.check(gains, losses, [metric_key(name) for name in options.metrics], mains)
    seen = seen_in_training(
        options, report, models, tasks
    )  # before the work: what it reads may be missing or damaged
    outcomes = measure(options, report, models, tasks)
    tell_of_metrics(options, outcomes, report)
    baseline = find_baseline(options, models, list(next(iter(outcomes.values()))))
    figures = [
        figure
        for by_run in outcomes.values()
        for metric in metrics_of(next(iter(by_run.values())), options.metrics)
        for figure in comparison.figures(by_run, baseline, metric, options.seed)
    ]
    missed = quality_gate.failures(gains, losses, figures, mains)
    report.drop("rows evaluated", report.rows_in)
    report.measures |= effort(outcomes)
    flags = [
        (one.texts.label, flag)
        for overlaps in seen.values()
        for one in overlaps
        if (flag := one.flag())
    ]
    flags += known_training_sets.noted(models.values(), tasks)
    sections = sections_of(options, outcomes, figures, baseline, tasks, flags)
    print_table(out, sections, baseline)
    if options.html:
        html_report.write(options.html, sections, baseline, version)
    if options.output is not None:
        write(
            options,
            report,
            version,
            figures,
            outcomes,
            list(seen_by_run(seen, models, outcomes, baseline)),
        )
    for line in missed:
        print(f"mteb-eval: {line}", file=sys.stderr)
    return 1 if missed else 0


# --- what is named -------------------------------------------------------------------------------


def find_baseline(options: Any, models: dict[str, str], runs: Sequence[str] | None) -> str:
    """The run that the others are compared with; before the runs are known (None), a name that can be one."""
    wanted = options.baseline
    if wanted is None:
        return next(iter(runs or models))
    wanted = next((name for name, path in models.items() if wanted in (name, path)), wanted)
    if wanted not in (runs or models) and (runs or wanted.rpartition("@")[0] not in models):
        raise UsageError(
            f"--baseline {options.baseline} is none of the models",
            f"pass one of {', '.join(runs or models)}",
        )
    return wanted


def all_tasks(options: Any, report: Report) -> list[AbsTask]:
    """Own data first, in the order of --help, then the tasks that mteb knows by name."""
    by_name = task_registry.find(options.tasks, options.benchmark)
    task_registry.require(by_name, options.data)  # before any other data are read
    tasks: list[AbsTask] = []
    for name, path in named(options.examples, "data set").items():
        common = {"limit": options.limit, "reverse": options.reverse}
        if options.candidates:
            found = collection.in_blocks(
                report, task_name(name), [path], options.candidates, seed=options.seed, **common
            )
        else:
            more = {"corpus": options.corpus, "with_negatives": options.corpus_negatives}
            found = collection.from_examples(report, task_name(name), [path], **more, **common)
        tasks.append(OwnRetrieval(found))
    for name, folder in named(options.beir, "data set").items():
        tasks.append(
            OwnRetrieval(collection.from_beir(report, task_name(name), folder, options.split))
        )
    for name, path in named(options.sts, "data set").items():
        tasks.append(OwnSts(sentence_pairs.read(report, task_name(name), path, labelled=False)))
    for name, path in named(options.pairs, "data set").items():
        tasks.append(OwnPairs(sentence_pairs.read(report, task_name(name), path, labelled=True)))
    tasks += [task_registry.load(report, task, options.data) for task in by_name]
    names = [task.metadata.name for task in tasks]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        raise UsageError(f"two data sets are called {twice}", "name one of them, as NAME=FILE")
    return tasks


def texts_of(tasks: Sequence[AbsTask]) -> dict[tuple[str, str], dict[str, str]]:
    """Query texts by id, by (task, split)."""
    found = {}
    for task in tasks:
        for subset, splits in task.dataset.items() if isinstance(task, AbsTaskRetrieval) else ():
            for split, data in splits.items():
                label = (
                    task.metadata.name if subset == "default" else f"{task.metadata.name}[{subset}]"
                )
                found[label, split] = dict(zip(data["queries"]["id"], data["queries"]["text"]))
    return found


def seen_in_training(
    options: Any, report: Report, models: dict[str, str], tasks: Sequence[AbsTask]
) -> dict[str, list[Overlap]]:
    """Test texts that a model may have seen, by the model's name; "" stands for --training, whose model is not named."""
    known = {name: keys for name, path in models.items() if (keys := training_index.load(path))}
    if not known and not options.training:
        return {}
    groups = [texts for task in tasks for texts in contamination.texts_of(task)]
    seen = {name: contamination.in_model(name, keys, groups) for name, keys in known.items()}
    if options.training:
        seen[""] = contamination.in_files(report, options.training, groups)
    return seen


def tell_of_metrics(options: Any, outcomes: Outcomes, report: Report) -> None:
    """A metric that was asked for and that no task has: a name that was mistyped, or one of another kind of task."""
    known = {
        name
        for by_run in outcomes.values()
        for outcome in by_run.values()
        for name in outcome.scores
    }
    missing = [name for name in options.metrics if metric_key(name) not in known]
    if missing and options.metrics != type(options)().metrics:
        report.note(
            f"no task here has the metric {', '.join(missing)}; there are {', '.join(sorted(known))}"
        )


def metrics_of(outcome: Outcome, wanted: Sequence[str]) -> list[str]:
    """The metrics to show: those wanted that the task has, else its main one."""
    keys = [metric_key(name) for name in wanted]
    if outcome.main == "mrr_pessimistic":
        return [outcome.main]
    return [key for key in keys if key in outcome.scores] or [outcome.main]


# --- the work ------------------------------------------------------------------------------------


def measure(
    options: Any, report: Report, models: dict[str, str], tasks: Sequence[AbsTask]
) -> Outcomes:
    """Every variant of every model on every task, one model in memory at a time."""
    outcomes: Outcomes = {}
    store = evaluation.Store(
        options.results
        or (
            f"{os.path.splitext(options.output)[0]}.results"
            if options.output not in (None, "-")
            else None
        )
    )
    digests = {task.metadata.name: digest(task) for task in tasks}
    asked = [prompt for task in tasks for prompt in getattr(task, "data_prompts", {}).values()]
    with vectors_on_disk(options) as cache:
        for name, path in models.items():
            report.note(f"loading {name}")
            with Encoder(dataclasses.replace(options, model=path, cache=cache), report) as encoder:
                prompt_consistency.check(options, name, encoder, asked, report)
                tell_of_lengths(name, encoder, tasks, report)
                for task, variant in itertools.product(tasks, variants(options, encoder)):
                    model = Model(name, encoder, variant, report)
                    for outcome in evaluation.evaluate(
                        model, task, digests[task.metadata.name], store, report
                    ):
                        outcomes.setdefault((outcome.label, outcome.split), {})[model.name] = (
                            outcome
                        )
    return outcomes


def tell_of_lengths(name: str, encoder: Encoder, tasks: Sequence[AbsTask], report: Report) -> None:
    """Where a classifier or k-means would see the lengths of vectors, which ours have lost."""
    normalised = any(type(module).__name__ == "Normalize" for module in encoder.model)
    concerned = [task.metadata.name for task in tasks if task.metadata.type in LENGTH_MATTERS]
    if concerned and not normalised:
        report.note(
            f"{name} does not normalise its vectors, but they have unit length here: {', '.join(concerned)} may differ from mteb's figures"
        )


def variants(options: Any, encoder: Encoder) -> list[Variant]:
    """Every number of dimensions with every kind of number, whole vectors and floats first."""
    above = next((size for size in options.dims if size > encoder.dimension), None)
    if above:
        raise UsageError(
            f"--dims {above} is above the {encoder.dimension} dimensions of {encoder.options.model}",
            f"pass at most {encoder.dimension}",
        )
    sizes = [None if size == encoder.dimension else size for size in options.dims] or [None]
    return [
        Variant(size, numbers)
        for size in dict.fromkeys(sizes)
        for numbers in dict.fromkeys(["float", *options.quantise])
    ]


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


def effort(outcomes: Outcomes) -> dict[str, Any]:
    """Time and memory for --json-summary; the measures hold no clock."""
    spent = [
        {
            "run": run,
            "task": outcome.label,
            "split": outcome.split,
            "seconds": outcome.about["seconds"],
            "texts": outcome.about["texts"],
        }
        for by_run in outcomes.values()
        for run, outcome in by_run.items()
    ]
    for one in spent:
        one["texts_per_second"] = round(one["texts"] / max(one["seconds"], 1e-3), 1)
    return {
        "evaluations": spent,
        "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }


def sections_of(
    options: Any,
    outcomes: Outcomes,
    figures: Sequence[Figure],
    baseline: str,
    tasks: Sequence[AbsTask],
    flags: Sequence[tuple[str, str]],
) -> list[Section]:
    """What is shown of each task, in the terminal and on the page."""
    texts = texts_of(tasks)
    sections = []
    for place, by_run in outcomes.items():
        told = [flag for task, flag in flags if task in (place[0], by_run[baseline].task)]
        moves = {
            run: comparison.moves(by_run[baseline], outcome, texts.get(place, {}), options.changed)
            for run, outcome in by_run.items()
            if run != baseline and place in texts
        }
        mine = [figure for figure in figures if (figure.task, figure.split) == place]
        alone = (
            []
            if moves or len(by_run) > 1
            else comparison.worst(by_run[baseline], texts.get(place, {}), options.changed)
        )
        sections.append(Section(by_run, mine, told, moves, alone))
    return sections


def print_table(out: TextIO, sections: Sequence[Section], baseline: str) -> None:
    width = shutil.get_terminal_size((120, 24)).columns
    lines = []
    for section in sections:
        lines.append(text_report.heading(section.outcomes[baseline], section.flags))
        lines += text_report.block(section.figures, baseline, width)
        for run, (rose, fell) in section.moves.items() if len(section.moves) <= MOVES_SHOWN else ():
            found = text_report.moved(rose, fell, width)
            lines += [f"  {run} against {baseline}:", *found] if found else []
        lines += [*text_report.lowest(section.worst, width), ""]
    out.write("\n".join(lines[:-1]) + "\n")
    out.flush()


def seen_by_run(
    seen: dict[str, list[Overlap]], models: dict[str, str], outcomes: Outcomes, baseline: str
) -> Iterator[tuple[str, Overlap]]:
    """Each overlap under the runs it speaks of; that of --training under all but the baseline, unless that is alone."""
    for run in dict.fromkeys(run for by_run in outcomes.values() for run in by_run):
        name = max((name for name in models if run == name or run.startswith(f"{name}@")), key=len)
        alone = len(models) == 1
        for source, overlaps in seen.items():
            if source == name or (source == "" and (alone or run != baseline)):
                yield from ((run, overlap) for overlap in overlaps)


def write(
    options: Any,
    report: Report,
    version: str,
    figures: Sequence[Figure],
    outcomes: Outcomes,
    seen: Sequence[tuple[str, Overlap]],
) -> None:
    rows = measures.rows(
        figures,
        [(run, outcome) for by_run in outcomes.values() for run, outcome in by_run.items()],
        seen,
    )
    with Writer(
        report,
        options.output,
        "measures",
        measures.COLUMNS,
        version=version,
        options=cli.row_options(options),
    ) as file:
        report.add("figures", rows.num_rows)
        file.write(rows)
