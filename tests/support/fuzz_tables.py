"""Edits of Arrow streams, Arrow files and Parquet that keep them readable by any other program."""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import random
from collections.abc import Callable
from typing import Any

import fuzz_json
import pyarrow as pa
import pyarrow.parquet as pq

END_KEY = b"fletching.end"
KEY = b"fletching"
BROKEN = (pa.ArrowException, OSError, ValueError, TypeError, KeyError, IndexError, MemoryError,
          NotImplementedError, OverflowError, RecursionError)  # fmt: skip


def kind_of(data: bytes) -> str:
    """The format by its first bytes."""
    starts = {b"PAR1": "parquet", b"ARROW1": "file", b"\xff\xff\xff\xff": "stream"}
    return next((kind for start, kind in starts.items() if data.startswith(start)), "")


def read(data: bytes) -> pa.Table:
    """The rows as pyarrow alone reads them. Raises one of BROKEN."""
    kind = kind_of(data)
    if kind == "parquet":
        return pq.read_table(io.BytesIO(data))
    if kind == "file":
        return pa.ipc.open_file(data).read_all()
    tables, source = [], pa.BufferReader(data)
    while not tables or source.tell() < source.size():
        tables.append(pa.ipc.open_stream(source).read_all())
    return pa.concat_tables(tables, promote_options="default")


def write(table: pa.Table, kind: str, draw: random.Random) -> bytes:
    out = io.BytesIO()
    if kind == "parquet":
        settings: dict[str, Any] = draw.choice(
            ({}, {"compression": "none"}, {"data_page_version": "2.0"}, {"use_dictionary": False},
             {"row_group_size": 3}, {"version": "1.0"}, {"compression": "gzip"}, {"store_schema": False})
        )  # fmt: skip
        pq.write_table(table, out, **settings)
    else:
        new = pa.ipc.new_file if kind == "file" else pa.ipc.new_stream
        compression = draw.choice((None, "lz4", "zstd"))
        with new(
            out, table.schema, options=pa.ipc.IpcWriteOptions(compression=compression)
        ) as writer:
            writer.write_table(table, draw.choice((1, 5, 10_000)))
    return out.getvalue()


def rewrite(data: bytes, draw: random.Random) -> bytes | None:
    """The same table after a change, written by pyarrow; None where it can't be read or changed."""
    try:
        table = read(data)
        return write(draw.choice(EDITS)(table, draw), kind_of(data), draw)
    except BROKEN:
        return None


# --- edits of a table --------------------------------------------------------------------------------

TYPES = (
    pa.large_string(), pa.string_view(), pa.binary(), pa.int64(), pa.float32(), pa.float64(), pa.bool_(),
    pa.null(), pa.large_list(pa.string()), pa.list_(pa.large_string()), pa.list_(pa.float64()),
    pa.dictionary(pa.int32(), pa.string()), pa.list_(pa.list_(pa.string())), pa.timestamp("ns"),
    pa.struct([("a", pa.string())]), pa.list_(pa.string(), 1), pa.decimal128(38, 2), pa.float16(),
    pa.list_(pa.float16(), 3), pa.list_(pa.float64(), 0), pa.duration("s"), pa.list_(pa.int8()),
    pa.run_end_encoded(pa.int32(), pa.string()), pa.map_(pa.string(), pa.string()),
)  # fmt: skip
ODD_ITEMS = (
    None, "", " ", "\x00", "\x1b[31m", "a" * 50_000, float("nan"), float("inf"), -1.0, 2**63 - 1, [], [None],
    [""], ["a", None], [float("nan")], [1e39], {"a": "b"}, [["a"]], b"\xff\xfe", True, ["a"] * 1000,
)  # fmt: skip


def _column(table: pa.Table, draw: random.Random) -> int:
    return draw.randrange(max(table.num_columns, 1))


def retype(table: pa.Table, draw: random.Random) -> pa.Table:
    at, kind = _column(table, draw), draw.choice(TYPES)
    try:
        column = table.column(at).cast(kind, safe=False)
    except BROKEN:
        column = pa.nulls(table.num_rows, kind)
    return table.set_column(at, table.schema.names[at], column)


def rename(table: pa.Table, draw: random.Random) -> pa.Table:
    names = list(table.schema.names)
    odd = [key for key in fuzz_json.ODD_KEYS if key != "\ud800"]
    names[_column(table, draw)] = draw.choice([*names, *odd])
    return table.rename_columns(names)


def drop(table: pa.Table, draw: random.Random) -> pa.Table:
    return table.remove_column(_column(table, draw))


def add(table: pa.Table, draw: random.Random) -> pa.Table:
    odd = [key for key in fuzz_json.ODD_KEYS if key != "\ud800"]
    values = [draw.choice(ODD_ITEMS)] * table.num_rows
    return table.append_column(draw.choice(odd), pa.array(values))


def replace_values(table: pa.Table, draw: random.Random) -> pa.Table:
    """Some values of a column by an odd one of any type."""
    at, item = _column(table, draw), draw.choice(ODD_ITEMS)
    values = table.column(at).to_pylist()
    for _ in range(draw.choice((1, 1, len(values)))):
        values[draw.randrange(len(values))] = item
    field = table.schema.field(at)
    try:
        column = pa.array(values, field.type)
    except BROKEN:
        column = pa.array([item] * len(values))
    return table.set_column(at, field.name, column)


def resize(table: pa.Table, draw: random.Random) -> pa.Table:
    """No rows, one, or many."""
    edit = draw.randrange(4)
    if edit == 0:
        return table.slice(0, draw.choice((0, 0, 1)))
    if edit == 1:
        return pa.concat_tables([table] * draw.choice((2, 30)))
    if edit == 2:
        return table.take(draw.sample(range(table.num_rows), table.num_rows))
    return table.select([])


def relabel(table: pa.Table, draw: random.Random) -> pa.Table:
    """Another stamp, or metadata of fields."""
    metadata = dict(table.schema.metadata or {})
    stamp = metadata.get(KEY, b'{"schema": "examples", "version": "1.0", "step": {"tool": "x"}}')
    metadata[KEY] = fuzz_json.edit(json.loads(stamp), draw)
    if draw.random() < 0.2:
        metadata[draw.choice((b"pandas", b"huggingface", b"ARROW:schema", b"\xff"))] = stamp
    return table.replace_schema_metadata(metadata)


def reorder(table: pa.Table, draw: random.Random) -> pa.Table:
    names = list(table.schema.names)
    draw.shuffle(names)
    return table.select(names)


EDITS: list[Callable[[pa.Table, random.Random], pa.Table]] = [
    retype, retype, retype, rename, rename, drop, add, add, replace_values, replace_values, replace_values,
    resize, relabel, relabel, reorder,
]  # fmt: skip


# --- edits of what we put beside the rows ------------------------------------------------------------


def edit_messages(data: bytes, draw: random.Random) -> bytes | None:
    """An Arrow stream with a message dropped, doubled, swapped or taken to the end."""
    source, offsets = pa.BufferReader(data), [0]
    with contextlib.suppress(EOFError, *BROKEN):
        while True:
            pa.ipc.read_message(source)
            offsets.append(source.tell())
    parts = [data[a:b] for a, b in itertools.pairwise(offsets)]
    rest = data[offsets[-1] :]
    if len(parts) < 2:
        return None
    i, j = draw.randrange(len(parts)), draw.randrange(len(parts))
    edit = draw.randrange(4)
    if edit == 0:
        del parts[i]
    elif edit == 1:
        parts.insert(j, parts[i])
    elif edit == 2:
        parts[i], parts[j] = parts[j], parts[i]
    else:
        parts.insert(i, b"\xff\xff\xff\xff\x00\x00\x00\x00")
    return b"".join(parts) + rest


def edit_notes(data: bytes, draw: random.Random) -> bytes | None:
    """The announcement, trailer, footer or stamp after an edit of its JSON; None where there is none."""
    try:
        return (
            _edited_footer(data, draw)
            if kind_of(data) == "parquet"
            else _edited_batches(data, draw)
        )
    except BROKEN:
        return None


def _edited_footer(data: bytes, draw: random.Random) -> bytes | None:
    file = pq.ParquetFile(io.BytesIO(data))
    footer = dict(file.metadata.metadata or {})
    if END_KEY not in footer:
        return None
    out = io.BytesIO()
    with pq.ParquetWriter(out, file.schema_arrow, write_page_checksum=True) as writer:
        writer.write_table(file.read())
        end = fuzz_json.edit(json.loads(footer[END_KEY]), draw)
        writer.add_key_value_metadata({END_KEY: end})
    return out.getvalue()


def _edited_batches(data: bytes, draw: random.Random) -> bytes | None:
    is_file = kind_of(data) == "file"
    reader = pa.ipc.open_file(data) if is_file else pa.ipc.open_stream(data)
    batches = []
    if is_file:
        count = reader.num_record_batches
        batches = [reader.get_batch_with_custom_metadata(number) for number in range(count)]
    else:
        while True:
            try:
                batches.append(reader.read_next_batch_with_custom_metadata())
            except StopIteration:
                break
    noted = [at for at, read in enumerate(batches) if read.custom_metadata]
    if not noted:
        return None
    chosen, out = draw.choice(noted), io.BytesIO()
    writer = (pa.ipc.new_file if is_file else pa.ipc.new_stream)(out, reader.schema)
    for at, read in enumerate(batches):
        metadata = dict(read.custom_metadata or {})
        if at == chosen:
            metadata = {
                key: fuzz_json.edit(json.loads(value), draw) for key, value in metadata.items()
            }
        writer.write_batch(read.batch, custom_metadata=metadata or None)
    writer.close()
    return out.getvalue()
