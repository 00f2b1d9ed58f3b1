"""Every variant of every model on every task, through mteb; what is stored is not done again."""

from __future__ import annotations

import dataclasses
import itertools
import logging
import os
import random
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import datasets
import mteb
import numpy as np
import pyarrow as pa
import torch
from mteb.abstasks import AbsTaskBitextMining
from mteb.abstasks.abstask import AbsTask

from fletching.encode import Encoder
from fletching.encode.temporary_cache import TemporaryCache
from fletching.errors import InputError, UsageError
from fletching.options import EncodingOptions
from fletching.report import Report
from fletching.table import atomic
from mteb_eval import prompt_consistency
from mteb_eval.data.local_tasks import digest_task
from mteb_eval.encoder import EvaluatedModel, VectorVariant
from mteb_eval.options import Options
from mteb_eval.result_store import LOADER_BATCH, ResultKey, ResultStore
from mteb_eval.scoring.observation import ObservationRecorder
from mteb_eval.scoring.task_result import TaskResult

ROUNDING = 1e-5  # mteb rounds its means to five digits
# Kinds of tasks in which a classifier or k-means sees the lengths of vectors, which ours have lost.
LENGTH_MATTERS = (
    "Classification",
    "MultilabelClassification",
    "Clustering",
    "PairClassification",
    "Regression",
)

ResultsByTask = dict[tuple[str, str], dict[str, TaskResult]]  # by (task, split), then by run


def silence_libraries() -> None:
    """Turn off the logs, warnings and bars of mteb and datasets: the report is enough."""
    for name in ("mteb", "datasets", "sentence_transformers"):
        logging.getLogger(name).setLevel(logging.ERROR)
    datasets.disable_progress_bars()
    warnings.filterwarnings("ignore", module=r"(mteb|datasets|sklearn|scipy|numpy)(\.|$)")


def evaluate_all(
    options: Options, report: Report, *, models: Mapping[str, str], tasks: Sequence[AbsTask]
) -> ResultsByTask:
    """The results by task and run, one model in memory at a time. models: paths by name."""
    store = ResultStore(_results_folder(options))
    digests = {task.metadata.name: digest_task(task) for task in tasks}
    data_prompts: list[str] = []
    for task in tasks:
        data_prompts += getattr(task, "data_prompts", {}).values()
    results: ResultsByTask = {}
    with vector_cache(options) as cache:
        for name, path in models.items():
            report.note(f"loading {name}")
            with Encoder(encoding_options(options, path, cache), report) as encoder:
                prompt_consistency.require_consistency(
                    options, name, encoder, data_prompts=data_prompts, report=report
                )
                note_lost_lengths(name, encoder, tasks, report=report)
                for task, variant in itertools.product(tasks, list_variants(options, encoder)):
                    model = EvaluatedModel(name, encoder, variant=variant, report=report)
                    digest = digests[task.metadata.name]
                    for result in evaluate(model, task, data_digest=digest, store=store):
                        by_run = results.setdefault((result.label, result.split), {})
                        by_run[model.name] = result
    return results


def encoding_options(options: Options, model: str, cache: str) -> EncodingOptions:
    """The options of one model's encoder."""
    names = [field.name for field in dataclasses.fields(EncodingOptions)]
    shared = {name: getattr(options, name) for name in names}
    return EncodingOptions(**shared | {"model": model, "cache": cache})


def _results_folder(options: Options) -> str | None:
    """--results, else beside the output."""
    if options.results or options.output in (None, "-"):
        return options.results
    stem, _ = os.path.splitext(options.output or "")
    return f"{stem}.results"


@contextmanager
def vector_cache(options: Options) -> Iterator[str]:
    """The folder of the vectors.

    --cache; else beside the output and removed on success; else a temporary one.
    """
    if options.cache:
        yield options.cache
        return
    neighbour = options.results if options.output in (None, "-") else options.output
    if neighbour is None:
        with atomic.scratch_folder("mteb-eval") as folder:
            yield folder
        return
    cache = TemporaryCache(f"{neighbour}.cache")
    try:
        yield cache.path
    except BaseException:
        cache.close(succeeded=False)
        raise
    cache.close(succeeded=True)


def note_lost_lengths(
    name: str, encoder: Encoder, tasks: Sequence[AbsTask], *, report: Report
) -> None:
    """Say where unit length changes what a classifier or k-means sees of a model's vectors."""
    is_normalised = any(type(module).__name__ == "Normalize" for module in encoder.model)
    affected = [task.metadata.name for task in tasks if task.metadata.type in LENGTH_MATTERS]
    if affected and not is_normalised:
        report.note(
            f"{name} does not normalise its vectors, but they have unit length here: "
            f"{', '.join(affected)} may differ from mteb's figures"
        )


def list_variants(options: Options, encoder: Encoder) -> list[VectorVariant]:
    """Every number of dimensions with every kind of number, whole vectors and floats first.

    Raises UsageError where the model has fewer dimensions.
    """
    dimensions: list[int | None] = []
    for size in options.dims:
        if size > encoder.dimension:
            raise UsageError(
                f"--dims {size} is above the {encoder.dimension} dimensions of "
                f"{encoder.options.model}",
                f"pass at most {encoder.dimension}",
            )
        dimensions.append(None if size == encoder.dimension else size)
    distinct_dimensions = dict.fromkeys(dimensions or [None])
    distinct_numbers = dict.fromkeys(["float", *options.quantise])
    return [
        VectorVariant(*choice)
        for choice in itertools.product(distinct_dimensions, distinct_numbers)
    ]


# --- one model on one task -----------------------------------------------------------------------


def evaluate(
    model: EvaluatedModel, task: AbsTask, *, data_digest: str, store: ResultStore
) -> list[TaskResult]:
    """The results of all splits and subsets of a task, each from the store where it has it."""
    results: list[TaskResult] = []
    computed = 0
    for split, subsets in evaluation_units(task):
        key = ResultKey(
            model=model, task=task, data_digest=data_digest, split=split, subsets=subsets
        )
        unit = store.load(key)
        if unit is None:
            unit = _run_mteb(key)
            store.save(key, unit)
            computed += 1
        results += unit
    # Also where nothing is new: a kill may have left mteb's files incomplete.
    store.publish(model, task, results)
    if not computed:
        model.report.note(f"{model.name} on {task.metadata.name}: taken from {store.folder}")
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
    model, task = key.model, key.task
    recorder = ObservationRecorder(task, is_quantised=model.variant.numbers != "float")
    model.prepare(task)
    reseed(task)
    started = time.monotonic()
    try:
        with _only(task, key.split, key.subsets):
            answer = mteb.evaluate(
                model,
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
                "texts": model.texts,
                "documents": recorder.documents.get(subset),
            },
            mteb_scores=dict(scores),
        )
        _require_main_metric(model, result)
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
    return key.model.settings | {
        "prompts_used": dict(sorted(key.model.prompts_used.items())),
        "data": key.data_digest,
        "mteb": mteb.__version__,
    }


def _require_main_metric(model: EvaluatedModel, result: TaskResult) -> None:
    if result.main_metric not in result.scores:
        raise InputError(
            f"{model.name} on {result.label}: mteb gives no finite {result.main_metric}",
            "are all vectors, or all scores of the data, alike? "
            "try --dtype float32, and look at the data",
        )
