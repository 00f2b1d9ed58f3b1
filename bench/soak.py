"""Soak: millions of rows through three tools, and hundreds of thousands of files through one.

  python bench/soak.py rows [--rows N]     a table of 5,000,000 rows: csv2pairs, then simfilter with
                                           given scores, then hnmine with given vectors of 32 numbers:
                                           all rows, in a pool of 10,000 answers
  python bench/soak.py files [--rows N]    a folder of 200,000 files of one row each, read with at
                                           most 256 open files

Prints wall-clock time, CPU time (user + system) and peak memory (ru_maxrss) of each tool, and ends with
an error where rows in are not rows out and drops, or a tool reads other rows than the one before
wrote. Needs 250 bytes of the temporary folder a row, 4 KB a file; they are removed.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

ROWS = {"rows": 5_000_000, "files": 200_000}
ROWS_OF_AN_ANSWER = 500  # many questions have one answer, as in a FAQ
NOISE = 0.7  # of each number of a question's vector; that of its answer is normal too
DIMENSION = 32
BLOCK = 100_000
OPEN_FILES = 256
WORDS = "river stone amber quiet lantern orbit velvet copper meadow signal".split()


@dataclass
class Stage:
    """What one tool took, and its summary."""

    name: str
    wall: float  # s
    cpu: float  # s
    peak: int  # bytes
    summary: dict[str, object]

    @property
    def dropped(self) -> int:
        drops = self.summary["dropped"]
        assert isinstance(drops, dict)
        return sum(drops.values())

    def row(self) -> str:
        rows = [self.summary["rows_in"], self.summary["rows_out"], self.dropped]
        counts = " | ".join(f"{count:,}" for count in rows)
        memory = f"{self.peak / 2**20:,.0f} MB"
        return f"| {self.name} | {counts} | {self.wall:,.0f} s | {self.cpu:,.0f} s | {memory} |"


def measure(folder: Path, words: list[str], open_files: int | None = None) -> Stage:
    """Run a tool in `folder`. Raises SystemExit where it fails or its account is wrong."""
    program = Path(sys.executable).parent / words[0]
    command = [str(program), *words[1:], "--json-summary", "summary.json"]

    def limit() -> None:
        if open_files:
            resource.setrlimit(resource.RLIMIT_NOFILE, (open_files, open_files))

    environment = os.environ | {"TMPDIR": str(folder)}
    start = time.perf_counter()
    with open(folder / "log", "wb") as log:
        child = subprocess.Popen(
            command, cwd=folder, env=environment, stderr=log, stdout=log, preexec_fn=limit
        )
        _, status, usage = os.wait4(child.pid, 0)
    wall = time.perf_counter() - start
    if status:
        raise SystemExit(f"{' '.join(command)}\n{(folder / 'log').read_text()[-2000:]}")
    summary = json.loads((folder / "summary.json").read_text())
    cpu = usage.ru_utime + usage.ru_stime
    stage = Stage(words[0], wall, cpu, usage.ru_maxrss * 1024, summary)
    print(stage.row(), flush=True)
    if summary["rows_in"] != summary["rows_out"] + stage.dropped:
        raise SystemExit(f"{words[0]}: rows in are not rows out and drops: {summary}")
    return stage


def check_chain(stages: list[Stage], output: Path) -> None:
    """Raise SystemExit where a tool read other rows than the one before it wrote."""
    for before, after in itertools.pairwise(stages):
        if before.summary["rows_out"] != after.summary["rows_in"]:
            raise SystemExit(f"{after.name} read other rows than {before.name} wrote")
    if pq.read_metadata(output).num_rows != stages[-1].summary["rows_out"]:
        raise SystemExit(f"{output.name} has other rows than the summary says")


def question(number: int) -> str:
    return f"question {number} about {WORDS[number % 10]} and {WORDS[number // 10 % 10]}"


def answer(number: int) -> str:
    return f"answer {number}: " + " ".join(WORDS[number // 10**place % 10] for place in range(4))


def count_answers(rows: int) -> int:
    """How many different answers so many rows have."""
    return max(rows // ROWS_OF_AN_ANSWER, 200)


def draw_answers(rows: int) -> Iterator[tuple[int, float]]:
    """(number of the answer, score) of each row, in no order of the answers."""
    answers = count_answers(rows)
    draw = random.Random(0)
    for _ in range(rows):
        yield draw.randrange(answers), draw.random()


def write_table(path: Path, rows: int) -> None:
    """Questions, answers and scores."""
    with open(path, "w", encoding="utf-8") as file:
        file.write("question,answer,score\n")
        for number, (answer_number, score) in enumerate(draw_answers(rows)):
            file.write(f"{question(number)},{answer(answer_number)},{score:.4f}\n")


def write_vectors(path: Path, rows: int) -> None:
    """The vectors of all questions and answers: random for an answer, near it for a question."""
    generator = np.random.default_rng(0)
    columns = pa.schema(
        [
            pa.field("text_hash", pa.string(), nullable=False),
            pa.field("vector", pa.list_(pa.float16(), DIMENSION), nullable=False),
        ]
    )

    def batch(texts: Iterable[str], values: npt.NDArray[np.float32]) -> pa.RecordBatch:
        hashes = [xxhash.xxh3_128_hexdigest(text.encode()) for text in texts]
        flat = pa.array(values.astype(np.float16).ravel())
        vectors = pa.FixedSizeListArray.from_arrays(flat, DIMENSION)
        return pa.record_batch([pa.array(hashes), vectors], schema=columns)

    answers = count_answers(rows)
    of_answers = generator.standard_normal((answers, DIMENSION), np.float32)
    drawn = draw_answers(rows)
    with pq.ParquetWriter(path, columns) as writer:
        writer.write_batch(batch(map(answer, range(answers)), of_answers))
        for start in range(0, rows, BLOCK):
            numbers = range(start, min(start + BLOCK, rows))
            nearest = [number for number, _ in itertools.islice(drawn, len(numbers))]
            noise = generator.standard_normal((len(numbers), DIMENSION), np.float32)
            values = of_answers[nearest] + NOISE * noise
            writer.write_batch(batch(map(question, numbers), values))


def soak_rows(folder: Path, rows: int) -> None:
    """csv2pairs, simfilter, hnmine."""
    write_table(folder / "table.csv", rows)
    pairs = "csv2pairs table.csv --query question --pos answer --score score -o pairs.parquet"
    stages = [measure(folder, pairs.split())]
    (folder / "table.csv").unlink()
    kept = "simfilter pairs.parquet --use-scores --min-sim 0.1 --keep-top 0.9 -o kept.parquet"
    stages.append(measure(folder, kept.split()))
    (folder / "pairs.parquet").unlink()
    write_vectors(folder / "vectors.parquet", rows)
    mined = "hnmine kept.parquet --vectors vectors.parquet --negatives 5 --range 1-20"
    stages.append(measure(folder, f"{mined} -o mined.parquet".split()))
    check_chain(stages, folder / "mined.parquet")


def soak_files(folder: Path, rows: int) -> None:
    """The rows of many files, by arrowcat and by csv2pairs."""
    (folder / "rows").mkdir()
    (folder / "tables").mkdir()
    for number in range(rows):
        pair = [question(number), answer(number)]
        row = json.dumps({"query": pair[0], "pos": pair[1:]})
        (folder / "rows" / f"{number}.jsonl").write_text(row + "\n")
        (folder / "tables" / f"{number}.csv").write_text(f"query,pos\n{pair[0]},{pair[1]}\n")
    for words in (
        "arrowcat rows -o all.parquet",
        "csv2pairs tables --query query --pos pos -o all.parquet",
    ):
        stage = measure(folder, words.split(), OPEN_FILES)
        check_chain([stage], folder / "all.parquet")
        if stage.summary["rows_in"] != rows:
            raise SystemExit(f"{words}: {stage.summary['rows_in']} rows of {rows}")


def main() -> None:
    """Run one soak and print its table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("soak", choices=list(ROWS))
    parser.add_argument("--rows", type=int, help="rows, or files of one row")
    args = parser.parse_args()
    rows = args.rows or ROWS[args.soak]
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores; ", end="")
    print(f"`python bench/soak.py {args.soak} --rows {rows}`\n")
    print("| tool | rows in | rows out | dropped | wall | CPU | peak memory |")
    print("|---|---|---|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory(prefix="soak-") as name:
        (soak_rows if args.soak == "rows" else soak_files)(Path(name), rows)


if __name__ == "__main__":
    main()
