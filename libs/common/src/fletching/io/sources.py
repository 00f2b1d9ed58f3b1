"""From the arguments (paths, folders, globs, URLs, stdin) to open inputs of a known format."""

from __future__ import annotations

import glob
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import BinaryIO, cast

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
NO_FOLDER_OF_DATA = "name a folder of data files"

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
    if "://" in name:
        return _expand_url(name, extensions)
    if detect_folder(name) is not None:
        return [name]
    if os.path.isdir(name):
        entries = [entry for entry in sorted(os.listdir(name)) if _is_data(entry, extensions)]
        entries = [entry for entry in entries if os.path.isfile(os.path.join(name, entry))]
        if not entries:
            raise _no_data(name, extensions)
        return [os.path.join(name, entry) for entry in entries]
    if glob.has_magic(name) and not os.path.exists(name):
        return _checked_matches(glob.glob(name, recursive=True), name)
    return [name]


def _no_data(folder: str, extensions: tuple[str, ...]) -> InputError:
    what = f"{folder} holds no {', '.join(extensions)} file"
    folders = [entry for entry in unread_entries(folder, extensions) if entry.endswith("/")]
    fix = NO_FOLDER_OF_DATA
    if folders:
        fix = f"name the files, or a folder in it: {os.path.join(folder, folders[0])}"
    return InputError(what, fix)


def unread_entries(folder: str, extensions: tuple[str, ...] = ()) -> list[str]:
    """What lies visibly in a folder of data and is not read: other files, and folders with a /.

    None for a data set of several files, whose layout says what is read.
    """
    if not os.path.isdir(folder) or detect_folder(folder) is not None:
        return []
    unread = []
    for entry in sorted(os.listdir(folder)):
        is_folder = os.path.isdir(os.path.join(folder, entry))
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
    return InputError(f"{url} cannot be opened: {reason}", "check the URL and the network")


def _expand_url(name: str, extensions: tuple[str, ...]) -> list[str]:
    """The files of a pattern or of a folder; else the URL itself."""
    import fsspec

    is_pattern = glob.has_magic(name)
    # A server of web pages has no folders, and a file need not be asked for twice.
    if not is_pattern and (name.startswith(WEB) or _is_data(os.path.basename(name), extensions)):
        return [name]
    try:
        filesystem, path = fsspec.core.url_to_fs(name)
        if is_pattern:
            matches = filesystem.glob(path)
        elif filesystem.isdir(path):
            matches = filesystem.ls(path, detail=False)
        else:
            return [name]
    except ImportError as error:
        raise _missing_package(name, error) from None
    except Exception as error:  # each file system fails in its way
        raise _unreachable(name, error) from None
    if is_pattern:
        # Unlike a local glob, fsspec's matches hidden files: outputs that are being written.
        matches = [each for each in matches if not os.path.basename(each).startswith(".")]
    else:
        matches = [each for each in matches if _is_data(os.path.basename(each), extensions)]
        if not matches:
            raise InputError(f"{name} holds no {', '.join(extensions)} file", NO_FOLDER_OF_DATA)
    return _checked_matches([filesystem.unstrip_protocol(each) for each in matches], name)


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
