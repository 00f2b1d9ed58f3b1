"""One fingerprint for the same rows, whatever the file format and the batches.

The digest is over values, not over bytes of a file: the Parquet file, the Arrow stream and the
Arrow file of the same rows have the same one. It is the integrity check of streams and Arrow files
(Parquet pages carry checksums as well) and the identity of inputs in the lineage.
`schemas/README.md` specifies it for authors of outside tools.
"""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash
from pyarrow.types import (
    is_binary,
    is_boolean,
    is_fixed_size_list,
    is_list,
    is_map,
    is_null,
    is_string,
    is_struct,
)

from fletching.arrow_types import canonical, cast

Bytes = memoryview | bytes


class RowDigest:
    """xxh3-128 over rows, fed batch by batch in canonical types (see `fletching.arrow_types`).

    Every leaf of every column has three running hashes (validity, lengths, values): only then do
    the batch boundaries not matter. The digest hashes the row count, then names and results of the
    hashes that were fed, sorted by name: the order of the columns does not matter either.
    """

    def __init__(self) -> None:
        self.rows = 0
        self.hashes: dict[str, xxhash.xxh3_128] = defaultdict(xxhash.xxh3_128)

    def update(self, batch: pa.RecordBatch) -> None:
        """Add rows."""
        self.rows += batch.num_rows
        for field, column in zip(batch.schema, batch.columns):
            self._feed(field.name, column)

    def hexdigest(self) -> str:
        """`xxh3-128:` and 32 hex digits, of the rows so far."""
        whole = xxhash.xxh3_128(str(self.rows).encode())
        for path, running in sorted(self.hashes.items()):
            whole.update(f"\n{path}={running.hexdigest()}".encode())
        return "xxh3-128:" + whole.hexdigest()

    def _update_hash(self, path: str, content: Bytes) -> None:
        if len(content):
            self.hashes[path].update(content)

    def _feed(self, path: str, array: pa.Array) -> None:
        """Hash validity, lengths and values of a column or of a part of a nested one."""
        if not len(array):  # Arrow validates no offsets of an empty list, and aborts on bad ones
            return
        self._update_hash(path + "?", _bytes(array.is_valid().cast(pa.uint8())))
        array = array.drop_null()
        if is_map(array.type):
            listed = array.cast(_as_list(array.type))
            array = cast(listed, canonical(listed.type))  # keys and values are not canonical yet
        kind = array.type
        if is_null(kind):
            return
        if is_string(kind) or is_binary(kind):
            lengths = pc.binary_length(array)
            self._update_hash(path + "#", _bytes(lengths))
            self._update_hash(f"{path}:{kind}", _characters(array))
        elif is_list(kind):
            lengths = pc.list_value_length(array)
            self._update_hash(path + "#", _bytes(lengths))
            self._feed(path + "[]", array.flatten())
        elif is_fixed_size_list(kind):
            self._feed(path + "[]", array.flatten())
        elif is_struct(kind):
            for field, child in zip(kind, array.flatten()):
                self._feed(f"{path}.{field.name}", child)
        elif is_boolean(kind):
            self._update_hash(f"{path}:{kind}", _bytes(array.cast(pa.uint8())))
        else:
            self._update_hash(f"{path}:{kind}", _bytes(array))


def _bytes(array: pa.Array) -> Bytes:
    """The values of a fixed-width array without nulls, as they lie in memory (little endian)."""
    values = array.buffers()[-1]
    if not len(array) or values is None:
        return b""
    width = array.type.bit_width // 8
    start = array.offset * width
    return memoryview(values)[start : start + len(array) * width]


def _characters(array: pa.Array) -> Bytes:
    """All characters of a string or binary array without nulls, end to end."""
    _, offsets, values = array.buffers()
    if not len(array) or values is None:
        return b""
    ends = np.frombuffer(offsets, dtype=np.int32, count=len(array) + 1, offset=array.offset * 4)
    return memoryview(values)[ends[0] : ends[-1]]


def _as_list(kind: pa.MapType) -> pa.ListType:
    """A map as the list of its entries."""
    key = pa.field("key", kind.key_type, nullable=False)
    return pa.list_(pa.struct([key, pa.field("value", kind.item_type)]))
