"""The folder of a blended model: weights, the settings of the first model, card and lineage."""

from __future__ import annotations

import os
import pathlib
import shutil
from typing import Any

import torch
import xxhash
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from blend_models.blending import BLENDS
from blend_models.model_folders import ModelFolder, TensorName, check_alike, list_files
from blend_models.options import Options
from fletching import cli, lineage, training_index
from fletching.errors import InputError
from fletching.protocols import Lineage
from fletching.report import Report
from fletching.table import atomic
from fletching.train import model_card as cards
from fletching.train.run_dir import apply_umask
from fletching.training_index import TrainingIndex

LINEAGE = "fletching.json"
# Settings, tokenizers and code; what is said of one model alone (card, measures) is not copied.
COPIED_ENDINGS = (".json", ".txt", ".model", ".py", ".jinja")
NOT_COPIED = (LINEAGE, "pytorch_model.bin.index.json")
LEFT_OUT_SILENTLY = (".safetensors", "README.md", "measures.parquet", training_index.NAME)
USAGE = "vectors = model.encode_query([...]), model.encode_document([...])"


class BlendedModel:
    """The models of a blend, looked at. Raises InputError where they do not fit together."""

    def __init__(self, options: Options, report: Report, tool: cli.Tool) -> None:
        self.options, self.report, self.tool = options, report, tool
        self.models = [ModelFolder.read(path.rstrip("/") or "/") for path in options.inputs]
        self.weights = list(options.weights) or [1.0] * len(self.models)
        check_alike(self.models)
        self._note_differences()

    def _note_differences(self) -> None:
        """Say which settings are those of the first model alone."""
        for file in ("config_sentence_transformers.json", "sentence_bert_config.json"):
            for name in ("prompts", "max_seq_length"):
                values = [(model.settings(file) or {}).get(name) or None for model in self.models]
                if any(value != values[0] for value in values):
                    self.report.note(f"the models differ in `{name}`: that of the first is taken")

    def publish(self) -> None:
        """Write the folder; it appears complete or not at all."""
        output = (self.options.output or "").rstrip("/")
        with atomic.new_folder(output) as folder:
            self._copy_settings(folder)
            self._write_weights(folder)
            self._write_index(folder)
            node = self._lineage_node()
            document = lineage.dump({"step": node, "end": self._end()})
            pathlib.Path(folder, LINEAGE).write_bytes(document)
            card = self._card(os.path.basename(output), node)
            pathlib.Path(folder, "README.md").write_text(card, encoding="utf-8")
            apply_umask(folder)
        shares = ", ".join(f"{share:.4g} {name}" for name, share in self._shares())
        self.report.note(f"{self.options.how} of {shares}")

    def _shares(self) -> list[tuple[str, float]]:
        total = sum(self.weights)
        return [
            (cards.short_name(model.path), weight / total)
            for model, weight in zip(self.models, self.weights)
        ]

    def _copy_settings(self, folder: str) -> None:
        first, left_out = self.models[0], []
        for name in list_files(first.path):
            if name.endswith(LEFT_OUT_SILENTLY) or name in NOT_COPIED:
                continue
            if not name.endswith(COPIED_ENDINGS):
                left_out.append(name)
                continue
            target = os.path.join(folder, name)
            os.makedirs(os.path.dirname(target), exist_ok=True)
            shutil.copyfile(os.path.join(first.path, name), target)
        if left_out:
            self.report.note(f"not copied from {first.path}: {', '.join(left_out)}")

    def _write_weights(self, folder: str) -> None:
        """Each file of the first model anew, with the blended tensors."""
        total = len(self.models[0].tensors)
        with self.report.progress("blending", total, "tensors") as progress:
            for file in self.models[0].files:
                path = os.path.join(self.models[0].path, file)
                with safe_open(path, framework="pt") as source:
                    names: list[str] = list(source.keys())  # no mapping
                    metadata: dict[str, str] | None = source.metadata()
                tensors = {}
                for name in names:
                    tensors[name] = self._blend((os.path.dirname(file), name))
                    progress.advance(1)
                target = os.path.join(folder, file)
                os.makedirs(os.path.dirname(target), exist_ok=True)
                save_file(tensors, target, metadata=metadata)

    def _blend(self, name: TensorName) -> Tensor:
        """One blended tensor. Raises InputError where it is no float and differs."""
        tensors = [model.tensor(name) for model in self.models]
        if tensors[0].is_floating_point():
            blended = BLENDS[self.options.how](tensors, self.weights)
            if not torch.isfinite(blended).all():
                raise InputError(
                    f"the blend of `{name[1]}` is not finite",
                    "look for the model whose training diverged, and leave it out",
                )
            return blended.contiguous()
        for model, tensor in zip(self.models, tensors):
            if not torch.equal(tensor, tensors[0]):
                raise InputError(
                    f"`{name[1]}` holds whole numbers, which differ in {self.models[0].path} and "
                    f"{model.path}",
                    "blend models that were tuned from one base",
                )
        return tensors[0]

    def _write_index(self, folder: str) -> None:
        """What any of the models was trained on."""
        index, is_known = TrainingIndex(), False
        for model in self.models:
            of_model = training_index.load(model.path)
            if of_model is not None:
                index.include(of_model)
                is_known = True
        if is_known:
            index.save(folder)

    def _lineage_node(self) -> Lineage:
        options: dict[str, Any] = {
            "how": self.options.how,
            "weights": self.weights,
            "models": [hash_weights(model) for model in self.models],
        }
        sources = [_step(model) for model in self.models]
        return lineage.make_node(
            self.tool.name, self.tool.version, options=options, sources=sources
        )

    def _end(self) -> Lineage:
        """How the models were trained, where all of them say the same."""
        documents = [model.settings(LINEAGE) or {} for model in self.models]
        trained = [(document.get("end") or {}).get("trained") for document in documents]
        is_common = trained[0] is not None and all(each == trained[0] for each in trained)
        return {"trained": trained[0]} if is_common else {}

    def _card(self, name: str, node: Lineage) -> str:
        rows = [[f"`{model}`", f"{share:.4g}"] for model, share in self._shares()]
        how = {
            "mean": "The weighted mean of their weights (model soup, Wortsman et al. 2022).",
            "slerp": "Spherical interpolation of their weights, tensor by tensor (Shoemake 1985).",
        }
        content = cards.CardContent(
            name=name,
            summary=f"A text-embedding model, blended from {len(rows)} models with blend-models.",
            usage=USAGE,
            sections=[
                "## Blend",
                how[self.options.how],
                cards.markdown_table(["model", "share"], rows),
            ],
            lineage_node=node,
            tags=["model-soup"],
        )
        return content.render()


def _step(model: ModelFolder) -> lineage.Node:
    """The node of the program that wrote a model."""
    document = model.settings(LINEAGE)
    node: lineage.Node = document.get("step") if isinstance(document, dict) else {}
    return node if lineage.is_node(node) else {"tool": lineage.UNKNOWN}


def hash_weights(model: ModelFolder) -> str:
    """xxh3-128 of all tensors of a model, whatever files they lie in."""
    digest = xxhash.xxh3_128()
    for name in sorted(model.tensors):
        tensor = model.tensor(name).contiguous()
        digest.update(f"{name}:{tensor.dtype}:{tuple(tensor.shape)}".encode())
        digest.update(tensor.view(-1).view(torch.uint8).numpy().data)
    return "xxh3-128:" + digest.hexdigest()
