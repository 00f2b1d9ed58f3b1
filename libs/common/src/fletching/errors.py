"""What ends a tool, each with its exit code.

Exception
  · InputError           exit code 1
    · UsageError         exit code 2
BaseException
  · TerminationSignal    exit code 143

`fletching.cli.main` prints an InputError as two lines: what is wrong, and how to fix it.
"""

from __future__ import annotations

__all__ = ["InputError", "TerminationSignal", "UsageError"]


class InputError(Exception):
    """Data that cannot be processed.

    what: the problem, with the file, the row and the value.
    fix: the command, option or step to try.
    """

    code = 1

    def __init__(self, what: str, fix: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.fix = fix


class UsageError(InputError):
    """A wrong command line or config file."""

    code = 2


class TerminationSignal(BaseException):
    """SIGTERM arrived: the tool unwinds and leaves no half-written output."""

    code = 143
