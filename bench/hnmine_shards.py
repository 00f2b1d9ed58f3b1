"""A pool searched in parts, two of them killed, against one run: the same bytes, at which memory?

  python bench/hnmine_shards.py [--texts 1000000] [--queries 2000] [--parts 7]      (or: python bench/hnmine.py shards …)
  python bench/hnmine_shards.py --texts 30000000 --dimension 256 --queries 500 --parts 4 --memory-only

Peak memory is that of the process: resident (with the pages of mapped files, which the
system may drop) and anonymous (what it cannot drop), looked at 20 times a second.
"""

from __future__ import annotations

import argparse
import filecmp
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

CLUSTER = 33  # texts
AT_A_TIME = 50_000
OPTIONS = ["--negatives", "5", "--range", "10-110", "--quiet"]


@dataclass
class Run:
    """One process: what it cost. killed_after: seconds, where it was killed."""

    name: str
    wall: float = 0.0
    cpu: float = 0.0
    resident: float = 0.0  # MB
    anonymous: float = 0.0
    killed_after: float | None = None

    def row(self) -> str:
        cost = f"{self.wall:.1f} | {self.cpu:.1f} | {self.resident:.0f} | {self.anonymous:.0f}"
        return f"| {self.name} | {cost} |"


@dataclass
class Bench:
    """The folder of one bench, and its runs."""

    folder: Path
    runs: list[Run] = field(default_factory=list)

    def hnmine(self, name: str, *words: str, out: str, kill_after: float | None = None) -> Run:
        """Run the command to its end, or kill it (SIGKILL) after so many seconds."""
        inputs = ["rows.parquet", "--corpus", "corpus.parquet", *OPTIONS, *words, "-o", out]
        started = time.monotonic()
        process = subprocess.Popen(["hnmine", *inputs], cwd=self.folder)
        run = Run(name)
        while True:
            pid, status, usage = os.wait4(process.pid, os.WNOHANG)
            if pid:
                break
            run.resident = max(run.resident, _memory(process.pid, "VmHWM"))
            run.anonymous = max(run.anonymous, _memory(process.pid, "RssAnon"))
            if kill_after is not None and time.monotonic() - started > kill_after:
                os.kill(process.pid, signal.SIGKILL)
                run.killed_after = kill_after
                kill_after = None
            time.sleep(0.05)
        process.returncode = status
        run.wall = time.monotonic() - started
        run.cpu = usage.ru_utime + usage.ru_stime
        if run.killed_after is None and status:
            raise SystemExit(f"{name} failed with status {status}")
        self.runs.append(run)
        print(run.row(), flush=True)
        return run


def _memory(pid: int, name: str) -> float:
    """A figure of /proc/PID/status, in MB; 0 where the process is gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith(name)), 0.0)


def main(words: list[str]) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--texts", type=int, default=1_000_000)
    parser.add_argument("--queries", type=int, default=2000)
    parser.add_argument("--parts", type=int, default=7)
    parser.add_argument("--dimension", type=int, default=384)
    parser.add_argument(
        "--memory-only",
        action="store_true",
        help="no part is killed, and there is no run over the whole pool",
    )
    parser.add_argument("--seed", type=int, default=0, help="which parts are killed, and when")
    parser.add_argument("--inputs", type=Path, help="a folder that keeps the inputs, made once")
    args = parser.parse_args(words)
    with tempfile.TemporaryDirectory(prefix="hnmine-shards-", dir=args.inputs) as name:
        folder = Path(name)
        inputs = args.inputs or folder
        if not (inputs / "vectors.parquet").exists():
            began = time.monotonic()
            make_inputs(inputs, args.texts, args.queries, dimension=args.dimension)
            print(f"inputs: {_size(inputs):.1f} GB, made in {time.monotonic() - began:.0f} s\n")
        if inputs != folder:
            for path in inputs.glob("*.parquet"):
                (folder / path.name).symlink_to(path.resolve())
        shape = f"{args.texts:,} x {args.dimension} float16"
        print(f"{args.queries:,} queries, {shape}, {args.parts} parts")
        print(f"load at the start {os.getloadavg()[0]:.1f}\n")
        print("| run | wall s | CPU s | peak MB | of which not mapped |\n|---|---|---|---|---|")
        sys.stdout.flush()
        draw = None if args.memory_only else random.Random(args.seed)
        _run_all(Bench(folder), args.parts, draw)


def _size(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.glob("*.parquet")) / 1e9


def _run_all(bench: Bench, parts: int, draw: random.Random | None) -> None:
    """The parts and their merge; with a draw of victims also one run over the whole: the same bytes?"""
    vectors = ["--vectors", "vectors.parquet"]
    _search_parts(bench, vectors, parts, draw)
    bench.hnmine("merge", "--merge", "candidates.*.parquet", out="merged.parquet")
    sizes = [path.stat().st_size for path in bench.folder.glob("candidates.*.parquet")]
    print(f"\ncandidates: {sum(sizes) / 1e6:.0f} MB")
    if draw is None:
        return
    bench.hnmine("one run over the whole pool", *vectors, out="whole.parquet")
    whole, merged = bench.folder / "whole.parquet", bench.folder / "merged.parquet"
    answer = "the same" if filecmp.cmp(whole, merged, shallow=False) else "NOT the same"
    print(f"\nthe bytes are {answer}")


def _search_parts(bench: Bench, vectors: list[str], parts: int, draw: random.Random | None) -> None:
    """All parts, one after the other; two of them are killed at random and run again."""
    victims = [] if draw is None else draw.sample(range(1, parts), 2)
    for part in range(parts):
        out = f"candidates.{part}.parquet"
        words = [*vectors, "--pool-shard", f"{part}/{parts}"]
        if draw is not None and part in victims:
            seconds = draw.uniform(0.1, 0.8) * bench.runs[0].wall
            killed = bench.hnmine(f"part {part}, killed", *words, out=out, kill_after=seconds)
            is_left = (bench.folder / out).exists()
            if is_left and killed.killed_after is not None:
                raise SystemExit(f"a killed part left {out}")
        bench.hnmine(f"part {part}", *words, out=out)


def make_inputs(folder: Path, texts: int, queries: int, *, dimension: int) -> None:
    """Rows whose positives are the first texts of the corpus, and the vectors of all in float16."""
    ids = pa.array([str(number) for number in range(queries)])
    positives = pa.array([[_text(number)] for number in range(queries)])
    names = pa.array([f"query {number}" for number in range(queries)])
    pq.write_table(pa.table({"id": ids, "query": names, "pos": positives}), folder / "rows.parquet")
    columns = pa.schema({"id": pa.string(), "text": pa.string()})
    with pq.ParquetWriter(folder / "corpus.parquet", columns) as out:
        for start in range(0, texts, AT_A_TIME):
            numbers = range(start, min(start + AT_A_TIME, texts))
            content = [[str(number) for number in numbers], [_text(number) for number in numbers]]
            out.write_table(pa.table([pa.array(column) for column in content], schema=columns))
    kind = pa.list_(pa.float16(), dimension)
    columns = pa.schema({"text_hash": pa.string(), "vector": kind})
    with pq.ParquetWriter(
        folder / "vectors.parquet", columns, compression="none", use_dictionary=False
    ) as out:
        for hashed, units in _vectors(texts, queries, dimension):
            values = pa.array(units.astype(np.float16).ravel())
            lists = pa.FixedSizeListArray.from_arrays(values, dimension)
            out.write_table(pa.table([pa.array(hashed), lists], schema=columns))


def _text(number: int) -> str:
    return f"text number {number} of the pool"


def _vectors(texts: int, queries: int, dimension: int) -> Iterator[tuple[list[str], np.ndarray]]:
    """(hashes, unit vectors) of texts in clusters, then of queries that lie near their positives."""
    draw = np.random.default_rng(0)
    centres = draw.standard_normal((texts // CLUSTER + 1, dimension), np.float32)
    near: list[np.ndarray] = []
    for start in range(0, texts, AT_A_TIME):
        numbers = range(start, min(start + AT_A_TIME, texts))
        of_clusters = centres[draw.integers(0, len(centres), len(numbers))]
        vectors = _unit(of_clusters + draw.standard_normal(of_clusters.shape, np.float32))
        if start < queries:
            near.append(vectors[: queries - start])
        yield [_hash(_text(number)) for number in numbers], vectors
    noise = draw.standard_normal((queries, dimension), np.float32)
    yield (
        [_hash(f"query {number}") for number in range(queries)],
        _unit(np.concatenate(near) + 0.05 * noise),
    )


def _hash(text: str) -> str:
    return xxhash.xxh3_128_hexdigest(text.encode())


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


if __name__ == "__main__":
    main(sys.argv[1:])
