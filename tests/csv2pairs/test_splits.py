"""Splits through which nothing leaks, partitions by domain, several outputs at once."""

from __future__ import annotations

import json
import os
import random
import tempfile
from typing import Any

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st

from csv2pairs.cli import main
from csv2pairs.links import LinkKind, component_labels
from csv2pairs.outputs import file_name
from csv2pairs.stored_pairs import StoredFrames
from fletching.table import GrowingKeySet
from fletching.text import normalise

pytestmark = pytest.mark.slow  # as a whole: each test starts commands or many examples

HALVES = ["--split", "one=0.5,two=0.5"]
WORD = st.sampled_from([f"w{n}" for n in range(12)] + ["W1", " w2", "ｗ3"])
TABLE = st.lists(
    st.fixed_dictionaries(
        {
            "i": st.sampled_from([f"i{n}" for n in range(20)]),
            "q": WORD,
            "p": WORD,
            "r": WORD,
            "g": st.sampled_from(["", *"abcdefghijk"]),
        }
    ),
    min_size=1,
    max_size=25,
)


@pytest.mark.slow
@pytest.mark.slow
@settings(max_examples=80, deadline=None)
@given(TABLE, st.sampled_from(["each", "list", "fused"]), st.integers(0, 4))
def test_no_text_id_or_group_stands_in_two_splits_and_negatives_come_from_the_own_one(
    pairs, rows, mode, seed
):
    options = [
        "--query",
        "q",
        "--pos",
        "p,r",
        "--mode",
        mode,
        "--id",
        "i",
        "--split-by",
        "g",
        "--keep",
        "g",
        "--seed",
        seed,
        "--negatives",
        2,
    ]
    result = pairs(
        rows, *options, *HALVES, "--texts-out 'texts.{split}.jsonl'", out="{split}.jsonl"
    )
    sides: dict[str, list[Any]] = {
        name: result.files.get(f"{name}.jsonl", []) for name in ("one", "two")
    }
    texts = {
        name: {normalise(text) for row in side for text in (row["query"], *row["pos"])}
        for name, side in sides.items()
    }
    for what in (
        texts,
        {name: {row["id"] for row in side} for name, side in sides.items()},
        {name: {row["g"] for row in side} - {""} for name, side in sides.items()},
    ):
        assert not what["one"] & what["two"]
    for name, side in sides.items():
        assert {normalise(text) for row in side for text in row["neg"]} <= texts[name]
        assert {
            normalise(row["text"]) for row in result.files.get(f"texts.{name}.jsonl", [])
        } == texts[name]


def labels_of(rows: list[list[int]], blocks: int = 2) -> list[int]:
    """The labels of rows with these links, stored in blocks."""
    links = [(row, link) for row, of_row in enumerate(rows) for link in of_row if link]
    schema = {"row": pl.UInt32, "link": pl.UInt64}
    frame = pl.DataFrame(links, schema=schema, orient="row")
    frame = frame.with_columns(kind=pl.lit(LinkKind.TEXT, pl.UInt8))
    size = max(1, -(-len(frame) // blocks))
    with tempfile.TemporaryDirectory() as folder:
        stored = StoredFrames(os.path.join(folder, "links"))
        for block in frame.iter_slices(size):
            stored.append(block)
        return component_labels(stored, len(rows))[:-1].tolist()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.integers(0, 12), max_size=4), min_size=1, max_size=30))
def test_components_are_what_hangs_together_through_any_chain(links):
    links = [[20 + number, *row] for number, row in enumerate(links)]  # a query of its own
    groups: list[set[int]] = []
    for row in links:
        keys_of_row = {key for key in row if key}
        touching = [group for group in groups if group & keys_of_row]
        groups = [group for group in groups if not group & keys_of_row] + (
            [keys_of_row.union(*touching)]
        )
    for row, label in zip(links, labels_of(links)):
        assert label == min(next(group for group in groups if row[0] in group))


def test_a_chain_of_a_hundred_thousand_rows_is_one_component():
    chain = [[n, n + 1] for n in range(1, 100_001)]
    random.Random(0).shuffle(chain)
    assert set(labels_of(chain)) == {1}


def test_shares_are_met_rows_keep_their_order_and_more_rows_do_not_move_old_ones(pairs):
    rows = [{"q": f"q{n}", "a": f"a{n}"} for n in range(3000)]
    options = ["--query", "q", "--pos", "a", "--split", "train=0.8,dev=0.1,test=0.1"]
    result = pairs(rows, *options, out="{split}.jsonl")
    sizes = {name: len(side) for name, side in result.files.items()}
    assert abs(sizes["train.jsonl"] - 2400) < 110  # 5 sigma
    assert abs(sizes["dev.jsonl"] - 300) < 82
    for side in result.files.values():
        numbers = [int(row["query"][1:]) for row in side]
        assert numbers == sorted(numbers)
    fewer = pairs(rows[:500], *options, out="{split}.jsonl")
    assert {row["query"] for row in fewer.files["test.jsonl"]} <= {
        row["query"] for row in result.files["test.jsonl"]
    }
    assert pairs(rows[:500], *options, "--seed 1", out="{split}.jsonl").files != fewer.files


def test_rows_that_hang_together_and_miss_the_shares_are_told(pairs):
    result = pairs(
        [{"q": f"q{n}", "a": "the same"} for n in range(40)],
        "--query q --pos a",
        *HALVES,
        out="{split}.jsonl",
    )
    assert "40 of 40 rows are connected" in result.err


@pytest.mark.parametrize(
    "split",
    ["train", "train=x", "train=0.5", "train=0.5,train=0.5", "a/b=1", "=1", "train=2,test=-1"],
)
def test_splits_that_make_no_sense_are_usage_errors(pairs, split):
    assert (
        pairs([{"q": "a", "a": "b"}], "--query q --pos a --split", split, out="{split}.jsonl").rc
        == 2
    )


def test_a_file_for_each_domain_whatever_its_name_and_none_overwrites_another(pairs):
    domains = ["a/b", "a_b", "a%2Fb", "Books", "books ", "", "_", "../x", "日本"]
    rows = [{"q": f"q{n}", "a": f"a{n}", "d": domains[n % 9]} for n in range(45)]
    result = pairs(
        rows,
        "--query q --pos a --domain d --partition-by domain --negatives 20",
        out="out.{domain}.jsonl",
    )
    assert sorted(result.files) == sorted(
        f"out.{name}.jsonl"
        for name in ["a%2Fb", "a_b", "a%252Fb", "Books", "_", "%5F", "%2E.%2Fx", "日本"]
    )
    assert sum(map(len, result.files.values())) == 45
    for side in result.files.values():
        texts = {row["pos"][0] for row in side}
        assert len({normalise(row.get("domain", "")) for row in side}) == 1
        assert all(set(row["neg"]) == texts - set(row["pos"]) for row in side)


def test_partitions_by_category_and_splits_combine(pairs):
    rows = [{"q": f"q{n}", "a": f"a{n}", "c": "xy"[n % 2]} for n in range(60)]
    result = pairs(
        rows,
        "--query q --pos a --category c --partition-by category",
        *HALVES,
        "--negatives 1 --shortfall drop",
        out="{category}.{split}.jsonl",
    )
    assert sorted(result.files) == ["x.one.jsonl", "x.two.jsonl", "y.one.jsonl", "y.two.jsonl"]
    assert sum(map(len, result.files.values())) == 60
    for wrong in (["--partition-by", "domain"], ["--partition-by", "category"], []):
        out = "x.jsonl" if wrong else "{category}.jsonl"
        assert pairs(rows, "--query q --pos a --category c", *wrong, out=out).rc == 2


@given(st.lists(st.text(min_size=1, max_size=5), min_size=2, max_size=2, unique=True))
def test_two_values_never_share_a_file_name(values):
    one, other = map(file_name, values)
    assert one != other
    assert not {"/", "\0"} & set(one)
    assert one not in (".", "..", "_")


def test_a_value_too_long_for_a_file_name_is_refused(pairs):
    result = pairs(
        [{"q": "a", "a": "b", "d": "x" * 300}],
        "--query q --pos a --domain d --partition-by domain",
        out="{domain}.jsonl",
    )
    assert result.rc == 1
    assert result.files == {}


@given(st.lists(st.lists(st.integers(0, 30), max_size=12), max_size=12))
def test_a_key_is_seen_for_the_first_time_once(batches):
    seen, known = GrowingKeySet(), set()
    for batch in batches:
        expected = []
        for key in batch:
            expected.append(key not in known)
            known.add(key)
        assert seen.add_new(np.array(batch, np.uint64)).tolist() == expected


def test_either_all_outputs_appear_or_none(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "t.csv").write_text("q,a,d\n1,x,one\n2,y,two\n")
    (tmp_path / "out.one.parquet").write_text("old")
    calls = []

    def sync(descriptor: int, real: Any = os.fsync) -> None:
        calls.append(descriptor)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", sync)
    assert (
        main(
            "t.csv --query q --pos a --domain d --partition-by domain -o out.{domain}.parquet".split()
        )
        == 1
    )
    assert "no space left" in capsys.readouterr().err
    assert sorted(os.listdir()) == ["out.one.parquet", "t.csv"]
    assert (tmp_path / "out.one.parquet").read_text() == "old"


def test_the_output_names_its_inputs_by_digest_and_lineage(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "t.csv").write_text("q,a\n1,x\n2,y\n")
    assert (
        main("t.csv --mode texts --template {q}{a} --keep q -o texts.parquet --quiet".split()) == 0
    )
    assert main("texts.parquet --query q --pos text -o pairs.parquet --quiet".split()) == 0
    first, second = (pq.ParquetFile(f"{name}.parquet") for name in ("texts", "pairs"))
    end = json.loads(first.metadata.metadata[b"fletching.end"])
    assert end["from"] == [
        {"digest": "xxh3-128-bytes:" + xxhash.xxh3_128_hexdigest((tmp_path / "t.csv").read_bytes())}
    ]
    assert json.loads(second.metadata.metadata[b"fletching.end"])["from"] == [end]
    step = json.loads(second.schema_arrow.metadata[b"fletching"])["step"]
    assert [source["options"]["template"] for source in step["from"]] == ["{q}{a}"]
