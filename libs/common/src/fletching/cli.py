"""A command line from a dataclass: options, help, config files, exit codes and signals.

argparse-dataclass builds the parser. This layer gives it what it lacks: `X | None`, lists, choices,
both forms of a flag, ranges, config files, suggestions for typing errors, `--help` by group. It does so
through a shadow dataclass of plain optional strings, whose values are converted here, so that a value
from the command line and one from a config file pass the same checks. Standard library only, besides
argparse-dataclass: `--help` must not wait for pyarrow or torch.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import difflib
import importlib.metadata
import json
import math
import os
import shutil
import signal
import sys
import textwrap
import types
import typing
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import MISSING, dataclass
from typing import Any, Literal, NoReturn

import argparse_dataclass

from fletching.errors import Refused, Terminated, Usage
from fletching.report import Report


@dataclass(frozen=True)
class Tool:
    """One command: its name, options, docstring (shown by --help) and work."""

    name: str
    options: type
    run: Callable[[Any, Report], int | None]  # None or 0: done; 1: a target that was asked for was missed
    doc: str
    usage: str

    @property
    def version(self) -> str:
        return importlib.metadata.version(f"fletching-{self.name}")


# --- options -------------------------------------------------------------------------------------


def option(
    default: Any,
    help: str,
    *,
    metavar: str = "",
    short: str = "",
    low: float | None = None,
    high: float | None = None,
    group: str = "other",
    advanced: bool = False,
    rows: bool = True,
) -> Any:
    """A dataclass field that is an option.

    low, high: smallest and largest value allowed. advanced: shown by --help-all alone.
    rows: can this option change the rows written? Only then does it enter the lineage.
    """
    details = dict(help=help, metavar=metavar, short=short, low=low, high=high)
    return dataclasses.field(
        default=default, metadata=details | dict(group=group, advanced=advanced, rows=rows)
    )


def required(help: str, **details: Any) -> Any:
    """An option that must be given. It is marked so in --help."""
    return option(REQUIRED, help, **details)


def positional(help: str, metavar: str) -> Any:
    """The arguments without a flag: any number, anywhere on the line."""
    details = dict(help=help, metavar=metavar, group="input and output", advanced=False, rows=False)
    return dataclasses.field(default=(), metadata=details | dict(positional=True))


REQUIRED: Any = "<required>"

# The groups that every tool shares stand behind the tool's own in --help.
LAST_GROUPS = {"input and output": 1, "model and encoding": 2, "running": 3}


@dataclass(frozen=True)
class Option:
    """An option as resolved from a field's annotation and metadata."""

    name: str
    scalar: type  # of one value: str, int, float or bool
    choices: tuple[str, ...]
    is_list: bool
    default: Any
    details: typing.Mapping[str, Any]

    @property
    def flag(self) -> str:
        return "--" + self.name.replace("_", "-")

    @property
    def positional(self) -> bool:
        return self.details.get("positional", False)

    @property
    def metavar(self) -> str:
        by_type = {str: "TEXT", int: "N", float: "X", bool: ""}
        return self.details.get("metavar") or "|".join(self.choices) or by_type[self.scalar]

    def convert(self, text: str) -> Any:
        """One value from its text, or Usage."""
        if self.choices and text not in self.choices:
            guess = difflib.get_close_matches(text, self.choices, 1)
            fix = f"did you mean {guess[0]}?" if guess else "pass one of " + ", ".join(self.choices)
            raise Usage(f"{self.flag} {text!r} is not a known choice", fix)
        if self.scalar is str:
            return text
        try:
            value = self.scalar(text)
        except ValueError:
            kind = "a whole number" if self.scalar is int else "a number"
            raise Usage(f"{self.flag} {text!r} is not {kind}", f"pass {kind}, e.g. {self._example()}") from None
        low, high = self.details["low"], self.details["high"]
        if not math.isfinite(value):
            raise Usage(f"{self.flag} {text} is not finite", f"pass a number, e.g. {self._example()}")
        if low is not None and value < low:
            raise Usage(f"{self.flag} {text} is below {low:g}", f"pass {self._range()}")
        if high is not None and value > high:
            raise Usage(f"{self.flag} {text} is above {high:g}", f"pass {self._range()}")
        return value

    def _range(self) -> str:
        low, high = self.details["low"], self.details["high"]
        return f"a value from {low:g} to {high:g}" if None not in (low, high) else f"at {'least' if high is None else 'most'} {low if high is None else high:g}"

    def _example(self) -> str:
        if self.default not in (None, REQUIRED, ()):
            return f"{self.flag} {self.default}"
        return f"{self.flag} {self.scalar(1)}"

    def split(self, text: str) -> list[Any]:
        """The values of a list option: `a,b`; a name with a comma is quoted, as in CSV: `"a,b",c`."""
        return [self.convert(item.strip()) for item in next(csv.reader([text], skipinitialspace=True), [])]


def describe(options: type) -> dict[str, Option]:
    """The options of a dataclass by field name, in order."""
    hints = typing.get_type_hints(options)
    return {field.name: _resolve(field, hints[field.name]) for field in dataclasses.fields(options)}


def _resolve(field: dataclasses.Field, hint: Any) -> Option:
    if typing.get_origin(hint) in (types.UnionType, typing.Union):  # X | None
        hint = next(arm for arm in typing.get_args(hint) if arm is not type(None))
    is_list = typing.get_origin(hint) is tuple  # tuple[X, ...]
    if is_list:
        hint = typing.get_args(hint)[0]
    choices = typing.get_args(hint) if typing.get_origin(hint) is Literal else ()
    return Option(field.name, str if choices else hint, choices, is_list, field.default, field.metadata)


# --- parsing -------------------------------------------------------------------------------------


class _Collect(argparse.Action):
    """Gathers the values of a repeated option."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: Any = None) -> None:
        before = getattr(namespace, self.dest)
        setattr(namespace, self.dest, ([] if before is MISSING else before) + [values])


class _Parser(argparse_dataclass.ArgumentParser):
    """argparse-dataclass on the shadow dataclass, with our actions and our errors."""

    def __init__(self, options: dict[str, Option], shadow: type) -> None:
        self.table = options
        super().__init__(shadow, add_help=False, allow_abbrev=False)

    def add_argument(self, *args: Any, **kwargs: Any) -> Any:
        found = self.table.get(kwargs.get("dest") or args[0].lstrip("-").replace("-", "_"))
        if found and found.scalar is bool:
            kwargs.pop("type")
            kwargs["action"] = argparse.BooleanOptionalAction
        elif found and found.is_list and not found.positional:
            kwargs["action"] = _Collect
        return super().add_argument(*args, **kwargs)

    def given(self, argv: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
        """The raw values that stand on the line, and the words nobody claimed."""
        # The base class's parse_known_args builds the dataclass; argparse's own gives the namespace.
        self.parse_known_args = types.MethodType(argparse.ArgumentParser.parse_known_args, self)
        namespace, extra = self.parse_known_intermixed_args(argv)
        return {name: value for name, value in vars(namespace).items() if value not in (MISSING, [])}, extra

    def error(self, message: str) -> NoReturn:
        raise Usage(message.removeprefix("argument "), "see --help")


def _shadow(options: dict[str, Option]) -> type:
    """A dataclass of plain strings that argparse-dataclass understands."""
    fields: list[Any] = []
    for opt in options.values():
        if opt.positional:
            metadata = {"args": [opt.name], "nargs": "*", "type": str}
        else:
            short = [opt.details["short"]] if opt.details.get("short") else []
            metadata = {"args": [*short, opt.flag], "type": str}
        fields.append((opt.name, str, dataclasses.field(default="", metadata=metadata)))
    return dataclasses.make_dataclass("Shadow", fields)


def parse(tool: Tool, argv: Sequence[str]) -> Any:
    """The options of `tool`: the command line over the config file over the defaults."""
    options = describe(tool.options)
    given, extra = _Parser(options, _shadow(options)).given(argv)
    if extra:
        _unknown(extra[0].split("=")[0], [opt.flag for opt in options.values() if not opt.positional])
    values = _from_config(given["config"], options) if given.get("config") else {}
    for name, raw in given.items():
        opt = options[name]
        if opt.positional:
            values[name] = tuple(raw)
        elif opt.is_list:
            values[name] = tuple(value for text in raw for value in opt.split(text))
        else:
            values[name] = raw if opt.scalar is bool else opt.convert(raw)
    for opt in options.values():
        if opt.default is REQUIRED and opt.name not in values:
            raise Usage(f"{opt.flag} is missing", f"pass {opt.flag} {opt.metavar}: {opt.details['help']}")
    return tool.options(**values)


def _unknown(word: str, known: Sequence[str], where: str = "") -> NoReturn:
    guess = difflib.get_close_matches(word, known, 1, 0.6)
    fix = f"did you mean {guess[0]}?" if guess else "--help-all lists every option"
    raise Usage(f"{where}unknown option {word}", fix)


def _from_config(path: str, options: dict[str, Option]) -> dict[str, Any]:
    values = {}
    for key, raw in _load_config(path).items():
        name = key.replace("-", "_")
        if name not in options or name == "config":
            _unknown(key, [opt.flag[2:] for opt in options.values()], f"{path}: ")
        try:
            values[name] = _config_value(options[name], raw)
        except Usage as error:
            raise Usage(f"{path}: {error.what}", error.fix) from None
    return values


def _config_value(opt: Option, raw: Any) -> Any:
    if raw is None:
        if opt.default is not None:
            raise Usage(f"{opt.flag[2:]} is null", "leave the key out to get the default")
        return None
    if opt.is_list:
        items = raw if isinstance(raw, list) else opt.split(str(raw))
        return tuple(opt.convert(str(item)) for item in items)
    if opt.scalar is bool or isinstance(raw, bool):
        if not (opt.scalar is bool and isinstance(raw, bool)):
            wanted = "true or false" if opt.scalar is bool else opt.metavar
            raise Usage(f"{opt.flag[2:]} is {json.dumps(raw)}", f"write {wanted}")
        return raw
    if isinstance(raw, (list, dict)):
        raise Usage(f"{opt.flag[2:]} is {json.dumps(raw)}, but takes one value", f"write {opt.metavar}")
    return opt.convert(str(raw))


def _load_config(path: str) -> dict[str, Any]:
    """JSON, YAML or TOML by extension."""
    try:
        with open(path, "rb") as file:
            content = file.read()
    except OSError as error:
        raise Usage(f"cannot read --config {path}: {error.strerror}", "check the path") from None
    suffix = os.path.splitext(path)[1].lower()
    try:
        if suffix == ".toml":
            import tomllib

            values = tomllib.loads(content.decode())
        elif suffix in (".yaml", ".yml"):
            import yaml

            values = yaml.safe_load(content)
        elif suffix == ".json":
            values = json.loads(content)
        else:
            raise Usage(f"--config {path} has no known extension", "name it .json, .yaml or .toml")
    except Usage:
        raise
    except Exception as error:  # each parser has its own class; all of them print well
        raise Usage(f"--config {path} cannot be parsed: {error}", f"correct the {suffix[1:]}") from None
    if not isinstance(values, dict):
        raise Usage(f"--config {path} holds no options", 'write option names and values, e.g. {"seed": 1}')
    return values


# --- help ----------------------------------------------------------------------------------------


def help_text(tool: Tool, everything: bool = False, width: int = 100) -> str:
    """The docstring, then the options by group: the ones that matter, or all of them."""
    lines = [inspect_doc(tool.doc), "", f"usage: {tool.usage}"]
    groups: dict[str, list[Option]] = {}
    for opt in describe(tool.options).values():
        if everything or not opt.details["advanced"]:
            groups.setdefault(opt.details["group"], []).append(opt)
    for group in sorted(groups, key=lambda group: LAST_GROUPS.get(group, 0)):
        lines += ["", group]
        for opt in groups[group]:
            lines += _help_lines(opt, width)
    lines += ["", "  --help, --help-all, --version" if everything else "  --help-all: every option    --version"]
    return "\n".join(lines) + "\n"


def inspect_doc(doc: str) -> str:
    first, _, rest = doc.strip().partition("\n")
    return first + "\n" + textwrap.dedent(rest).rstrip()


def _help_lines(opt: Option, width: int) -> list[str]:
    if opt.positional:
        head = opt.metavar
    else:
        short = f"{opt.details['short']}, " if opt.details.get("short") else ""
        negated = "no-" if opt.scalar is bool and opt.default is True else ""
        head = f"{short}--{negated}{opt.flag[2:]} {opt.metavar}".rstrip()
    text = opt.details["help"]
    if opt.default is REQUIRED:
        text += " (required)"
    elif opt.scalar is not bool and opt.default not in (None, (), ""):
        shown = ",".join(map(str, opt.default)) if opt.is_list else opt.default
        text += f" [{shown}]"
    column = 26
    wrapped = textwrap.wrap(text, width - column) or [""]
    head = "  " + head
    first = [head + " " * (column - len(head)) + wrapped.pop(0)] if len(head) < column - 1 else [head]
    return first + [" " * column + line for line in wrapped]


def _answer(tool: Tool, argv: Sequence[str]) -> str | None:
    """--help, --help-all and --version, wherever they stand on the line."""
    words = argv[: argv.index("--")] if "--" in argv else argv
    if "--version" in words:
        return f"{tool.name} {tool.version} (fletching {importlib.metadata.version('fletching')})\n"
    if "--help-all" in words or "--help" in words or "-h" in words:
        return help_text(tool, "--help-all" in words, min(100, shutil.get_terminal_size((100, 24)).columns))
    return None


# --- running -------------------------------------------------------------------------------------


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
        options = parse(tool, argv)
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


def _explain(error: Exception) -> tuple[str, str, int]:
    if isinstance(error, Refused):
        return error.what, error.fix, error.code
    if isinstance(error, OSError) and error.strerror:
        where = f" ({error.filename})" if error.filename else ""
        return f"{error.strerror.lower()}{where}", "check the path, its rights and the free space", 1
    if isinstance(error, MemoryError):
        return "out of memory", "use --limit, smaller batches or a machine with more memory", 1
    told = f"{type(error).__name__}: {error}".splitlines()[0]
    return f"unexpected failure, {told}", "run again with FLETCHING_DEBUG=1 and report the traceback", 1


def _complain(tool: str, what: str, fix: str, code: int) -> int:
    # Data can hold terminal control characters; they are shown, not obeyed.
    text = f"{tool}: {what}" + (f"\n  fix: {fix}" if fix else "")
    print("".join(c if c.isprintable() or c == "\n" else repr(c)[1:-1] for c in text), file=sys.stderr)
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
