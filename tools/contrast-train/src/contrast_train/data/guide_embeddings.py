"""The vectors of a guide model, which finds false negatives: each distinct text encoded once,
on disk. The encoder's cache is on disk too while the run lasts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from torch import Tensor

from contrast_train.data.dataset import TrainingDataset
from contrast_train.data.distinct_texts import VectorsByText
from fletching.encode import Encoder
from fletching.options import EncodingOptions
from fletching.protocols import Role
from fletching.report import Report


class GuideEmbeddings:
    """(queries, documents) -> their unit vectors (Q, E) and (N, E), for texts of the data set
    alone.
    """

    def __init__(self, dataset: TrainingDataset, options: EncodingOptions, report: Report) -> None:
        texts: dict[Role, Iterable[str]] = {
            "query": dataset.column("query"),
            "document": _documents(dataset),
        }
        with Encoder(options, report) as encoder:
            self.vectors = {role: VectorsByText(texts[role], encoder.dimension) for role in texts}
            total = sum(map(len, self.vectors.values()))
            with report.progress("guide", total, "texts") as progress:
                self.vectors["query"].fill(
                    dataset.column("query"),
                    key=str,
                    encode=lambda window: encoder.encode(window, "query", progress=progress),
                )
                self.vectors["document"].fill(
                    _documents(dataset),
                    key=str,
                    encode=lambda window: encoder.encode(window, "document", progress=progress),
                )

    def __call__(self, queries: list[str], documents: list[str]) -> tuple[Tensor, Tensor]:
        """The vectors of texts without prompts."""
        return self.vectors["query"].take(queries), self.vectors["document"].take(documents)


def _documents(dataset: TrainingDataset) -> Iterator[str]:
    for name in ("pos", "neg"):
        for texts in dataset.column(name):
            yield from texts or []
