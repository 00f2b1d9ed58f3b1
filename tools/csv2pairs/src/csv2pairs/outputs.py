"""Rows of the output files, the texts beside them, and the names of the files."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

import polars as pl
import pyarrow as pa
from polars import col

from csv2pairs.keys import ABSENT, arrow_texts, hashed, left_join, with_ids
from csv2pairs.option_checks import roles_in
from csv2pairs.options import Options
from csv2pairs.rows import KEPT
from csv2pairs.stored_pairs import DrawnTexts, StoredBlocks
from fletching import schema
from fletching.errors import InputError
from fletching.io import Writer
from fletching.schema import cast
from fletching.table import GrowingKeySet

UNSAFE = re.compile(r'[\x00-\x1f\x7f/\\:*?"<>|%{}]|^[.~ _-]|[. ]$')
LONGEST = 200  # bytes of a value in a file name
NO_VALUE = "_"  # of rows without a value


class OutputRows:
    """The columns of the output, and rows of them. schema: `examples`, or `texts`."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.schema = "texts" if options.mode == "texts" else "examples"
        contract = schema.load(self.schema)
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

    def rows(self, examples: pl.DataFrame) -> pa.Table:
        """Examples in the types of the schema; null where they have to draw first."""
        computed = {"pos_score_kind": pl.lit(self.options.score_kind)}
        if not self.options.neg:
            computed["neg"] = pl.lit(None, pl.List(pl.String))
        columns = examples.with_columns(**computed).select(self.sources).rechunk()
        arrays = [
            cast(column.to_arrow(), field.type) for column, field in zip(columns, self.columns)
        ]
        return pa.Table.from_arrays(arrays, schema=self.columns)

    def with_draws(
        self, rows: pa.Table, drawn: pl.DataFrame, texts: dict[str, DrawnTexts]
    ) -> pa.Table:
        """Rows with what they drew. texts: by column, what the numbers of the draws stand for."""
        columns = dict(zip(rows.schema.names, rows.columns))
        if self.options.mode == "group":
            columns["pos"] = texts["pos"].take_lists(drawn["positives"])
        if self.options.negatives_per_row:
            negatives = texts[self.options.negatives_from].take_lists(drawn["negatives"])
            if self.options.neg:
                both = pl.DataFrame(
                    {
                        "table": rows["neg"],
                        "drawn": negatives,
                    }
                )
                joined = both.select(pl.concat_list(col.table.fill_null([]), "drawn"))
                negatives = cast(joined.to_series().to_arrow(), negatives.type)
            columns["neg"] = negatives
        return pa.table(columns, self.columns)


class PairTexts:
    """--texts-out: every text of the pairs, or of --texts-template, once in each file."""

    columns = schema.load("texts").arrow(["id", "text"])

    def __init__(self, writer: Writer, options: Options) -> None:
        self.writer = writer
        self.sources = ["row_text"] if options.texts_template else ["query", "pos"]
        self.texts_written = GrowingKeySet()

    def write(self, examples: pl.DataFrame) -> None:
        """Write what is new: of the template where there is one, else queries and positives."""
        columns = [examples[name] for name in self.sources]
        texts = pl.concat([each.explode() if each.dtype.is_nested() else each for each in columns])
        rows = texts.rename("text").to_frame().with_columns(key=hashed("text"))
        is_new = pl.Series(self.texts_written.add_new(rows["key"].to_numpy()))
        rows = rows.filter(is_new, col.key != ABSENT)
        rows = with_ids(rows.with_columns(id=pl.lit(None, pl.String)), "text")
        arrays = [arrow_texts(rows["id"]), arrow_texts(rows["text"])]
        self.writer.write(pa.RecordBatch.from_arrays(arrays, schema=self.columns))


class OutputFile(NamedTuple):
    """One file of a run. label: for the report, its split and value; path: None is stdout."""

    label: str
    path: str | None


def plan_outputs(
    output: str | None, pairs: StoredBlocks, splits: pl.Series, *, split_names: Sequence[str]
) -> tuple[list[OutputFile], pl.Series]:
    """The files of a path with {split}, {domain} or {category}; the number of each example's file.

    splits: (n,), numbers into `split_names`. Raises InputError where a value is too long a name.
    """
    path = output or ""
    names = list(split_names)
    file_numbers = splits.cast(pl.UInt32)
    if "{split}" not in path:
        names = [""]
        file_numbers = pl.zeros(
            len(pairs),
            pl.UInt32,
            eager=True,
        )
    values = [""]
    for role in roles_in(path):
        blocks = [block.select(text=role, key=f"{role}_key") for block in pairs.frames()]
        named = distinct_values(pl.concat([block.unique() for block in blocks]))
        values = named["value"].to_list()
        keys = pl.concat([block.select("key") for block in blocks])
        numbered = left_join(keys, named.with_row_index("number"), "key")
        file_numbers = numbered["number"] * len(names) + file_numbers
        path = path.replace(f"{{{role}}}", "{value}")
    files = [
        OutputFile(
            f"{name} {value}".strip(),
            path.replace("{split}", name).replace("{value}", value) or None,
        )
        for value in values
        for name in names
    ]
    return files, file_numbers


def distinct_values(spellings: pl.DataFrame) -> pl.DataFrame:
    """key, value (as part of a file name) of each distinct value, by name. spellings: text, key.

    Of several spellings of one value, the smallest one gives the name.
    """
    smallest = spellings.group_by("key").agg(col.text.min())
    names = [NO_VALUE if key == 0 else file_name(text) for key, text in smallest.iter_rows()]
    return smallest.select("key", value=pl.Series(names, dtype=pl.String)).sort("value")


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
