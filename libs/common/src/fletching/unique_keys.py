"""JSON objects whose keys appear once: of a repeated one the last value would win in silence."""

from __future__ import annotations

import json
from typing import Any

JsonValue = Any  # what json.loads gives

SHOWN = 60  # characters of a key


class RepeatedKeyError(ValueError):
    """An object or mapping has a key twice."""

    def __init__(self, key: str, position: str = "") -> None:
        super().__init__(f"the key `{key[:SHOWN]}` appears twice{position}")


def to_dict(pairs: list[tuple[str, JsonValue]]) -> dict[str, JsonValue]:
    """The object of these pairs, as `object_pairs_hook`. Raises RepeatedKeyError."""
    content = dict(pairs)
    if len(content) == len(pairs):
        return content
    known: set[str] = set()
    for key, _ in pairs:
        if key in known:
            raise RepeatedKeyError(key)
        known.add(key)
    return content


def parse_json(content: str | bytes) -> JsonValue:
    """The value of a document. Raises ValueError, of which RepeatedKeyError is one."""
    return json.loads(content, object_pairs_hook=to_dict)
