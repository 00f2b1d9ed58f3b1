"""Outputs appear complete or not at all, whatever happens to the tool that writes them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fletching.errors import InputError, UsageError
from fletching.io import Writer
from fletching.report import Report

sys.path.insert(0, os.path.dirname(__file__))
from streams import FORMATS, columns_of, numbered, read, write

pytestmark = pytest.mark.slow  # as a whole: each test loads models or starts many commands

ROWS = numbered(50)
COLUMNS = columns_of(ROWS)


def names(folder) -> list[str]:
    return sorted(os.listdir(folder))


def open_writer(path) -> Writer:
    return Writer(
        Report("maker", quiet=True),
        str(path),
        "examples",
        COLUMNS,
        version="1",
        options={},
        count=False,
    )


@pytest.mark.parametrize("ending", FORMATS)
@pytest.mark.parametrize("failure", [RuntimeError, KeyboardInterrupt, BrokenPipeError])
def test_an_exception_leaves_the_old_file_and_nothing_beside_it(ending, failure, tmp_path):
    path = write(tmp_path / f"out{ending}", ROWS)
    before = path.read_bytes()
    with pytest.raises(failure), open_writer(path) as out:
        out.write(pa.RecordBatch.from_pylist(numbered(9000), COLUMNS))
        raise failure
    assert path.read_bytes() == before
    assert names(tmp_path) == [f"out{ending}"]


@pytest.mark.parametrize("ending", FORMATS)
def test_a_row_that_breaks_the_contract_is_no_output(ending, tmp_path):
    with (
        pytest.raises(InputError, match=r"the output, row 51: `pos` is empty"),
        open_writer(tmp_path / f"out{ending}") as out,
    ):
        out.write(pa.RecordBatch.from_pylist(ROWS, COLUMNS))
        out.write(pa.RecordBatch.from_pylist([{"id": "x", "query": "q", "pos": []}], COLUMNS))
    assert names(tmp_path) == []


def test_rows_that_do_not_add_up_are_no_output(tmp_path):
    report = Report("maker", quiet=True)
    report.rows_in = 51
    with (
        pytest.raises(RuntimeError, match="rows do not add up"),
        Writer(
            report, str(tmp_path / "o.parquet"), "examples", COLUMNS, version="1", options={}
        ) as out,
    ):
        out.write(pa.RecordBatch.from_pylist(ROWS, COLUMNS))
    assert names(tmp_path) == []


def child(
    code: str, folder, name: str = "out.parquet", stdout: Any = subprocess.DEVNULL
) -> subprocess.CompletedProcess:
    """Python that runs `code` with the stream's names at hand and `path` = folder/name."""
    program = f"""
import os, resource, signal, sys
sys.path.insert(0, {os.path.dirname(__file__)!r})
import fletching.io.writer as writer
from streams import numbered, write
path = sys.argv[1]
{textwrap.dedent(code)}
"""
    return subprocess.run(
        [sys.executable, "-c", program, os.path.join(folder, name)],
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("ending", FORMATS)
def test_a_full_disk_is_an_error_and_leaves_the_old_file(ending, tmp_path):
    path = write(tmp_path / f"out{ending}", ROWS)
    before = path.read_bytes()
    done = child(
        """
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
        write(path, numbered(50_000))
        """,
        tmp_path,
        name=f"out{ending}",
    )
    assert done.returncode == 1
    assert "OSError" in done.stderr
    assert path.read_bytes() == before
    assert names(tmp_path) == [f"out{ending}"]


@pytest.mark.parametrize("moment", ["os.fsync", "os.replace"])
def test_kill_9_at_the_commit_leaves_the_old_file_and_the_next_run_cleans_up(moment, tmp_path):
    path = write(tmp_path / "out.parquet", ROWS)
    before = path.read_bytes()
    done = child(
        f"{moment} = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\nwrite(path, numbered(50_000))",
        tmp_path,
    )
    assert done.returncode == -signal.SIGKILL
    assert path.read_bytes() == before
    assert len(names(tmp_path)) == 2  # the leftover, hidden from globs and folders
    assert read(tmp_path) == ROWS
    write(path, numbered(3))
    assert names(tmp_path) == ["out.parquet"]
    assert read(path) == numbered(3)


def test_what_a_living_run_writes_is_no_leftover(tmp_path):
    with open_writer(tmp_path / "out.parquet") as out:
        out.write(pa.RecordBatch.from_pylist(ROWS, COLUMNS))
        other = child("write(path, numbered(3))", tmp_path)
        assert other.returncode == 0, other.stderr
        assert read(tmp_path / "out.parquet") == numbered(3)
    assert read(tmp_path / "out.parquet") == ROWS


def test_the_output_has_the_rights_that_the_umask_gives(tmp_path):
    child("os.umask(0o027)\nwrite(path, numbered(3))", tmp_path)
    assert (tmp_path / "out.parquet").stat().st_mode & 0o777 == 0o640


def test_an_output_may_replace_its_own_input(tmp_path):
    from fletching.io import Reader

    path = write(tmp_path / "rows.parquet", numbered(20_000))
    report = Report("maker", quiet=True)
    rows = Reader(report, [str(path)], "examples")
    with Writer(
        report, str(path), "examples", rows.columns, version="1", options={}, sources=[rows]
    ) as out:
        for batch in rows:
            out.write(batch)
    assert read(path) == numbered(20_000)


def test_dev_null_stays_a_device(tmp_path):
    write("/dev/null", ROWS)
    assert not os.path.isfile("/dev/null")


def test_a_fifo_gets_a_stream_and_stays_a_fifo(tmp_path):
    fifo = tmp_path / "pipe.arrows"
    os.mkfifo(fifo)
    taken = []
    reader = threading.Thread(target=lambda: taken.append(fifo.read_bytes()))
    reader.start()
    write(fifo, ROWS)
    reader.join(10)
    (tmp_path / "taken").write_bytes(taken[0])
    assert read(tmp_path / "taken") == ROWS
    assert fifo.is_fifo()


def test_a_fifo_is_read_like_a_pipe(tmp_path):
    fifo = tmp_path / "pipe"
    os.mkfifo(fifo)
    data = write(tmp_path / "rows.arrows", ROWS).read_bytes()
    feeder = threading.Thread(target=lambda: fifo.write_bytes(data))
    feeder.start()
    assert read(fifo) == ROWS
    feeder.join(10)


def test_a_failure_into_a_pipe_ends_in_bytes_on_which_stock_readers_fail(tmp_path):
    code = """
        import contextlib
        from fletching.report import Report
        from streams import columns_of
        import pyarrow as pa
        columns = columns_of(numbered(1))
        with contextlib.suppress(ZeroDivisionError), writer.Writer(Report("t", quiet=True), None, "examples", columns, version="1", options={}) as out:
            out.write(pa.RecordBatch.from_pylist(numbered(9000), columns))
            1 / 0
        """
    with open(tmp_path / "stdout", "wb") as stdout:
        program = child(code, tmp_path, stdout=stdout)
    assert program.returncode == 0, program.stderr
    assert (tmp_path / "stdout").read_bytes().endswith(b"\xff\xff\xff\xff\xff\xff\xff\x7f")
    with pytest.raises(InputError, match="the program before this one failed after 8,192 rows"):
        read(tmp_path / "stdout")
    with (
        pytest.raises((pa.ArrowInvalid, OSError)),
        pa.ipc.open_stream((tmp_path / "stdout").read_bytes()) as stock,
    ):
        stock.read_all()
    import polars

    with pytest.raises(Exception, match="(?i)ipc|eof|memory|metadata|invalid"):
        polars.read_ipc_stream(tmp_path / "stdout")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("out.csv", "has no known extension"),
        ("out", "has no known extension"),
        ("no/such/folder/out.parquet", "the folder of -o"),
        ("folder.parquet", "is a folder"),
    ],
)
def test_an_output_that_cannot_work_is_refused_before_any_work(name, message, tmp_path):
    (tmp_path / "folder.parquet").mkdir()
    with pytest.raises((UsageError, InputError), match=message):
        open_writer(tmp_path / name)
    assert names(tmp_path) == ["folder.parquet"]


def test_a_terminal_on_stdout_is_refused_before_any_work(monkeypatch):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    with pytest.raises(UsageError, match="which a terminal cannot show"):
        Writer(Report("maker"), None, "examples", COLUMNS, version="1", options={})


def test_parquet_has_page_checksums_compressed_text_and_plain_vectors(tmp_path):
    columns = pa.schema(
        [
            pa.field("text_hash", pa.string(), False),
            pa.field("vector", pa.list_(pa.float32(), 4), False),
        ]
    )
    row = {"text_hash": "0" * 32, "vector": [0.0, 1.0, 2.0, 3.0]}
    with Writer(
        Report("m"),
        str(tmp_path / "v.parquet"),
        "vectors",
        columns,
        version="1",
        options={},
        count=False,
    ) as out:
        out.write(pa.RecordBatch.from_pylist([row] * 10, columns))
    group = pq.read_metadata(tmp_path / "v.parquet").row_group(0)
    chunks = {group.column(i).path_in_schema: group.column(i) for i in range(group.num_columns)}
    vectors = chunks["vector.list.element"]
    assert (vectors.compression, chunks["text_hash"].compression) == ("UNCOMPRESSED", "ZSTD")
    assert not any("DICTIONARY" in encoding for encoding in vectors.encodings)
    data = bytearray((tmp_path / "v.parquet").read_bytes())
    data[data.index(b"\x00\x00\x80\x3f\x00\x00\x00\x40")] ^= 1
    (tmp_path / "v.parquet").write_bytes(data)
    pq.read_table(tmp_path / "v.parquet")  # does not look
    with pytest.raises(OSError, match="CRC|checksum"):
        pq.read_table(tmp_path / "v.parquet", page_checksum_verification=True)
