"""Which examples go into which file: by split, and by domain or category."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from csv2pairs.stored_pairs import StoredPairs
from fletching.errors import InputError

UNSAFE = re.compile(r'[\x00-\x1f\x7f/\\:*?"<>|%{}]|^[.~ _-]|[. ]$')
LONGEST = 200  # bytes of a value in a file name
NO_VALUE = "_"  # of rows without a value
ROLES = ("domain", "category")


@dataclass(frozen=True)
class OutputFile:
    """One file of a run and the numbers of its examples."""

    label: str  # for the report: its split and value
    path: str | None  # None: stdout
    numbers: pl.Series  # in the order of the input


def plan_outputs(
    output: str | None, pairs: StoredPairs, splits: pl.Series, *, split_names: Sequence[str]
) -> list[OutputFile]:
    """The files of a path with {split}, {domain} or {category}: every split for every value.

    splits: (n,), numbers into `split_names`; with no names, all 0.
    Raises InputError where a value is too long for a file name.
    """
    names = list(split_names) if output and "{split}" in output else [""]
    role = next((role for role in ROLES if output and f"{{{role}}}" in output), None)
    keys = splits.to_frame("split").with_row_index("number").with_columns(key=pl.lit(0, pl.UInt64))
    if names == [""]:
        keys = keys.with_columns(split=pl.lit(0, pl.UInt16))
    values = [("", 0)]
    if role is not None:
        blocks = pairs.frames([role, f"{role}_key"])
        columns = [block.select(text=role, key=f"{role}_key") for block in blocks]
        keys = keys.with_columns(key=pl.concat([block["key"] for block in columns]))
        values = distinct_values(pl.concat([block.unique() for block in columns]))
    numbers = keys.partition_by("split", "key", as_dict=True, include_key=False)
    nobody = keys.head(0).select("number")
    return [
        OutputFile(
            label=f"{name} {value}".strip(),
            path=output and output.replace("{split}", name).replace(f"{{{role}}}", value),
            numbers=numbers.get((split, key), nobody)["number"],
        )
        for value, key in values
        for split, name in enumerate(names)
    ]


def distinct_values(spellings: pl.DataFrame) -> list[tuple[str, int]]:
    """(file name, key) of each distinct value, by name. spellings: text, key.

    Of several spellings of one value, the smallest one gives the name.
    """
    smallest = spellings.group_by("key").agg(pl.col("text").min())
    return sorted(
        (NO_VALUE if key == 0 else file_name(text), key)
        for text, key in smallest.select("text", "key").iter_rows()
    )


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
