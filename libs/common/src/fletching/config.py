"""Options from a config file: JSON, YAML or TOML, by extension."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from typing import Any

from fletching import unique_keys
from fletching.errors import UsageError
from fletching.options.fields import Option, OptionValue

# The value of a key, as the file's parser gives it: text, number, bool, None, list or dict.
RawValue = Any

LARGEST_FILE = 16 << 20  # bytes
NOT_IN_A_FILE = ("config", "print_config", "translate")


def load(path: str, options: Mapping[str, Option]) -> dict[str, OptionValue]:
    """The options in a file by field name, converted and checked like those of the command line.

    Raises UsageError, with the path; one for all unknown keys.
    """
    content = read(path, "--config")
    names = {opt.config_key.replace("-", "_"): name for name, opt in options.items()}
    fields = {key: names.get(_plain(key), _plain(key)) for key in content}
    unknown = [key for key in content if fields[key] not in options or fields[key] in NOT_IN_A_FILE]
    if unknown:
        from fletching import unknown_options

        unknown_options.reject(unknown, options, where=f"{path}: ", dashes=False)
    values: dict[str, OptionValue] = {}
    for key, raw in content.items():
        name = fields[key]
        if name in values:
            what = f"{path}: `{key}` sets an option that another key sets too"
            raise UsageError(what, "leave one of them")
        try:
            values[name] = _convert(options[name], raw)
        except UsageError as error:
            raise UsageError(f"{path}: {error.what}", error.fix) from None
    return values


def _plain(key: str) -> str:
    return str(key).replace("-", "_")


def _convert(opt: Option, raw: RawValue) -> OptionValue:
    if raw is None:
        _check_may_be_null(opt)
        return None
    if opt.is_list:
        items = raw if isinstance(raw, list) else opt.split(str(raw))
        return tuple(opt.convert(str(item)) for item in items)
    if opt.scalar is bool or isinstance(raw, bool):
        return _flag(opt, raw)
    if isinstance(raw, (list, dict)):
        name = opt.flag[2:]
        what = f"{name} is {json.dumps(raw)}, but takes one value"
        raise UsageError(what, f"write {opt.metavar}")
    return opt.convert(str(raw))


def _check_may_be_null(opt: Option) -> None:
    """Raise UsageError for an option whose default is a value."""
    if opt.default is not None:
        raise UsageError(f"{opt.flag[2:]} is null", "leave the key out to get the default")


def _flag(opt: Option, raw: RawValue) -> bool:
    """The value of a flag. Raises UsageError for a flag with another value, or the reverse."""
    if opt.scalar is bool and isinstance(raw, bool):
        return raw
    expected = "true or false" if opt.scalar is bool else opt.metavar
    raise UsageError(f"{opt.flag[2:]} is {json.dumps(raw)}", f"write {expected}")


def read(path: str, flag: str) -> dict[str, RawValue]:
    """The object in a JSON, YAML or TOML file, by extension.

    flag: the option that names the file, for errors. Raises UsageError.
    """
    suffix = os.path.splitext(path)[1].lower()
    parse = _PARSERS.get(suffix)
    if parse is None:
        raise UsageError(f"{flag} {path} has no known extension", "name it .json, .yaml or .toml")
    try:
        with open(path, "rb") as file:
            content = file.read(LARGEST_FILE + 1)
    except OSError as error:
        raise UsageError(f"cannot read {flag} {path}: {error.strerror}", "check the path") from None
    if len(content) > LARGEST_FILE:
        what = f"{flag} {path} is larger than {LARGEST_FILE >> 20} MB"
        raise UsageError(what, "name a file of options")
    try:
        values = parse(content)
    except RecursionError:
        what = f"{flag} {path} cannot be parsed: it is nested too deep"
        raise UsageError(what, "write each option as a key with a value or a list") from None
    except Exception as error:  # each parser raises its own classes, and all of them print well
        what = f"{flag} {path} cannot be parsed: {error}"
        raise UsageError(what, f"correct the {suffix[1:]}") from None
    if not isinstance(values, dict):
        raise UsageError(
            f"{flag} {path} holds no options", 'write option names and values, e.g. {"seed": 1}'
        )
    for key in values:
        if not isinstance(key, str):  # YAML's null, numbers and dates
            what = f"{flag} {path}: the key {key!r} is no text"
            raise UsageError(what, "write the name of an option")
    return values


def _parse_toml(content: bytes) -> RawValue:
    import tomllib

    return tomllib.loads(content.decode())


def _parse_yaml(content: bytes) -> RawValue:
    from fletching import yaml_text

    return yaml_text.parse(content)


_PARSERS: dict[str, Callable[[bytes], RawValue]] = {
    ".toml": _parse_toml,
    ".yaml": _parse_yaml,
    ".yml": _parse_yaml,
    ".json": unique_keys.parse_json,
}
