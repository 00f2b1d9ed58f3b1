"""The model that made a file of vectors, as the file's lineage states it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

from fletching.errors import InputError
from fletching.lineage import UNKNOWN
from fletching.protocols import Lineage, Role

ROLES: tuple[Role, ...] = ("query", "document")
# What two files of one run of texts cannot differ in; names as encoders' settings have them.
IDENTITY = ("fingerprint", "served_model", "dimension")


def stated_settings(node: Lineage) -> Iterator[dict[str, Any]]:
    """The settings of the encoders behind a lineage step: of texts2vectors, or a cache's shard.

    They are behind tools that pass vectors on, such as arrowcat; an unknown program may have
    changed the vectors, and nothing is stated behind it.
    """
    options = node.get("options")
    if isinstance(options, dict):
        model = options.get("model")
        settings = model if isinstance(model, dict) else options
        if any(key in settings for key in (*IDENTITY, "prompts")):
            yield settings
            return
    if node.get("tool") != UNKNOWN:
        for source in node.get("from", ()):
            yield from stated_settings(source)


def check_one_model(names: Sequence[str], nodes: Sequence[Lineage]) -> None:
    """Raise InputError where two of these files are of two models. names: of the files."""
    first: tuple[str, dict[str, Any]] | None = None
    stated = (
        (name, settings) for name, node in zip(names, nodes) for settings in stated_settings(node)
    )
    for name, settings in stated:
        identity = {key: settings[key] for key in IDENTITY if key in settings}
        if not identity:
            continue
        identity["is_int8"] = str(settings.get("dtype")).startswith("int8")
        if first is None:
            first = (name, identity)
        elif identity != first[1]:
            is_one_file = name == first[0]
            raise InputError(
                f"{name} holds vectors of "
                + ("two models" if is_one_file else f"another model than {first[0]}"),
                "take the files of one model, encoded with the same options",
            )


def stated_prompts(nodes: Sequence[Lineage]) -> dict[Role, str]:
    """By role, the prompt that the files state their texts were encoded with; "" without any."""
    prompts: dict[Role, str] = {"query": "", "document": ""}
    for settings in itertools.chain.from_iterable(map(stated_settings, nodes)):
        stated = settings.get("prompts")
        if isinstance(stated, dict):
            prompts |= {role: str(stated[role]) for role in ROLES if role in stated}
            return prompts
    return prompts
