"""One model on one task through mteb.evaluate, and the store of results that a killed run goes on from."""

from __future__ import annotations

import json
import logging
import os
import time
import warnings
from typing import Any

import datasets
import mteb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import xxhash
from fletching import lineage
from fletching.errors import Refused
from fletching.report import Report
from mteb.abstasks.abstask import AbsTask

from mteb_eval.encoder import Model
from mteb_eval.outcome import Capture, Outcome

LOADER_BATCH = 1024  # texts mteb hands over at a time; the encoder cuts its own batches
ROUNDED = 1e-5  # mteb rounds its means to five digits


def hush() -> None:
    """mteb and datasets speak through loggers, warnings and bars of their own; our report speaks alone."""
    for name in ("mteb", "datasets", "sentence_transformers"):
        logging.getLogger(name).setLevel(logging.ERROR)
    datasets.disable_progress_bars()
    warnings.filterwarnings("ignore", module=r"(mteb|datasets|sklearn|scipy|numpy)(\.|$)")


def evaluate(model: Model, task: AbsTask, digest: str, store: Store, report: Report) -> list[Outcome]:
    """The outcomes of all splits and subsets of a task, from the store where they stand there already."""
    known = store.load(model, task, digest)
    if known is not None:
        report.note(f"{model.name} on {task.metadata.name}: taken from {store.folder}")
        return known
    capture = Capture(task)
    model.data_prompts, model.reversed = getattr(task, "data_prompts", {}), getattr(task, "reversed", False)
    before, started = model.texts, time.monotonic()
    result = mteb.evaluate(
        model,
        task,
        cache=None,  # its cache is never asked: see Store
        co2_tracker=False,
        show_progress_bar=False,
        encode_kwargs={"batch_size": LOADER_BATCH, "show_progress_bar": False},
    )
    seconds = time.monotonic() - started
    about = {"seconds": round(seconds, 3), "texts": model.texts - before}
    settings = model.settings | {"prompts_used": dict(sorted(model.prompts_used.items())), "data": digest, "mteb": mteb.__version__}
    outcomes = []
    for split, subsets in result[0].scores.items():
        for scores in subsets:
            place = (split, scores["hf_subset"])
            observed = capture.observed.get(place, pa.table({}))
            numbers = {name: float(value) for name, value in scores.items() if isinstance(value, (int, float)) and np.isfinite(value)}
            outcome = Outcome(
                task.metadata.name,
                task.metadata.type,
                split,
                scores["hf_subset"],
                task.metadata.main_score,
                numbers,
                observed,
                settings,
                about | {"documents": capture.documents.get(place)},
            )
            agree(outcome)
            outcomes.append(outcome)
    store.save(model, task, digest, outcomes, result[0])
    return outcomes


def agree(outcome: Outcome) -> None:
    """mteb's figures must be what the observations give."""
    everything = np.arange(outcome.observed.num_rows)
    for metric, value in outcome.scores.items():
        ours = outcome.statistic(metric)
        if ours is not None and abs(ours(everything) - value) > ROUNDED:
            raise RuntimeError(f"{outcome.task}: {metric} is {value} by mteb and {ours(everything)} by its queries")


class Store:
    """Results on disk, one file for each (model, settings, task, data), written whole or not at all.

    mteb's own cache takes every local model for the same one and knows nothing of data or prompts, so it
    is only written (as the JSON files that its leaderboard and `ResultCache.load_results` read), never
    read. Our file is written last: where it stands, all else stands.
    """

    def __init__(self, folder: str | None) -> None:
        self.folder = folder

    def _path(self, model: Model, task: AbsTask, digest: str) -> str:
        content = {"model": model.settings, "task": task.metadata.name, "data": digest, "mteb": mteb.__version__}
        key = xxhash.xxh3_64_hexdigest(lineage.dump(content))
        return os.path.join(self.folder or "", "observed", f"{task.metadata.name}-{model.name.replace('/', '__')}-{key}.parquet")

    def load(self, model: Model, task: AbsTask, digest: str) -> list[Outcome] | None:
        path = self._path(model, task, digest)
        if not self.folder or not os.path.exists(path):
            return None
        try:
            table = pq.read_table(path, page_checksum_verification=True)
            content = json.loads(table.schema.metadata[b"mteb-eval"])
        except (pa.ArrowException, OSError, KeyError, ValueError) as error:
            raise Refused(f"{path} is damaged ({error})", "delete it; it is made again") from None
        outcomes, start = [], 0
        for part in content:
            rows = part.pop("rows")
            names = part.pop("columns")
            outcomes.append(Outcome(**part, observed=table.slice(start, rows).select(names)))
            start += rows
        return outcomes

    def save(self, model: Model, task: AbsTask, digest: str, outcomes: list[Outcome], result: Any) -> None:
        if not self.folder:
            return
        mteb.ResultCache(self.folder).save_to_cache(result, model.mteb_model_meta, encode_kwargs={"batch_size": LOADER_BATCH})
        parts = []
        for outcome in outcomes:
            fields = {name: value for name, value in vars(outcome).items() if name != "observed"}
            parts.append(fields | {"rows": outcome.observed.num_rows, "columns": outcome.observed.column_names})
        table = pa.concat_tables([outcome.observed for outcome in outcomes], promote_options="default")
        table = table.replace_schema_metadata({"mteb-eval": json.dumps(parts)})
        path = self._path(model, task, digest)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        temporary = f"{path}.tmp-{os.getpid()}"
        with open(temporary, "wb") as file:
            pq.write_table(table, file, compression="zstd", write_page_checksum=True)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
