"""Texts as token ids on disk: tokenised once, memory-mapped, cut into pieces by tokens alone.

In memory: 20 bytes a piece, besides the pages that the system keeps of the file.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fletching.digest import RowDigest
from fletching.report import Report
from fletching.table import DiskTable, RaggedArray
from fletching.table.ragged_array import offsets_of
from fletching.text import surrounding_tokens

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

COLUMNS = pa.schema(
    [
        pa.field("tokens", pa.list_(pa.int32()), False),
        pa.field("row", pa.int64(), False),  # of the input, from 0
    ]
)
MOST_TOKENS = 1 << 28  # of an Arrow batch, whose offsets are 32-bit


def tokenize_to_disk(
    batches: Iterable[list[list[str]]],
    tokenizer: PreTrainedTokenizerBase,
    path: str,
    *,
    report: Report,
    count: bool = True,
) -> tuple[str, int]:
    """Write the tokens of all texts; (digest of the texts, rows kept).

    batches: the texts of each row. Special tokens around a text are left out: pieces add them.
    A row whose texts are all blank is dropped and, where `count` is on, counted.
    """
    digest = RowDigest()
    first_row = rows_kept = 0
    with DiskTable(COLUMNS, path) as table:
        for batch in batches:
            texts: list[str] = []
            rows: list[int] = []
            for row, texts_of_row in enumerate(batch, first_row):
                nonblank = [text for text in texts_of_row if text.strip()]
                texts += nonblank
                rows += [row] * len(nonblank)
                rows_kept += bool(nonblank)
                report.drop("without text", int(count and not nonblank))
            first_row += len(batch)
            digest.update(pa.record_batch({"text": pa.array(texts, pa.string())}))
            if texts:
                _append(table, _token_ids(tokenizer, texts), rows)
        table.finish()
    return digest.hexdigest(), rows_kept


def _token_ids(tokenizer: PreTrainedTokenizerBase, texts: list[str]) -> list[list[int]]:
    encoded = tokenizer(
        texts,
        add_special_tokens=False,
        return_attention_mask=False,
        return_token_type_ids=False,
    )
    ids: list[list[int]] = encoded["input_ids"]
    return ids


def _append(table: DiskTable, ids: list[list[int]], rows: list[int]) -> None:
    """Append batches of at most MOST_TOKENS tokens, or of one text."""
    if sum(map(len, ids)) > MOST_TOKENS and len(ids) > 1:
        half = len(ids) // 2
        _append(table, ids[:half], rows[:half])
        _append(table, ids[half:], rows[half:])
        return
    columns = [pa.array(ids, COLUMNS.field("tokens").type), pa.array(rows, pa.int64())]
    table.append(pa.record_batch(columns, schema=COLUMNS))


class TokenPieces:
    """Texts cut into pieces of at most `length` tokens, special tokens included; none is lost.

    pieces[number]: the token ids of a piece with its special tokens, int64 (n,).
    sizes: n of each piece, (pieces,). rows: its row of the input, (pieces,).
    positions: that of its first token among all tokens of the corpus, special tokens not counted,
    (pieces,). special: the ids of special tokens. tokens: how many the corpus has.
    """

    def __init__(self, path: str, tokenizer: PreTrainedTokenizerBase, length: int) -> None:
        table = DiskTable.open(path)
        before, after = surrounding_tokens(tokenizer)
        self.before, self.after = np.array(before, np.int64), np.array(after, np.int64)
        special = [*tokenizer.all_special_ids, *before, *after]
        self.special = np.unique(np.array(special, np.int64))

        self._batches = [batch["tokens"].flatten().to_numpy() for batch in table]
        batch_offsets = offsets_of([len(tokens) for tokens in self._batches])
        self._batch_offsets: list[int] = batch_offsets.tolist()
        self.tokens = self._batch_offsets[-1]

        lengths = _joined([batch["tokens"].value_lengths().to_numpy() for batch in table])
        row_of_text = _joined([batch["row"].to_numpy() for batch in table])
        special_length = len(before) + len(after)
        body_length = length - special_length
        pieces_of_text = -(-lengths // body_length)
        pieces = RaggedArray.from_lengths(np.arange(pieces_of_text.sum()), pieces_of_text)
        text = pieces.owners  # of each piece
        tokens_before = pieces.ranks_within * body_length  # within its text

        self.rows = row_of_text[text]
        self.positions = offsets_of(lengths)[text] + tokens_before
        body_sizes = np.minimum(lengths[text] - tokens_before, body_length)
        self.sizes = (body_sizes + special_length).astype(np.int32)

    def __len__(self) -> int:
        return len(self.positions)

    def __getitem__(self, number: int) -> npt.NDArray[np.int64]:
        position = int(self.positions[number])
        batch = bisect.bisect_right(self._batch_offsets, position) - 1
        start = position - self._batch_offsets[batch]
        body_size = self.sizes[number] - len(self.before) - len(self.after)
        body = self._batches[batch][start : start + body_size]
        return np.concatenate([self.before, body, self.after])


def _joined(arrays: list[npt.NDArray[np.int64]]) -> npt.NDArray[np.int64]:
    return np.concatenate([np.zeros(0, np.int64), *arrays]).astype(np.int64)
