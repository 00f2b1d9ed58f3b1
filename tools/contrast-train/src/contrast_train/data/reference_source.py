"""Does an option name a file of vectors, or a model? Imports neither numpy nor torch."""

from __future__ import annotations

import os

from fletching.early_checks import MODEL_FILES

ENDINGS = (".parquet", ".arrow", ".arrows", ".jsonl", ".json", ".gz", ".zst")


def names_vectors(name: str) -> bool:
    """Does it name `vectors`: a file, or a folder of them that holds no model?"""
    if os.path.isdir(name):
        return not any(os.path.exists(os.path.join(name, file)) for file in MODEL_FILES)
    return os.path.isfile(name) or name.endswith(ENDINGS)


def list_files(name: str) -> list[str]:
    """The file, or the files of the folder, in the order of their names."""
    if not os.path.isdir(name):
        return [name]
    paths = [os.path.join(folder, file) for folder, _, files in os.walk(name) for file in files]
    return sorted(path for path in paths if not os.path.basename(path).startswith("."))
