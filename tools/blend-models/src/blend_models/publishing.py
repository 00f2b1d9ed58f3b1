"""The folder of a blended model: weights, the settings of the first model, card and lineage."""

from __future__ import annotations

import json
import os
import pathlib
from typing import TYPE_CHECKING, Any

from blend_models import loaded_models
from blend_models.blending import WeightBlend
from blend_models.options import Options
from fletching import cli, lineage, training_index
from fletching.encode import model as models
from fletching.errors import InputError
from fletching.protocols import Lineage
from fletching.report import Report
from fletching.table import atomic
from fletching.train import hardware
from fletching.train import model_card as cards
from fletching.train.publish import save_code
from fletching.train.run_dir import apply_umask
from fletching.training_index import TrainingIndex

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

LINEAGE = "fletching.json"
USAGE = "vectors = model.encode_query([...]), model.encode_document([...])"
LIMITS = (
    "For what its models are for. A blend is often better than each of them and may be worse: "
    "nothing was measured here, `mteb-eval` compares them."
)
METHODS = {
    "mean": "The weighted mean of their weights (model soup, Wortsman et al. 2022).",
    "slerp": "Spherical interpolation of their weights, tensor by tensor (Shoemake 1985).",
}


class BlendedModel:
    """A blend in the making.

    paths, weights: of the models. fingerprints: theirs, known once they were loaded.
    """

    def __init__(self, options: Options, report: Report, tool: cli.Tool) -> None:
        self.options, self.report, self.tool = options, report, tool
        self.paths = [path.rstrip("/") or "/" for path in options.inputs]
        self.weights = list(options.weights) or [1.0] * len(self.paths)
        self.fingerprints: list[str] = []
        for path in self.paths:
            loaded_models.check_weights(path)

    def publish(self) -> None:
        """Write the folder; it appears complete or not at all."""
        output = (self.options.output or "").rstrip("/")
        hardware.silence_libraries()
        model = self._blend()
        with atomic.new_folder(output) as folder:
            model.save_pretrained(folder, create_model_card=False, safe_serialization=True)
            save_code(model, folder)
            self._write_index(folder)
            node = self._lineage_node()
            end = self._end()
            document = lineage.dump({"step": node, "end": end})
            lineage_file = pathlib.Path(folder, LINEAGE)
            lineage_file.write_bytes(document)
            name = os.path.basename(output)
            card = self._card(name, node, model)
            card_file = pathlib.Path(folder, "README.md")
            card_file.write_text(card, encoding="utf-8")
            apply_umask(folder)
        shares = [f"{share:.4g} {name}" for name, share in self._shares()]
        listed = ", ".join(shares)
        self.report.note(f"{self.options.how} of {listed}")

    def _blend(self) -> SentenceTransformer:
        """The first model with the blended weights. In memory: it, the blend and the next one."""
        blend = WeightBlend(self.options.how, self.weights)
        is_trusted = self.options.trust_remote_code
        first = loaded_models.load(self.paths[0], trust_remote_code=is_trusted)
        parts = loaded_models.parts_of(first)
        with self.report.progress("blending", len(self.paths), "models") as progress:
            for number, (path, weight) in enumerate(zip(self.paths, self.weights)):
                model = first
                if number:
                    model = loaded_models.load(path, trust_remote_code=is_trusted)
                names = self.paths[0], path
                parts_of_model = loaded_models.parts_of(model)
                loaded_models.check_alike(parts, parts_of_model, names)
                self._note_differences(first, model, path)
                fingerprint = models.fingerprint(model)
                self.fingerprints.append(fingerprint)
                tensors = model.state_dict()
                blend.add(tensors, weight)
                progress.advance(1)
        first.load_state_dict(blend.result())
        return first

    def _note_differences(
        self, first: SentenceTransformer, model: SentenceTransformer, path: str
    ) -> None:
        """Say which settings are those of the first model alone."""
        for name in ("prompts", "max_seq_length"):
            values = [getattr(each, name) for each in (first, model)]
            if values[0] != values[1]:
                of_first, of_other = (json.dumps(value, ensure_ascii=False) for value in values)
                self.report.note(
                    f"`{name}` is {of_other} in {path}, and {of_first} in the first model, "
                    "which is taken"
                )

    def _shares(self) -> list[tuple[str, float]]:
        total = sum(self.weights)
        shares = [weight / total for weight in self.weights]
        return list(zip(map(cards.short_name, self.paths), shares))

    def _write_index(self, folder: str) -> None:
        """What any of the models was trained on."""
        indexes = [training_index.load(path) for path in self.paths]
        known = [index for index in indexes if index is not None]
        if known:
            merged = TrainingIndex()
            for index in known:
                merged.include(index)
            merged.save(folder)

    def _lineage_node(self) -> Lineage:
        options: dict[str, Any] = {
            "how": self.options.how,
            "weights": self.weights,
            "models": self.fingerprints,
        }
        sources = [self._step_of(path) for path in self.paths]
        return lineage.make_node(
            self.tool.name, self.tool.version, options=options, sources=sources
        )

    def _step_of(self, path: str) -> lineage.Node:
        """The node of the program that wrote a model."""
        node: lineage.Node = _lineage_of(path).get("step", {})
        return node if lineage.is_node(node) else {"tool": lineage.UNKNOWN}

    def _end(self) -> Lineage:
        """How the models were trained, where all that say it say the same."""
        ends = [_lineage_of(path).get("end") or {} for path in self.paths]
        known = [end["trained"] for end in ends if "trained" in end]
        is_common = bool(known) and all(each == known[0] for each in known)
        return {"trained": known[0]} if is_common else {}

    def _card(self, name: str, node: Lineage, model: SentenceTransformer) -> str:
        bases = [cards.read_base_card(path) for path in self.paths]
        strictest = next((base for base in bases if base.restriction), bases[0])
        cards.note_licence(self.report, strictest)
        names = list(dict.fromkeys(base.name for base in bases if base.name))
        rows = [[f"`{path}`", f"{share:.4g}"] for path, share in self._shares()]
        dimension = model.get_embedding_dimension()
        content = cards.CardContent(
            name=name,
            summary=(
                f"A text-embedding model of {dimension} dimensions, blended from {len(rows)} "
                "models with blend-models."
            ),
            usage=USAGE,
            sections=[
                "## Uses and limits",
                LIMITS,
                "## Blend",
                METHODS[self.options.how],
                cards.markdown_table(["model", "share"], rows),
                *cards.versions_section(),
            ],
            lineage_node=node,
            model=model,
            base=strictest,
            merged=names if len(names) > 1 else (),
            tags=["model-soup", "merge"],
        )
        return content.render()


def _lineage_of(path: str) -> dict[str, Any]:
    """The content of a model's lineage file; {} without one. Raises InputError for a broken one."""
    file = pathlib.Path(path, LINEAGE)
    if not file.is_file():
        return {}
    try:
        document = json.loads(file.read_text("utf-8"))
    except ValueError as error:
        raise InputError(f"{file} is no JSON ({error})", "copy the model again") from None
    return document if isinstance(document, dict) else {}
