"""Edits of a JSON document: other types, odd numbers and texts, keys, order, depth."""

from __future__ import annotations

import json
import random
from typing import Any

ODD_NUMBERS = (
    "0", "-0", "-1", "1.5", "1e999", "-1e999", "1e-999", "NaN", "Infinity", "-Infinity", "2147483648",
    "9223372036854775808", "18446744073709551616", "9" * 400, "9" * 5000, "1e5", "0.1e1", "00", "+1",
)  # fmt: skip
# Raw JSON, some of which json.dumps would not write.
ODD_VALUES = (
    *ODD_NUMBERS, "null", "true", "false", '""', '" "', '"\\u0000"', '"\\ud800"', '"\\udc00x"',
    '"\\u202e"', '"\\u001b[2J"', '"\x7f"', '"<script>alert(1)</script>"', '"../../../etc/passwd"',
    '"/dev/zero"', '"' + "a" * 100_000 + '"', '"{x}{}%s%n"', "[]", "{}", "[[]]", "[null]", "[1,2,3]",
    '["a","b"]', '{"a":1}', '{"":""}', "[" * 300 + "]" * 300, "[" * 3000 + "]" * 3000,
    '{"a":' * 300 + "1" + "}" * 300, '["a",1,null,{}]', '{"text":"a"}', '"é\\u0301"', "[NaN]",
    '"2001-01-01"', "[[[1.5]]]", '"1"', '"true"', "[true]", "[" + "0," * 20_000 + "0]",
)  # fmt: skip
ODD_KEYS = (
    "", " ", "\x00", "query", "pos", "neg", "id", "pos_ids", "neg_scores", "pos_scores", "text", "label",
    "score", "__class__", "fletching", "\u202e", "\x1b[31m", "Query", "query ", "a" * 10_000, "\ud800",
    "title", "scores", "prompt", "task", "domain", "vector", "text_hash", "positive", "negative_1",
)  # fmt: skip
MARK = "\u2603raw{}\u2603"

Path = tuple[Any, ...]


def edit(document: Any, draw: random.Random) -> bytes:
    """The document with one change, as bytes."""
    paths = list(_paths(document, ()))
    raw: dict[str, str] = {}

    def odd_value() -> Any:
        mark = MARK.format(len(raw))
        raw[mark] = draw.choice(ODD_VALUES)
        return mark

    path = draw.choice(paths)
    holder, value = _at(document, path[:-1]) if path else None, _at(document, path)
    change = draw.randrange(8)
    if not path or change <= 2:
        document = _put(document, path, odd_value())
    elif change == 3:
        other = _at(document, draw.choice(paths))
        document = _put(document, path, other)
    elif change == 4 and isinstance(value, dict):
        value[draw.choice(ODD_KEYS)] = odd_value()
    elif change == 5 and isinstance(holder, dict):
        content = holder.pop(path[-1])
        if draw.random() < 0.6:
            holder[draw.choice(ODD_KEYS)] = content
    elif change == 6 and isinstance(value, list):
        draw.shuffle(value)
        value[:] = value[: draw.randint(0, len(value))] + [odd_value()] * draw.randrange(3)
    elif change == 7:
        document = _put(
            document, path, draw.choice(([value], {"a": value}, [value, value], str(value)))
        )
    else:
        document = _put(document, path, odd_value())
    text = json.dumps(document, ensure_ascii=draw.random() < 0.5)
    for mark, fragment in raw.items():
        text = text.replace(json.dumps(mark), fragment).replace(
            json.dumps(mark, ensure_ascii=False), fragment
        )
    if draw.random() < 0.05:
        text = text.replace("}", ', "query": 1, "query": "twice"}', 1)
    return text.encode("utf-8", "surrogatepass")


def _paths(value: Any, path: Path) -> Any:
    yield path
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _paths(item, (*path, key))
    elif isinstance(value, list):
        for number, item in enumerate(value[:50]):
            yield from _paths(item, (*path, number))


def _at(value: Any, path: Path) -> Any:
    for step in path:
        value = value[step]
    return value


def _put(document: Any, path: Path, value: Any) -> Any:
    if not path:
        return value
    _at(document, path[:-1])[path[-1]] = value
    return document
