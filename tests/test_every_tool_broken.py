"""What every tool does when its input is damaged or cut, when its reader goes, and when it is stopped or has no room."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import environment
from suite import COMMANDS, Command, call, output_of, rows_for, start
from test_every_tool import every_tool, every_writer, left, put, refused, types_for

from fletching.io.arrow import END_OF_STREAM, POISON

pytestmark = pytest.mark.slow  # as a whole: each test loads models or starts many commands

ROWS = 20_000  # three batches of a stream
csv2pairs = COMMANDS["csv2pairs"]


@pytest.fixture(scope="session")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CSV of 20,000 rows and few texts: a model encodes them in no time."""
    path = tmp_path_factory.mktemp("table") / "table.csv"
    path.write_text(
        "query,pos\n"
        + "".join(f"question {i % 200} of the table,answer {i // 200} to it\n" for i in range(ROWS))
    )
    return path


@pytest.fixture(scope="session")
def stream(table: Path) -> bytes:
    """The same as a stream of ours."""
    return subprocess.run(
        csv2pairs.argv(table), capture_output=True, check=True, env=environment()
    ).stdout


@pytest.fixture
def out(tmp_path: Path) -> Path:
    (tmp_path / "outputs").mkdir()
    return tmp_path / "outputs"


def wait_for(condition: Any, running: Any, seconds: float = 60) -> None:
    """Until the condition holds; the command is expected to go on meanwhile."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, running.err.read_text()
        time.sleep(0.02)


# --- damaged and cut input -----------------------------------------------------------------------


@pytest.fixture(scope="session")
def cut(table: Path) -> bytes:
    """What `kill -9` of a real csv2pairs leaves in the pipe: its stdin stays open, so it is stopped in mid-work."""
    argv = [
        *csv2pairs.argv("-"),
        "--encoding",
        "utf-8",
    ]  # named, or the whole pipe is looked at before a row goes out
    with subprocess.Popen(
        argv,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(),
    ) as producer:
        assert producer.stdin
        assert producer.stdout
        os.set_blocking(producer.stdin.fileno(), False)
        content, sent, taken = (
            table.read_bytes() * 200,
            0,
            b"",
        )  # far more than csv2pairs holds in its buffers
        os.set_blocking(producer.stdout.fileno(), False)
        patience = time.monotonic() + 60
        while len(taken) < 400_000:
            assert time.monotonic() < patience, "csv2pairs writes nothing before its input ends"
            try:
                sent += os.write(producer.stdin.fileno(), content[sent : sent + 65_536])
            except BlockingIOError:
                time.sleep(0.005)
            taken += producer.stdout.read() or b""
        producer.send_signal(signal.SIGKILL)
        assert producer.wait() == -signal.SIGKILL
        os.set_blocking(producer.stdout.fileno(), True)
        return taken + producer.stdout.read()


@every_tool
def test_a_producer_killed_upstream_is_noticed(
    command: Command, cut: bytes, out: Path, model: str
) -> None:
    target = output_of(command, out)
    done = call(command.argv("-", model, target), stdin=cut)
    told = refused(done, command.name)
    assert re.search(r"stdin .*after [\d,]+ rows", told)
    assert "pipefail" in done.err
    assert not left(out)


@every_writer
def test_a_failure_is_passed_on_so_that_no_reader_takes_the_rows_for_complete(
    command: Command, cut: bytes, model: str
) -> None:
    done = call(command.argv("-", model), stdin=cut)
    assert done.rc == 1
    with pytest.raises((pa.ArrowException, OSError)):
        pa.ipc.open_stream(done.out).read_all()
    after = call(csv2pairs.argv("-"), stdin=done.out)
    assert after.rc == 1
    assert after.out.endswith(POISON)
    assert not after.out.endswith(END_OF_STREAM)
    if done.out:
        assert done.out.endswith(POISON)
        assert re.search(r"the program before this one failed|is damaged or was cut", after.err), (
            after.err
        )


def places(stream: bytes) -> dict[str, int]:
    """Where to cut a stream: in a batch, at each of its batch boundaries, within and before its end."""
    ends, reader = [], pa.ipc.open_stream(source := pa.BufferReader(stream))
    while True:
        ends.append(source.tell())
        try:
            reader.read_next_batch()
        except StopIteration:
            break
    boundaries = {f"after message {number}": end for number, end in enumerate(ends)}
    return boundaries | {
        "in the schema": 100,
        "in a batch": ends[2] + 1000,
        "before the end mark": len(stream) - 8,
        "in the end mark": len(stream) - 3,
    }


def test_a_stream_cut_anywhere_is_refused(stream: bytes, out: Path) -> None:
    found = {name: place for name, place in places(stream).items() if place < len(stream)}
    assert len(found) >= 7
    for name, place in found.items():
        done = call(csv2pairs.argv("-", "", out / "out.parquet"), stdin=stream[:place])
        assert done.rc == 1 and "stdin" in refused(done, "csv2pairs"), name
        assert not left(out), name


def test_a_stream_without_its_trailer_but_with_an_end_mark_is_refused(
    stream: bytes, out: Path
) -> None:
    """The trap of all pipes: a stock reader takes these rows for all there are."""
    place = places(stream)["after message 2"]
    assert pa.ipc.open_stream(stream[:place] + END_OF_STREAM).read_all().num_rows == 8192
    done = call(csv2pairs.argv("-", "", out / "out.parquet"), stdin=stream[:place] + END_OF_STREAM)
    assert "after 8,192 rows" in refused(done, "csv2pairs")
    assert not left(out)


@pytest.mark.parametrize("share", [0.2, 0.4, 0.6, 0.8, 0.95])
def test_a_flipped_byte_of_a_stream_is_noticed(stream: bytes, out: Path, share: float) -> None:
    place = int(len(stream) * share)
    broken = stream[:place] + bytes([stream[place] ^ 1]) + stream[place + 1 :]
    done = call(csv2pairs.argv("-", "", out / "out.parquet"), stdin=broken)
    assert "stdin" in refused(done, "csv2pairs")
    assert not left(out)


def damaged(path: Path) -> None:
    """Flip a byte in the first data page."""
    content = bytearray(path.read_bytes())
    column = pq.read_metadata(path).row_group(0).column(1)
    content[column.data_page_offset + column.total_compressed_size // 2] ^= 1
    path.write_bytes(bytes(content))


def shortened(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


@pytest.mark.parametrize("harm", [damaged, shortened])
@every_tool
def test_corrupt_parquet_is_refused(
    command: Command, harm: Any, tmp_path: Path, out: Path, model: str
) -> None:
    rows = pa.Table.from_pylist(rows_for(command), types_for(command, rows_for(command)))
    pq.write_table(rows, tmp_path / "in.parquet", write_page_checksum=True, use_dictionary=False)
    harm(tmp_path / "in.parquet")
    told = refused(
        call(command.argv(tmp_path / "in.parquet", model, output_of(command, out))), command.name
    )
    assert "in.parquet" in told
    assert not left(out)


# --- terminals -----------------------------------------------------------------------------------


@every_tool
def test_a_terminal_on_stdin_is_refused_at_once(command: Command, out: Path, model: str) -> None:
    ours, theirs = pty.openpty()
    try:
        done = call(command.argv("-", model, output_of(command, out)), stdin=os.ttyname(theirs))
    finally:
        os.close(ours)
        os.close(theirs)
    assert "stdin is a terminal" in refused(done, command.name, 2)
    assert not left(out)


@every_writer
def test_a_terminal_on_stdout_is_refused_at_once(
    command: Command, tmp_path: Path, model: str
) -> None:
    ours, theirs = pty.openpty()
    source = put(tmp_path / "in.parquet", rows_for(command), types_for(command, rows_for(command)))
    try:
        done = call(command.argv(source, model), stdout=os.ttyname(theirs))
        os.set_blocking(ours, False)
        with pytest.raises(BlockingIOError):
            os.read(ours, 1)
    finally:
        os.close(ours)
        os.close(theirs)
    assert "which a terminal cannot show" in refused(done, command.name, 2)
    assert "-o OUT" in done.err


# --- readers that go -----------------------------------------------------------------------------


def test_a_reader_that_has_seen_enough_is_no_error(table: Path, run: Any, tmp_path: Path) -> None:
    done = run(
        f"csv2pairs {table} --query query --pos pos | head -c 100; echo ${{PIPESTATUS[0]}} > {tmp_path}/code"
    )
    assert len(done.out) == 100
    assert (tmp_path / "code").read_text() == "0\n"
    assert all(
        re.fullmatch(r"csv2pairs: [\d,]+ in, [\d,]+ out, .*", line)
        for line in done.err.splitlines()
    ), done.err


@every_writer
def test_a_closed_pipe_downstream_is_no_error(command: Command, tmp_path: Path, model: str) -> None:
    source = put(tmp_path / "in.parquet", rows_for(command), types_for(command, rows_for(command)))
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    # The command waits for a row that comes once the reader has gone.
    os.mkfifo(tmp_path / "in.fifo")
    stream = put(
        tmp_path / "rows.arrows", rows_for(command), types_for(command, rows_for(command))
    ).read_bytes()
    feed = os.open(tmp_path / "in.fifo", os.O_RDWR)
    running = start(
        command.argv("-", model), tmp_path, stdin=tmp_path / "in.fifo", stdout=tmp_path / "pipe"
    )
    wait_for(lambda: _is_open(tmp_path / "pipe", running.pid), running)
    os.close(reader)
    os.write(feed, stream)
    os.close(feed)
    assert running.wait() == 0, running.err.read_text()
    assert source.exists()
    assert "Traceback" not in running.err.read_text()
    assert "roken" not in running.err.read_text()


def _is_open(path: Path, pid: int) -> bool:
    """Has the process this file as its stdout?"""
    try:
        return os.path.realpath(f"/proc/{pid}/fd/1") == str(path)
    except OSError:
        return False


# --- stopped, and without room -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)]
)
@every_tool
def test_a_stopped_command_leaves_no_output(
    command: Command, number: int, code: int, tmp_path: Path, out: Path, model: str, stream: bytes
) -> None:
    target = output_of(command, out)
    os.mkfifo(tmp_path / "in.fifo")
    feed = os.open(tmp_path / "in.fifo", os.O_RDWR)
    running = start(command.argv("-", model, target), tmp_path, stdin=tmp_path / "in.fifo")
    os.write(feed, stream[:60_000])  # fits the pipe; the rest never comes
    wait_for(lambda: waits_for_more(running.pid), running)
    os.kill(running.pid, number)
    assert running.wait(20) == code, running.err.read_text()
    os.close(feed)
    assert not target.exists()
    if code > 0:
        word = "interrupted" if number == signal.SIGINT else "terminated"
        assert running.err.read_text() == f"{command.name}: {word}\n"
        assert not left(out)
        return
    # What kill -9 leaves is hidden, and goes with the next run.
    assert all(name.startswith(".") for name in left(out))
    put(tmp_path / "in.parquet", rows_for(command), types_for(command, rows_for(command)))
    done = call(command.argv(tmp_path / "in.parquet", model, target))
    assert done.rc == 0 and not [name for name in left(out) if name.startswith(".")], done.err


def waits_for_more(pid: int) -> bool:
    """Does the process wait in read(0, ...)? Looked at twice: between two reads it computes."""
    for _ in range(2):
        try:
            call_number, first, *_ = Path(f"/proc/{pid}/syscall").read_text().split(maxsplit=2)
        except (OSError, ValueError):
            return False
        if (call_number, first) != ("0", "0x0"):
            return False
        time.sleep(0.05)
    return True


@every_tool
def test_a_full_disk_leaves_no_output_and_says_so(
    command: Command, tmp_path: Path, out: Path, model: str, table: Path
) -> None:
    target = output_of(command, out)
    source = (
        put(tmp_path / "in.parquet", rows_for(command), types_for(command, rows_for(command)))
        if command.reads != "table"
        else table
    )
    before = call(command.argv(source, model, output_of(command, tmp_path)))
    assert before.rc == 0
    whole = sum(
        path.stat().st_size
        for path in [output_of(command, tmp_path), *output_of(command, tmp_path).rglob("*")]
        if path.is_file()
    )
    done = call(command.argv(source, model, target), file_size=whole // 2)
    told = refused(done, command.name) if command.writes != "folder" else done.err
    assert done.rc == 1
    assert "Traceback" not in done.err
    assert "file too large" in told.lower() or "space" in told, told
    assert not target.exists()
    assert not [name for name in left(out) if "tmp" in name]


def test_a_full_disk_under_a_redirected_stream_is_told_in_two_lines(
    table: Path, tmp_path: Path
) -> None:
    (tmp_path / "out.arrows").touch()
    done = call(csv2pairs.argv(table), stdout=tmp_path / "out.arrows", file_size=200_000)
    assert "file too large" in refused(done, "csv2pairs")
    assert call(csv2pairs.argv(tmp_path / "out.arrows")).rc == 1


@every_writer
def test_a_failed_run_leaves_the_old_output(
    command: Command, tmp_path: Path, out: Path, model: str, cut: bytes
) -> None:
    (out / "out.parquet").write_bytes(b"the old file")
    assert call(command.argv("-", model, out / "out.parquet"), stdin=cut).rc == 1
    assert (out / "out.parquet").read_bytes() == b"the old file"
    assert left(out) == ["out.parquet"]
