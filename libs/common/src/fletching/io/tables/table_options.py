"""How tables are written, and how their cells are read."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Literal


class CellKind(Enum):
    """What a cell becomes."""

    TEXT = "text"  # a list is joined by blanks; an object is a bad row
    LIST = "list"  # a list of texts; a single text is a list of one
    JSON = "json"  # a text as it is; lists and objects as JSON


@dataclass(frozen=True, kw_only=True)
class TableOptions:
    """How the inputs are written.

    encoding: None: UTF-8, else what fits the whole file. delimiter: None: detected; `\\t` is a tab.
    quote: "none" where quotes are ordinary characters. columns: names, for a CSV without header.
    null: texts that count as null. sheet: of a workbook; None: the first one.
    bad_rows: refuse: InputError; drop: counted in the report under a reason, the first ones named.
    """

    encoding: str | None = None
    delimiter: str | None = None
    quote: str = '"'
    escape: str | None = None
    columns: tuple[str, ...] = ()
    null: tuple[str, ...] = ()
    sheet: str | None = None
    bad_rows: Literal["refuse", "drop"] = "refuse"
