"""Many requests in flight; their responses come out in the order of the plan."""

from __future__ import annotations

import collections
import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from fletching_synthgen.llm.budget import Budget, Reservation
from fletching_synthgen.llm.client import LLMResponse, RunStoppedError
from fletching_synthgen.llm.response_parsing import RejectedResponseError
from fletching_synthgen.request_plan import PlannedRequest

# Requests in the window for each in flight, so that a slow response holds up no other.
WINDOW_FACTOR = 16
GRACE_SECONDS = 5.0  # for responses in flight to be journaled when the run stops


@dataclass(slots=True, eq=False)
class _PooledRequest:
    """A request under way and its response. original: the same request, sent before it."""

    request: PlannedRequest
    reservation: Reservation
    original: _PooledRequest | None = None
    response: LLMResponse | None = None

    @property
    def is_ready(self) -> bool:
        """Can its response be taken without waiting?"""
        return self.response is not None or not self.request.calls_model


class RequestPool:
    """Threads that turn requests into responses. They are daemons: Ctrl-C waits for no server.

    respond: the response to a request. stop: set when the run ends.
    """

    def __init__(
        self,
        respond: Callable[[PlannedRequest], LLMResponse],
        *,
        threads: int,
        budget: Budget,
        worst_case: Callable[[PlannedRequest], Reservation],
        stop: threading.Event,
    ) -> None:
        self.respond = respond
        self.threads = threads
        self.budget = budget
        self.worst_case = worst_case
        self.stop = stop
        self.waiting: queue.SimpleQueue[_PooledRequest] = queue.SimpleQueue()
        self.window: collections.deque[_PooledRequest] = collections.deque()
        self.in_flight: dict[str, _PooledRequest] = {}  # by request key
        self.change = threading.Condition()
        self.failure: BaseException | None = None
        self.busy_threads = 0
        self.started_threads = 0

    def responses(
        self, requests: Iterable[PlannedRequest]
    ) -> Iterator[tuple[PlannedRequest, LLMResponse | None]]:
        """(request, response) in the order of the plan; None for a request that asks nothing.

        Raises what `respond` raised for any of them.
        """
        most = self.threads * WINDOW_FACTOR
        for request in requests:
            self.window.append(self._launch(request))
            # Yield what is done; wait only if the window is full.
            while self.window and (self.window[0].is_ready or len(self.window) >= most):
                yield self._take_first()
        while self.window:
            yield self._take_first()

    def _launch(self, request: PlannedRequest) -> _PooledRequest:
        if not request.calls_model:
            return _PooledRequest(request, Reservation())
        original = self.in_flight.get(request.key)  # sent once, however often it is in the plan
        if original:
            return _PooledRequest(request, Reservation(), original)
        pooled = _PooledRequest(request, self.worst_case(request))
        if not self.budget.admit(pooled.reservation):
            rejection = RejectedResponseError(f"not asked: {self.budget.reached}")
            pooled.response = LLMResponse(rejection=rejection)
            return pooled
        self.in_flight[request.key] = pooled
        if self.started_threads < self.threads:
            self.started_threads += 1
            threading.Thread(target=self._work, daemon=True).start()
        self.waiting.put(pooled)
        return pooled

    def _take_first(self) -> tuple[PlannedRequest, LLMResponse | None]:
        """The first of the window, when its response is there. Raises a thread's failure."""
        first = self.window[0]
        if not first.request.calls_model:
            self.window.popleft()
            return first.request, None
        source = first.original or first
        with self.change:
            self.change.wait_for(lambda: source.response is not None or self.failure is not None)
        if self.failure is not None:
            self._wait_for_responses_in_flight()
            raise self.failure
        self.window.popleft()
        if self.in_flight.get(first.request.key) is first:
            del self.in_flight[first.request.key]
        return first.request, source.response

    def _work(self) -> None:
        """What a thread does: respond to waiting requests, for ever."""
        while True:
            pooled = self.waiting.get()
            with self.change:
                self.busy_threads += 1
            response: LLMResponse | None = None
            failure: BaseException | None = None
            try:
                if not self.stop.is_set():
                    response = self.respond(pooled.request)
            except RunStoppedError:
                pass
            except BaseException as error:
                failure = error
                self.stop.set()
            self.budget.release(pooled.reservation)
            with self.change:
                pooled.response = response
                self.failure = self.failure or failure
                self.busy_threads -= 1
                self.change.notify_all()

    def _wait_for_responses_in_flight(self) -> None:
        """No request is sent any more; responses that still arrive are journaled."""
        end = time.monotonic() + GRACE_SECONDS
        with self.change:
            while self.busy_threads and time.monotonic() < end:
                self.change.wait(0.1)
