"""Progress, row accounting and the summary line. Everything here goes to stderr."""

from __future__ import annotations

import json
import os
import sys
import time
from collections import Counter
from typing import Any


class Report:
    """What one run has to say.

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
        if rows:
            self.dropped[reason] += rows

    def add(self, reason: str, rows: int = 1) -> None:
        if rows:
            self.added[reason] += rows

    def note(self, text: str) -> None:
        """A line that the user should see once."""
        self.notes.append(text)
        if not self.quiet:
            print(f"{self.tool}: {text}", file=sys.stderr, flush=True)

    def progress(self, doing: str, total: int | None = None, unit: str = "rows") -> Progress:
        return Progress(self, doing, total, unit)

    def check(self) -> None:
        """The account must balance. An imbalance is a bug in the tool, never the user's fault."""
        left = self.rows_in + self.added.total()
        right = self.rows_out + self.dropped.total()
        if left != right:
            raise RuntimeError(f"rows do not add up: {self.summary()}")

    def summary(self) -> str:
        reasons = [f"{rows:,} {why}" for why, rows in sorted(self.dropped.items())]
        extra = [f"+{rows:,} {why}" for why, rows in sorted(self.added.items())]
        why = f" ({', '.join(extra + reasons)})" if extra or reasons else ""
        seconds = time.monotonic() - self.started
        return f"{self.rows_in:,} in, {self.rows_out:,} out{why}, {seconds:.1f} s"

    def finish(self) -> None:
        """The last line on stderr, and the same for machines."""
        if not self.quiet:
            print(f"{self.tool}: {self.summary()}", file=sys.stderr, flush=True)
        if self.json_summary:
            content = dict(
                tool=self.tool,
                rows_in=self.rows_in,
                rows_out=self.rows_out,
                added=dict(sorted(self.added.items())),
                dropped=dict(sorted(self.dropped.items())),
                measures=self.measures,
                notes=self.notes,
                seconds=round(time.monotonic() - self.started, 3),
            )
            temporary = f"{self.json_summary}.tmp-{os.getpid()}"
            with open(temporary, "w", encoding="utf-8") as file:
                json.dump(content, file, indent=2, ensure_ascii=False)
                file.write("\n")
            os.replace(temporary, self.json_summary)


class Progress:
    """A bar when stderr is a terminal, a plain line every ten seconds when it is not."""

    def __init__(self, report: Report, doing: str, total: int | None, unit: str) -> None:
        self.report, self.doing, self.total, self.unit = report, doing, total, unit
        self.done = 0
        self.terminal = sys.stderr.isatty()
        self.every = 0.2 if self.terminal else 10.0
        self.started = time.monotonic()
        self.due = self.started + self.every
        self.drawn = False

    def advance(self, amount: int = 1, detail: str = "") -> None:
        self.done += amount
        now = time.monotonic()
        if self.report.quiet or now < self.due:
            return
        self.due = now + self.every
        line = f"{self.report.tool}: {self._line(now)}{detail and ', ' + detail}"
        print(
            f"\r{line}\x1b[K" if self.terminal else line,
            end="" if self.terminal else "\n",
            file=sys.stderr,
            flush=True,
        )
        self.drawn = self.terminal

    def _line(self, now: float) -> str:
        rate = self.done / max(now - self.started, 1e-9)
        of = f" of {self.total:,}" if self.total else ""
        left = f", {_clock((self.total - self.done) / rate)} left" if self.total and rate else ""
        return f"{self.doing} {self.done:,}{of} {self.unit}, {rate:,.{0 if rate >= 10 else 2}f}/s{left}"

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *failure: object) -> None:
        if self.drawn:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(int(seconds), 60)
    return (
        f"{minutes // 60}:{minutes % 60:02}:{seconds:02}"
        if minutes >= 60
        else f"{minutes}:{seconds:02}"
    )
