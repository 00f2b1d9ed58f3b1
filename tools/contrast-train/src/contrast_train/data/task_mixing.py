"""Tasks of one run: their weights and prompts from a file, and how many rows of each are in
an epoch.
"""

from __future__ import annotations

import difflib
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fletching import config
from fletching.errors import InputError, UsageError

VALUE_TYPES: dict[str, type | tuple[type, ...]] = {
    "weight": (int, float),
    "query_prompt": str,
    "doc_prompt": str,
}


@dataclass(frozen=True, kw_only=True)
class TaskSettings:
    """weight: passes over the rows in an epoch. Prompts: None for the model's own."""

    weight: float = 1.0
    query_prompt: str | None = None
    doc_prompt: str | None = None


def read(path: str) -> dict[str, TaskSettings]:
    """The tasks of a JSON, YAML or TOML file. Raises UsageError.

    `{"nq": {"weight": 2, "query-prompt": "…", "doc-prompt": "…"}, …}`
    """
    tasks = {}
    for name, entry in config.read(path, "--tasks").items():
        if not isinstance(entry, dict):
            raise UsageError(
                f"{path}: {name} is {entry!r}", 'write e.g. {"weight": 2, "query-prompt": "…"}'
            )
        values = {key.replace("-", "_"): value for key, value in entry.items()}
        for key, value in values.items():
            _check_value(key, value, task=name, path=path)
        tasks[name] = TaskSettings(**values)
    return tasks


def _check_value(key: str, value: Any, *, task: str, path: str) -> None:  # noqa: ANN401
    if key not in VALUE_TYPES:
        guess = difflib.get_close_matches(key, VALUE_TYPES, 1)
        fix = "keys are weight, query-prompt and doc-prompt"
        if guess:
            fix = f"did you mean {guess[0].replace('_', '-')}?"
        raise UsageError(f"{path}: unknown key {key} of task {task}", fix)
    if not isinstance(value, VALUE_TYPES[key]) or isinstance(value, bool):
        raise UsageError(
            f"{path}: {key.replace('_', '-')} of task {task} is {value!r}",
            "prompts are texts, a weight is a number",
        )
    if isinstance(value, (int, float)) and not 0 <= value < math.inf:
        raise UsageError(
            f"{path}: weight of task {task} is {value}",
            "write a number from 0 on; 1 is every row once an epoch",
        )


def check(tasks: Mapping[str, TaskSettings], names: Sequence[str], path: str) -> list[str]:
    """Tasks of the file that no row has.

    Raises InputError where none fits the data, or one looks misspelt. names: the tasks of the
    rows.
    """
    unused = [name for name in tasks if name not in names]
    unlisted = [name for name in names if name not in tasks]
    for name in unused:
        guess = difflib.get_close_matches(name, unlisted, 1, 0.8)
        if not guess and len(unused) < len(tasks):
            continue
        listing = ", ".join(filter(None, names[:10])) or "none"
        fix = f"did you mean {guess[0]}?" if guess else f"tasks of the data: {listing}"
        raise InputError(f"{path} names task {name}, which no row has", fix)
    return unused


def sizes(
    counts: Sequence[int],
    weights: Sequence[float],
    *,
    temperature: float | None = None,
    cap: int | None = None,
) -> tuple[int, ...]:
    """Rows of each task in an epoch: weight x rows, evened out by temperature, then capped.

    temperature T samples tasks in proportion to rows^(1/T); T = 1 changes nothing. The sum
    stays.
    """
    wanted = [float(count * weight) for count, weight in zip(counts, weights)]
    if temperature is not None and any(wanted):
        shares = [math.pow(size, 1 / temperature) for size in wanted]
        scale = sum(wanted) / sum(shares)
        wanted = [scale * share for share in shares]
    rounded = [round(size) for size in wanted]
    return tuple(size if cap is None else min(size, cap) for size in rounded)


def merge_prompts(
    rows_by_prompt: Counter[tuple[str, str | None]],
    tasks: Mapping[str, TaskSettings],
    path: str | None,
) -> Counter[str | None]:
    """The number of rows by query prompt: a row's own, else its task's.

    rows_by_prompt: by (task, prompt of the row). Raises InputError where the two differ.
    """
    merged: Counter[str | None] = Counter()
    for (name, prompt), rows in rows_by_prompt.items():
        task_prompt = tasks[name].query_prompt if name in tasks else None
        if prompt is not None and task_prompt is not None and prompt != task_prompt:
            raise InputError(
                f"rows of task {name} ask for the prompt {prompt[:40]!r}, "
                f"{path} for {task_prompt[:40]!r}",
                "drop the column `prompt`, or the task's query-prompt",
            )
        merged[task_prompt if prompt is None else prompt] += rows
    return merged


def saved_prompts(
    prompts: Mapping[str, str | None], tasks: Mapping[str, TaskSettings], doc_prompt: str
) -> dict[str, str | None]:
    """A model's prompts with those of the tasks: `NAME` for queries, `NAME-document` for
    documents.

    doc_prompt: the model's or --doc-prompt. Raises InputError where a name is taken by
    another text, or a task asks for another document prompt.
    """
    saved = dict(prompts)
    for name, task in tasks.items():
        if doc_prompt and task.doc_prompt is not None and task.doc_prompt != doc_prompt:
            raise InputError(
                f"task {name} asks for the document prompt {task.doc_prompt[:40]!r}, "
                f"the model or --doc-prompt for {doc_prompt[:40]!r}",
                "use one of them; --doc-prompt '' sets the model's aside",
            )
        for key, prompt in ((name, task.query_prompt), (f"{name}-document", task.doc_prompt)):
            if prompt is None:
                continue
            if saved.get(key, prompt) != prompt:
                raise InputError(
                    f"the model has a prompt named {key} already, and it is another one",
                    "rename the task",
                )
            saved[key] = prompt
    distinct = {task.doc_prompt for task in tasks.values()}
    if len(distinct) == 1 and (only := distinct.pop()):
        saved["document"] = only
    return saved
