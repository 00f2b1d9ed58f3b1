"""How the ranks of a run share the work of reading and tokenising a global batch.

Each rank takes a part of the rows of a batch; what it has found out about them it gives to all.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import xxhash

from fletching.train.distributed import process_group

Value = TypeVar("Value")
PromptedText = tuple[str, str]  # prompt, text


def only_rank(value: Value) -> list[Value]:
    """The values of all ranks, where there is one rank."""
    return [value]


@dataclass(frozen=True, kw_only=True)
class RankExchange:
    """One rank among those that make a batch together.

    all_gather: a value -> the values of all ranks, by rank. Every rank must call it.
    """

    rank: int = 0
    ranks: int = 1
    all_gather: Callable[[Any], list[Any]] = only_rank

    @classmethod
    def of_this_process(cls) -> RankExchange:
        """This process among those of torchrun."""
        return cls(
            rank=process_group.rank(),
            ranks=process_group.world_size(),
            all_gather=process_group.all_gather,
        )

    def share(self, rows: Sequence[Value]) -> Sequence[Value]:
        """The rows that this rank reads: neighbours, so that the shares in turn are the batch."""
        start = len(rows) * self.rank // self.ranks
        end = len(rows) * (self.rank + 1) // self.ranks
        return rows[start:end]

    def identify(self, text: PromptedText) -> Hashable:
        """What stands for a text in other ranks: 128 bits of it. In one process, the text."""
        if self.ranks == 1:
            return text
        prompt, body = text
        return xxhash.xxh3_128_digest(f"{len(prompt)} {prompt}{body}".encode())


@dataclass(frozen=True, kw_only=True)
class RankBatches:
    """A plan as the batch sampler of one rank: its share of each batch, which may be empty."""

    plan: Iterable[Sequence[Any]]
    exchange: RankExchange

    def __iter__(self) -> Iterator[Sequence[Any]]:
        return map(self.exchange.share, self.plan)

    def __len__(self) -> int:
        return len(self.plan)  # type: ignore[arg-type]  # a plan has a length
