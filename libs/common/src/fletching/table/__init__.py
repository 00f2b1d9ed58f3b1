"""Rows by number on disk, lists of lists, sets of keys, and files that appear whole.

batch_table   record batches end to end, rows taken by number
disk_table    record batches appended to a scratch Arrow file and mapped back
disk_array    one array or one column of texts over all rows, on disk
row_units     rows in slices that are encoded together
ragged_array  a list of values for each row, end to end with offsets
key_set       sets of 64-bit keys in 8 bytes each
atomic        the one place that renames: a file or folder appears whole or not at all

Index arithmetic over offsets lives here and nowhere else. Importing the package imports neither
numpy nor pyarrow: `atomic` is used by command lines that must answer --help at once.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fletching.table.batch_table import BatchTable
    from fletching.table.disk_table import DiskTable
    from fletching.table.key_set import GrowingKeySet, KeySet
    from fletching.table.ragged_array import RaggedArray

__all__ = ["BatchTable", "DiskTable", "GrowingKeySet", "KeySet", "RaggedArray"]

_HOMES = {
    "BatchTable": "batch_table",
    "DiskTable": "disk_table",
    "GrowingKeySet": "key_set",
    "KeySet": "key_set",
    "RaggedArray": "ragged_array",
}


def __getattr__(name: str) -> Any:  # noqa: ANN401 (a module's attributes are of any type)
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
