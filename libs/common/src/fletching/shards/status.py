"""A folder of shards as a table for people and as JSON for programs."""

from __future__ import annotations

import json
from typing import Any

from fletching.report import printable
from fletching.shards.folder import STATES, ShardFolder, ShardState
from fletching.shards.record import DONE

HEADINGS = ("shard", "state", "rows", "seconds", "")
MOST_ALIKE = 20  # shards done that a table lists; the others are counted


def as_json(folder: ShardFolder) -> str:
    """One object: counts by state, problems, and every shard."""
    content: dict[str, Any] = {
        "folder": folder.path,
        "tool": folder.tool,
        "complete": folder.is_complete,
        "count": folder.count,
        **{state: len(folder.of_state(state)) for state in STATES},
        "problems": folder.problems,
        "shards": [_entry(state) for state in folder.states],
    }
    return json.dumps(content, indent=1, ensure_ascii=False)


def _entry(state: ShardState) -> dict[str, Any]:
    return {
        "shard": _name(state),
        "state": state.state,
        "output": state.output or None,
        "rows": state.rows,
        "seconds": state.seconds,
        "log": state.log or None,
        "detail": state.detail or None,
    }


def as_table(folder: ShardFolder) -> str:
    """A line a shard, what is wrong with them together, and the counts."""
    many = len(folder.of_state(DONE)) > MOST_ALIKE
    shown = [state for state in folder.states if not (many and state.state == DONE)]
    rows = [HEADINGS, *(_cells(state) for state in shown)] if shown else []
    widths = [max(map(len, column)) for column in zip(*rows)][:-1]
    lines = []
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths)]
        lines.append("  ".join([*cells, row[-1]]).rstrip())
    lines += [f"mixed: {problem}" for problem in folder.problems]
    counts = [f"{len(folder.of_state(state)):,} {state}" for state in STATES]
    of_tool = f" of {folder.tool}" if folder.tool else ""
    lines.append(f"{folder.count:,} shards{of_tool}: {', '.join(counts)}")
    return "\n".join(printable(line) for line in lines)


def _cells(state: ShardState) -> tuple[str, ...]:
    rows = "" if state.rows is None else f"{state.rows:,}"
    seconds = "" if state.seconds is None else f"{state.seconds:,.1f}"
    where = state.output or (f"{state.log}: {state.detail}" if state.log else state.detail)
    return (_name(state), state.state, rows, seconds, where)


def _name(state: ShardState) -> str:
    return f"{state.shard.index}/{state.shard.count}"
