"""How many requests, tokens and dollars a run would take, without asking anything."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import asdict, dataclass

from fletching_synthgen.jobs.registry import RequestRound
from fletching_synthgen.llm.budget import ModelPrice, estimate_prompt_tokens
from fletching_synthgen.llm.journal import Journal

TOKENS_PER_WORD = 1.4
JSON_TOKENS = 40  # of a response, besides its words
# The listed tasks of a brainstorm, and its first calls: what later rounds ask depends on responses.
ROUNDS = 2


@dataclass(kw_only=True)
class RunEstimate:
    """The figures of a plan; cost: dollars, None where the model's price is not known."""

    requests: int = 0
    answered_before: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: float | None = None

    def as_dict(self) -> dict[str, float | None]:
        """For the summary."""
        return asdict(self)

    def as_text(self) -> str:
        """For people."""
        if self.cost is None:
            cost = "unknown: the price table does not know the model"
        else:
            digits = 2 if self.cost >= 1 else 4
            cost = f"about ${self.cost:,.{digits}f}"
        lines = (
            f"requests            {self.requests:,}",
            f"answered before     {self.answered_before:,}",
            f"tokens sent         about {self.prompt_tokens:,}",
            f"tokens made         about {self.completion_tokens:,}",
            f"cost                {cost}",
        )
        return "\n".join(lines)


def estimate(
    request_rounds: Iterable[RequestRound],
    *,
    journal: Journal | None,
    price: ModelPrice | None,
    answer_tokens: int,
) -> RunEstimate:
    """The figures of the first rounds. answer_tokens: the limit of a response."""
    total = RunEstimate()
    for request_round in itertools.islice(request_rounds, ROUNDS):
        for request in request_round():
            if not request.calls_model:
                continue
            total.requests += 1
            total.answered_before += journal is not None and request.key in journal
            total.prompt_tokens += estimate_prompt_tokens(request.messages)
            completion_tokens = round(request.expected_words * TOKENS_PER_WORD) + JSON_TOKENS
            total.completion_tokens += min(completion_tokens, answer_tokens)
    if price:
        total.cost = price.cost(total.prompt_tokens, total.completion_tokens)
    return total
