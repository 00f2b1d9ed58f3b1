"""What a model replied, as JSON of the shape asked for, however it is wrapped, or a named reason why not."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

THOUGHT = re.compile(r"^\s*<think(?:ing)?>.*?</think(?:ing)?>", re.DOTALL | re.IGNORECASE)
FENCE = re.compile(r"```[A-Za-z]*\s*\n?(.*?)(?:```|\Z)", re.DOTALL)
STARTS = 20  # places where JSON may begin that are tried

# strict=False: models under a grammar still put raw line feeds and control characters into strings.
DECODER = json.JSONDecoder(strict=False)


class Unusable(Exception):
    """A reply that gives no row. mendable: may a second request mend it?"""

    def __init__(self, reason: str, detail: str = "", mendable: bool = False) -> None:
        super().__init__(reason)
        self.reason, self.detail, self.mendable = reason, detail, mendable


def shape(**fields: Any) -> dict[str, Any]:
    """The JSON schema of an object with exactly these fields (strict in the sense of OpenAI).

    A field is "string", "integer", ["string"] for a list, or [{...}] for a list of objects.
    """
    return {
        "type": "object",
        "properties": {name: _kind(field) for name, field in fields.items()},
        "required": [*fields],
        "additionalProperties": False,
    }


def _kind(field: Any) -> dict[str, Any]:
    if isinstance(field, list):
        return {"type": "array", "items": _kind(field[0])}
    return shape(**field) if isinstance(field, dict) else {"type": field}


def told(schema: dict[str, Any]) -> str:
    """The shape in words, for servers that cannot enforce it: it stands in every prompt."""
    return f"Reply with one JSON object of exactly this form, and nothing before or after it:\n{_sketch(schema)}"


def _sketch(schema: dict[str, Any]) -> str:
    if schema["type"] == "object":
        return (
            "{"
            + ", ".join(
                f'"{name}": {_sketch(field)}' for name, field in schema["properties"].items()
            )
            + "}"
        )
    if schema["type"] == "array":
        return f"[{_sketch(schema['items'])}, ...]"
    return {"string": '"..."', "integer": "0"}[schema["type"]]


def read(text: str | None, finish: str | None, schema: dict[str, Any]) -> dict[str, Any]:
    """The object in a reply, or Unusable.

    Around the object may stand thoughts, fences or talk. Of a reply that was cut off, the whole items of a
    list are kept; a text that was cut off is never a row.
    """
    if finish == "content_filter":
        raise Unusable("refused by the model", "content filter")
    if not text or not text.strip():
        raise Unusable("cut off" if finish == "length" else "empty reply")
    text = THOUGHT.sub("", text)
    wrong: Unusable | None = None
    for found in _candidates(text):
        if (
            isinstance(found, list) and len(schema["required"]) == 1
        ):  # the list itself instead of {"name": list}
            found = {schema["required"][0]: found}
        problem = mismatch(found, schema)
        if problem is None:
            return {name: found[name] for name in schema["required"]}
        wrong = wrong or Unusable("wrong schema", problem, mendable=finish != "length")
    whole = _whole_items(text, schema)
    if whole is not None:
        return whole
    if finish == "length":
        raise Unusable("cut off", "the reply ended at --answer-tokens")
    raise wrong or Unusable("no JSON", "the reply holds no JSON object", mendable=True)


def _candidates(text: str) -> Iterator[Any]:
    """Every JSON object or list that the text may mean, likeliest first."""
    for piece in [text, *(match[1] for match in FENCE.finditer(text))]:
        try:
            yield DECODER.decode(piece.strip())
        except (ValueError, RecursionError):
            continue
    for start in _starts(text):
        try:
            yield DECODER.raw_decode(text, start)[0]
        except (ValueError, RecursionError):
            continue


def _starts(text: str) -> list[int]:
    return [match.start() for _, match in zip(range(STARTS), re.finditer(r"[{\[]", text))]


def mismatch(value: Any, schema: dict[str, Any], where: str = "the reply") -> str | None:
    """Why the value is not of the schema, or None."""
    kind = schema["type"]
    if kind == "object":
        if not isinstance(value, dict):
            return f"{where} is no object"
        for name in schema["required"]:
            if name not in value:
                return f'{where} has no "{name}"'
        problems = (
            mismatch(value[name], field, f'"{name}"')
            for name, field in schema["properties"].items()
        )
        return next((problem for problem in problems if problem), None)
    if kind == "array":
        if not isinstance(value, list):
            return f"{where} is no list"
        problems = (mismatch(item, schema["items"], f"an item of {where}") for item in value)
        return next((problem for problem in problems if problem), None)
    fits = (
        isinstance(value, str)
        if kind == "string"
        else isinstance(value, int) and not isinstance(value, bool)
    )
    return None if fits else f"{where} is no {'text' if kind == 'string' else 'whole number'}"


def _whole_items(text: str, schema: dict[str, Any]) -> dict[str, Any] | None:
    """Of {"name": [item, item, it… the items before the cut, where there are any."""
    [name, field], *others = schema["properties"].items()
    start = text.find("[")
    if others or field["type"] != "array" or start < 0:
        return None
    items: list[Any] = []
    at = start + 1
    while True:
        at = _skip(text, at)
        try:
            item, at = DECODER.raw_decode(text, at)
        except (ValueError, RecursionError):
            break
        # A number or a word at the very end may itself be cut; a quotation or bracket has been closed.
        if mismatch(item, field["items"]) is not None or (
            at == len(text) and not isinstance(item, str | list | dict)
        ):
            break
        items.append(item)
    return {name: items} if items else None


def _skip(text: str, at: int) -> int:
    while at < len(text) and text[at] in " \t\r\n,":
        at += 1
    return at
