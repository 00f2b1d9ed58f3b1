"""The options that name vectors: of a file, or of a model? Imports neither numpy nor torch."""

from __future__ import annotations

import glob
import os

from fletching.early_checks import MODEL_FILES

REFERENCES = ("guide", "teacher_vectors", "document_vectors")  # options, by field
ENDINGS = (".parquet", ".arrow", ".arrows", ".jsonl", ".json", ".gz", ".zst")


def flag_of(field: str) -> str:
    """What a user calls an option."""
    return "--" + field.replace("_", "-")


def names_vectors(name: str) -> bool:
    """Does it name `vectors`: a file, a pattern, or a folder of them that holds no model?"""
    if os.path.isdir(name):
        return not any(os.path.exists(os.path.join(name, file)) for file in MODEL_FILES)
    return os.path.isfile(name) or glob.has_magic(name) or name.endswith(ENDINGS)
