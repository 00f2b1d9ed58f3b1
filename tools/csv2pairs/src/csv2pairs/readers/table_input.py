"""One input of a run: what a table format looks at to recognise and to open it."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Sequence
from typing import BinaryIO

from csv2pairs.options import Options
from csv2pairs.readers import encoding
from csv2pairs.readers.utf8_stream import Substitution, Utf8Stream
from fletching.io.formats import EMPTY, without_compression
from fletching.io.sources import PeekableStream, Source, sniff, spool
from fletching.report import Report

HEAD = 64  # bytes


class TableInput:
    """An input, decompressed and not yet read.

    wanted: the columns that the run uses; a format need not give others.
    list_cells: counts, by column, the cells that were lists of several items and became one text.
    """

    def __init__(
        self,
        source: Source,
        options: Options,
        report: Report,
        *,
        wanted: Sequence[str] = (),
        list_cells: Counter[str] | None = None,
    ) -> None:
        self.source = source
        self.where = source.where
        self.options = options
        self.report = report
        self.wanted = list(wanted)
        self.list_cells: Counter[str] = Counter() if list_cells is None else list_cells
        self.signature, self.stream = sniff(source.open())

    @property
    def is_empty(self) -> bool:
        """Has it no bytes?"""
        return self.signature == EMPTY

    def head(self, size: int = HEAD) -> bytes:
        """The first bytes, which stay unread."""
        return self.stream.peek(size)

    def is_named(self, extensions: tuple[str, ...]) -> bool:
        """Does its name end so, with or without the ending of a compressor?"""
        return without_compression(self.source.path or "").endswith(extensions)

    @functools.cached_property
    def codec(self) -> str:
        """The encoding of the text: the one named, else detected in the whole file."""
        if self.options.encoding:
            return encoding.codec_named(self.options.encoding)
        codec = self._detect_codec()
        if codec != encoding.UTF8:
            has_mark = codec in ("utf-16", "utf-32")
            reason = "" if has_mark else ", the only encoding that fits"
            self.report.note(f"{self.where} is read as {codec}{reason}")
        return codec

    def _detect_codec(self) -> str:
        head = self.stream.peek(4096)
        source = self.source
        if source.path is not None:
            return encoding.detect(head, lambda: sniff(source.open())[1], self.where)
        copy = spool(self.stream)  # a pipe is looked through once before it is read
        codec = encoding.detect(head, lambda: _Replay(copy), self.where)
        self.stream = PeekableStream(_Replay(copy))
        return codec

    def text_head(self) -> str:
        """The first characters, without a byte-order mark and leading blanks."""
        head = self.head()
        whole_characters = head[: len(head) // 4 * 4]
        text = whole_characters.decode(self.codec, errors="ignore")
        return text.lstrip("\ufeff \t\r\n")

    def utf8(self, *, substitution: Substitution | None = None, quote: str = "") -> Utf8Stream:
        """The text from its start as UTF-8; undecodable bytes are treated as --bad-rows says."""
        codec = self.codec  # first: to detect it in a pipe replaces the stream
        return Utf8Stream(
            self.stream,
            codec,
            self.where,
            mark_undecodable=self.options.bad_rows == "drop",
            substitution=substitution,
            quote=quote,
        )


class _Replay:
    """A seekable copy read from its start, left open when its reader closes."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        file.seek(0)

    def read(self, size: int = -1, /) -> bytes:
        """The next bytes."""
        return self.file.read(size)

    def close(self) -> None:
        """Back to the start, for the next reader."""
        self.file.seek(0)
