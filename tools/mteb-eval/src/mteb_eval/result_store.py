"""Results on disk, one file for each model, settings, task, data, split and subset.

mteb's own cache takes every local model for the same one and knows nothing of data or prompts, so
it is only written (as the JSON files that its leaderboard and `ResultCache.load_results` read),
never read.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import mteb
import pyarrow as pa
import pyarrow.parquet as pq
import xxhash
from mteb.abstasks.abstask import AbsTask

from fletching import lineage
from fletching.errors import InputError
from fletching.table import atomic
from mteb_eval.scoring.metrics import METRICS
from mteb_eval.scoring.observation import TOP_DOCUMENTS
from mteb_eval.scoring.task_result import TaskResult
from mteb_eval.system import System

LOADER_BATCH = 1024  # texts that mteb passes at a time; the encoder makes its own batches
METADATA = b"mteb-eval"
MERGED = "run_settings.jsonl"  # mteb's file to which each task adds its lines


@dataclass(frozen=True, kw_only=True)
class ResultKey:
    """What decides a result."""

    system: System
    task: AbsTask
    data_digest: str
    split: str
    subsets: tuple[str, ...]

    @property
    def file_name(self) -> str:
        """Readable names, and a hash of everything else."""
        task, system = self.task.metadata.name, self.system.name.replace("/", "__")
        content = {
            "task": task,
            "split": self.split,
            "subsets": self.subsets,
            "model": self.system.settings,
            "data": self.data_digest,
            "mteb": mteb.__version__,
            "metrics": sorted(METRICS),
            "top": TOP_DOCUMENTS,
        }
        digest = xxhash.xxh3_64_hexdigest(lineage.dump(content))
        return f"{task}-{system.replace(' ', '')}-{digest}.parquet"


class ResultStore:
    """A folder of results, each of which appears whole or not at all; None: nothing is kept."""

    def __init__(self, folder: str | None) -> None:
        self.folder = folder

    def _path(self, key: ResultKey) -> str:
        return os.path.join(self.folder or "", "observed", key.file_name)

    def load(self, key: ResultKey) -> list[TaskResult] | None:
        """The results of all subsets of the key; None where there are none.

        Raises InputError for a damaged file.
        """
        path = self._path(key)
        if not self.folder or not os.path.exists(path):
            return None
        try:
            table = pq.read_table(path, page_checksum_verification=True)
            parts = json.loads(table.schema.metadata[METADATA])
        except (pa.ArrowException, OSError, KeyError, ValueError) as error:
            raise InputError(
                f"{path} is damaged ({error})", "delete it; it is made again"
            ) from None
        results = []
        start = 0
        for fields in parts:
            rows, columns = fields.pop("rows"), fields.pop("columns")
            observed = table.slice(start, rows).select(columns)
            results.append(TaskResult(**fields, observed=observed))
            start += rows
        return results

    def save(self, key: ResultKey, results: Sequence[TaskResult]) -> None:
        """Keep the results of all subsets: observations as rows, other fields in the metadata."""
        if not self.folder:
            return
        parts = [_fields(result) for result in results]
        table = pa.concat_tables([result.observed for result in results], promote_options="default")
        table = table.replace_schema_metadata({METADATA: json.dumps(parts)})
        path = self._path(key)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with atomic.open_new(path) as file:
            pq.write_table(table, file, compression="zstd", write_page_checksum=True)

    def publish(self, system: System, task: AbsTask, results: Sequence[TaskResult]) -> None:
        """Write a task's JSON file as mteb does, under results/<model>/<revision>/."""
        if not self.folder:
            return
        scores: dict[str, dict[str, Any]] = {}
        for result in results:
            scores.setdefault(result.split, {})[result.subset] = result.mteb_scores
        seconds = sum(result.effort["seconds"] for result in results)
        content = mteb.TaskResult.from_task_results(task, scores, seconds)
        with atomic.scratch_folder("mteb-eval") as scratch:
            self._publish_by_way_of(scratch, content, system)

    def _publish_by_way_of(self, scratch: str, content: mteb.TaskResult, system: System) -> None:
        """mteb writes its files in place, where a kill would leave half of one: each is moved."""
        meta = system.mteb_model_meta
        ours, written = mteb.ResultCache(self.folder), mteb.ResultCache(scratch)
        target = ours.get_task_result_path(content.task_name, meta).parent
        source = written.get_task_result_path(content.task_name, meta).parent
        os.makedirs(source)
        if os.path.exists(target / MERGED):
            shutil.copy(target / MERGED, source)
        written.save_to_cache(content, meta, encode_kwargs={"batch_size": LOADER_BATCH})
        os.makedirs(target, exist_ok=True)
        for name in sorted(os.listdir(source)):
            atomic.write_bytes(str(target / name), (source / name).read_bytes())


def _fields(result: TaskResult) -> dict[str, Any]:
    """What the metadata hold of a result, with the rows and columns of its observations."""
    fields = {name: value for name, value in vars(result).items() if name != "observed"}
    observed = result.observed
    return fields | {"rows": observed.num_rows, "columns": observed.column_names}
