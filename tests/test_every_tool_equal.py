"""The same input and options give the same bytes, whatever the surroundings, the chunks of the pipe and the name of the output."""

from __future__ import annotations

import os
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from suite import COMMANDS, TRAINED, Command, call, output_of, rows_for
from test_every_tool import every_tool, every_writer, put, types_for

pytestmark = pytest.mark.slow  # as a whole: each test loads models or starts many commands

SURROUNDINGS = {
    "plain": {"PYTHONHASHSEED": "0", "TZ": "UTC"},
    "another place": {
        "PYTHONHASHSEED": "77",
        "TZ": "Asia/Kathmandu",
        "LC_ALL": "C",
        "LANG": "tr_TR.UTF-8",
        "PYTHONUTF8": "0",
        "COLUMNS": "40",
        "TERM": "dumb",
    },
    "other threads": {
        "POLARS_MAX_THREADS": "1",
        "OMP_NUM_THREADS": "3",
        "ARROW_NUM_THREADS": "2",
        "OMP_THREAD_LIMIT": "3",
    },
}
LINES = [
    "--negatives 2 --category topic",
    "--mode list",
    "--mode group --category topic --negatives 1",
    "--mode texts",
    "--mode fused --texts-out {texts}",
]


def result(command: Command, target: Path) -> bytes:
    """The bytes that matter of its output."""
    return (target / TRAINED if command.writes == "folder" else target).read_bytes()


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "table.csv"
    topics = ["Zoo", "äpfel", "", "I", "ı", "Straße"]
    path.write_text(
        "query,pos,topic\n"
        + "".join(f"frage {i} Ünı,antwort {i % 50},{topics[i % 6]}\n" for i in range(300)),
        "utf-8",
    )
    return path


@pytest.mark.parametrize("line", LINES)
def test_csv2pairs_writes_the_same_bytes_in_any_surroundings(
    line: str, table: Path, tmp_path: Path
) -> None:
    found: dict[str, Any] = {}
    for name, extra in SURROUNDINGS.items():
        folder = tmp_path / name.replace(" ", "-")
        (folder / "tmp").mkdir(parents=True)
        argv = COMMANDS["csv2pairs"].argv(
            table, "", folder / "out.parquet", *line.format(texts=folder / "texts.parquet").split()
        )
        if "--mode texts" in line:  # which has no query
            del argv[argv.index("--query") : argv.index("--query") + 2]
        done = call(argv, env=extra | {"TMPDIR": str(folder / "tmp")}, cwd=folder)
        assert done.rc == 0, done.err
        assert not os.listdir(folder / "tmp")
        found[name] = [path.read_bytes() for path in sorted(folder.glob("*.parquet"))]
    assert [name for name, content in found.items() if content != found["plain"]] == []


@pytest.mark.parametrize("command", [c for c in COMMANDS.values() if c.heavy], ids=lambda c: c.name)
def test_a_second_run_elsewhere_writes_the_same_bytes(
    command: Command, tmp_path: Path, model: str
) -> None:
    source = put(tmp_path / "in.parquet", rows_for(command), types_for(command, rows_for(command)))
    written = []
    for name in ("here", "there"):
        (tmp_path / name / "tmp").mkdir(parents=True)
        target = output_of(command, tmp_path / name).with_stem(
            "out" if name == "here" else "other-name"
        )
        extra = {"TMPDIR": str(tmp_path / name / "tmp")} | (
            {} if name == "here" else {"TZ": "Asia/Kathmandu", "LC_ALL": "C"}
        )
        done = call(command.argv(source, model, target), env=extra, cwd=tmp_path / name)
        assert done.rc == 0, done.err
        written.append(result(command, target))
    assert written[0] == written[1]


@every_tool
def test_the_batches_of_the_pipe_do_not_show_in_the_output(
    command: Command, tmp_path: Path, model: str
) -> None:
    rows, columns = rows_for(command), types_for(command, rows_for(command))
    written = []
    whole, cut = [0, len(rows)], [0, 1, 2, 7, len(rows) - 1, len(rows)]
    for bounds in (whole, cut):
        path = tmp_path / f"{len(bounds)}.arrows"
        with pa.ipc.new_stream(str(path), columns) as stream:
            for start, end in pairwise(bounds):
                stream.write_batch(pa.RecordBatch.from_pylist(rows[start:end], columns))
        target = output_of(command, tmp_path).with_stem(f"out-{len(bounds)}")
        done = call(command.argv("-", model, target), stdin=path.read_bytes())
        assert done.rc == 0, done.err
        written.append(result(command, target))
    assert written[0] == written[1]


@every_writer
def test_the_stream_on_stdout_holds_the_rows_of_the_file(
    command: Command, tmp_path: Path, model: str
) -> None:
    import pyarrow.parquet as pq

    source = put(tmp_path / "in.parquet", rows_for(command), types_for(command, rows_for(command)))
    streamed = call(command.argv(source, model))
    assert call(command.argv(source, model, tmp_path / "out.parquet")).rc == 0
    table = pa.ipc.open_stream(streamed.out).read_all()
    assert table.equals(pq.read_table(tmp_path / "out.parquet"))
    assert table.num_rows == len(rows_for(command))
