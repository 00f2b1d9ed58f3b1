"""The texts that held-out queries are ranked in besides the documents of their own rows.

They lie on disk and are encoded in chunks at each evaluation. In memory: 8 bytes a text while
they are written, and one chunk.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from contrast_train.data.dataset import text_key
from fletching import schema
from fletching.digest import RowDigest
from fletching.table import DiskTable
from fletching.table.key_set import GrowingKeySet
from fletching.titled_texts import titled_texts

CHUNK = 4096  # texts that are encoded together
COLUMNS = pa.schema([pa.field("text", pa.string(), nullable=False)])


@dataclass(frozen=True, kw_only=True)
class CorpusStats:
    """What became of the texts of --eval-corpus.

    in_rows: those that are documents of the held-out rows.
    """

    digest: str
    kept: int
    in_rows: int
    repeated: int
    blank: int

    def describe(self, queries: int, documents: int) -> str:
        """One line. documents: of the held-out rows."""
        return (
            f"{queries:,} held-out queries are ranked among {documents + self.kept:,} documents: "
            f"{documents:,} of their rows and {self.kept:,} of --eval-corpus "
            f"(without {self.in_rows:,} that the rows hold, {self.repeated:,} repeated and "
            f"{self.blank:,} blank)"
        )


class EvaluationCorpus:
    """The texts in the file `path`, in chunks, all with one prompt."""

    def __init__(self, path: str, prompt: str) -> None:
        self.table = DiskTable.open(path)
        self.prompt = prompt

    def __len__(self) -> int:
        return len(self.table)

    def chunks(self) -> Iterator[list[tuple[str, str]]]:
        """(prompt, text) of at most `CHUNK` texts at a time."""
        for batch in self.table.slices(CHUNK):
            yield [(self.prompt, text) for text in batch["text"].to_pylist()]


def write(
    batches: Iterable[pa.RecordBatch], path: str, *, own_texts: Iterable[str], own_ids: set[str]
) -> CorpusStats:
    """Write each distinct text of `texts` to `path` that is no document of the held-out rows.

    own_texts, own_ids: of those documents. One with an equal text after normalisation, or an equal
    id, is left out: it would be a second copy of an answer, and count as a wrong one.
    """
    own_keys = GrowingKeySet()
    own_keys.add_new(_keys(list(own_texts)))
    counts = dict.fromkeys(("in_rows", "repeated", "blank"), 0)
    seen, digest, kept = GrowingKeySet(), RowDigest(), 0
    with DiskTable(COLUMNS, path) as table:
        for batch in batches:
            texts: list[str] = titled_texts(batch).to_pylist()
            ids = schema.column(batch, "id", pa.string()).to_pylist()
            keys = _keys(texts)
            is_blank = np.array([not text.strip() for text in texts], bool)
            is_own = own_keys.contains(keys) | np.array([name in own_ids for name in ids], bool)
            is_own &= ~is_blank
            is_kept = ~(is_blank | is_own)
            is_kept[is_kept] = seen.add_new(keys[is_kept])
            counts["in_rows"] += int(is_own.sum())
            counts["blank"] += int(is_blank.sum())
            counts["repeated"] += int((~(is_kept | is_own | is_blank)).sum())
            rows = pa.record_batch([pa.array(texts, pa.string())], schema=COLUMNS)
            rows = rows.filter(pa.array(is_kept))
            digest.update(rows)
            table.append(rows)
            kept += len(rows)
        table.finish()
    return CorpusStats(digest=digest.hexdigest(), kept=kept, **counts)


def _keys(texts: Collection[str]) -> npt.NDArray[np.uint64]:
    return np.fromiter(map(text_key, texts), np.uint64, len(texts))
