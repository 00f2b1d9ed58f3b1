"""Test data in every layout: BEIR folders, pairs of sentences, and mteb's named tasks on local copies."""

from __future__ import annotations

import csv
import gzip
import json
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow  # as a whole: each test loads models or starts many commands

PAIRS = [
    ("The owl hunts.", "An owl is hunting.", 4.5),
    ('He said "bread", twice.', "Bread, he said.", 3.0),
    ("The tide comes in.", "Iron is hot.", 0.5),
    ("A violin is tuned.", "She tunes a violin.", 4.0),
    ("White moves first.", "A glacier moves.", 1.5),
]


@pytest.fixture
def beir(tmp_path, examples):
    """A BEIR folder: one graded document a query, a zero judgement, a query that another split judges."""

    def build(folder: str, compressed: bool = False) -> str:
        root = tmp_path / folder
        (root / "qrels").mkdir(parents=True)
        lines = [
            json.dumps(
                {"_id": f"d {row['id']}", "title": row["id"], "text": row["pos"][0], "metadata": {}}
            )
            for row in examples
        ]
        content = "\n".join(lines).encode()
        (root / ("corpus.jsonl.gz" if compressed else "corpus.jsonl")).write_bytes(
            gzip.compress(content) if compressed else content
        )
        (root / "queries.jsonl").write_text(
            "\n".join(
                json.dumps({"_id": f"q{row['id']}", "text": row["query"]}) for row in examples
            )
        )
        judged = [f"q{row['id']}\td {row['id']}\t2" for row in examples[:-2]] + [
            "qowl\td bread\t0",
            "qpaper\td owl\t0",
        ]
        (root / "qrels" / "test.tsv").write_text(
            "\n".join(["query-id\tcorpus-id\tscore", *judged]) + "\n"
        )
        (root / "qrels" / "dev.tsv").write_text("query-id\tcorpus-id\tscore\nqpaper\td paper\t1\n")
        return str(root)

    return build


def test_a_beir_folder_gives_the_judged_queries_of_its_split_against_the_whole_corpus(
    model, evaluate, beir
):
    ran = evaluate(
        model, "--beir", beir("mini"), "--beir", f"zipped={beir('two', compressed=True)}"
    )
    assert ran.rc == 0, ran.err
    assert "mini, 10 queries, 12 documents" in ran.text
    assert "zipped, 10 queries, 12 documents" in ran.text
    assert "1 queries without a relevant document are left out" in ran.err
    figures = [line for line in ran.text.splitlines() if line.startswith("  model ")]
    assert len(figures) == 2
    assert len(set(figures)) == 1
    assert (
        "mini (dev), 1 queries, 12 documents"
        in evaluate(model, "--beir", "mini", "--beir-split", "dev").text
    )


def test_title_and_text_of_a_beir_document_are_joined_by_one_blank(
    model, evaluate, measures, beir, examples, write
):
    joined = [{"query": row["query"], "pos": [f"{row['id']} {row['pos'][0]}"]} for row in examples]
    corpus = write(
        "corpus.jsonl",
        [{"id": str(number), "text": row["pos"][0]} for number, row in enumerate(joined)],
    )
    evaluate(
        f"m={model}",
        "--beir",
        beir("mini"),
        "--examples",
        write("t.jsonl", joined[:-2]),
        "--corpus",
        corpus,
        "-o",
        "out.jsonl",
    )
    rows_by_key = measures("out.jsonl")
    assert (
        rows_by_key["m", "mini", "mrr_at_10"]["value"]
        == rows_by_key["m", "t", "mrr_at_10"]["value"]
    )


@pytest.mark.parametrize(
    ("path", "content", "message"),
    [
        ("qrels/test.tsv", "query-id\tcorpus-id\tscore\nqowl d owl 1\n", "line 2"),
        (
            "qrels/test.tsv",
            "query-id\tcorpus-id\tscore\nnobody\td owl\t1\n",
            "judges query 'nobody'",
        ),
        ("qrels/test.tsv", "query-id\tcorpus-id\tscore\nqowl\td owl\t0\n", "no positive judgement"),
        ("corpus.parquet", "", "2 files corpus.*"),
        ("corpus.jsonl", '{"_id": "1"}\n', "corpus.jsonl"),
    ],
)
def test_a_broken_beir_folder_is_refused_with_the_place(
    path, content, message, model, evaluate, beir
):
    (Path(beir("mini")) / path).write_text(content)
    ran = evaluate(model, "--beir", "mini")
    assert ran.rc == 1
    assert message in ran.err
    assert "unexpected" not in ran.err


def test_a_missing_split_names_those_that_are_there(model, evaluate, beir):
    ran = evaluate(model, "--beir", beir("mini"), "--beir-split", "train")
    assert "pass --beir-split dev|test" in ran.err


def save_pairs(path: str, header: tuple[str, ...] = (), rows=PAIRS) -> str:
    names = header or ("sentence1", "sentence2", "score")
    if path.endswith(".jsonl"):
        Path(path).write_text("".join(json.dumps(dict(zip(names, row))) + "\n" for row in rows))
    elif path.endswith(".parquet"):
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(pa.table(dict(zip(names, map(list, zip(*rows))))), path)
    elif path.endswith(".tsv"):
        Path(path).write_text(
            "\n".join("\t".join(map(str, row)) for row in ([header] if header else []) + list(rows))
        )
    else:
        with (gzip.open if path.endswith(".gz") else open)(
            path, "wt", newline="", encoding="utf-8-sig"
        ) as file:
            csv.writer(file).writerows(([header] if header else []) + list(rows))
    return path


def test_scored_pairs_mean_the_same_in_every_file_format(model, evaluate, measures):
    turned = [(score, two, one) for one, two, score in PAIRS]
    files = [
        save_pairs("plain.csv"),
        save_pairs("named.csv", ("sentence1", "sentence2", "score")),
        save_pairs("turned.csv.gz", ("score", "text2", "text1"), turned),
        save_pairs("tab.tsv"),
        save_pairs("lines.jsonl", ("sentence1", "sentence2", "similarity_score")),
        save_pairs("table.parquet", ("Sentence1", "Sentence2", "label")),
    ]
    command = [word for path in files for word in ("--sts", path)]
    ran = evaluate(f"m={model}", *command, "-o", "out.jsonl")
    assert ran.rc == 0, ran.err
    rows = measures("out.jsonl")
    assert {task for _, task, _ in rows} == {"plain", "named", "turned", "tab", "lines", "table"}
    assert {row["count"] for row in rows.values()} == {5}
    assert len({row["value"] for row in rows.values()}) == 1


@pytest.mark.parametrize(
    ("flag", "path", "content", "message"),
    [
        (
            "--sts",
            "a.csv",
            "one,two,1\nthree,four,five\n",
            "row 2: the score 'five' is not a number",
        ),
        ("--sts", "a.csv", "one,two,1\nthree,four\n", "row 2: 2 fields instead of 3"),
        ("--sts", "a.csv", "one,two,nan\n", "the score is nan"),
        ("--sts", "a.csv", "one,two,1\nthree,four,1\n", "1 different scores"),
        ("--sts", "a.csv", "sentence1,other,score\n", "columns sentence1, other, score"),
        (
            "--sts",
            "a.jsonl",
            '{"sentence1": "a", "sentence2": null, "score": 1}\n',
            "row 1: a sentence is missing",
        ),
        ("--sts", "a.jsonl", "{\n", "line 1: no JSON"),
        ("--sts", "a.parquet", "PAR1", "no complete Parquet file"),
        ("--sts", "missing.csv", None, "does not exist"),
        ("--pairs", "a.csv", "one,two,1\nthree,four,2\n", "row 2: the label is 2"),
    ],
)
def test_a_broken_row_is_refused_with_its_place(flag, path, content, message, model, evaluate):
    if content is not None:
        Path(path).write_text(content)
    ran = evaluate(model, flag, path)
    assert ran.rc == 1
    assert message in ran.err
    assert "unexpected" not in ran.err


# --- tasks that mteb knows -----------------------------------------------------------------------


def test_a_named_task_on_local_files_is_mtebs_own_task(model, evaluate, measures):
    Path("data/BIOSSES").mkdir(parents=True)
    save_pairs("data/BIOSSES/test.csv")
    ran = evaluate(
        f"m={model}",
        "--tasks",
        "BIOSSES",
        "--data",
        "data",
        "--sts",
        f"own={save_pairs('own.csv')}",
        "-o",
        "out.jsonl",
    )
    assert ran.rc == 0, ran.err
    rows = measures("out.jsonl")
    assert (
        rows["m", "BIOSSES", "cosine_spearman"]["value"]
        == rows["m", "own", "cosine_spearman"]["value"]
    )
    (written,) = Path("out.results/results").glob("*/*/BIOSSES.json")
    assert (
        json.loads(written.read_text())["dataset_revision"]
        == "d3fb88f8f02e40887cd149695127462bbcf29b4a"
    )


def test_a_copy_of_a_tasks_repository_is_read_as_mteb_reads_it(model, evaluate, measures, beir):
    """Two kinds: a classification with several files, and retrieval in mteb's own configs."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder = Path("data/mteb/banking77")
    folder.mkdir(parents=True)
    rows = [(f"The owl hunts at {hour}.", "owl") for hour in range(12)] + [
        (f"Bread rises {hour} times.", "bread") for hour in range(12)
    ]
    for split in ("train", "test"):
        pq.write_table(
            pa.table(
                {"text": [row[0] for row in rows], "label": [int(row[1] == "owl") for row in rows]}
            ),
            folder / f"{split}.parquet",
        )
    folder = Path("data/SciFact")
    for name, table in {
        "corpus": {
            "_id": ["1", "2"],
            "title": ["", ""],
            "text": ["The owl hunts at night.", "Iron is smelted."],
        },
        "queries": {"_id": ["a", "b"], "text": ["When does the owl hunt?", "How is iron made?"]},
        "qrels": {"query-id": ["a", "b"], "corpus-id": ["1", "2"], "score": [1, 1]},
    }.items():
        (folder / name).mkdir(parents=True)
        pq.write_table(pa.table(table), folder / name / "test.parquet")
    configs = "".join(
        f"- config_name: {'default' if name == 'qrels' else name}\n  data_files:\n  - split: test\n    path: {name}/test.parquet\n"
        for name in ("corpus", "queries", "qrels")
    )
    (folder / "README.md").write_text(f"---\nconfigs:\n{configs}---\n")
    ran = evaluate(
        f"m={model}",
        "--tasks",
        "Banking77Classification,SciFact",
        "--data",
        "data",
        "-o",
        "out.jsonl",
    )
    assert ran.rc == 0, ran.err
    rows_by_key = measures("out.jsonl")
    assert rows_by_key["m", "Banking77Classification", "accuracy"]["value"] == 1.0
    assert (
        "low" not in rows_by_key["m", "Banking77Classification", "accuracy"]
    )  # no interval without observations
    assert rows_by_key["m", "SciFact", "recall_at_100"]["value"] == 1.0
    assert rows_by_key["m", "SciFact", "ndcg_at_10"]["count"] == 2


def test_each_subset_of_a_task_is_kept_on_its_own_and_mtebs_file_holds_them_all(
    model, evaluate, measures
):
    import mteb
    import pyarrow as pa
    import pyarrow.parquet as pq

    subsets = mteb.get_task("STS17").hf_subsets
    folder = Path("data/STS17")
    folder.mkdir(parents=True)
    rows = [
        (*pair, subset)
        for number, subset in enumerate(subsets)
        for pair in (PAIRS if number else PAIRS[:4])
    ]
    pq.write_table(
        pa.table(dict(zip(("sentence1", "sentence2", "score", "lang"), map(list, zip(*rows))))),
        folder / "test.parquet",
    )
    command = [f"m={model}", "--tasks", "STS17", "--data", "data", "-o", "out.jsonl"]
    assert evaluate(*command).rc == 0
    rows_by_key = measures("out.jsonl")
    assert {task for _, task, _ in rows_by_key} == {f"STS17[{subset}]" for subset in subsets}
    assert rows_by_key["m", f"STS17[{subsets[0]}]", "cosine_spearman"]["count"] == 4
    kept = sorted(Path("out.results/observed").iterdir())
    assert len(kept) == len(subsets)
    kept[0].unlink()  # as if killed before this subset
    first = Path("out.jsonl").read_bytes()
    again = evaluate(*command)
    assert "taken from" not in again.err
    assert Path("out.jsonl").read_bytes() == first
    assert "taken from" in evaluate(*command).err
    (written,) = Path("out.results/results").glob("*/*/STS17.json")
    assert len(json.loads(written.read_text())["scores"]["test"]) == len(subsets)


def test_a_named_retrieval_task_reads_a_beir_folder(model, evaluate, beir):
    beir("data/scifact")
    ran = evaluate(model, "--tasks", "SciFact", "--data", "data")
    assert ran.text.startswith("SciFact, 10 queries, 12 documents")


def test_missing_data_are_named_all_at_once_before_any_work(model, evaluate):
    ran = evaluate(model, "--tasks", "BIOSSES,SciFact", "--data", "data")
    assert ran.rc == 1
    assert "no data under data/ for BIOSSES (mteb/biosses-sts); SciFact (mteb/scifact)" in ran.err
    assert "mteb-eval --fetch --tasks BIOSSES,SciFact --data data" in ran.err
    assert "loading" not in ran.err


def test_a_benchmark_is_all_its_tasks_and_an_aggregate_is_its_parts(model, evaluate):
    ran = evaluate(model, "--benchmark", "BEIR", "--data", "data")
    assert "SciFact (mteb/scifact)" in ran.err
    assert "CQADupstackAndroidRetrieval" in ran.err
    assert "CQADupstackRetrieval (" not in ran.err


@pytest.mark.parametrize(
    ("flag", "name", "guess"), [("--tasks", "BIOSES", "BIOSSES"), ("--benchmark", "BEI", "BEIR")]
)
def test_an_unknown_name_is_refused_with_the_nearest(flag, name, guess, model, evaluate):
    ran = evaluate(model, flag, name)
    assert ran.rc == 2
    assert f"Did you mean: {guess}" in ran.err.replace("'", "")


def test_fetch_without_a_network_says_so_and_leaves_no_half_of_it(evaluate):
    ran = evaluate("--fetch", "--tasks", "BIOSSES", "--data", "data")
    assert ran.rc == 1
    assert "mteb/biosses-sts cannot be fetched" in ran.err
    assert not Path("data/BIOSSES").exists()


def test_fetch_leaves_data_that_are_there_alone(evaluate):
    Path("data/BIOSSES").mkdir(parents=True)
    ran = evaluate("--fetch", "--tasks", "BIOSSES", "--data", "data")
    assert ran.rc == 0
    assert "are in data/BIOSSES already" in ran.err


def test_a_task_that_mteb_notes_as_training_data_is_flagged(model, evaluate, beir, tmp_path):
    import shutil

    beir("data/MSMARCO")
    (tmp_path / "data/MSMARCO/qrels/test.tsv").rename(tmp_path / "data/MSMARCO/qrels/dev.tsv")
    tuned = shutil.copytree(model, tmp_path / "tuned")
    (tuned / "README.md").write_text(
        "---\nbase_model: sentence-transformers/all-MiniLM-L6-v2\n---\n# Tuned\n"
    )
    ran = evaluate("tuned", "--tasks", "MSMARCO", "--data", "data")
    assert ran.rc == 0, ran.err
    assert (
        "! by mteb's records sentence-transformers/all-MiniLM-L6-v2 was trained on data of MSMARCO"
        in ran.text
    )


BOMB = "a0: &a0 [x, x]\n" + "".join(
    f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 9)}]\n" for level in range(1, 12)
)


@pytest.mark.parametrize(
    ("metadata", "names"),
    [
        ("base_model: a/b", ["a/b"]),
        ("base_model: [a/b, {c: d}, 3, c/d]", ["a/b", "c/d"]),
        ("base_model: {a: b}", []),
        ("- base_model", []),
        (BOMB + "base_model: *a11", []),
        ("base_model: " + "[" * 5000, []),
        ("base_model: '\x00'", []),
    ],
)
def test_the_card_of_a_model_names_its_base_or_none(metadata, names, tmp_path):
    from mteb_eval.data.known_training_sets import base_models

    (tmp_path / "README.md").write_text(f"---\n{metadata}\n---\n# Tuned\n")
    assert base_models(str(tmp_path)) == names


def test_no_code_of_a_model_folder_runs(model, evaluate, examples, write, tmp_path):
    import shutil

    folder = shutil.copytree(model, tmp_path / "custom")
    modules = json.loads((folder / "modules.json").read_text())
    modules[0]["type"] = "evil.Evil"
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    ran = evaluate("custom", "--examples", write("t.jsonl", examples))
    assert ran.rc == 1
    assert not (tmp_path / "ran").exists()
