"""The ranks that negatives are chosen from."""

from __future__ import annotations

from dataclasses import dataclass

from fletching.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class RankRange:
    """Ranks from `low` to `high`, both included; 1 is the nearest text.

    With --raw-range the same two numbers are a slice of ranks that count from 0, without `high`.
    """

    low: int
    high: int

    @classmethod
    def parse(cls, text: str) -> RankRange:
        """`LO-HI`, e.g. 1-100. Raises UsageError."""
        low, dash, high = text.partition("-")
        if not (dash and low.isdecimal() and high.isdecimal() and 1 <= int(low) <= int(high)):
            raise UsageError(
                f"--range {text} is not LO-HI",
                "pass e.g. --range 2-200; both ends count, 1 is the nearest text",
            )
        return cls(low=int(low), high=int(high))
