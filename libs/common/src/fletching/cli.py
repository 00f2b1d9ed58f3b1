"""A tool as a program: its command line, its exit code, every error as two lines.

Standard library and argparse-dataclass alone: `--help` must not wait for pyarrow or torch.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import shutil
import signal
import stat
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import Any, NoReturn

from fletching import colour, help, links
from fletching.container import threads_of_quota
from fletching.errors import InputError, TerminationSignal, UsageError
from fletching.failures import explain, is_failure
from fletching.options.fields import describe
from fletching.options.row_groups import StandardOptions
from fletching.parsing import parse, raw_values
from fletching.report import Report, print_line

__all__ = ["Tool", "help_text", "leave", "main", "row_options"]

STREAMS = ("stdin", "stdout", "stderr")  # in the order of their descriptors


@dataclass(frozen=True, kw_only=True)
class Tool:
    """One command.

    options: its options dataclass. doc: the docstring that --help shows.
    run: does the work; None or 0: done, 1: a quality target was missed.
    check: refuses options that cannot work, without reading anything. open_inputs: opens the
    inputs as `run` does, and refuses what does not fit. --dry-run calls both.
    works_alone: without any argument, where others show their usage.
    package: the distribution that holds it, and page: its documentation; by default those of its
    name.
    """

    name: str
    options: type
    run: Callable[[Any, Report], int | None]  # its first parameter is an instance of `options`
    doc: str
    usage: str
    check: Callable[[Any], object] | None = None
    open_inputs: Callable[[Any, Report], object] | None = None
    works_alone: bool = False
    package: str = ""
    page: str = ""

    @property
    def version(self) -> str:
        """The version of the installed package."""
        of_its_name = "fletching-" + self.name.removeprefix("fletching-")
        return _installed_version(self.package or of_its_name)


def _installed_version(distribution: str) -> str:
    """The version of an installed package; its import costs --help a third of its time."""
    import importlib.metadata

    return importlib.metadata.version(distribution)


def help_text(tool: Tool, everything: bool = False, width: int = 100) -> str:
    """The text of --help, or of --help-all."""
    text = help.render(tool.doc, tool.usage, tool.options, everything=everything, width=width)
    return f"{text}  docs: {tool.page or links.page_of(tool.name)}\n"


def _information(tool: Tool, argv: Sequence[str]) -> str | None:
    """The text for --help, --help-all, --version or --translate anywhere on the line; else None."""
    words = argv[: argv.index("--")] if "--" in argv else argv
    if "--version" in words:
        common = _installed_version("fletching")
        return f"{tool.name} {tool.version} (fletching {common})\n"
    if not {"--help-all", "--help", "-h"}.isdisjoint(words):
        width = min(100, shutil.get_terminal_size((100, 24)).columns)
        text = help_text(tool, everything="--help-all" in words, width=width)
        return colour.paint_help(text) if colour.has_colour(sys.stdout) else text
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


def _keep_to_quota() -> None:
    """Let libraries start as many threads as the quota of a container is worth.

    They would start those of the machine, which then wait for one another.
    """
    threads = threads_of_quota()
    if threads is not None:
        os.environ.setdefault("OMP_NUM_THREADS", str(threads))


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
    _keep_to_quota()
    try:
        code = _answer(tool, argv)
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
        code = _complain(tool.name, error.what, error.fix, code=error.code)
        return code if argv else _show_usage(tool)
    except BaseException as error:
        if os.environ.get("FLETCHING_DEBUG") == "1" or not is_failure(error):
            raise
        return _complain(tool.name, *explain(error), code=1)


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


def _answer(tool: Tool, argv: Sequence[str]) -> int:
    """Show what the line asks to see, or run the tool; the exit code."""
    if not argv and not tool.works_alone and not _has_piped_input():
        return _show_usage(tool)
    information = _information(tool, argv)
    if information is None:
        return _run(tool, argv)
    sys.stdout.write(information)
    return 0


def _run(tool: Tool, argv: Sequence[str]) -> int:
    options: Any = parse(tool.options, argv)
    if options.quiet and options.verbose:
        raise UsageError("--quiet and --verbose contradict each other", "leave one of them out")
    if options.print_config:
        from fletching import config_text

        sys.stdout.write(config_text.as_yaml(options, tool.name))
        return 0
    _check_summary(options.json_summary)
    report = Report(tool.name, quiet=options.quiet, json_summary=options.json_summary)
    with _termination_as_exception(), _details(tool, options):
        code = _work_of(tool, options)(options, report) or 0
        report.finish()
    return code


def _work_of(tool: Tool, options: StandardOptions) -> Callable[[Any, Report], int | None]:
    """What to do: the work, or with --dry-run the common plan where the tool has none itself."""
    shared = StandardOptions.__dataclass_fields__["dry_run"]
    if not options.dry_run or type(options).__dataclass_fields__["dry_run"] is not shared:
        return tool.run
    from fletching.dry_run import show_plan

    return functools.partial(show_plan, tool)


def _details(tool: Tool, options: StandardOptions) -> contextlib.AbstractContextManager[None]:
    """With --verbose: what runs, at the start; what it took, at the end; tracebacks of errors."""
    if not options.verbose:
        return contextlib.nullcontext()
    from fletching.verbose import details

    return details(tool, options)


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


def _complain(tool: str, what: str, fix: str = "", *, code: int) -> int:
    """Print an error; the exit code. A message of a library may have several lines."""
    what = " ".join(line.strip() for line in what.splitlines())
    text = f"{tool}: {what}" + (f"\n  fix: {fix}" if fix else "")
    # Data can hold terminal control characters: they are shown, not obeyed.
    shown = (c if c.isprintable() or c == "\n" else repr(c)[1:-1] for c in text)
    print_line("".join(shown), paint=colour.paint_error)
    try:
        sys.stdout.flush()
    except OSError:  # nobody reads it or the disk is full: Python would complain again at exit
        _discard_stdout()
    return code


def _has_piped_input() -> bool:
    """Is stdin a pipe, a socket or a file, which a tool without arguments may read?"""
    try:
        mode = os.fstat(sys.stdin.fileno()).st_mode
    except (AttributeError, OSError, ValueError):  # an object without a file
        return True
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or stat.S_ISREG(mode)


def _show_usage(tool: Tool) -> int:
    """Print the usage and an example on stderr; the exit code of a wrong command line."""
    print_line(help.short_text(tool.doc, tool.usage, tool.name), paint=colour.paint_help)
    return UsageError.code


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
