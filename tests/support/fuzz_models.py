"""Readers that need torch: model folders, checkpoints and runs, vector caches, given vectors."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from conftest import SUBJECTS, build_model, write_rows
from fuzz_reader import FuzzedReader, installed
from fuzz_rows import ROWS_OUT, announced, examples, footer_is_there, rows_read
from fuzz_settings import part

from fletching import cli
from fletching.options import EncodingOptions, StandardOptions
from fletching.report import Report
from fletching.text import text_hash

TEXTS = [text for pair in SUBJECTS.values() for text in pair][:6]


# --- model folders -----------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class LoadOptions(StandardOptions, EncodingOptions):
    """A model."""


def _encode(options: LoadOptions, report: Report) -> None:
    from fletching.encode import Encoder

    with Encoder(options, report) as encoder:
        queries = encoder.encode(TEXTS[::2], "query")
        documents = encoder.encode(TEXTS[1::2], "document")
    vectors = [[round(float(x), 5) for x in row] for side in (queries, documents) for row in side]
    Path(ROWS_OUT).write_text(json.dumps(vectors))


ENCODE = cli.Tool(name="encode", options=LoadOptions, run=_encode, doc="Encode.", usage="")


def _vectors_hold(folder: Path, got: Any) -> str:
    """Unit vectors of finite numbers, all of one dimension."""
    if len({len(vector) for vector in got}) != 1 or len(got) != len(TEXTS):
        return f"{len(got)} vectors of {sorted({len(vector) for vector in got})} numbers"
    for vector in got:
        length = sum(x * x for x in vector) ** 0.5
        if not abs(length - 1) < 0.01:
            return f"a vector of length {length}"
    return ""


def _write_model(folder: Path) -> None:
    build_model(folder / "model")
    shutil.rmtree(folder / "model-plain", ignore_errors=True)


MODEL_FILES = {
    "model/config.json": ("json", 5),
    "model/modules.json": ("json", 4),
    "model/config_sentence_transformers.json": ("json", 3),
    "model/sentence_bert_config.json": ("json", 2),
    "model/1_Pooling/config.json": ("json", 3),
    "model/tokenizer.json": ("json", 4),
    "model/tokenizer_config.json": ("json", 4),
    "model/model.safetensors": ("safetensors", 6),
}


# --- runs --------------------------------------------------------------------------------------------

TRAIN = "contrast-train rows.jsonl --model ./model --batch 4 --steps 6 --save-every 2 --device cpu -o out"


def _write_run(folder: Path) -> None:
    """A run that was stopped before it published."""
    from fletching.errors import InputError
    from fletching.train.run_dir import RunDir

    def stop(self: RunDir, built: str) -> None:
        raise InputError("stopped", "")

    import os

    _write_model(folder)
    write_rows(folder / "rows.jsonl", [{"query": q, "pos": [p]} for q, p in SUBJECTS.values()])
    publish, RunDir.publish = RunDir.publish, stop  # type: ignore[method-assign]
    before = os.getcwd()
    os.chdir(folder)
    code = installed("contrast-train")([*TRAIN.split()[1:], "--quiet"])
    os.chdir(before)
    RunDir.publish = publish  # type: ignore[method-assign]
    if code != 1:
        raise RuntimeError(f"the run to be stopped ended with {code}")


def _weights(folder: Path) -> str:
    return hashlib.sha256((folder / "out/model.safetensors").read_bytes()).hexdigest()


RUN_FILES = {
    "out.run/manifest.json": ("json", 5),
    "out.run/rows.arrow": ("arrow-file", 3),
    "out.run/checkpoint-4/trainer_state.json": ("json", 4),
    "out.run/checkpoint-4/optimizer.pt": ("bytes", 2),
    "out.run/checkpoint-4/scheduler.pt": ("bytes", 1),
    "out.run/checkpoint-4/rng_state.pth": ("bytes", 1),
    "out.run/checkpoint-2/weights.safetensors": ("safetensors", 1),
    "out.run/measures.jsonl": ("jsonl", 1),
}


# --- vectors -----------------------------------------------------------------------------------------


def _cached(path: str) -> Any:
    from fletching.encode.vector_cache import ArrowVectorCache

    cache = ArrowVectorCache(str(Path(path).parent), {})
    vectors = {text: cache.get(text_hash(text)) for text in TEXTS}
    return {text: None if vector is None else vector.tolist() for text, vector in vectors.items()}


def _write_cache(folder: Path) -> None:
    import numpy as np

    from fletching.encode.vector_cache import ArrowVectorCache

    cache = ArrowVectorCache(str(folder / "cache"), {})
    numbers = np.arange(4 * len(TEXTS), dtype=np.float32).reshape(-1, 4)
    cache.put([text_hash(text) for text in TEXTS], numbers)
    cache.flush()
    [shard] = (folder / "cache").glob("*.arrow")
    shard.rename(folder / "cache/shard.arrow")


def _precomputed(path: str) -> Any:
    from fletching.encode.precomputed import PrecomputedEmbeddings

    with PrecomputedEmbeddings([path], Report("read", quiet=True)) as encoder:
        return [[round(float(x), 6) for x in row] for row in encoder.encode(TEXTS, "document")]


def _write_given(folder: Path) -> None:
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    source = np.random.default_rng(0)
    vectors = [source.standard_normal(4).astype(np.float32) for _ in TEXTS]
    columns = pa.schema([("text_hash", pa.string()), ("vector", pa.list_(pa.float32(), 4))])
    rows = [{"text_hash": text_hash(t), "vector": v.tolist()} for t, v in zip(TEXTS, vectors)]
    pq.write_table(pa.Table.from_pylist(rows, columns), folder / "in.parquet")


def _known_texts(path: str) -> Any:
    from fletching import training_index

    index = training_index.load(str(Path(path).parent))
    return None if index is None else [index.halvings, index.whole.tolist(), index.runs.tolist()]


def _write_index(folder: Path) -> None:
    import pyarrow as pa

    from fletching.training_index import TrainingIndex

    index = TrainingIndex()
    index.add(pa.array([" ".join([text] * 2) for text in TEXTS]))
    index.save(str(folder / "model")) if (folder / "model").mkdir() is None else None


MODEL_READERS = [
    FuzzedReader(
        name="model folder", line="encode --model ./model --dtype float32 --device cpu",
        program=lambda argv: cli.main(ENCODE, argv), fill=_write_model, files=MODEL_FILES,
        output=rows_read, outputs=(ROWS_OUT,), holds=_vectors_hold, weight=45, is_quick=False,
    ),
    FuzzedReader(
        name="DIR.run, resumed", line=TRAIN, fill=_write_run, files=RUN_FILES, output=_weights,
        outputs=("out",), checksummed=lambda path: True, weight=10, is_quick=False,
    ),
    part(
        "vector cache", _cached, fill=_write_cache, files={"cache/shard.arrow": ("arrow-file", 1)},
        checksummed=announced, weight=30, is_quick=False,
    ),
    part(
        "--vectors", _precomputed, fill=_write_given, files={"in.parquet": ("parquet", 1)},
        holds=_vectors_hold, weight=25, is_quick=False,
    ),
    part(
        "trained-on.parquet", _known_texts, fill=_write_index, is_quick=False,
        files={"model/trained-on.parquet": ("parquet", 1)}, weight=10,
    ),
]  # fmt: skip
__all__ = ["MODEL_READERS", "examples", "footer_is_there"]
