"""hnmine against sentence_transformers.util.mine_hard_negatives and FlagEmbedding's loop: seconds and peak memory.

  python bench/hnmine.py --synthetic 200000 --queries 2000
  python bench/hnmine.py --pairs pairs.jsonl [--corpus corpus.jsonl] --model all-MiniLM-L6-v2 [--end-to-end] [--queries 10000]
  python bench/hnmine.py --beir FOLDER --model all-MiniLM-L6-v2 --end-to-end
  python bench/hnmine.py --synthetic 1000000 --queries 10000 --ways fletching --rounds 1
  python bench/hnmine.py shards [--texts 1000000] [--queries 2000] [--parts 7]

With --end-to-end each one loads the model and encodes with it. Else all get the same vectors by a look-up, so that mining
alone is measured (bench/encode.py measures encoding). All look for the same K of the same ranks. Each run is a process of
its own, which imports what it needs; the ways take turns. Seconds start after the imports: hnmine reads and writes files,
the others get Python lists in memory and write JSON lines. Peak memory is of the whole process.

FlagEmbedding's loop is written here from its description: distinct pool, IndexFlatIP, search in batches of 64 for the top
`high`, per line a slice of the ranking, positives and the query taken out by text, random.sample, filling at random.
End to end it encodes by SentenceTransformer.encode in float32, which is what FlagEmbedding's own encoder uses on a CPU too.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import hnmine_shards
import numpy as np

sys.path = [
    path for path in sys.path if Path(path or ".").resolve() != Path(__file__).resolve().parent
]  # this file is named like the tool

K, LOW, HIGH = 5, 10, 110  # negatives, and the window of ranks
DIMENSION = 384


def main() -> None:
    if sys.argv[1:2] == ["shards"]:
        hnmine_shards.main(sys.argv[2:])
        return
    args = parsed()
    if args.way:
        print(json.dumps(measured(args.way, args.folder, args.threads)))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        print_setting(args, make_inputs(folder, args))
        ways = args.ways.split(";") if args.ways else [*(END_TO_END if args.end_to_end else WAYS)]
        runs: dict[str, list[dict[str, float]]] = {way: [] for way in ways}
        for _ in range(args.rounds):
            for way in ways:
                runs[way].append(measured_by_child(way, folder, args.threads))
                print(way, runs[way][-1], file=sys.stderr)
        tell(runs)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--synthetic", type=int, help="texts of the pool, with random vectors in clusters")
    add(
        "--queries",
        type=int,
        default=2000,
        help="of --synthetic; of --pairs evenly spaced ones, whose pool stays whole",
    )
    add("--pairs", type=Path, help="examples (JSONL), one positive each, instead")
    add("--corpus", type=Path)
    add(
        "--beir",
        type=Path,
        help="a folder of BEIR's shape: its judged queries, the first relevant document of each",
    )
    add("--model")
    add("--end-to-end", action="store_true")
    add("--rounds", type=int, default=3)
    add("--threads", type=int, default=2)
    add("--device", default="cpu", help="of hnmine: where it encodes and compares")
    add("--ways", help=f"some of these, divided by ; {';'.join(WAYS)}")
    add("--way", help=argparse.SUPPRESS)
    add("--folder", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def make_inputs(folder: Path, args: argparse.Namespace) -> str:
    """What all ways read, in the folder: its size."""
    (folder / "model").write_text(args.model or stub_model(folder))
    (folder / "device").write_text(args.device)
    if args.end_to_end:
        (folder / "end-to-end").touch()
    if args.synthetic:
        return synthetic(folder, args.synthetic, args.queries)
    return of_the_user(folder, args)


def stub_model(folder: Path) -> str:
    """A folder that passes for a model where one is only looked for."""
    stub = folder / "stub"
    stub.mkdir()
    (stub / "modules.json").write_text("[]")
    return str(stub)


def print_setting(args: argparse.Namespace, size: str) -> None:
    import torch  # not in the child, which sets its number of threads first

    from fletching.encode.instruction_set import instruction_set

    print(f"{size}, K {K}, ranks {LOW}-{HIGH}, {args.rounds} rounds, {args.threads} threads")
    load = ", ".join(f"{each:.1f}" for each in os.getloadavg())
    print(f"{instruction_set()}, torch {torch.__version__}, load at the start {load}\n")


def measured_by_child(way: str, folder: Path, threads: int) -> dict[str, float]:
    """`measured`, in a process of its own."""
    line = [sys.executable, __file__, "--way", way, "--folder", str(folder)]
    line += ["--threads", str(threads)]
    done = subprocess.run(line, check=True, capture_output=True, text=True)
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


def tell(runs: dict[str, list[dict[str, float]]]) -> None:
    print(
        "| way | wall s | CPU s | hnmine is faster (wall) | (CPU) | peak MB | of which after imports |\n|---|---|---|---|---|---|---|"
    )
    ours = runs["fletching"]
    for way, rounds in runs.items():
        middle = {name: statistics.median(run[name] for run in rounds) for name in rounds[0]}
        faster = [
            statistics.median(run[name] / own[name] for run, own in zip(rounds, ours))
            for name in ("wall", "cpu")
        ]
        print(
            f"| {way} | {middle['wall']:.2f} | {middle['cpu']:.2f} | {faster[0]:.1f} | {faster[1]:.1f} | {middle['peak']:.0f} | {middle['grown']:.0f} |"
        )


# --- the data --------------------------------------------------------------------------------------


def synthetic(folder: Path, pool: int, queries: int) -> str:
    """A pool in clusters of about 33; each query lies near its positive."""
    draw = np.random.default_rng(0)
    centres = draw.normal(size=(pool // 33 + 1, DIMENSION)).astype(np.float32)
    documents = np.lib.format.open_memmap(
        folder / "documents.npy", "w+", np.float32, (pool, DIMENSION)
    )
    for start in range(0, pool, 65_536):
        some = centres[draw.integers(0, len(centres), min(65_536, pool - start))]
        documents[start : start + len(some)] = _unit(
            some + draw.normal(size=some.shape).astype(np.float32)
        )
    np.save(
        folder / "queries.npy",
        _unit(
            documents[:queries] + 0.05 * draw.normal(size=(queries, DIMENSION)).astype(np.float32)
        ),
    )
    rows = [
        {"id": f"q{i}", "query": f"query number {i}", "pos": [f"text number {i} of the pool"]}
        for i in range(queries)
    ]
    _save(
        folder,
        rows,
        [f"text number {i} of the pool" for i in range(pool)],
        documents,
        np.load(folder / "queries.npy"),
    )
    return f"synthetic: {queries:,} queries, {pool:,} texts x {DIMENSION}"


def of_the_user(folder: Path, args: argparse.Namespace) -> str:
    """The user's rows and texts; encoded here when mining alone is measured."""
    rows, texts = of_beir(args.beir) if args.beir else of_examples(args.pairs, args.corpus)
    if args.pairs and args.queries < len(rows):
        rows = [rows[i * len(rows) // args.queries] for i in range(args.queries)]
    documents, queries = ([], []) if args.end_to_end else encoded(rows, texts, args.model)
    if not args.end_to_end:
        np.save(folder / "documents.npy", documents)
        np.save(folder / "queries.npy", queries)
    _save(folder, rows, texts, documents, queries)
    return f"{(args.beir or args.pairs).name}: {len(rows):,} queries, {len(texts):,} texts"


def of_examples(pairs: Path, corpus: Path | None) -> tuple[list[dict[str, Any]], list[str]]:
    rows = [json.loads(line) for line in pairs.open(encoding="utf-8")]
    rows = [{name: row[name] for name in ("id", "query", "pos")} for row in rows]
    texts = [row["pos"][0] for row in rows] + (
        [json.loads(line)["text"] for line in corpus.open(encoding="utf-8")] if corpus else []
    )
    return rows, list(dict.fromkeys(texts))


def of_beir(folder: Path) -> tuple[list[dict[str, Any]], list[str]]:
    import gzip

    def lines(name: str) -> list[dict[str, Any]]:
        path = folder / name
        with (
            path.open(encoding="utf-8")
            if path.exists()
            else gzip.open(f"{path}.gz", "rt", encoding="utf-8") as file
        ):
            return [json.loads(line) for line in file]

    documents = {
        line["_id"]: f"{line.get('title', '')} {line['text']}".strip()
        for line in lines("corpus.jsonl")
    }
    queries = {line["_id"]: line["text"] for line in lines("queries.jsonl")}
    rows: dict[str, dict[str, Any]] = {}
    for path in sorted((folder / "qrels").glob("*.tsv")):
        for line in path.read_text("utf-8").splitlines()[1:]:
            query, document, score = line.split("\t")
            if float(score) > 0:
                rows.setdefault(
                    query, {"id": query, "query": queries[query], "pos": [documents[document]]}
                )
    return list(rows.values()), list(dict.fromkeys(documents.values()))


def encoded(
    rows: list[dict[str, Any]], texts: list[str], model: str
) -> tuple[np.ndarray, np.ndarray]:
    from dataclasses import dataclass

    from fletching.encode import Encoder
    from fletching.options import EncodingOptions
    from fletching.report import Report

    @dataclass(frozen=True, kw_only=True)
    class Options(EncodingOptions):
        output: str | None = None

    encoder = Encoder(Options(model=model), Report("bench", quiet=True))
    return encoder.encode(texts, "document"), encoder.encode(
        [row["query"] for row in rows], "query"
    )


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def _save(
    folder: Path, rows: list[dict[str, Any]], texts: list[str], documents: Any, queries: Any
) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq
    import xxhash

    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    (folder / "texts.json").write_text(json.dumps(texts), "utf-8")
    pq.write_table(
        pa.table({"id": [f"d{i}" for i in range(len(texts))], "text": texts}),
        folder / "corpus.parquet",
    )
    if not len(documents):
        return
    names = [
        xxhash.xxh3_128_hexdigest(text.encode())
        for text in (*texts, *(row["query"] for row in rows))
    ]
    kind = pa.list_(pa.float32(), documents.shape[1])
    schema = pa.schema([("text_hash", pa.string()), ("vector", kind)])
    with pq.ParquetWriter(
        folder / "vectors.parquet", schema, compression="none", use_dictionary=False
    ) as out:
        for part, first in ((documents, 0), (queries, len(documents))):
            for start in range(0, len(part), 16_384):
                some = np.ascontiguousarray(part[start : start + 16_384])
                values = pa.FixedSizeListArray.from_arrays(pa.array(some.ravel()), part.shape[1])
                out.write_table(
                    pa.table(
                        [names[first + start : first + start + len(some)], values], schema=schema
                    )
                )


# --- the ways --------------------------------------------------------------------------------------


def measured(way: str, folder: Path, threads: int) -> dict[str, float]:
    os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = str(
        threads
    )  # before torch and faiss are loaded
    os.environ["RAYON_NUM_THREADS"] = str(threads)  # the tokenizer's threads
    os.environ["POLARS_MAX_THREADS"] = str(threads)
    work = (END_TO_END if (folder / "end-to-end").exists() else WAYS)[way](folder)
    before, wall, cpu = peak(), time.perf_counter(), time.process_time()
    work()
    return {
        "wall": time.perf_counter() - wall,
        "cpu": time.process_time() - cpu,
        "peak": peak(),
        "grown": peak() - before,
    }


def peak() -> float:
    """The most memory that this process has had, in MB."""
    with open("/proc/self/status", encoding="utf-8") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmHWM")) / 1024


def by_fletching(folder: Path, vectors: str) -> Any:
    """hnmine as a command with `vectors` from a "file", from a "stub" that only looks up, or from the "model"."""
    import torch  # noqa: F401

    import hnmine.mine
    import hnmine.run
    import hnmine.search
    from hnmine import cli

    if vectors == "model":  # vectors computed before need none of it
        import sentence_transformers  # noqa: F401

    vector_options = (
        ["--vectors", f"{folder}/vectors.parquet"]
        if vectors == "file"
        else ["--model", (folder / "model").read_text()]
    )
    line = [
        "--corpus",
        f"{folder}/corpus.parquet",
        *vector_options,
        "--negatives",
        str(K),
        "--range",
        f"{LOW}-{HIGH}",
        "--max-ratio",
        "0.95",
        "--device",
        (folder / "device").read_text(),
        "--quiet",
    ]
    if vectors == "stub":
        hnmine.run.open_encoder = lambda *_: LookUpEncoder(folder)
    return lambda: (
        cli.main([f"{folder}/rows.jsonl", *line, "-o", f"{folder}/fletching.jsonl"])
        and sys.exit("hnmine failed")
    )


class LookUpEncoder:
    """What hnmine needs of an encoder; encoding is a look-up that costs little."""

    settings: dict[str, str] = {}

    def __init__(self, folder: Path) -> None:
        self.devices = ((folder / "device").read_text(),)
        self.documents, self.queries = (
            np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("documents", "queries")
        )
        self.dimension = self.documents.shape[1]
        self.rows = {
            text: i for i, text in enumerate(json.loads((folder / "texts.json").read_text("utf-8")))
        }
        self.asked = {
            json.loads(line)["query"]: i
            for i, line in enumerate((folder / "rows.jsonl").open(encoding="utf-8"))
        }

    def __enter__(self) -> LookUpEncoder:
        return self

    def __exit__(self, *failure: object) -> None:
        pass

    def encode(
        self, texts: list[str], role: str, prompts: Any = None, progress: Any = None
    ) -> np.ndarray:
        if role == "query":
            return self.queries[[self.asked[text] for text in texts]]
        return self.documents[[self.rows[text] for text in texts]]


class Stub:
    """What mine_hard_negatives asks of a model; encoding is a look-up that costs nothing."""

    device = "cpu"
    prompts: dict[str, str] = {}

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def encode_query(self, texts: list[str], **_: Any) -> np.ndarray:
        return np.load(self.folder / "queries.npy")

    def encode_document(self, texts: list[str], **_: Any) -> np.ndarray:
        rows = {
            text: i
            for i, text in enumerate(json.loads((self.folder / "texts.json").read_text("utf-8")))
        }
        return np.load(self.folder / "documents.npy")[[rows[text] for text in texts]]

    def get_embedding_dimension(self) -> int:
        return DIMENSION

    def similarity(self, left: Any, right: Any) -> Any:
        from sentence_transformers.util import cos_sim

        return cos_sim(left, right)

    def similarity_pairwise(self, left: Any, right: Any) -> Any:
        from sentence_transformers.util import pairwise_cos_sim

        return pairwise_cos_sim(left, right)


def by_sentence_transformers(folder: Path, use_faiss: bool, model: str | None = None) -> Any:
    from datasets import Dataset
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.util import mine_hard_negatives

    rows = [json.loads(line) for line in (folder / "rows.jsonl").open(encoding="utf-8")]
    data = Dataset.from_dict(
        {"query": [row["query"] for row in rows], "pos": [row["pos"][0] for row in rows]}
    )
    texts = json.loads((folder / "texts.json").read_text("utf-8"))
    options = dict(
        range_min=LOW - 1,
        range_max=HIGH,
        relative_margin=0.05,
        num_negatives=K,
        sampling_strategy="random",
        output_format="n-tuple",
        use_faiss=use_faiss,
        verbose=False,
    )
    encoder = (
        (lambda: SentenceTransformer(model, device="cpu")) if model else (lambda: Stub(folder))
    )
    return lambda: mine_hard_negatives(data, encoder(), corpus=texts, **options).to_json(
        f"{folder}/peer.jsonl"
    )


def by_flagembedding(folder: Path, model: str | None = None) -> Any:
    import faiss
    from sentence_transformers import SentenceTransformer

    rows = [json.loads(line) for line in (folder / "rows.jsonl").open(encoding="utf-8")]
    corpus = json.loads((folder / "texts.json").read_text("utf-8"))

    def work() -> None:
        if model:
            encoder = SentenceTransformer(model, device="cpu")
            documents = encoder.encode(corpus, show_progress_bar=False)
            queries = encoder.encode([row["query"] for row in rows], show_progress_bar=False)
        else:
            documents, queries = np.load(folder / "documents.npy"), np.load(folder / "queries.npy")
        index = faiss.IndexFlatIP(documents.shape[1])
        index.add(documents)
        ranked: list[list[int]] = []
        for start in range(0, len(queries), 64):
            ranked.extend(index.search(queries[start : start + 64], HIGH)[1].tolist())
        with open(folder / "peer.jsonl", "w", encoding="utf-8") as file:
            for row, numbers in zip(rows, ranked):
                inside = [corpus[number] for number in numbers[LOW:HIGH] if number != -1]
                inside = [
                    text for text in inside if text not in row["pos"] and text != row["query"]
                ]
                row["neg"] = random.sample(inside, K) if len(inside) > K else inside
                if len(row["neg"]) < K:
                    more = random.sample(corpus, K - len(row["neg"]) + len(row["pos"]))
                    row["neg"] += [text for text in more if text not in row["pos"]][
                        : K - len(row["neg"])
                    ]
                file.write(json.dumps(row, ensure_ascii=False) + "\n")

    return work


WAYS = {
    "fletching": lambda folder: by_fletching(folder, "stub"),
    "fletching, --vectors FILE": lambda folder: by_fletching(folder, "file"),
    "sentence-transformers": lambda folder: by_sentence_transformers(folder, False),
    "sentence-transformers, FAISS": lambda folder: by_sentence_transformers(folder, True),
    "FlagEmbedding's loop": by_flagembedding,
}

END_TO_END = {
    "fletching": lambda folder: by_fletching(folder, "model"),
    "sentence-transformers": lambda folder: by_sentence_transformers(
        folder, False, (folder / "model").read_text()
    ),
    "FlagEmbedding's loop": lambda folder: by_flagembedding(folder, (folder / "model").read_text()),
}

if __name__ == "__main__":
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    main()
