"""A tool as a program: its command line, its exit code, every error as two lines.

Standard library and argparse-dataclass alone: `--help` must not wait for pyarrow or torch.
"""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from fletching import help
from fletching.errors import InputError, Terminated, UsageError
from fletching.options.fields import describe
from fletching.parsing import parse
from fletching.report import Report

__all__ = ["Tool", "help_text", "main", "row_options"]


@dataclass(frozen=True)
class Tool:
    """One command: its name, options, docstring (shown by --help) and work."""

    name: str
    options: type
    run: Callable[
        [Any, Report], int | None
    ]  # None or 0: done; 1: a target that was asked for was missed
    doc: str
    usage: str

    @property
    def version(self) -> str:
        return importlib.metadata.version(f"fletching-{self.name}")


def help_text(tool: Tool, everything: bool = False, width: int = 100) -> str:
    return help.text(tool.doc, tool.usage, tool.options, everything, width)


def _answer(tool: Tool, argv: Sequence[str]) -> str | None:
    """--help, --help-all and --version, wherever they stand on the line."""
    words = argv[: argv.index("--")] if "--" in argv else argv
    if "--version" in words:
        return f"{tool.name} {tool.version} (fletching {importlib.metadata.version('fletching')})\n"
    if "--help-all" in words or "--help" in words or "-h" in words:
        return help_text(
            tool, "--help-all" in words, min(100, shutil.get_terminal_size((100, 24)).columns)
        )
    return None


def row_options(options: Any) -> dict[str, Any]:
    """The options that can change rows and differ from "not given", for the lineage."""
    kept = {}
    for name, opt in describe(type(options)).items():
        value = getattr(options, name)
        if opt.details["rows"] and value not in (None, (), ""):
            kept[name] = list(value) if isinstance(value, tuple) else value
    return kept


def main(tool: Tool, argv: Sequence[str] | None = None) -> int:
    """Run a tool as a program: the exit code, every error as two lines, never a traceback."""
    argv = list(sys.argv[1:] if argv is None else argv)
    try:
        answer = _answer(tool, argv)
        if answer is not None:
            sys.stdout.write(answer)
            sys.stdout.flush()
            return 0
        options: Any = parse(tool.options, argv)
        _check_summary(options.json_summary)
        report = Report(tool.name, quiet=options.quiet, json_summary=options.json_summary)
        with _signals():
            code = tool.run(options, report) or 0
        report.finish()
        return code
    except BrokenPipeError:  # `| head` is no error
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 0
    except KeyboardInterrupt:
        return _complain(tool.name, "interrupted", "", 130)
    except Terminated:
        return _complain(tool.name, "terminated", "", 143)
    except Exception as error:
        if os.environ.get("FLETCHING_DEBUG") == "1":
            raise
        return _complain(tool.name, *_explain(error))


def _check_summary(path: str | None) -> None:
    """It is written last: what would fail then must fail now."""
    folder = os.path.dirname(path or "") or "."
    if path and not os.path.isdir(folder):
        raise UsageError(
            f"the folder of --json-summary {path} does not exist", f"mkdir -p {folder}"
        )
    if path and os.path.isdir(path):
        raise UsageError(
            f"--json-summary {path} is a folder",
            f"name a file in it: {os.path.join(path, 'summary.json')}",
        )


def _explain(error: Exception) -> tuple[str, str, int]:
    if isinstance(error, InputError):
        return error.what, error.fix, error.code
    if isinstance(error, OSError) and error.strerror:
        where = f" ({error.filename})" if error.filename else ""
        return (
            f"{error.strerror.lower()}{where}",
            "check the path, its rights and the free space",
            1,
        )
    if isinstance(error, MemoryError):
        return "out of memory", "use --limit, smaller batches or a machine with more memory", 1
    told = f"{type(error).__name__}: {error}".splitlines()[0]
    return (
        f"unexpected failure, {told}",
        "run again with FLETCHING_DEBUG=1 and report the traceback",
        1,
    )


def _complain(tool: str, what: str, fix: str, code: int) -> int:
    # Data can hold terminal control characters; they are shown, not obeyed.
    text = f"{tool}: {what}" + (f"\n  fix: {fix}" if fix else "")
    print(
        "".join(c if c.isprintable() or c == "\n" else repr(c)[1:-1] for c in text), file=sys.stderr
    )
    try:
        sys.stdout.flush()
    except OSError:  # nobody reads it or the disk is full: Python would complain again on leaving
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    return code


@contextmanager
def _signals() -> Iterator[None]:
    """SIGTERM unwinds like Ctrl-C, so that outputs are withdrawn; a second one kills at once."""

    def terminate(number: int, frame: Any) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        raise Terminated

    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
