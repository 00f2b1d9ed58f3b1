"""How fast may be asked: rates by requests and tokens, pauses that a server asked for, waits before a retry."""

from __future__ import annotations

import email.utils
import random
import threading
import time
from collections.abc import Callable, Mapping

FIRST, LONGEST = 0.5, 60.0  # seconds: scale and ceiling of the back-off


class Pace:
    """One clock for all threads. A request takes its turn; the turns are spread evenly, without bursts."""

    def __init__(
        self,
        requests_per_minute: int | None,
        tokens_per_minute: int | None,
        stop: threading.Event,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.request_gap = 60 / requests_per_minute if requests_per_minute else 0.0
        self.token_gap = 60 / tokens_per_minute if tokens_per_minute else 0.0
        self.stop, self.clock = stop, clock
        self.next_request = self.next_token = self.paused = 0.0
        self.lock = threading.Lock()

    def turn(self, tokens: int) -> float:
        """Take the next turn of a request of so many tokens: seconds to wait for it."""
        with self.lock:
            now = self.clock()
            at = max(now, self.next_request, self.next_token, self.paused)
            self.next_request = at + self.request_gap
            self.next_token = at + tokens * self.token_gap
            return at - now

    def correct(self, tokens: int) -> None:
        """The request had so many tokens more (or less) than thought."""
        with self.lock:
            self.next_token += tokens * self.token_gap

    def pause(self, seconds: float) -> None:
        """The server wants nothing from anybody for a while."""
        with self.lock:
            self.paused = max(self.paused, self.clock() + seconds)

    def wait(self, seconds: float) -> bool:
        """Sleep; False: the run stops."""
        return not self.stop.wait(seconds) if seconds > 0 else not self.stop.is_set()


def backoff(attempt: int, draw: Callable[[float, float], float] = random.uniform) -> float:
    """Full jitter: anything from 0 to min(60, 0.5 · 2^attempt) seconds (Brooker 2015, "Exponential Backoff and Jitter")."""
    return draw(0.0, min(LONGEST, FIRST * 2**attempt))


def retry_after(headers: Mapping[str, str], now: Callable[[], float] = time.time) -> float | None:
    """Seconds that the server asks to wait, from `retry-after-ms`, or `Retry-After` as seconds or as a date."""
    given = headers.get("retry-after-ms")
    if given:
        try:
            return max(0.0, float(given) / 1000)
        except ValueError:
            pass
    given = headers.get("retry-after")
    if not given:
        return None
    try:
        seconds = float(given)
        return max(0.0, seconds) if seconds < 10**9 else None
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(given).timestamp() - now())
    except (TypeError, ValueError):
        return None
