"""One model on one task through mteb.evaluate, and the store of results that a killed run goes on from."""

from __future__ import annotations

import json
import logging
import os
import random
import time
import warnings
from dataclasses import dataclass
from typing import Any

import datasets
import mteb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
import xxhash
from mteb.abstasks import AbsTaskBitextMining
from mteb.abstasks.abstask import AbsTask

from fletching import lineage
from fletching.errors import InputError
from fletching.report import Report
from mteb_eval.encoder import Model
from mteb_eval.scoring.task_result import Capture, Outcome

LOADER_BATCH = 1024  # texts mteb hands over at a time; the encoder cuts its own batches
ROUNDED = 1e-5  # mteb rounds its means to five digits


def hush() -> None:
    """mteb and datasets speak through loggers, warnings and bars of their own; our report speaks alone."""
    for name in ("mteb", "datasets", "sentence_transformers"):
        logging.getLogger(name).setLevel(logging.ERROR)
    datasets.disable_progress_bars()
    warnings.filterwarnings("ignore", module=r"(mteb|datasets|sklearn|scipy|numpy)(\.|$)")


def evaluate(
    model: Model, task: AbsTask, digest: str, store: Store, report: Report
) -> list[Outcome]:
    """The outcomes of all splits and subsets of a task, each from the store where it stands there already."""
    outcomes, fresh = [], 0
    for split, subsets in units(task):
        key = Key(model, task, digest, split, subsets)
        found = store.load(key)
        if found is None:
            found = _run(key, report)
            store.save(key, found)
            fresh += 1
        outcomes += found
    store.publish(
        model, task, outcomes
    )  # also where nothing is new: a kill may have cut mteb's files
    if not fresh:
        report.note(f"{model.name} on {task.metadata.name}: taken from {store.folder}")
    return outcomes


@dataclass(frozen=True)
class Key:
    """What a result is the result of."""

    model: Model
    task: AbsTask
    digest: str
    split: str
    subsets: tuple[str, ...]

    def file_name(self) -> str:
        names = {"task": self.task.metadata.name, "split": self.split, "subsets": self.subsets}
        content = names | {
            "model": self.model.settings,
            "data": self.digest,
            "mteb": mteb.__version__,
        }
        return f"{names['task']}-{self.model.name.replace('/', '__')}-{xxhash.xxh3_64_hexdigest(lineage.dump(content))}.parquet"


def units(task: AbsTask) -> list[tuple[str, tuple[str, ...]]]:
    """What is evaluated and kept at a time: a split and a subset; bitext mining takes its subsets together."""
    together = isinstance(task, AbsTaskBitextMining)
    parts = [tuple(task.hf_subsets)] if together else [(subset,) for subset in task.hf_subsets]
    return [(split, part) for split in task.eval_splits for part in parts]


def _run(key: Key, report: Report) -> list[Outcome]:
    model, task = key.model, key.task
    capture = Capture(task)
    model.data_prompts, model.reversed = (
        getattr(task, "data_prompts", {}),
        getattr(task, "reversed", False),
    )
    model.texts, started = 0, time.monotonic()
    seed(task)
    everything = task._eval_splits, task.hf_subsets
    task._eval_splits, task.hf_subsets = [key.split], list(key.subsets)
    try:
        result = mteb.evaluate(
            model,
            task,
            cache=None,  # its cache is never asked: see Store
            co2_tracker=False,
            show_progress_bar=False,
            encode_kwargs={"batch_size": LOADER_BATCH, "show_progress_bar": False},
        )
    finally:
        task._eval_splits, task.hf_subsets = everything
        capture.release()
    seconds = time.monotonic() - started
    settings = model.settings | {
        "prompts_used": dict(sorted(model.prompts_used.items())),
        "data": key.digest,
        "mteb": mteb.__version__,
    }
    outcomes = []
    for scores in result[0].scores[key.split]:
        subset = scores["hf_subset"]
        about = {
            "seconds": round(seconds, 3),
            "texts": model.texts,
            "documents": capture.documents.get(subset),
        }
        observed = capture.observed.get(subset, pa.table({}))
        numbers = {
            name: float(value)
            for name, value in scores.items()
            if isinstance(value, (int, float)) and np.isfinite(value)
        }
        names = task.metadata.name, task.metadata.type, key.split, subset, task.metadata.main_score
        outcome = Outcome(*names, numbers, observed, settings, about, dict(scores))
        if outcome.main not in numbers:
            told = f"{model.name} on {outcome.label}: mteb gives no finite {outcome.main}"
            raise InputError(
                told,
                "are all vectors, or all scores of the data, alike? try --dtype float32, and look at the data",
            )
        agree(outcome)
        outcomes.append(outcome)
    return outcomes


def seed(task: AbsTask) -> None:
    """Draw as a task that was just made: mteb goes on from model to model, so that the second would be measured on other samples."""
    random.seed(task.seed)
    np.random.seed(task.seed)
    torch.manual_seed(task.seed)
    task.rng_state, task.np_rng = random.Random(task.seed), np.random.default_rng(task.seed)


def agree(outcome: Outcome) -> None:
    """mteb's figures must be what the observations give."""
    everything = np.arange(outcome.observed.num_rows)
    for metric, value in outcome.scores.items():
        ours = outcome.statistic(metric)
        if ours is not None and abs(ours(everything) - value) > ROUNDED:
            raise RuntimeError(
                f"{outcome.task}: {metric} is {value} by mteb and {ours(everything)} by its queries"
            )


class Store:
    """Results on disk, one file for each (model, settings, task, data, split, subset), whole or not at all.

    mteb's own cache takes every local model for the same one and knows nothing of data or prompts, so it
    is only written (as the JSON files that its leaderboard and `ResultCache.load_results` read), never
    read.
    """

    def __init__(self, folder: str | None) -> None:
        self.folder = folder

    def _path(self, key: Key) -> str:
        return os.path.join(self.folder or "", "observed", key.file_name())

    def load(self, key: Key) -> list[Outcome] | None:
        path = self._path(key)
        if not self.folder or not os.path.exists(path):
            return None
        try:
            table = pq.read_table(path, page_checksum_verification=True)
            content = json.loads(table.schema.metadata[b"mteb-eval"])
        except (pa.ArrowException, OSError, KeyError, ValueError) as error:
            raise InputError(
                f"{path} is damaged ({error})", "delete it; it is made again"
            ) from None
        outcomes, start = [], 0
        for part in content:
            rows = part.pop("rows")
            names = part.pop("columns")
            outcomes.append(Outcome(**part, observed=table.slice(start, rows).select(names)))
            start += rows
        return outcomes

    def save(self, key: Key, outcomes: list[Outcome]) -> None:
        if not self.folder:
            return
        parts = []
        for outcome in outcomes:
            fields = {name: value for name, value in vars(outcome).items() if name != "observed"}
            parts.append(
                fields
                | {"rows": outcome.observed.num_rows, "columns": outcome.observed.column_names}
            )
        table = pa.concat_tables(
            [outcome.observed for outcome in outcomes], promote_options="default"
        )
        table = table.replace_schema_metadata({"mteb-eval": json.dumps(parts)})
        path = self._path(key)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        temporary = f"{path}.tmp-{os.getpid()}"
        with open(temporary, "wb") as file:
            pq.write_table(table, file, compression="zstd", write_page_checksum=True)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)

    def publish(self, model: Model, task: AbsTask, outcomes: list[Outcome]) -> None:
        """The JSON files of a task as mteb writes them, under results/<model>/<revision>/."""
        if not self.folder:
            return
        scores: dict[str, dict[str, Any]] = {}
        for outcome in outcomes:
            scores.setdefault(outcome.split, {})[outcome.subset] = outcome.raw
        seconds = sum(outcome.about["seconds"] for outcome in outcomes)
        result = mteb.TaskResult.from_task_results(task, scores, seconds)
        mteb.ResultCache(self.folder).save_to_cache(
            result, model.mteb_model_meta, encode_kwargs={"batch_size": LOADER_BATCH}
        )
