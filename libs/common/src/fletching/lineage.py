"""Which tools made the rows: a tree of nodes in one schema-metadata key, `fletching`.

The key holds what is known at the start: schema, version and the node of the tool that writes,
with the nodes of its inputs nested under `from`. What is known at the end (rows, digest, drops) is
nested the same way, in the trailer of a stream or under the footer key `fletching.end` of a file.
No clock, host, path or
secret: the same input and options give the same bytes anywhere.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

KEY = b"fletching"
END_KEY = b"fletching.end"
UNKNOWN = "unknown program"
DEEPEST = 100  # stages after each other

Node = dict[str, Any]  # a node of the lineage tree, as JSON


def make_node(
    tool: str, version: str, *, options: Mapping[str, Any], sources: Sequence[Node]
) -> Node:
    """The node of a tool and its sources. Equal sources (shards of one run) appear once."""
    node: Node = {"tool": tool, "version": version, "options": dict(options)}
    distinct: list[Node] = []
    for source in sources:
        if source and source not in distinct:
            distinct.append(source)
    if distinct:
        node["from"] = distinct
    return node


def stamp(schema: str, version: str, node: Node) -> dict[bytes, bytes]:
    """The schema metadata of a file or stream of ours."""
    return {KEY: dump({"schema": schema, "version": version, "step": node})}


def read(metadata: Mapping[bytes, bytes] | None) -> dict[str, Any]:
    """The stamp in the metadata of a file or stream; {} where none can be read.

    A foreign program may have written the key: nodes that are none count as an unknown program.
    """
    try:
        content = json.loads((metadata or {})[KEY])
    except (KeyError, ValueError, RecursionError):
        return {}
    if not (isinstance(content, dict) and isinstance(content.get("step"), dict)):
        return {}
    if not is_node(content["step"]):
        content["step"] = {"tool": UNKNOWN}
    return content


def is_node(content: object) -> bool:
    """Is it a node whose tree `tools` can walk: a tool's name each, and a list of sources?"""
    level: list[Any] = [content]
    for _ in range(DEEPEST):
        if not level:
            return True
        for node in level:
            if not isinstance(node, dict) or not isinstance(node.get("tool"), str):
                return False
            if not isinstance(node.get("from", []), list):
                return False
        level = [source for node in level for source in node.get("from", [])]
    return not level


def read_node(metadata: Mapping[bytes, bytes] | None) -> Node:
    """The node in the metadata of a file or stream; {} where none can be read."""
    node: Node = read(metadata).get("step", {})
    return node


def after_unknown_program(node: Node) -> Node:
    """The lineage of rows that passed through a program that only copied the stamp."""
    return {"tool": UNKNOWN, "from": [node]}


def tools(node: Node) -> list[str]:
    """The names of all tools of a tree, first stage first.

    >>> tools({"tool": "hnmine", "from": [{"tool": "csv2pairs"}]})
    ['csv2pairs', 'hnmine']
    """
    earlier = [name for source in node.get("from", []) for name in tools(source)]
    return [*earlier, node["tool"]]


def dump(content: Mapping[str, Any]) -> bytes:
    """Canonical JSON: sorted keys, no blanks, UTF-8."""
    text = json.dumps(content, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    # Half a character (a foreign stamp may hold one) becomes its JSON escape again.
    return text.encode("utf-8", "backslashreplace")
