"""Tokens and money: what was spent, what is in flight, and the caps that neither may pass.

Answers of an earlier run count like those of this one: a cap is for the whole job, and a killed job that goes on
ends at the same row. A request is admitted only when its worst case fits; what it does not use is given back.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fletching.errors import UsageError
from synthgen.llm.journal import Answer

MILLION = 1_000_000


@dataclass(frozen=True)
class Price:
    """Dollars for a million tokens."""

    input: float
    output: float
    cached: float

    @staticmethod
    def of(model: str, table: dict[str, dict[str, float]], batch: bool) -> Price | None:
        """The price of a model, halved or so where a batch is cheaper; None where the table does not know it."""
        entry = table.get(model)
        if entry is None:
            return None
        try:
            share = float(entry.get("batch", 1)) if batch else 1.0
            paid, made = float(entry["input"]) * share, float(entry["output"]) * share
            return Price(paid, made, float(entry.get("cached", entry["input"])) * share)
        except (KeyError, TypeError, ValueError, AttributeError):
            raise UsageError(
                f"the price table's entry of {model} is not complete",
                'write {"input": 0.15, "output": 0.6} in dollars a million tokens',
            ) from None

    def cost(self, prompt: int, completion: int, cached: int = 0) -> float:
        return (
            (prompt - cached) * self.input + cached * self.cached + completion * self.output
        ) / MILLION


def tokens(text: str, safe: bool = False) -> int:
    """About how many tokens a text has; `safe`: rather too many, for caps."""
    size = len(text.encode("utf-8", "surrogatepass"))
    return size // (3 if safe else 4) + 1


def prompt_tokens(messages: Sequence[dict[str, str]], safe: bool = False) -> int:
    return sum(tokens(message["content"], safe) + 4 for message in messages)


@dataclass(frozen=True)
class Reserve:
    requests: int = 0
    tokens: int = 0
    cost: float = 0.0


class Ledger:
    def __init__(
        self,
        price: Price | None,
        max_requests: float | None,
        max_tokens: float | None,
        max_cost: float | None,
    ) -> None:
        self.price = price
        self.caps: dict[str, float | None] = {
            "requests": max_requests,
            "tokens": max_tokens,
            "cost": max_cost,
        }
        self.counts: Counter[str] = Counter()
        self.cost = 0.0
        self.flight = Reserve()
        self.reached: str | None = None  # the cap at which the run stopped
        self.change = threading.Condition()

    def worst(
        self, messages: Sequence[dict[str, str]], answer_tokens: int, repair: bool
    ) -> Reserve:
        """What a request can cost at most; a repair sends the first reply back as well."""
        sent = prompt_tokens(messages, safe=True)
        prompt, completion, requests = sent, answer_tokens, 1
        if repair:
            prompt, completion, requests = 2 * sent + answer_tokens + 200, 2 * answer_tokens, 2
        return Reserve(
            requests,
            prompt + completion,
            self.price.cost(prompt, completion) if self.price else 0.0,
        )

    def admit(self, worst: Reserve, wait: bool = True) -> bool:
        """Reserve a request's worst case. Waits while others in flight may give something back; False: a cap is reached."""
        with self.change:
            while self.reached is None:
                broken = self._broken(worst)
                if broken is None:
                    self.flight = Reserve(
                        self.flight.requests + worst.requests,
                        self.flight.tokens + worst.tokens,
                        self.flight.cost + worst.cost,
                    )
                    return True
                if self.flight.requests == 0 or not wait:
                    self.reached = f"--max-{broken} {self.caps[broken]:g}"
                else:
                    self.change.wait(0.5)
            return False

    def _broken(self, worst: Reserve) -> str | None:
        """The cap that the request would break."""
        spent = {
            "requests": self.counts["requests"],
            "tokens": self.counts["prompt_tokens"] + self.counts["completion_tokens"],
            "cost": self.cost,
        }
        for name, cap in self.caps.items():
            if (
                cap is not None
                and spent[name] + getattr(self.flight, name) + getattr(worst, name) > cap
            ):
                return name
        return None

    def settle(self, worst: Reserve) -> None:
        """The request is over: what it did not use is free again."""
        with self.change:
            self.flight = Reserve(
                self.flight.requests - worst.requests,
                self.flight.tokens - worst.tokens,
                self.flight.cost - worst.cost,
            )
            self.change.notify_all()

    def sketch(self) -> Ledger:
        """A copy of what is spent, to plan a batch with."""
        copy = Ledger(self.price, self.caps["requests"], self.caps["tokens"], self.caps["cost"])
        copy.counts, copy.cost = Counter(self.counts), self.cost
        return copy

    def count(self, answer: Answer, asked_now: bool) -> None:
        with self.change:
            self.counts["requests"] += 1
            self.counts["asked_now" if asked_now else "from_journal"] += 1
            self.counts["prompt_tokens"] += answer.prompt_tokens
            self.counts["completion_tokens"] += answer.completion_tokens
            self.counts["cached_tokens"] += answer.cached_tokens
            self.counts["estimated_usage"] += answer.estimated
            if self.price:
                self.cost += self.price.cost(
                    answer.prompt_tokens, answer.completion_tokens, answer.cached_tokens
                )

    def event(self, name: str) -> None:
        """Something that is counted but not paid: a retry, a repair."""
        with self.change:
            self.counts[name] += 1

    def totals(self) -> dict[str, Any]:
        """What the whole job took, the same with and without a kill."""
        names = (
            "requests",
            "repairs",
            "prompt_tokens",
            "completion_tokens",
            "cached_tokens",
            "estimated_usage",
        )
        return {name: self.counts[name] for name in names} | (
            {"cost": round(self.cost, 6)} if self.price else {}
        )

    def this_run(self) -> dict[str, int]:
        return {name: self.counts[name] for name in ("asked_now", "from_journal", "retries")}
