"""Which rows go into which file: by split, and by --partition-by."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from csv2pairs.options import Options
from csv2pairs.spool import Spool
from fletching import text_keys
from fletching.errors import InputError

UNSAFE = re.compile(r'[\x00-\x1f\x7f/\\:*?"<>|%{}]|^[.~ _-]|[. ]$')
LONGEST = 200  # bytes of a value in a file name
NONE = "_"  # of rows without a value


@dataclass
class Part:
    name: str
    path: str | None
    rows: np.ndarray  # int64, in order of the input


def parts(spool: Spool, splits: np.ndarray, names: list[str], options: Options) -> list[Part]:
    """The files of a run, every split for every value."""
    by_split = [
        (name, options.output and options.output.replace("{split}", name), splits == number)
        for number, name in enumerate(names or [""])
    ]
    role = options.partition_by
    if not role:
        return [Part(name, path, np.flatnonzero(mine)) for name, path, mine in by_split]
    row_keys = spool.domains if role == "domain" else spool.categories
    column = spool.passed[options.domain if role == "domain" else options.category]
    found = []
    for value, key in _values(column, row_keys):
        for name, path, mine in by_split:
            place = (path or "").replace(f"{{{role}}}", value)
            found.append(
                Part(f"{name} {value}".strip(), place, np.flatnonzero(mine & (row_keys == key)))
            )
    return found


def _values(column: pa.ChunkedArray, row_keys: np.ndarray) -> list[tuple[str, np.uint64]]:
    """(file name, key) of each distinct value, by name. Of several spellings the smallest gives the name."""
    spellings: dict[int, str] = {}
    distinct = np.unique(row_keys)
    texts = column.dictionary_encode().combine_chunks() if len(row_keys) else None
    if texts is not None:
        codes = texts.indices.fill_null(-1).to_numpy()
        _, sample = np.unique(codes, return_index=True)
        words = texts.dictionary.to_pylist()
        for row in sample.tolist():
            word = words[codes[row]] if codes[row] >= 0 else ""
            key = int(row_keys[row])
            spellings[key] = min(spellings.get(key, word), word)
    named = [
        (file_name(spellings[int(key)]) if key != text_keys.ABSENT else NONE, key)
        for key in distinct
    ]
    return sorted(named)


def file_name(value: str) -> str:
    """A value as part of a file name: unsafe characters as %XX, so that no two values share a file.

    >>> file_name("a/b"), file_name("a_b"), file_name("_")
    ('a%2Fb', 'a_b', '%5F')
    """
    name = UNSAFE.sub(lambda found: "".join(f"%{byte:02X}" for byte in found[0].encode()), value)
    if len(name.encode()) > LONGEST:
        raise InputError(
            f"--partition-by: the value {value[:40]!r}... is too long for a file name",
            "name a column with short values",
        )
    return name
