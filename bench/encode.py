"""fletching.encode against SentenceTransformer.encode at its defaults: same texts, model, threads and run.

  python bench/encode.py --model all-MiniLM-L6-v2 [--isa vnni|avx2] [--texts 300] [--rounds 3] [--threads 1,2]
      [--beir DIR [--queries 300] [--documents 1200]]

Texts: docstrings and functions of the running Python's standard library, cut at the model's own length. The ways take turns
in each round; told are the medians over rounds of wall and CPU seconds, the ratio of CPU seconds within a round, the share
of the GEMM peak (operations of the model over CPU seconds, beside products of its own shapes in float32), and how far the
vectors lie from those of sentence-transformers in float32. --isa: what a CPU without AMX can do, as far as it can be
emulated by what oneDNN, MKL and torch read. --beir: what number types change in results, by the commands: nDCG@10 of mteb-eval and
the negatives of hnmine on the judged documents of some queries, and others up to --documents.
"""

from __future__ import annotations

import argparse
import ast
import csv
import gzip
import json
import os
import platform
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    Encode = Callable[[list[str]], np.ndarray]

PEER = "sentence-transformers, defaults"
ISAS = {
    "native": {},
    "vnni": {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE_VNNI"},
    "avx2": {
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "MKL_ENABLE_INSTRUCTIONS": "AVX2",
        "ATEN_CPU_CAPABILITY": "avx2",
    },
}
GEMM_ROWS = 2048  # tokens of a batch
GEMM_SECONDS = 0.5
NEGATIVES = 10


@dataclass
class Way:
    """One way to encode. seconds: (wall, CPU) of each round."""

    name: str
    threads: int
    encode: Encode
    seconds: list[tuple[float, float]]
    vectors: np.ndarray | None = None

    def run(self, texts: list[str]) -> None:
        """Encode once, timed."""
        import torch

        torch.set_num_threads(self.threads)
        wall, cpu = time.perf_counter(), time.process_time()
        self.vectors = self.encode(texts)
        self.seconds.append((time.perf_counter() - wall, time.process_time() - cpu))

    @property
    def medians(self) -> tuple[float, float]:
        """Wall and CPU seconds."""
        wall, cpu = zip(*self.seconds)
        return statistics.median(wall), statistics.median(cpu)


def main() -> None:
    args = arguments()
    os.environ.update(ISAS[args.isa])  # before torch is imported
    threads = [int(number) for number in args.threads.split(",")]
    texts = standard_library(args.texts)
    ways = list(ways_to_encode(args.model, threads))
    describe(args, len(texts))
    peak, operations = gemm_peak(args.model), operations_of(args.model, texts)
    print(f"float32 products of the model's shapes: {peak:.0f} GFLOP a CPU second")
    print(f"the texts take {operations:.0f} GFLOP\n")
    for way in ways:
        way.encode(texts[:16])  # warms up
    for _ in range(args.rounds):
        for way in ways:
            way.run(texts)
    tell(ways, peak=peak, operations=operations)
    if args.beir:
        tell_results(args, threads[0])


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", required=True)
    parser.add_argument("--isa", choices=ISAS, default="native")
    parser.add_argument("--texts", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", default="1")
    parser.add_argument("--beir")
    parser.add_argument("--queries", type=int, default=300)
    parser.add_argument("--documents", type=int, default=1200)
    return parser.parse_args()


def standard_library(count: int) -> list[str]:
    """Docstrings and functions in equal parts, the same on every machine with this Python."""
    texts: list[str] = []
    for path in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py")):
        source = path.read_text("utf-8", errors="replace")
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.FunctionDef) and (docstring := ast.get_docstring(node)):
                texts += [docstring, ast.get_source_segment(source, node) or ""]
    step = max(len(texts) // count, 1) | 1  # odd, so that both kinds are taken
    return list(dict.fromkeys(texts[::step]))[:count]


def describe(args: argparse.Namespace, texts: int) -> None:
    import torch

    from fletching.encode.instruction_set import instruction_set

    load = ", ".join(f"{each:.1f}" for each in os.getloadavg())
    print(f"{texts} texts, {args.rounds} rounds, threads {args.threads}, --isa {args.isa}")
    print(f"{instruction_set()}, torch {torch.__version__}, Python {platform.python_version()}")
    print(f"load at the start {load}\n")


# --- encoding


def ways_to_encode(model: str, threads: list[int]) -> Iterator[Way]:
    import torch
    from sentence_transformers import SentenceTransformer

    peer = SentenceTransformer(model, device="cpu")
    encoders = {dtype: encoder_of(model, dtype) for dtype in dtypes()}
    for number in threads:
        torch.set_num_threads(number)
        yield Way(PEER, number, by_peer(peer), [])
        for dtype, encoder in encoders.items():
            yield Way(f"fletching, {dtype}", number, ours(encoder), [])


def dtypes() -> list[str]:
    from fletching.encode.instruction_set import multiplies_bf16

    return ["float32", "int8", *(["bfloat16"] if multiplies_bf16() else [])]


def by_peer(model: Any) -> Encode:
    return lambda texts: model.encode(texts, show_progress_bar=False)


def encoder_of(model: str, dtype: str) -> Any:
    from fletching.encode import Encoder
    from fletching.options import EncodingOptions
    from fletching.report import Report

    encoder = Encoder(EncodingOptions(model=model, dtype=dtype), Report("bench", quiet=True))
    encoder.reference = None  # what compares int8 with float32 is no part of encoding
    return encoder


def ours(encoder: Any) -> Encode:
    return lambda texts: encoder.encode(texts, "document")


def gemm_peak(model: str) -> float:
    """GFLOP a CPU second of torch's float32 products in the shapes of the model's layers."""
    import torch
    from sentence_transformers import SentenceTransformer

    torch.set_num_threads(1)
    shapes = [
        (layer.in_features, layer.out_features)
        for name, layer in SentenceTransformer(model, device="cpu")[0].named_modules()
        if isinstance(layer, torch.nn.Linear) and "pooler" not in name
    ]
    seconds = {}
    for fan_in, fan_out in set(shapes):
        left, right = torch.randn(GEMM_ROWS, fan_in), torch.randn(fan_in, fan_out)
        seconds[fan_in, fan_out] = least_seconds(partial(torch.mm, left, right))
    operations = sum(2 * GEMM_ROWS * fan_in * fan_out for fan_in, fan_out in shapes)
    return operations / sum(seconds[shape] for shape in shapes) / 1e9


def least_seconds(call: Callable[[], object]) -> float:
    """CPU seconds of the quickest of many calls."""
    least, end = float("inf"), time.process_time() + GEMM_SECONDS
    while time.process_time() < end:
        start = time.process_time()
        call()
        least = min(least, time.process_time() - start)
    return least


def operations_of(model: str, texts: list[str]) -> float:
    """GFLOP of the products of the model over these texts, without padding."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    def of_packed(rows: Any, weight: Any, *_: object, **__: object) -> int:
        return 2 * rows[0] * weight[0] * weight[1]

    encoder = encoder_of(model, "float32")
    packed = torch.ops.mkldnn._linear_pointwise
    with FlopCounterMode(display=False, custom_mapping={packed: of_packed}) as counter:
        encoder.encode(texts, "document")
    return counter.get_total_flops() / 1e9


def tell(ways: list[Way], *, peak: float, operations: float) -> None:
    import numpy as np

    print(
        "| way | threads | wall s | CPU s | times faster | of the float32 peak | cosine, mean and least |"
    )
    print("|---|---|---|---|---|---|---|")
    for way in ways:
        base = next(each for each in ways if each.name == PEER and each.threads == way.threads)
        wall, cpu = way.medians
        faster = statistics.median(
            theirs[1] / mine[1] for theirs, mine in zip(base.seconds, way.seconds)
        )
        assert way.vectors is not None and base.vectors is not None
        cosines = (way.vectors * base.vectors).sum(1)
        print(
            f"| {way.name} | {way.threads} | {wall:.2f} | {cpu:.2f} | {faster:.2f} | "
            f"{operations / cpu / peak:.0%} | {np.mean(cosines):.5f}, {np.min(cosines):.5f} |",
            flush=True,
        )


# --- results


def tell_results(args: argparse.Namespace, threads: int) -> None:
    """nDCG@10 and mined negatives in each number type, by the commands."""
    os.environ["OMP_NUM_THREADS"] = str(threads)
    figures, negatives = {}, {}
    with tempfile.TemporaryDirectory() as folder:
        queries, documents = cut(Path(args.beir), Path(folder), args)
        for dtype in dtypes():
            figures[dtype] = ndcg(args.model, folder, dtype)
            negatives[dtype] = mined(args.model, Path(folder), dtype)
    print(f"\n{Path(args.beir).name}: {queries} queries, {documents} documents\n")
    print("| | nDCG@10 | negatives of `hnmine --sample top` that are those of float32 |")
    print("|---|---|---|")
    for dtype, figure in figures.items():
        kept = shared(negatives["float32"], negatives[dtype])
        print(f"| {dtype} | {figure:.4f} | {kept:.4f} |")


def shared(rows: list[list[str]], others: list[list[str]]) -> float:
    """The mean share of a row that the same row of the others has."""
    return statistics.mean(
        len(set(row) & set(other)) / max(len(row), 1) for row, other in zip(rows, others)
    )


def cut(source: Path, target: Path, args: argparse.Namespace) -> tuple[int, int]:
    """Some queries of a BEIR folder, their documents and others; the numbers of both."""
    lines = (source / "qrels/test.tsv").read_text("utf-8").splitlines()
    judgements = [row for row in csv.reader(lines, delimiter="\t") if row[2].isdecimal()]
    chosen = list(dict.fromkeys(row[0] for row in judgements))[: args.queries]
    judgements = [row for row in judgements if row[0] in chosen]
    judged = {row[1] for row in judgements}
    corpus = read_lines(source / "corpus.jsonl")
    others = [row for row in corpus if row["_id"] not in judged]
    wanted = max(args.documents - len(judged), 0)
    taken = [row for row in corpus if row["_id"] in judged] + others[:wanted]
    rows = read_lines(source / "queries.jsonl")
    texts = {row["_id"]: row["text"] for row in rows if row["_id"] in chosen}
    write_lines(target / "corpus.jsonl", taken)
    write_lines(target / "queries.jsonl", [{"_id": name, "text": texts[name]} for name in chosen])
    (target / "qrels").mkdir()
    lines = ["query-id\tcorpus-id\tscore", *("\t".join(row) for row in judgements)]
    (target / "qrels/test.tsv").write_text("\n".join(lines) + "\n", "utf-8")
    bodies = {row["_id"]: f"{row.get('title', '')} {row['text']}".strip() for row in taken}
    pairs = [
        {
            "id": name,
            "query": texts[name],
            "pos": [bodies[row[1]] for row in judgements if row[0] == name],
        }
        for name in chosen
    ]
    write_lines(target / "pairs.jsonl", pairs)
    write_lines(
        target / "pool.jsonl", [{"id": name, "text": text} for name, text in bodies.items()]
    )
    return len(chosen), len(taken)


def read_lines(path: Path) -> list[dict[str, Any]]:
    """JSON lines, plain or as .gz."""
    packed = path.with_name(f"{path.name}.gz")
    content = path.read_bytes() if path.exists() else gzip.decompress(packed.read_bytes())
    return [json.loads(line) for line in content.decode().splitlines()]


def write_lines(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")


def ndcg(model: str, folder: str, dtype: str) -> float:
    out = Path(folder, f"{dtype}.jsonl")
    line = [model, "--beir", folder, "--dtype", dtype, "--cache", f"{folder}/cache"]
    run("mteb-eval", *line, "-o", str(out))
    rows = [json.loads(line) for line in out.read_text("utf-8").splitlines()]
    return next(row["value"] for row in rows if row["name"].endswith("ndcg_at_10"))


def mined(model: str, folder: Path, dtype: str) -> list[list[str]]:
    """The negatives of each row."""
    out = folder / f"mined-{dtype}.jsonl"
    run(
        "hnmine", str(folder / "pairs.jsonl"), "--corpus", str(folder / "pool.jsonl"), "--model", model,
        "--dtype", dtype, "--cache", str(folder / "cache"), "--sample", "top",
        "--negatives", str(NEGATIVES), "-o", str(out),
    )  # fmt: skip
    return [json.loads(line)["neg"] for line in out.read_text("utf-8").splitlines()]


def run(name: str, *words: str) -> None:
    command = [str(Path(sys.executable).with_name(name)), *words]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    notes = [line for line in done.stderr.splitlines() if "int8" in line]
    print(*notes, sep="\n", file=sys.stderr)


if __name__ == "__main__":
    main()
