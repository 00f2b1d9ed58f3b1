"""Completion of every command in bash, zsh and fish: `fletching completion SHELL`, by shtab."""

from __future__ import annotations

import argparse
import importlib.metadata
from collections.abc import Iterator

from fletching.cli import Tool
from fletching.errors import InputError, UsageError
from fletching.options.fields import Option, describe
from fletching.shards.commands import TOOLS as OF_SHARDS

SHELLS = ("bash", "zsh", "fish")
ENTRY = "fletching"
FOLDERS = ("DIR", "DIR,DIR", "M", "MODEL")  # placeholders of values that name folders
FILES = ("FILE", "OUT", "EXAMPLES", "TEXTS", "TABLE", "INPUT", "PAGE", "PATH", "FILE|MODEL")
INFORMATION = {
    "--help": "the options that matter",
    "--help-all": "every option",
    "--version": "the version",
}


def installed_tools() -> Iterator[Tool]:
    """The tools of all installed packages `fletching-NAME`, by the name of their programs.

    A package whose tool cannot be imported is left out.
    """
    entries = importlib.metadata.entry_points(group="console_scripts")
    named = {entry.name: entry for entry in entries if _is_ours(entry)}
    for name in sorted(named):
        try:
            module = importlib.import_module(named[name].module)
        except ImportError:
            continue
        if isinstance(getattr(module, "TOOL", None), Tool):
            yield module.TOOL


def _is_ours(entry: importlib.metadata.EntryPoint) -> bool:
    return entry.dist is not None and entry.dist.name.startswith(f"{ENTRY}-")


def find_tool(name: str) -> Tool:
    """The tool `name` or `fletching-name`. Raises UsageError."""
    tools = {tool.name.removeprefix(f"{ENTRY}-"): tool for tool in installed_tools()}
    tool = tools.get(name.removeprefix(f"{ENTRY}-"))
    if tool is None:
        raise UsageError(
            f"{name!r} is no tool that is installed", "pass one of " + ", ".join(tools)
        )
    return tool


def script(shell: str) -> str:
    """What a shell evaluates to complete all tools, and `fletching NAME`.

    Raises UsageError for another shell, InputError where shtab is missing.
    """
    if shell not in SHELLS:
        raise UsageError(f"{shell!r} is no shell that is known", f"pass one of {', '.join(SHELLS)}")
    try:
        import shtab
    except ImportError:
        raise InputError("shtab is not installed", "pip install shtab") from None

    tools = list(installed_tools())
    parsers = [_dispatcher(tools), *(parser_of(tool) for tool in tools)]
    scripts: list[str] = [shtab.complete(parser, shell=shell) for parser in parsers]
    # `#compdef` names the one program of a file that zsh loads by itself.
    lines = [line for text in scripts for line in text.splitlines() if _is_code(line)]
    return "\n".join(lines) + "\n"


def _is_code(line: str) -> bool:
    """Is it no remark of shtab on a file of one program?"""
    return not line.startswith("#")


def parser_of(tool: Tool) -> argparse.ArgumentParser:
    """The options of a tool as argparse has them, with what shtab completes their values by."""
    parser = argparse.ArgumentParser(prog=tool.name, add_help=False)
    _add_options(parser, tool)
    return parser


def _dispatcher(tools: list[Tool]) -> argparse.ArgumentParser:
    """`fletching`: a subcommand a tool, and its own."""
    parser = argparse.ArgumentParser(prog=ENTRY, add_help=False)
    commands = parser.add_subparsers()
    names = [tool.name.removeprefix(f"{ENTRY}-") for tool in tools]
    for name, tool in zip(names, tools, strict=True):
        _add_options(commands.add_parser(name, add_help=False, help=_summary(tool)), tool)
    for word, tool in OF_SHARDS.items():
        _add_options(commands.add_parser(word, add_help=False, help=_summary(tool)), tool)
    shells = commands.add_parser("completion", add_help=False, help="completion of a shell")
    shells.add_argument("shell", choices=SHELLS)
    for word, text in {"schema-config": "the JSON schema of configs", "help": "--help"}.items():
        command = commands.add_parser(word, add_help=False, help=f"{text} of a tool")
        command.add_argument("tool", choices=names)
    return parser


def _summary(tool: Tool) -> str:
    """`look at rows, check them and convert them` of the docstring's first line."""
    first, _, _ = tool.doc.strip().partition("\n")
    return _escaped(first.partition(": ")[2].rstrip("."))


def _add_options(parser: argparse.ArgumentParser, tool: Tool) -> None:
    for opt in describe(tool.options).values():
        _add(parser, opt)
    for flag, text in INFORMATION.items():
        parser.add_argument(flag, action="store_true", help=text)


def _add(parser: argparse.ArgumentParser, opt: Option) -> None:
    help_text = _escaped(opt.details["help"])
    if opt.positional:
        action = parser.add_argument(opt.name, nargs="*", help=help_text, metavar=opt.metavar)
    else:
        short = [opt.details["short"]] if opt.details.get("short") else []
        if opt.scalar is bool:
            negated = [opt.negated_flag]
            parser.add_argument(*short, opt.flag, *negated, action="store_true", help=help_text)
            return
        action = parser.add_argument(
            *short,
            opt.flag,
            metavar=opt.metavar,
            choices=opt.choices or None,
            help=help_text,
        )
    _complete_paths(action, opt)


def _complete_paths(action: argparse.Action, opt: Option) -> None:
    """Say that values are files or folders; what shtab reads is no attribute of argparse's."""
    import shtab

    if opt.metavar in FILES or opt.positional:
        action.complete = shtab.FILE  # type: ignore[attr-defined]
    elif opt.metavar in FOLDERS:
        action.complete = shtab.DIRECTORY  # type: ignore[attr-defined]


def _escaped(text: str) -> str:
    """A text in which argparse expands nothing."""
    return text.replace("%", "%%")
