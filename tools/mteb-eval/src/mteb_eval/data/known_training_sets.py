"""What mteb notes of the training data of models that it knows, for a model or the one it was tuned from."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence

import yaml
from huggingface_hub import ModelCard
from mteb.abstasks.abstask import AbsTask
from mteb.models.get_model_meta import MODEL_REGISTRY


def noted(models: Iterable[str], tasks: Sequence[AbsTask]) -> list[tuple[str, str]]:
    """(task, flag) where mteb notes that a model, or the one it was tuned from, was trained on a task's data."""
    flags = []
    for known in dict.fromkeys(name for path in models for name in (path, *_tuned_from(path))):
        meta = MODEL_REGISTRY.get(known)
        trained = (meta.get_training_datasets() if meta else None) or ()
        for task in tasks:
            if task.metadata.name in trained:
                flags.append(
                    (
                        task.metadata.name,
                        f"by mteb's notes {known} was trained on data of {task.metadata.name}",
                    )
                )
    return flags


def _tuned_from(path: str) -> list[str]:
    """The models that a folder's card names as its base."""
    card = os.path.join(path, "README.md")
    if not os.path.exists(card):
        return []
    try:
        base = ModelCard.load(card).data.base_model
    except (ValueError, OSError, yaml.YAMLError):  # a card without metadata, or with broken ones
        return []
    return base if isinstance(base, list) else [base] if base else []
