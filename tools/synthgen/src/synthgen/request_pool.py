"""Many requests in flight, their outcomes in the order of the plan."""

from __future__ import annotations

import collections
import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator

from synthgen.llm.budget import Ledger, Reserve
from synthgen.llm.client import Outcome, Stopped
from synthgen.llm.response_parsing import Unusable
from synthgen.request_plan import Request

AHEAD = 16  # requests in the window for each in flight: a slow answer holds up no other
GRACE = 5.0  # seconds that answers in flight get to be paid into the journal when the run stops


class _Slot:
    """A request on its way, and what came of it."""

    __slots__ = ("outcome", "request", "reserve", "same")

    def __init__(self, request: Request, reserve: Reserve, same: _Slot | None) -> None:
        self.request, self.reserve, self.same = request, reserve, same
        self.outcome: Outcome | None = None


class Pool:
    """Threads that turn requests into outcomes. They are daemons: Ctrl-C waits for no server."""

    def __init__(
        self,
        work: Callable[[Request], Outcome],
        threads: int,
        ledger: Ledger,
        stop: threading.Event,
    ) -> None:
        self.work, self.threads, self.ledger, self.stop = work, threads, ledger, stop
        self.waiting: queue.SimpleQueue[_Slot] = queue.SimpleQueue()
        self.change = threading.Condition()
        self.failure: BaseException | None = None
        self.busy = 0
        self.started = 0

    def outcomes(
        self, plan: Iterable[Request], worst: Callable[[Request], Reserve]
    ) -> Iterator[tuple[Request, Outcome | None]]:
        """(request, outcome) in the order of the plan; None for one that asks nothing."""
        window: collections.deque[_Slot] = collections.deque()
        flying: dict[str, _Slot] = {}
        for request in plan:
            window.append(self._launch(request, worst, flying))
            # Give what is done; wait only where the window is full.
            while window and (
                window[0].outcome
                or not window[0].request.messages
                or len(window) >= self.threads * AHEAD
            ):
                yield self._land(window, flying)
        while window:
            yield self._land(window, flying)

    def _launch(
        self, request: Request, worst: Callable[[Request], Reserve], flying: dict[str, _Slot]
    ) -> _Slot:
        if not request.messages:
            return _Slot(request, Reserve(), None)
        same = flying.get(request.key)  # asked once, however often it stands in the plan
        slot = _Slot(request, Reserve() if same else worst(request), same)
        if same:
            return slot
        if not self.ledger.admit(slot.reserve):
            slot.outcome = Outcome(problem=Unusable(f"not asked: {self.ledger.reached}"))
            return slot
        flying[request.key] = slot
        if self.started < self.threads:
            self.started += 1
            threading.Thread(target=self._run, daemon=True).start()
        self.waiting.put(slot)
        return slot

    def _land(
        self, window: collections.deque[_Slot], flying: dict[str, _Slot]
    ) -> tuple[Request, Outcome | None]:
        slot = window[0]
        if not slot.request.messages:
            return window.popleft().request, None
        source = slot.same or slot
        with self.change:
            self.change.wait_for(lambda: source.outcome is not None or self.failure is not None)
        if self.failure is not None:
            self._settle_down()
            raise self.failure
        window.popleft()
        if flying.get(slot.request.key) is slot:
            del flying[slot.request.key]
        return slot.request, source.outcome

    def _run(self) -> None:
        while True:
            slot = self.waiting.get()
            with self.change:
                self.busy += 1
            outcome, failure = None, None
            try:
                if not self.stop.is_set():
                    outcome = self.work(slot.request)
            except Stopped:
                pass
            except BaseException as error:
                failure = error
                self.stop.set()
            self.ledger.settle(slot.reserve)
            with self.change:
                slot.outcome = outcome
                self.failure = self.failure or failure
                self.busy -= 1
                self.change.notify_all()

    def _settle_down(self) -> None:
        """Nothing new is asked; what is in flight may still arrive and be kept."""
        end = time.monotonic() + GRACE
        with self.change:
            while self.busy and time.monotonic() < end:
                self.change.wait(0.1)
