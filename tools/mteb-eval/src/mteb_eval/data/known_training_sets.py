"""The training data that mteb has on record for a model or for its base model."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence

import yaml
from huggingface_hub import ModelCard
from mteb.abstasks.abstask import AbsTask
from mteb.models.model_implementations import MODEL_REGISTRY


def training_set_flags(models: Iterable[str], tasks: Sequence[AbsTask]) -> list[tuple[str, str]]:
    """(task, flag) where a model, or the one it was tuned from, was trained on the task's data."""
    names = dict.fromkeys(name for path in models for name in (path, *_base_models(path)))
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


def _base_models(folder: str) -> list[str]:
    """The models that the card of a folder names as its base."""
    path = os.path.join(folder, "README.md")
    if not os.path.exists(path):
        return []
    try:
        base = ModelCard.load(path).data.base_model
    except (ValueError, OSError, yaml.YAMLError):  # a card without metadata, or with broken ones
        return []
    if isinstance(base, list):
        return base
    return [base] if base else []
