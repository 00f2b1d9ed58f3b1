"""How an option is declared as a dataclass field, and resolved from its annotation and metadata."""

from __future__ import annotations

import csv
import dataclasses
import difflib
import importlib
import math
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NoReturn, TypeVar

from fletching.errors import UsageError

# The default of an option without one.
REQUIRED: Any = "<required>"

OptionsClass = TypeVar("OptionsClass", bound=type)


def option(
    default: Any,
    help: str,
    *,
    metavar: str = "",
    short: str = "",
    low: float | None = None,
    high: float | None = None,
    choices: str = "",
    group: str = "other",
    advanced: bool = False,
    rows: bool = True,
) -> Any:
    """A dataclass field that is an option of the command line.

    default: the value when the option is absent. The annotation of the field gives the type: `str`, `int`,
    `float`, `bool`, a `Literal` of strings, `X | None` or `tuple[X, ...]`.
    help: one phrase; of a flag that is on by default, what `--no-NAME` does, since that form is shown.
    low, high: smallest and largest value allowed.
    choices: `module:REGISTRY` whose names are the values allowed; imported only when options are resolved.
    group: heading in --help. advanced: shown by --help-all alone.
    rows: can this option change the rows written? Only then does it enter the lineage.
    """
    metadata = {
        "help": help,
        "metavar": metavar,
        "short": short,
        "low": low,
        "high": high,
        "choices": choices,
        "group": group,
        "advanced": advanced,
        "rows": rows,
    }
    return dataclasses.field(default=default, metadata=metadata)


def required(help: str, **details: Any) -> Any:
    """An option without a default; --help marks it."""
    return option(REQUIRED, help, **details)


def positional(help: str, metavar: str) -> Any:
    """The arguments without a flag: any number, anywhere on the line."""
    metadata = {
        "help": help,
        "metavar": metavar,
        "group": "input and output",
        "advanced": False,
        "rows": False,
        "positional": True,
    }
    return dataclasses.field(default=(), metadata=metadata)


def override(
    name: str, default: Any, *, because: str, **details: Any
) -> Callable[[OptionsClass], OptionsClass]:
    """Class decorator, below `@dataclass`: a tool's own default of an option that it inherits.

    because: why it differs; the documentation shows it. details: what else of `option` changes with it, such as
    the help text of a flag whose other form is now shown.
    """

    def decorate(cls: OptionsClass) -> OptionsClass:
        for base in cls.__mro__[1:]:
            if name in getattr(base, "__dataclass_fields__", {}):
                inherited = vars(base)["__dataclass_fields__"][name]
                break
        else:
            raise TypeError(f"{cls.__name__} inherits no option {name}")
        metadata = {**inherited.metadata, **details, "because": because}
        field = dataclasses.field(default=default, metadata=metadata)
        setattr(cls, name, field)
        cls.__annotations__ = {**cls.__dict__.get("__annotations__", {}), name: inherited.type}
        return cls

    return decorate


@dataclass(frozen=True, kw_only=True)
class Option:
    """An option as resolved from a field's annotation and metadata."""

    name: str
    scalar: type  # of one value: str, int, float or bool
    choices: tuple[str, ...]
    is_list: bool
    default: Any
    details: Mapping[str, Any]

    @property
    def flag(self) -> str:
        """The long form, `--query-length`."""
        return "--" + self.name.replace("_", "-")

    @property
    def positional(self) -> bool:
        """Is it the arguments without a flag?"""
        return bool(self.details.get("positional", False))

    @property
    def metavar(self) -> str:
        """The placeholder of the value in --help."""
        by_type = {str: "TEXT", int: "N", float: "X", bool: ""}
        return self.details.get("metavar") or "|".join(self.choices) or by_type[self.scalar]

    def convert(self, text: str) -> Any:
        """One value from its text. Raises UsageError where it is none."""
        if self.choices and text not in self.choices:
            guess = difflib.get_close_matches(text, self.choices, 1)
            fix = f"did you mean {guess[0]}?" if guess else "pass one of " + ", ".join(self.choices)
            raise UsageError(f"{self.flag} {text!r} is not a known choice", fix)
        if self.scalar is str:
            return text
        try:
            value = self.scalar(text)
        except ValueError:
            kind = "a whole number" if self.scalar is int else "a number"
            raise UsageError(
                f"{self.flag} {text!r} is not {kind}", f"pass {kind}, e.g. {self._example()}"
            ) from None
        self._check_range(text, value)
        return value

    def _check_range(self, text: str, value: float) -> None:
        low, high = self.details["low"], self.details["high"]
        if not math.isfinite(value):
            raise UsageError(
                f"{self.flag} {text} is not finite", f"pass a number, e.g. {self._example()}"
            )
        if low is not None and value < low:
            raise UsageError(f"{self.flag} {text} is below {low:g}", f"pass {self._range()}")
        if high is not None and value > high:
            raise UsageError(f"{self.flag} {text} is above {high:g}", f"pass {self._range()}")

    def _range(self) -> str:
        low, high = self.details["low"], self.details["high"]
        if high is None:
            return f"at least {low}"
        if low is None:
            return f"at most {high:g}"
        return f"a value from {low:g} to {high:g}"

    def _example(self) -> str:
        if self.default not in (None, REQUIRED, ()):
            return f"{self.flag} {self.default}"
        return f"{self.flag} {self.scalar(1)}"

    def split(self, text: str) -> list[Any]:
        """The values of a list option: `a,b`; a name with a comma is quoted as in CSV: `"a,b",c`."""
        items = next(csv.reader([text], skipinitialspace=True), [])
        return [self.convert(item.strip()) for item in items]


def describe(options: type) -> dict[str, Option]:
    """The options of a dataclass by field name, in order."""
    hints = typing.get_type_hints(options)
    return {field.name: _resolve(field, hints[field.name]) for field in dataclasses.fields(options)}


def _resolve(field: dataclasses.Field[Any], hint: Any) -> Option:
    if typing.get_origin(hint) in (types.UnionType, typing.Union):  # X | None
        hint = next(arm for arm in typing.get_args(hint) if arm is not type(None))
    is_list = typing.get_origin(hint) is tuple  # tuple[X, ...]
    if is_list:
        hint = typing.get_args(hint)[0]
    choices = typing.get_args(hint) if typing.get_origin(hint) is Literal else ()
    if field.metadata.get("choices"):
        module, _, registry = field.metadata["choices"].partition(":")
        choices = tuple(getattr(importlib.import_module(module), registry))
    return Option(
        name=field.name,
        scalar=str if choices else hint,
        choices=choices,
        is_list=is_list,
        default=field.default,
        details=field.metadata,
    )


def reject_unknown_option(
    word: str, known: Sequence[str], where: str = "", foreign: Mapping[str, str] | None = None
) -> NoReturn:
    """Raise UsageError with the nearest known option.

    foreign: names (with _) that other programs give our options, and what to write instead.
    """
    translated = (foreign or {}).get(word.lstrip("-").replace("-", "_"))
    guess = difflib.get_close_matches(word, known, 1, 0.6)
    nearest = f"did you mean {guess[0]}?" if guess else "--help-all lists every option"
    raise UsageError(f"{where}unknown option {word}", translated or nearest)
