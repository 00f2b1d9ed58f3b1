"""Row formats of the field: read as documented, told, written back, and never misread in silence."""

from __future__ import annotations

import csv
import json
import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fletching import schema
from fletching.errors import InputError, UsageError
from fletching.io import Reader, Writer
from fletching.io.row_formats import ROW_FORMATS, detect_row_format
from fletching.report import Report
from fletching.text import content_id

Row = dict[str, Any]


def lines(path: Path, rows: list[Row]) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return str(path)


def reader(*inputs: Any, names: Any = ("examples", "texts"), **settings: Any) -> Reader:
    report = Report("reader", quiet=True)
    return Reader(report, [str(name) for name in inputs], list(names), **settings)


def read(*inputs: Any, **settings: Any) -> list[Row]:
    """The rows without their nulls and without ids that the reader computed."""
    rows = reader(*inputs, **settings).read_all().to_pylist()
    return [
        {
            name: rounded(value)
            for name, value in row.items()
            if value is not None and not (name == "id" and len(value) == 16)
        }
        for row in rows
    ]


def rounded(value: Any) -> Any:
    is_scores = isinstance(value, list) and value and isinstance(value[0], float)
    return [round(score, 4) for score in value] if is_scores else value


# Each format's own documented sample: (the row, what it is as a row of examples).
SAMPLES: dict[str, tuple[Row, Row]] = {
    "flag-embedding": (
        {
            "query": "q",
            "pos": ["p"],
            "neg": ["n", "m"],
            "pos_scores": [98.2],
            "neg_scores": [82.3, 1],
            "prompt": "Represent: ",
            "type": "normal",
        },
        {
            "query": "q",
            "pos": ["p"],
            "neg": ["n", "m"],
            "pos_scores": [98.2],
            "neg_scores": [82.3, 1.0],
            "prompt": "Represent: ",
            "type": "normal",
        },
    ),
    "rag-retrieval-pairs": (
        {"query": "q", "pos": ["p"], "prompt_for_query": "find: "},
        {"query": "q", "pos": ["p"], "prompt": "find: "},
    ),
    "rag-retrieval-scores": (
        {"query": "q", "pos": ["p", "far"], "scores": [0.8, 0.2]},
        {
            "query": "q",
            "pos": ["p", "far"],
            "pos_scores": [0.8, 0.2],
            "pos_score_kind": "label",
        },
    ),
    "con-retriever": (
        {"query": "q", "positive": ["p"], "negative": ["n"], "instruction": "do: "},
        {"query": "q", "pos": ["p"], "neg": ["n"], "prompt": "do: "},
    ),
    "llm2vec": (
        {"query": "q", "positive": "p", "negative": "n"},
        {"query": "q", "pos": ["p"], "neg": ["n"]},
    ),
    "pair": ({"anchor": "q", "positive": "p"}, {"query": "q", "pos": ["p"]}),
    "question-answer": ({"question": "q", "answer": "p"}, {"query": "q", "pos": ["p"]}),
    "triplet": (
        {"anchor": "q", "positive": "p", "negative": "n"},
        {"query": "q", "pos": ["p"], "neg": ["n"]},
    ),
    "n-tuple": (
        {"anchor": "q", "positive": "p", "negative_1": "a", "negative_2": "b", "negative_10": "c"},
        {"query": "q", "pos": ["p"], "neg": ["a", "b", "c"]},
    ),
    "n-tuple-scores": (
        {"anchor": "q", "positive": "p", "negative_1": "a", "scores": [0.9, 0.1]},
        {"query": "q", "pos": ["p"], "neg": ["a"], "pos_scores": [0.9], "neg_scores": [0.1]},
    ),
    "seed-003": (
        {"anchor": "q", "positive": "p", "hard_negative": "n"},
        {"query": "q", "pos": ["p"], "neg": ["n"]},
    ),
    "labelled-pair": (
        {"anchor": "q", "positive": "p", "label": 1},
        {"query": "q", "pos": ["p"], "pos_scores": [1.0], "pos_score_kind": "label"},
    ),
    "sts": (
        {"sentence1": "a", "sentence2": "b", "score": 3.5},
        {"query": "a", "pos": ["b"], "pos_scores": [3.5], "pos_score_kind": "label"},
    ),
    "labelled-list": (
        {"anchor": "q", "positive": ["p", "a", "b"], "labels": [1, 0, 0]},
        {"query": "q", "pos": ["p"], "neg": ["a", "b"]},
    ),
    "graded-list": (
        {"query": "q", "docs": ["p", "a"], "labels": [3, 1]},
        {"query": "q", "pos": ["p", "a"], "pos_scores": [3.0, 1.0], "pos_score_kind": "label"},
    ),
    "filtered-pair": (
        {"query": "q", "document": "p", "cos_sim": 0.75, "metadata": {"year": 1}},
        {
            "query": "q",
            "pos": ["p"],
            "pos_scores": [0.75],
            "pos_score_kind": "cosine",
            "metadata": {"year": 1},
        },
    ),
    "tevatron": (
        {
            "query_id": 7,
            "query": "q",
            "positive_passages": [{"docid": "1", "title": "Owl", "text": "hunts"}],
            "negative_passages": [{"docid": "2", "title": "", "text": "sings"}],
        },
        {
            "id": "7",
            "query": "q",
            "pos": ["Owl hunts"],
            "neg": ["sings"],
            "pos_ids": ["1"],
            "neg_ids": ["2"],
        },
    ),
}


@pytest.mark.parametrize("name", SAMPLES)
def test_a_documented_sample_is_read_as_what_it_says(name, tmp_path):
    row, expected = SAMPLES[name]
    path = lines(tmp_path / "rows.jsonl", [row, row])
    assert read(path) == [expected, expected]
    pq.write_table(pa.Table.from_pylist([row]), tmp_path / "rows.parquet")
    assert read(tmp_path / "rows.parquet") == [expected]


@pytest.mark.parametrize("name", SAMPLES)
def test_at_most_one_format_converts_a_sample(name):
    columns = pa.Table.from_pylist([SAMPLES[name][0]]).schema
    fitting = [each.name for each in ROW_FORMATS.values() if each.to_examples]
    assert sum(ROW_FORMATS[each].detect(columns) for each in fitting) <= 1


def test_a_conversion_is_noted_once_a_format(tmp_path):
    row = SAMPLES["n-tuple"][0]
    paths = [lines(tmp_path / f"{number}.jsonl", [row]) for number in range(3)]
    notes = reader(*paths).report.notes
    assert sum("holds rows of n-tuple (sentence-transformers)" in note for note in notes) == 1


def test_a_file_with_our_stamp_is_not_converted(tmp_path):
    """`csv2pairs --keep score` passes the column through; it rates nothing."""
    columns = pa.schema(
        [("query", pa.string()), ("pos", pa.list_(pa.string())), ("score", pa.int64())]
    )
    batch = pa.RecordBatch.from_pylist([{"query": "q", "pos": ["p"], "score": 3}], columns)
    path = tmp_path / "stamped.parquet"
    report = Report("maker", quiet=True)
    with Writer(
        report, str(path), "examples", columns, version="1", options={}, count=False
    ) as out:
        out.write(batch)
    assert read(path) == [{"query": "q", "pos": ["p"], "score": 3}]


# --- columns that look like known ones -----------------------------------------------------------


@pytest.mark.parametrize(
    ("column", "value", "is_refused"),
    [
        ("positive_2", "p2", True),
        ("teacher_score", 0.3, True),
        ("pos_rating", [3.0], True),
        ("score", 0.3, True),
        ("label", "a category", False),
        ("negative_text", "n", False),
        ("neg_rank", 3, False),
    ],
)
def test_a_lookalike_is_told_and_refused_where_it_may_decide_what_a_positive_is(
    column, value, is_refused, tmp_path
):
    row = {"query": "q", "pos": ["p"], "neg": ["n"], column: value}
    path = lines(tmp_path / "rows.jsonl", [row])
    notes = reader(path).report.notes
    assert f"column `{column}` is not read, though it looks like one that is" in notes
    if is_refused:
        with pytest.raises(InputError, match=f"column `{column}` may say"):
            reader(path, trains=True)
    else:
        reader(path, trains=True)


@pytest.mark.parametrize("column", ["pos_tag", "position", "negation", "underscore", "acme_rank"])
def test_other_columns_are_no_lookalikes(column, tmp_path):
    path = lines(tmp_path / "rows.jsonl", [{"query": "q", "pos": ["p"], column: "x"}])
    assert reader(path).lookalikes == []


# --- tables --------------------------------------------------------------------------------------


def test_csv_and_tsv_with_known_columns_are_read(tmp_path):
    (tmp_path / "triplets.tsv").write_text("anchor\tpositive\tnegative\nq\tp\tn\nr\ts\t\n")
    assert read(tmp_path / "triplets.tsv") == [
        {"query": "q", "pos": ["p"], "neg": ["n"]},
        {"query": "r", "pos": ["s"]},
    ]
    (tmp_path / "sts.csv").write_text("sentence1,sentence2,score\na,b,4.5\nc,d,0\n")
    assert [row["pos_scores"] for row in read(tmp_path / "sts.csv")] == [[4.5], [0.0]]
    (tmp_path / "sts.csv").rename(tmp_path / "STS.CSV")
    assert [row["pos_scores"] for row in read(tmp_path / "STS.CSV")] == [[4.5], [0.0]]


def test_triplets_without_a_header_are_read_where_the_name_says_so(tmp_path):
    text = 'what is "x\tan answer\tno answer\nr\ts\tt\n'
    (tmp_path / "triples.train.small.tsv").write_text(text)
    opened = reader(tmp_path / "triples.train.small.tsv")
    assert [note for note in opened.report.notes if "has no header" in note]
    assert opened.read_all()["query"].to_pylist() == ['what is "x', "r"]
    (tmp_path / "rows.tsv").write_text("r\ts\tt\nu\tv\tw\n")
    with pytest.raises(InputError, match="has no column `query`"):
        reader(tmp_path / "rows.tsv")


def test_a_rating_that_is_no_number_is_named(tmp_path):
    (tmp_path / "sts.csv").write_text("sentence1,sentence2,score\na,b,4.5\nc,d,high\n")
    with pytest.raises(InputError, match=r"row 2: `score` is no number \('high'\)"):
        read(tmp_path / "sts.csv")


def test_a_table_of_other_columns_is_sent_to_csv2pairs(tmp_path):
    (tmp_path / "faq.csv").write_text("title,body\na,b\n")
    with pytest.raises(InputError, match="no column `query`") as refused:
        reader(tmp_path / "faq.csv")
    assert "csv2pairs" in refused.value.fix


# --- folders -------------------------------------------------------------------------------------


@pytest.fixture
def beir(tmp_path) -> Path:
    folder = tmp_path / "beir"
    lines(
        folder / "corpus.jsonl",
        [
            {"_id": "d1", "title": "Owl", "text": "hunts"},
            {"_id": "d2", "title": "", "text": "sings"},
            {"_id": "d3", "title": "", "text": "unjudged"},
        ],
    )
    lines(
        folder / "queries.jsonl",
        [{"_id": "q1", "text": "when?"}, {"_id": "q2", "text": "who?"}],
    )
    (folder / "qrels").mkdir()
    header = "query-id\tcorpus-id\tscore\n"
    (folder / "qrels" / "train.tsv").write_text(f"{header}q1\td1\t2\nq1\td2\t0\nq2\td2\t0\n")
    (folder / "qrels" / "test.tsv").write_text(f"{header}q2\td2\t1\n")
    return folder


JUDGED = {
    "id": "q1",
    "query": "when?",
    "pos": ["Owl hunts"],
    "pos_ids": ["d1"],
    "neg": ["sings"],
    "neg_ids": ["d2"],
}


def test_a_beir_folder_is_examples_of_its_train_split(beir):
    opened = reader(beir)
    assert opened.read_all().to_pylist() == [JUDGED]
    notes = "\n".join(opened.report.notes)
    assert "positives of qrels/train.tsv" in notes
    assert "grades above 1 are read as 1" in notes
    assert "1 judged queries have no relevant document, left out" in notes


def test_a_file_of_judgements_names_another_split(beir):
    assert [row["id"] for row in read(beir / "qrels" / "test.tsv")] == ["q2"]


def test_a_beir_folder_is_a_corpus_where_texts_are_read(beir):
    assert [row["id"] for row in read(beir, names=["texts"])] == ["d1", "d2", "d3"]


def test_several_splits_without_train_are_refused(beir):
    (beir / "qrels" / "train.tsv").rename(beir / "qrels" / "dev.tsv")
    with pytest.raises(InputError, match="splits dev, test") as refused:
        reader(beir)
    assert "qrels/SPLIT.tsv" in refused.value.fix


def test_an_mteb_folder_is_examples(beir, tmp_path):
    folder = tmp_path / "mteb"
    for part in ("corpus", "queries"):
        rows = [json.loads(line) for line in (beir / f"{part}.jsonl").read_text().splitlines()]
        renamed = [{"id" if name == "_id" else name: row[name] for name in row} for row in rows]
        (folder / part).mkdir(parents=True)
        pq.write_table(pa.Table.from_pylist(renamed), folder / part / "test-00000.parquet")
    with open(beir / "qrels" / "train.tsv") as file:
        judgements = list(csv.DictReader(file, delimiter="\t"))
    rows = [row | {"score": int(row["score"])} for row in judgements]
    lines(folder / "qrels" / "test.jsonl", rows)
    assert reader(folder).read_all().to_pylist() == [JUDGED]


def test_saved_data_sets_are_read_and_written(tmp_path):
    datasets = pytest.importorskip("datasets")
    split = datasets.Dataset.from_list([SAMPLES["n-tuple"][0]] * 3)
    datasets.DatasetDict(train=split, test=split).save_to_disk(tmp_path / "saved", num_proc=None)
    opened = reader(tmp_path / "saved")
    assert "2 splits: reading train" in "\n".join(opened.report.notes)
    table = opened.read_all()
    assert table["neg"].to_pylist() == [["a", "b", "c"]] * 3
    account = ROW_FORMATS["hf-datasets"].from_examples(table.to_batches(), str(tmp_path / "out"))
    assert account.records == 3
    assert datasets.load_from_disk(tmp_path / "out").to_list() == table.to_pylist()


def test_what_a_folder_holds_beside_data_is_told(tmp_path):
    lines(tmp_path / "rows.jsonl", [{"query": "q", "pos": ["p"]}])
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "more").mkdir()
    notes = reader(tmp_path).report.notes
    assert f"in {tmp_path}, these are not read: more/, notes.txt" in notes


# --- there and back ------------------------------------------------------------------------------

TEXTS = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\t\r\n"), min_size=1, max_size=8
)
SCORES = st.integers(-64, 64).map(lambda number: number / 8)


@st.composite
def examples(draw: Callable[..., Any]) -> list[Row]:
    """Rows of examples with lists, scores, ids, prompts and nulls; ids are distinct."""
    rows = []
    for number in range(draw(st.integers(1, 4))):
        pos = draw(st.lists(TEXTS, min_size=1, max_size=2, unique=True))
        neg = draw(st.none() | st.lists(TEXTS, max_size=3, unique=True))
        row: Row = {"id": f"row-{number}", "query": draw(TEXTS), "pos": pos, "neg": neg}
        for side, texts in (("pos", pos), ("neg", neg)):
            is_scored = texts is not None and draw(st.booleans())
            row[f"{side}_scores"] = [draw(SCORES) for _ in texts] if is_scored else None
            kinds = st.sampled_from(["label", "reranker", None])
            row[f"{side}_score_kind"] = draw(kinds) if is_scored else None
            named = texts is not None and draw(st.booleans())
            row[f"{side}_ids"] = (
                [f"{side}-{number}-{n}" for n, _ in enumerate(texts)] if named else None
            )
        row["prompt"] = draw(st.none() | TEXTS)
        rows.append(row)
    return rows


def as_batches(rows: list[Row]) -> list[pa.RecordBatch]:
    columns = schema.load("examples").arrow(list(rows[0]))
    return [pa.RecordBatch.from_pylist(rows, columns)]


def comparable(rows: list[Row], *, with_ids: bool) -> list[Row]:
    """The rows without nulls; the ids and scores of no text are none."""
    return [{name: row[name] for name in row if _is_said(row, name, with_ids)} for row in rows]


def _is_said(row: Row, name: str, with_ids: bool) -> bool:
    if name == "id":
        return with_ids
    return bool(row[name]) if name.endswith(("_ids", "_scores")) else row[name] is not None


WRITTEN = [each.name for each in ROW_FORMATS.values() if each.from_examples and not each.is_folder]


@pytest.mark.parametrize("name", WRITTEN)
@settings(max_examples=40)
@given(examples())
def test_examples_come_back_from_every_format_or_the_loss_is_counted(name, rows):
    row_format = ROW_FORMATS[name]
    ending = "triples.tsv" if name == "triplet-tsv" else "rows.jsonl"
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder, ending))
        account = row_format.from_examples(as_batches(rows), path)
        assert account.rows == len(rows)
        lost = {
            what: count for what, count in account.not_carried.items() if what != "values of `id`"
        }
        if lost:
            assert min(lost.values()) > 0
            return
        has_ids = "values of `id`" not in account.not_carried
        back = reader(path).read_all().to_pylist()
    assert comparable(back, with_ids=has_ids) == comparable(rows, with_ids=has_ids)


@pytest.mark.parametrize("name", ["beir", "mteb", "hf-datasets"])
@settings(max_examples=15)
@given(examples())
def test_examples_come_back_from_folders_or_the_loss_is_counted(name, rows):
    for row in rows:  # a collection has an id for each document
        for side in ("pos", "neg"):
            texts = row[side]
            row[f"{side}_ids"] = texts and [f"{side}-{row['id']}-{n}" for n, _ in enumerate(texts)]
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder, "data"))
        account = ROW_FORMATS[name].from_examples(as_batches(rows), path)
        if account.not_carried:
            return
        back = reader(path).read_all().to_pylist()
    assert comparable(back, with_ids=True) == comparable(rows, with_ids=True)


def test_each_format_carries_a_row_of_its_own_kind(tmp_path):
    """The property above says nothing where all is lost: the plainest row comes back from each."""
    scored = {"pos_scores": [0.5], "pos_score_kind": "label"}
    for name in WRITTEN:
        row: Row = {"id": content_id("q", "p"), "query": "q", "pos": ["p"]}
        if name in ("triplet", "triplet-tsv", "llm2vec", "n-tuple", "labelled-list"):
            row["neg"] = ["n"]
        if name == "labelled-pair":
            row |= scored
        columns = schema.load("examples").arrow(list(row))
        path = tmp_path / name / ("triples.tsv" if name == "triplet-tsv" else "rows.jsonl")
        path.parent.mkdir()
        batch = pa.RecordBatch.from_pylist([row], columns)
        account = ROW_FORMATS[name].from_examples([batch], str(path))
        assert (name, dict(account.not_carried)) == (name, {})
        assert [{"id": row["id"], **back} for back in read(path)] == [row], name


def test_what_is_lost_has_a_name(tmp_path):
    row = {
        "id": "mine",
        "query": "q",
        "pos": ["p", "p2"],
        "neg": ["n", "m"],
        "prompt": "do: ",
        "domain": "birds",
    }
    path = str(tmp_path / "rows.jsonl")
    account = ROW_FORMATS["triplet"].from_examples(as_batches([row]), path)
    assert account.records == 4
    assert dict(account.not_carried) == {
        "values of `id`": 1,
        "values of `prompt`": 1,
        "values of `domain`": 1,
        "rows of several positives, which became a record for each": 1,
        "lists of negatives, which became a record for each": 2,
    }


def test_an_n_tuple_has_as_many_negatives_as_most_rows(tmp_path):
    rows = [{"query": "q", "pos": ["p"], "neg": list("abc"[:n])} for n in (2, 2, 3, 1)]
    path = str(tmp_path / "rows.parquet")
    account = ROW_FORMATS["n-tuple"].from_examples(as_batches(rows), path)
    assert pq.read_table(path).column_names == ["anchor", "positive", "negative_1", "negative_2"]
    assert account.not_carried == {
        "records with fewer than 2 negatives, left out": 1,
        "negatives after the first 2": 1,
    }


def test_a_folder_that_exists_is_not_overwritten(beir):
    with pytest.raises(UsageError, match="exists"):
        ROW_FORMATS["beir"].from_examples([], str(beir))
    assert (beir / "corpus.jsonl").exists()


def test_a_sample_without_conversion_needs_none():
    for name in ("flag-embedding", "con-retriever", "llm2vec", "pair", "triplet"):
        assert detect_row_format(pa.Table.from_pylist([SAMPLES[name][0]]).schema) is None


def test_scores_inside_a_record_are_written_as_short_as_they_were(tmp_path):
    rows = [{"query": "q", "pos": ["p"], "neg": ["n"], "pos_scores": [98.2], "neg_scores": [0.7]}]
    batches = reader(lines(tmp_path / "rows.jsonl", rows)).read_all().to_batches()
    ROW_FORMATS["tevatron"].from_examples(batches, str(tmp_path / "passages.jsonl"))
    assert re.findall(r'"score":([^}]*)}', (tmp_path / "passages.jsonl").read_text()) == [
        "98.2",
        "0.7",
    ]
