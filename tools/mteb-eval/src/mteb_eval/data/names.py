"""Short names of models and data sets, from NAME=PATH or from the path."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

from fletching.errors import UsageError

EXTENSIONS = re.compile(r"(\.(parquet|arrows?|feather|jsonl|ndjson|json|csv|tsv|gz|zst))+$")


def named(items: Sequence[str], what: str) -> dict[str, str]:
    """NAME=PATH as given; else the shortest end of the path that tells it from the others."""
    pairs = []
    for item in items:
        name, equals, path = item.partition("=")
        given = equals and re.fullmatch(r"[\w.@-]+", name) and not os.path.exists(item)
        pairs.append((name, path) if given else ("", item))
    names: dict[str, str] = {}
    for name, path in pairs:
        name = name or _short(path, [other for _, other in pairs if other != path])
        if name in names:
            raise UsageError(
                f"two {what}s are called {name}",
                f"name each {what} once; NAME={path} sets the name",
            )
        names[name] = path
    return names


def _short(path: str, others: Sequence[str]) -> str:
    parts = path.rstrip("/").split("/")
    ends = [other.rstrip("/").split("/") for other in others]
    size = next(
        (
            size
            for size in range(1, len(parts))
            if all(end[-size:] != parts[-size:] for end in ends)
        ),
        len(parts),
    )
    return "/".join(parts[-size:])


def task_name(name: str) -> str:
    """A name that mteb can use as a file name: `data/test.jsonl.gz` is `data-test`; stdin is `stdin`.

    >>> task_name("data/test.jsonl.gz")
    'data-test'
    """
    return re.sub(r"[^\w.-]+", "-", EXTENSIONS.sub("", name)).strip("-.") or "stdin"
