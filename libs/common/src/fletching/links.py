"""Where the documentation and the tracker are; the metadata of every package say the same."""

from __future__ import annotations

SOURCE = "https://github.com/fletching/fletching"
ISSUES = f"{SOURCE}/issues"
CLUSTERS = f"{SOURCE}/blob/main/docs/clusters.md"
SCHEMAS = "https://raw.githubusercontent.com/fletching/fletching/main/schemas/config"


def page_of(tool: str) -> str:
    """The page of a tool, by the name of its program."""
    return f"{SOURCE}/tree/main/tools/{tool.removeprefix('fletching-')}"


def schema_of(tool: str) -> str:
    """The JSON schema of a tool's configs."""
    return f"{SCHEMAS}/{tool}.json"
