"""The whole run: tasks, models, figures, text, page, measures and the quality gate."""

from __future__ import annotations

import resource
import shutil
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TextIO

from mteb.abstasks.abstask import AbsTask

from fletching import cli, training_index
from fletching.errors import UsageError
from fletching.io import Writer
from fletching.report import Report, print_line
from mteb_eval import evaluation
from mteb_eval.data import known_training_sets, task_list, task_registry
from mteb_eval.data.names import name_paths
from mteb_eval.evaluation import ResultsByTask
from mteb_eval.options import Options
from mteb_eval.report import html_report, text_report
from mteb_eval.report.sections import make_sections
from mteb_eval.scoring import comparison, contamination, measures
from mteb_eval.scoring.comparison import Figure
from mteb_eval.scoring.contamination import EvaluationTexts, Overlap
from mteb_eval.scoring.intervals import FEW_QUERIES
from mteb_eval.scoring.metrics import parse_metric
from mteb_eval.scoring.quality_gate import QualityGate
from mteb_eval.scoring.task_result import TaskResult

NARROW = (120, 24)  # where the size of the terminal is unknown
UNNAMED = ""  # the source of overlaps with --training, which names no model

Overlaps = dict[str, list[Overlap]]  # by the model whose training data they are of, or UNNAMED


def compare_models(options: Options, report: Report, *, version: str, out: TextIO) -> int:
    """Evaluate, print, write; 1 where a demand of the quality gate is not met."""
    evaluation.silence_libraries()
    gate = QualityGate.parse(options.require_gain, options.max_loss)
    if options.fetch:
        requested = task_registry.find_tasks(options.tasks, options.benchmark)
        task_registry.fetch_tasks(report, requested, options.data)
        if not options.model:
            return 0
    models = name_paths(options.model, "model")
    tasks = task_list.load_tasks(options, report)
    main_metrics = {task.metadata.name: task.metadata.main_score for task in tasks}
    # Whatever may be missing, damaged or mistyped is refused before the work.
    require_baseline_model(options.baseline, models)
    gate.check([parse_metric(name) for name in options.metrics], main_metrics)
    overlaps = find_overlaps(options, report, models=models, tasks=tasks)

    results = evaluation.evaluate_all(options, report, models=models, tasks=tasks)
    note_unknown_metrics(options, results, report)
    note_few_queries(results, report)
    baseline = find_baseline(options.baseline, models, next(iter(results.values())))
    figures = list(compute_figures(options, results, baseline))
    report.drop("rows evaluated", report.rows_in)
    report.measures |= effort(results)

    sections = make_sections(
        results,
        figures,
        baseline=baseline,
        query_texts=task_list.query_texts(tasks),
        flags=[*_overlap_flags(overlaps), *_recorded_flags(models, tasks)],
        changed=options.changed,
    )
    width = shutil.get_terminal_size(NARROW).columns
    out.write(text_report.render(sections, baseline=baseline, width=width))
    out.flush()
    if options.html:
        html_report.write_page(options.html, sections, baseline=baseline, version=version)
    if options.output is not None:
        by_run = list(overlaps_by_run(overlaps, models, results, baseline=baseline))
        write_measures(
            options, report, version=version, figures=figures, results=results, overlaps=by_run
        )
    failures = list(gate.failures(figures, main_metrics))
    for line in failures:
        print_line(f"mteb-eval: {line}")
    return 1 if failures else 0


# --- baseline and metrics ------------------------------------------------------------------------


def require_baseline_model(baseline: str | None, models: Mapping[str, str]) -> None:
    """Raises UsageError where --baseline is neither a model nor a variant of one (base@128)."""
    if baseline is None or baseline in models.values():
        return
    if baseline not in models and baseline.rpartition("@")[0] not in models:
        raise _unknown_baseline(baseline, models)


def find_baseline(
    baseline: str | None, models: Mapping[str, str], runs: Mapping[str, TaskResult]
) -> str:
    """The run that the others are compared with: --baseline by name or path, else the first.

    Raises UsageError where there is no such run.
    """
    if baseline is None:
        return next(iter(runs))
    names = [name for name, path in models.items() if baseline in (name, path)]
    name = names[0] if names else baseline
    if name not in runs:
        raise _unknown_baseline(baseline, runs)
    return name


def _unknown_baseline(baseline: str, names: Mapping[str, object]) -> UsageError:
    return UsageError(
        f"--baseline {baseline} is none of the models", f"pass one of {', '.join(names)}"
    )


def note_unknown_metrics(options: Options, results: ResultsByTask, report: Report) -> None:
    """Report metrics of --metrics that no task has: mistyped, or of another kind of task."""
    if options.metrics == Options().metrics:
        return
    known: set[str] = set()
    for by_run in results.values():
        for result in by_run.values():
            known |= result.scores.keys()
    missing = [name for name in options.metrics if parse_metric(name) not in known]
    if missing:
        report.note(
            f"no task here has the metric {', '.join(missing)}; "
            f"there are {', '.join(sorted(known))}"
        )


def note_few_queries(results: ResultsByTask, report: Report) -> None:
    """Say where the intervals of a task are a rough guide."""
    for by_run in results.values():
        result = next(iter(by_run.values()))
        if result.count is not None and result.count < FEW_QUERIES:
            unit = "queries" if result.has_ranks else "pairs"
            report.note(
                f"{result.label} has {result.count} {unit}, fewer than {FEW_QUERIES}: "
                "its intervals are wide and a rough guide"
            )


def compute_figures(options: Options, results: ResultsByTask, baseline: str) -> Iterator[Figure]:
    """The figures of all tasks, metrics and runs, in this order."""
    for by_run in results.values():
        for metric in shown_metrics(next(iter(by_run.values())), options.metrics):
            yield from comparison.compare_runs(
                by_run, baseline=baseline, metric=metric, seed=options.seed
            )


def shown_metrics(result: TaskResult, requested: Sequence[str]) -> list[str]:
    """The requested metrics that the task has, else its main one."""
    if result.main_metric == "mrr_pessimistic":  # the protocol has no other
        return [result.main_metric]
    names = [parse_metric(name) for name in requested]
    return [name for name in names if name in result.scores] or [result.main_metric]


# --- contamination -------------------------------------------------------------------------------


def find_overlaps(
    options: Options, report: Report, *, models: Mapping[str, str], tasks: Sequence[AbsTask]
) -> Overlaps:
    """Test texts that a model may have seen, of each model whose training data are known."""
    indexes = {name: training_index.load(path) for name, path in models.items()}
    known = {name: index for name, index in indexes.items() if index is not None}
    if not known and not options.training:
        return {}
    groups: list[EvaluationTexts] = []
    for task in tasks:
        groups += contamination.collect_test_texts(task)
    overlaps = {
        name: contamination.compare_with_model(name, index, groups) for name, index in known.items()
    }
    if options.training:
        overlaps[UNNAMED] = contamination.compare_with_files(report, options.training, groups)
    return overlaps


def _overlap_flags(overlaps: Overlaps) -> Iterator[tuple[str, str]]:
    for group in overlaps.values():
        for overlap in group:
            flag = overlap.flag()
            if flag is not None:
                yield overlap.texts.label, flag


def _recorded_flags(models: Mapping[str, str], tasks: Sequence[AbsTask]) -> list[tuple[str, str]]:
    return known_training_sets.training_set_flags(models.values(), tasks)


def overlaps_by_run(
    overlaps: Overlaps, models: Mapping[str, str], results: ResultsByTask, *, baseline: str
) -> Iterator[tuple[str, Overlap]]:
    """(run, overlap) of each run with the training data of its model.

    Those of --training count for all runs but the baseline; for the baseline too where it is the
    only model.
    """
    runs = dict.fromkeys(run for by_run in results.values() for run in by_run)
    for run in runs:
        owners = [name for name in models if run == name or run.startswith(f"{name}@")]
        model = max(owners, key=len)
        is_trained = run != baseline or len(models) == 1
        for source, group in overlaps.items():
            if source == model or (source == UNNAMED and is_trained):
                yield from ((run, overlap) for overlap in group)


# --- output --------------------------------------------------------------------------------------


def effort(results: ResultsByTask) -> dict[str, Any]:
    """Time and memory for --json-summary; the measures hold no times: they are reproducible."""
    evaluations = []
    for by_run in results.values():
        for run, result in by_run.items():
            seconds, texts = result.effort["seconds"], result.effort["texts"]
            evaluations.append(
                {
                    "run": run,
                    "task": result.label,
                    "split": result.split,
                    "seconds": seconds,
                    "texts": texts,
                    "texts_per_second": round(texts / max(seconds, 1e-3), 1),
                }
            )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    return {"evaluations": evaluations, "peak_memory_mb": peak}


def write_measures(
    options: Options,
    report: Report,
    *,
    version: str,
    figures: Sequence[Figure],
    results: ResultsByTask,
    overlaps: Sequence[tuple[str, Overlap]],
) -> None:
    """Write the figures to --output."""
    by_run = [item for runs in results.values() for item in runs.items()]
    rows = measures.measure_rows(figures, by_run, overlaps)
    with Writer(
        report,
        options.output,
        schema="measures",
        columns=measures.COLUMNS,
        version=version,
        options=cli.row_options(options),
    ) as writer:
        report.add("figures", rows.num_rows)
        writer.write(rows)
