"""How near an exported model is to torch, what it loses in retrieval, and how fast both are."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fletching.encode.model import role_prompt
from fletching.report import Report
from fletching_export import retrieval
from fletching_export.retrieval import RetrievalChange, RetrievalTask
from fletching_export.speed import Encode, Speed, measure_speeds

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

Vectors = npt.NDArray[np.float32]

BATCH = 32
NEIGHBOURS = 10
TINY = 1e-12  # below it a vector has no direction


@dataclass(frozen=True, kw_only=True)
class Parity:
    """An export beside torch in float32.

    cosine_mean, cosine_min: between the two vectors of a text. worst: the number of the text of
    the smallest. largest_difference: of any component. kept: the share of a text's ten nearest
    that still are. model_bytes: of the weights of the model, graph_bytes: of the export.
    """

    texts: int
    cosine_mean: float
    cosine_min: float
    worst: int
    largest_difference: float
    kept: float | None
    torch_speed: Speed
    speed: Speed
    model_bytes: int
    graph_bytes: int
    threads: int
    retrieval: Sequence[RetrievalChange]

    def as_json(self) -> dict[str, Any]:
        """All figures."""
        content = dataclasses.asdict(self)
        for change, figures in zip(self.retrieval, content["retrieval"]):
            figures["change"] = change.change
        return content

    def rows(self, name: str) -> list[list[str]]:
        """The report as a table: (figure, torch, export). name: of the export."""
        rows = [
            ["", "torch float32", name],
            ["cosine to torch, mean", "1", f"{self.cosine_mean:.6f}"],
            [f"cosine to torch, smallest of {self.texts:,} texts", "1", f"{self.cosine_min:.6f}"],
        ]
        if self.kept is not None:
            rows.append(["nearest 10 texts that stay", "100 %", f"{self.kept:.1%}"])
        for change in self.retrieval:
            label = f"nDCG@10, {change.task} ({change.queries:,} queries)"
            rows.append([label, f"{change.torch:.4f}", f"{change.exported:.4f}"])
            interval = f"{change.change:+.4f} [{change.low:+.4f}, {change.high:+.4f}]"
            rows.append(["change, 95 % interval", "", interval])
        speeds = (self.torch_speed, self.speed)
        rows.append(["ms a query", *(f"{each.query_ms:.2f}" for each in speeds)])
        rows.append(
            ["texts/s, batches of 32", *(f"{each.texts_per_second:,.0f}" for each in speeds)]
        )
        sizes = (self.model_bytes, self.graph_bytes)
        rows.append(["MB of weights", *(f"{size / 1e6:,.1f}" for size in sizes)])
        return rows


class TorchComparison:
    """Torch and an export over the same texts.

    encode: of the export. threads: of both. torch: the model in float32; truncate_dim: of both.
    """

    def __init__(
        self, torch: SentenceTransformer, encode: Encode, *, truncate_dim: int | None, seed: int
    ) -> None:
        self.torch, self.exported = torch, encode
        self.truncate_dim = truncate_dim
        self.seed = seed

    def encode_torch(self, texts: Sequence[str]) -> Vectors:
        """As a user of sentence-transformers gets them; cut vectors are normalised as they were."""
        vectors: Vectors = self.torch.encode(
            list(texts),
            prompt="",
            batch_size=BATCH,
            truncate_dim=self.truncate_dim,
            normalize_embeddings=self.truncate_dim is not None and self._is_normalised,
            show_progress_bar=False,
        )
        return vectors

    @property
    def _is_normalised(self) -> bool:
        return any(type(module).__name__ == "Normalize" for module in self.torch)

    def encode_exported(self, texts: Sequence[str]) -> Vectors:
        """By the exported graph, in batches."""
        parts = [
            self.exported(texts[start : start + BATCH]) for start in range(0, len(texts), BATCH)
        ]
        return np.concatenate(parts)

    def measure(
        self,
        texts: Sequence[str],
        tasks: Sequence[RetrievalTask],
        report: Report,
        **sizes: int,
    ) -> Parity:
        """The report over texts and tasks. sizes: the fields of bytes and threads."""
        expected, got = self.encode_torch(texts), self.encode_exported(texts)
        cosines = _cosines(expected, got)
        changes = [self._compare(task) for task in tasks]
        encoders = [self.encode_torch, self.exported]
        with report.progress("timing", 1, "comparisons") as progress:
            torch_speed, speed = measure_speeds(encoders, texts)
            progress.advance()
        return Parity(
            texts=len(texts),
            cosine_mean=float(cosines.mean()),
            cosine_min=float(cosines.min()),
            worst=int(cosines.argmin()),
            largest_difference=float(np.abs(expected - got).max()),
            kept=_neighbours_kept(expected, got),
            torch_speed=torch_speed,
            speed=speed,
            retrieval=changes,
            **sizes,
        )

    def _compare(self, task: RetrievalTask) -> RetrievalChange:
        query_prompt = role_prompt(self.torch, "query", None)
        document_prompt = role_prompt(self.torch, "document", None)
        queries = [query_prompt + text for text in task.queries]
        documents = [document_prompt + text for text in task.documents]
        values = []
        for encode in (self.encode_torch, self.encode_exported):
            query_vectors, document_vectors = _unit(encode(queries)), _unit(encode(documents))
            values.append(retrieval.ndcg(query_vectors @ document_vectors.T, task.relevant))
        return retrieval.compare(task, torch=values[0], exported=values[1], seed=self.seed)


def _unit(vectors: Vectors) -> npt.NDArray[np.float64]:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit: npt.NDArray[np.float64] = vectors.astype(np.float64) / np.maximum(lengths, TINY)
    return unit


def _cosines(expected: Vectors, got: Vectors) -> npt.NDArray[np.float64]:
    """The cosine of each pair; 1 where both are zero."""
    cosines: npt.NDArray[np.float64] = (_unit(expected) * _unit(got)).sum(1)
    are_zero = ~expected.any(1) & ~got.any(1)
    return np.where(are_zero, 1.0, cosines)


def _neighbours_kept(expected: Vectors, got: Vectors) -> float | None:
    """The share of each text's ten nearest that still are; None where there are no more texts."""
    if len(expected) <= NEIGHBOURS + 1:
        return None
    sets = []
    for vectors in (expected, got):
        unit = _unit(vectors)
        similarity = unit @ unit.T
        np.fill_diagonal(similarity, -np.inf)
        sets.append(np.argsort(-similarity, axis=1, kind="stable")[:, :NEIGHBOURS])
    shared = [len({*before} & {*after}) for before, after in zip(*sets)]
    return float(np.mean(shared)) / NEIGHBOURS
