"""fletching: every tool under one name.

  fletching                    the tools that are installed
  fletching NAME [ARGUMENT…]   run a tool: `fletching tune faq.csv` is `fletching-tune faq.csv`
  fletching help NAME          its --help
  fletching completion SHELL   completion of every tool: eval "$(fletching completion bash)" in
                               ~/.bashrc; zsh and fish likewise
  fletching schema-config NAME the JSON schema of its --config, for editors
  fletching shard|status|join  shards of a command in a folder: run one, look at all, join them

NAME is a program `fletching-NAME` or a tool by its name (csv2pairs). The folder of this program is
searched first, then PATH. The tool takes this program's place: signals, exit code, stdin, stdout
and stderr are its.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Sequence
from typing import NoReturn

from fletching.colour import paint_error
from fletching.errors import InputError, UsageError
from fletching.links import SOURCE
from fletching.report import print_line, printable

PREFIX = "fletching-"
BUILT_IN = {"completion": "SHELL", "schema-config": "NAME"}
OF_SHARDS = ("shard", "status", "join")
# Python ignores these, and a program that is executed inherits what is ignored: `| head` would not
# end one that is no Python.
IGNORED_SIGNALS = ("SIGPIPE", "SIGXFSZ")


def main(argv: Sequence[str] | None = None) -> int:
    """The program: does not return where it runs a tool, else the exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    if words[:1] == ["help"] and len(words) > 1:
        words = [words[1], "--help"]
    try:
        if not words or words[0] in ("--help", "-h", "help"):
            sys.stdout.write(overview())
            sys.stdout.flush()
            return 0
        if words[0] == "--version":
            sys.stdout.write(version_line())
            sys.stdout.flush()
            return 0
        if words[0] in BUILT_IN:
            sys.stdout.write(_built_in(words))
            sys.stdout.flush()
            return 0
        if words[0] in OF_SHARDS:
            return _run_of_shards(words)
        _execute(find_program(words[0]), words[1:])
    except BrokenPipeError:  # `| head` is no error
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 0
    except InputError as error:
        print_line(f"fletching: {error.what}\n  fix: {error.fix}", paint=paint_error)
        return error.code


def _built_in(words: Sequence[str]) -> str:
    """What `completion SHELL` or `schema-config NAME` prints. Raises UsageError."""
    from fletching import completion, config_schema

    command, *values = words
    if len(values) != 1:
        raise UsageError(f"{command} takes one word", f"fletching {command} {BUILT_IN[command]}")
    if command == "completion":
        return completion.script(values[0])
    tool = completion.find_tool(values[0])
    return config_schema.as_text(tool.options, tool.name)


def _run_of_shards(words: Sequence[str]) -> int:
    """The exit code of `shard`, `status` or `join`."""
    from fletching import cli
    from fletching.shards.commands import TOOLS

    return cli.main(TOOLS[words[0]], words[1:])


def _execute(program: str, arguments: Sequence[str]) -> NoReturn:
    """Replace this process. Raises InputError where the system cannot run the program."""
    for name in IGNORED_SIGNALS:
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_DFL)
    try:
        os.execv(program, [program, *arguments])
    except OSError as error:
        raise InputError(
            f"{program} cannot be run ({error.strerror})", "install it again, or see its first line"
        ) from None


# --- programs ------------------------------------------------------------------------------------


def search_folders() -> list[str]:
    """The folder of this program, as called and behind links, then those of PATH."""
    program = os.path.abspath(sys.argv[0])
    beside = [os.path.dirname(program), os.path.dirname(os.path.realpath(program))]
    if __name__ == "__main__" or not shutil.which(program):  # python -m fletching.dispatch
        beside = [os.path.dirname(sys.executable)]
    folders = [*beside, *os.get_exec_path()]
    return list(dict.fromkeys(folder for folder in folders if folder))


def find_program(name: str) -> str:
    """The path of the program of a tool. Raises UsageError with the nearest names."""
    path = os.pathsep.join(search_folders())
    program = shutil.which(PREFIX + name, path=path) if _is_plain(name) else None
    if program:
        return program
    summaries = summaries_of_tools()
    if name in summaries:  # any other program that PATH holds, such as `ls`, is not ours
        program = shutil.which(name, path=path)
    if program:
        return program
    if name in summaries:
        raise InputError(
            f"{name} is installed, but its program is not beside this one or on PATH",
            f"pip install --force-reinstall --no-deps {PREFIX}{name.removeprefix(PREFIX)}",
        )
    raise UsageError(f"{name!r} is no tool of Fletching that is installed", _nearest(name))


def _is_plain(name: str) -> bool:
    """Is it a name, and neither a path nor an option?"""
    return bool(name) and os.sep not in name and not name.startswith("-")


def _nearest(name: str) -> str:
    """`did you mean tune?`, or where the list is."""
    import difflib

    names = installed_names()
    close = difflib.get_close_matches(name, names, 3, cutoff=0.5)
    if close:
        return f"did you mean {' or '.join(close)}?"
    return "`fletching` lists them: " + ", ".join(names)


def summaries_of_tools() -> dict[str, str]:
    """What the metadata of the installed packages say: a line by the name of a program.

    A package `fletching-NAME` has the program `NAME` or `fletching-NAME`.
    """
    import importlib.metadata  # an import that costs as much as Python's start

    summaries = {}
    for script in importlib.metadata.entry_points(group="console_scripts"):
        package = script.dist
        if package is None or not package.name.startswith(PREFIX):
            continue
        # The whole metadata, with a README in them, would be parsed for one line.
        lines = (package.read_text("METADATA") or "").splitlines()
        stated = [line for line in lines if line.startswith("Summary: ")]
        summaries[script.name] = stated[0].removeprefix("Summary: ") if stated else ""
    return summaries


def programs_beside() -> list[str]:
    """Every program `fletching-NAME` of the searched folders, by file name."""
    names = set()
    for folder in search_folders():
        try:
            entries = os.listdir(folder)
        except OSError:  # PATH may name what is not there
            continue
        paths = [(name, os.path.join(folder, name)) for name in entries if _has_prefix(name)]
        names |= {name for name, path in paths if shutil.which(path)}
    return sorted(names)


def _has_prefix(name: str) -> bool:
    return name.startswith(PREFIX) and name != PREFIX


def installed_names() -> list[str]:
    """What NAME may be, sorted."""
    programs = {*summaries_of_tools(), *programs_beside()}
    return sorted(program.removeprefix(PREFIX) for program in programs)


# --- texts ---------------------------------------------------------------------------------------


def overview() -> str:
    """The list of tools, a line each; those of other packages by name alone."""
    summaries = dict.fromkeys(programs_beside(), "") | summaries_of_tools()
    lines = {name.removeprefix(PREFIX): text for name, text in summaries.items()}
    width = max(map(len, lines), default=0)
    listed = [f"  {name.ljust(width)}  {lines[name]}".rstrip() for name in sorted(lines)]
    usage = [
        "usage: fletching NAME [ARGUMENT...]",
        "",
        "Runs a tool that is installed; `fletching help NAME` is its --help.",
        "",
    ]
    more = [
        "",
        "fletching completion bash|zsh|fish    completes all of them",
        "fletching schema-config NAME          the JSON schema of its --config, for editors",
        "fletching shard DIR -- COMMAND        one shard of a command, with its record and log",
        "fletching status DIR                  which shards are done, running, failed, missing",
        "fletching join DIR -o OUT             their outputs as the file of one run",
        f"docs: {SOURCE}",
    ]
    nothing = ["  no tool is installed: pip install fletching-csv2pairs, for example"]
    return printable("\n".join([*usage, *(listed or nothing), *more])) + "\n"


def version_line() -> str:
    """`fletching 0.1.0`."""
    import importlib.metadata

    return f"fletching {importlib.metadata.version('fletching')}\n"


if __name__ == "__main__":
    sys.exit(main())
