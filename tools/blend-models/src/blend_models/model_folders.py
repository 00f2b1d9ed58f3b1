"""What model folders hold, and whether their weights can be blended."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from safetensors import safe_open
from torch import Tensor

from fletching.errors import InputError

MODULES = "modules.json"
ENDING = ".safetensors"
ADAPTER = "adapter_config.json"
# Settings that do not decide how a vector is computed from the weights.
FREE_KEYS = frozenset(
    (
        *("_name_or_path", "transformers_version", "torch_dtype", "dtype", "use_cache"),
        *("__version__", "prompts", "default_prompt_name", "max_seq_length"),
        *("truncation", "padding", "model_max_length", "max_length"),
    )
)
# Settings that are compared, wherever they lie in a folder.
COMPARED = (
    MODULES,
    "config.json",
    "config_sentence_transformers.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "sentence_bert_config.json",
)
COMPARED_ENDINGS = ("vocab.txt", "merges.txt", ".model")
FIX = "blend models that were tuned from one base, with one tokenizer and one pooling"

TensorName = tuple[str, str]  # folder of the module, name in it


@dataclass(frozen=True, kw_only=True)
class ModelFolder:
    """A sentence-transformers folder. Raises InputError, by `read`, where it is none.

    files: every safetensors file, by its path in the folder. tensors: the file of each tensor.
    """

    path: str
    files: tuple[str, ...]
    tensors: Mapping[TensorName, str]

    @classmethod
    def read(cls, path: str) -> ModelFolder:
        """Look into the folder `path`."""
        if not os.path.isfile(os.path.join(path, MODULES)):
            what = "is no folder" if not os.path.isdir(path) else f"holds no {MODULES}"
            raise InputError(f"{path} {what}", "name the folder of a sentence-transformers model")
        names = list(list_files(path))
        for name in names:
            if os.path.basename(name) == ADAPTER:
                raise InputError(
                    f"{path} holds an adapter and not whole weights ({name})",
                    "merge it into its base first, e.g. train without --no-lora-merge",
                )
        files = tuple(name for name in names if name.endswith(ENDING))
        tensors: dict[TensorName, str] = {}
        for file in files:
            for name in _tensor_names(os.path.join(path, file)):
                tensors[os.path.dirname(file), name] = file
        if not tensors:
            raise InputError(
                f"{path} holds no safetensors",
                "load and save it again with sentence-transformers",
            )
        return cls(path=path, files=files, tensors=tensors)

    def tensor(self, name: TensorName) -> Tensor:
        """One tensor, read from its file."""
        with safe_open(os.path.join(self.path, self.tensors[name]), framework="pt") as file:
            tensor: Tensor = file.get_tensor(name[1])
        return tensor

    def settings(self, file: str) -> Any:  # noqa: ANN401  # any JSON
        """The content of a JSON file in the folder; None where it is missing."""
        path = os.path.join(self.path, file)
        if not os.path.isfile(path):
            return None
        with open(path, encoding="utf-8") as content:
            try:
                return json.load(content)
            except ValueError as error:
                raise InputError(f"{path} is no JSON ({error})", "copy the model again") from None


def list_files(folder: str) -> Iterator[str]:
    """The paths of all files in a folder, relative to it, in order."""
    for path, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            yield os.path.relpath(os.path.join(path, name), folder)


def _tensor_names(path: str) -> list[str]:
    try:
        with safe_open(path, framework="pt") as file:
            names: list[str] = list(file.keys())  # no mapping
            return names
    except Exception as error:  # safetensors' own class of errors is no public one
        raise InputError(f"{path} cannot be read ({error})", "copy the model again") from None


def check_alike(models: Sequence[ModelFolder]) -> None:
    """Raise InputError, with the key that differs, unless all models compute alike."""
    first, *others = models
    for other in others:
        for file in _compared_files(first, other):
            _check_file(first, other, file)
        _check_tensors(first, other)


def _compared_files(first: ModelFolder, other: ModelFolder) -> list[str]:
    names = {*list_files(first.path), *list_files(other.path)}
    return sorted(
        (
            name
            for name in names
            if os.path.basename(name) in COMPARED or name.endswith(COMPARED_ENDINGS)
        ),
        key=lambda name: (name != MODULES, name),
    )


def _check_file(first: ModelFolder, other: ModelFolder, file: str) -> None:
    if not file.endswith(".json"):
        contents = [_read_bytes(model, file) for model in (first, other)]
        if contents[0] != contents[1]:
            _refuse(first, other, f"{file} differs")
        return
    one, two = first.settings(file), other.settings(file)
    difference = find_difference(one, two)
    if difference:
        _refuse(first, other, f"{file}: {difference}")


def _read_bytes(model: ModelFolder, file: str) -> bytes | None:
    path = os.path.join(model.path, file)
    if not os.path.isfile(path):
        return None
    with open(path, "rb") as content:
        return content.read()


def find_difference(one: object, two: object, key: str = "") -> str:
    """The first key under which two JSON values differ, with both; "" where they are alike."""
    if isinstance(one, dict) and isinstance(two, dict):
        for name in sorted({*one, *two} - FREE_KEYS):
            difference = find_difference(
                one.get(name), two.get(name), f"{key}.{name}" if key else name
            )
            if difference:
                return difference
        return ""
    if isinstance(one, list) and isinstance(two, list) and len(one) == len(two):
        pairs = enumerate(zip(one, two))
        return next(
            (found for n, pair in pairs if (found := find_difference(*pair, f"{key}[{n}]"))), ""
        )
    if one == two:
        return ""
    return f"`{key or 'content'}` is {_shown(one)} in the first and {_shown(two)} in the second"


def _shown(value: object) -> str:
    text = "missing" if value is None else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "..."


def _check_tensors(first: ModelFolder, other: ModelFolder) -> None:
    for name in sorted({*first.tensors} ^ {*other.tensors}):
        lacking = other if name in first.tensors else first
        _refuse(first, other, f"{lacking.path} has no tensor `{'/'.join(filter(None, name))}`")
    for name in first.tensors:
        shapes = [tuple(model.tensor(name).shape) for model in (first, other)]
        if shapes[0] != shapes[1]:
            shown = "/".join(filter(None, name))
            _refuse(first, other, f"tensor `{shown}` has the shapes {shapes[0]} and {shapes[1]}")


def _refuse(first: ModelFolder, other: ModelFolder, why: str) -> None:
    raise InputError(f"{first.path} and {other.path} are no blend: {why}", FIX)
