"""What a format of graphs does: it writes a traced model, and runs what it wrote."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from fletching_export.graph import TracedModel
from fletching_export.tokenization import Tokens

Vectors = npt.NDArray[np.float32]  # (texts, dimensions)


class GraphSession(Protocol):
    """An exported graph, loaded."""

    def __call__(self, tokens: Tokens) -> Vectors:
        """The vectors of some texts."""
        ...


class GraphFormat(Protocol):
    """A format of graphs. file: of the graph in the exported folder; version: of the runtime."""

    name: str
    file: str
    summary: str
    install: str
    version: str

    def write(self, traced: TracedModel, folder: str, dtype: str) -> None:
        """Write the graph with weights of this number type."""
        ...

    def open(self, folder: str, threads: int) -> GraphSession:
        """Load the graph of a folder on the CPU."""
        ...

    def usage(self, inputs: Sequence[str]) -> str:
        """Python that encodes `texts` with this runtime and `tokenizers`, to be run in the folder.

        inputs: of the graph.
        """
        ...
