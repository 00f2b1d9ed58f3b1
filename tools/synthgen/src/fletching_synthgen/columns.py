"""The columns of what synthgen writes.

pyarrow is imported when a function runs: jobs are looked up for --help, which must be fast.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa

MARKS = ("synth_model", "synth_request")  # which model and which request made a row
REJECT_COLUMNS = ("reject_reason", "reject_detail", "synth_slot", "source_id", "synth_request")


def new_tasks() -> pa.Schema:
    """Of brainstormed tasks."""
    from fletching import schema as contract

    known = contract.load("tasks").arrow(["id", "text", "type", "language", "target_language"])
    return with_texts(known, MARKS)


def new_examples(
    known: Sequence[str], generated: Sequence[str], source: pa.Schema | None, source_schema: str
) -> pa.Schema:
    """Of examples made from tasks or texts.

    known: columns of the schema `examples`. generated: text columns that the job adds.
    source: the columns read; those that `source_schema` does not know pass through.
    """
    from fletching import schema as contract

    read = contract.load(source_schema)
    passed = [
        field
        for field in source or []
        if read.field(field.name) is None and field.name not in generated
    ]
    return contract.load("examples").arrow(known, [*_text_fields(generated), *passed])


def enriched_examples(source: pa.Schema, known: Sequence[str] = ()) -> pa.Schema:
    """Of examples that keep the columns read.

    known: columns of the schema `examples` that the job writes.
    """
    from fletching import schema as contract

    columns = contract.extend(contract.load("examples"), source, *known)
    return with_texts(columns, MARKS)


def rejects() -> pa.Schema:
    """Of what was dropped, with the raw text of its response."""
    from fletching import schema as contract

    return contract.load("texts").arrow(["id", "text"], _text_fields(REJECT_COLUMNS))


def measures() -> pa.Schema:
    """Of the ledger: tokens, money, rejects, diversity."""
    from fletching import schema as contract

    return contract.load("measures").arrow(["run", "task", "split", "name", "value", "unit"])


def with_texts(columns: pa.Schema, names: Iterable[str]) -> pa.Schema:
    """The columns and these text columns, where they are missing."""
    for field in _text_fields(name for name in names if name not in columns.names):
        columns = columns.append(field)
    return columns


def _text_fields(names: Iterable[str]) -> list[pa.Field]:
    import pyarrow as pa

    return [pa.field(name, pa.string()) for name in names]
