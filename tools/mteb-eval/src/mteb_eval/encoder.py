"""Our encoder under mteb's protocol: safe loading, each text once, fewer dimensions and smaller numbers.

mteb loads no model here, neither by its registry nor by name, so that no code of a model folder runs
and no two local models are taken for the same one: the revision that mteb sees is a hash of the weights
and of every setting that decides a vector.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
import xxhash
from mteb.models import ModelMeta
from mteb.models.abs_encoder import get_prompt_name
from mteb.models.model_meta import ScoringFunction
from mteb.types import PromptType

from fletching import lineage
from fletching.encode import Encoder
from fletching.report import Report

Quantised = Literal["float", "int8", "binary"]


@dataclass(frozen=True)
class Variant:
    """How the vectors of a model are cut down before they are compared."""

    dimensions: int | None = None  # None: all of them
    numbers: Quantised = "float"

    @property
    def suffix(self) -> str:
        """What is added to the model's name: `@128-int8`."""
        parts = [str(self.dimensions)] if self.dimensions else []
        parts += [self.numbers] if self.numbers != "float" else []
        return "@" + "-".join(parts) if parts else ""

    def apply(self, vectors: np.ndarray) -> np.ndarray:
        """Unit vectors [n, D] to float32 unit vectors [n, d] that hold only what the variant keeps.

        int8: 127 steps a side, scaled by the vector's largest entry, so that no calibration set is needed.
        binary: the sign, as +1 or -1; the cosine then orders as the Hamming distance does.
        """
        kept = vectors[:, : self.dimensions]
        if self.numbers == "int8":
            kept = np.rint(kept * (127 / np.maximum(np.abs(kept).max(1, keepdims=True), 1e-12)))
        elif self.numbers == "binary":
            kept = np.where(kept > 0, np.float32(1), np.float32(-1))
        elif self.dimensions is None:
            return kept
        norms = np.linalg.norm(kept, axis=1, keepdims=True)
        return (kept / np.maximum(norms, 1e-12)).astype(np.float32)


class Model:
    """One variant of a model as mteb's EncoderProtocol asks for it."""

    def __init__(self, name: str, encoder: Encoder, variant: Variant, report: Report) -> None:
        self.name = name + variant.suffix
        self.encoder, self.variant, self.report = encoder, variant, report
        self.own_prompts = dict(encoder.prompts)
        self.prompts_used: dict[str, str] = {}
        self.data_prompts: dict[str, str] = {}  # the task's own prompts, by query id
        self.reversed = False  # the task's documents are the queries of the data
        self.texts = 0
        overwrites: dict[str, Any] = dict(
            name=f"local/{self.name}",
            revision=self.revision,
            embed_dim=variant.dimensions or encoder.dimension,
            max_tokens=encoder.lengths["document"],
            framework=["Sentence Transformers", "PyTorch"],
            similarity_fn_name=ScoringFunction.COSINE,
            use_instructions=any(self.own_prompts.values()),
        )
        self.mteb_model_meta = ModelMeta.create_empty(overwrites)

    @property
    def settings(self) -> dict[str, Any]:
        """What decides the vectors: weights, all prompts of the model, lengths, number type, variant."""
        every = {name: text for name, text in (self.encoder.model.prompts or {}).items() if text}
        roles = {"prompts": self.own_prompts, "model_prompts": every}
        return (
            self.encoder.settings
            | roles
            | {"dimensions": self.variant.dimensions, "numbers": self.variant.numbers}
        )

    @property
    def revision(self) -> str:
        return xxhash.xxh3_128_hexdigest(lineage.dump(self.settings))

    def encode(
        self,
        inputs: Any,
        *,
        task_metadata: Any,
        hf_split: str,
        hf_subset: str,
        prompt_type: PromptType | None = None,
        **kwargs: Any,
    ) -> np.ndarray:
        """Unit vectors of all texts of the loader, float32 [texts, d]."""
        texts, identities = [], []
        for batch in inputs:
            texts += batch["text"]
            identities += batch.get("id", [None] * len(batch["text"]))
        if self.reversed and prompt_type:
            prompt_type = (
                PromptType.query if prompt_type == PromptType.document else PromptType.document
            )
        role: Literal["query", "document"] = (
            "document" if prompt_type == PromptType.document else "query"
        )
        self.encoder.prompts[role] = prompt = self._prompt(task_metadata, prompt_type)
        self.prompts_used[prompt_type.value if prompt_type else "text"] = prompt
        prompts = None
        if prompt_type == PromptType.query and self.data_prompts:
            prompts = [self.data_prompts.get(identity) for identity in identities]
        self.texts += len(texts)
        with self.report.progress(
            f"{self.name}, {task_metadata.name}: encoding", len(texts), "texts"
        ) as progress:
            vectors = self.encoder.encode(texts, role, prompts, progress)
        for cache in self.encoder.caches.values():
            cache.flush()  # the next task or variant finds these texts
        return self.variant.apply(vectors)

    def _prompt(self, task_metadata: Any, prompt_type: PromptType | None) -> str:
        """The prompt as mteb chooses it: by task, by kind of task, by role; the command line wins."""
        options = self.encoder.options
        given = {"query": options.query_prompt, "document": options.doc_prompt}.get(
            prompt_type.value if prompt_type else ""
        )
        if given is not None:
            return given
        saved = {name: text for name, text in (self.encoder.model.prompts or {}).items() if text}
        name = get_prompt_name(saved, task_metadata, prompt_type)
        if name:
            return saved[name]
        if prompt_type:
            return self.own_prompts[prompt_type.value]
        return saved.get(self.encoder.model.default_prompt_name or "", "")

    def similarity(self, first: Any, second: Any) -> torch.Tensor:
        """Cosines of all pairs, [len(first), len(second)]: the vectors have unit length."""
        return torch.as_tensor(first) @ torch.as_tensor(second).T

    def similarity_pairwise(self, first: Any, second: Any) -> torch.Tensor:
        """Cosines of the aligned pairs, [len(first)]."""
        return (torch.as_tensor(first) * torch.as_tensor(second)).sum(-1)
