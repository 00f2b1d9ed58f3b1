"""Ranks that share the reading of a batch: together they make the batch of one process, and each text is tokenised once."""

from __future__ import annotations

import threading
from collections import Counter
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from contrast_train.data.collator import ContrastCollator
from contrast_train.data.dataset import TrainingExample, text_key
from contrast_train.data.rank_exchange import RankBatches, RankExchange
from contrast_train.training.micro_batches import split_among_ranks, split_micro_batches

WORDS = ["a", "b", "B", "c c", "d e f", "g"]  # few, so that ranks have the same ones
texts = st.sampled_from(WORDS)


class ThreadRanks:
    """Ranks that are threads of this process."""

    def __init__(self, ranks: int) -> None:
        self.ranks = ranks
        self.barrier = threading.Barrier(ranks)
        self.values: list[Any] = [None] * ranks

    def exchange(self, rank: int) -> RankExchange:
        def all_gather(value: Any) -> list[Any]:
            self.values[rank] = value
            self.barrier.wait(20)
            gathered = list(self.values)
            self.barrier.wait(20)
            return gathered

        return RankExchange(rank=rank, ranks=self.ranks, all_gather=all_gather)

    def run(self, work: Any) -> list[Any]:
        """work(rank) of all of them, by rank."""
        results: list[Any] = [None] * self.ranks

        def run_one(rank: int) -> None:
            try:
                results[rank] = work(rank)
            except BaseException:
                self.barrier.abort()
                raise

        threads = [threading.Thread(target=run_one, args=(rank,)) for rank in range(self.ranks)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return results


@st.composite
def example(draw: Any, row: int = 0) -> TrainingExample:
    query, prompt = draw(texts), draw(st.sampled_from([None, "", "find: "]))
    positives = tuple(draw(st.lists(texts, min_size=1, max_size=2, unique=True)))
    negatives = tuple(draw(st.lists(texts, max_size=3, unique=True)))
    documents = [*positives, *negatives]
    scores = draw(st.none() | st.just({text: float(len(text)) for text in documents}))
    return TrainingExample(
        row=draw(st.integers(0, 99)),
        query=query,
        prompt=prompt,
        positives=positives,
        negatives=negatives,
        ids={text: text.upper() for text in documents if len(text) > 1},
        known_texts=frozenset(map(text_key, [query, *positives])),
        known_ids=frozenset(text.upper() for text in positives if len(text) > 1),
        scores=scores,
        doc_prompt=draw(st.sampled_from([None, "doc: "])),
    )


def vectors_of(texts: Any) -> Tensor:
    """Any function of a text, so that a vector in the wrong row is seen."""
    return torch.tensor(
        [[float(len(str(text))), float(hash(text) % 97)] for text in texts]
    ).reshape(-1, 2)


def collate(
    rows: list[TrainingExample], exchange: RankExchange, counter: Counter[str], **more: Any
) -> dict[str, Tensor]:
    def tokenize(texts: list[str], length: int) -> list[list[int]]:
        counter.update(texts)
        return [[ord(letter) for letter in text][:length] for text in texts]

    collator = ContrastCollator(
        tokenize=tokenize,
        query_prompt="query: ",
        query_length=9,
        doc_length=7,
        exchange=exchange,
        **more,
    )
    return collator(list(exchange.share(rows)))


EXTRAS = {
    "guide": lambda queries, documents: (vectors_of(queries), vectors_of(documents)),
    "teacher": lambda queries, documents: (vectors_of(queries), vectors_of(documents)),
    "prompt_tokens": lambda texts: [min(len(prompt), 3) for prompt, _ in texts],
}


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(example(), min_size=1, max_size=7),
    ranks=st.integers(2, 4),
    extras=st.booleans(),
    views=st.booleans(),
)
def test_the_batch_of_many_ranks_is_that_of_one(
    rows: list[TrainingExample], ranks: int, extras: bool, views: bool
) -> None:
    more: dict[str, Any] = {"views": views, **(EXTRAS if extras else {})}
    counts: list[Counter[str]] = [Counter() for _ in range(ranks)]
    alone = Counter[str]()
    whole = collate(rows, RankExchange(), alone, **more)
    group = ThreadRanks(ranks)
    parts = group.run(lambda rank: collate(rows, group.exchange(rank), counts[rank], **more))
    for part in parts:
        assert part.keys() == whole.keys()
        assert all(torch.equal(part[name], whole[name]) for name in whole)
        assert all(part[name].dtype == whole[name].dtype for name in whole)
    assert sum(counts, Counter()) == alone


def test_each_rank_reads_and_tokenises_its_share() -> None:
    rows = [
        TrainingExample(
            row=row,
            query=f"q{row}",
            positives=(f"p{row}",),
            negatives=(f"n{row}", "everyone's"),
            ids={},
            known_texts=frozenset(),
            known_ids=frozenset(),
        )
        for row in range(10)
    ]
    counts: list[Counter[str]] = [Counter() for _ in range(4)]
    group = ThreadRanks(4)
    group.run(lambda rank: collate(rows, group.exchange(rank), counts[rank]))
    assert [sum(count.values()) for count in counts] == [2 * 3 + 1, 3 * 3, 2 * 3, 3 * 3]
    shares = [RankBatches(plan=[rows], exchange=group.exchange(rank)) for rank in range(4)]
    read = [row.row for share in shares for batch in share for row in batch]
    assert read == list(range(10)) and all(len(share) == 1 for share in shares)


@pytest.mark.parametrize("rows", [1, 2, 3])
def test_ranks_without_a_row_of_the_last_batch_get_it_too(rows: int) -> None:
    plan = [list(range(rows))]
    group = ThreadRanks(4)
    shares = [list(RankBatches(plan=plan, exchange=group.exchange(rank))) for rank in range(4)]
    assert [row for [batch] in shares for row in batch] == plan[0]


@given(
    lengths=st.lists(st.integers(1, 60), min_size=1, max_size=60),
    budget=st.integers(1, 600),
    ranks=st.integers(1, 8),
    packed=st.booleans(),
)
def test_micro_batches_for_many_ranks_hold_each_text_once_within_the_budget(
    lengths: list[int], budget: int, ranks: int, packed: bool
) -> None:
    tensor = torch.tensor(lengths)
    plain = split_micro_batches(tensor, budget, packed=packed)
    parts = split_among_ranks(tensor, budget, ranks=ranks, packed=packed)
    assert sorted(torch.cat(parts).tolist()) == list(range(len(lengths)))
    assert len(plain) <= len(parts) <= -(-len(plain) // ranks) * ranks
    largest = max(len(part) * int(tensor[part].max()) for part in parts)
    assert largest <= max(budget, max(lengths)) or packed
    if ranks == 1:
        assert [part.tolist() for part in parts] == [part.tolist() for part in plain]


def test_a_small_batch_gives_work_to_all_ranks() -> None:
    lengths = torch.randint(4, 60, (64,), generator=torch.Generator().manual_seed(0))
    assert len(split_micro_batches(lengths, 32_768, packed=True)) == 1
    parts = split_among_ranks(lengths, 32_768, ranks=4, packed=True)
    tokens = [int(lengths[part].sum()) for part in parts]
    assert len(parts) == 4 and max(tokens) < 1.2 * sum(tokens) / 4
