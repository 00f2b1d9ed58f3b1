"""--lineage: the chain of tools, of all formats, and of rows that nobody vouches for."""

from __future__ import annotations

from typing import Any

import pyarrow.parquet as pq
import pytest


@pytest.mark.parametrize("name", ["rows.parquet", "rows.arrow", "rows.arrows"])
def test_the_chain_is_shown_with_options_and_accounts(
    name: str, look: Any, stored: Any, scored: Any, tmp_path: Any
) -> None:
    source = stored(scored, name)
    assert look(source, "--where", "task = 'a'", "-o", tmp_path / ("out" + name[4:])).rc == 0
    done = look(tmp_path / ("out" + name[4:]), "--lineage")
    shown = [line.rstrip() for line in done.text.splitlines()]
    assert shown[1:] == [
        "└── arrowcat 0.1.0",
        "    seed 0",
        "    where task = 'a'",
        "    4 rows, without 2 not matching --where",
        "    └── maker 0.1",
        "        negatives 7",
        "        6 rows",
    ]


def test_a_program_that_copied_the_stamp_is_named(
    look: Any, stored: Any, scored: Any, tmp_path: Any
) -> None:
    pq.write_table(pq.read_table(stored(scored)), tmp_path / "copied.parquet")
    shown = look(tmp_path / "copied.parquet", "--lineage").text
    assert "unknown program" in shown
    assert "maker" in shown


def test_rows_without_lineage_say_so(look: Any, write: Any, tmp_path: Any) -> None:
    path = write(tmp_path / "in.jsonl", [{"query": "q", "pos": ["a"]}])
    assert "carries no lineage" in look(path, "--lineage").text
