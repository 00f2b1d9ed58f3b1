"""A tool as a program: its command line, its exit code, every error as two lines.

Standard library and argparse-dataclass alone: `--help` must not wait for pyarrow or torch.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import os
import re
import shutil
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import Any, NoReturn

from fletching import help
from fletching.errors import InputError, TerminationSignal, UsageError
from fletching.options.fields import describe
from fletching.parsing import parse, raw_values
from fletching.report import Report, print_line

__all__ = ["Tool", "help_text", "leave", "main", "row_options"]

RUST_OS_ERROR = re.compile(r"\(os error (\d+)\)")  # as safetensors and polars tell them
# As pyarrow and torch tell them.
SYSTEM_ERRORS = (errno.ENOMEM, errno.ENOSPC, errno.EFBIG, errno.EIO, errno.EMFILE, errno.EROFS)
# Of Python and of the dynamic linker, where memory or processes are limited.
NO_MEMORY = ("can't start new thread", "failed to map segment from shared object")
SHORT_WRITE = "] . unexpected pos "  # of torch.save, where the disk takes no more
PANIC = "PanicException"  # of polars: no Exception, so that nobody goes on after it
STREAMS = ("stdin", "stdout", "stderr")  # in the order of their descriptors


@dataclass(frozen=True, kw_only=True)
class Tool:
    """One command.

    options: its options dataclass. doc: the docstring that --help shows.
    run: does the work; None or 0: done, 1: a quality target was missed.
    """

    name: str
    options: type
    run: Callable[[Any, Report], int | None]  # its first parameter is an instance of `options`
    doc: str
    usage: str

    @property
    def version(self) -> str:
        """The version of the installed package."""
        return _installed_version("fletching-" + self.name.removeprefix("fletching-"))


def _installed_version(distribution: str) -> str:
    """The version of an installed package; its import costs --help a third of its time."""
    import importlib.metadata

    return importlib.metadata.version(distribution)


def help_text(tool: Tool, everything: bool = False, width: int = 100) -> str:
    """The text of --help, or of --help-all."""
    return help.render(tool.doc, tool.usage, tool.options, everything=everything, width=width)


def _information(tool: Tool, argv: Sequence[str]) -> str | None:
    """The text for --help, --help-all, --version or --translate anywhere on the line; else None."""
    words = argv[: argv.index("--")] if "--" in argv else argv
    if "--version" in words:
        common = _installed_version("fletching")
        return f"{tool.name} {tool.version} (fletching {common})\n"
    if not {"--help-all", "--help", "-h"}.isdisjoint(words):
        width = min(100, shutil.get_terminal_size((100, 24)).columns)
        return help_text(tool, everything="--help-all" in words, width=width)
    if any(word.split("=")[0] == "--translate" for word in words):
        return _translated_config(tool, argv)
    return None


def _translated_config(tool: Tool, argv: Sequence[str]) -> str | None:
    """The config for --translate FILE; None for a tool without that option, which refuses it."""
    options = describe(tool.options)
    if "translate" not in options:
        return None
    from fletching import config_translation

    path = raw_values(options, argv)["translate"]
    return config_translation.translate(path, tool.name, tool.options)


def row_options(options: object) -> dict[str, Any]:
    """The options that can change rows and have a value, by field name, for the lineage."""
    values = {}
    for name, opt in describe(type(options)).items():
        value = getattr(options, name)
        if opt.details["rows"] and value not in (None, (), ""):
            values[name] = list(value) if isinstance(value, tuple) else value
    return values


def main(tool: Tool, argv: Sequence[str] | None = None) -> int:
    """Run a tool: the exit code, every error as two lines, never a traceback.

    Without `argv`, as a program: the process ends here. FLETCHING_DEBUG=1 in the environment raises
    unexpected errors instead.
    """
    if argv is None:
        leave(main(tool, sys.argv[1:]))
    argv = list(argv)
    _replace_closed_streams()
    try:
        information = _information(tool, argv)
        if information is not None:
            sys.stdout.write(information)
            sys.stdout.flush()
            return 0
        code = _run(tool, argv)
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # `| head` is no error
        _discard_stdout()
        return 0
    except KeyboardInterrupt:
        return _complain(tool.name, "interrupted", code=130)
    except TerminationSignal as terminated:
        return _complain(tool.name, "terminated", code=terminated.code)
    except InputError as error:
        if os.environ.get("FLETCHING_DEBUG") == "1":
            raise
        return _complain(tool.name, error.what, error.fix, code=error.code)
    except BaseException as error:
        if os.environ.get("FLETCHING_DEBUG") == "1" or not _is_failure(error):
            raise
        return _complain(tool.name, *_explain(error), code=1)


def leave(code: int) -> NoReturn:
    """End the process without taking Python down.

    A thread of pyarrow reads a CSV ahead. Where the CSV is refused, or not read to its end, that
    thread would come back into a Python that is gone: the process aborts (134) or hangs.
    """
    atexit._run_exitfuncs()
    for stream in filter(None, (sys.stdout, sys.stderr)):  # None: closed before the start
        with contextlib.suppress(OSError, ValueError):  # reported by now, or closed
            stream.flush()
    os._exit(code)


def _replace_closed_streams() -> None:
    """Give closed standard streams a descriptor: the next file opened would take its number.

    Reading finds nothing, writing to stdout fails, and what goes to stderr is lost.
    """
    for number, name in enumerate(STREAMS):
        try:
            os.fstat(number)
        except OSError:
            access = os.O_WRONLY if name == "stderr" else os.O_RDONLY
            os.open(os.devnull, access)  # takes the lowest number that is free: this one
        if getattr(sys, name) is None:
            mode = "r" if name == "stdin" else "w"
            stream = open(number, mode, encoding="utf-8", errors="replace", closefd=False)
            setattr(sys, name, stream)


def _run(tool: Tool, argv: Sequence[str]) -> int:
    options: Any = parse(tool.options, argv)
    _check_summary(options.json_summary)
    report = Report(tool.name, quiet=options.quiet, json_summary=options.json_summary)
    with _termination_as_exception():
        code = tool.run(options, report) or 0
        report.finish()
    return code


def _check_summary(path: str | None) -> None:
    """Refuse a --json-summary that could not be written at the end of the run."""
    if not path:
        return
    folder = os.path.dirname(path) or "."
    if not os.path.isdir(folder):
        what = f"the folder of --json-summary {path} does not exist"
        raise UsageError(what, f"mkdir -p {folder}")
    if os.path.isdir(path):
        example = os.path.join(path, "summary.json")
        raise UsageError(f"--json-summary {path} is a folder", f"name a file in it: {example}")


def _is_failure(error: BaseException) -> bool:
    return isinstance(error, Exception) or type(error).__name__ == PANIC


def _explain(error: BaseException) -> tuple[str, str]:
    """(what is wrong, how to fix it) for an exception of Python or of a library."""
    if isinstance(error, OSError) and error.errno in (errno.ENOMEM, errno.EAGAIN):
        error = MemoryError()
    if isinstance(error, OSError) and error.strerror:
        where = f" ({error.filename})" if error.filename else ""
        what = error.strerror.lower() + where
        return what, "check the path, its rights and the free space"
    if isinstance(error, MemoryError):
        return "out of memory", "use --limit, smaller batches or a machine with more memory"
    first_line = f"{type(error).__name__}: {error}".splitlines()[0]
    number = _system_error(str(error) if isinstance(error, ImportError) else first_line)
    if number == errno.ENOMEM:
        return _explain(MemoryError())
    if number:
        return _explain(OSError(number, os.strerror(number)))
    return f"unexpected failure, {first_line}", _save_traceback(error)


def _system_error(message: str) -> int | None:
    """The errno that the error of a library tells in its words."""
    match = RUST_OS_ERROR.search(message)
    if match:
        return int(match[1])
    if any(phrase in message for phrase in NO_MEMORY):
        return errno.ENOMEM
    if SHORT_WRITE in message:
        return errno.ENOSPC
    return next((each for each in SYSTEM_ERRORS if os.strerror(each) in message), None)


def _save_traceback(error: BaseException) -> str:
    """Write the traceback to a new file in the temporary folder; how to report it."""
    import tempfile
    import traceback

    try:
        with tempfile.NamedTemporaryFile(
            "w", prefix="fletching-traceback-", suffix=".txt", delete=False, encoding="utf-8"
        ) as file:
            file.writelines(traceback.format_exception(error))
    except OSError:  # no temporary folder, or a full disk
        return "run again with FLETCHING_DEBUG=1 and report the traceback"
    return f"report it with the traceback in {file.name}"


def _complain(tool: str, what: str, fix: str = "", *, code: int) -> int:
    """Print an error; the exit code. A message of a library may have several lines."""
    what = " ".join(line.strip() for line in what.splitlines())
    text = f"{tool}: {what}" + (f"\n  fix: {fix}" if fix else "")
    # Data can hold terminal control characters: they are shown, not obeyed.
    shown = (c if c.isprintable() or c == "\n" else repr(c)[1:-1] for c in text)
    print_line("".join(shown))
    try:
        sys.stdout.flush()
    except OSError:  # nobody reads it or the disk is full: Python would complain again at exit
        _discard_stdout()
    return code


def _discard_stdout() -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


@contextlib.contextmanager
def _termination_as_exception() -> Iterator[None]:
    """SIGTERM unwinds like Ctrl-C, so that outputs are withdrawn; a second one kills at once."""

    def terminate(number: int, frame: FrameType | None) -> None:
        """Raise, and leave the next signal to the system."""
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        raise TerminationSignal

    previous = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
