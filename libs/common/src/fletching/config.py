"""Options from a config file: JSON, YAML or TOML, by extension."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

from fletching.errors import UsageError
from fletching.options.fields import Option, reject_unknown_option


def load(
    path: str, options: dict[str, Option], foreign: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """The values of the file by field name, converted and checked like those of the command line.

    foreign: what options are called in configs of other programs, to answer with our name.
    """
    values = {}
    for key, raw in read(path, "--config").items():
        name = key.replace("-", "_")
        if name not in options or name == "config":
            reject_unknown_option(
                key, [opt.flag[2:] for opt in options.values()], f"{path}: ", foreign
            )
        try:
            values[name] = _config_value(options[name], raw)
        except UsageError as error:
            raise UsageError(f"{path}: {error.what}", error.fix) from None
    return values


def _config_value(opt: Option, raw: Any) -> Any:
    if raw is None:
        if opt.default is not None:
            raise UsageError(f"{opt.flag[2:]} is null", "leave the key out to get the default")
        return None
    if opt.is_list:
        items = raw if isinstance(raw, list) else opt.split(str(raw))
        return tuple(opt.convert(str(item)) for item in items)
    if opt.scalar is bool or isinstance(raw, bool):
        if not (opt.scalar is bool and isinstance(raw, bool)):
            wanted = "true or false" if opt.scalar is bool else opt.metavar
            raise UsageError(f"{opt.flag[2:]} is {json.dumps(raw)}", f"write {wanted}")
        return raw
    if isinstance(raw, (list, dict)):
        raise UsageError(
            f"{opt.flag[2:]} is {json.dumps(raw)}, but takes one value", f"write {opt.metavar}"
        )
    return opt.convert(str(raw))


def read(path: str, flag: str) -> dict[str, Any]:
    """A JSON, YAML or TOML object, by extension. Raises Usage, naming the option `flag` that asked for it."""
    try:
        with open(path, "rb") as file:
            content = file.read()
    except OSError as error:
        raise UsageError(f"cannot read {flag} {path}: {error.strerror}", "check the path") from None
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
            raise UsageError(
                f"{flag} {path} has no known extension", "name it .json, .yaml or .toml"
            )
    except UsageError:
        raise
    except Exception as error:  # each parser has its own class; all of them print well
        raise UsageError(
            f"{flag} {path} cannot be parsed: {error}", f"correct the {suffix[1:]}"
        ) from None
    if not isinstance(values, dict):
        raise UsageError(
            f"{flag} {path} holds no options", 'write option names and values, e.g. {"seed": 1}'
        )
    return values
