"""Texts as token ids on disk: tokenised once, memory-mapped, cut into pieces by tokens alone.

In memory: 16 bytes a piece, besides the pages that the system keeps of the file.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable
from typing import Any

import numpy as np
import pyarrow as pa

from fletching.digest import RowDigest
from fletching.report import Report
from fletching.text import frame

COLUMNS = pa.schema(
    [pa.field("tokens", pa.list_(pa.int32()), False), pa.field("row", pa.int64(), False)]
)
MOST = 1 << 28  # tokens of an Arrow batch; its offsets are 32-bit


def spool(
    batches: Iterable[list[list[str]]],
    tokenizer: Any,
    path: str,
    report: Report,
    *,
    count: bool = True,
) -> tuple[str, int]:
    """Write the tokens of all texts, without those that the tokenizer sets around a text: (digest, rows kept).

    A row all of whose texts are blank is dropped, and counted.
    """
    digest, start, kept = RowDigest(), 0, 0
    with pa.OSFile(path, "wb") as file, pa.ipc.new_file(file, COLUMNS) as writer:
        for batch in batches:
            texts, rows = [], []
            for row, of_row in enumerate(batch, start):
                found = [text for text in of_row if text.strip()]
                texts += found
                rows += [row] * len(found)
                kept += bool(found)
                report.drop("without text", int(count and not found))
            start += len(batch)
            digest.update(pa.record_batch({"text": pa.array(texts, pa.string())}))
            if texts:
                ids = tokenizer(
                    texts,
                    add_special_tokens=False,
                    return_attention_mask=False,
                    return_token_type_ids=False,
                )["input_ids"]
                _write(writer, ids, rows)
    return digest.hexdigest(), kept


def _write(writer: Any, ids: list[list[int]], rows: list[int]) -> None:
    """Batches of at most MOST tokens, or one text."""
    if sum(map(len, ids)) > MOST and len(ids) > 1:
        half = len(ids) // 2
        _write(writer, ids[:half], rows[:half])
        _write(writer, ids[half:], rows[half:])
    else:
        writer.write_batch(
            pa.record_batch(
                [pa.array(ids, COLUMNS[0].type), pa.array(rows, pa.int64())], schema=COLUMNS
            )
        )


class Pieces:
    """Texts cut into pieces of at most `length` tokens, the frame included; no token is lost.

    pieces[number]: its token ids (n,) int64, framed. sizes (pieces,): n of each. row (pieces,): of the input.
    first (pieces,): the number that its first token has among all tokens of the corpus, frames not counted.
    """

    def __init__(self, path: str, tokenizer: Any, length: int) -> None:
        opened = pa.ipc.open_file(pa.memory_map(path))
        batches = [opened.get_batch(number) for number in range(opened.num_record_batches)]
        self.before, self.behind = (np.array(part, np.int64) for part in frame(tokenizer))
        self.special = np.unique([*tokenizer.all_special_ids, *self.before, *self.behind]).astype(
            np.int64
        )
        room = length - len(self.before) - len(self.behind)
        self.parts = [batch["tokens"].flatten().to_numpy() for batch in batches]
        self.starts = np.cumsum([0, *map(len, self.parts)]).tolist()
        counts = _joined([batch["tokens"].value_lengths().to_numpy() for batch in batches])
        texts = _joined([batch["row"].to_numpy() for batch in batches])
        cuts = -(-counts // room)
        within = np.arange(cuts.sum()) - np.repeat(np.cumsum(cuts) - cuts, cuts)
        self.first = np.repeat(np.cumsum(counts) - counts, cuts) + within * room
        self.body = np.minimum(np.repeat(counts, cuts) - within * room, room).astype(np.int32)
        self.sizes = self.body + len(self.before) + len(self.behind)
        self.row = np.repeat(texts, cuts)
        self.tokens = self.starts[-1]

    def __len__(self) -> int:
        return len(self.first)

    def __getitem__(self, number: int) -> np.ndarray:
        start = int(self.first[number])
        part = bisect.bisect_right(self.starts, start) - 1
        start -= self.starts[part]
        return np.concatenate(
            [self.before, self.parts[part][start : start + self.body[number]], self.behind]
        )


def _joined(arrays: list[np.ndarray]) -> np.ndarray:
    return np.concatenate([np.zeros(0, np.int64), *arrays]).astype(np.int64)
