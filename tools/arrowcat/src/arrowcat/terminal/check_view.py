"""The outcome of --check on a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from arrowcat.printable import one_line
from arrowcat.rows.contract_check import BrokenPromise, CheckedInput
from arrowcat.terminal.console import FAILURE, FAINT, POSITIVE, cell, print_line, print_text


def print_check(console: Console, checked: Sequence[CheckedInput]) -> None:
    """Each input with its broken promises, or that it keeps them all."""
    for result in checked:
        where = one_line(result.where, console.width)
        if not result.violations:
            line = f"✓ {where}: {result.rows:,} rows keep every promise of {result.schema}"
            print_text(console, line, POSITIVE)
            continue
        of_schema = f" of {result.schema}" if result.schema else ""
        noun = "violation" if result.violations == 1 else "violations"
        line = f"✗ {where}: {result.violations:,} {noun} in {result.rows:,} rows{of_schema}"
        print_text(console, line, FAILURE)
        for promise in result.broken.values():
            _print_promise(console, promise)
        if result.failure is not None:
            print_text(console, f"  {one_line(result.failure.what, 200)}")
            if result.failure.fix:
                print_text(console, f"  fix: {one_line(result.failure.fix, 200)}", FAINT)
        console.print()


def _print_promise(console: Console, promise: BrokenPromise) -> None:
    noun = "row" if promise.rows == 1 else "rows"
    print_text(console, f"  {promise.what}: {promise.rows:,} {noun}", "bold")
    for number, value in promise.shown:
        label = Text(f"    row {number:,}  ", style=FAINT)
        print_line(console, label, cell(value, columns=console.width))
    hidden = promise.rows - len(promise.shown)
    if hidden:
        print_text(console, f"    … {hidden:,} more", FAINT)
    print_text(console, f"    fix: {promise.fix}", FAINT)
