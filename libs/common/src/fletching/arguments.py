"""Options from a dataclass: what an option is, and the command line parsed into one.

argparse-dataclass builds the parser. This layer gives it what it lacks: `X | None`, lists, choices,
both forms of a flag, ranges and suggestions for typing errors. It does so through a shadow dataclass of
plain strings, whose values are converted here, so that a value from the command line and one from a
config file pass the same checks.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import difflib
import math
import types
import typing
from collections.abc import Sequence
from dataclasses import MISSING, dataclass
from typing import Any, Literal, NoReturn

import argparse_dataclass

from fletching.errors import Usage


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

    help: of a flag that is on by default, what --no-NAME does, since that is the form shown. low, high: smallest and
    largest value allowed. advanced: shown by --help-all alone.
    rows: can this option change the rows written? Only then does it enter the lineage.
    """
    details = dict(help=help, metavar=metavar, short=short, low=low, high=high)
    return dataclasses.field(default=default, metadata=details | dict(group=group, advanced=advanced, rows=rows))


def required(help: str, **details: Any) -> Any:
    """An option that must be given. It is marked so in --help."""
    return option(REQUIRED, help, **details)


def positional(help: str, metavar: str) -> Any:
    """The arguments without a flag: any number, anywhere on the line."""
    details = dict(help=help, metavar=metavar, group="input and output", advanced=False, rows=False)
    return dataclasses.field(default=(), metadata=details | dict(positional=True))


REQUIRED: Any = "<required>"


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
        return (
            f"a value from {low:g} to {high:g}"
            if None not in (low, high)
            else f"at {'least' if high is None else 'most'} {low if high is None else high:g}"
        )

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
        # Python 3.11 loses `--` between its two passes, so the words behind it are taken out before.
        end = argv.index("--") if "--" in argv else len(argv)
        namespace, extra = self.parse_known_intermixed_args(argv[:end])
        given = {name: value for name, value in vars(namespace).items() if value not in (MISSING, [])}
        place = next((name for name, opt in self.table.items() if opt.positional), None)
        if place is None:
            return given, extra + list(argv[end + 1 :])
        words = [*given.get(place, []), *argv[end + 1 :]]
        return given | ({place: words} if words else {}), extra

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


def parse(cls: type, argv: Sequence[str]) -> Any:
    """An instance of the dataclass `cls`: the command line over the config file over the defaults.

    Its attribute NAMES_ELSEWHERE, where it has one, answers options of other programs with ours. INSTEAD names options
    that say the same in two ways: the one on the line also wins over the other one in the file.
    """
    from fletching.config import load

    options = describe(cls)
    elsewhere = getattr(cls, "NAMES_ELSEWHERE", {})
    given, extra = _Parser(options, _shadow(options)).given(argv)
    if extra:
        refuse_unknown(extra[0].split("=")[0], [opt.flag for opt in options.values() if not opt.positional], "", elsewhere)
    values = load(given["config"], options, elsewhere) if given.get("config") else {}
    for rivals in getattr(cls, "INSTEAD", ()):
        if not given.keys().isdisjoint(rivals):
            values = {name: value for name, value in values.items() if name not in rivals}
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
    return cls(**values)


def refuse_unknown(word: str, known: Sequence[str], where: str = "", elsewhere: typing.Mapping[str, str] = {}) -> NoReturn:
    """elsewhere: names (with _) that other programs give our options, and what to write instead."""
    translated = elsewhere.get(word.lstrip("-").replace("-", "_"))
    guess = difflib.get_close_matches(word, known, 1, 0.6)
    fix = translated or (f"did you mean {guess[0]}?" if guess else "--help-all lists every option")
    raise Usage(f"{where}unknown option {word}", fix)
