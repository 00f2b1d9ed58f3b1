"""Every system on every task, through mteb; what is stored is not done again."""

from __future__ import annotations

import itertools
import logging
import os
import random
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import datasets
import mteb
import numpy as np
import pyarrow as pa
import torch
from mteb.abstasks import AbsTaskBitextMining
from mteb.abstasks.abstask import AbsTask
from mteb.abstasks.retrieval import AbsTaskRetrieval

from fletching.encode import Encoder
from fletching.errors import InputError
from fletching.report import Report
from mteb_eval import prompt_consistency
from mteb_eval.bm25 import Bm25System
from mteb_eval.data.guard_texts import GUARD, GuardTexts
from mteb_eval.data.local_tasks import digest_task
from mteb_eval.data.names import BM25, model_run
from mteb_eval.fusion import FusedSystem
from mteb_eval.model_variants import (
    evaluated_models,
    note_lost_lengths,
    open_model,
    vector_cache,
)
from mteb_eval.neighbours import neighbour_task
from mteb_eval.options import Options
from mteb_eval.result_store import LOADER_BATCH, ResultKey, ResultStore
from mteb_eval.scoring.observation import ObservationRecorder
from mteb_eval.scoring.task_result import TaskResult
from mteb_eval.system import System

ROUNDING = 1e-5  # mteb rounds its means to five digits
ResultsByTask = dict[tuple[str, str], dict[str, TaskResult]]  # by (task, split), then by run


def silence_libraries() -> None:
    """Turn off the logs, warnings and bars of mteb and datasets: the report is enough."""
    for name in ("mteb", "datasets", "sentence_transformers"):
        logging.getLogger(name).setLevel(logging.ERROR)
    datasets.disable_progress_bars()
    warnings.filterwarnings("ignore", module=r"(mteb|datasets|sklearn|scipy|numpy)(\.|$)")


class Evaluator:
    """Collects the results of systems on tasks, from the store or through mteb."""

    def __init__(self, store: ResultStore) -> None:
        self.store = store
        self.digests: dict[str, str] = {}  # of the data, by task
        self.results: ResultsByTask = {}

    def add(self, system: System, task: AbsTask, report: Report) -> None:
        """Evaluate one system on all splits and subsets of one task."""
        name = task.metadata.name
        if name not in self.digests:
            self.digests[name] = digest_task(task)
        unit = evaluate(
            system, task, data_digest=self.digests[name], store=self.store, report=report
        )
        for result in unit:
            by_run = self.results.setdefault((result.label, result.split), {})
            by_run[system.name] = result


def evaluate_all(
    options: Options,
    report: Report,
    *,
    models: Mapping[str, str],
    tasks: Sequence[AbsTask],
    guard: GuardTexts | None = None,
) -> tuple[ResultsByTask, list[AbsTask]]:
    """The results by task and run, and all tasks. models: paths by name.

    One model is in memory at a time. guard: texts whose neighbours by the baseline make one more
    task, which every model is evaluated on.
    """
    evaluator = Evaluator(ResultStore(_results_folder(options)))
    tasks = list(tasks)
    prompts = data_prompts(tasks)
    bm25 = Bm25System(report) if options.bm25 else None
    if bm25 is not None:
        for task in filter(is_searched, tasks):
            evaluator.add(bm25, task, report)
    order = list(models)
    if guard is not None:  # the baseline's neighbours are the task of the others
        order.sort(key=lambda name: not is_baseline(name, options.baseline, models))
    with vector_cache(options) as cache:
        for name in order:
            report.note(f"loading {name}")
            with open_model(options, models[name], cache, report=report) as encoder:
                if isinstance(encoder, Encoder):
                    prompt_consistency.require_consistency(
                        options, name, encoder, data_prompts=prompts, report=report
                    )
                    note_lost_lengths(name, encoder, tasks, report=report)
                variants = evaluated_models(options, name, encoder, report=report)
                if guard is not None and name == order[0]:
                    baseline = next(
                        (each for each in variants if each.name == options.baseline), variants[0]
                    )
                    tasks.append(neighbour_task(guard, baseline))
                for task, model in itertools.product(tasks, variants):
                    evaluator.add(model, task, report)
                    if bm25 is not None and is_searched(task):
                        evaluator.add(FusedSystem(model, bm25), task, report)
    return in_order(evaluator.results, models), tasks


def data_prompts(tasks: Iterable[AbsTask]) -> list[str]:
    """The prompts that the test queries bring."""
    prompts: list[str] = []
    for task in tasks:
        prompts += getattr(task, "data_prompts", {}).values()
    return prompts


def is_searched(task: AbsTask) -> bool:
    """Does BM25 take part? In retrieval, apart from the guard, which is about the models."""
    return isinstance(task, AbsTaskRetrieval) and task.metadata.name != GUARD


def is_baseline(name: str, baseline: str | None, models: Mapping[str, str]) -> bool:
    """Is it the model that --baseline names, by name, path or variant; or the first?"""
    if baseline is None:
        return name == next(iter(models))
    named = [each for each, path in models.items() if baseline in (each, path)]
    named += [each for each in models if each == baseline.rpartition("@")[0]]
    return name == [*named, *models][0]


def in_order(results: ResultsByTask, models: Mapping[str, str]) -> ResultsByTask:
    """Of each task: the models as they are named, then BM25, then the models fused with it."""

    def position(run: str) -> tuple[int, int]:
        model = model_run(run)
        owners = [name for name in models if model == name or model.startswith(f"{name}@")]
        number = list(models).index(max(owners, key=len)) if owners else 0
        return (2 if run != model else 1 if run == BM25 else 0, number)

    return {
        key: {run: by_run[run] for run in sorted(by_run, key=position)}
        for key, by_run in results.items()
    }


def _results_folder(options: Options) -> str | None:
    """--results, else beside the output."""
    if options.results or options.output in (None, "-"):
        return options.results
    stem, _ = os.path.splitext(options.output or "")
    return f"{stem}.results"


# --- one model on one task -----------------------------------------------------------------------


def evaluate(
    system: System, task: AbsTask, *, data_digest: str, store: ResultStore, report: Report
) -> list[TaskResult]:
    """The results of all splits and subsets of a task, each from the store where it has it."""
    results: list[TaskResult] = []
    computed = 0
    for split, subsets in evaluation_units(task):
        key = ResultKey(
            system=system, task=task, data_digest=data_digest, split=split, subsets=subsets
        )
        unit = store.load(key)
        if unit is None:
            unit = _run_mteb(key)
            store.save(key, unit)
            computed += 1
        results += unit
    # Also where nothing is new: a kill may have left mteb's files incomplete.
    store.publish(system, task, results)
    if not computed:
        report.note(f"{system.name} on {task.metadata.name}: taken from {store.folder}")
    return results


def evaluation_units(task: AbsTask) -> list[tuple[str, tuple[str, ...]]]:
    """(split, subsets) that are evaluated and stored at a time.

    One subset each, except in bitext mining, which evaluates its subsets together.
    """
    groups: list[tuple[str, ...]] = [(subset,) for subset in task.hf_subsets]
    if isinstance(task, AbsTaskBitextMining):
        groups = [tuple(task.hf_subsets)]
    return list(itertools.product(task.eval_splits, groups))


def _run_mteb(key: ResultKey) -> list[TaskResult]:
    """The results of one unit, a subset each."""
    system, task = key.system, key.task
    recorder = ObservationRecorder(task, is_quantised=system.is_quantised)
    system.prepare(task)
    reseed(task)
    started = time.monotonic()
    try:
        with _only(task, key.split, key.subsets):
            answer = mteb.evaluate(
                system,  # type: ignore[arg-type] # each fits one of mteb's protocols
                task,
                cache=None,  # its cache is never read: see ResultStore
                co2_tracker=False,
                show_progress_bar=False,
                encode_kwargs={"batch_size": LOADER_BATCH, "show_progress_bar": False},
            )
    finally:
        recorder.release()
    seconds = round(time.monotonic() - started, 3)
    results = []
    for scores in answer[0].scores[key.split]:
        subset = scores["hf_subset"]
        result = TaskResult(
            task=task.metadata.name,
            kind=task.metadata.type,
            split=key.split,
            subset=subset,
            main_metric=task.metadata.main_score,
            scores=_finite_numbers(scores),
            observed=recorder.observed.get(subset, pa.table({})),
            settings=_settings(key),
            effort={
                "seconds": seconds,
                "texts": system.texts,
                "documents": recorder.documents.get(subset),
            },
            mteb_scores=dict(scores),
        )
        _require_main_metric(system, result)
        result.require_agreement(ROUNDING)
        results.append(result.with_computed_scores())
    return results


@contextmanager
def _only(task: AbsTask, split: str, subsets: tuple[str, ...]) -> Iterator[None]:
    """The task with one split and some of its subsets."""
    before = task._eval_splits, task.hf_subsets
    task._eval_splits, task.hf_subsets = [split], list(subsets)
    try:
        yield
    finally:
        task._eval_splits, task.hf_subsets = before


def reseed(task: AbsTask) -> None:
    """Random numbers as of a task that was just made.

    mteb draws from one generator for all models, so that the second would be measured on other
    samples.
    """
    random.seed(task.seed)
    np.random.seed(task.seed)
    torch.manual_seed(task.seed)
    task.rng_state = random.Random(task.seed)
    task.np_rng = np.random.default_rng(task.seed)


def _finite_numbers(scores: Mapping[str, object]) -> dict[str, float]:
    """The scores that are finite numbers."""
    numbers = {}
    for name, value in scores.items():
        if isinstance(value, (int, float)) and np.isfinite(value):
            numbers[name] = float(value)
    return numbers


def _settings(key: ResultKey) -> dict[str, object]:
    return key.system.settings | {
        "prompts_used": dict(sorted(key.system.prompts_used.items())),
        "data": key.data_digest,
        "mteb": mteb.__version__,
    }


def _require_main_metric(system: System, result: TaskResult) -> None:
    if result.main_metric not in result.scores:
        raise InputError(
            f"{system.name} on {result.label}: mteb gives no finite {result.main_metric}",
            "are all vectors, or all scores of the data, alike? "
            "try --dtype float32, and look at the data",
        )
