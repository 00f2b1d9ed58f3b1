"""Time: what the user allows, and what a step costs."""

from __future__ import annotations

import re

from fletching.errors import UsageError

SECONDS = {"s": 1, "m": 60, "h": 3600, "": 60}
FORM = re.compile(r"(\d+(?:\.\d+)?)\s*([smh]?)")


def parse_budget(text: str) -> float:
    """Seconds of `90s`, `20m`, `2h`; a bare number is minutes. Raises UsageError."""
    match = FORM.fullmatch(text.strip().lower())
    if match is None or float(match[1]) == 0:
        raise UsageError(f"--budget {text} is no time", "pass e.g. --budget 20m")
    return float(match[1]) * SECONDS[match[2]]


def shown_minutes(seconds: float) -> str:
    """`45 s`, `3.5 min`."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.3g} min"
