"""What runs in one process and in several said, and the weights that they left."""

from __future__ import annotations

from pathlib import Path
from typing import Any

ALONE = {"OMP_NUM_THREADS": "1"}  # as torchrun sets it


def said(text: str, tool: str = "contrast-train") -> list[str]:
    return [line for line in text.splitlines() if line.startswith(f"{tool}: ")]


def plain(text: str, tool: str = "contrast-train") -> list[str]:
    """What was said but for seconds: without the summary and the progress of a slow machine."""
    return [line for line in said(text, tool)[:-1] if f"{tool}: training " not in line]


def tensors(folder: Path) -> dict[str, Any]:
    """The weights of all modules of a model folder."""
    from safetensors.torch import load_file

    files = sorted(folder.rglob("*.safetensors"))
    return {
        f"{path.relative_to(folder)}:{name}": tensor
        for path in files
        for name, tensor in load_file(path).items()
    }


def furthest(one: Path, other: Path) -> float:
    ours, theirs = tensors(one), tensors(other)
    assert ours.keys() == theirs.keys()
    return max(float((ours[name] - theirs[name]).abs().max()) for name in ours)
