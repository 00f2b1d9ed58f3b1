"""The journal: every completion paid for is on disk before it is used.

One file of JSON lines, only ever appended to. A line is written by one system call as soon as
its completion arrives, so that kill -9 loses none, and synced before it is used, so that a
power cut loses none. Memory: about 150 bytes a completion; the texts stay on disk.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import threading
from dataclasses import asdict, dataclass
from typing import Any

from fletching.errors import InputError
from fletching.table import atomic

JOURNAL_FILE = "answers.jsonl"
READ_BYTES = 1 << 16  # of a line, at a time


@dataclass(frozen=True, kw_only=True)
class Completion:
    """What the server replied to one request, and the tokens that it counted.

    The names of the fields are those of the journal on disk.
    """

    text: str | None
    finish: str | None  # the finish reason: "stop", "length", "content_filter"
    model: str
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0
    estimated: bool = False  # the server counted no tokens, so these are estimates


class Journal:
    """Completions by request key. Used by many threads at once; by one process at a time.

    folder: created with the first entry. Raises InputError where another process writes to it,
    or a line is damaged; a torn last line is cut off.
    """

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.path = os.path.join(folder, JOURNAL_FILE)
        self.line_starts: dict[bytes, int] = {}  # byte offsets by request key
        self.notes: list[dict[str, Any]] = []  # everything that is no completion: probes, batches
        self.file = -1
        self.closed = False
        self.size = 0  # bytes of whole lines
        self.synced_size = 0
        self.cut_bytes = 0  # of a torn last line, when the file was opened
        self.writing = threading.Lock()
        self.syncing = threading.Lock()
        if os.path.exists(self.path):
            self._open()

    def __len__(self) -> int:
        return len(self.line_starts)

    def __contains__(self, key: str) -> bool:
        return bytes.fromhex(key) in self.line_starts

    def get(self, key: str) -> Completion | None:
        """The completion of a request, where there is one."""
        start = self.line_starts.get(bytes.fromhex(key))
        if start is None:
            return None
        entry = json.loads(self._read_line(start))
        return Completion(**entry["answer"])

    def put(self, key: str, completion: Completion) -> None:
        """Add a completion; it is on disk when this returns."""
        start = self._append({"key": key, "answer": asdict(completion)})
        self.line_starts[bytes.fromhex(key)] = start

    def note(self, **content: object) -> None:
        """Add an entry that is no completion; it is on disk when this returns."""
        self._append({"note": content})
        self.notes.append(content)

    def close(self) -> None:
        """Close the file.

        A completion that arrives later is refused: its descriptor may be another file's.
        """
        with self.writing, self.syncing:
            self.closed = True
            if self.file >= 0:
                os.close(self.file)
                self.file = -1

    def _read_line(self, start: int) -> bytes:
        parts: list[bytes] = []
        while True:
            block = os.pread(self.file, READ_BYTES, start)
            head, newline, _ = block.partition(b"\n")
            parts.append(head)
            if newline or not block:
                return b"".join(parts)
            start += len(block)

    def _append(self, content: dict[str, Any]) -> int:
        """Write one line and sync it; its byte offset. Raises OSError."""
        line = json.dumps(content, ensure_ascii=True).encode() + b"\n"
        with self.writing:
            if self.closed:
                raise OSError(errno.EBADF, os.strerror(errno.EBADF), self.path)
            if self.file < 0:
                self._open()
            start = self.size
            self._write(line)
            self.size = start + len(line)
            end = self.size
        self._sync(end)
        return start

    def _write(self, line: bytes) -> None:
        """Write the whole line or nothing: another thread's would go on where a torn one ends."""
        left = memoryview(line)
        try:
            while left:
                left = left[os.write(self.file, left) :]
        except OSError:
            try:
                os.ftruncate(self.file, self.size)
            except OSError:
                self.closed = True  # nothing may follow; the next opening cuts the torn line off
            raise

    def _sync(self, end: int) -> None:
        """Flush the file up to `end`; one flush serves all threads that wrote before it."""
        with self.syncing:
            if self.synced_size < end and not self.closed:
                size = self.size
                os.fsync(self.file)
                self.synced_size = size

    def _open(self) -> None:
        """Open or create the file, lock it, index its lines, cut off a torn last one."""
        os.makedirs(self.folder, exist_ok=True)
        is_new = not os.path.exists(self.path)
        self.file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(
                f"another synthgen writes to the journal {self.folder}",
                "wait for it, or pass another --journal DIR",
            ) from None
        if is_new:
            atomic.sync(self.folder)
            atomic.sync(os.path.dirname(os.path.abspath(self.folder)))
        with open(self.path, "rb") as lines:
            for number, line in enumerate(lines, 1):
                if not line.endswith(b"\n"):
                    break
                self._index(line, number)
                self.size += len(line)
        self.cut_bytes = os.fstat(self.file).st_size - self.size
        os.ftruncate(self.file, self.size)
        self.synced_size = self.size

    def _index(self, line: bytes, number: int) -> None:
        try:
            entry = json.loads(line)
            if "key" in entry:
                _check_types(Completion(**entry["answer"]))
                self.line_starts[bytes.fromhex(entry["key"])] = self.size
            else:
                self.notes.append(dict(entry["note"]))
        except (ValueError, KeyError, TypeError, RecursionError):
            raise InputError(
                f"{self.path}, line {number:,} is damaged",
                "delete that line: its request is sent again",
            ) from None


def _check_types(completion: Completion) -> None:
    """Raise TypeError for a field of another type than it was written with."""
    texts = (completion.text, completion.finish, completion.model)
    tokens = (completion.prompt_tokens, completion.completion_tokens, completion.cached_tokens)
    has_types = (
        all(text is None or isinstance(text, str) for text in texts)
        and all(type(number) is int and number >= 0 for number in tokens)
        and isinstance(completion.estimated, bool)
    )
    if not has_types:
        raise TypeError("a field of another type")
