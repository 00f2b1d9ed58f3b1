"""Tables on disk, ragged arrays, sets of keys, and files that appear whole."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import threading

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fletching.table import DiskTable, GrowingKeySet, KeySet, RaggedArray, atomic
from fletching.table.key_set import contains_sorted, find_sorted
from fletching.table.ragged_array import offsets_of, ranks_within

# --- DiskTable -----------------------------------------------------------------------------------

COLUMNS = pa.schema([pa.field("n", pa.int64()), pa.field("text", pa.string())])
batch_sizes = st.lists(st.integers(0, 5), max_size=6)


def batches_of(sizes: list[int]) -> list[pa.RecordBatch]:
    """Rows numbered from 0 in batches of these sizes."""
    starts = offsets_of(sizes)
    return [
        pa.record_batch(
            {
                "n": range(start, start + size),
                "text": [f"t{n}" for n in range(start, start + size)],
            },
            schema=COLUMNS,
        )
        for start, size in zip(starts.tolist(), sizes)
    ]


@given(batch_sizes)
def test_a_table_gives_back_its_rows_by_number_in_any_order(sizes):
    with DiskTable.from_batches(COLUMNS, batches_of(sizes)) as table:
        assert len(table) == sum(sizes)
        assert [batch.num_rows for batch in table] == sizes
        numbers = list(range(len(table)))
        assert [table.row(n) for n in numbers] == [{"n": n, "text": f"t{n}"} for n in numbers]
        assert table.take(np.array(numbers[::-1], int))["n"].to_pylist() == numbers[::-1]
        assert table.column("text").to_pylist() == [f"t{n}" for n in numbers]


@given(batch_sizes, st.integers(1, 4))
def test_slices_are_the_rows_in_order_none_across_two_batches(sizes, rows):
    with DiskTable.from_batches(COLUMNS, batches_of(sizes)) as table:
        slices = table.slices(rows)
        assert [n for part in slices for n in part["n"].to_pylist()] == list(range(sum(sizes)))
        assert all(0 < len(part) <= rows for part in slices)
        assert len(slices) == sum(-(-size // rows) for size in sizes)


@given(batch_sizes.filter(sum))
def test_a_row_is_located_in_the_batch_that_holds_it(sizes):
    with DiskTable.from_batches(COLUMNS, batches_of(sizes)) as table:
        for row in range(len(table)):
            batch, position = table.locate(row)
            assert table.batches[batch]["n"][position].as_py() == row


def test_a_temporary_table_goes_with_its_block_even_after_an_exception(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(KeyError), DiskTable(COLUMNS) as table:
        table.append(batches_of([3])[0])
        assert len(os.listdir(tmp_path)) == 1
        raise KeyError
    assert os.listdir(tmp_path) == []

    def failing_batches():
        yield batches_of([3])[0]
        raise KeyError

    with pytest.raises(KeyError):
        DiskTable.from_batches(COLUMNS, failing_batches())
    assert os.listdir(tmp_path) == []


def test_a_table_with_a_path_stays_and_is_opened_again(tmp_path):
    path = str(tmp_path / "kept.arrow")
    with DiskTable(COLUMNS, path) as table:
        table.append(batches_of([3])[0])
        assert len(table.finish()) == 3
        assert table.finish() is table
    with DiskTable.open(path) as again:
        assert (again.row(2), again.columns) == ({"n": 2, "text": "t2"}, COLUMNS)
    assert os.path.exists(path)


def test_the_doctests_of_the_package_hold():
    import doctest

    from fletching.table import disk_table, key_set, ragged_array

    for module in (disk_table, key_set, ragged_array):
        result = doctest.testmod(module)
        assert result.attempted
        assert not result.failed


# --- RaggedArray ---------------------------------------------------------------------------------

ragged_lists = st.lists(st.lists(st.integers(-100, 100), max_size=4), max_size=8)


def as_lists(array: RaggedArray) -> list[list[int]]:
    return [array[row].tolist() for row in range(len(array))]


@given(ragged_lists)
def test_lists_come_back_as_they_were(lists):
    array = RaggedArray.from_lists(lists)
    assert as_lists(array) == lists
    assert array.lengths.tolist() == [len(row) for row in lists]
    pairs = [(row, rank) for row, values in enumerate(lists) for rank in range(len(values))]
    assert list(zip(array.owners.tolist(), array.ranks_within.tolist())) == pairs


@given(ragged_lists.filter(len), st.data())
def test_taken_lists_are_those_of_the_rows_in_order_and_repeated(lists, data):
    rows = data.draw(st.lists(st.integers(0, len(lists) - 1), max_size=8))
    array = RaggedArray.from_lists(lists)
    selected = np.array(rows, np.int64)
    assert as_lists(array.take(selected)) == [lists[row] for row in rows]
    assert array.values[array.positions(selected)].tolist() == [
        value for row in rows for value in lists[row]
    ]
    assert array.lengths_of(selected).tolist() == [len(lists[row]) for row in rows]


@given(ragged_lists)
def test_a_filter_keeps_every_list_without_the_unmarked_values(lists):
    array = RaggedArray.from_lists(lists)
    kept = array.filter(array.values > 0)
    assert as_lists(kept) == [[value for value in row if value > 0] for row in lists]


@given(st.lists(st.tuples(st.integers(0, 5), st.integers())))
def test_pairs_are_grouped_by_owner_in_their_order(pairs):
    owners = np.array([owner for owner, _ in pairs], np.int64)
    values = np.array([value for _, value in pairs], object)
    grouped = RaggedArray.from_pairs(owners, values, rows=6)
    expected = [[value for owner, value in pairs if owner == row] for row in range(6)]
    assert as_lists(grouped) == expected


@given(st.lists(st.integers(0, 5)))
def test_offsets_and_ranks_follow_from_the_lengths(lengths):
    offsets = offsets_of(lengths)
    assert np.diff(offsets).tolist() == lengths
    assert offsets[0] == 0
    ranks = [rank for length in lengths for rank in range(length)]
    assert ranks_within(np.array(lengths, int)).tolist() == ranks


# --- sets of keys --------------------------------------------------------------------------------

keys = st.lists(st.integers(0, 20) | st.sampled_from([2**63, 2**64 - 1]), max_size=30)


@given(keys, keys)
def test_a_set_contains_exactly_its_keys(members, others):
    key_set = KeySet(np.array(members, np.uint64))
    queries = np.array(others, np.uint64)
    assert key_set.contains(queries).tolist() == [key in members for key in others]
    assert len(key_set) == len(set(members))
    assert all(key in key_set for key in members)


@given(keys, keys)
def test_sorted_keys_are_found_at_their_position(members, others):
    sorted_keys = np.unique(np.array(members, np.uint64))
    queries = np.array(others, np.uint64)
    positions = find_sorted(sorted_keys, queries).tolist()
    expected = {int(key): position for position, key in enumerate(sorted_keys)}
    assert positions == [expected.get(key, -1) for key in others]


def test_membership_keeps_the_shape():
    matrix = np.array([[1, 2], [3, 4]], np.uint64)
    known = np.array([2, 3], np.uint64)
    assert contains_sorted(known, matrix).tolist() == [[False, True], [True, False]]
    assert contains_sorted(known[:0], matrix).tolist() == [[False, False], [False, False]]


@given(st.lists(keys, max_size=8))
def test_a_growing_set_marks_each_key_once_where_it_first_comes(batches):
    key_set = GrowingKeySet()
    seen: set[int] = set()
    for batch in batches:
        expected = []
        for key in batch:
            expected.append(key not in seen)
            seen.add(key)
        assert key_set.add_new(np.array(batch, np.uint64)).tolist() == expected
        assert len(key_set) == len(seen)


def test_a_growing_set_has_few_runs_each_twice_as_long_as_the_next():
    key_set = GrowingKeySet()
    for start in range(0, 5000, 7):
        key_set.add_new(np.arange(start, start + 7, dtype=np.uint64))
    lengths = [len(run) for run in key_set.runs]
    assert all(longer >= 2 * shorter for longer, shorter in itertools.pairwise(lengths))
    assert len(lengths) <= 13
    assert all(np.all(np.diff(run.astype(float)) > 0) for run in key_set.runs)


# --- atomic files --------------------------------------------------------------------------------


def test_a_file_appears_when_its_block_ends(tmp_path):
    path = tmp_path / "a.txt"
    with atomic.open_new(str(path)) as file:
        file.write(b"new")
        assert not path.exists()
    assert path.read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("failure", [KeyError, KeyboardInterrupt])
def test_an_exception_leaves_the_old_file_and_nothing_beside_it(failure, tmp_path):
    path = tmp_path / "a.txt"
    atomic.write_text(str(path), "old é")
    with pytest.raises(failure), atomic.open_new(str(path)) as file:
        file.write(b"new")
        raise failure
    assert path.read_text("utf-8") == "old é"
    assert os.listdir(tmp_path) == ["a.txt"]


KILLED = """
import os, signal, sys
from fletching.table import atomic
os.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
atomic.write_text(sys.argv[1], "new")
"""


def test_a_kill_leaves_the_old_file_and_the_next_run_removes_the_rest(tmp_path):
    path = str(tmp_path / "a.txt")
    atomic.write_text(path, "old")
    killed = subprocess.run([sys.executable, "-c", KILLED, path], check=False)
    assert killed.returncode == -signal.SIGKILL
    leftover, kept = sorted(os.listdir(tmp_path))
    assert (kept, leftover[:11]) == ("a.txt", ".a.txt.tmp-")
    atomic.write_text(path, "next")
    assert os.listdir(tmp_path) == ["a.txt"]


LIVING = """
import sys
from fletching.table import atomic
with atomic.open_new(sys.argv[1]) as file, atomic.new_folder(sys.argv[1] + ".d"):
    print("ready", flush=True)
    sys.stdin.read()
    file.write(b"theirs")
"""


def test_a_living_process_keeps_its_temporary_names_and_a_dead_one_loses_them(tmp_path):
    path = str(tmp_path / "a.txt")
    (tmp_path / ".a.txt.tmp-notes").touch()
    dead = tmp_path / ".a.txt.tmp-0123456789ab"
    dead.touch()
    with subprocess.Popen(
        [sys.executable, "-c", LIVING, path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as other:
        assert other.stdout and other.stdin
        assert other.stdout.readline() == b"ready\n"
        atomic.write_text(path, "ours")
        with atomic.new_folder(path + ".d"):
            pass
        assert not dead.exists()
        assert len(list(tmp_path.iterdir())) == 5
        os.rmdir(path + ".d")
        other.stdin.close()
        assert other.wait(30) == 0
    assert (tmp_path / "a.txt").read_text() == "theirs"
    assert sorted(os.listdir(tmp_path)) == [".a.txt.tmp-notes", "a.txt", "a.txt.d"]


def test_two_processes_of_one_number_do_not_meet(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "getpid", lambda: 1)  # as in containers
    path = str(tmp_path / "a.txt")
    with atomic.open_new(path) as first, atomic.open_new(path) as second:
        first.write(b"first")
        second.write(b"second")
    assert (tmp_path / "a.txt").read_text() == "first"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_scratch_that_a_killed_run_left_goes_with_the_next(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    (tmp_path / "fletching-scratch-tool-0123456789ab").mkdir()
    (tmp_path / "fletching-scratch-tool-0123456789ab" / "rows").touch()
    (tmp_path / "fletching-scratch-tool-mine").mkdir()
    with atomic.scratch_folder("tool") as outer, atomic.scratch_folder("tool") as inner:
        assert os.path.isdir(outer)
        assert os.path.isdir(inner)
        assert len(os.listdir(tmp_path)) == 3
    assert os.listdir(tmp_path) == ["fletching-scratch-tool-mine"]


def test_a_fifo_and_a_device_are_written_to_directly(tmp_path):
    fifo = str(tmp_path / "pipe")
    os.mkfifo(fifo)
    received: list[bytes] = []
    reader = threading.Thread(target=lambda: received.append(open(fifo, "rb").read()))
    reader.start()
    atomic.write_bytes(fifo, b"content")
    reader.join(10)
    assert received == [b"content"]
    assert os.listdir(tmp_path) == ["pipe"]
    atomic.write_bytes(os.devnull, b"content")
    assert atomic.is_special(os.devnull)
    assert not atomic.is_special(str(tmp_path))
    assert not atomic.is_special(str(tmp_path / "missing"))


def test_a_link_is_followed_and_a_link_to_a_descriptor_is_written_into(tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "there" / "a.txt")
    atomic.write_text(str(tmp_path / "link"), "content")
    assert (tmp_path / "there" / "a.txt").read_text() == "content"
    with open(tmp_path / "log", "w") as log:
        log.write("before\n")
        log.flush()
        (tmp_path / "stream").symlink_to(f"/dev/fd/{log.fileno()}")
        assert atomic.is_special(str(tmp_path / "stream"))
        atomic.write_text(str(tmp_path / "stream"), "content\n")
        log.write("after\n")
    assert (tmp_path / "log").read_text() == "before\ncontent\nafter\n"
    assert (tmp_path / "stream").is_symlink()
    assert sorted(os.listdir(tmp_path)) == ["link", "log", "stream", "there"]


def test_a_folder_moves_whole_to_a_free_name_or_over_an_empty_folder(tmp_path):
    for target in (tmp_path / "free", tmp_path / "empty"):
        source = tmp_path / "source"
        (source / "inner").mkdir(parents=True)
        (source / "inner" / "a.txt").write_text("content")
        if target.name == "empty":
            target.mkdir()
        atomic.move_folder(str(source), str(target))
        assert (target / "inner" / "a.txt").read_text() == "content"
        assert not source.exists()


def test_a_folder_does_not_move_over_one_with_content(tmp_path):
    for name in ("source", "target"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.txt").write_text(name)
    with pytest.raises(OSError, match="not empty"):
        atomic.move_folder(str(tmp_path / "source"), str(tmp_path / "target"))
    assert (tmp_path / "target" / "a.txt").read_text() == "target"


def test_removing_takes_a_file_a_folder_a_link_or_nothing(tmp_path):
    (tmp_path / "folder" / "inner").mkdir(parents=True)
    (tmp_path / "file").touch()
    (tmp_path / "linked").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "linked")
    for name in ("folder", "file", "link", "missing"):
        atomic.remove(str(tmp_path / name))
    assert os.listdir(tmp_path) == ["linked"]
