"""Which texts of a global batch belong together: distinct texts, positives, known answers.

Texts are compared by identities: the text itself, or 128 bits of it where another rank has read
it. Needs torch alone.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from contrast_train.data.dataset import TrainingExample, text_key
from contrast_train.data.rank_exchange import PromptedText
from contrast_train.losses.structure import PairStructure

Identify = Callable[[PromptedText], Hashable]


class DocumentOutline(NamedTuple):
    """A document. key: of its normalised text. name: its id, where it has one."""

    identity: Hashable
    key: int
    name: str | None


@dataclass(frozen=True, kw_only=True)
class RowOutline:
    """What of a row decides who answers whom; small enough to be sent to every rank.

    row: its number. documents: the distinct ones. positives, negatives: positions in it. scores:
    (position, score). known_texts, known_ids: as in TrainingExample.
    """

    row: int
    query: Hashable
    documents: tuple[DocumentOutline, ...]
    positives: tuple[int, ...] = ()
    negatives: tuple[int, ...] = ()
    scores: tuple[tuple[int, float], ...] | None = None
    known_texts: frozenset[int] = frozenset()
    known_ids: frozenset[str] = frozenset()


class RowTexts(NamedTuple):
    """The texts of a row with their prompts; the documents in the order of its outline."""

    query: PromptedText
    documents: list[PromptedText]


def texts_of(row: TrainingExample, query_prompt: str, doc_prompt: str = "") -> RowTexts:
    """A row's own prompts, else those that are passed, before its texts."""
    query = (query_prompt if row.prompt is None else row.prompt, row.query)
    prompt = doc_prompt if row.doc_prompt is None else row.doc_prompt
    distinct = dict.fromkeys([*row.positives, *row.negatives, *(row.scores or {})])
    return RowTexts(query, [(prompt, text) for text in distinct])


def outline(row: TrainingExample, texts: RowTexts, identify: Identify) -> RowOutline:
    """The outline of a row whose texts are these."""
    position = {text: number for number, (_, text) in enumerate(texts.documents)}
    scores = None
    if row.scores is not None:
        scores = tuple((position[text], score) for text, score in row.scores.items())
    return RowOutline(
        row=row.row,
        query=identify(texts.query),
        documents=tuple(
            DocumentOutline(identify(text), text_key(text[1]), row.ids.get(text[1]))
            for text in texts.documents
        ),
        positives=tuple(position[text] for text in row.positives),
        negatives=tuple(position[text] for text in row.negatives),
        scores=scores,
        known_texts=row.known_texts,
        known_ids=row.known_ids,
    )


def outline_view(row: TrainingExample, texts: RowTexts, identify: Identify) -> RowOutline:
    """The outline of a row whose text is its own document."""
    view = DocumentOutline(identify(texts.query), text_key(row.query), None)
    return RowOutline(row=row.row, query=view.identity, documents=(view,))


class ArrangedBatch(NamedTuple):
    """The distinct texts of a batch by identity, and which of them belong together."""

    queries: list[Hashable]
    documents: list[Hashable]
    pairs: PairStructure


@dataclass
class _BatchIndex:
    """The numbers of distinct queries and documents; documents also by key of their text and
    by id.
    """

    queries: dict[Hashable, int] = field(default_factory=dict)
    documents: dict[Hashable, int] = field(default_factory=dict)
    documents_by_text: dict[int, list[int]] = field(default_factory=lambda: defaultdict(list))
    documents_by_id: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))

    def add_query(self, identity: Hashable) -> int:
        """Its number, a new one where it comes up for the first time."""
        return self.queries.setdefault(identity, len(self.queries))

    def add_document(self, document: DocumentOutline) -> int:
        """Its number, as for queries."""
        identity, key, name = document
        number = self.documents.get(identity)
        if number is None:
            number = self.documents[identity] = len(self.documents)
            self.documents_by_text[key].append(number)
        if name is not None and number not in self.documents_by_id[name]:
            self.documents_by_id[name].append(number)
        return number

    def answers(self, rows: Sequence[RowOutline]) -> list[int]:
        """The documents that the data call a positive of these rows' query, by text or by id."""
        numbers: set[int] = set()
        for key in frozenset().union(*(row.known_texts for row in rows)):
            numbers.update(self.documents_by_text.get(key, ()))
        for name in frozenset().union(*(row.known_ids for row in rows)):
            numbers.update(self.documents_by_id.get(name, ()))
        return sorted(numbers)


def arrange(rows: Sequence[RowOutline]) -> ArrangedBatch:
    """Distinct texts, and who answers whom.

    A document answers a query when the data say so anywhere: a positive of that query, in any
    row, has an equal normalised text or an equal id. Such pairs are masked: never negatives.
    """
    index = _BatchIndex()
    weights: dict[tuple[int, int], float] = {}  # by positive pair
    hard_negatives: dict[tuple[int, int], None] = {}
    scored: list[tuple[int, int, int]] = []
    scores: list[float] = []
    rows_of_query: dict[int, list[RowOutline]] = defaultdict(list)
    for position, row in enumerate(rows):
        query = index.add_query(row.query)
        rows_of_query[query].append(row)
        numbers = [index.add_document(document) for document in row.documents]
        for positive in row.positives:
            pair = query, numbers[positive]
            # The same pair twice in a batch is one term of double weight.
            weights[pair] = weights.get(pair, 0.0) + 1 / (len(rows) * len(row.positives))
        hard_negatives |= {(query, numbers[negative]): None for negative in row.negatives}
        for document, score in row.scores or ():
            scored.append((position, query, numbers[document]))
            scores.append(score)
    masked = [
        (query, document)
        for query, its_rows in rows_of_query.items()
        for document in index.answers(its_rows)
    ]
    with_scores = any(row.scores is not None for row in rows)
    pairs = PairStructure(
        positive_pairs=pair_tensor(list(weights)),
        weights=torch.tensor(list(weights.values()), dtype=torch.float32),
        hard_negative_pairs=pair_tensor(list(hard_negatives)),
        masked_pairs=pair_tensor(masked),
        scored_pairs=long_tensor(scored).reshape(-1, 3) if with_scores else None,
        scores=torch.tensor(scores) if with_scores else None,
    )
    return ArrangedBatch(list(index.queries), list(index.documents), pairs)


def arrange_views(rows: Sequence[RowOutline]) -> ArrangedBatch:
    """Every text as query i and as document i.

    Equal texts are encoded once more each, and are no negatives of each other.
    """
    texts = [row.query for row in rows]
    equal: dict[int, list[int]] = defaultdict(list)
    for position, row in enumerate(rows):
        equal[row.documents[0].key].append(position)
    masked = [(one, other) for group in equal.values() for one in group for other in group]
    pairs = PairStructure(
        positive_pairs=torch.arange(len(rows))[:, None].repeat(1, 2),
        weights=torch.full((len(rows),), 1 / len(rows)),
        hard_negative_pairs=pair_tensor([]),
        masked_pairs=pair_tensor(masked),
    )
    return ArrangedBatch(texts, list(texts), pairs)


def pair_tensor(pairs: Sequence[tuple[int, int]]) -> Tensor:
    """int64 (n, 2)."""
    return long_tensor(pairs).reshape(-1, 2)


def long_tensor(values: Sequence[int] | Sequence[tuple[int, ...]]) -> Tensor:
    """An int64 tensor, also of no values."""
    return torch.tensor(values, dtype=torch.long)
