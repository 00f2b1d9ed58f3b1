"""mteb-eval: are its figures those of ranx, of the formulas by hand with ties, and those that are published?

  python bench/mteb_eval.py MODEL --beir DIR [--beir DIR] [--sts FILE] [--static] [--expect ndcg_at_10=64.5]

For each BEIR folder, mteb-eval evaluates the model with whole and with binary vectors (whose scores tie often). The peer
path shares nothing with it: plain sentence-transformers vectors, one matrix product, documents in order of score and then
falling id, scored by ranx (bench extra) and by the formulas in float64. mteb scores with pytrec_eval itself, so that is no check.
For pairs: scipy's Spearman of the cosines. --expect is a published figure in points; all lie within 0.2 points, or the exit is 1.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import math
import os
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

METRICS = {
    "ndcg_at_10": "ndcg@10",
    "mrr_at_10": "mrr@10",
    "map_at_100": "map@100",
    "recall_at_100": "recall@100",
}
NEAR = 5e-4  # two encoders differ in the last bits, which turns a few near ties
PUBLISHED = 0.2  # points

Ranking = list[str]


def lines(folder: Path, stem: str) -> dict[str, str]:
    """Texts by id, with the title before the text."""
    (path,) = folder.glob(f"{stem}.jsonl*")
    with (gzip.open if path.suffix == ".gz" else open)(path, "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    return {
        str(row["_id"]): f"{row['title']} {row['text']}" if row.get("title") else row["text"]
        for row in rows
    }


def judgements(folder: Path) -> dict[str, dict[str, int]]:
    """Grades of the queries with a relevant document; read here, so that nothing of Fletching is shared."""
    grades: dict[str, dict[str, int]] = defaultdict(dict)
    with open(folder / "qrels" / "test.tsv", encoding="utf-8", newline="") as file:
        rows = csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        next(rows)
        for query, document, grade in rows:
            grades[query][document] = int(grade)
    return {query: judged for query, judged in grades.items() if max(judged.values()) > 0}


def rankings(
    queries: np.ndarray, documents: np.ndarray, names: list[str]
) -> tuple[list[Ranking], float]:
    """The first 1,000 of each query, ties by falling id; and the share of queries with a tie among their first 11."""
    by_id = np.argsort(np.array(names))[::-1]  # falling
    orders, tied = [], 0
    for scores in queries @ documents[by_id].T:
        order = np.argsort(-scores, kind="stable")[:1000]
        tied += bool((np.diff(scores[order[:11]]) == 0).any())
        orders.append([names[by_id[row]] for row in order])
    return orders, tied / len(orders)


def by_hand(grades: dict[str, int], ranking: Ranking) -> list[float]:
    """nDCG@10 with linear gains, RR@10, AP@100, recall@100, as their papers have them."""
    gains = [max(grades.get(name, 0), 0) for name in ranking]
    relevant = sorted((grade for grade in grades.values() if grade > 0), reverse=True)

    def dcg(values: list[int]) -> float:
        return sum(value / math.log2(rank + 1) for rank, value in enumerate(values[:10], 1))

    hits = [rank for rank, gain in enumerate(gains[:100], 1) if gain]
    precision = sum(number / rank for number, rank in enumerate(hits, 1)) / len(relevant)
    return [
        dcg(gains) / dcg(relevant),
        1 / hits[0] if hits and hits[0] <= 10 else 0.0,
        precision,
        len(hits) / len(relevant),
    ]


def mteb_eval(*words: Any) -> dict[tuple[str, str, str], float]:
    """Its measures by (run, task, name)."""
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HF_HUB_OFFLINE": "1",
    }
    with tempfile.TemporaryDirectory() as name:
        out = Path(name) / "out.jsonl"
        subprocess.run(
            [str(word) for word in ("mteb-eval", *words, "-o", out, "--quiet")],
            check=True,
            env=environment,
            stdout=subprocess.DEVNULL,
        )
        rows = [json.loads(line) for line in out.read_text("utf-8").splitlines()]
    return {(row["run"], row["task"], row["name"]): row["value"] for row in rows}


def compare_retrieval(model: Any, path: str, folder: Path) -> tuple[bool, dict[str, float]]:
    """(do all figures agree, those of mteb-eval): one BEIR folder, whole and binary vectors."""
    metrics = ",".join(METRICS)
    ours = mteb_eval(
        f"m={path}", "--beir", f"t={folder}", "--quantise", "binary", "--metrics", metrics
    )
    grades, documents = judgements(folder), lines(folder, "corpus")
    queries = {name: text for name, text in lines(folder, "queries").items() if name in grades}
    vectors = [
        model.encode(list(texts.values()), batch_size=64, normalize_embeddings=True)
        for texts in (queries, documents)
    ]
    binary = [np.where(part > 0, 1.0, -1.0) for part in vectors]
    good = True
    for run, (query_vectors, document_vectors) in {"m": vectors, "m@binary": binary}.items():
        orders, tied = rankings(query_vectors, document_vectors, list(documents))
        kind = "whole" if run == "m" else "binary"
        print(
            f"\n{folder.name}, {kind} vectors: {len(queries):,} queries, {len(documents):,} documents, "
            f"a tie among the first 11 of {tied:.0%}"
        )
        print(f"  {'':<14}{'mteb-eval':>10}{'ranx':>10}{'by hand':>10}{'largest difference':>21}")
        by_ranx = scores_of_ranx(grades, dict(zip(queries, orders)))
        rows = [by_hand(grades[query], order) for query, order in zip(queries, orders)]
        for name, ranx, hand in zip(METRICS, by_ranx, np.mean(rows, axis=0)):
            value = ours[run, "t", name]
            difference = max(abs(value - ranx), abs(value - hand))
            good &= difference <= NEAR
            verdict = "" if difference <= NEAR else "  NO"
            print(
                f"  {name:<14}{value:>10.5f}{ranx:>10.5f}{hand:>10.5f}{difference:>21.5f}{verdict}"
            )
    return good, {name: ours["m", "t", name] for name in METRICS}


def scores_of_ranx(grades: dict[str, dict[str, int]], orders: dict[str, Ranking]) -> list[float]:
    """The figures of METRICS by ranx, for documents in the order of each query."""
    from ranx import Qrels, Run, evaluate

    scores = {
        query: {name: 1.0 / rank for rank, name in enumerate(order, 1)}
        for query, order in orders.items()
    }
    positive = {
        query: {name: grade for name, grade in grades[query].items() if grade > 0}
        for query in orders
    }
    figures = evaluate(Qrels(positive), Run(scores), list(METRICS.values()))
    return [float(figures[name]) for name in METRICS.values()]


def compare_pairs(model: Any, path: str, file: Path) -> tuple[bool, dict[str, float]]:
    from scipy.stats import spearmanr

    ours = mteb_eval(f"m={path}", "--sts", f"t={file}")["m", "t", "cosine_spearman"]
    with open(file, encoding="utf-8", newline="") as opened:
        first, second, scores = zip(*csv.reader(opened))
    one, two = (
        model.encode(list(texts), batch_size=64, normalize_embeddings=True)
        for texts in (first, second)
    )
    theirs = float(spearmanr([float(score) for score in scores], (one * two).sum(1)).statistic)
    print(
        f"\n{file.name}, {len(scores):,} pairs: Spearman {ours:.5f} by mteb-eval, {theirs:.5f} by scipy on plain vectors"
    )
    return abs(ours - theirs) <= NEAR, {"cosine_spearman": ours}


def static(model: Any, folder: str) -> str:
    """A model that averages its token embeddings: quick, and good enough for rankings to mean something."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding

    weights = model[0].model.get_input_embeddings().weight.detach().numpy()
    SentenceTransformer(
        modules=[StaticEmbedding(model.tokenizer.backend_tokenizer, embedding_weights=weights)],
        device="cpu",
    ).save(folder)
    return folder


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model")
    parser.add_argument("--beir", action="append", default=[], type=Path)
    parser.add_argument("--sts", action="append", default=[], type=Path)
    parser.add_argument(
        "--static",
        action="store_true",
        help="its token embeddings alone, as a static model: seconds instead of minutes",
    )
    parser.add_argument(
        "--expect",
        action="append",
        default=[],
        help="METRIC=POINTS, of the first data set that has it",
    )
    options = parser.parse_args()

    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(options.model, device="cpu")
    with tempfile.TemporaryDirectory() as folder:
        path = static(model, folder) if options.static else options.model
        model = SentenceTransformer(path, device="cpu")
        done = [compare_retrieval(model, path, data) for data in options.beir]
        done += [compare_pairs(model, path, data) for data in options.sts]
    good = all(fine for fine, _ in done)
    for item in options.expect:
        name, points = item.split("=")
        value = 100 * next(figures[name] for _, figures in done if name in figures)
        near = abs(value - float(points)) <= PUBLISHED
        good &= near
        print(
            f"\n{name}: {value:.2f}, published {points}: {'within' if near else 'NOT within'} {PUBLISHED} points"
        )
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
