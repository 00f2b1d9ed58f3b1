"""Our encoder under mteb's protocol: safe loading, each text once, truncated and quantised vectors.

mteb loads no model itself, neither from its registry nor by name, so that no code of a model
folder runs and no two local models are taken for the same one: the revision that mteb sees is a
hash of the weights and of every setting that decides a vector.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
import xxhash
from mteb.abstasks.abstask import AbsTask
from mteb.abstasks.task_metadata import TaskMetadata
from mteb.models import ModelMeta
from mteb.models.abs_encoder import get_prompt_name
from mteb.models.model_meta import ScoringFunction
from mteb.types import PromptType

from fletching import lineage
from fletching.encode import Encoder
from fletching.encode.precomputed import PrecomputedEmbeddings
from fletching.protocols import Role, TextEncoder
from fletching.report import Report

Numbers = Literal["float", "int8", "binary"]
Vectors = npt.NDArray[np.float32]

TINY = 1e-12  # instead of a norm of 0
STEPS = 127  # of an int8 on each side of 0
EXACT_FLOAT32 = 1 << 24  # up to which float32 holds every whole number


@dataclass(frozen=True)
class VectorVariant:
    """How the vectors of a model are truncated and quantised before they are compared."""

    dimensions: int | None = None  # None: all of them
    numbers: Numbers = "float"

    @property
    def suffix(self) -> str:
        """What is added to the model's name: `@128-int8`."""
        parts = [str(self.dimensions)] if self.dimensions else []
        if self.numbers != "float":
            parts.append(self.numbers)
        return "@" + "-".join(parts) if parts else ""

    def apply(self, vectors: Vectors) -> Vectors:
        """Unit vectors (n, D) to float32 unit vectors (n, d).

        int8: 127 steps on each side, scaled by the vector's largest entry, so that no calibration
        set is needed. binary: the sign, as +1 or -1; the cosine then ranks as the Hamming
        distance does.
        """
        truncated = vectors[:, : self.dimensions]
        if self.numbers == "float" and self.dimensions is None:
            return truncated
        if self.numbers == "int8":
            largest = np.abs(truncated).max(1, keepdims=True)
            truncated = np.rint(truncated * (STEPS / np.maximum(largest, TINY)))
        elif self.numbers == "binary":
            truncated = np.where(truncated > 0, np.float32(1), np.float32(-1))
        norms = np.linalg.norm(truncated, axis=1, keepdims=True)
        unit: Vectors = (truncated / np.maximum(norms, TINY)).astype(np.float32)
        return unit

    def whole_numbers(self, vectors: npt.ArrayLike) -> torch.Tensor:
        """The whole numbers that quantised vectors were before they got unit length, (n, d).

        float32 where all dot products of them are exact in it, else float64.
        """
        unit = np.asarray(vectors, np.float32)
        if self.numbers == "binary":
            whole = np.where(unit > 0, np.float32(1), np.float32(-1))
        else:
            largest = np.abs(unit).max(1, keepdims=True)
            whole = np.rint(unit * (STEPS / np.maximum(largest, TINY)))
        is_exact = whole.shape[1] * STEPS**2 <= EXACT_FLOAT32
        return torch.as_tensor(whole if is_exact else whole.astype(np.float64))


class EvaluatedModel:
    """One variant of a model as mteb's EncoderProtocol wants it.

    prompts_used: by kind of text, what `encode` prepended last. texts: how many it encoded.
    """

    def __init__(
        self, name: str, encoder: TextEncoder, *, variant: VectorVariant, report: Report
    ) -> None:
        self.name = name + variant.suffix
        self.encoder, self.variant, self.report = encoder, variant, report
        self.role_prompts = dict(encoder.prompts)
        self.saved_prompts: dict[str, str] = {}
        most_tokens: int | None = None
        if isinstance(encoder, Encoder):
            every = encoder.model.prompts or {}
            self.saved_prompts = {name: text for name, text in every.items() if text}
            most_tokens = encoder.lengths["document"]
        self.prompts_used: dict[str, str] = {}
        self.data_prompts: dict[str, str] = {}  # of the task, by query id
        self.is_reversed = False  # the documents of the task are the queries of the data
        self.texts = 0
        overwrites: dict[str, Any] = {
            "name": f"local/{self.name}",
            "revision": self.revision,
            "embed_dim": variant.dimensions or encoder.dimension,
            "max_tokens": most_tokens,
            "framework": ["Sentence Transformers", "PyTorch"],
            "similarity_fn_name": ScoringFunction.COSINE,
            "use_instructions": any(self.role_prompts.values()),
        }
        self.mteb_model_meta = ModelMeta.create_empty(overwrites)

    @property
    def settings(self) -> dict[str, Any]:
        """What decides the vectors: weights, prompts, lengths, number type, variant."""
        settings = self.encoder.settings | {
            "prompts": self.role_prompts,
            "model_prompts": self.saved_prompts,
            "dimensions": self.variant.dimensions,
            "numbers": self.variant.numbers,
        }
        if isinstance(self.encoder, PrecomputedEmbeddings):
            settings["vectors"] = self.encoder.digest.hexdigest()
        if self.is_quantised:
            settings["similarity"] = "exact"  # results of before had ties broken by rounding
        return settings

    @property
    def is_quantised(self) -> bool:
        """Are its cosines ratios of whole numbers?"""
        return self.variant.numbers != "float"

    @property
    def revision(self) -> str:
        """xxh3-128 of the settings."""
        return xxhash.xxh3_128_hexdigest(lineage.dump(self.settings))

    def prepare(self, task: AbsTask) -> None:
        """Take over what a task says of its texts, and count from 0."""
        self.data_prompts = getattr(task, "data_prompts", {})
        self.is_reversed = getattr(task, "reversed", False)
        self.texts = 0

    def encode(
        self,
        inputs: Iterable[Mapping[str, Any]],
        *,
        task_metadata: TaskMetadata,
        hf_split: str,
        hf_subset: str,
        prompt_type: PromptType | None = None,
        **_: object,
    ) -> Vectors:
        """Unit vectors of all texts of the batches, float32 (texts, d)."""
        texts: list[str] = []
        ids: list[str | None] = []
        for batch in inputs:
            texts += batch["text"]
            ids += batch.get("id", [None] * len(batch["text"]))
        if self.is_reversed:
            prompt_type = _swap(prompt_type)
        role: Role = "document" if prompt_type == PromptType.document else "query"
        prompt = self._prompt(task_metadata, prompt_type)
        self.encoder.prompts[role] = prompt
        self.prompts_used[prompt_type.value if prompt_type else "text"] = prompt
        prompts = None
        if prompt_type == PromptType.query and self.data_prompts:
            prompts = [self.data_prompts.get(identity or "") for identity in ids]
        self.texts += len(texts)
        doing = f"{self.name}, {task_metadata.name}: encoding"
        with self.report.progress(doing, len(texts), "texts") as progress:
            vectors = self.encoder.encode(texts, role, prompts=prompts, progress=progress)
        self.encoder.flush()  # for the next task or variant
        return self.variant.apply(vectors)

    def _prompt(self, task_metadata: TaskMetadata, prompt_type: PromptType | None) -> str:
        """The prompt as mteb chooses it, by task, kind of task or role; an option wins over it."""
        role: Role | None = prompt_type.value if prompt_type else None
        if not isinstance(self.encoder, Encoder):
            return self.role_prompts[role] if role else ""
        options = self.encoder.options
        by_role = {"query": options.query_prompt, "document": options.doc_prompt, None: None}
        option = by_role[role]
        if option is not None:
            return option
        name = get_prompt_name(self.saved_prompts, task_metadata, prompt_type)
        if name:
            return self.saved_prompts[name]
        if role:
            return self.role_prompts[role]
        return self.saved_prompts.get(self.encoder.model.default_prompt_name or "", "")

    # Unit vectors of equal Hamming distance differ in the last bit of their cosine, by the order
    # in which a sum is rounded, so that ties would fall anyhow: dot products of whole numbers tie.

    def similarity(self, first: npt.ArrayLike, second: npt.ArrayLike) -> torch.Tensor:
        """Cosines of all pairs, (len(first), len(second)): the vectors have unit length."""
        if not self.is_quantised:
            return torch.as_tensor(first) @ torch.as_tensor(second).T
        left, right = self.variant.whole_numbers(first), self.variant.whole_numbers(second)
        cosines = left @ right.T
        cosines /= _norms(left)[:, None]
        cosines /= _norms(right)
        return cosines.float()

    def similarity_pairwise(self, first: npt.ArrayLike, second: npt.ArrayLike) -> torch.Tensor:
        """Cosines of the aligned pairs, (len(first),)."""
        if not self.is_quantised:
            return (torch.as_tensor(first) * torch.as_tensor(second)).sum(-1)
        left, right = self.variant.whole_numbers(first), self.variant.whole_numbers(second)
        return ((left * right).sum(-1) / _norms(left) / _norms(right)).float()


def _norms(whole: torch.Tensor) -> torch.Tensor:
    """Lengths (n,) of vectors of whole numbers: the squares add up exactly."""
    return whole.square().sum(-1).sqrt().clamp_min(TINY)


def _swap(prompt_type: PromptType | None) -> PromptType | None:
    """The other role; no role stays none."""
    if prompt_type is None:
        return None
    return PromptType.query if prompt_type == PromptType.document else PromptType.document
