"""Triplets as tab-separated lines without header, as MS MARCO's triples and GISTEmbed's scripts."""

from __future__ import annotations

from collections.abc import Iterator

from fletching.io.row_formats.row_format import Batches, RowFormat, WriteAccount, register
from fletching.io.row_formats.triplet import triplets
from fletching.io.row_formats.writing import Row, count_lost
from fletching.table import atomic

BREAKS = str.maketrans("\t\r\n", "   ")  # what would end a cell or a line


def _from_examples(batches: Batches, path: str) -> WriteAccount:
    account = WriteAccount()
    with atomic.open_new(path) as file:
        for line in _lines(triplets(batches, account), account):
            file.write(line.encode())
            account.records += 1
    return account


def _lines(records: Iterator[Row], account: WriteAccount) -> Iterator[str]:
    for record in records:
        texts = list(record.values())
        cells = [text.translate(BREAKS) for text in texts]
        changed = sum(cell != text for cell, text in zip(cells, texts))
        count_lost(account, "texts whose tabs and line ends became blanks", changed)
        yield "\t".join(cells) + "\n"


register(
    RowFormat(
        name="triplet-tsv",
        summary="MS MARCO triples, GISTEmbed",
        columns="query, positive, negative, tab between; a header or a file called *triple*.tsv",
        becomes="`query`, `pos` and `neg`",
        from_examples=_from_examples,
    )
)
