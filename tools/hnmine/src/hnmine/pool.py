"""What is mined for and what is mined from: the rows on disk, the distinct queries, the pool of texts."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fletching import keys, schema
from fletching.errors import Refused
from fletching.report import Report
from fletching.stream import Reader


class Spool:
    """All input rows in a temporary Arrow file, mapped into memory, with keys of queries and domains."""

    def __init__(self, rows: Reader, report: Report, stack: contextlib.ExitStack) -> None:
        file = stack.enter_context(tempfile.NamedTemporaryFile(prefix="hnmine-", suffix=".arrow"))
        writer = pa.ipc.new_file(file, rows.columns)
        with report.progress("reading") as progress:
            for batch in rows:
                writer.write_batch(batch)
                progress.advance(len(batch))
        writer.close()
        file.flush()
        reader = pa.ipc.open_file(pa.memory_map(file.name))
        self.batches = [reader.get_batch(i) for i in range(reader.num_record_batches)]
        self.starts = np.cumsum([0, *(len(batch) for batch in self.batches)])

    def warn_of_old_negatives(self, report: Report) -> None:
        replaced = sum(int(pc.sum(schema.column(batch, "neg", pa.null()).is_valid()).as_py() or 0) for batch in self.batches)
        if replaced:
            report.note(f"{replaced:,} rows had negatives, which are replaced; --keep-neg keeps them")


def domain_keys(batch: pa.RecordBatch) -> np.ndarray:
    """A key of each row's domain, uint64 (n,); rows without one share a domain of their own."""
    return keys.of(schema.column(batch, "domain", pa.string()).cast(pa.string()))


class Pool:
    """Distinct (domain, text) pairs, in order of first appearance: n texts.

    The pool is the positives of the input, old negatives where asked, and the corpus.
    """

    def __init__(self, spool: Spool, corpus: Reader | None, keep_neg: bool) -> None:
        self.place: dict[tuple[int, int], int] = {}  # (domain key, text key): number in the pool
        self.parts: list[pa.StringArray] = []
        self.ids: list[str | None] = []
        self._text_keys: list[np.ndarray] = []
        self._domains: list[np.ndarray] = []
        for batch in spool.batches:
            domains = domain_keys(batch)
            self._add(batch["pos"], schema.column(batch, "pos_ids", batch["pos"].type), domains)
            if keep_neg:
                old = schema.column(batch, "neg", batch["pos"].type)
                self._add(old, schema.column(batch, "neg_ids", batch["pos"].type), domains)
        for batch in corpus or ():
            self._add_texts(_titled(batch), batch["id"].to_pylist(), domain_keys(batch))
        self.texts = pa.chunked_array(self.parts, pa.string())
        self.text_keys = np.concatenate(self._text_keys or [np.zeros(0, np.uint64)])
        self.domains = np.concatenate(self._domains or [np.zeros(0, np.uint64)])
        if not len(self.texts) and spool.batches:
            raise Refused("the pool is empty: there is nothing to mine from", "give a --corpus")

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def has_ids(self) -> bool:
        return any(name is not None for name in self.ids)

    def _add(self, lists: pa.ListArray, ids: pa.ListArray, domains: np.ndarray) -> None:
        counts = pc.fill_null(pc.list_value_length(lists), 0).to_numpy()
        named = [name for texts, names in zip(lists.to_pylist(), ids.to_pylist()) for name in (names or [None] * len(texts or ()))]
        self._add_texts(lists.flatten(), named, np.repeat(domains, counts))

    def _add_texts(self, texts: pa.StringArray, ids: Iterable[str | None], domains: np.ndarray) -> None:
        text_keys = keys.of(texts)
        fresh = []
        for row, (key, domain, name) in enumerate(zip(text_keys.tolist(), domains.tolist(), ids)):
            if (domain, key) not in self.place:
                self.place[domain, key] = len(self.place)
                self.ids.append(name)
                fresh.append(row)
        self.parts.append(texts.take(pa.array(fresh, pa.int64())))
        self._text_keys.append(text_keys[fresh])
        self._domains.append(domains[fresh])


def _titled(batch: pa.RecordBatch) -> pa.StringArray:
    """The title, one blank and the text."""
    titles = schema.column(batch, "title", pa.string()).cast(pa.string())
    return pc.binary_join_element_wise(pc.if_else(pc.equal(titles, ""), None, titles), batch["text"], " ", null_handling="skip")
