"""A command line parsed into an options dataclass: the line over the config file over the defaults.

argparse-dataclass builds the parser. This layer adds what it lacks: `X | None`, lists, choices,
both forms of a flag, ranges and suggestions for typing errors. It does so through a dataclass of
plain strings, whose values are converted here, so that a value from the line and one from a config
file pass the same checks.
"""

from __future__ import annotations

import argparse
import dataclasses
import types
from collections.abc import Mapping, Sequence
from dataclasses import MISSING
from typing import Any, NoReturn, TypeVar

import argparse_dataclass

from fletching.errors import UsageError
from fletching.options.fields import (
    REQUIRED,
    Option,
    OptionValue,
    describe,
)

Options = TypeVar("Options")

# The value of an option on the line: a text, a list of texts, or True and False of a flag.
RawValue = Any

# A keyword of `add_argument`: a type, an action, a text …
ArgumentDetail = Any


def parse(cls: type[Options], argv: Sequence[str]) -> Options:
    """An instance of the dataclass `cls`. Raises UsageError.

    INSTEAD, an optional attribute of `cls`: groups of options that exclude one another; the one on
    the line also wins over the others in the config file.
    """
    from fletching.config import load

    options = describe(cls)
    on_line, unknown = _Parser(options).values_of(argv)
    if unknown:
        _reject(unknown, options)
    values: dict[str, OptionValue] = {}
    if on_line.get("config"):
        values = load(on_line["config"], options)
    for rivals in getattr(cls, "INSTEAD", ()):
        if not on_line.keys().isdisjoint(rivals):
            values = {name: value for name, value in values.items() if name not in rivals}
    for name, raw in on_line.items():
        values[name] = _convert(options[name], raw)
    _check_required(options, values)
    return cls(**values)


def raw_values(options: Mapping[str, Option], argv: Sequence[str]) -> dict[str, RawValue]:
    """What the line says, by field name, before it is checked. Raises UsageError."""
    on_line, _ = _Parser(options).values_of(argv)
    return on_line


def _reject(unknown: Sequence[str], options: Mapping[str, Option]) -> NoReturn:
    """Raise UsageError for the options among the words that none of ours claimed."""
    from fletching import unknown_options

    words = [word.split("=")[0] for word in unknown if word.startswith("-")]
    unknown_options.reject(words or unknown, options, dashes=True)


def _check_required(options: Mapping[str, Option], values: Mapping[str, OptionValue]) -> None:
    for opt in options.values():
        if opt.default is REQUIRED and opt.name not in values:
            fix = f"pass {opt.flag} {opt.metavar}: {opt.details['help']}"
            raise UsageError(f"{opt.flag} is missing", fix)


def _convert(opt: Option, raw: RawValue) -> OptionValue:
    if opt.positional:
        return tuple(raw)
    if opt.is_list:
        return tuple(value for text in raw for value in opt.split(text))
    if opt.scalar is bool:
        return bool(raw)
    return opt.convert(raw)


class _Collect(argparse.Action):
    """Gathers the values of a repeated option."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: RawValue,
        option_string: str | None = None,
    ) -> None:
        earlier = getattr(namespace, self.dest)
        collected = [] if earlier is MISSING else earlier
        setattr(namespace, self.dest, [*collected, values])


class _Parser(argparse_dataclass.ArgumentParser):  # type: ignore[misc]
    """argparse-dataclass over a dataclass of strings, with our actions and our errors."""

    def __init__(self, options: Mapping[str, Option]) -> None:
        self.options = options
        super().__init__(_strings_only(options), add_help=False, allow_abbrev=False)

    def add_argument(  # overrides argparse's, which is called by the base class
        self, *args: str, **kwargs: ArgumentDetail
    ) -> argparse.Action:
        """argparse's, with both forms of a flag, and the values of a list gathered."""
        name = kwargs.get("dest") or args[0].lstrip("-").replace("-", "_")
        opt = self.options.get(name)
        if opt and opt.scalar is bool:
            kwargs.pop("type")
            kwargs["action"] = argparse.BooleanOptionalAction
        elif opt and opt.is_list and not opt.positional:
            kwargs["action"] = _Collect
        action: argparse.Action = super().add_argument(*args, **kwargs)
        return action

    def values_of(self, argv: Sequence[str]) -> tuple[dict[str, RawValue], list[str]]:
        """The raw values on the line by field name, and the words that no option claimed."""
        # The base class builds the dataclass here; argparse's own method gives the namespace.
        self.parse_known_args = types.MethodType(argparse.ArgumentParser.parse_known_args, self)
        # Python 3.11 loses `--` between its two passes: the words after it are removed first.
        argv = _with_joined_values(argv)
        end = argv.index("--") if "--" in argv else len(argv)
        after_dashes = list(argv[end + 1 :])
        namespace, unknown = self.parse_known_intermixed_args(argv[:end])
        values: dict[str, RawValue] = {
            name: value for name, value in vars(namespace).items() if value not in (MISSING, [])
        }
        positional = next((name for name, opt in self.options.items() if opt.positional), None)
        if positional is None:
            return values, [*unknown, *after_dashes]
        words = [*values.get(positional, []), *after_dashes]
        if words:
            values[positional] = words
        return values, unknown

    def error(self, message: str) -> NoReturn:
        """Raise argparse's complaint as a UsageError."""
        raise UsageError(message.removeprefix("argument "), "see --help")


def _with_joined_values(argv: Sequence[str]) -> list[str]:
    """The line with `-o -.jsonl` as one word: argparse takes `-.jsonl` for an option."""
    words: list[str] = []
    for word in argv:
        if word.startswith("-.") and words and words[-1].startswith("-"):
            joint = "=" if words[-1].startswith("--") else ""
            words[-1] += joint + word
        else:
            words.append(word)
    return words


def _strings_only(options: Mapping[str, Option]) -> type:
    """A dataclass of plain strings that argparse-dataclass understands."""
    fields: list[tuple[str, type, Any]] = []
    for opt in options.values():
        metadata: dict[str, Any]
        if opt.positional:
            metadata = {"args": [opt.name], "nargs": "*", "type": str}
        else:
            short = [opt.details["short"]] if opt.details.get("short") else []
            metadata = {"args": [*short, opt.flag], "type": str}
        fields.append((opt.name, str, dataclasses.field(default="", metadata=metadata)))
    return dataclasses.make_dataclass("Strings", fields)
