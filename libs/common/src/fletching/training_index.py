"""What a model was trained on, beside its weights and without a text: `trained-on.parquet` in its folder.

Written by what trains a model, read by what evaluates it. Columns: `words` (uint8) and `key` (uint64),
ascending. words = 0: the key of a whole normalised text (`keys.of`), all of them. words = 8: the key of a run
of 8 words (`keys.of_runs`), of which the smallest are kept where they are many: the key is as good as random,
so that those below a bound are a fair sample. The bound is 2^64 / 2^halvings; `halvings` stands in the metadata.
On disk and in memory 8 bytes a distinct text, and at most 16 MB of runs.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from fletching import text_keys
from fletching.errors import InputError

NAME = "trained-on.parquet"
WORDS = 8  # words of a run
MOST_RUNS = 1 << 21
PENDING = 1 << 20  # keys that wait to be merged
PROMPTS = 20  # instructions made by a model can be thousands
META = b"fletching.trained-on"


class TrainingIndex:
    """The keys of all texts that a model saw in training.

    whole: of whole texts; runs: of runs of 8 words, those below 2^64 / 2^halvings. Both sorted and distinct
    after `settle`, which `save` calls.
    """

    def __init__(self, most_runs: int = MOST_RUNS) -> None:
        self.whole = self.runs = np.zeros(0, np.uint64)
        self.halvings, self.most_runs = 0, most_runs
        self._pending: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
        self._waiting = 0

    def add(self, texts: pa.StringArray) -> None:
        """Texts in any order, as often as one likes; nulls and blanks have no key."""
        self._take(text_keys.hash_texts(texts), text_keys.hash_word_runs(texts, WORDS)[1], 0)

    def include(self, other: TrainingIndex) -> None:
        """What the model saw before, when it was trained from another one."""
        self._take(other.whole, other.runs, other.halvings)

    def sampled(self, runs: np.ndarray) -> np.ndarray:
        """Which keys of runs would have been kept: bool [runs]."""
        return runs <= np.uint64((1 << (64 - self.halvings)) - 1)

    def settle(self) -> None:
        """Merge what waits; keep fewer runs where they are too many."""
        whole, runs = self._pending
        self.whole = np.unique(np.concatenate([self.whole, *whole]))
        self.whole = self.whole[self.whole != text_keys.ABSENT]
        self.runs = np.unique(np.concatenate([self.runs, *runs]))
        self.runs = self.runs[self.sampled(self.runs)]
        while len(self.runs) > self.most_runs:
            self.halvings += 1
            self.runs = self.runs[self.sampled(self.runs)]
        self._pending, self._waiting = ([], []), 0

    def _take(self, whole: np.ndarray, runs: np.ndarray, halvings: int) -> None:
        self.halvings = max(self.halvings, halvings)
        self._pending[0].append(whole)
        self._pending[1].append(runs[self.sampled(runs)])
        self._waiting += len(whole) + len(self._pending[1][-1])
        if self._waiting > PENDING:
            self.settle()

    def save(self, folder: str) -> None:
        """Write the file into a folder that is not yet in use."""
        self.settle()
        words = np.repeat(np.array([0, WORDS], np.uint8), [len(self.whole), len(self.runs)])
        table = pa.table({"words": words, "key": np.concatenate([self.whole, self.runs])})
        about = {"version": "1.0", "words": WORDS, "halvings": self.halvings}
        table = table.replace_schema_metadata({META: json.dumps(about, sort_keys=True).encode()})
        pq.write_table(
            table,
            os.path.join(folder, NAME),
            compression="zstd",
            use_dictionary=["words"],
            column_encoding={"key": "DELTA_BINARY_PACKED"},
            write_page_checksum=True,
        )


def load(folder: str) -> TrainingIndex | None:
    """What the model of a folder was trained on; None where nobody wrote it down. Raises InputError for a damaged file."""
    path = os.path.join(folder, NAME)
    if not os.path.isfile(path):
        return None
    try:
        table = pq.read_table(path, page_checksum_verification=True)
        table.validate(full=True)
        about = json.loads(table.schema.metadata[META])
        if not str(about["version"]).startswith("1.") or about["words"] != WORDS:
            raise InputError(
                f"{path} is of version {about['version']}, this program reads 1.x",
                "use the Fletching that wrote it",
            )
        words, key = table["words"].to_numpy(), table["key"].to_numpy().astype(np.uint64)
        found = TrainingIndex()
        found.halvings = int(about["halvings"])
    except (pa.ArrowException, OSError, KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{path} is damaged ({str(error).splitlines()[0]})",
            "copy the model again, or delete the file",
        ) from None
    found.whole, found.runs = np.unique(key[words == 0]), np.unique(key[words == WORDS])
    return found


def manner(
    model: Any, prompts: Mapping[str, Sequence[str]], lengths: dict[str, int]
) -> dict[str, Any]:
    """How a model is trained, for its lineage: distinct prompts by role (at most 20 are told), tokens by role, pooling."""
    distinct = {role: sorted(set(found))[:PROMPTS] for role, found in prompts.items()}
    return {"prompts": distinct, "lengths": dict(lengths), "pooling": pooling(model)}


def pooling(model: Any) -> str | None:
    """`mean`, `cls`, `lasttoken` …, several joined by +; None for a model without a pooling module."""
    modes = next((module.pooling_mode for module in model if hasattr(module, "pooling_mode")), None)
    return modes if modes is None or isinstance(modes, str) else "+".join(modes)
