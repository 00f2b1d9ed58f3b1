"""The one place that renames: a file or folder appears whole or not at all.

Written under a temporary name in the same folder, flushed to disk, then renamed; a kill, a full
disk or an exception leaves the old one or none. What is no regular file (a FIFO, /dev/null) is
written to directly.
"""

from __future__ import annotations

import contextlib
import glob
import os
import shutil
import stat
from collections.abc import Iterator
from typing import BinaryIO


def write_bytes(path: str, content: bytes) -> None:
    """Replace a file's content."""
    with open_new(path) as file:
        file.write(content)


def write_text(path: str, content: str) -> None:
    """Replace a file's content by this text in UTF-8."""
    write_bytes(path, content.encode())


@contextlib.contextmanager
def open_new(path: str) -> Iterator[BinaryIO]:
    """A binary file that appears as `path` when the block ends without an exception."""
    if is_special(path):
        with open(path, "wb") as file:
            yield file
        return
    remove_leftovers(path)
    temporary = temporary_name(path)
    try:
        with open(temporary, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        replace(temporary, path)
    except BaseException:
        remove(temporary)
        raise


def temporary_name(path: str) -> str:
    """A hidden name beside `path` that belongs to this process."""
    return f"{_temporary_prefix(path)}{os.getpid()}"


def remove_leftovers(path: str) -> None:
    """Remove the temporary files of `path` that killed processes left; living ones keep theirs."""
    prefix = _temporary_prefix(path)
    for leftover in glob.glob(glob.escape(prefix) + "*"):
        process = leftover[len(prefix) :]
        if process.isdecimal() and not _is_alive(int(process)):
            remove(leftover)


def _temporary_prefix(path: str) -> str:
    folder, name = os.path.split(path)
    return os.path.join(folder, f".{name}.tmp-")


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's
        return True
    return True


def is_special(path: str) -> bool:
    """Is it there and neither a regular file nor a folder: a FIFO, /dev/null, /dev/fd/63?"""
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def replace(source: str, target: str) -> None:
    """Rename a file over another; the new name is on disk when this returns."""
    os.replace(source, target)
    sync(os.path.dirname(os.path.abspath(target)))


def move_folder(source: str, target: str) -> None:
    """Flush a folder to disk and rename it; the new name is free or an empty folder."""
    sync_tree(source)
    if os.path.isdir(target):
        os.rmdir(target)
    os.rename(source, target)
    sync(os.path.dirname(os.path.abspath(target)))


def remove(path: str) -> None:
    """Remove a file, or a folder with its content, if it exists."""
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    elif os.path.lexists(path):
        os.unlink(path)


def sync(path: str) -> None:
    """Flush a file's content, or a folder's names, to disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_tree(path: str) -> None:
    """Flush a folder and its content to disk."""
    for folder, _, names in os.walk(path):
        for name in names:
            sync(os.path.join(folder, name))
        sync(folder)
