"""Every kind of task through mteb's own classes, on local copies of made data, against sklearn, scipy and numpy on plain vectors."""

from __future__ import annotations

import json
import random
import shutil
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy.stats import pearsonr, spearmanr
from sklearn.cluster import MiniBatchKMeans
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, average_precision_score, f1_score, v_measure_score

pytestmark = pytest.mark.slow  # as a whole: each test loads models or starts many commands

CITIES = ("Oslo", "Lima", "Cairo", "Quito", "Hanoi", "Accra", "Riga", "Sofia", "Dakar", "Minsk")
THEMES = (
    "The owl hunts mice near {}.",
    "Bread rises in the ovens of {}.",
    "Iron is smelted outside {}.",
)


@pytest.fixture
def plain(model):
    """plain(texts): unit vectors by sentence-transformers alone, float64 [texts, d]."""
    from sentence_transformers import SentenceTransformer

    loaded = SentenceTransformer(model, device="cpu")
    return lambda texts: loaded.encode(list(texts), normalize_embeddings=True).astype(np.float64)


@pytest.fixture
def figures(model, evaluate, measures):
    """figures("BIOSSES"): {(task, name): value} of one run on the data under data/."""

    def run(*argv: str) -> dict[tuple[str, str], float]:
        ran = evaluate(f"m={model}", *argv, "--data", "data", "-o", "out.jsonl")
        assert ran.rc == 0, ran.err
        return {
            (task, name): row["value"] for (_, task, name), row in measures("out.jsonl").items()
        }

    return run


def save(path: str, **columns: Any) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)


def themed() -> tuple[list[str], list[int]]:
    """30 sentences of 3 themes, and their themes; words of the places make them differ."""
    pairs = [(theme.format(city), label) for city in CITIES for label, theme in enumerate(THEMES)]
    return [text for text, _ in pairs], [label for _, label in pairs]


def test_classification_is_logistic_regression_on_eight_of_each_label(figures, plain):
    """Ten experiments, each after another shuffle of the training rows by mteb's own seed."""
    texts, labels = themed()
    labels = [
        label if number % 7 else 2 - label for number, label in enumerate(labels)
    ]  # some are wrong, so that it is no sure thing
    train, test = slice(0, 27), slice(3, 30)
    for name, rows in (("train", train), ("test", test)):
        save(f"data/Banking77Classification/{name}.parquet", text=texts[rows], label=labels[rows])
    values = figures("--tasks", "Banking77Classification", "--metrics", "accuracy,f1")
    vectors, labels = plain(texts), np.array(labels)
    order, scores = list(range(27)), []
    for _ in range(10):
        np.random.RandomState(42).shuffle(order)
        taken: dict[int, list[int]] = defaultdict(list)
        for row in order:
            if len(taken[labels[row]]) < 8:
                taken[labels[row]].append(row)
        chosen = sorted((row for rows in taken.values() for row in rows), key=order.index)
        classifier = LogisticRegression(max_iter=100, random_state=42).fit(
            vectors[chosen], labels[chosen]
        )
        predicted = classifier.predict(vectors[test])
        scores.append(
            (
                accuracy_score(labels[test], predicted),
                f1_score(labels[test], predicted, average="macro"),
            )
        )
    expected = np.mean(scores, axis=0)
    assert 0.3 < expected[0] < 1
    assert values["Banking77Classification", "accuracy"] == pytest.approx(expected[0], abs=1e-4)
    assert values["Banking77Classification", "f1"] == pytest.approx(expected[1], abs=1e-4)


def v_measures(
    vectors: np.ndarray, labels: np.ndarray, chance: random.Random, share: float = 0.5
) -> float:
    """mteb's own way: a share of the texts, ten samples with replacement, k-means of each."""
    kept = chance.sample(range(len(labels)), k=int(share * len(labels)))
    vectors, labels = vectors[kept], labels[kept]
    scores = []
    kmeans = MiniBatchKMeans(
        n_clusters=len(set(labels)), batch_size=512, init="k-means++", n_init=1, random_state=42
    )
    for _ in range(10):
        rows = chance.choices(range(len(labels)), k=2048)
        scores.append(v_measure_score(labels[rows], kmeans.fit_predict(vectors[rows])))
    return float(np.mean(scores))


def test_clustering_is_the_v_measure_of_kmeans_and_the_same_for_each_model_and_run(
    model, evaluate, measures, plain, monkeypatch
):
    """mteb goes on drawing from one generator a task: without care, a second model is measured on other texts."""
    from mteb.abstasks import AbsTaskClustering

    monkeypatch.setattr(AbsTaskClustering, "max_fraction_of_documents_to_embed", 0.5)
    monkeypatch.setattr(AbsTaskClustering, "max_documents_per_cluster", 2048)
    texts, labels = themed()
    labels = [label if number % 3 else number % 4 for number, label in enumerate(labels)]
    save("data/TwentyNewsgroupsClustering.v2/test.parquet", sentences=[texts], labels=[labels])
    command = ("--tasks", "TwentyNewsgroupsClustering.v2", "--data", "data", "--cache", "vectors")
    raw = Path(
        shutil.copytree(model, "raw")
    )  # the same without its last module, which gives vectors unit length
    modules = json.loads((raw / "modules.json").read_text())
    assert modules.pop()["type"].endswith("Normalize")
    (raw / "modules.json").write_text(json.dumps(modules))
    ran = evaluate(f"a={model}", "b=raw", *command, "-o", "two.jsonl")
    assert ran.rc == 0, ran.err
    assert "b does not normalise its vectors" in ran.err
    assert "a does not" not in ran.err
    assert evaluate(f"b={model}", *command, "-o", "one.jsonl").rc == 0
    two, one = (
        {
            run: row["value"]
            for (run, _, name), row in measures(f"{n}.jsonl").items()
            if name == "v_measure"
        }
        for n in ("two", "one")
    )
    assert 0 < two["a"] < 0.99
    assert two["a"] == two["b"] == one["b"]
    assert one["b"] == pytest.approx(
        v_measures(plain(texts), np.array(labels), random.Random(42)), abs=1e-4
    )


def test_bitext_mining_is_the_weighted_f1_of_the_nearest_sentence(figures, plain):
    first = [THEMES[0].format(city) for city in CITIES]
    second = [theme.format(city).upper() for theme, city in zip(THEMES * 4, CITIES)]
    rows = [(one, two, "de-en") for one, two in zip(first, second)]
    rows += [(one, one, pair) for pair in ("fr-en", "ru-en", "zh-en") for one in first]
    save(
        "data/BUCC.v2/test.parquet",
        **dict(zip(("sentence1", "sentence2", "lang"), map(list, zip(*rows)))),
    )
    values = figures("--tasks", "BUCC.v2", "--metrics", "f1,accuracy")
    nearest = (plain(first) @ plain(second).T).argmax(1)
    right = np.arange(len(first))
    assert 0 < (nearest == right).mean() < 1
    assert values["BUCC.v2[de-en]", "f1"] == pytest.approx(
        f1_score(right, nearest, average="weighted", zero_division=0), abs=1e-4
    )
    assert values["BUCC.v2[de-en]", "accuracy"] == pytest.approx(
        (nearest == right).mean(), abs=1e-4
    )
    assert values["BUCC.v2[fr-en]", "f1"] == 1.0


def test_reranking_is_the_mean_average_precision_over_the_candidates_alone(figures, plain):
    queries = [THEMES[0].format(city) for city in CITIES[:4]]
    documents = [theme.format(city) for city in CITIES for theme in THEMES]
    candidates = {str(number): [str(3 * number + step) for step in range(9)] for number in range(4)}
    right = {
        number: {names[1], names[2], names[6]} for number, names in candidates.items()
    }  # what is nearest by its words is not among them
    judged = [
        (number, name, int(name in right[number]))
        for number, names in candidates.items()
        for name in names
    ]
    folder = "data/AskUbuntuDupQuestions"
    save(
        f"{folder}/corpus/test.parquet",
        _id=[str(number) for number in range(30)],
        title=[""] * 30,
        text=documents,
    )
    save(f"{folder}/queries/test.parquet", _id=[*candidates], text=queries)
    save(
        f"{folder}/qrels/test.parquet",
        **dict(zip(("query-id", "corpus-id", "score"), map(list, zip(*judged)))),
    )
    save(
        f"{folder}/top_ranked/test.parquet",
        **{"query-id": [*candidates], "corpus-ids": [*candidates.values()]},
    )
    lines = "".join(
        f"- config_name: {name}\n  data_files:\n  - split: test\n    path: {part}/test.parquet\n"
        for name, part in (
            ("corpus", "corpus"),
            ("queries", "queries"),
            ("default", "qrels"),
            ("top_ranked", "top_ranked"),
        )
    )
    Path(f"{folder}/README.md").write_text(f"---\nconfigs:\n{lines}---\n")
    values = figures("--tasks", "AskUbuntuDupQuestions", "--metrics", "map_at_1000,ndcg_at_10")
    vectors, expected = plain(documents), []
    for query, (number, names) in zip(plain(queries), candidates.items()):
        scores = vectors[[int(name) for name in names]] @ query
        expected.append(average_precision_score([name in right[number] for name in names], scores))
    assert values["AskUbuntuDupQuestions", "map_at_1000"] == pytest.approx(
        np.mean(expected), abs=1e-4
    )
    assert ("AskUbuntuDupQuestions", "ndcg_at_10") in values


def test_pair_classification_is_the_average_precision_of_the_best_distance(figures, plain):
    texts, labels = themed()
    first, second = texts[:20], texts[7:27]
    same = [int(one == two) for one, two in zip(labels[:20], labels[7:27])]
    save("data/TwitterSemEval2015/test.parquet", sent1=[first], sent2=[second], labels=[same])
    values = figures("--tasks", "TwitterSemEval2015", "--metrics", "max_ap,cosine_ap")
    one, two = plain(first), plain(second)
    nearness = {
        "cosine": (one * two).sum(1),
        "manhattan": -np.abs(one - two).sum(1),
        "euclid": -np.linalg.norm(one - two, axis=1),
    }
    by_kind = {name: average_precision_score(same, scores) for name, scores in nearness.items()}
    assert values["TwitterSemEval2015", "cosine_ap"] == pytest.approx(by_kind["cosine"], abs=1e-4)
    assert values["TwitterSemEval2015", "max_ap"] == pytest.approx(max(by_kind.values()), abs=1e-4)


def test_sts_is_spearman_and_pearson_of_the_cosine(figures, plain):
    texts, _ = themed()
    scores = [number * 7 % 11 / 2 for number in range(20)]
    save("data/STSBenchmark/test.parquet", sentence1=texts[:20], sentence2=texts[10:], score=scores)
    values = figures("--tasks", "STSBenchmark", "--metrics", "spearman,cosine_pearson")
    cosines = (plain(texts[:20]) * plain(texts[10:])).sum(1)
    assert values["STSBenchmark", "cosine_spearman"] == pytest.approx(
        spearmanr(scores, cosines).statistic, abs=1e-4
    )
    assert values["STSBenchmark", "cosine_pearson"] == pytest.approx(
        pearsonr(scores, cosines).statistic, abs=1e-4
    )


def test_mteb_reads_the_results_of_every_kind_back(model, evaluate):
    """What stands beside the measures is what mteb's own loader takes for results."""
    import mteb

    texts, labels = themed()
    for name in ("train", "test"):
        save(f"data/Banking77Classification/{name}.parquet", text=texts, label=labels)
    save(
        "data/STSBenchmark/test.parquet",
        sentence1=texts[:20],
        sentence2=texts[10:],
        score=[float(number % 5) for number in range(20)],
    )
    ran = evaluate(
        f"m={model}",
        "--tasks",
        "Banking77Classification,STSBenchmark",
        "--data",
        "data",
        "-o",
        "out.jsonl",
    )
    assert ran.rc == 0, ran.err
    (results,) = mteb.ResultCache("out.results").load_results().model_results
    ours = {
        (row["task"], row["name"]): row["value"]
        for row in map(json.loads, Path("out.jsonl").read_text().splitlines())
    }
    theirs = {result.task_name: result.get_score() for result in results.task_results}
    assert theirs["Banking77Classification"] == pytest.approx(
        ours["Banking77Classification", "accuracy"], abs=1e-5
    )
    assert theirs["STSBenchmark"] == pytest.approx(
        ours["STSBenchmark", "cosine_spearman"], abs=1e-5
    )
