"""From input batches to rows of `vectors`: each distinct text once, in order of appearance."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fletching.errors import InputError, UsageError
from fletching.io import Reader
from fletching.options import Shard
from fletching.protocols import TextEncoder
from fletching.report import Progress, Report
from fletching.table.key_set import GrowingKeySet
from fletching.text import text_hash
from texts2vectors.options import Options
from texts2vectors.shards import units_of_shard
from texts2vectors.texts import RoleTexts, texts_by_role

KEY_DIGITS = 16  # of a hash in hex: 64 bits tell a billion texts apart

Vectors = npt.NDArray[np.float32]


class VectorRows:
    """The rows of one run. columns: of the rows written. Raises UsageError for --dimensions."""

    def __init__(self, options: Options, encoder: TextEncoder, report: Report) -> None:
        self.options, self.encoder, self.report = options, encoder, report
        self.dimension = options.dimensions or encoder.dimension
        if self.dimension > encoder.dimension:
            raise UsageError(
                f"--dimensions {self.dimension} is above the {encoder.dimension} of the vectors",
                f"pass at most {encoder.dimension}",
            )
        self.number_type = np.dtype(options.vector_type)
        values = pa.list_(pa.from_numpy_dtype(self.number_type), self.dimension)
        self.columns = pa.schema(
            [
                pa.field("text_hash", pa.string(), False),
                pa.field("id", pa.string()),
                pa.field("vector", values, False),
            ]
        )
        self.seen = GrowingKeySet()

    def batches(self, reader: Reader) -> Iterator[pa.RecordBatch]:
        """The vectors of all texts of the shard that no earlier row of the input holds."""
        shard = Shard.parse(self.options.shard)
        is_examples = reader.schema.name == "examples"
        units = units_of_shard(reader, reader.columns, shard=shard, report=self.report)
        with self.report.progress("encoding", unit="texts") as progress:
            for unit, is_owned in units:
                groups = texts_by_role(unit, self.options.role, is_examples=is_examples)
                if is_owned and is_examples:
                    self._count(len(unit), groups)
                for group in groups:
                    yield from self._encoded(group, progress, is_owned=is_owned)

    def _count(self, rows: int, groups: list[RoleTexts]) -> None:
        """Enter into the account what rows of examples hold beside their queries."""
        if self.options.role == "document":
            self.report.drop("queries", rows)
        documents = sum(len(group.texts) for group in groups if group.role == "document")
        self.report.add("positives and negatives", documents)

    def _encoded(
        self, group: RoleTexts, progress: Progress, *, is_owned: bool
    ) -> Iterator[pa.RecordBatch]:
        """The rows of the new texts of a group; those of other shards are only remembered."""
        prompted = self.encoder.prompted(group.texts, group.role, group.prompts)
        hashes = [text_hash(text) for text in prompted]
        keys = np.array([int(name[:KEY_DIGITS], 16) for name in hashes], np.uint64)
        rows = np.flatnonzero(self.seen.add_new(keys)).tolist()
        if not is_owned:
            return
        self.report.drop("repeated", len(hashes) - len(rows))
        if not rows:
            return
        new = group.select(rows)
        vectors = self.encoder.encode(new.texts, new.role, new.prompts, progress=progress)
        names = pa.array([hashes[row] for row in rows], pa.string())
        arrays = [names, pa.array(new.ids, pa.string()), self._column(vectors)]
        yield pa.RecordBatch.from_arrays(arrays, schema=self.columns)

    def _column(self, vectors: Vectors) -> pa.FixedSizeListArray:
        """The vectors (n, D) in the type and dimension asked for."""
        # Rounded first: a cache of float16, from which a killed run goes on, gives rounded ones.
        values = vectors.astype(self.number_type)
        if self.dimension < self.encoder.dimension:
            values = truncated(values, self.dimension).astype(self.number_type)
        return pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), self.dimension)


def truncated(vectors: npt.NDArray[np.floating], dimension: int) -> Vectors:
    """The first dimensions (n, dimension) at length 1; a zero vector stays zero.

    Raises InputError for a vector of which they leave zeros alone.
    """
    first = vectors[:, :dimension].astype(np.float32)
    if (vectors.any(1) & ~first.any(1)).any():
        raise InputError(
            f"--dimensions {dimension} leaves nothing but zeros of a vector", "keep more of them"
        )
    lengths = np.linalg.norm(first, axis=1, keepdims=True)
    units = np.zeros_like(first)
    np.divide(first, lengths, out=units, where=lengths > 0)
    return units
