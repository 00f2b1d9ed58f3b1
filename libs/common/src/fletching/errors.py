"""The one way to refuse: what is wrong, and what to do about it."""


class InputError(Exception):
    """Data or work that cannot go on; the tool exits with 1.

    `what` names the file, the row and the value; `fix` is the command, option or step to try.
    """

    code = 1

    def __init__(self, what: str, fix: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.fix = fix


class UsageError(InputError):
    """A wrong command line or config file; the tool exits with 2."""

    code = 2


class Terminated(BaseException):
    """SIGTERM arrived: unwind, leave no half-written output, exit with 143."""
