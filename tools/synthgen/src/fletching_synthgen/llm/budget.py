"""Tokens and money: what is spent, what is reserved for requests in flight, and the caps.

Completions of an earlier run count like those of this one: a cap is for the whole job, and a
killed job that is resumed ends at the same row. A request is admitted only if its worst case
fits; what it does not use is released.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fletching.errors import UsageError
from fletching_synthgen.llm.chat_request import Message
from fletching_synthgen.llm.journal import Completion

MILLION = 1_000_000
MESSAGE_TOKENS = 4  # for the role and the separators of a message
REPAIR_TOKENS = 200  # the messages that a repair adds, besides the first reply
RECHECK_SECONDS = 0.5

PriceTable = Mapping[str, Mapping[str, float]]


@dataclass(frozen=True, kw_only=True)
class ModelPrice:
    """Dollars for a million tokens."""

    input: float
    output: float
    cached: float  # input tokens that the server had cached

    @classmethod
    def from_table(cls, table: PriceTable, model: str, *, batch: bool) -> ModelPrice | None:
        """The price of a model, for batches with `batch`; None if the table lacks it.

        Raises UsageError where the entry has no input or output price.
        """
        entry = table.get(model)
        if entry is None:
            return None
        try:
            factor = float(entry.get("batch", 1)) if batch else 1.0
            cached = entry.get("cached", entry["input"])
            return cls(
                input=float(entry["input"]) * factor,
                output=float(entry["output"]) * factor,
                cached=float(cached) * factor,
            )
        except (KeyError, TypeError, ValueError, AttributeError):
            raise UsageError(
                f"the price table's entry of {model} is not complete",
                'write {"input": 0.15, "output": 0.6} in dollars a million tokens',
            ) from None

    def cost(self, prompt: int, completion: int, cached: int = 0) -> float:
        """Dollars for so many tokens; cached: how many of the prompt's were cached."""
        uncached = (prompt - cached) * self.input
        return (uncached + cached * self.cached + completion * self.output) / MILLION


def estimate_tokens(text: str, *, at_most: bool = False) -> int:
    """About how many tokens a text has, at 4 bytes each.

    at_most: an upper estimate, at 3 bytes each.
    """
    size = len(text.encode("utf-8", "surrogatepass"))
    return size // (3 if at_most else 4) + 1


def estimate_prompt_tokens(messages: Sequence[Message], *, at_most: bool = False) -> int:
    """About how many tokens these messages have; at_most: an upper estimate."""
    return sum(
        estimate_tokens(message["content"], at_most=at_most) + MESSAGE_TOKENS
        for message in messages
    )


@dataclass(frozen=True, kw_only=True)
class Reservation:
    """The worst case of one or several requests: calls, tokens and dollars."""

    requests: int = 0
    tokens: int = 0
    cost: float = 0.0

    def __add__(self, other: Reservation) -> Reservation:
        return Reservation(
            requests=self.requests + other.requests,
            tokens=self.tokens + other.tokens,
            cost=self.cost + other.cost,
        )

    def __sub__(self, other: Reservation) -> Reservation:
        return Reservation(
            requests=self.requests - other.requests,
            tokens=self.tokens - other.tokens,
            cost=self.cost - other.cost,
        )


class Budget:
    """The account of a job, shared by all threads.

    A cap of None is no cap; price None: cost is not counted.
    """

    def __init__(
        self,
        price: ModelPrice | None = None,
        *,
        max_requests: float | None = None,
        max_tokens: float | None = None,
        max_cost: float | None = None,
    ) -> None:
        self.price = price
        self.caps = {"requests": max_requests, "tokens": max_tokens, "cost": max_cost}
        self.counts: Counter[str] = Counter()
        self.cost = 0.0
        self.new_cost = 0.0  # of this run
        self.in_flight = Reservation()
        self.reached: str | None = None  # the cap that stopped the run, as on the command line
        self.change = threading.Condition()

    def worst_case(
        self, messages: Sequence[Message], *, answer_tokens: int, repair: bool
    ) -> Reservation:
        """What a request can cost at most; a repair sends the first reply back as well."""
        sent = estimate_prompt_tokens(messages, at_most=True)
        if repair:
            requests = 2
            prompt = 2 * sent + answer_tokens + REPAIR_TOKENS
            completion = 2 * answer_tokens
        else:
            requests = 1
            prompt = sent
            completion = answer_tokens
        cost = self.price.cost(prompt, completion) if self.price else 0.0
        return Reservation(requests=requests, tokens=prompt + completion, cost=cost)

    def admit(self, worst_case: Reservation, *, wait: bool = True) -> bool:
        """Reserve a request's worst case. False: a cap is reached, and the run ends.

        wait: while requests in flight may release something, wait for them.
        """
        with self.change:
            while self.reached is None:
                cap = self._exceeded_cap(worst_case)
                if cap is None:
                    self.in_flight += worst_case
                    return True
                if self.in_flight.requests == 0 or not wait:
                    self.reached = f"--max-{cap} {self.caps[cap]:g}"
                else:
                    self.change.wait(RECHECK_SECONDS)
            return False

    def _exceeded_cap(self, worst_case: Reservation) -> str | None:
        """The cap that the request would exceed."""
        counts = self.counts
        reserved = self.in_flight + worst_case
        totals = {
            "requests": counts["requests"] + reserved.requests,
            "tokens": counts["prompt_tokens"] + counts["completion_tokens"] + reserved.tokens,
            "cost": self.cost + self.in_flight.cost + worst_case.cost,
        }
        for name, cap in self.caps.items():
            if cap is not None and totals[name] > cap:
                return name
        return None

    def release(self, worst_case: Reservation) -> None:
        """A request is over: what it did not use is free again."""
        with self.change:
            self.in_flight -= worst_case
            self.change.notify_all()

    def planning_copy(self) -> Budget:
        """A copy of what is spent, with nothing in flight, to plan a batch with."""
        copy = Budget(
            self.price,
            max_requests=self.caps["requests"],
            max_tokens=self.caps["tokens"],
            max_cost=self.caps["cost"],
        )
        copy.counts = Counter(self.counts)
        copy.cost = self.cost
        return copy

    def count(self, completion: Completion, *, new: bool) -> None:
        """Add a completion; new: paid for in this run, not read from the journal."""
        with self.change:
            self.counts["requests"] += 1
            self.counts["asked_now" if new else "from_journal"] += 1
            self.counts["prompt_tokens"] += completion.prompt_tokens
            self.counts["completion_tokens"] += completion.completion_tokens
            self.counts["cached_tokens"] += completion.cached_tokens
            self.counts["estimated_usage"] += completion.estimated
            cost = 0.0
            if self.price:
                cost = self.price.cost(
                    completion.prompt_tokens,
                    completion.completion_tokens,
                    completion.cached_tokens,
                )
            self.cost += cost
            if new:
                tokens = completion.prompt_tokens + completion.completion_tokens
                self.counts["new_tokens"] += tokens
                self.new_cost += cost

    def count_event(self, name: str) -> None:
        """Count something that costs nothing by itself: a retry, a repair."""
        with self.change:
            self.counts[name] += 1

    @property
    def new_tokens(self) -> int:
        """Tokens paid for in this run, sent and received."""
        return self.counts["new_tokens"]

    def totals(self) -> dict[str, float]:
        """What the whole job took, the same with and without a kill."""
        names = (
            "requests",
            "repairs",
            "prompt_tokens",
            "completion_tokens",
            "cached_tokens",
            "estimated_usage",
        )
        totals: dict[str, float] = {name: self.counts[name] for name in names}
        if self.price:
            totals["cost"] = round(self.cost, 6)
        return totals

    def this_run(self) -> dict[str, int]:
        """What this run did: completions paid for and read, retries."""
        names = ("asked_now", "from_journal", "retries")
        return {name: self.counts[name] for name in names}
