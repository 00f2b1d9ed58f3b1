"""A command line parsed into an options dataclass: the line over the config file over the defaults.

argparse-dataclass builds the parser. This layer gives it what it lacks: `X | None`, lists, choices, both
forms of a flag, ranges and suggestions for typing errors. It does so through a dataclass of plain strings,
whose values are converted here, so that a value from the line and one from a config file pass the same checks.
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
from fletching.options.fields import REQUIRED, Option, describe, reject_unknown_option

Options = TypeVar("Options")


def parse(cls: type[Options], argv: Sequence[str]) -> Options:
    """An instance of the dataclass `cls`. Raises UsageError.

    Its attribute FOREIGN_NAMES, where it has one, answers options of other programs with ours. INSTEAD names
    options that say the same in two ways: the one on the line also wins over the other one in the file.
    """
    from fletching.config import load

    options = describe(cls)
    foreign: Mapping[str, str] = getattr(cls, "FOREIGN_NAMES", {})
    on_line, unknown = _Parser(options).values_of(argv)
    if unknown:
        flags = [opt.flag for opt in options.values() if not opt.positional]
        reject_unknown_option(unknown[0].split("=")[0], flags, foreign=foreign)
    values = load(on_line["config"], options, foreign) if on_line.get("config") else {}
    for rivals in getattr(cls, "INSTEAD", ()):
        if not on_line.keys().isdisjoint(rivals):
            values = {name: value for name, value in values.items() if name not in rivals}
    values |= {name: _convert(options[name], raw) for name, raw in on_line.items()}
    for opt in options.values():
        if opt.default is REQUIRED and opt.name not in values:
            fix = f"pass {opt.flag} {opt.metavar}: {opt.details['help']}"
            raise UsageError(f"{opt.flag} is missing", fix)
    return cls(**values)


def _convert(opt: Option, raw: Any) -> Any:
    """The value of one option as it stands on the line: texts, or True and False of a flag."""
    if opt.positional:
        return tuple(raw)
    if opt.is_list:
        return tuple(value for text in raw for value in opt.split(text))
    return raw if opt.scalar is bool else opt.convert(raw)


class _Collect(argparse.Action):
    """Gathers the values of a repeated option."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        before = getattr(namespace, self.dest)
        setattr(namespace, self.dest, ([] if before is MISSING else before) + [values])


class _Parser(argparse_dataclass.ArgumentParser):  # type: ignore[misc]
    """argparse-dataclass over a dataclass of strings, with our actions and our errors."""

    def __init__(self, options: dict[str, Option]) -> None:
        self.options = options
        super().__init__(_strings_only(options), add_help=False, allow_abbrev=False)

    def add_argument(self, *args: Any, **kwargs: Any) -> Any:
        """argparse's, with a flag's two forms and the values of a list gathered."""
        name = kwargs.get("dest") or args[0].lstrip("-").replace("-", "_")
        opt = self.options.get(name)
        if opt and opt.scalar is bool:
            kwargs.pop("type")
            kwargs["action"] = argparse.BooleanOptionalAction
        elif opt and opt.is_list and not opt.positional:
            kwargs["action"] = _Collect
        return super().add_argument(*args, **kwargs)

    def values_of(self, argv: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
        """The raw values on the line by field name, and the words that no option claimed."""
        # The base class's parse_known_args builds the dataclass; argparse's own gives the namespace.
        self.parse_known_args = types.MethodType(argparse.ArgumentParser.parse_known_args, self)
        # Python 3.11 loses `--` between its two passes, so the words behind it are taken out before.
        end = argv.index("--") if "--" in argv else len(argv)
        behind = list(argv[end + 1 :])
        namespace, unknown = self.parse_known_intermixed_args(argv[:end])
        values = {name: v for name, v in vars(namespace).items() if v not in (MISSING, [])}
        name = next((name for name, opt in self.options.items() if opt.positional), None)
        if name is None:
            return values, unknown + behind
        words = [*values.get(name, []), *behind]
        return values | ({name: words} if words else {}), unknown

    def error(self, message: str) -> NoReturn:
        """argparse's complaint as a UsageError."""
        raise UsageError(message.removeprefix("argument "), "see --help")


def _strings_only(options: dict[str, Option]) -> type:
    """A dataclass of plain strings that argparse-dataclass understands."""
    fields: list[tuple[str, type, Any]] = []
    for opt in options.values():
        if opt.positional:
            metadata: dict[str, Any] = {"args": [opt.name], "nargs": "*", "type": str}
        else:
            short = [opt.details["short"]] if opt.details.get("short") else []
            metadata = {"args": [*short, opt.flag], "type": str}
        fields.append((opt.name, str, dataclasses.field(default="", metadata=metadata)))
    return dataclasses.make_dataclass("Strings", fields)
