"""The journal: every answer paid for, on disk before anything is made of it.

One file of JSON lines, only ever appended to. A line is written by one system call as soon as its answer is
there, so that kill -9 loses none, and synced before the answer is used, so that a power cut loses none. Memory:
about 150 bytes an answer; the texts stay on disk.
"""

from __future__ import annotations

import fcntl
import json
import os
import threading
from dataclasses import asdict, dataclass
from typing import Any

from fletching.errors import InputError

NAME = "answers.jsonl"


@dataclass(frozen=True)
class Answer:
    """What the server said to one request, and what it counted for it."""

    text: str | None
    finish: str | None
    model: str
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0
    estimated: bool = False  # the server counted nothing, so we did


class Journal:
    """Answers by request key. Used by many threads at once; by one process at a time."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.path = os.path.join(folder, NAME)
        self.places: dict[bytes, int] = {}
        self.notes: list[dict[str, Any]] = []  # everything that is not an answer: probes, batches
        self.file, self.closed = -1, False
        self.end = self.synced = 0
        self.writing, self.syncing = threading.Lock(), threading.Lock()
        if os.path.exists(self.path):
            self._open()

    def __len__(self) -> int:
        return len(self.places)

    def __contains__(self, key: str) -> bool:
        return bytes.fromhex(key) in self.places

    def get(self, key: str) -> Answer | None:
        place = self.places.get(bytes.fromhex(key))
        if place is None:
            return None
        return Answer(**json.loads(self._line(place))["answer"])

    def put(self, key: str, answer: Answer) -> None:
        place = self._append({"key": key, "answer": asdict(answer)})
        self.places[bytes.fromhex(key)] = place

    def note(self, **content: Any) -> None:
        self._append({"note": content})
        self.notes.append(content)

    def close(self) -> None:
        """An answer that arrives later is refused: its thread must not write into whatever is opened next."""
        with self.writing, self.syncing:
            self.closed = True
            if self.file >= 0:
                os.close(self.file)
                self.file = -1

    def _line(self, place: int) -> bytes:
        parts: list[bytes] = []
        while True:
            part = os.pread(self.file, 1 << 16, place)
            head, mark, _ = part.partition(b"\n")
            parts.append(head)
            if mark or not part:
                return b"".join(parts)
            place += len(part)

    def _append(self, content: dict[str, Any]) -> int:
        line = json.dumps(content, ensure_ascii=True).encode() + b"\n"
        with self.writing:
            if self.closed:
                raise OSError(9, os.strerror(9), self.path)
            if self.file < 0:
                self._open()
            place = self.end
            written = os.write(self.file, line)
            self.end += written
            if written < len(
                line
            ):  # a disk that is full: the torn line is cut off when it is opened again
                raise OSError(28, os.strerror(28), self.path)
            mine = self.end
        with self.syncing:  # one sync does for all that were written before it
            if self.synced < mine and not self.closed:
                upto = self.end
                os.fsync(self.file)
                self.synced = upto
        return place

    def _open(self) -> None:
        """Open or make the file, take the lock, cut off a torn last line and index the rest."""
        os.makedirs(self.folder, exist_ok=True)
        new = not os.path.exists(self.path)
        self.file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(
                f"another synthgen writes to the journal {self.folder}",
                "wait for it, or give this one its own --journal DIR",
            ) from None
        if new:
            for folder in (self.folder, os.path.dirname(os.path.abspath(self.folder))):
                handle = os.open(folder, os.O_RDONLY)
                os.fsync(handle)
                os.close(handle)
        with open(self.path, "rb") as lines:
            for number, line in enumerate(lines, 1):
                if not line.endswith(b"\n"):
                    break
                self._index(line, number)
                self.end += len(line)
        os.ftruncate(self.file, self.end)
        self.synced = self.end

    def _index(self, line: bytes, number: int) -> None:
        try:
            content = json.loads(line)
            if "key" in content:
                Answer(**content["answer"])
                self.places[bytes.fromhex(content["key"])] = self.end
            else:
                self.notes.append(content["note"])
        except (ValueError, KeyError, TypeError):
            raise InputError(
                f"{self.path}, line {number:,} is damaged",
                "delete that line: its request is asked again",
            ) from None
