"""What is interchangeable, as types: sources and sinks of rows, encoders of texts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

from fletching.lineage import Node

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa

    from fletching.report import Progress
    from fletching.schema import Schema

Role = Literal["query", "document"]
Lineage = Node  # a node of the lineage tree, as JSON


class RowSource(Protocol):
    """One opened input, whatever its format."""

    @property
    def where(self) -> str:
        """Its name in errors."""

    @property
    def schema(self) -> pa.Schema:
        """The Arrow schema of the batches to come."""

    @property
    def lineage_node(self) -> Lineage:
        """The lineage of the rows; {} where none is known."""

    @property
    def ends(self) -> list[Lineage]:
        """What is known at the end (rows, digest, drops), one for each stream read so far."""

    def batches(self) -> Iterator[tuple[pa.Schema, pa.RecordBatch]]:
        """Each batch with the schema under which it was written. Raises InputError on damage."""


class RowOrigin(Protocol):
    """What the lineage of an output names as its input: a reader, or what stands for one."""

    @property
    def lineage_nodes(self) -> list[Lineage]:
        """The lineage of each source."""

    @property
    def ends(self) -> list[Lineage]:
        """What each source stated at its end, when all are read."""


@runtime_checkable
class Retypable(Protocol):
    """A row source that infers types: of a text format."""

    def retype(self, schema: Schema) -> None:
        """Read the columns as those of another schema."""


@runtime_checkable
class Limitable(Protocol):
    """A row source that looks at all its rows for their types, or at fewer where fewer are read."""

    def limit_rows(self, limit: int) -> None:
        """Read so many rows only. Before `schema` is first asked for."""


@runtime_checkable
class Noted(Protocol):
    """A row source that has something to say about its rows."""

    notes: list[str]  # lines for the user; reading the rows may add some


class RowSink(Protocol):
    """One file format being written."""

    def write(self, batch: pa.RecordBatch) -> None:
        """Append rows."""

    def close(self, end: Lineage) -> None:
        """Write what is known at the end, and finish the format; the file itself stays open."""

    def abandon(self) -> None:
        """Leave the format unfinished, so that no reader takes the file for complete."""


class TextEncoder(Protocol):
    """Texts to unit vectors: by a model, by precomputed vectors, by a server.

    prompts: by role, for texts whose row has none.
    """

    dimension: int
    prompts: dict[Role, str]

    @property
    def settings(self) -> Lineage:
        """What decides the vectors, for the lineage: no path, the same on every machine."""

    def encode(
        self,
        texts: Sequence[str],
        role: Role,
        prompts: Sequence[str | None] | None = None,
        progress: Progress | None = None,
    ) -> npt.NDArray[np.float32]:
        """Unit vectors of the texts, (n, dimension). prompts: one a text; None: the role's own."""

    def prompted(
        self, texts: Sequence[str], role: Role, prompts: Sequence[str | None] | None = None
    ) -> list[str]:
        """The texts after their prompts: what a `text_hash` is of."""

    def flush(self) -> None:
        """Write the vectors that a kill would lose to the cache."""

    def __enter__(self) -> TextEncoder: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        failure: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...
