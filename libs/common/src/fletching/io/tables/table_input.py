"""One input of a run: what a table format looks at to recognise and to open it."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import BinaryIO

from fletching.io.formats import EMPTY, MAGIC_BYTES, detect, without_compression
from fletching.io.sources import PeekableStream, Source, sniff, spool
from fletching.io.tables import encoding
from fletching.io.tables.table_options import CellKind, TableOptions
from fletching.io.tables.utf8_stream import Substitution, Utf8Stream
from fletching.report import Report

HEAD = 64  # bytes


class TableInput:
    """An input, decompressed and not yet read: what a format looks at to recognise and open it.

    columns: those that are read, each with what its cells become; None: all of them, as text.
    stream: the source where it is open already, decompressed and unread.
    """

    def __init__(
        self,
        source: Source,
        options: TableOptions,
        report: Report,
        *,
        columns: Mapping[str, CellKind] | None = None,
        stream: PeekableStream | None = None,
    ) -> None:
        self.source = source
        self.where = source.where
        self.options = options
        self.report = report
        self.columns = columns
        if stream is None:
            self.signature, self.stream = sniff(source.open(), source.where)
        else:
            self.signature, self.stream = detect(stream.peek(MAGIC_BYTES)), stream

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
        detected = self._detect_codec()
        if detected.codec != encoding.UTF8:
            self.report.note(f"{self.where} is read as {detected.codec}{detected.reason}")
        return detected.codec

    def _detect_codec(self) -> encoding.DetectedEncoding:
        head = self.stream.peek(4096)
        source = self.source
        if source.path is not None:
            return encoding.detect(head, lambda: sniff(source.open())[1], self.where)
        copy = self.spooled()  # a pipe is looked through once before it is read
        return encoding.detect(head, lambda: _Replay(copy), self.where)

    def spooled(self) -> BinaryIO:
        """A seekable copy of the input, which can still be read afterwards."""
        copy = spool(self.stream)
        self.stream = PeekableStream(_Replay(copy))
        return copy

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
