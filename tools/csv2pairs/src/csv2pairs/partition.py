"""Which rows go into which file: by split, and by --partition-by."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from csv2pairs.array_types import Integers, Keys
from fletching import text_keys
from fletching.errors import InputError

UNSAFE = re.compile(r'[\x00-\x1f\x7f/\\:*?"<>|%{}]|^[.~ _-]|[. ]$')
LONGEST = 200  # bytes of a value in a file name
NO_VALUE = "_"  # of rows without a value


@dataclass
class OutputFile:
    """One file of a run and its rows."""

    label: str  # for the report: its split and value
    path: str | None  # None: stdout
    rows: Integers  # in the order of the input


@dataclass
class PartitionColumn:
    """The column of --partition-by."""

    role: str  # domain or category
    texts: pa.LargeStringArray  # (n,)
    keys: Keys  # (n,)


def plan_outputs(
    output: str | None,
    splits: Integers,
    split_names: Sequence[str],
    column: PartitionColumn | None,
) -> list[OutputFile]:
    """The files of a run: every split for every value of the column.

    output: the -o option. splits: int64 (n,), numbers into `split_names`; with no names, all 0.
    Raises InputError where a value is too long for a file name.
    """
    by_split = []
    for number, name in enumerate(split_names or [""]):
        path = output and output.replace("{split}", name)
        by_split.append((name, path, splits == number))
    if column is None:
        return [OutputFile(name, path, np.flatnonzero(rows)) for name, path, rows in by_split]
    files = []
    for value, key in distinct_values(column.texts, column.keys):
        has_value = column.keys == key
        for name, path, in_split in by_split:
            files.append(
                OutputFile(
                    label=f"{name} {value}".strip(),
                    path=(path or "").replace(f"{{{column.role}}}", value),
                    rows=np.flatnonzero(in_split & has_value),
                )
            )
    return files


def distinct_values(texts: pa.LargeStringArray, keys: Keys) -> list[tuple[str, np.uint64]]:
    """(file name, key) of each distinct value, by name.

    texts, keys: (n,), the value of each row and its hash. Of several spellings of one value, the
    smallest one gives the name.
    """
    if not len(keys):
        return []
    spellings: dict[int, str] = {}
    encoded = texts.dictionary_encode()
    codes = encoded.indices.fill_null(-1).to_numpy()
    words = encoded.dictionary.to_pylist()
    _, samples = np.unique(codes, return_index=True)
    for row in samples.tolist():
        word = words[codes[row]] if codes[row] >= 0 else ""
        key = int(keys[row])
        spellings[key] = min(spellings.get(key, word), word)
    values = []
    for key in np.unique(keys):
        name = NO_VALUE if key == text_keys.ABSENT else file_name(spellings[int(key)])
        values.append((name, key))
    return sorted(values)


def file_name(value: str) -> str:
    """A value as part of a file name: unsafe characters as %XX; no two values share a file.

    Raises InputError where it is too long.

    >>> file_name("a/b"), file_name("a_b"), file_name("_")
    ('a%2Fb', 'a_b', '%5F')
    """
    name = UNSAFE.sub(_percent_encoded, value)
    if len(name.encode()) > LONGEST:
        raise InputError(
            f"--partition-by: the value {value[:40]!r}... is too long for a file name",
            "name a column with short values",
        )
    return name


def _percent_encoded(match: re.Match[str]) -> str:
    return "".join(f"%{byte:02X}" for byte in match[0].encode())
