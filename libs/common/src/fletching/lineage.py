"""What made these rows, carried with them in one schema-metadata key, `fletching`.

What is known at the start stands in the key itself: schema, version and the step that writes, with the
steps it reads from nested under `from`. What is known at the end (rows, digest, drops) stands in the
trailer of a stream or under the footer key `fletching.end` of a file, nested the same way. No clock, no
host, no path and no secret: the same input and options give the same bytes anywhere.
"""

from __future__ import annotations

import json
from typing import Any

KEY = b"fletching"
END_KEY = b"fletching.end"
UNKNOWN = "unknown program"


def step(
    tool: str, version: str, options: dict[str, Any], sources: list[dict[str, Any]]
) -> dict[str, Any]:
    """One node of the lineage tree. Equal sources (shards of one run) are named once."""
    seen: list[dict[str, Any]] = []
    for source in sources:
        if source and source not in seen:
            seen.append(source)
    node = {"tool": tool, "version": version, "options": options}
    return node | ({"from": seen} if seen else {})


def stamp(schema: str, version: str, node: dict[str, Any]) -> dict[bytes, bytes]:
    """The schema metadata of a file or stream of ours."""
    content = {"schema": schema, "version": version, "step": node}
    return {KEY: dump(content)}


def read(metadata: dict[bytes, bytes] | None) -> dict[str, Any]:
    """The stamp of a file or stream, or {} where there is none that can be read."""
    try:
        content = json.loads((metadata or {})[KEY])
    except (KeyError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) and isinstance(content.get("step"), dict) else {}


def after_unknown_program(node: dict[str, Any]) -> dict[str, Any]:
    """The lineage of rows whose stamp was kept by a program that does not know it."""
    return {"tool": UNKNOWN, "from": [node]}


def tools(node: dict[str, Any]) -> list[str]:
    """The names of all tools of a tree, first stage first.

    >>> tools({"tool": "hnmine", "from": [{"tool": "csv2pairs"}]})
    ['csv2pairs', 'hnmine']
    """
    before = [name for source in node.get("from", []) for name in tools(source)]
    return [*before, node["tool"]]


def dump(content: dict[str, Any]) -> bytes:
    return json.dumps(content, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()
