"""Rows by number on disk, lists of lists, sets of keys, and files that appear whole.

disk_table    record batches appended to a scratch Arrow file, mapped back, rows taken by number
ragged_array  a list of values for each row, end to end with offsets
key_set       sets of 64-bit keys in 8 bytes each
atomic        the one place that renames: a file or folder appears whole or not at all

Needs numpy and pyarrow alone. Index arithmetic over offsets lives here and nowhere else.
"""

from fletching.table.disk_table import DiskTable
from fletching.table.key_set import GrowingKeySet, KeySet
from fletching.table.ragged_array import RaggedArray

__all__ = ["DiskTable", "GrowingKeySet", "KeySet", "RaggedArray"]
