"""Tasks of one run: their weights and prompts from a file, and how many rows of each stand in an epoch."""

from __future__ import annotations

import difflib
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fletching import config
from fletching.errors import InputError, UsageError


@dataclass(frozen=True)
class Task:
    """weight: rows an epoch, in multiples of the rows there are. Prompts: None for the model's own."""

    weight: float = 1.0
    query_prompt: str | None = None
    doc_prompt: str | None = None


def read(path: str) -> dict[str, Task]:
    """`{"nq": {"weight": 2, "query-prompt": "…", "doc-prompt": "…"}, …}`, as JSON, YAML or TOML. Raises Usage."""
    tasks = {}
    for name, entry in config.read(path, "--tasks").items():
        if not isinstance(entry, dict):
            raise UsageError(
                f"{path}: {name} is {entry!r}", 'write e.g. {"weight": 2, "query-prompt": "…"}'
            )
        values: dict[str, Any] = {key.replace("-", "_"): value for key, value in entry.items()}
        for key, value in values.items():
            wanted: Any = {"weight": (int, float), "query_prompt": str, "doc_prompt": str}.get(key)
            if wanted is None:
                guess = difflib.get_close_matches(key, ["weight", "query_prompt", "doc_prompt"], 1)
                fix = (
                    f"did you mean {guess[0].replace('_', '-')}?"
                    if guess
                    else "keys are weight, query-prompt and doc-prompt"
                )
                raise UsageError(f"{path}: unknown key {key} of task {name}", fix)
            if not isinstance(value, wanted) or isinstance(value, bool):
                raise UsageError(
                    f"{path}: {key.replace('_', '-')} of task {name} is {value!r}",
                    "prompts are texts, a weight is a number",
                )
        if not 0 <= values.get("weight", 1) < math.inf:
            raise UsageError(
                f"{path}: weight of task {name} is {values['weight']}",
                "write a number from 0 on; 1 is every row once an epoch",
            )
        tasks[name] = Task(**values)
    return tasks


def check(tasks: dict[str, Task], names: Sequence[str], path: str) -> list[str]:
    """Tasks of the file that no row has. Raises InputError where none fits the data, or one looks misspelt."""
    missing = [name for name in tasks if name not in names]
    for name in missing:
        guess = difflib.get_close_matches(
            name, [other for other in names if other not in tasks], 1, 0.8
        )
        if guess or len(missing) == len(tasks):
            known = (
                f"did you mean {guess[0]}?"
                if guess
                else "tasks of the data: " + (", ".join(filter(None, names[:10])) or "none")
            )
            raise InputError(f"{path} names task {name}, which no row has", known)
    return missing


def sizes(
    counts: Sequence[int], weights: Sequence[float], temperature: float | None, cap: int | None
) -> tuple[int, ...]:
    """Rows of each task in an epoch: weight x rows, evened out by temperature, then capped.

    temperature T draws tasks in proportion to rows^(1/T), T = 1 leaving all as it is; their sum stays.
    """
    wanted = [float(count * weight) for count, weight in zip(counts, weights)]
    if temperature is not None and any(wanted):
        shares = [math.pow(size, 1 / temperature) for size in wanted]
        total = sum(wanted) / sum(shares)
        wanted = [total * share for share in shares]
    return tuple(min(round(size), cap or round(size)) for size in wanted)


def merged_prompts(
    found: Counter[tuple[str, str | None]], tasks: dict[str, Task], path: str | None
) -> Counter[str | None]:
    """The query prompt of each row: its own, else its task's. Raises InputError where both are there and differ."""
    merged: Counter[str | None] = Counter()
    for (task, prompt), rows in found.items():
        of_task = tasks[task].query_prompt if task in tasks else None
        if prompt is not None and of_task is not None and prompt != of_task:
            raise InputError(
                f"rows of task {task} ask for the prompt {prompt[:40]!r}, {path} for {of_task[:40]!r}",
                "drop the column `prompt`, or the task's query-prompt",
            )
        merged[of_task if prompt is None else prompt] += rows
    return merged


def save_prompts(
    prompts: dict[str, str], tasks: dict[str, Task], own_document: str
) -> dict[str, str]:
    """The model's prompts with those of the tasks: `NAME` before queries, `NAME-document` before documents.

    Raises InputError where a name is taken by another text, or the model has another document prompt.
    """
    saved = dict(prompts)
    for name, task in tasks.items():
        if own_document and task.doc_prompt is not None and task.doc_prompt != own_document:
            raise InputError(
                f"task {name} asks for the document prompt {task.doc_prompt[:40]!r}, the model or --doc-prompt for {own_document[:40]!r}",
                "use one of them; --doc-prompt '' sets the model's aside",
            )
        for key, prompt in ((name, task.query_prompt), (f"{name}-document", task.doc_prompt)):
            if prompt is not None and saved.get(key, prompt) != prompt:
                raise InputError(
                    f"the model has a prompt named {key} already, and it is another one",
                    "rename the task",
                )
            if prompt is not None:
                saved[key] = prompt
    documents = {task.doc_prompt for task in tasks.values()}
    if len(documents) == 1 and (only := documents.pop()):
        saved["document"] = only
    return saved
