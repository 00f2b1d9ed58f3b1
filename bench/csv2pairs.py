"""csv2pairs: speed against polars and against a row loop, memory on a large file.

  python bench/csv2pairs.py polars    1,000,000 rows x 5 columns, 5 hard negatives each: at most 3 times what polars
                                      takes to read that input and write our output rows; peak memory below 2 GiB
  python bench/csv2pairs.py loop      20,000 rows: at least 100 times faster than a row loop in pandas of the same rule
  python bench/csv2pairs.py memory    peak memory on tables of 0.25 and 1 GB, with and without negatives
  python bench/csv2pairs.py growing   peak memory with 5 hard negatives and a split, 1,000,000 and 5,000,000 rows
  python bench/csv2pairs.py large     a table of 10 GB, 34,000,000 rows, with 5 hard negatives and a split: peak below
                                      6 GiB (needs 45 GB in the temporary folder and half an hour)
  python bench/csv2pairs.py large-pairs    the same table, pairs alone

  BEFORE=FOLDER python bench/csv2pairs.py change    300,000 rows with 5 hard negatives and a split, beside the csv2pairs of
                                                    another checkout

BEFORE=FOLDER has the csv2pairs of that checkout measured in the same run of `polars` too.

Every figure is from a child process: wall-clock time, CPU time (user + system) and peak memory (ru_maxrss).
The runs of both sides alternate and the median counts, since other programs may share the machine.
"""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

RUNS = 3
OPTIONS = (
    "--id id --query question --pos answer --category topic --domain product --negatives 5".split()
)


@dataclass
class Cost:
    wall: float  # s
    cpu: float  # s
    peak: int  # bytes


def measure(
    command: list[str], label: str = "", *, folder: Path | None = None, checkout: str = ""
) -> Cost:
    """Run a child; with `label`, take the times that it prints as `label WALL CPU` in place of its own.

    folder: for its temporary files. checkout: whose packages it imports.
    """
    environment = dict(os.environ)
    if folder is not None:
        environment["TMPDIR"] = str(folder)
    if checkout:
        sources = [f"{checkout}/libs/common/src", f"{checkout}/tools/csv2pairs/src"]
        environment["PYTHONPATH"] = os.pathsep.join(sources)
    start = time.perf_counter()
    child = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment
    )
    printed = child.stdout.read() if child.stdout else ""
    _, status, usage = os.wait4(child.pid, 0)
    if status:
        raise SystemExit(f"failed: {' '.join(command)}")
    cost = Cost(
        time.perf_counter() - start, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024
    )
    for line in printed.splitlines():
        if label and line.startswith(label):
            cost.wall, cost.cpu = map(float, line.split()[1:])
    return cost


def median(costs: list[Cost]) -> Cost:
    return Cost(
        statistics.median(c.wall for c in costs),
        statistics.median(c.cpu for c in costs),
        max(c.peak for c in costs),
    )


def make_table(path: str, rows: int, topics: int) -> None:
    """A CSV of id, question, answer, topic, product in made-up words, about 300 bytes a row."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.csv

    draw = np.random.default_rng(1)
    pieces = [
        "ba",
        "ko",
        "ri",
        "tel",
        "mon",
        "su",
        "ver",
        "da",
        "lin",
        "pro",
        "ca",
        "st",
        "or",
        "ne",
        "qua",
    ]
    words = pa.array(
        sorted(
            {
                "".join(pieces[i] for i in draw.integers(0, len(pieces), size))
                for size in draw.integers(1, 5, 4000)
            }
        )
    )

    def texts(count: int, low: int, high: int) -> pa.Array:
        ends = np.concatenate([[0], draw.integers(low, high, count).cumsum()])
        chosen = words.take(pa.array(draw.zipf(1.3, ends[-1]) % len(words)))
        return pc.binary_join(pa.LargeListArray.from_arrays(pa.array(ends), chosen), " ")

    out = None
    for start in range(0, rows, 250_000):
        count = min(250_000, rows - start)
        ids = pa.array([f"row-{number:08d}" for number in range(start, start + count)])
        columns = {
            "id": ids,
            "question": pc.binary_join_element_wise(
                texts(count, 6, 14).cast(pa.string()), ids, " "
            ),
            "answer": pc.binary_join_element_wise(
                texts(count, 12, 28).cast(pa.string()), ids, ", "
            ),
            "topic": pa.array([f"topic {number}" for number in draw.integers(0, topics, count)]),
            "product": pa.array([f"product {number}" for number in draw.integers(0, 5, count)]),
        }
        table = pa.table(columns)
        out = out or pyarrow.csv.CSVWriter(path, table.schema)
        out.write_table(table)
    if out:
        out.close()


# What polars does: the time of loading our rows into memory is not counted, only reading the input and writing them.
POLARS = """
import resource, sys, time
import polars as pl
rows = pl.read_parquet(sys.argv[2])
def now():
    used = resource.getrusage(resource.RUSAGE_SELF)
    return time.perf_counter(), used.ru_utime + used.ru_stime
wall, cpu = now()
table = pl.read_csv(sys.argv[1], infer_schema=False)
rows.write_parquet(sys.argv[3])
done, used = now()
print("both", done - wall, used - cpu)
"""

NOW = """
import resource, time
def now():
    used = resource.getrusage(resource.RUSAGE_SELF)
    return time.perf_counter(), used.ru_utime + used.ru_stime
"""

# The row loop that scripts of this kind have: for every row and column a pass over its category.
SEED_LOOP = """
import random, sys
import pandas as pd
wall, cpu = now()
table = pd.read_csv(sys.argv[1], engine="python").fillna("")
groups = table.groupby("topic")["question"].apply(list)
choose, made = random.Random(0), []
for _, row in table.iterrows():
    query = str(row["question"]).strip()
    if not query:
        continue
    for column in ("topic", "answer", "product"):
        positive = str(row[column]).strip()
        candidates = [text for text in groups.get(str(row["topic"]).strip(), []) if text != query]
        if positive and positive != query and candidates:
            made.append({"anchor": query, "positive": positive, "hard_negative": choose.choice(candidates)})
pd.DataFrame(made).to_csv(sys.argv[2], index=False, encoding="utf-8-sig")
done, used = now()
print("both", done - wall, used - cpu)
"""

# The same loop with our rule: equal after normalisation, a row's positives and rows that share a text are
# no negatives. Texts are normalised once. It is linear in the rows looped over, so every 20th stands for all.
RULE_LOOP = """
import random, sys, unicodedata
import pandas as pd
def normalise(text):
    return " ".join(unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold()).split())
table = pd.read_csv(sys.argv[1], dtype=str, keep_default_na=False)
for name in ("question", "answer"):
    table[name + "_key"] = table[name].map(normalise)
table["ties"] = [frozenset(keys) - {""} for keys in zip(table["question_key"], table["answer_key"])]
groups = {topic: group.to_dict("records") for topic, group in table.groupby("topic")}
draw, made = random.Random(0), []
wall, cpu = now()
for _, row in table.iloc[::20].iterrows():
    candidates = {other["answer_key"]: other["answer"] for other in groups[row["topic"]] if other["answer_key"] not in row["ties"] and not other["ties"] & row["ties"]}
    made.append({"query": row["question"], "pos": [row["answer"]], "neg": draw.sample(list(candidates.values()), min(5, len(candidates)))})
done, used = now()
print("both", 20 * (done - wall), 20 * (used - cpu))
"""

INSIDE = """
import sys
import csv2pairs.pipeline
from csv2pairs.cli import main
wall, cpu = now()
main([*sys.argv[1:], "--quiet"])
done, used = now()
print("both", done - wall, used - cpu)
"""


def against_polars(folder: Path) -> None:
    table, ours, theirs = (
        str(folder / "table.csv"),
        str(folder / "ours.parquet"),
        str(folder / "theirs.parquet"),
    )
    make_table(table, 1_000_000, 500)
    command = ["csv2pairs", table, *OPTIONS, "-o", ours]
    our_costs = [measure(command)]  # polars reads what this run wrote
    peer_costs = []
    before_costs = []
    before = os.environ.get("BEFORE", "")
    for number in range(RUNS):
        peer_costs.append(measure([sys.executable, "-c", POLARS, table, ours, theirs], "both"))
        if number:
            our_costs.append(measure(command))
        if before:
            main = "from csv2pairs.cli import main; main()"
            old = [sys.executable, "-c", main, *command[1:-1], str(folder / "before.parquet")]
            before_costs.append(measure(old, checkout=before))
    if before_costs:
        cost = median(before_costs)
        print(f"before: {cost.wall:.1f} s wall {cost.cpu:.1f} s CPU {cost.peak / 2**20:.0f} MiB")
    our = median(our_costs)
    peer = median(peer_costs)
    report(
        "1,000,000 rows x 5 columns, 5 hard negatives each",
        our,
        against="polars: read and write alone",
        peer=peer,
    )
    print(
        f"times polars: {our.wall / peer.wall:.2f} wall, {our.cpu / peer.cpu:.2f} CPU (at most 3)"
    )
    print(f"peak memory: {our.peak / 2**30:.2f} GiB (at most 2)")


def against_loop(folder: Path) -> None:
    table = str(folder / "table.csv")
    make_table(table, 20_000, 10)
    seed_rule = "--pos answer,product --category-positive --negatives 1 --negatives-from query"
    for what, loop, options in (
        ("5 negatives by our rule", RULE_LOOP, "--pos answer --negatives 5"),
        ("1 negative by the seed's rule, 3 columns", SEED_LOOP, seed_rule),
    ):
        arguments = [table, "--query", "question", "--category", "topic", *options.split()]
        our_costs, command_costs, peer_costs = [], [], []
        by_loop = [sys.executable, "-c", NOW + loop, table, str(folder / "theirs.csv")]
        inside = [sys.executable, "-c", NOW + INSIDE, *arguments]
        for _ in range(RUNS):
            peer_costs.append(measure(by_loop, "both"))
            our_costs.append(measure([*inside, "-o", str(folder / "inside.parquet")], "both"))
            out = str(folder / "ours.parquet")
            command_costs.append(measure(["csv2pairs", *arguments, "-o", out]))
        our = median(our_costs)
        peer = median(peer_costs)
        command = median(command_costs)
        report(
            f"20,000 rows, {what}, imports not counted",
            our,
            against="row loop in pandas",
            peer=peer,
        )
        print(
            f"times faster: {peer.wall / our.wall:.0f} wall, {peer.cpu / our.cpu:.0f} CPU (wanted: 100)"
        )
        print(
            f"the whole command, from its start: {command.wall:.2f} s wall, {command.cpu:.2f} s CPU"
        )


def change(folder: Path) -> None:
    table = str(folder / "table.csv")
    make_table(table, 300_000, 500)
    out = str(folder / "out.{split}.parquet")
    main = "from csv2pairs.cli import main; main()"
    command = [sys.executable, "-c", main, table, *OPTIONS, *SPLIT, "-o", out]
    checkouts = {"before": os.environ["BEFORE"], "now": str(Path(__file__).resolve().parents[1])}
    costs: dict[str, list[Cost]] = {name: [] for name in checkouts}
    for _ in range(RUNS):
        for name, checkout in checkouts.items():
            costs[name].append(measure(command, checkout=checkout))
    for name, of_runs in costs.items():
        tell_memory(table, 300_000, median(of_runs), label=f"{name}: ")


def memory(folder: Path) -> None:
    for rows in (850_000, 3_400_000):
        table = str(folder / "table.csv")
        make_table(table, rows, 500)
        size = os.path.getsize(table)
        for label, options in (
            ("pairs alone", OPTIONS[:6]),
            ("5 hard negatives", OPTIONS),
            ("split", [*OPTIONS[:6], "--split", "a=0.9,b=0.1"]),
        ):
            out = "out.{split}.parquet" if label == "split" else "out.parquet"
            cost = measure(["csv2pairs", table, *options, "-o", str(folder / out)])
            print(
                f"{size / 1e9:5.2f} GB, {rows:>9,} rows, {label:<17} {cost.peak / 2**20:6.0f} MiB peak, {cost.wall:6.1f} s wall, {cost.cpu:6.1f} s CPU"
            )


SPLIT = ["--split", "train=0.9,test=0.1"]


def growing(folder: Path) -> None:
    for rows in (1_000_000, 5_000_000):
        table = str(folder / "table.csv")
        make_table(table, rows, 500)
        out = str(folder / "out.{split}.parquet")
        tell_memory(table, rows, measure(["csv2pairs", table, *OPTIONS, *SPLIT, "-o", out]))


def large(folder: Path) -> None:
    table = make_large_table(folder)
    out = str(folder / "out.{split}.parquet")
    command = ["csv2pairs", table, *OPTIONS, *SPLIT, "-o", out]
    tell_memory(table, 34_000_000, measure(command, folder=folder))


def large_pairs(folder: Path) -> None:
    table = make_large_table(folder)
    command = ["csv2pairs", table, *OPTIONS[:6], "-o", str(folder / "out.parquet")]
    tell_memory(table, 34_000_000, measure(command, folder=folder))


def make_large_table(folder: Path) -> str:
    """Ten copies of a table of 1 GB; every copy has ids, questions and answers of its own."""
    small, table = str(folder / "small.csv"), str(folder / "large.csv")
    make_table(small, 3_400_000, 500)
    with open(table, "wb") as out:
        for copy in range(10):
            with open(small, "rb") as file:
                header = file.readline()
                if not copy:
                    out.write(header)
                while lines := b"".join(file.readlines(1 << 24)):
                    out.write(lines.replace(b"row-", b"row-%d-" % copy))
    os.remove(small)
    return table


def tell_memory(table: str, rows: int, cost: Cost, *, label: str = "") -> None:
    print(
        f"{label}{os.path.getsize(table) / 1e9:.2f} GB, {rows:,} rows: {cost.peak / 2**20:.0f} MiB peak, "
        f"{cost.wall:.1f} s wall, {cost.cpu:.1f} s CPU"
    )


def report(what: str, our: Cost, *, against: str, peer: Cost) -> None:
    import polars
    import pyarrow

    print(
        f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, Python {platform.python_version()}, "
        f"pyarrow {pyarrow.__version__}, polars {polars.__version__}"
    )
    for label, cost in ((f"csv2pairs: {what}", our), (against, peer)):
        print(
            f"{label:<62} {cost.wall:8.2f} s wall {cost.cpu:8.2f} s CPU {cost.peak / 2**20:8.0f} MiB"
        )


CLAIMS = {
    "polars": against_polars,
    "loop": against_loop,
    "change": change,
    "memory": memory,
    "growing": growing,
    "large": large,
    "large-pairs": large_pairs,
}

if __name__ == "__main__":
    for name in sys.argv[1:] or ["polars", "loop"]:
        with tempfile.TemporaryDirectory() as folder:
            CLAIMS[name](Path(folder))
