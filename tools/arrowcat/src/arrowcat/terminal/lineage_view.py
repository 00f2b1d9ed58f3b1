"""The chain of tools that made the rows, as a tree: the last tool first, its inputs below it."""

from __future__ import annotations

import json
from collections.abc import Sequence

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


def print_lineage(console: Console, title: str, reader: Reader, *, ends: Sequence[Node]) -> None:
    """A branch for each input that carries its lineage."""
    heading = Text(one_line(title, console.width), style="bold")
    if not any(reader.lineage_nodes):
        console.print(heading, Text("carries no lineage: no tool of the suite wrote it"))
        return
    tree = Tree(heading, guide_style=FAINT)
    for position, node in enumerate(reader.lineage_nodes):
        end = ends[position] if position < len(ends) else {}
        if node:
            _grow(tree, node, end)
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
    if len(ends) != len(sources):  # equal inputs, such as shards, are one node
        ends = [{} for _ in sources]
    for source, source_end in zip(sources, ends):
        _grow(branch, source, source_end)


def _nodes(content: object) -> list[Node]:
    """The nodes of a list that untrusted metadata may hold in any form."""
    if not isinstance(content, list):
        return []
    return [node for node in content if isinstance(node, dict)]


def _step(node: Node, end: Node) -> Text:
    tool = _shown_option(node.get("tool", "?"))
    version = _shown_option(node.get("version", ""))
    text = Text()
    text.append(tool, style=HEADING)
    text.append(f" {version}", style=FAINT)
    options = node.get("options")
    if isinstance(options, dict):
        for name, value in sorted(options.items()):
            label = _shown_option(name)
            text.append(f"\n{label} ", style=FAINT)
            text.append(_shown_option(value))
    account = _account(end)
    if account:
        text.append(f"\n{account}", style="bold")
    return text


def _shown_option(value: object) -> str:
    is_text = isinstance(value, str)
    text = str(value) if is_text else json.dumps(value, ensure_ascii=False)
    shown = one_line(text, LONGEST_VALUE)
    if len(shown) <= LONGEST_VALUE:
        return shown
    return shown[: LONGEST_VALUE - 1] + "…"


def _account(end: Node) -> str:
    """`11 rows, 1 below 0.2`; "" where nobody left an account."""
    rows = end.get("rows")
    if not isinstance(rows, int):
        return ""
    account = f"{rows:,} rows"
    dropped = end.get("dropped")
    if not isinstance(dropped, dict) or not dropped:
        return account
    reasons = []
    for reason, count in sorted(dropped.items()):
        shown = one_line(str(reason), LONGEST_VALUE)
        reasons.append(f"{count} {shown}")
    return f"{account}, without {', '.join(reasons)}"
