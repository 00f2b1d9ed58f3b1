"""Short names of models and data sets, from NAME=PATH or from the path."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

from fletching.errors import UsageError

EXTENSIONS = re.compile(r"(\.(parquet|arrows?|feather|jsonl|ndjson|json|csv|tsv|gz|zst))+$")
NAME = re.compile(r"[\w.@-]+")
BM25 = "BM25"  # the name of its run
FUSED = f" + {BM25}"  # ends the name of a model's run that is fused with it


def name_paths(items: Sequence[str], kind: str) -> dict[str, str]:
    """Paths by name: of NAME=PATH, else the shortest end of a path that no other path shares.

    kind: what is named ("model"), for the error. Raises UsageError where a name appears twice.
    """
    pairs = [_split_name(item) for item in items]
    paths: dict[str, str] = {}
    for name, path in pairs:
        others = [other for _, other in pairs if other != path]
        name = name or _shortest_end(path, others)
        if name in paths:
            raise UsageError(
                f"two {kind}s are called {name}",
                f"name each {kind} once; NAME={path} sets the name",
            )
        paths[name] = path
    return paths


def _split_name(item: str) -> tuple[str, str]:
    """(name, path) of NAME=PATH; ("", item) where the whole item is a path."""
    name, equals, path = item.partition("=")
    is_named = equals and NAME.fullmatch(name) and not os.path.exists(item)
    return (name, path) if is_named else ("", item)


def _shortest_end(path: str, others: Sequence[str]) -> str:
    """The fewest last parts of the path that tell it from the others."""
    parts = path.rstrip("/").split("/")
    endings = [other.rstrip("/").split("/") for other in others]
    for size in range(1, len(parts)):
        if all(ending[-size:] != parts[-size:] for ending in endings):
            return "/".join(parts[-size:])
    return "/".join(parts)


def task_name(name: str) -> str:
    """A name that mteb can use as a file name; of stdin, `stdin`.

    >>> task_name("data/test.jsonl.gz")
    'data-test'
    """
    stem = EXTENSIONS.sub("", name)
    return re.sub(r"[^\w.-]+", "-", stem).strip("-.") or "stdin"


def subset_label(task: str, subset: str) -> str:
    """The task's name, with the subset where there are several.

    >>> subset_label("STS17", "en-de"), subset_label("SciFact", "default")
    ('STS17[en-de]', 'SciFact')
    """
    return task if subset == "default" else f"{task}[{subset}]"


def is_reference(run: str) -> bool:
    """Is it a run of BM25, alone or fused, with which models are compared?"""
    return run == BM25 or run.endswith(FUSED)


def model_run(run: str) -> str:
    """The run of the model that a run is, or that it is fused from."""
    return run.removesuffix(FUSED)
