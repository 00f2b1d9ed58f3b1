"""Progress, row accounting and the summary line. Everything here goes to stderr."""

from __future__ import annotations

import contextlib
import json
import os
import stat
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn

from fletching.colour import has_colour
from fletching.errors import InputError

if TYPE_CHECKING:
    from tqdm import tqdm

IN_OTHER_SHARDS = "in other shards"  # the reason under which a shard drops what is not its own
PLAIN_LINE_SECONDS = 10.0  # between two plain lines of progress
SUMMARY_VERSION = "1.0"  # of schemas/summary/v1.json
HARMLESS = "\n\t \u200c\u200d\u00a0\u3000"  # blanks, and what joins letters and emoji
CLEAR_LINE = "\r\x1b[K"  # to the start of the line, which is erased


def printable(text: str) -> str:
    r"""The text with control and format characters as escapes, such as `\x1b` and `\u202e`.

    Names and texts of data could else move the cursor, colour the terminal, set its title, or show
    another order of letters; half a surrogate pair could not be printed at all. Line ends and
    tabs stay.
    """
    if text.isprintable():
        return text
    return "".join(
        sign if sign.isprintable() or sign in HARMLESS else repr(sign)[1:-1] for sign in text
    )


class Report:
    """What one run says: notes, progress, and the account of its rows.

    The account: rows in + rows added = rows out + rows dropped, each addition and each drop under a
    reason that a user understands. `check` is called before any output is committed.
    """

    def __init__(self, tool: str, quiet: bool = False, json_summary: str | None = None) -> None:
        self.tool = tool
        self.quiet = quiet
        self.json_summary = json_summary
        self.rows_in = 0
        self.rows_out = 0
        self.added: Counter[str] = Counter()
        self.dropped: Counter[str] = Counter()
        self.measures: dict[str, Any] = {}
        self.notes: list[str] = []
        self.started = time.monotonic()

    def drop(self, reason: str, rows: int = 1) -> None:
        """Count rows that are read and not written."""
        if rows:
            self.dropped[reason] += rows

    def drop_other_shards(self, rows: int, *, of: int, unit: int) -> None:
        """Count the rows of other shards, and say why a shard has none.

        rows: of this shard. of: all that were read. unit: rows that are never divided.
        """
        self.drop(IN_OTHER_SHARDS, of - rows)
        if of and not rows:
            units = -(-of // unit)
            self.note(
                f"this shard is empty: rows are dealt in units of {unit:,}, "
                f"so {of:,} of them fill {units:,} of the shards at most"
            )

    def add(self, reason: str, rows: int = 1) -> None:
        """Count rows that are written and were not read."""
        if rows:
            self.added[reason] += rows

    def note(self, text: str) -> None:
        """A line that the user should see once."""
        self.notes.append(text)
        if not self.quiet:
            print_line(f"{self.tool}: {text}")

    def progress(self, activity: str, total: int | None = None, unit: str = "rows") -> Progress:
        """The progress of one activity, as a context manager. total: the number of units."""
        return Progress(self, activity, total=total, unit=unit)

    def check(self) -> None:
        """Raise RuntimeError where the account does not balance: a bug in the tool."""
        left = self.rows_in + self.added.total()
        right = self.rows_out + self.dropped.total()
        if left != right:
            raise RuntimeError(f"rows do not add up: {self.summary()}")

    def summary(self) -> str:
        """Rows in and out, rows by reason, seconds."""
        additions = [f"+{rows:,} {reason}" for reason, rows in sorted(self.added.items())]
        drops = [f"{rows:,} {reason}" for reason, rows in sorted(self.dropped.items())]
        reasons = ", ".join(additions + drops)
        why = f" ({reasons})" if reasons else ""
        seconds = time.monotonic() - self.started
        return f"{self.rows_in:,} in, {self.rows_out:,} out{why}, {seconds:.1f} s"

    def finish(self) -> None:
        """Print the summary as the last line, and write it to the JSON file."""
        if not self.quiet:
            print_line(f"{self.tool}: {self.summary()}")
        if self.json_summary:
            try:
                self._write_json(self.json_summary)
            except OSError as error:
                reason = (error.strerror or str(error)).lower()
                what = f"--json-summary {self.json_summary} cannot be written: {reason}"
                fix = "the output is complete; only the summary is missing"
                raise InputError(what, fix) from None

    def _write_json(self, path: str) -> None:
        from fletching.table import atomic

        content = {
            "schema": "summary",
            "schema_version": SUMMARY_VERSION,
            "tool": self.tool,
            "rows_in": self.rows_in,
            "rows_out": self.rows_out,
            "added": dict(sorted(self.added.items())),
            "dropped": dict(sorted(self.dropped.items())),
            "measures": self.measures,
            "notes": self.notes,
            "seconds": round(time.monotonic() - self.started, 3),
        }
        text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
        # A file name that is not UTF-8 stays readable as an escape of JSON.
        atomic.write_text(path, text.encode(errors="backslashreplace").decode())


class Progress:
    """A bar of tqdm on a terminal, else a plain line every ten seconds.

    Of the tools of one pipeline, which share a terminal, only the last one draws a bar; the
    others, whose stdout is a pipe, print plain lines above it.
    """

    def __init__(
        self, report: Report, activity: str, *, total: int | None = None, unit: str = "rows"
    ) -> None:
        self.report, self.activity = report, activity
        self.total, self.unit = total, unit
        self.done = 0
        self.started = time.monotonic()
        self._next_line = self.started + PLAIN_LINE_SECONDS
        self._bar: tqdm[NoReturn] | None = None
        on_terminal = sys.stderr is not None and sys.stderr.isatty()
        if not report.quiet and on_terminal and not _is_piped_onward():
            self._bar = _new_bar(self)

    def advance(self, amount: int = 1, detail: str = "") -> None:
        """Count finished units. detail: what to show beside them, such as a loss."""
        self.done += amount
        if self._bar is not None:
            self._bar.set_postfix_str(printable(detail), refresh=False)
            self._bar.update(amount)
        elif not self.report.quiet:
            self._print_if_due(detail)

    def _print_if_due(self, detail: str) -> None:
        now = time.monotonic()
        if now >= self._next_line:
            self._next_line = now + PLAIN_LINE_SECONDS
            suffix = f", {detail}" if detail else ""
            print_line(self.line(now) + suffix, clip=True)

    def line(self, now: float) -> str:
        """`hnmine: mining 450 of 1,000 rows, 90/s, 0:06 left`. now: as of `time.monotonic`."""
        rate = self.done / max(now - self.started, 1e-9)
        total = f" of {self.total:,}" if self.total else ""
        digits = 0 if rate >= 10 else 2
        count = f"{printable(self.activity)} {self.done:,}{total} {self.unit}"
        line = f"{self.report.tool}: {count}, {rate:,.{digits}f}/s"
        if not (self.total and rate):
            return line
        remaining = _clock((self.total - self.done) / rate)
        return f"{line}, {remaining} left"

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *failure: object) -> None:
        if self._bar is not None:
            self._bar.close()


def _is_piped_onward() -> bool:
    """Does another program read this one's stdout? It may draw a bar on the same terminal."""
    try:
        mode = os.fstat(sys.stdout.fileno()).st_mode
    except (AttributeError, OSError, ValueError):  # closed, or an object without a file
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)


def _new_bar(progress: Progress) -> tqdm[NoReturn]:
    """A bar behind the line of progress, clipped to the terminal's width and erased at the end."""
    from tqdm import tqdm

    class ClippedBar(tqdm):  # type: ignore[misc]
        """tqdm with our line in front of the bar."""

        monitor_interval = 0  # no thread that wakes idle bars

        @property
        def format_dict(self) -> dict[str, Any]:
            """What `bar_format` may name: tqdm's fields, and our line."""
            line = progress.line(time.monotonic())
            return {**super().format_dict, "ncols": _terminal_width() - 1, "line": line}

    ClippedBar.set_lock(
        threading.RLock()
    )  # one process draws: tqdm's own lock would hold a semaphore
    return ClippedBar(
        total=progress.total or None,
        bar_format="{line}{postfix} {bar}",  # the bar is blank where the total is not known
        leave=False,
        mininterval=0.2,
        delay=0.2,
        file=sys.stderr,
    )


def _terminal_width() -> int:
    """Columns of the terminal on stderr; 80 where it does not say."""
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns or 80
    except (OSError, ValueError):
        return 80


def print_line(text: str, *, clip: bool = False, paint: Callable[[str], str] | None = None) -> None:
    """Print on stderr, above the bar of whichever tool draws one there.

    clip: cut at the terminal's width, so that a line of progress stays one line. paint: adds the
    colours, where they are shown. What stderr cannot take (closed, full, nobody reads it) is lost;
    the work goes on.
    """
    if sys.stderr is None:  # `print` would write to stdout
        return
    text = printable(text)
    if paint is not None and has_colour(sys.stderr):
        text = paint(text)
    try:
        if sys.stderr.isatty():
            text = CLEAR_LINE + (text[: _terminal_width() - 1] if clip else text)
        print(text, file=sys.stderr, flush=True)
    except (OSError, ValueError):
        _discard_stderr()


def _discard_stderr() -> None:
    """Send stderr nowhere: Python would fail at exit over what is left in its buffer."""
    with contextlib.suppress(AttributeError, OSError, ValueError):
        sink = os.open(os.devnull, os.O_WRONLY)
        os.dup2(sink, sys.stderr.fileno())
        os.close(sink)


def _clock(seconds: float) -> str:
    """`1:02:03`, or `2:03` below an hour."""
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}:{minutes:02}:{seconds:02}"
    return f"{minutes}:{seconds:02}"
