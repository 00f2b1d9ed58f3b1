"""Options from a config file: JSON, YAML or TOML, by extension."""

from __future__ import annotations

import json
import os
from typing import Any

from fletching.arguments import Option, refuse_unknown
from fletching.errors import Usage


def load(path: str, options: dict[str, Option]) -> dict[str, Any]:
    """The values of the file by field name, converted and checked like those of the command line."""
    values = {}
    for key, raw in _read(path).items():
        name = key.replace("-", "_")
        if name not in options or name == "config":
            refuse_unknown(key, [opt.flag[2:] for opt in options.values()], f"{path}: ")
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


def _read(path: str) -> dict[str, Any]:
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
