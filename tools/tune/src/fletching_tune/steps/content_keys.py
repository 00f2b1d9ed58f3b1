"""Keys of steps by content: of inputs, command line, versions of programs, base model."""

from __future__ import annotations

import functools
import glob
import importlib.metadata
import json
import os
from collections.abc import Iterator

import xxhash

from fletching_tune.steps.step import Step

BLOCK = 1 << 20
NOT_CONTENT = {"README.md"}  # of a model folder: its card changes no vector


def file_digest(path: str) -> str:
    """xxh3-128 of the bytes of a file."""
    running = xxhash.xxh3_128()
    with open(path, "rb") as file:
        while block := file.read(BLOCK):
            running.update(block)
    return running.hexdigest()


def content_digest(path: str, *, is_model: bool = False) -> str:
    """The digest of a file, of the names and files of a folder, or of the matches of a glob.

    What is none of them, a URL or a hub name, is its name.
    """
    if os.path.isfile(path):
        return file_digest(path)
    if os.path.isdir(path):
        skipped = NOT_CONTENT if is_model else set()
        return _of_files({name: full for name, full in _tree(path) if name not in skipped})
    matches = sorted(glob.glob(path, recursive=True))
    if matches:
        return _of_files({match: match for match in matches if os.path.isfile(match)})
    return f"name:{path}"


def _tree(folder: str) -> Iterator[tuple[str, str]]:
    for parent, _, names in os.walk(folder, followlinks=True):
        for name in names:
            full = os.path.join(parent, name)
            yield os.path.relpath(full, folder), full


def _of_files(files: dict[str, str]) -> str:
    running = xxhash.xxh3_128()
    for name, path in sorted(files.items()):
        running.update(f"{name}\n{file_digest(path)}\n".encode())
    return running.hexdigest()


@functools.cache
def version_of(program: str) -> str:
    """The version of the package of a program; "unknown" where it is no package of ours."""
    try:
        return importlib.metadata.version("fletching-" + program.removeprefix("fletching-"))
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def step_key(step: Step) -> str:
    """What must be equal for the outputs of a step to be those of an earlier run."""
    content = {
        "argv": step.argv,
        "stdout": step.stdout,
        "inputs": [content_digest(path) for path in step.inputs],
        "models": [content_digest(path, is_model=True) for path in step.models],
        "versions": [version_of(step.program), version_of("fletching-tune"), _common_version()],
    }
    text = json.dumps(content, ensure_ascii=False, sort_keys=True)
    return xxhash.xxh3_128_hexdigest(text.encode("utf-8", "surrogateescape"))


@functools.cache
def _common_version() -> str:
    return importlib.metadata.version("fletching")
