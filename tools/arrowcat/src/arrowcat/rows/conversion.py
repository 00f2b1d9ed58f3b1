"""-o and --to: the rows written, in a file format or in the row format of another program."""

from __future__ import annotations

from typing import Any

from arrowcat.options import Options
from arrowcat.printable import number_of
from arrowcat.rows.input_rows import schemas_of
from arrowcat.rows.row_selection import reading_limit, select_rows
from fletching.errors import UsageError
from fletching.io import Reader, Writer, check_output
from fletching.io.row_formats import ROW_FORMATS, RowFormat, WriteAccount
from fletching.report import Report
from fletching.table.disk_table import DiskTable

# What --to is not for.
FILE_FORMATS = ("parquet", "arrow", "feather", "arrows", "jsonl")


def row_format_of(name: str | None) -> RowFormat | None:
    """The row format of --to. Raises UsageError for one that is not known or not written."""
    if name is None:
        return None
    if name in FILE_FORMATS:
        what = f"--to {name} is a format of files, not of rows"
        raise UsageError(what, f"leave --to out: the name of -o says it, OUT.{name}")
    row_format = ROW_FORMATS[name]
    if row_format.from_examples is None:
        writable = [each.name for each in ROW_FORMATS.values() if each.from_examples is not None]
        what = f"--to {name}: rows of {row_format.summary} are read, and not written"
        raise UsageError(what, "pass one of " + ", ".join(writable))
    return row_format


def _check_output(path: str | None, row_format: RowFormat | None, tool: str) -> None:
    """Raise UsageError for an output that does not fit the format, before rows are read."""
    if row_format is None:
        check_output(path, tool)
    elif path == "-":
        fix = "name a folder: -o DIR" if row_format.is_folder else "write JSON lines: -o -.jsonl"
        raise UsageError(f"--to {row_format.name} writes no Arrow stream", fix)
    elif not row_format.is_folder and not str(path).endswith(".tsv"):
        check_output(path, tool)


def write_rows(
    options: Options, report: Report, *, version: str, lineage_options: dict[str, Any]
) -> None:
    """Read, select and write rows; every promise of their schema is checked on the way."""
    row_format = row_format_of(options.to)
    _check_output(options.output, row_format, report.tool)
    schemas = schemas_of(options)
    if row_format is not None:
        schemas = [schema for schema in schemas if schema.name == "examples"]
    reader = Reader(report, options.inputs, schemas, limit=reading_limit(options))
    batches = (part.batch for part in select_rows(reader, options, report))
    if row_format is not None:
        with DiskTable.from_batches(reader.columns, batches) as table:
            _write_format(row_format, table, options=options, report=report)
        return
    provenance: dict[str, Any] = {
        "version": version,
        "options": lineage_options,
        "sources": [reader],
    }
    schema = reader.schema.name
    out = Writer(report, options.output, schema, columns=reader.columns, **provenance)
    with out, report.progress("writing") as progress:
        for batch in batches:
            out.write(batch)
            progress.advance(batch.num_rows)


def _write_format(
    row_format: RowFormat, table: DiskTable, *, options: Options, report: Report
) -> None:
    """Write rows of `examples` as another program has them, and tell what it cannot carry."""
    assert row_format.from_examples is not None
    assert options.output is not None
    account: WriteAccount = row_format.from_examples(table, options.output)
    report.rows_out += len(table)
    report.check()
    report.measures["records"] = account.records
    report.measures["not_carried"] = dict(sorted(account.not_carried.items()))
    if account.records != account.rows:
        rows = number_of(account.rows, "row")
        records = number_of(account.records, "record")
        report.note(f"{rows} became {records} of {options.to}")
    lost = []
    for what, count in sorted(account.not_carried.items()):
        lost.append(f"{count:,} {what}")
    if lost:
        listed = "; ".join(lost)
        report.note(f"{options.to} cannot carry {listed}")
