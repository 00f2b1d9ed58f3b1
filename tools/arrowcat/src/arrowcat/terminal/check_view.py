"""The outcome of --check on a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from arrowcat.printable import number_of, one_line
from arrowcat.rows.contract_check import BrokenPromise, CheckedInput
from arrowcat.terminal.console import FAILURE, FAINT, POSITIVE, cell, print_line, print_text
from fletching.errors import InputError

LONGEST_SENTENCE = 200  # quarter of the letters that are shown


def print_check(console: Console, checked: Sequence[CheckedInput]) -> None:
    """Each input with its broken promises, or that it keeps them all."""
    for result in checked:
        where = one_line(result.where, LONGEST_SENTENCE)
        rows = number_of(result.rows, "row")
        if not result.violations:
            line = f"✓ {where}: {rows} keep every promise of {result.schema}"
            print_text(console, line, POSITIVE)
            continue
        violations = number_of(result.violations, "violation")
        of_schema = f" of {result.schema}" if result.schema else ""
        print_text(console, f"✗ {where}: {violations} in {rows}{of_schema}", FAILURE)
        for promise in result.broken.values():
            _print_promise(console, promise)
        if result.failure is not None:
            _print_failure(console, result.failure)
        console.print()


def _print_failure(console: Console, failure: InputError) -> None:
    what = one_line(failure.what, LONGEST_SENTENCE)
    print_text(console, f"  {what}")
    if failure.fix:
        fix = one_line(failure.fix, LONGEST_SENTENCE)
        print_text(console, f"  fix: {fix}", FAINT)


def _print_promise(console: Console, promise: BrokenPromise) -> None:
    rows = number_of(promise.rows, "row")
    print_text(console, f"  {promise.what}: {rows}", "bold")
    for number, value in promise.shown:
        label = Text(f"    row {number:,}  ", style=FAINT)
        print_line(console, label, cell(value, columns=console.width))
    hidden = promise.rows - len(promise.shown)
    if hidden:
        print_text(console, f"    … {hidden:,} more", FAINT)
    print_text(console, f"    fix: {promise.fix}", FAINT)
