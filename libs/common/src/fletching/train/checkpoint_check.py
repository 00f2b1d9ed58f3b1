"""Is a checkpoint whole? Looked at before a run resumes from it.

Needs torch and safetensors, which are imported when it is called.
"""

from __future__ import annotations

import glob
import json
import os
import zipfile
from typing import Any

PREFIX = "checkpoint-"  # of the folder, before the step
WEIGHTS = "weights.safetensors"
OPTIMIZER = "optimizer.pt"
SCHEDULER = "scheduler.pt"
STATE = "trainer_state.json"
RANDOM_STATES = "rng_state*.pth"
CHECKSUMS = "checksums.json"
BLOCK = 1 << 20


def write_checksums(folder: str) -> None:
    """Note the xxh3-128 of all files beside them."""
    paths = sorted(glob.glob("**", root_dir=folder, recursive=True))
    digests = {
        path: _digest(os.path.join(folder, path))
        for path in paths
        if os.path.isfile(os.path.join(folder, path))
    }
    with open(os.path.join(folder, CHECKSUMS), "w", encoding="utf-8") as file:
        json.dump(digests, file, indent=1)


def _digest(path: str) -> str:
    import xxhash

    digest = xxhash.xxh3_128()
    with open(path, "rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _differing_file(folder: str) -> str | None:
    """The first file whose checksum differs; older checkpoints have none."""
    for name, digest in (read_json(os.path.join(folder, CHECKSUMS)) or {}).items():
        path = os.path.join(folder, name)
        if not os.path.isfile(path) or _digest(path) != digest:
            return f"{name} is missing or changed (its checksum differs)"
    return None


def find_damage(folder: str, step: int) -> str | None:
    """What is broken in the checkpoint of this step, with the file; None where it is whole."""
    state = read_json(os.path.join(folder, STATE))
    if state is None or state.get("global_step") != step:
        return f"{STATE} is missing, broken or of another step"
    if damage := _differing_file(folder):
        return damage
    best = state.get("best_global_step")
    if best is not None and best != step:  # its weights are the result of the run
        best_name = f"{PREFIX}{best}"
        best_folder = os.path.join(os.path.dirname(folder), best_name)
        damage = _damage_of_weights(os.path.join(best_folder, WEIGHTS))
        if damage := damage or _differing_file(best_folder):
            return f"the best one before it, {best_name}: {damage}"
    random_states = glob.glob(os.path.join(glob.escape(folder), RANDOM_STATES))
    if not random_states:
        return "the random state (rng_state.pth) is missing"
    if damage := _damage_of_weights(os.path.join(folder, WEIGHTS)):
        return damage
    for name in [OPTIMIZER, SCHEDULER, *map(os.path.basename, sorted(random_states))]:
        if damage := _damage_of_archive(os.path.join(folder, name)):
            return damage
    if not _has_content(os.path.join(folder, OPTIMIZER)):
        return f"{OPTIMIZER} is empty"
    return None


def _damage_of_weights(path: str) -> str | None:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt"):  # compares the header with the size of the file
            return None
    except (OSError, SafetensorError) as error:
        return f"{WEIGHTS} cannot be read ({error})"


def _damage_of_archive(path: str) -> str | None:
    """torch saves zip archives: their checksums find cuts and flipped bits, without unpickling."""
    name = os.path.basename(path)
    try:
        with zipfile.ZipFile(path) as archive:
            broken = archive.testzip()
    except (OSError, zipfile.BadZipFile) as error:
        return f"{name} cannot be read ({error})"
    return f"{name} is damaged in {broken}" if broken else None


def _has_content(path: str) -> bool:
    import pickle

    import torch

    try:
        state = torch.load(path, map_location="cpu", mmap=True, weights_only=True)
    except (OSError, RuntimeError, pickle.UnpicklingError):
        return False
    return bool(state)


def read_json(path: str) -> dict[str, Any] | None:
    """The object of a JSON file; None where there is none that can be read."""
    try:
        with open(path, encoding="utf-8") as file:
            content = json.load(file)
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None
