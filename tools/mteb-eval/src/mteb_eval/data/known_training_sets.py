"""The training data that mteb has on record for a model or for its base model."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence

import yaml
from huggingface_hub.repocard import REGEX_YAML_BLOCK
from mteb.abstasks.abstask import AbsTask
from mteb.models.model_implementations import MODEL_REGISTRY

from fletching import yaml_text


def training_set_flags(models: Iterable[str], tasks: Sequence[AbsTask]) -> list[tuple[str, str]]:
    """(task, flag) where a model, or the one it was tuned from, was trained on the task's data."""
    names = dict.fromkeys(name for path in models for name in (path, *base_models(path)))
    flags = []
    for name in names:
        meta = MODEL_REGISTRY.get(name)
        training_sets = (meta.get_training_datasets() if meta else None) or ()
        for task in tasks:
            title = task.metadata.name
            if title in training_sets:
                flag = f"by mteb's records {name} was trained on data of {title}"
                flags.append((title, flag))
    return flags


def base_models(folder: str) -> list[str]:
    """The models that the card of a folder names as its base.

    The card is data of others: its YAML is read within limits, and what is no name is no base.
    """
    try:
        with open(os.path.join(folder, "README.md"), "rb") as card:
            content = card.read().decode("utf-8")
        block = REGEX_YAML_BLOCK.search(content)
        metadata = yaml_text.parse(block[2].encode(), keys_may_repeat=True) if block else None
    except (ValueError, OSError, RecursionError, yaml.YAMLError):  # no card, or a broken one
        return []
    base = metadata.get("base_model") if isinstance(metadata, dict) else None
    names = base if isinstance(base, list) else [base]
    return [name for name in names if isinstance(name, str) and name]
