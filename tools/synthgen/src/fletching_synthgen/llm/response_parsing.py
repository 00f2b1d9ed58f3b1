"""The JSON object in a response, whatever surrounds it, or the reason why there is none."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from fletching_synthgen.llm.chat_request import JSONSchema

THOUGHT = re.compile(r"^\s*<think(?:ing)?>.*?</think(?:ing)?>", re.DOTALL | re.IGNORECASE)
FENCE = re.compile(r"```[A-Za-z]*\s*\n?(.*?)(?:```|\Z)", re.DOTALL)
MOST_STARTS = 20  # brackets at which JSON may begin that are tried

# strict=False: models under a grammar still put raw line feeds and control characters into strings.
DECODER = json.JSONDecoder(strict=False)

# "string", "integer", ["string"] for a list, [{...}] for a list of objects.
FieldType = str | list[Any] | Mapping[str, Any]


class RejectedResponseError(Exception):
    """A response, or a text of it, that gives no row.

    reason: the name under which it is counted. detail: what exactly is wrong.
    repairable: may a second request give the same content in the right form?
    """

    def __init__(self, reason: str, detail: str = "", *, repairable: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.detail = detail
        self.repairable = repairable


def object_schema(**fields: FieldType) -> JSONSchema:
    """The JSON schema of an object with exactly these fields ("strict" as OpenAI defines it).

    >>> object_schema(scores=["integer"])["properties"]
    {'scores': {'type': 'array', 'items': {'type': 'integer'}}}
    """
    return {
        "type": "object",
        "properties": {name: _field_schema(field) for name, field in fields.items()},
        "required": [*fields],
        "additionalProperties": False,
    }


def _field_schema(field: FieldType) -> JSONSchema:
    if isinstance(field, list):
        return {"type": "array", "items": _field_schema(field[0])}
    if isinstance(field, str):
        return {"type": field}
    return object_schema(**field)


def format_instruction(schema: JSONSchema) -> str:
    """The schema in words, for servers that cannot enforce it; part of every prompt."""
    example = _example(schema)
    return (
        "Reply with one JSON object of exactly this form, and nothing before or after it:\n"
        f"{example}"
    )


def _example(schema: JSONSchema) -> str:
    if schema["type"] == "object":
        properties = schema["properties"]
        fields = (f'"{name}": {_example(field)}' for name, field in properties.items())
        return "{" + ", ".join(fields) + "}"
    if schema["type"] == "array":
        return f"[{_example(schema['items'])}, ...]"
    return {"string": '"..."', "integer": "0"}[schema["type"]]


def parse_response(
    text: str | None, finish_reason: str | None, schema: JSONSchema
) -> dict[str, Any]:
    """The object in a response. Raises RejectedResponseError.

    Thoughts, fences and talk around the object are ignored. Of a truncated list the whole items
    are kept; a truncated text never gives a row.
    """
    truncated = finish_reason == "length"
    if finish_reason == "content_filter":
        raise RejectedResponseError("refused by the model", "content filter")
    if not text or not text.strip():
        raise RejectedResponseError("cut off" if truncated else "empty reply")
    text = THOUGHT.sub("", text)
    first_mismatch: str | None = None
    for candidate in _json_values(text):
        content: Any = _unwrapped(candidate, schema)
        problem = mismatch(content, schema)
        if problem is None:
            return {name: content[name] for name in schema["required"]}
        first_mismatch = first_mismatch or problem
    whole_items = _whole_items(text, schema)
    if whole_items is not None:
        return whole_items
    if truncated:
        raise RejectedResponseError("cut off", "the reply ended at --answer-tokens")
    if first_mismatch:
        raise RejectedResponseError("wrong schema", first_mismatch, repairable=True)
    raise RejectedResponseError("no JSON", "the reply holds no JSON object", repairable=True)


def _unwrapped(candidate: object, schema: JSONSchema) -> object:
    """The value; a bare list as the only field of its object: `[…]` for `{"tasks": […]}`."""
    if isinstance(candidate, list) and len(schema["required"]) == 1:
        return {schema["required"][0]: candidate}
    return candidate


def _json_values(text: str) -> Iterator[Any]:
    """Every JSON value that the text may mean, likeliest first."""
    fenced = [match[1] for match in FENCE.finditer(text)]
    for piece in [text, *fenced]:
        try:
            yield DECODER.decode(piece.strip())
        except (ValueError, RecursionError):
            continue
    for start in _starts(text):
        try:
            value, _ = DECODER.raw_decode(text, start)
        except (ValueError, RecursionError):
            continue
        yield value


def _starts(text: str) -> list[int]:
    """Positions of the first opening brackets."""
    brackets = re.finditer(r"[{\[]", text)
    return [match.start() for _, match in zip(range(MOST_STARTS), brackets)]


def mismatch(value: object, schema: JSONSchema, where: str = "the reply") -> str | None:
    """Why the value does not follow the schema, or None."""
    kind = schema["type"]
    if kind == "object":
        return _object_mismatch(value, schema, where)
    if kind == "array":
        return _list_mismatch(value, schema, where)
    if kind == "string":
        return None if isinstance(value, str) else f"{where} is no text"
    is_integer = isinstance(value, int) and not isinstance(value, bool)
    return None if is_integer else f"{where} is no whole number"


def _object_mismatch(value: object, schema: JSONSchema, where: str) -> str | None:
    if not isinstance(value, dict):
        return f"{where} is no object"
    for name in schema["required"]:
        if name not in value:
            return f'{where} has no "{name}"'
    for name, field in schema["properties"].items():
        problem = mismatch(value[name], field, f'"{name}"')
        if problem:
            return problem
    return None


def _list_mismatch(value: object, schema: JSONSchema, where: str) -> str | None:
    if not isinstance(value, list):
        return f"{where} is no list"
    problems = (mismatch(item, schema["items"], f"an item of {where}") for item in value)
    return next((problem for problem in problems if problem), None)


def _whole_items(text: str, schema: JSONSchema) -> dict[str, Any] | None:
    """Of `{"name": [item, item, it` the items before the cut, where there are any."""
    [name, field], *others = schema["properties"].items()
    start = text.find("[")
    if others or field["type"] != "array" or start < 0:
        return None
    items: list[Any] = []
    position = start + 1
    while True:
        position = _skip_separators(text, position)
        try:
            item, position = DECODER.raw_decode(text, position)
        except (ValueError, RecursionError):
            break
        if mismatch(item, field["items"]) is not None:
            break
        # A number at the very end may itself be cut; a string or bracket has been closed.
        is_closed = isinstance(item, str | list | dict)
        if position == len(text) and not is_closed:
            break
        items.append(item)
    return {name: items} if items else None


def _skip_separators(text: str, position: int) -> int:
    while position < len(text) and text[position] in " \t\r\n,":
        position += 1
    return position
