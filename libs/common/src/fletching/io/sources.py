"""From the arguments (paths, folders, globs, URLs, stdin) to open inputs of a known format."""

from __future__ import annotations

import functools
import glob
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO, cast

from fletching.errors import InputError, UsageError
from fletching.io.formats import MAGIC_BYTES, detect, input_extensions, without_compression
from fletching.io.row_formats.row_format import detect_folder
from fletching.io.streams import PeekableStream, Readable, decompress, spool

MOST_LAYERS = 4  # of compression around one another

# Of the common library, by the scheme of a URL.
EXTRAS = {
    "s3": "s3",
    "s3a": "s3",
    "http": "http",
    "https": "http",
    "gs": "gs",
    "gcs": "gs",
    "hf": "hf",
}

WEB = ("http://", "https://")
# Of the layouts of BEIR and MTEB, and of a folder that `datasets` saved.
PARTS_OF_DATA_SET = {"corpus", "queries"}
OF_SAVED_DATASET = {"state.json", "dataset_dict.json"}

__all__ = ["PeekableStream", "Source", "resolve", "sniff", "spool"]


@dataclass
class Source:
    """One input.

    where: its name in errors. path: a path or URL; None is stdin.
    """

    where: str
    path: str | None

    def open(self) -> BinaryIO:
        """The file at its first byte. Raises InputError."""
        if self.path is None:
            # polars installs a handler, when it is imported, that restarts an interrupted read.
            signal.siginterrupt(signal.SIGINT, True)
            return sys.stdin.buffer
        try:
            if "://" in self.path:
                return _open_url(self.path)
            return open(self.path, "rb")
        except FileNotFoundError:
            raise InputError(f"{self.where} does not exist", "check the path") from None
        except ImportError as error:
            raise _missing_package(self.path, error) from None
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            what = f"{self.where} cannot be opened: {reason}"
            raise InputError(what, "check the path and its rights") from None


def resolve(inputs: Sequence[str], extensions: tuple[str, ...] = ()) -> list[Source]:
    """The sources that the arguments name, in the order given; inside a folder or glob by name.

    extensions: which files of a folder are data; without any, those of the input formats.
    Raises UsageError or InputError where nothing can be read.
    """
    if not inputs or list(inputs) == ["-"]:
        if sys.stdin is None or sys.stdin.isatty():
            raise UsageError(
                "nothing to read: no file is named and stdin is a terminal",
                "name a file, or pipe another tool into this one",
            )
        return [Source("stdin", None)]
    if "-" in inputs:
        what = "- (stdin) is combined with other inputs"
        raise UsageError(what, "name files alone, or stdin alone")
    paths = [path for name in inputs for path in _expand(name, extensions or input_extensions())]
    return [Source(path, path) for path in paths]


def _expand(name: str, extensions: tuple[str, ...]) -> list[str]:
    """The paths or URLs that one argument names."""
    is_url = "://" in name
    if is_url and glob.has_magic(name):
        return _glob_url(name)
    if not is_url and detect_folder(name) is not None:
        return [name]
    entries = _entries_of_url(name) if is_url else _entries_of_path(name)
    if entries is not None:
        _check_is_no_layout(name, entries)
        files = [each for each, is_folder in entries.items() if not is_folder]
        files = [each for each in files if _is_data(each, extensions)]
        if not files:
            raise _no_data(name, extensions)
        return [os.path.join(name, each) for each in files]
    if not is_url and glob.has_magic(name) and not os.path.exists(name):
        return _checked_matches(glob.glob(name, recursive=True), name)
    return [name]


def _entries_of_path(folder: str) -> dict[str, bool] | None:
    """{name: is it a folder?} by name; None where this is none."""
    if not os.path.isdir(folder):
        return None
    return {each: os.path.isdir(os.path.join(folder, each)) for each in sorted(os.listdir(folder))}


@functools.lru_cache(maxsize=64)  # asked for the files, and for what else lies there
def _entries_of_url(url: str) -> dict[str, bool] | None:
    """The same of a URL. Servers of web pages have no folders."""
    if url.startswith(WEB):
        return None
    filesystem, path = _file_system(url)
    try:
        if not filesystem.isdir(path):
            return None
        listed = filesystem.ls(path, detail=True)
    except Exception as error:  # each file system fails in its way
        raise _unreachable(url, error) from None
    entries = {os.path.basename(each["name"].rstrip("/")): each["type"] for each in listed}
    return {name: entries[name] == "directory" for name in sorted(entries) if name}


def _check_is_no_layout(name: str, entries: Mapping[str, bool]) -> None:
    """Raise InputError for a data set of several files behind a URL: one alone would mislead."""
    stems = {each.partition(".")[0] for each in entries}
    if "://" in name and (stems >= PARTS_OF_DATA_SET or not OF_SAVED_DATASET.isdisjoint(entries)):
        what = f"{name} is a data set of several files, which is read from a disk"
        raise InputError(what, "download the folder and name it, or name one of its files")


def _no_data(folder: str, extensions: tuple[str, ...]) -> InputError:
    what = f"{folder} holds no {', '.join(extensions)} file"
    folders = [entry for entry in unread_entries(folder, extensions) if entry.endswith("/")]
    fix = "name a folder of data files"
    if folders:
        fix = f"name the files, or a folder in it: {os.path.join(folder, folders[0])}"
    return InputError(what, fix)


def unread_entries(folder: str, extensions: tuple[str, ...] = ()) -> list[str]:
    """What lies visibly in a folder of data and is not read: other files, and folders with a /.

    None for a data set of several files, whose layout says what is read.
    """
    if "://" in folder:
        entries = None if glob.has_magic(folder) else _entries_of_url(folder)
    else:
        entries = None if detect_folder(folder) is not None else _entries_of_path(folder)
    unread = []
    for entry, is_folder in (entries or {}).items():
        is_read = _is_data(entry, extensions or input_extensions()) and not is_folder
        if not is_read and not entry.startswith((".", "_")):
            unread.append(entry + "/" if is_folder else entry)
    return unread


def _is_data(entry: str, extensions: tuple[str, ...]) -> bool:
    return without_compression(entry).endswith(extensions) and not entry.startswith((".", "_"))


def _missing_package(url: str, error: ImportError) -> InputError:
    """What to install for a URL of this scheme."""
    scheme = url.partition("://")[0]
    extra = EXTRAS.get(scheme)
    what = f"{url} cannot be opened: no package reads {scheme}:// ({error})"
    fix = f"pip install 'fletching[{extra}]'" if extra else "download the file, and name it"
    return InputError(what, fix)


def _open_url(url: str) -> BinaryIO:
    import fsspec

    try:
        return cast(BinaryIO, fsspec.open(url, "rb").open())
    except (OSError, ImportError):
        raise
    except Exception as error:  # each file system fails in its way
        raise _unreachable(url, error) from None


def _unreachable(url: str, error: Exception) -> InputError:
    reason = (str(error) or type(error).__name__).splitlines()[0]
    fix = "check the URL, the network and the credentials"
    return InputError(f"{url} cannot be opened: {reason}", fix)


def _file_system(url: str) -> tuple[Any, str]:
    """The file system of a URL, and the path in it. Raises InputError."""
    import fsspec

    try:
        return cast(tuple[Any, str], fsspec.core.url_to_fs(url))
    except ImportError as error:
        raise _missing_package(url, error) from None
    except Exception as error:  # each file system fails in its way
        raise _unreachable(url, error) from None


def _glob_url(pattern: str) -> list[str]:
    filesystem, path = _file_system(pattern)
    try:
        matches = filesystem.glob(path)
    except Exception as error:  # each file system fails in its way
        raise _unreachable(pattern, error) from None
    # Unlike a local glob, fsspec's matches hidden files, such as outputs that are being written.
    names = [name for name in matches if not os.path.basename(name).startswith(".")]
    return _checked_matches([filesystem.unstrip_protocol(name) for name in names], pattern)


def _checked_matches(paths: list[str], pattern: str) -> list[str]:
    """The paths in order. Raises InputError where there is none."""
    if not paths:
        raise InputError(f"no file matches {pattern}", "check the pattern")
    return sorted(paths)


def sniff(raw: Readable, where: str = "the input") -> tuple[str, PeekableStream]:
    """(the name of the input format by content, the file from its first byte on, decompressed)."""
    stream = PeekableStream(raw)
    for _ in range(MOST_LAYERS + 1):
        decompressed = decompress(stream, where)
        if decompressed is None:
            return detect(stream.peek(MAGIC_BYTES)), stream
        stream = decompressed
    raise InputError(
        f"{where} is compressed more than {MOST_LAYERS} times over", "decompress it first"
    )
