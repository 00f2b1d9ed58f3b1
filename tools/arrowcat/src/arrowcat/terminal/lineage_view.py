"""The chain of tools that made the rows, as a tree: the last tool first, its inputs below it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.text import Text
from rich.tree import Tree

from arrowcat.printable import one_line
from arrowcat.terminal.console import FAINT, HEADING, NEGATIVE
from fletching import lineage
from fletching.io import Reader
from fletching.lineage import Node

LONGEST_VALUE = 60  # of an option, in letters


def read_ends(reader: Reader) -> list[Node]:
    """What the writers of the inputs knew at the end.

    Of one Parquet file it is in the footer; of others all rows are read.
    """
    ends = reader.opened.ends
    if len(reader.sources) == 1 and any(ends):
        return list(ends)
    for _ in reader:
        pass
    return reader.ends


def print_lineage(console: Console, title: str, reader: Reader, ends: Sequence[Node]) -> None:
    """A tree for each input that carries its lineage."""
    nodes = [node for node in reader.lineage_nodes if node]
    heading = Text(one_line(title, console.width), style="bold")
    if not nodes:
        console.print(heading, Text("carries no lineage: no tool of the suite wrote it"))
        return
    tree = Tree(heading, guide_style=FAINT)
    for position, node in enumerate(reader.lineage_nodes):
        if node:
            _grow(tree, node, ends[position] if position < len(ends) else {})
    console.print(tree)


def _grow(tree: Tree, node: Node, end: Node) -> None:
    """Add a step and, below it, those that it read. end: the trailer that its writer left."""
    if node.get("tool") == lineage.UNKNOWN:  # which left no trailer
        branch = tree.add(Text(f"{lineage.UNKNOWN}, which copied the lineage", style=NEGATIVE))
        end = {}
    else:
        branch = tree.add(_step(node, end))
    sources = _nodes(node.get("from"))
    ends = _nodes(end.get("from"))
    for position, source in enumerate(sources):
        # Equal inputs, such as shards, are one node and have an end each.
        _grow(branch, source, ends[position] if len(ends) == len(sources) else {})


def _nodes(content: object) -> list[Node]:
    """The nodes of a list that untrusted metadata may hold in any form."""
    return [node for node in content if isinstance(node, dict)] if isinstance(content, list) else []


def _step(node: Node, end: Node) -> Text:
    tool = one_line(str(node.get("tool", "?")), 100)
    version = one_line(str(node.get("version", "")), 100)
    text = Text.assemble((tool, HEADING), (f" {version}", FAINT))
    options = node.get("options")
    for name, value in sorted(options.items()) if isinstance(options, dict) else ():
        text.append(f"\n{one_line(str(name), 50)} ", style=FAINT)
        text.append(_shown_option(value))
    account = _account(end)
    if account:
        text.append(f"\n{account}", style="bold")
    return text


def _shown_option(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    shown = one_line(text, LONGEST_VALUE)
    return shown if len(shown) <= LONGEST_VALUE else shown[: LONGEST_VALUE - 1] + "…"


def _account(end: Node) -> str:
    """`11 rows, 1 below 0.2`; "" where nobody left an account."""
    if "rows" not in end:
        return ""
    dropped = end.get("dropped")
    drops: Mapping[str, Any] = dropped if isinstance(dropped, dict) else {}
    reasons = [f"{rows} {one_line(str(reason), 100)}" for reason, rows in sorted(drops.items())]
    total = f"{end['rows']:,} rows" if isinstance(end["rows"], int) else "? rows"
    return total + (", without " + ", ".join(reasons) if reasons else "")
