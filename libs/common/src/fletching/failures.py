"""Exceptions of Python and of libraries as what is wrong and how to fix it."""

from __future__ import annotations

import errno
import os
import re

from fletching import links

RUST_OS_ERROR = re.compile(r"\(os error (\d+)\)")  # as safetensors and polars tell them
# As pyarrow and torch tell them.
SYSTEM_ERRORS = (errno.ENOMEM, errno.ENOSPC, errno.EFBIG, errno.EIO, errno.EMFILE, errno.EROFS)
# Of Python and of the dynamic linker, where memory or processes are limited.
NO_MEMORY = ("can't start new thread", "failed to map segment from shared object")
SHORT_WRITE = "] . unexpected pos "  # of torch.save, where the disk takes no more
PANIC = "PanicException"  # of polars: no Exception, so that nobody goes on after it


def is_failure(error: BaseException) -> bool:
    """Is it an error of the program, and no exit?"""
    return isinstance(error, Exception) or type(error).__name__ == PANIC


def explain(error: BaseException) -> tuple[str, str]:
    """(what is wrong, how to fix it) for an exception of Python or of a library."""
    if isinstance(error, OSError) and error.errno in (errno.ENOMEM, errno.EAGAIN):
        error = MemoryError()
    if isinstance(error, OSError) and error.strerror:
        where = f" ({error.filename})" if error.filename else ""
        what = error.strerror.lower() + where
        return what, "check the path, its rights and the free space"
    if isinstance(error, MemoryError):
        return "out of memory", "use --limit, smaller batches or a machine with more memory"
    first_line = f"{type(error).__name__}: {error}".splitlines()[0]
    number = _system_error(str(error) if isinstance(error, ImportError) else first_line)
    if number == errno.ENOMEM:
        return explain(MemoryError())
    if number:
        return explain(OSError(number, os.strerror(number)))
    return f"unexpected failure, {first_line}", _save_traceback(error)


def _system_error(message: str) -> int | None:
    """The errno that the error of a library tells in its words."""
    match = RUST_OS_ERROR.search(message)
    if match:
        return int(match[1])
    if any(phrase in message for phrase in NO_MEMORY):
        return errno.ENOMEM
    if SHORT_WRITE in message:
        return errno.ENOSPC
    return next((each for each in SYSTEM_ERRORS if os.strerror(each) in message), None)


def _save_traceback(error: BaseException) -> str:
    """Write the traceback to a new file in the temporary folder; how to report it."""
    import tempfile
    import traceback

    try:
        with tempfile.NamedTemporaryFile(
            "w", prefix="fletching-traceback-", suffix=".txt", delete=False, encoding="utf-8"
        ) as file:
            file.writelines(traceback.format_exception(error))
    except OSError:  # no temporary folder, or a full disk
        return f"run again with FLETCHING_DEBUG=1 and report the traceback at {links.ISSUES}"
    return f"please report it at {links.ISSUES} with the traceback in {file.name}"
