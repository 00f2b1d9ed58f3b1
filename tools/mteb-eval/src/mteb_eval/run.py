"""The whole run: tasks, models, figures, text, page, measures and the quality gate."""

from __future__ import annotations

import resource
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TextIO

import pyarrow as pa

from fletching import cli
from fletching.errors import UsageError
from fletching.io import AtomicOutputs, Writer
from fletching.io.writer import Provenance
from fletching.report import Report, print_line
from mteb_eval import evaluation
from mteb_eval.bm25 import require_bm25s
from mteb_eval.data import task_list, task_registry
from mteb_eval.data.guard_texts import GUARD
from mteb_eval.data.guard_texts import METRICS as GUARD_METRICS
from mteb_eval.data.names import BM25, is_reference, name_paths
from mteb_eval.evaluation import ResultsByTask
from mteb_eval.options import Options
from mteb_eval.prompt_consistency import require_stated_consistency
from mteb_eval.report import html_report, table_formats, text_report
from mteb_eval.report.sections import TaskSection, make_sections
from mteb_eval.scoring import comparison, measures, per_query
from mteb_eval.scoring.comparison import Figure
from mteb_eval.scoring.intervals import FEW_QUERIES
from mteb_eval.scoring.metrics import parse_metric
from mteb_eval.scoring.quality_gate import QualityGate
from mteb_eval.scoring.task_result import TaskResult
from mteb_eval.training_overlap import (
    find_overlaps,
    overlap_flags,
    overlaps_by_run,
    recorded_flags,
)

NARROW = (120, 24)  # where the size of the terminal is unknown
ShownMetrics = dict[tuple[str, str], list[str]]  # by task and split


def compare_models(options: Options, report: Report, *, version: str, out: TextIO) -> int:
    """Evaluate, print, write; 1 where a demand of the quality gate is not met."""
    evaluation.silence_libraries()
    gate = QualityGate.parse(options.require_gain, options.max_loss)
    if options.fetch:
        requested = task_registry.find_tasks(options.tasks, options.benchmark)
        task_registry.fetch_tasks(report, requested, options.data)
        if not (options.model or options.vectors):
            return 0
    models = name_paths([*options.model, *options.vectors], "model")
    # Whatever may be missing, damaged or mistyped is refused before the work.
    require_baseline_model(options, models)
    tasks, guard = task_list.load_tasks(options, report)
    main_metrics = {task.metadata.name: task.metadata.main_score for task in tasks}
    if guard is not None:
        main_metrics[GUARD] = "ndcg_at_10"
    require_stated_consistency(options, models, evaluation.data_prompts(tasks))
    gate.check([parse_metric(name) for name in options.metrics], main_metrics)
    overlaps = find_overlaps(options, report, models=models, tasks=tasks)

    results, evaluated = evaluation.evaluate_all(
        options, report, models=models, tasks=tasks, guard=guard
    )
    note_unknown_metrics(options, results, report)
    note_few_queries(results, report)
    baseline = find_baseline(options.baseline, models, results)
    shown = shown_metrics(options, results, has_neighbours=guard is not None)
    figures = list(compute_figures(options, results, baseline, shown=shown))
    report.drop("rows evaluated", report.rows_in)
    report.measures |= effort(results)

    sections = make_sections(
        results,
        figures,
        baseline=baseline,
        query_texts=task_list.query_texts(tasks),
        flags=[*overlap_flags(overlaps), *recorded_flags(models, tasks)],
        changed=options.changed,
        notes={} if guard is None else {GUARD: neighbour_note(baseline)},
    )
    out.write(render(options.format, sections, baseline))
    out.flush()
    if options.html:
        html_report.write_page(options.html, sections, baseline=baseline, version=version)
    if options.output is not None or options.per_query is not None:
        by_run = list(overlaps_by_run(overlaps, models, results, baseline=baseline))
        write_outputs(
            options,
            report,
            version=version,
            measured=measures.measure_rows(figures, runs_of(results), by_run),
            queries=per_query.query_rows(results, evaluated, shown),
        )
    failures = list(gate.failures(figures, main_metrics))
    for line in failures:
        print_line(f"mteb-eval: {line}")
    return 1 if failures else 0


# --- baseline and metrics ------------------------------------------------------------------------


def require_baseline_model(options: Options, models: Mapping[str, str]) -> None:
    """Raises UsageError where --baseline is neither a model nor a variant of one (base@128).

    Nor may a model be called what --bm25 calls its runs.
    """
    if options.bm25:
        require_bm25s()
        name = next(filter(is_reference, models), None)
        if name is not None:
            raise UsageError(
                f"a model is called {name}, as --bm25 calls a run",
                f"name it, as other={models[name]}",
            )
    baseline = options.baseline
    if baseline is None or baseline in models.values():
        return
    if baseline == BM25 and options.bm25 and options.guard is None:
        return
    if baseline not in models and baseline.rpartition("@")[0] not in models:
        raise _unknown_baseline(baseline, models)


def find_baseline(baseline: str | None, models: Mapping[str, str], results: ResultsByTask) -> str:
    """The run that the others are compared with: --baseline by name or path, else the first.

    Raises UsageError where there is no such run of each task.
    """
    runs = next(iter(results.values()))
    if baseline is None:
        return next(iter(runs))
    names = [name for name, path in models.items() if baseline in (name, path)]
    name = names[0] if names else baseline
    for by_run in results.values():
        if name not in by_run:
            raise _unknown_baseline(baseline, by_run)
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


def compute_figures(
    options: Options, results: ResultsByTask, baseline: str, *, shown: ShownMetrics
) -> Iterator[Figure]:
    """The figures of all tasks, metrics and runs, in this order."""
    for key, by_run in results.items():
        for metric in shown[key]:
            yield from comparison.compare_runs(
                by_run, baseline=baseline, metric=metric, seed=options.seed
            )


def shown_metrics(
    options: Options, results: ResultsByTask, *, has_neighbours: bool
) -> ShownMetrics:
    """By task and split: the requested metrics that the task has, else its main one.

    has_neighbours: the guard is about neighbours, and has metrics of its own.
    """
    shown: ShownMetrics = {}
    for key, by_run in results.items():
        result = next(iter(by_run.values()))
        requested = options.metrics
        if has_neighbours and result.task == GUARD:
            requested = GUARD_METRICS
        elif result.main_metric == "mrr_pessimistic":  # the protocol has no other
            requested = ()
        names = [parse_metric(name) for name in requested]
        shown[key] = [name for name in names if name in result.scores] or [result.main_metric]
    return shown


def neighbour_note(baseline: str) -> str:
    """What the figures of the guard are."""
    return f"the 10 nearest texts by {baseline} are the truth: 1.000 is no change"


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


def runs_of(results: ResultsByTask) -> list[tuple[str, TaskResult]]:
    """(run, result) of every run of every task."""
    return [item for by_run in results.values() for item in by_run.items()]


def render(how: str, sections: Sequence[TaskSection], baseline: str) -> str:
    """The comparison in the format of --format."""
    if how == "text":
        width = shutil.get_terminal_size(NARROW).columns
        return text_report.render(sections, baseline=baseline, width=width)
    return table_formats.TABLE_FORMATS[how](sections, baseline)


def write_outputs(
    options: Options,
    report: Report,
    *,
    version: str,
    measured: pa.RecordBatch,
    queries: Iterable[pa.RecordBatch],
) -> None:
    """Write the figures to --output and those of each query to --per-query, together."""
    lineage: Provenance = {"version": version, "options": cli.row_options(options)}
    with AtomicOutputs() as outputs:
        if options.output is not None:
            figures = outputs.add(
                Writer(report, options.output, "measures", columns=measures.COLUMNS, **lineage)
            )
            report.add("figures", measured.num_rows)
            figures.write(measured)
        if options.per_query is not None:
            side = Writer(
                report,
                options.per_query,
                "measures",
                columns=per_query.COLUMNS,
                count=False,
                **lineage,
            )
            outputs.add(side)
            for batch in queries:
                side.write(batch)
