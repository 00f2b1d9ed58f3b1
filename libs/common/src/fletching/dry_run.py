"""--dry-run of tools without one of their own: checks, then what would be read and written."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

from fletching.early_checks import check_inputs, check_model, check_models, is_cached
from fletching.errors import InputError, UsageError
from fletching.options.fields import Option, describe
from fletching.report import Report

# The schemas of what is named under these placeholders.
SCHEMAS = {"EXAMPLES": ["examples"], "TEXTS": ["texts", "examples"]}
MODEL, FILE = "MODEL", "FILE"
STDIN = "-"


class CheckedTool(Protocol):
    """A command whose options and inputs can be checked apart from its work."""

    @property
    def name(self) -> str:
        """The name of its program."""

    @property
    def check(self) -> Callable[[Any], object] | None:
        """Refuses options that cannot work."""

    @property
    def open_inputs(self) -> Callable[[Any, Report], object] | None:
        """Opens the inputs as the work does."""


def show_plan(tool: CheckedTool, options: object, report: Report) -> None:
    """Check options, models, inputs and outputs; note what would be read and written.

    Reads no more than the start of local files, and nothing of stdin or of URLs; writes nothing.
    Raises UsageError or InputError as the work would.
    """
    if tool.check is not None:
        tool.check(options)
    check_models(options)
    _check_inputs(tool, options)
    _check_outputs(tool.name, options)
    for line in _plan(options):
        report.note(f"would {line}")
    report.note("dry run: nothing was written")


def _values(options: object) -> Iterator[tuple[Option, tuple[str, ...]]]:
    """Every option that has a value, and its values."""
    for name, opt in describe(type(options)).items():
        value = getattr(options, name)
        if opt.positional or value not in (None, (), ""):
            yield opt, value if isinstance(value, tuple) else (str(value),)


def _check_inputs(tool: CheckedTool, options: object) -> None:
    """Open what can be read twice. Raises InputError or UsageError."""
    for opt, names in _values(options):
        if opt.positional and opt.metavar == MODEL:
            for name in names:
                _, _, path = name.rpartition("=")
                check_model("the model", path)
        elif opt.positional:
            _check_rows(tool, options, names)
        elif opt.metavar in SCHEMAS:
            _open_rows(names, SCHEMAS[opt.metavar])
        elif opt.metavar == FILE and not opt.details["written"]:
            _check_paths([name.rpartition("=")[2] for name in names])
    if tool.open_inputs is not None and not describe(type(options)).get("inputs"):
        tool.open_inputs(options, Report(tool.name, quiet=True))


def _check_rows(tool: CheckedTool, options: object, names: Sequence[str]) -> None:
    """Open the inputs by the tool's own function, else by the schema that its help names."""
    [opt] = [each for each in describe(type(options)).values() if each.positional]
    if tool.open_inputs is not None:
        check_inputs(options, names, tool=tool.name, open_inputs=tool.open_inputs)
    elif opt.metavar in SCHEMAS:
        _open_rows(names, SCHEMAS[opt.metavar])
    else:
        _check_paths(names)


def _open_rows(names: Sequence[str], schemas: list[str]) -> None:
    """Raise InputError where a local file holds no such rows."""
    from fletching.io import Reader

    local = [name for name in names if name != STDIN and "://" not in name]
    if local:
        Reader(Report("", quiet=True), local, schemas, count=False)


def _check_paths(names: Sequence[str]) -> None:
    """Raise InputError for a local file that is not there."""
    from fletching.io.sources import resolve

    local = [name for name in names if name != STDIN and "://" not in name]
    for source in resolve(local) if local else []:
        if source.path and not os.path.exists(source.path):
            raise InputError(f"{source.path} does not exist", "check the path")


def _check_outputs(tool: str, options: object) -> None:
    """Raise UsageError for an output that could not be written."""
    from fletching.io import check_output

    for opt, names in _values(options):
        if not opt.details["written"] or "{" in names[0]:  # a template of several paths
            continue
        if opt.metavar == "OUT":
            check_output(names[0], tool)
        folder = os.path.dirname(names[0].rstrip("/"))
        if folder and not os.path.isdir(folder):
            raise UsageError(
                f"the folder of {opt.flag} {names[0]} does not exist", f"mkdir -p {folder}"
            )


# --- what would be done --------------------------------------------------------------------------


def _plan(options: object) -> list[str]:
    """`read pairs.parquet (1,234 rows)`, `write out.parquet`, a line each."""
    reads, writes = [], []
    for opt, names in _values(options):
        if opt.details["written"]:
            writes += [f"write {name}{_already_there(name)}" for name in names]
        elif opt.details["is_model"] or (opt.positional and opt.metavar == MODEL):
            reads += [f"load {name}{_whence(name)}" for name in names]
        elif opt.positional:
            reads += [f"read {name}{_size(name)}" for name in names or ("stdin",)]
        elif opt.metavar in (FILE, *SCHEMAS):
            reads += [f"read {name}{_size(name)} for {opt.flag}" for name in names]
    return [*reads, *(writes or ["write to stdout"])]


def _already_there(name: str) -> str:
    if name.startswith(STDIN):
        return " (stdout)"
    return ", which is there already" if os.path.lexists(name) else ""


def _whence(name: str) -> str:
    """Where a model that is no folder comes from."""
    _, _, path = name.rpartition("=")
    if os.path.isdir(path):
        return ""
    return " (from the hub's cache)" if is_cached(path) else " (to be fetched from the hub)"


def _size(name: str) -> str:
    """` (1,234 rows)` of a Parquet file, ` (1.2 kB)` of another; nothing of what is not a file."""
    _, _, path = name.rpartition("=")
    if not os.path.isfile(path):
        return ""
    if path.endswith(".parquet"):
        import pyarrow.parquet as pq

        return f" ({pq.read_metadata(path).num_rows:,} rows)"
    return f" ({os.path.getsize(path) / 1e3:,.1f} kB)"
