"""The keys of the texts that a model was trained on: `trained-on.parquet` in its folder.

Written by what trains a model, read by what evaluates it. Columns: `words` (uint8) and `key`
(uint64), ascending. words = 0: the key of a whole normalised text (`text_keys.hash_texts`), all of
them. words = 8: the key of a run of 8 words (`text_keys.hash_word_runs`). Of many runs the
smallest keys are kept: keys are as good as random, so those below a bound are a fair sample. The
bound is 2^64 / 2^halvings; the metadata has `halvings`. On disk and in memory 8 bytes a distinct
text, and at most 16 MB of runs.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from fletching import text_keys
from fletching.errors import InputError
from fletching.table.key_set import Keys

NAME = "trained-on.parquet"
VERSION = "1.0"
WORDS = 8  # words of a run
MOST_RUNS = 1 << 21
MOST_PENDING = 1 << 20  # keys that wait to be merged
MOST_PROMPTS = 20  # instructions made by a model can be thousands
META = b"fletching.trained-on"


class TrainingIndex:
    """The keys of all texts that a model saw in training.

    whole: of whole texts; runs: of runs of 8 words, those below 2^64 / 2^halvings. Both are sorted
    and distinct after `merge`, which `save` calls.
    """

    def __init__(self, most_runs: int = MOST_RUNS) -> None:
        self.most_runs = most_runs
        self.halvings = 0
        self.whole: Keys = np.zeros(0, np.uint64)
        self.runs: Keys = np.zeros(0, np.uint64)
        self._pending_whole: list[Keys] = []
        self._pending_runs: list[Keys] = []
        self._pending = 0

    def add(self, texts: pa.StringArray) -> None:
        """Add texts, in any order; may be called repeatedly. Nulls and blanks have no key."""
        _, runs = text_keys.hash_word_runs(texts, WORDS)
        self._add_keys(text_keys.hash_texts(texts), runs)

    def include(self, other: TrainingIndex) -> None:
        """Add what the base model was trained on."""
        self.halvings = max(self.halvings, other.halvings)
        self._add_keys(other.whole, other.runs)

    def sampled(self, runs: Keys) -> npt.NDArray[np.bool_]:
        """Which keys of runs are below the bound: bool (n,)."""
        largest = np.uint64((1 << (64 - self.halvings)) - 1)
        return np.asarray(runs <= largest)

    def merge(self) -> None:
        """Merge the keys that wait; keep fewer runs where they are too many."""
        self.whole = np.unique(np.concatenate([self.whole, *self._pending_whole]))
        self.whole = self.whole[self.whole != text_keys.ABSENT]
        self.runs = np.unique(np.concatenate([self.runs, *self._pending_runs]))
        self.runs = self.runs[self.sampled(self.runs)]
        while len(self.runs) > self.most_runs:
            self.halvings += 1
            self.runs = self.runs[self.sampled(self.runs)]
        self._pending_whole, self._pending_runs = [], []
        self._pending = 0

    def _add_keys(self, whole: Keys, runs: Keys) -> None:
        runs = runs[self.sampled(runs)]
        self._pending_whole.append(whole)
        self._pending_runs.append(runs)
        self._pending += len(whole) + len(runs)
        if self._pending > MOST_PENDING:
            self.merge()

    def save(self, folder: str) -> None:
        """Write the file into a folder that is not yet in use."""
        self.merge()
        kinds = np.array([0, WORDS], np.uint8)
        words = np.repeat(kinds, [len(self.whole), len(self.runs)])
        table = pa.table({"words": words, "key": np.concatenate([self.whole, self.runs])})
        header = {"version": VERSION, "words": WORDS, "halvings": self.halvings}
        table = table.replace_schema_metadata({META: json.dumps(header, sort_keys=True).encode()})
        pq.write_table(
            table,
            os.path.join(folder, NAME),
            compression="zstd",
            use_dictionary=["words"],
            column_encoding={"key": "DELTA_BINARY_PACKED"},
            write_page_checksum=True,
        )


def load(folder: str) -> TrainingIndex | None:
    """The index in a model's folder, if there is one. Raises InputError for a damaged file."""
    path = os.path.join(folder, NAME)
    if not os.path.isfile(path):
        return None
    try:
        return _read(path)
    except (pa.ArrowException, OSError, LookupError, RuntimeError, TypeError, ValueError) as error:
        what = f"{path} is damaged ({str(error).splitlines()[0]})"
        raise InputError(what, "copy the model again, or delete the file") from None


def _read(path: str) -> TrainingIndex:
    table = pq.read_table(path, page_checksum_verification=True)
    table.validate(full=True)
    header = json.loads(table.schema.metadata[META])
    if not str(header["version"]).startswith("1.") or header["words"] != WORDS:
        what = f"{path} is of version {header['version']}, this program reads 1.x"
        raise InputError(what, "use the Fletching that wrote it")
    index = TrainingIndex()
    index.halvings = int(header["halvings"])
    words, keys = table["words"].to_numpy(), table["key"].to_numpy().astype(np.uint64)
    index.whole = np.unique(keys[words == 0])
    index.runs = np.unique(keys[words == WORDS])
    return index


def describe_training(
    model: Iterable[object], prompts: Mapping[str, Sequence[str]], lengths: Mapping[str, int]
) -> dict[str, Any]:
    """How a model is trained, for its lineage: prompts, tokens and pooling.

    model: a SentenceTransformer, which is a sequence of modules. prompts: of all rows, by role;
    the distinct ones are kept, at most 20. lengths: tokens by role.
    """
    distinct = {role: sorted(set(texts))[:MOST_PROMPTS] for role, texts in prompts.items()}
    return {"prompts": distinct, "lengths": dict(lengths), "pooling": pooling_mode(model)}


def pooling_mode(model: Iterable[object]) -> str | None:
    """Of a SentenceTransformer: `mean`, `cls`, `lasttoken` …, several joined by +, or None."""
    for module in model:
        modes: Any = getattr(module, "pooling_mode", None)
        if modes is not None:
            return modes if isinstance(modes, str) else "+".join(modes)
    return None
