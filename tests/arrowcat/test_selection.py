"""--where, --head and --sample: the right rows, whatever the batches, and errors that help."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from arrowcat.rows.row_selection import NumberedRows, RowSample

ROWS = [
    {
        "id": f"r{number}",
        "query": "q" * (number % 40),
        "pos": ["p"] * (1 + number % 3),
        "neg": [["n"] * (number % 4), None][number % 7 == 0],
        "task": ["it's", "b", None][number % 3],
        "price": number / 10,
        "two words": "w" * (number % 5),
    }
    for number in range(300)
]


@pytest.fixture
def path(write: Any, tmp_path: Path) -> str:
    return write(tmp_path / "in.parquet", ROWS)


def kept(look: Any, path: str, out: Path, *words: Any) -> list[int]:
    """The numbers of the rows that these options leave."""
    done = look(path, *words, "-o", out)
    assert done.rc == 0, done.err
    return [int(row["id"][1:]) for row in pq.read_table(out).to_pylist()]


def numbers_of(condition: Any) -> list[int]:
    return [number for number, row in enumerate(ROWS) if condition(row)]


@pytest.mark.parametrize(
    ("text", "condition"),
    [
        ("len(query) > 20", lambda row: len(row["query"]) > 20),
        ('LEN( "query" ) > 20', lambda row: len(row["query"]) > 20),
        ('len("two words") = 4', lambda row: len(row["two words"]) == 4),
        ("len(neg) >= 2", lambda row: row["neg"] is not None and len(row["neg"]) >= 2),
        ("array_length(pos) = 3", lambda row: len(row["pos"]) == 3),
        ("neg is null", lambda row: row["neg"] is None),
        ("task = 'it''s'", lambda row: row["task"] == "it's"),
        ("task = 'len(query)' or price < 1", lambda row: row["price"] < 1),
        ("price between 3 and 4 and task is not null",
         lambda row: 3 <= row["price"] <= 4 and row["task"] is not None),
        ("query like 'qq%' and not len(pos) = 1",
         lambda row: row["query"].startswith("qq") and len(row["pos"]) != 1),
        ("array_contains(pos, 'p')", lambda row: True),
    ],
)  # fmt: skip
def test_where_keeps_the_rows_for_which_it_holds(
    text: str, condition: Any, look: Any, path: str, tmp_path: Path
) -> None:
    assert kept(look, path, tmp_path / "out.parquet", "--where", text) == numbers_of(condition)


def test_rows_that_do_not_match_are_counted(look: Any, path: str) -> None:
    done = look(path, "--where", "price >= 29", "--stats")
    assert "arrowcat: 300 in, 10 out (290 not matching --where)" in done.err


def test_the_rows_shown_keep_their_numbers(look: Any, path: str) -> None:
    shown = look(path, "--where", "price > 14.95", "--head", 2).text
    assert "\n 151  " in shown
    assert "\n 152  " in shown


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("lenght(query) > 3", "unsupported function 'lenght'"),
        ("nothing > price", 'unable to find column "nothing"'),
        ("query >", "sql parser error"),
        ("len(query)", "neither true nor false"),
        ("price > avg(price)", "looks at more than one row"),
        ("avg(price) > 3", "looks at more than one row"),
        ("price > sum(price) over ()", "looks at more than one row"),
        ("price > (select 1)", "looks at more than one row"),
        ("true", "names no column"),
        ("query > 3", "--where query > 3"),
    ],
)
def test_a_bad_expression_is_refused_with_the_columns(
    text: str, told: str, look: Any, path: str
) -> None:
    done = look(path, "--where", text)
    assert done.rc == 2, done.err
    assert told in done.err
    assert "`query` (string)" in done.err
    assert "`neg` (list<string>)" in done.err


def test_a_sample_depends_on_the_seed_and_not_on_batches(
    look: Any, path: str, tmp_path: Path
) -> None:
    out = tmp_path / "out.parquet"
    first = kept(look, path, out, "--sample", 20)
    assert len(set(first)) == 20
    assert first == sorted(first)
    assert first == kept(look, path, out, "--sample", 20, "--seed", 0)
    assert first != kept(look, path, out, "--sample", 20, "--seed", 1)
    table = pq.read_table(path)
    with pa.ipc.new_stream(str(tmp_path / "small.arrows"), table.schema) as stream:
        stream.write_table(table, max_chunksize=7)
    assert first == kept(look, str(tmp_path / "small.arrows"), out, "--sample", 20)
    assert kept(look, path, out, "--sample", 999) == list(range(300))


def test_a_sample_is_fair() -> None:
    counts = np.zeros(301, int)
    batch = pa.record_batch({"x": pa.nulls(100)})
    for seed in range(200):
        sample = RowSample(100, seed, batch.schema)
        for start in (1, 101, 201):
            sample.add(NumberedRows(np.arange(start, start + 100), batch))
        counts[sample.numbers] += 1
    # Binomial(200, 1/3): mean 66.7, deviation 6.7.
    assert min(counts[1:]) > 36
    assert max(counts) < 97


def test_where_comes_first_then_the_sample_then_the_head(
    look: Any, path: str, tmp_path: Path
) -> None:
    out = tmp_path / "out.parquet"
    words = ["--where", "price >= 20", "--sample", 30, "--head", 5]
    numbers = kept(look, path, out, *words)
    assert len(numbers) == 5
    assert min(numbers) >= 200
    whole = kept(look, path, out, *words[:-2])
    assert numbers == whole[:5]
    done = look(path, *words, "-o", out)
    assert (
        "5 out (25 after the first 5, 70 not in the sample, 200 not matching --where)" in done.err
    )


def test_the_lineage_states_what_was_selected(look: Any, path: str, tmp_path: Path) -> None:
    assert look(path, "--where", "price > 3", "-o", tmp_path / "out.arrow").rc == 0
    shown = look(tmp_path / "out.arrow", "--lineage").text
    assert "where price > 3" in shown
    assert "269 rows, without 31 not matching --where" in shown
