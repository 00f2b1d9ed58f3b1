"""How an option is declared as a dataclass field, and resolved from its annotation and metadata."""

from __future__ import annotations

import csv
import dataclasses
import difflib
import importlib
import inspect
import math
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypedDict, TypeVar, Unpack

from fletching.errors import UsageError

Scalar = str | int | float | bool
OptionValue = Scalar | tuple[Scalar, ...] | None

# A default has the type of the annotation beside it, which dataclasses hide from type checkers.
FieldValue = Any

# The default of an option without one.
REQUIRED: FieldValue = "<required>"

DRY_RUN = "dry_run"

LARGEST = 2**63 - 1  # whole number that Arrow, numpy and the standard library count with
PATHS = ("FILE", "OUT", "EXAMPLES", "TEXTS")  # placeholders of values that name files of data

OptionsClass = TypeVar("OptionsClass", bound=type)


class Details(TypedDict, total=False):
    """What a declaration may state besides default and help text."""

    metavar: str  # the placeholder of the value in --help
    short: str  # the short form, such as -o
    low: float | None  # smallest value allowed
    high: float | None  # largest value allowed
    choices: str  # `module:REGISTRY` of the values allowed; imported when options are resolved
    placeholder: str  # a text that every value must hold, such as {}
    is_model: bool  # does it name a model, in a folder or on the hub?
    written: bool  # does it name what the tool writes?
    group: str  # heading in --help
    advanced: bool  # shown by --help-all alone
    rows: bool  # can it change the rows written? Only then does it enter the lineage


class OverriddenDetails(Details, total=False):
    """What a tool may change in an option that it inherits."""

    help: str  # of a flag whose other form is now the one shown


_DEFAULTS: Details = {
    "metavar": "",
    "short": "",
    "low": None,
    "high": None,
    "choices": "",
    "placeholder": "",
    "is_model": False,
    "written": False,
    "group": "other",
    "advanced": False,
    "rows": True,
}


def option(default: FieldValue, help: str, **details: Unpack[Details]) -> FieldValue:
    """A dataclass field that is an option of the command line.

    default: the value when the option is absent. The annotation of the field gives the type: `str`,
    `int`, `float`, `bool`, a `Literal` of strings, `X | None` or `tuple[X, ...]`.
    help: one phrase; of a flag that is on by default, what `--no-NAME` does, since that form is
    shown.
    """
    metadata = {**_DEFAULTS, **details, "help": help}
    return dataclasses.field(default=default, metadata=metadata)


def required(help: str, **details: Unpack[Details]) -> FieldValue:
    """An option without a default; --help marks it."""
    return option(REQUIRED, help, **details)


def positional(help: str, metavar: str) -> FieldValue:
    """The arguments without a flag: any number, anywhere on the line."""
    metadata = {
        **_DEFAULTS,
        "help": help,
        "metavar": metavar,
        "group": "input and output",
        "rows": False,
        "positional": True,
    }
    return dataclasses.field(default=(), metadata=metadata)


def override(
    name: str, default: FieldValue, *, because: str, **details: Unpack[OverriddenDetails]
) -> Callable[[OptionsClass], OptionsClass]:
    """Class decorator, below `@dataclass`: a tool's own default of an option that it inherits.

    because: why it differs; the documentation shows it. Raises TypeError where no base has the
    option.
    """

    def decorate(cls: OptionsClass) -> OptionsClass:
        """Add the field to the class, with the details of the inherited one."""
        inherited = _inherited_field(cls, name)
        metadata = {**inherited.metadata, **details, "because": because}
        setattr(cls, name, dataclasses.field(default=default, metadata=metadata))
        # An entry of the class's own `__annotations__` is what makes dataclass see the field.
        annotations = inspect.get_annotations(cls)
        cls.__annotations__ = {**annotations, name: inherited.type}
        return cls

    return decorate


def _inherited_field(cls: type, name: str) -> dataclasses.Field[FieldValue]:
    for base in cls.__mro__[1:]:
        fields: dict[str, dataclasses.Field[FieldValue]] = vars(base).get(
            "__dataclass_fields__", {}
        )
        if name in fields:
            return fields[name]
    raise TypeError(f"{cls.__name__} inherits no option {name}")


@dataclass(frozen=True, kw_only=True)
class Option:
    """An option as resolved from a field's annotation and metadata."""

    name: str
    scalar: type  # of one value: str, int, float or bool
    choices: tuple[str, ...]
    is_list: bool
    default: FieldValue
    details: Mapping[str, Any]

    @property
    def flag(self) -> str:
        """The long form, `--query-length`; `--from` of a field `from_`, a word of Python's."""
        return "--" + self.name.rstrip("_").replace("_", "-")

    @property
    def config_key(self) -> str:
        """Its key in a config file: the flag without dashes."""
        return self.flag[2:]

    @property
    def negated_flag(self) -> str:
        """The form that switches a flag off, `--no-shuffle`."""
        return "--no-" + self.flag[2:]

    @property
    def positional(self) -> bool:
        """Is it the arguments without a flag?"""
        return bool(self.details.get("positional", False))

    @property
    def metavar(self) -> str:
        """The placeholder of the value in --help."""
        by_type = {str: "TEXT", int: "N", float: "X", bool: ""}
        return self.details.get("metavar") or "|".join(self.choices) or by_type[self.scalar]

    def convert(self, text: str) -> Scalar:
        """One value from its text. Raises UsageError for a text of another type or out of range."""
        if self.choices and text not in self.choices:
            raise UsageError(f"{self.flag} {text!r} is not a known choice", self._nearest(text))
        if self.scalar is str:
            self._check_placeholder(text)
            self._check_utf8(text)
            return text
        try:
            value: float = self.scalar(text)
        except ValueError:
            kind = "a whole number" if self.scalar is int else "a number"
            fix = f"pass {kind}, e.g. {self._example()}"
            raise UsageError(f"{self.flag} {text[:60]!r} is not {kind}", fix) from None
        self._check_range(text, value)
        return value

    def split(self, text: str) -> list[Scalar]:
        """The values of a list: `a,b`; one with a comma is quoted as in CSV: `"a,b",c`."""
        items = next(csv.reader([text], skipinitialspace=True), [])
        return [self.convert(item.strip()) for item in items]

    def _nearest(self, text: str) -> str:
        """How to correct a choice that is misspelt."""
        similar = difflib.get_close_matches(text, self.choices, 1)
        if similar:
            return f"did you mean {similar[0]}?"
        return "pass one of " + ", ".join(self.choices)

    def _check_placeholder(self, text: str) -> None:
        placeholder = self.details.get("placeholder", "")
        if placeholder not in text:
            what = f"{self.flag} {text!r} has no {placeholder}"
            raise UsageError(what, f"write {placeholder} where the value of a row goes")

    def _check_utf8(self, text: str) -> None:
        """Refuse bytes that are no text, which could not be written into outputs; paths may."""
        try:
            text.encode()
        except UnicodeEncodeError:
            if self.metavar not in PATHS:
                fix = "write the value as UTF-8"
                raise UsageError(f"{self.flag} {text!r} is not UTF-8", fix) from None

    def _check_range(self, text: str, value: float) -> None:
        low, high = self.details["low"], self.details["high"]
        if self.scalar is int and value > LARGEST:
            raise UsageError(f"{self.flag} {text[:30]} is too large", f"pass at most {LARGEST}")
        if isinstance(value, float) and not math.isfinite(value):
            fix = f"pass a number, e.g. {self._example()}"
            raise UsageError(f"{self.flag} {text} is not finite", fix)
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


def describe(options: type) -> dict[str, Option]:
    """The options of a dataclass by field name, in order.

    --dry-run is last: a tool with one of its own lists it under another heading, which would else
    come where the heading of all tools' options does.
    """
    hints = typing.get_type_hints(options)
    fields = sorted(dataclasses.fields(options), key=lambda field: field.name == DRY_RUN)
    return {field.name: _resolve(field, hints[field.name]) for field in fields}


def _resolve(field: dataclasses.Field[FieldValue], hint: type) -> Option:
    hint = _without_none(hint)
    is_list = typing.get_origin(hint) is tuple  # tuple[X, ...]
    if is_list:
        hint = typing.get_args(hint)[0]
    choices = _choices(field, hint)
    return Option(
        name=field.name,
        scalar=str if choices else hint,
        choices=choices,
        is_list=is_list,
        default=field.default,
        details=field.metadata,
    )


def _without_none(hint: type) -> type:
    """X of `X | None`."""
    if typing.get_origin(hint) not in (types.UnionType, typing.Union):
        return hint
    arms: tuple[type, ...] = typing.get_args(hint)
    return next(arm for arm in arms if arm is not type(None))


def _choices(field: dataclasses.Field[FieldValue], hint: type) -> tuple[str, ...]:
    """The names in the field's registry, or the strings of a Literal; () without either."""
    if field.metadata.get("choices"):
        module, _, registry = field.metadata["choices"].partition(":")
        return tuple(getattr(importlib.import_module(module), registry))
    return typing.get_args(hint) if typing.get_origin(hint) is Literal else ()
