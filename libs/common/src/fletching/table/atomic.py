"""The one place that renames: a file or folder appears whole or not at all.

Written under a temporary name in the same folder, flushed to disk, then renamed; a kill, a full
disk or an exception leaves the old one or none. A temporary name is random and locked while its
process lives, so that runs in several containers, where process ids repeat, keep theirs; the next
run removes what a killed one left. What is no regular file (a FIFO, /dev/null) is written to
directly, and so is /dev/stdout whatever it leads to; a link is followed, and stays a link.
"""

from __future__ import annotations

import contextlib
import fcntl
import glob
import os
import re
import shutil
import stat
from collections.abc import Iterator
from typing import BinaryIO

RANDOM_BYTES = 6
SUFFIX = re.compile(rf"[0-9a-f]{{{2 * RANDOM_BYTES}}}")
DESCRIPTORS = re.compile(r"/proc/(\d+)/(?:task/\d+/)?fd")
SCRATCH_PREFIX = "fletching-scratch-"
MOST_LINKS = 40  # that Linux follows


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
        with open_special(path) as file:
            yield file
        return
    file = create_temporary(path)
    try:
        with file:
            yield file
            file.flush()
            os.fsync(file.fileno())
            replace(file.name, path)
    except BaseException:
        remove(file.name)
        raise


def create_temporary(path: str) -> BinaryIO:
    """A new file beside `path` under a temporary name (`.name`), locked until it is closed.

    What killed runs left there is removed first.
    """
    return _create_locked(_temporary_prefix(path), 0o666)


def create_scratch(tool: str) -> BinaryIO:
    """A new file in the system's temporary folder for the user alone, locked until it is closed.

    What killed runs left there is removed first. tool: the beginning of its name.
    """
    return _create_locked(_scratch_prefix(tool), 0o600)


def _create_locked(prefix: str, mode: int) -> BinaryIO:
    _remove_unlocked(prefix)
    while True:
        name = prefix + _random_name()
        file = open(name, "xb", opener=lambda path, flags: os.open(path, flags, mode))
        if _lock(file.fileno(), name):
            return file
        file.close()  # a run that was looking for leftovers took it for one


@contextlib.contextmanager
def new_folder(path: str) -> Iterator[str]:
    """A folder to fill, which appears as `path` when the block ends without an exception."""
    remove_leftovers(path)
    with _locked_folder(_temporary_prefix(path), 0o777) as name:
        try:
            yield name
            move_folder(name, path)
        except BaseException:
            remove(name)
            raise


@contextlib.contextmanager
def scratch_folder(tool: str) -> Iterator[str]:
    """A folder for temporary files, removed at the end or, after a kill, by the next run.

    It lies in the system's temporary folder. tool: the beginning of its name.
    """
    prefix = _scratch_prefix(tool)
    _remove_unlocked(prefix)
    with _locked_folder(prefix, 0o700) as name:
        try:
            yield name
        finally:
            remove(name)


def _scratch_prefix(tool: str) -> str:
    import tempfile  # late: --help imports this module

    return os.path.join(tempfile.gettempdir(), f"{SCRATCH_PREFIX}{tool}-")


@contextlib.contextmanager
def _locked_folder(prefix: str, mode: int) -> Iterator[str]:
    while True:
        name = prefix + _random_name()
        os.mkdir(name, mode)
        handle = os.open(name, os.O_RDONLY)
        if _lock(handle, name):
            break
        os.close(handle)
    try:
        yield name
    finally:
        os.close(handle)


def _random_name() -> str:
    return os.urandom(RANDOM_BYTES).hex()


def _lock(handle: int, name: str) -> bool:
    """Lock a new file or folder; False where another run has taken it for a leftover."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks: nobody can take it for a leftover either
        return True
    return os.path.lexists(name)


def remove_leftovers(path: str) -> None:
    """Remove the temporary files and folders of `path` whose process is dead."""
    _remove_unlocked(_temporary_prefix(path))


def _remove_unlocked(prefix: str) -> None:
    for leftover in glob.glob(glob.escape(prefix) + "*"):
        if not SUFFIX.fullmatch(leftover[len(prefix) :]):
            continue
        with contextlib.suppress(OSError):  # another run's, or removed meanwhile
            handle = os.open(leftover, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                remove(leftover)
            finally:
                os.close(handle)


def _temporary_prefix(path: str) -> str:
    folder, name = os.path.split(os.path.realpath(path))
    return os.path.join(folder, f".{name}.tmp-")


def is_special(path: str) -> bool:
    """Is it there and neither a regular file nor a folder: a FIFO, /dev/null, /dev/fd/63?

    An open descriptor is special even where it leads to a file, as with `2> log` and /dev/stderr:
    a rename would put the file in place of the device.
    """
    if _descriptor(path) is not None:
        return True
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def open_special(path: str) -> BinaryIO:
    """A special file, to write; what an open descriptor leads to is not cut off."""
    descriptor = _descriptor(path)
    if descriptor is not None and descriptor[0] == os.getpid():
        return open(os.dup(descriptor[1]), "wb")
    return open(path, "wb")


def _descriptor(path: str) -> tuple[int, int] | None:
    """(process, number) of the open descriptor that a path leads to, link by link."""
    for _ in range(MOST_LINKS):
        folder, name = os.path.split(os.path.abspath(path))
        folder = os.path.realpath(folder)
        match = DESCRIPTORS.fullmatch(folder)
        if match and name.isdecimal():
            return int(match[1]), int(name)
        try:
            path = os.path.join(folder, os.readlink(os.path.join(folder, name)))
        except OSError:  # no link
            return None
    return None


def replace(source: str, target: str) -> None:
    """Rename a file over another; the new name is on disk when this returns.

    Where the target is a link, what it leads to is replaced.
    """
    target = os.path.realpath(target)
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
    with contextlib.suppress(FileNotFoundError):  # another run may remove it too
        if os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path)
        else:
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
