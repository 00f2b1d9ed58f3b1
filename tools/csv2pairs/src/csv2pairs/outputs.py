"""Rows of the output files, the texts beside them, and the names of the files."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import polars as pl
import pyarrow as pa
from polars import DataFrame, Series, col, concat_list, lit

from csv2pairs.examples import KEPT
from csv2pairs.keys import ABSENT, flat, hashed, left_join, with_ids
from csv2pairs.option_checks import roles_in
from csv2pairs.options import Options
from csv2pairs.stored_pairs import StoredPairs
from fletching.errors import InputError
from fletching.schema import load
from fletching.table import GrowingKeySet

UNSAFE = re.compile(r'[\x00-\x1f\x7f/\\:*?"<>|%{}]|^[.~ _-]|[. ]$')
LONGEST = 200  # bytes of a value in a file name
NO_VALUE = "_"  # of rows without a value


class OutputRows:
    """The rows of -o. schema: `examples`, or `texts`; sources: the columns that they come from."""

    is_counted = True

    def __init__(self, options: Options) -> None:
        self.options = options
        self.schema = "texts" if options.mode == "texts" else "examples"
        contract = load(self.schema)
        wanted = {
            "neg": options.neg or options.negatives_per_row,
            "domain": options.domain,
            "pos_ids": options.pos_id,
            "neg_ids": options.neg_id,
            "pos_scores": options.score,
            "pos_score_kind": options.score,
        }
        names = ["id", "text"] if options.mode == "texts" else ["id", "query", "pos"]
        names += [name for name, is_wanted in wanted.items() if is_wanted]
        known = [name for name in options.keep if contract.field(name)]
        others = [pa.field(name, pa.string()) for name in options.keep if name not in known]
        self.columns = contract.arrow([*names, *known], others)
        self.sources = [name if name in names else KEPT + name for name in self.columns.names]

    def table(self, examples: DataFrame, **drawn: pa.Array) -> pa.Table:
        """Examples in the types of the schema. drawn: columns that take the place of theirs."""
        if self.options.neg and "neg" in drawn:
            lists = DataFrame(
                {
                    "neg": examples["neg"],
                    "drawn": drawn["neg"],
                }
            )
            both = lists.select(concat_list(col.neg.fill_null([]), "drawn"))
            drawn["neg"] = both.to_arrow().column(0)
        rows = examples.with_columns(
            pos_score_kind=lit(self.options.score_kind),
            **dict.fromkeys(drawn, lit(None)),
        )
        columns = {name: col(source) for name, source in zip(self.columns.names, self.sources)}
        table = rows.select(**columns).to_arrow()
        for name, lists in drawn.items():
            position = self.columns.get_field_index(name)
            table = table.set_column(position, name, lists)
        return table.cast(self.columns)

    def stored_tables(self, pairs: StoredPairs, is_wanted: Series) -> Iterator[pa.Table]:
        """Examples that are kept, with the texts that they drew. is_wanted: (n,)."""
        for examples, drawn in pairs.drawn_frames(*self.sources, is_wanted=is_wanted):
            yield self.table(examples, **drawn)


class OutputTexts:
    """The rows of --texts-out: every text of the pairs, or of --texts-template, once."""

    is_counted = False
    schema = "texts"
    columns = load("texts").arrow(["id", "text"])

    def __init__(self, options: Options) -> None:
        self.sources = ["row_text"] if options.texts_template else ["query", "pos"]
        self.texts_written = GrowingKeySet()

    def table(self, examples: DataFrame) -> pa.Table:
        """What is new: of the template where there is one, else queries and positives."""
        texts = pl.concat([flat(examples[name]) for name in self.sources])
        rows = texts.to_frame("text")
        rows = rows.with_columns(key=hashed("text"))
        is_new = Series(self.texts_written.add_new(rows["key"].to_numpy()))
        rows = rows.filter(is_new, col.key != ABSENT)
        rows = with_ids(rows.with_columns(id=lit(None, pl.String)), "text")
        return rows.select(self.columns.names).to_arrow().cast(self.columns)

    def stored_tables(self, pairs: StoredPairs, is_wanted: Series) -> Iterator[pa.Table]:
        """The new texts of stored examples. is_wanted: (n,)."""
        return map(self.table, pairs.examples.frames(*self.sources, is_wanted=is_wanted))


def plan_outputs(
    path: str,
    pairs: StoredPairs,
    split_names: Sequence[str],
) -> tuple[list[tuple[str, str]], Series]:
    """(label, path) of the files of a path with {split}, {domain} or {category}; each example's.

    The number of its file, (n,). Raises InputError where a value is too long a name.
    """
    names = [*split_names] if "{split}" in path else [""]
    numbers = pairs.splits if "{split}" in path else pairs.splits * 0
    values = [""]
    for role in roles_in(path):
        frames = [
            frame.select(text=role, key=f"{role}_key")
            for frame in pairs.examples.frames(role, f"{role}_key")
        ]
        named = distinct_values(pl.concat([frame.unique() for frame in frames]))
        values = named["value"].to_list()
        keys = pl.concat([frame.select("key") for frame in frames])
        numbered = left_join(keys, named.with_row_index("number"), "key")
        numbers = numbered["number"] * len(names) + numbers
        path = path.replace(f"{{{role}}}", "{value}")
    files = [
        (
            f"{name} {value}".strip(),
            path.replace("{split}", name).replace("{value}", value),
        )
        for value in values
        for name in names
    ]
    return files, numbers


def distinct_values(spellings: DataFrame) -> DataFrame:
    """key, value (as part of a file name) of each distinct value, by name. spellings: text, key.

    Of several spellings of one value, the smallest one gives the name.
    """
    smallest = spellings.group_by("key").agg(col.text.min())
    names = [NO_VALUE if key == 0 else file_name(text) for key, text in smallest.iter_rows()]
    return smallest.select("key", value=Series(names, dtype=pl.String)).sort("value")


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
