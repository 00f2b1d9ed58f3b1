"""One fingerprint for the same rows, whatever the file format and the batches.

The digest is over values, not over bytes of a file: the Parquet file, the Arrow stream and the Arrow
file of the same rows have the same one. It is the integrity check of streams and Arrow files (Parquet
pages carry checksums as well) and the identity of inputs in the lineage. `schemas/README.md` states it
for authors of outside tools.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from fletching.schema import canonical, cast


class RowDigest:
    """xxh3-128 over rows, fed batch by batch in canonical types (no dictionaries, views or large types).

    Every leaf of every column has three running hashes (validity, lengths, values), since only then do
    the batch boundaries not matter. The digest hashes the row count, then names and results of the parts
    that hold anything, sorted by name: the order of the columns does not matter either.
    """

    def __init__(self) -> None:
        self.rows = 0
        self.parts: dict[str, Any] = defaultdict(xxhash.xxh3_128)

    def update(self, batch: pa.RecordBatch) -> None:
        self.rows += batch.num_rows
        for field, column in zip(batch.schema, batch.columns):
            self._feed(field.name, column)

    def hexdigest(self) -> str:
        whole = xxhash.xxh3_128(str(self.rows).encode())
        for path, part in sorted(self.parts.items()):
            whole.update(f"\n{path}={part.hexdigest()}".encode())
        return "xxh3-128:" + whole.hexdigest()

    def _put(self, path: str, content: memoryview | bytes) -> None:
        if len(content):
            self.parts[path].update(content)

    def _feed(self, path: str, array: pa.Array) -> None:
        self._put(path + "?", _bytes(array.is_valid().cast(pa.uint8())))
        array = array.drop_null()
        if pa.types.is_map(array.type):
            listed = array.cast(_as_list(array.type))
            array = cast(
                listed, canonical(listed.type)
            )  # what stands in a map is not canonical yet
        kind = array.type
        if pa.types.is_null(kind):
            return
        if pa.types.is_string(kind) or pa.types.is_binary(kind):
            self._put(path + "#", _bytes(pc.binary_length(array)))
            self._put(f"{path}:{kind}", _characters(array))
        elif pa.types.is_list(kind):
            self._put(path + "#", _bytes(pc.list_value_length(array)))
            self._feed(path + "[]", array.flatten())
        elif pa.types.is_fixed_size_list(kind):
            self._feed(path + "[]", array.flatten())
        elif pa.types.is_struct(kind):
            for field, child in zip(kind, array.flatten()):
                self._feed(f"{path}.{field.name}", child)
        elif pa.types.is_boolean(kind):
            self._put(f"{path}:{kind}", _bytes(array.cast(pa.uint8())))
        else:
            self._put(f"{path}:{kind}", _bytes(array))


def _bytes(array: pa.Array) -> memoryview | bytes:
    """The values of a fixed-width array without nulls, as they stand in memory (little endian)."""
    buffer = array.buffers()[-1]
    if not len(array) or buffer is None:
        return b""
    width = array.type.bit_width // 8
    return memoryview(buffer)[array.offset * width : (array.offset + len(array)) * width]


def _characters(array: pa.Array) -> memoryview | bytes:
    """All characters of a string or binary array without nulls, end to end."""
    _, offsets, values = array.buffers()
    if not len(array) or values is None:
        return b""
    ends = np.frombuffer(offsets, dtype=np.int32, count=len(array) + 1, offset=array.offset * 4)
    return memoryview(values)[ends[0] : ends[-1]]


def _as_list(kind: pa.MapType) -> pa.ListType:
    return pa.list_(
        pa.struct(
            [pa.field("key", kind.key_type, nullable=False), pa.field("value", kind.item_type)]
        )
    )
