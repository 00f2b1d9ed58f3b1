"""The files of folders, in the order of their names, and what is left out with its reason."""

from __future__ import annotations

import fnmatch
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from docs2texts.options import Options
from fletching.errors import InputError, UsageError

MEGABYTE = 1_000_000


@dataclass(frozen=True, kw_only=True)
class ListedFile:
    """A file, or what stands where one could.

    source: its path within its folder, always UTF-8. reason: why it is not read; "" where it is.
    """

    path: str
    source: str
    size: int = 0
    reason: str = ""


def list_files(options: Options) -> list[ListedFile]:
    """The files of all inputs by source. Raises InputError where there is none."""
    listed: list[ListedFile] = []
    prefixed = len(options.inputs) > 1
    for name in options.inputs:
        if name == "-":
            raise UsageError("documents are no stream", "name their folder")
        if not os.path.lexists(name):
            raise InputError(f"{name} does not exist", "check the path")
        if os.path.isdir(name):
            base = os.path.basename(os.path.abspath(name))
            prefix = f"{base}/" if prefixed else ""
            listed += _walk(name, prefix, options)
        else:
            listed.append(_listed(name, os.path.basename(name), options))
    if not listed:
        raise InputError(f"{', '.join(options.inputs)} holds no file", "name a folder of documents")
    listed.sort(key=lambda file: file.source)
    return listed[: options.limit]


def _walk(folder: str, prefix: str, options: Options) -> Iterator[ListedFile]:
    """All files below a folder. Links to folders are not followed: they may lead in a circle."""
    waiting = [(folder, prefix)]
    while waiting:
        path, parent = waiting.pop()
        try:
            entries = list(os.scandir(path))
        except OSError as error:
            yield ListedFile(path=path, source=parent or ".", reason=_unreadable(error))
            continue
        for entry in entries:
            source = parent + _as_utf8(entry.name)
            if entry.name.startswith("."):
                yield ListedFile(path=entry.path, source=source, reason="hidden")
            elif _matches(source, options.exclude):
                yield ListedFile(path=entry.path, source=source, reason="excluded")
            elif entry.is_dir(follow_symlinks=False):
                waiting.append((entry.path, source + "/"))
            elif entry.is_symlink() and os.path.isdir(entry.path):
                yield ListedFile(path=entry.path, source=source, reason="a link to a folder")
            else:
                yield _listed(entry.path, source, options)


def _listed(path: str, source: str, options: Options) -> ListedFile:
    """A file, with the reason why it is not read if there is one."""
    source = _as_utf8(source)
    try:
        status = os.stat(path)
    except OSError as error:
        return ListedFile(path=path, source=source, reason=_unreadable(error))
    reason = ""
    if options.include and not _matches(source, options.include):
        reason = "not included"
    elif not stat.S_ISREG(status.st_mode):
        reason = "not a regular file"
    elif status.st_size > options.max_file_size * MEGABYTE:
        reason = f"above {options.max_file_size:g} MB"
    elif not status.st_size:
        reason = "empty"
    return ListedFile(path=path, source=source, size=status.st_size, reason=reason)


def _matches(source: str, patterns: Sequence[str]) -> bool:
    """Does the path, or the name alone, match one of these?"""
    name = source.rsplit("/", 1)[-1]
    return any(
        fnmatch.fnmatchcase(source, pattern) or fnmatch.fnmatchcase(name, pattern)
        for pattern in patterns
    )


def _unreadable(error: OSError) -> str:
    return f"not readable: {(error.strerror or 'error').lower()}"


def _as_utf8(name: str) -> str:
    """A file name as text; bytes that are not UTF-8 as escapes."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")
