"""The model that made a file of vectors, as the file's lineage states it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fletching.errors import InputError
from fletching.protocols import Lineage, Role

ROLES: tuple[Role, ...] = ("query", "document")
# What two files of one run of texts cannot differ in; names as encoders' settings have them.
IDENTITY = ("fingerprint", "served_model", "dimension")


def stated_settings(node: Lineage) -> dict[str, Any]:
    """The settings of the encoder in a lineage step: of texts2vectors, or of a cache's shard."""
    options = node.get("options")
    if not isinstance(options, dict):
        return {}
    model = options.get("model")
    return model if isinstance(model, dict) else options


def check_one_model(names: Sequence[str], nodes: Sequence[Lineage]) -> None:
    """Raise InputError where two of these files are of two models. names: of the files."""
    first: tuple[str, dict[str, Any]] | None = None
    for name, node in zip(names, nodes):
        settings = stated_settings(node)
        identity = {key: settings[key] for key in IDENTITY if key in settings}
        if not identity:
            continue
        identity["is_int8"] = str(settings.get("dtype")).startswith("int8")
        if first is None:
            first = (name, identity)
        elif identity != first[1]:
            raise InputError(
                f"{name} holds vectors of another model than {first[0]}",
                "take the files of one model, encoded with the same options",
            )


def stated_prompts(nodes: Sequence[Lineage]) -> dict[Role, str]:
    """By role, the prompt that the files state their texts were encoded with; "" without any."""
    prompts: dict[Role, str] = {"query": "", "document": ""}
    for node in nodes:
        stated = stated_settings(node).get("prompts")
        if isinstance(stated, dict):
            prompts |= {role: str(stated[role]) for role in ROLES if role in stated}
            return prompts
    return prompts
