"""Cut, killed, failed or altered inputs: refused with a reason, never fewer or other rows, never a crash."""

from __future__ import annotations

import gzip
import json
import os
import random
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from fletching import lineage
from fletching.errors import InputError
from fletching.io.arrow import END_OF_STREAM, POISON

sys.path.insert(0, os.path.dirname(__file__))
from streams import numbered, read, write

pytestmark = pytest.mark.slow  # as a whole: each test loads models or starts many commands

ROWS = numbered(20_000)  # three batches


@pytest.fixture(scope="module")
def stream(tmp_path_factory) -> bytes:
    return write(tmp_path_factory.mktemp("whole") / "whole.arrows", ROWS).read_bytes()


def boundaries(data: bytes) -> list[int]:
    """Where each message of a stream starts, and where the last ends."""
    offsets = [0]
    source = pa.BufferReader(data)
    while True:
        try:
            pa.ipc.read_message(source)
        except (EOFError, pa.ArrowInvalid):
            return offsets
        offsets.append(source.tell())


def refusal(path) -> str:
    with pytest.raises(InputError) as refused:
        read(path)
    return refused.value.what


def _is_whole(path) -> bool:
    """Is this read as all rows?"""
    try:
        return read(path) == ROWS
    except InputError:
        return False


@pytest.mark.parametrize("trailing", [b"", POISON, END_OF_STREAM], ids=["cut", "poison", "ended"])
def test_a_stream_cut_at_or_near_any_boundary_is_refused(trailing, stream, tmp_path):
    path = tmp_path / "cut.arrows"
    offsets = boundaries(stream)
    assert len(offsets) == 1 + 1 + 1 + 3 + 1  # start, schema, announcement, batches, trailer
    for offset in offsets:
        for shift in (-8, -4, -1, 0, 1, 4, 8):
            cut = stream[: max(offset + shift, 0)] + trailing
            path.write_bytes(cut)
            # What any program may write: a schema and no rows. What lacks nothing: the padding of the trailer.
            if (cut == stream[: offsets[1]] + END_OF_STREAM) or (
                offset == offsets[-1] and shift in (-4, 0, 8) and _is_whole(path)
            ):
                continue
            assert str(path) in refusal(path), (offset, shift)


def test_half_an_end_marker_is_none(stream, tmp_path):
    path = tmp_path / "cut.arrows"
    for missing in range(1, 9):
        path.write_bytes(stream[:-missing])
        assert refusal(path)


def test_the_message_of_a_killed_producer_says_after_how_many_rows(stream, tmp_path):
    path = tmp_path / "cut.arrows"
    path.write_bytes(stream[: boundaries(stream)[4]])
    assert refusal(path) == f"{path} ended early, after 16,384 rows: the program before was cut off"
    path.write_bytes(stream[: boundaries(stream)[4]] + POISON)
    assert refusal(path) == f"{path}: the program before this one failed after 16,384 rows"


def test_bytes_behind_the_end_of_a_stream_are_refused(stream, tmp_path):
    for rest in (b"x", b"garbage behind", END_OF_STREAM, POISON):
        (tmp_path / "long.arrows").write_bytes(stream + rest)
        assert refusal(tmp_path / "long.arrows")


def test_a_foreign_stream_without_its_end_marker_is_refused(tmp_path):
    sink = pa.BufferOutputStream()
    table = pa.Table.from_pylist(ROWS[:10])
    with pa.ipc.new_stream(sink, table.schema) as out:
        out.write_table(table)
    data = sink.getvalue().to_pybytes()
    (tmp_path / "a.arrows").write_bytes(data)
    assert read(tmp_path / "a.arrows") == ROWS[:10]
    (tmp_path / "a.arrows").write_bytes(data[:-8])
    assert "ended early, after 10 rows" in refusal(tmp_path / "a.arrows")


@pytest.mark.parametrize("new", [pa.ipc.new_stream, pa.ipc.new_file], ids=["stream", "file"])
@pytest.mark.parametrize(
    ("end", "message"),
    [
        (None, "ended after 3 rows without its trailer"),
        ({"status": "complete", "rows": 4, "digest": "right"}, "holds 3 rows, but 4 were written"),
        ({"status": "complete", "rows": 3, "digest": "xxh3-128:00"}, "bytes changed on the way"),
        ({"status": "complete"}, "holds 3 rows, but None were written"),
    ],
)
def test_an_announced_trailer_must_be_there_and_must_be_right(new, end, message, tmp_path):
    table = pa.Table.from_pylist(ROWS[:3])
    nothing = table.schema.empty_table().to_batches() or [
        pa.RecordBatch.from_pylist([], table.schema)
    ]
    path = tmp_path / "a.arrow"
    with new(str(path), table.schema) as out:
        out.write_batch(nothing[0], custom_metadata={lineage.KEY: b'{"trailer":"announced"}'})
        out.write_table(table)
        if end is not None:
            out.write_batch(nothing[0], custom_metadata={lineage.KEY: json.dumps(end).encode()})
    assert message in refusal(path)


@pytest.mark.parametrize("ending", [".parquet", ".arrow", ".arrows", ".jsonl.gz", ".jsonl.zst"])
def test_a_file_that_lacks_its_last_bytes_is_refused(ending, tmp_path):
    path = write(tmp_path / f"a{ending}", ROWS[:100])
    data = path.read_bytes()
    for size in [*range(1, 12), *range(len(data) - 30, len(data)), len(data) // 2]:
        path.write_bytes(data[:size])
        assert refusal(path), size


@pytest.mark.parametrize("name", ["a.parquet", "a.arrow", "a.arrows"])
def test_an_empty_file_is_refused_where_rows_of_a_format_are_due(name, tmp_path):
    (tmp_path / name).write_bytes(b"")
    assert "is empty (0 bytes)" in refusal(tmp_path / name)


def test_empty_stdin_points_to_the_program_before(run):
    done = run(["simfilter", "--use-scores", "--min-sim", "0"], stdin=b"")
    assert (done.rc, done.out) == (1, b"")
    assert "stdin is empty (0 bytes)" in done.err
    assert "the program before this one" in done.err


@pytest.mark.parametrize("compress", [gzip.compress, zstandard.compress], ids=["gz", "zst"])
@pytest.mark.parametrize("inner", [".arrows", ".parquet", ".arrow", ".jsonl"])
def test_a_truncated_compressed_file_is_refused_whatever_it_holds(compress, inner, tmp_path):
    data = compress(write(tmp_path / f"a{inner}", ROWS[:3000]).read_bytes())
    path = tmp_path / "cut"
    for size in (20, len(data) // 2, len(data) - 9, len(data) - 3, len(data) - 1):
        path.write_bytes(data[:size])
        assert refusal(path), size


def test_a_parquet_file_with_a_changed_byte_is_never_read_as_other_rows(tmp_path):
    content = [row | {"neg": [f"n{i}"], "neg_scores": [i / 7]} for i, row in enumerate(ROWS[:2000])]
    path = write(tmp_path / "a.parquet", content)
    expected, data = read(path), path.read_bytes()
    chance, refused = random.Random(1), 0
    for _ in range(60):
        position = chance.randrange(4, len(data))
        path.write_bytes(
            data[:position]
            + bytes([data[position] ^ 1 << chance.randrange(8)])
            + data[position + 1 :]
        )
        try:
            assert read(path) == expected, position  # a byte that decides nothing
        except InputError:
            refused += 1
    assert refused > 50


def test_a_parquet_file_whose_rows_are_not_the_ones_of_its_footer_is_refused(tmp_path):
    path = write(tmp_path / "a.parquet", ROWS[:10])
    end = pq.read_metadata(path).metadata[lineage.END_KEY]
    table = pq.read_table(path)
    for changed, message in (
        (table.slice(1), "holds 9 rows, but 10 were written"),
        (table.take([1, 0, *range(2, 10)]), "bytes changed"),
    ):
        with pq.ParquetWriter(path, changed.schema) as out:
            out.write_table(changed)
            out.add_key_value_metadata({lineage.END_KEY.decode(): end.decode()})
        assert message in refusal(path)


@pytest.mark.parametrize("footer", [b"{", b"[]", b"5", b"\xff"])
def test_a_footer_that_is_no_trailer_is_refused(footer, tmp_path):
    table = pa.Table.from_pylist(ROWS[:3])
    with pq.ParquetWriter(tmp_path / "a.parquet", table.schema) as out:
        out.write_table(table)
        out.add_key_value_metadata({lineage.END_KEY: footer})
    assert "a.parquet" in refusal(tmp_path / "a.parquet")


def test_text_that_is_not_utf8_inside_arrow_is_refused(tmp_path):
    bad = pa.StringArray.from_buffers(
        1, pa.py_buffer(b"\x00\x00\x00\x00\x02\x00\x00\x00"), pa.py_buffer(b"\xff\xfe")
    )
    batch = pa.RecordBatch.from_arrays([bad, pa.array([["p"]])], ["query", "pos"])
    with pa.ipc.new_stream(str(tmp_path / "a.arrows"), batch.schema) as out:
        out.write_batch(batch)
    pq.write_table(pa.Table.from_batches([batch]), tmp_path / "a.parquet")
    for name in ("a.arrows", "a.parquet"):
        assert "UTF8" in refusal(tmp_path / name)


MUTATE = """
import json, random, resource, sys
sys.path.insert(0, sys.argv[1])
from fletching.errors import InputError
from streams import read
resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30))
path, rounds, checked = sys.argv[2], int(sys.argv[3]), sys.argv[4] == "checked"
data, expected, chance = open(path, "rb").read(), read(path), random.Random(7)
counts = {"same": 0, "refused": 0, "other": 0}
for number in range(rounds):
    changed = bytearray(data)
    kind, position = chance.random(), chance.randrange(len(data))
    if kind < 0.75:
        for _ in range(chance.randint(1, 3)):
            changed[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    elif kind < 0.9:
        del changed[position:]
    else:
        changed[position : position + 16] = b"\\xff" * len(changed[position : position + 16])
    open(path + ".mutated", "wb").write(changed)
    print(number, file=sys.stderr, flush=True)
    try:
        rows = read(path + ".mutated")
        counts["same" if rows == expected else "other"] += 1
    except InputError:
        counts["refused"] += 1
print(json.dumps(counts))
"""


@pytest.mark.parametrize(
    ("name", "rounds"), [("ours.arrows", 150), ("ours.arrow", 60), ("foreign.arrows", 60)]
)
def test_changed_arrow_bytes_never_crash_and_never_give_other_rows(name, rounds, tmp_path, run):
    content = [
        row | {"neg": [f"n{i}"] * (i % 3), "neg_scores": [i / 7] * (i % 3), "extra": {"deep": [i]}}
        for i, row in enumerate(ROWS[:200])
    ]
    path = write(tmp_path / name, content)
    if name.startswith("foreign"):  # no digest: a changed letter cannot be seen, a crash can
        table = pa.ipc.open_stream(path.read_bytes()).read_all()
        with pa.ipc.new_stream(str(path), table.schema) as out:
            out.write_table(table)
    done = run([sys.executable, "-c", MUTATE, os.path.dirname(__file__), path, rounds, "checked"])
    assert done.rc == 0, done.err[-2000:]
    counts = json.loads(done.out)
    assert counts["refused"] > rounds / 3
    if not name.startswith("foreign"):
        assert counts["other"] == 0, counts
