"""Rate limits: requests and tokens a minute, a server's pauses, back-off before a retry."""

from __future__ import annotations

import email.utils
import random
import threading
import time
from collections.abc import Callable, Mapping

BACKOFF_SCALE = 0.5  # seconds
BACKOFF_CEILING = 60.0  # seconds
LONGEST_RETRY_AFTER = 10**9  # seconds; more is a mistake of the server


class RateLimiter:
    """One schedule for all threads: each request reserves its turn; there are no bursts.

    A limit of None is no limit. stop: set when the run ends, which wakes those who wait.
    """

    def __init__(
        self,
        *,
        requests_per_minute: int | None,
        tokens_per_minute: int | None,
        stop: threading.Event,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.seconds_per_request = 60 / requests_per_minute if requests_per_minute else 0.0
        self.seconds_per_token = 60 / tokens_per_minute if tokens_per_minute else 0.0
        self.stop = stop
        self.clock = clock
        self.next_by_requests = 0.0
        self.next_by_tokens = 0.0
        self.paused_until = 0.0
        self.lock = threading.Lock()

    def reserve_turn(self, tokens: int) -> float:
        """Reserve the next turn for a request of so many tokens; the seconds to wait for it."""
        with self.lock:
            now = self.clock()
            start = max(now, self.next_by_requests, self.next_by_tokens, self.paused_until)
            self.next_by_requests = start + self.seconds_per_request
            self.next_by_tokens = start + tokens * self.seconds_per_token
            return start - now

    def correct(self, extra_tokens: int) -> None:
        """The request had so many tokens more (or, negative, fewer) than reserved."""
        with self.lock:
            self.next_by_tokens += extra_tokens * self.seconds_per_token

    def pause(self, seconds: float) -> None:
        """The server wants no request from any thread for a while."""
        with self.lock:
            self.paused_until = max(self.paused_until, self.clock() + seconds)

    def wait(self, seconds: float) -> bool:
        """Sleep. False: the run stops."""
        if seconds > 0:
            return not self.stop.wait(seconds)
        return not self.stop.is_set()


def backoff(attempt: int, draw: Callable[[float, float], float] = random.uniform) -> float:
    """Seconds to wait after failed attempt number `attempt`, counted from 0.

    Full jitter, uniform from 0 to min(60, 0.5 · 2^attempt): Brooker 2015, "Exponential Backoff
    and Jitter".
    """
    ceiling = min(BACKOFF_CEILING, BACKOFF_SCALE * 2**attempt)
    return draw(0.0, ceiling)


def retry_after(headers: Mapping[str, str], now: Callable[[], float] = time.time) -> float | None:
    """Seconds to wait by `retry-after-ms`, or by `Retry-After` in seconds or as a date."""
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return max(0.0, milliseconds / 1000)
    text = headers.get("retry-after")
    if not text:
        return None
    seconds = _number(text)
    if seconds is not None:
        return max(0.0, seconds) if seconds < LONGEST_RETRY_AFTER else None
    try:
        date = email.utils.parsedate_to_datetime(text)
        return max(0.0, date.timestamp() - now())
    except (TypeError, ValueError):
        return None


def _number(text: str | None) -> float | None:
    try:
        return float(text) if text else None
    except ValueError:
        return None
