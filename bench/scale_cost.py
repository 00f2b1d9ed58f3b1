"""What 100 million texts cost: encoded once, mined from parts of the pool; by rates measured here.

  python bench/scale_cost.py --model M [--texts 100000000] [--queries 1000000] [--parts 16]

Measured are whole commands on one thread, in CPU seconds, at two sizes: the difference is what a text
costs, without the start. Texts are passages of Python's own documentation; vectors are synthetic.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from hnmine_shards import Bench, make_inputs

WORDS = 100  # of a passage
ENCODED = (400, 1200)  # texts
POOLS = (200_000, 1_000_000)  # texts
PARTS = 4  # of which one is searched
QUERIES = (500, 4000)
DIMENSION = 384
SETS = ("amx_bf16", "avx512_bf16", "avx512_vnni", "avx512f", "avx2")


@dataclass(frozen=True, kw_only=True)
class Rates:
    """Measured; seconds are of one CPU."""

    encode: float  # seconds a text
    vector_bytes: float  # a text, on disk
    start: float  # seconds a part, whatever its size
    read: float  # seconds a text that a part reads through
    search: float  # seconds a query and text
    held_start: float  # bytes of a part, whatever its size
    held: float  # bytes a text of the part
    candidate_bytes: float  # a query and part, on disk


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", required=True)
    parser.add_argument("--texts", type=int, default=100_000_000)
    parser.add_argument("--queries", type=int, default=1_000_000)
    parser.add_argument("--parts", type=int, default=16)
    args = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    with tempfile.TemporaryDirectory(prefix="scale-cost-") as name:
        rates = measure(Path(name), args.model)
    print(f"CPU: {cpu()}; load at the end {os.getloadavg()[0]:.1f}; one thread\n")
    print_rates(rates)
    print_cost(rates, args.texts, args.queries, args.parts)


# --- measured ------------------------------------------------------------------------------------


def measure(folder: Path, model: str) -> Rates:
    encode, vector_bytes = encoding_rates(folder, model)
    runs = []
    for pool in POOLS:
        inputs = folder / f"{pool}"
        inputs.mkdir()
        make_inputs(inputs, pool, QUERIES[1], dimension=DIMENSION)
        words = ["--vectors", "vectors.parquet", "--pool-shard", f"0/{PARTS}"]
        for queries in QUERIES:
            name = f"{pool:,} texts, {queries:,} queries"
            runs.append(
                Bench(inputs).hnmine(
                    name, *words, "--limit", str(queries), out=f"{queries}.parquet"
                )
            )
        candidate_bytes = (inputs / f"{QUERIES[1]}.parquet").stat().st_size / QUERIES[1]
        shutil.rmtree(inputs)
    small, _, large, many = runs
    more = POOLS[1] - POOLS[0]
    search = max(many.cpu - large.cpu, 0) / ((QUERIES[1] - QUERIES[0]) * POOLS[1] / PARTS)
    read = (large.cpu - small.cpu) / more - search * QUERIES[0] / PARTS
    held = (large.anonymous - small.anonymous) * 2**20 / (more / PARTS)
    return Rates(
        encode=encode,
        vector_bytes=vector_bytes,
        start=small.cpu - (read + search * QUERIES[0] / PARTS) * POOLS[0],
        read=read,
        search=search,
        held_start=small.anonymous * 2**20 - held * POOLS[0] / PARTS,
        held=held,
        candidate_bytes=candidate_bytes,
    )


def encoding_rates(folder: Path, model: str) -> tuple[float, float]:
    """(CPU seconds a text, bytes a vector) of texts2vectors, without its start."""
    texts = passages()
    seconds, sizes, rows = [], [], []
    for count in ENCODED:
        source, out = folder / "texts.parquet", folder / "vectors.parquet"
        ids = [str(number) for number in range(count)]
        pq.write_table(pa.table({"id": ids, "text": texts[:count]}), source)
        line = ["texts2vectors", source, "--model", model, "--vector-type", "float16", "-q"]
        process = subprocess.Popen([*line, "-o", out])
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = status
        if status:
            raise SystemExit(f"texts2vectors failed with status {status}")
        seconds.append(usage.ru_utime + usage.ru_stime)
        sizes.append(out.stat().st_size)
        rows.append(pq.read_metadata(out).num_rows)  # texts that are equal are encoded once
    more = rows[1] - rows[0]
    return (seconds[1] - seconds[0]) / more, (sizes[1] - sizes[0]) / more


def passages() -> list[str]:
    """Distinct passages of 100 words, from the docstrings of the standard library's sources."""
    import sysconfig

    distinct: dict[str, None] = {}
    for path in sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py")):
        for docstring in re.findall(r'"""(.+?)"""', path.read_text("utf-8", "replace"), re.DOTALL):
            words = docstring.split()
            for start in range(0, len(words) - WORDS, WORDS):
                distinct[" ".join(words[start : start + WORDS])] = None
    texts = list(distinct)
    while len(texts) < ENCODED[1]:  # other starts of the same passages
        texts += [" ".join(text.split()[1:]) for text in texts[: ENCODED[1] - len(texts)]]
    return texts


def cpu() -> str:
    """`Intel(R) Xeon(R) …, amx_bf16 avx512_bf16`: its name and the instruction sets that matter."""
    text = Path("/proc/cpuinfo").read_text()
    names = re.findall(r"^model name\s*: (.+)$", text, re.MULTILINE)
    flags = set(re.findall(r"^flags\s*: (.+)$", text, re.MULTILINE)[0].split())
    sets = " ".join(name for name in SETS if name in flags)
    return f"{names[0] if names else 'unknown'}, {sets}"


# --- printed -------------------------------------------------------------------------------------


def print_rates(rates: Rates) -> None:
    print("| measured | |\n|---|---|")
    print(f"| encode a text of {WORDS} words | {1 / rates.encode:,.0f} texts a CPU second |")
    print(f"| a float16 vector of it on disk | {rates.vector_bytes:,.0f} bytes |")
    print(f"| hnmine --pool-shard: start | {rates.start:.1f} CPU s |")
    print(f"| … read through a text of the pool | {rates.read * 1e6:.1f} CPU s a million |")
    print(f"| … search | {1e-6 / rates.search:,.0f} million query-text pairs a CPU second |")
    print(
        f"| … memory that is not mapped | {rates.held_start / 1e6:,.0f} MB and {rates.held:,.0f} bytes a text of the part |"
    )
    print(f"| … candidates on disk | {rates.candidate_bytes:,.0f} bytes a query and part |\n")


def print_cost(rates: Rates, texts: int, queries: int, parts: int) -> None:
    """The extrapolation: every rate times its number."""
    encode = rates.encode * (texts + queries) / 3600
    search = rates.search * texts * queries / 3600
    read = (rates.start + rates.read * texts) * parts / 3600
    vectors = rates.vector_bytes * (texts + queries) / 1e9
    candidates = rates.candidate_bytes * queries * parts / 1e9
    held = (rates.held_start + rates.held * texts / parts) / 1e9
    scratch = 4 * DIMENSION * (texts / parts + queries) / 1e9
    print(f"**Extrapolated** to {texts:,} texts, {queries:,} queries, {parts} parts of the pool:\n")
    print(
        "| step | CPU hours of one such core | on disk | memory of a process |\n|---|---|---|---|"
    )
    print(f"| texts2vectors, once | {encode:,.0f} | {vectors:,.0f} GB | that of the model |")
    print(f"| hnmine --pool-shard: read {parts} times | {read:,.1f} | | |")
    print(f"| … search, exact | {search:,.0f} | {candidates:,.1f} GB | {held:.0f} GB |")
    print(f"| … scratch of one part, float32 | | {scratch:,.0f} GB | |")


if __name__ == "__main__":
    main()
