"""pairs(table, *options): csv2pairs in this process on a table, its rows read back."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import shlex
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest


@dataclass(frozen=True)
class PairsRun:
    """What one run wrote: rows by file name, the JSON summary, the exit code and stderr."""

    files: dict[str, list[dict[str, Any]]]
    summary: dict[str, Any]
    rc: int
    err: str

    @property
    def rows(self) -> list[dict[str, Any]]:
        (rows,) = self.files.values()
        return rows

    @property
    def dropped(self) -> dict[str, int]:
        return self.summary["dropped"]


def as_csv(rows: list[dict[str, Any]], **dialect: Any) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(
        text, list(dict.fromkeys(name for row in rows for name in row)), **dialect
    )
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def words(options: Iterable[Any]) -> Iterator[str]:
    """The words of a command line: options that begin with -- are split as a shell does."""
    for option in map(str, options):
        yield from shlex.split(option) if option.startswith("--") else [option]


@pytest.fixture(scope="session")
def pairs() -> Callable[..., PairsRun]:
    """pairs(table, *options, name=, out=): one run of csv2pairs and what it wrote.

    table: bytes of a file, rows for a CSV, or a dictionary of file name and bytes. options: words of
    the command line; one that begins with -- may hold several. out: the -o option.
    """
    from csv2pairs.cli import main

    def pairs(
        table: Any, *options: Any, name: str = "table.csv", out: str = "out.jsonl"
    ) -> PairsRun:
        with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
            files = (
                table
                if isinstance(table, dict)
                else {name: table if isinstance(table, bytes) else as_csv(table)}
            )
            for path, content in files.items():
                Path(path).parent.mkdir(exist_ok=True)
                Path(path).write_bytes(content)
            before = set(Path().rglob("*"))
            stderr = io.StringIO()
            with contextlib.redirect_stderr(stderr):
                rc = main([*files, *words(options), "-o", out, "--json-summary", "summary.json"])
            written = sorted(
                str(path)
                for path in set(Path().rglob("*")) - before
                if path.name != "summary.json" and path.is_file()
            )
            summary = json.loads(Path("summary.json").read_text()) if rc == 0 else {}
            if rc == 0:
                left = summary["rows_in"] + sum(summary["added"].values())
                assert left == summary["rows_out"] + sum(summary["dropped"].values()), summary
            return PairsRun(
                {
                    path: [json.loads(line) for line in Path(path).open(encoding="utf-8")]
                    for path in written
                },
                summary,
                rc,
                stderr.getvalue(),
            )

    return pairs
