"""The outputs of all shards as one file: the bytes that one run over all rows writes."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from fletching import schema as contract
from fletching.arrow_types import canonical, cast
from fletching.errors import InputError
from fletching.io import AtomicOutputs, Writer
from fletching.io.opening import open_rows
from fletching.io.sources import Source
from fletching.lineage import Node
from fletching.report import IN_OTHER_SHARDS, Report
from fletching.shards.folder import ShardFolder, ShardOutput, read_output
from fletching.shards.record import ShardFiles


@dataclass(frozen=True)
class JoinedInputs:
    """What the shards were made from, in place of a reader."""

    lineage_nodes: list[Node]
    ends: list[Node]


def join_shards(
    folder: ShardFolder, output: str | None, *, side_outputs: dict[str, str], report: Report
) -> None:
    """Write all rows in the order of the shards, and the side outputs, by name; all or none.

    The account of `report` is that of one run. Raises InputError where the shards are no whole.
    """
    folder.check()
    shards = [folder.outputs[index] for index in range(folder.count)]
    if shards[0].schema == "candidates":
        raise InputError(
            f"{folder.path} holds candidates of parts of a pool",
            f"hnmine … --merge {os.path.join(folder.path, '*.parquet')} -o OUT",
        )
    account = Report(str(shards[0].node["tool"]), quiet=True)
    _fill_account(account, shards)
    with AtomicOutputs() as together:
        _write(together, shards, output, report=account, count=True)
        for name, path in side_outputs.items():
            parts = [ShardFiles(folder.path, each.shard).side_output(name) for each in shards]
            outputs = [read_output(part) for part in parts]
            _write(together, outputs, path, report=account, count=False)
    report.rows_in, report.rows_out = account.rows_in, account.rows_out
    report.added, report.dropped = account.added, account.dropped
    _pass_on_notes(report, shards)


def _write(
    together: AtomicOutputs,
    shards: Sequence[ShardOutput],
    path: str | None,
    *,
    report: Report,
    count: bool,
) -> None:
    """Write the rows of these files into one output, which is published with the others."""
    first = shards[0]
    known = contract.load(first.schema)
    opened = open_rows(Source(first.path, first.path), known)
    # Parquet gives fields an id and items another name, which the bytes of a new file would hold.
    columns = pa.schema(
        [pa.field(each.name, canonical(each.type), each.nullable) for each in opened.schema]
    )
    inputs = JoinedInputs(first.node.get("from", []), first.end.get("from", []))
    writer = Writer(
        report,
        path,
        first.schema,
        columns=columns,
        count=count,
        version=str(first.node.get("version")),
        options=first.node["options"],
        sources=[inputs],
    )
    out = together.add(writer)
    for shard in shards:
        opened = open_rows(Source(shard.path, shard.path), known)
        for _, batch in opened.batches():
            arrays = [cast(column, kind) for column, kind in zip(batch.columns, columns.types)]
            out.write(pa.RecordBatch.from_arrays(arrays, schema=columns))


def _fill_account(account: Report, shards: Sequence[ShardOutput]) -> None:
    """Rows in and added by the summaries of the shards; dropped as their outputs state it."""
    for shard in shards:
        for reason, rows in shard.end.get("dropped", {}).items():
            if reason != IN_OTHER_SHARDS:
                account.drop(reason, rows)
    summaries = _summaries(shards)
    if summaries:
        account.rows_in = summaries[0]["rows_in"]
        for summary in summaries:
            account.added.update(summary["added"])
    else:  # the shards were run without records: rows that they added count as read
        account.rows_in = sum(shard.rows for shard in shards) + account.dropped.total()


def _pass_on_notes(report: Report, shards: Sequence[ShardOutput]) -> None:
    """Say once what every shard said, and what only some said with their names."""
    summaries = _summaries(shards)
    notes = [list(dict.fromkeys(summary["notes"])) for summary in summaries]
    for shard, lines in zip(shards, notes):
        for line in lines:
            if not all(line in others for others in notes):
                report.note(f"shard {shard.shard.index}/{shard.shard.count}: {line}")
            elif shard is shards[0]:
                report.note(line)
    if summaries:
        report.measures["shards"] = [summary["measures"] for summary in summaries]


def _summaries(shards: Sequence[ShardOutput]) -> list[dict[str, Any]]:
    """What --json-summary of each shard says; [] where one is missing."""
    summaries = []
    for shard in shards:
        path = shard.path.removesuffix(".parquet") + ".summary.json"
        try:
            with open(path, encoding="utf-8") as file:
                summaries.append(json.load(file))
        except (OSError, ValueError):
            return []
    return summaries
