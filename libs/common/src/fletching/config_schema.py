"""The JSON schema of a tool's --config, by which editors complete and check it."""

from __future__ import annotations

import json
from typing import Any

from fletching import links
from fletching.config import NOT_IN_A_FILE
from fletching.options.fields import REQUIRED, Option, describe

DRAFT = "https://json-schema.org/draft/2020-12/schema"
TYPES = {str: "string", int: "integer", float: "number", bool: "boolean"}

JsonSchema = dict[str, Any]


def schema_of(options: type, tool: str) -> JsonSchema:
    """The schema: a property an option, with its type, range, choices, default and help."""
    described = describe(options)
    properties = {
        opt.config_key: _property(opt)
        for name, opt in described.items()
        if name not in NOT_IN_A_FILE
    }
    return {
        "$schema": DRAFT,
        "$id": links.schema_of(tool),
        "title": f"Options of {tool}",
        "type": "object",
        "additionalProperties": False,
        "properties": properties,
    }


def as_text(options: type, tool: str) -> str:
    """The schema as a file."""
    return json.dumps(schema_of(options, tool), indent=2, ensure_ascii=False) + "\n"


def _property(opt: Option) -> JsonSchema:
    value = _value(opt)
    if opt.is_list:
        # A text is split at its commas, as on the command line.
        value = {"anyOf": [{"type": "array", "items": value}, {"type": "string"}]}
    if opt.default is None:
        value = {"anyOf": [value, {"type": "null"}]}
    stated = {"description": opt.details["help"], **value}
    if opt.default is not REQUIRED:
        stated["default"] = list(opt.default) if opt.is_list else opt.default
    return stated


def _value(opt: Option) -> JsonSchema:
    """The schema of one value."""
    if opt.choices:
        return {"enum": list(opt.choices)}
    value: JsonSchema = {"type": TYPES[opt.scalar]}
    if opt.details["low"] is not None:
        value["minimum"] = opt.details["low"]
    if opt.details["high"] is not None:
        value["maximum"] = opt.details["high"]
    return value
