"""What decides a run: its manifest, the digests of it that a model keeps, how two differ.

A published model holds both digests in `fletching.json`, under `end.run`: when its command is given
again, it is done. They leave out where files are; the manifest has the digests of their content.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

import xxhash

from fletching import lineage
from fletching.train.checkpoint_check import read_json

Manifest = dict[str, Any]
Identity = dict[str, str]

# Paths, beside the digest of what is there.
PATHS = (
    *("model", "eval", "eval_corpus", "tasks", "adapters"),
    *("guide", "teacher_vectors", "document_vectors"),
)
LONGEST_VALUE = 40  # characters of a text in a description of changes


def digest_command(tool: str, options: Mapping[str, Any]) -> str:
    """The digest of a command as it was given. options: by field name."""
    return _digest({"tool": tool, "options": _without_paths(options)})


def digest_manifest(manifest: Manifest) -> str:
    """The digest of data, models, version and options of a run."""
    return _digest(manifest | {"options": _without_paths(manifest.get("options", {}))})


def read_identity(folder: str) -> Identity:
    """The digests of the run that a model folder is the result of; {} where there are none."""
    node: object = read_json(os.path.join(folder, "fletching.json"))
    for key in ("end", "run"):
        node = node.get(key) if isinstance(node, dict) else None
    return node if isinstance(node, dict) else {}


def _without_paths(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options without those that name files; settings read from such a file stay."""
    return {
        name: value
        for name, value in options.items()
        if name not in PATHS or isinstance(value, dict)
    }


def _digest(content: Mapping[str, Any]) -> str:
    return xxhash.xxh3_128_hexdigest(lineage.dump(content))


def describe_changes(
    before: Mapping[str, Any], after: Mapping[str, Any], phrase: str = "{key} was {old}, now {new}"
) -> list[str]:
    """What differs between two manifests, one phrase each.

    >>> describe_changes({"options": {"lr": 1}}, {"options": {"lr": 2, "batch": 8}})
    ['batch was unset, now 8', 'lr was 1, now 2']
    """
    changes: list[str] = []
    for key in sorted({*before, *after}):
        old, new = before.get(key), after.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            changes += describe_changes(old, new, phrase)
        elif old != new:
            changes.append(phrase.format(key=key, old=_display(old), new=_display(new)))
    return changes


def _display(value: object) -> str:
    if value is None:
        return "unset"
    if isinstance(value, str):
        return value[-LONGEST_VALUE:]
    return json.dumps(value, ensure_ascii=False)
