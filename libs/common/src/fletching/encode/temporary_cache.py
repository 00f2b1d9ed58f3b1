"""The folder of vectors beside an output: kept while runs fail, removed when one succeeds.

A marker in it says that a run made it, so that a folder of the user with this name is never taken
for one; while a run is alive it holds a shared lock on the marker, so that of several runs the
last one removes the folder. Only what the runs wrote is removed.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
from typing import TextIO

from fletching.errors import UsageError

MARKER = ".fletching-temporary-cache"
MARKER_TEXT = "Vectors of a run that is not finished. A run that succeeds removes them.\n"
SHARD = re.compile(r".*\.arrow|\..*\.arrow\.tmp-[0-9a-f]+")  # whole, or left by a kill


class TemporaryCache:
    """Claims the folder `path`, or makes it. Raises UsageError where it is not a run's."""

    def __init__(self, path: str) -> None:
        self.path = path
        if os.path.lexists(path) and not self._is_ours():
            raise UsageError(
                f"{path}, where vectors are kept until the run succeeds, exists and holds other "
                "things",
                f"keep the vectors elsewhere: --cache DIR; or move {path}",
            )
        self.lock = self._claim()

    def _is_ours(self) -> bool:
        """Is it a folder that a run made, or an empty one?"""
        return os.path.isdir(self.path) and (
            os.path.isfile(os.path.join(self.path, MARKER)) or not os.listdir(self.path)
        )

    def _claim(self) -> TextIO:
        marker = os.path.join(self.path, MARKER)
        while True:
            os.makedirs(self.path, exist_ok=True)
            try:
                lock = open(marker, "a", encoding="utf-8")
            except FileNotFoundError:  # the last run has just removed the folder
                continue
            with contextlib.suppress(OSError):  # a file system without locks
                fcntl.flock(lock, fcntl.LOCK_SH)
            if os.path.exists(marker):
                break
            lock.close()
        if lock.tell() == 0:
            lock.write(MARKER_TEXT)
            lock.flush()
        return lock

    def close(self, *, succeeded: bool) -> None:
        """Remove the folder after success, and where it holds no vectors; else keep it."""
        with self.lock:
            holds_vectors = any(
                SHARD.fullmatch(name) for _, _, names in os.walk(self.path) for name in names
            )
            if succeeded or not holds_vectors:
                self._remove()

    def _remove(self) -> None:
        try:
            fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:  # another run works with it and removes it
            return
        except OSError:
            pass
        with contextlib.suppress(OSError):  # what is no run's stays, and its folder with it
            for folder in os.scandir(self.path):
                if folder.is_dir(follow_symlinks=False):
                    _remove_shards(folder.path)
            os.unlink(os.path.join(self.path, MARKER))
            os.rmdir(self.path)


def _remove_shards(folder: str) -> None:
    for name in os.listdir(folder):
        if SHARD.fullmatch(name):
            os.unlink(os.path.join(folder, name))
    with contextlib.suppress(OSError):  # not empty
        os.rmdir(folder)
