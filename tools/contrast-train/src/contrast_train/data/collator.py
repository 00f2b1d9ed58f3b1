"""From rows to one global batch: distinct texts, their tokens, and which belong together.

The result is a flat dict of tensors, so that any DataLoader and any trainer can carry it. It
needs no sentence-transformers: the tokenizer is a function.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from contrast_train.data.dataset import TrainingExample, text_key
from contrast_train.losses.structure import PairStructure
from fletching.pooling import require_text

PREFIX = "texts_"  # sentence-transformers' trainer groups tensors by a prefix before `input_ids`
Tokenize = Callable[[list[str], int], list[list[int]]]
GuideVectors = Callable[[list[str], list[str]], tuple[Tensor, Tensor]]
PromptedText = tuple[str, str]  # prompt, text
TeacherVectors = Callable[[list[PromptedText], list[PromptedText]], tuple[Tensor, Tensor]]


@dataclass(frozen=True, kw_only=True)
class ContrastCollator:
    """Rows to tensors.

    tokenize: (texts, length) -> the token ids of each, truncated to the length. A row's own
    prompt goes before its query, `query_prompt` where it has none; `doc_prompt` before every
    document. views: each text is encoded twice, as a query and as a document (SimCSE), equal
    texts included. guide: (queries, documents), without prompts -> a guide model's vectors of
    them. teacher: the same of a teacher, for (prompt, text) pairs. prompt_tokens: (prompt, text)
    pairs -> how many tokens of each are left out of pooling; None: none are.

    Returns, with Q distinct queries, then N distinct documents, as texts 0 … Q+N-1:
      texts_input_ids (tokens,) all token ids end to end · texts_lengths (Q+N,) · texts_queries () Q
      texts_rows (B,) row numbers · texts_prompt_tokens (Q+N,) where they are left out of pooling
      texts_positive_pairs (T, 2) and the other fields of `PairStructure`
    """

    tokenize: Tokenize
    query_prompt: str = ""
    doc_prompt: str = ""
    query_length: int = 512
    doc_length: int = 512
    views: bool = False
    guide: GuideVectors | None = None
    teacher: TeacherVectors | None = None
    prompt_tokens: Callable[[list[PromptedText]], list[int]] | None = None

    def __call__(self, rows: Sequence[TrainingExample]) -> dict[str, Tensor]:
        """One batch of rows as tensors."""
        texts = self._arrange(rows)
        tokens = self._tokenize(texts)
        batch = {
            "input_ids": long_tensor([token for ids in tokens for token in ids]),
            "lengths": long_tensor([len(ids) for ids in tokens]),
            "queries": torch.tensor(len(texts.queries)),
            "rows": long_tensor([row.row for row in rows]),
            **texts.pairs.tensors(),
        }
        if self.guide is not None:
            queries = [text for _, text in texts.queries]
            documents = [text for _, text in texts.documents]
            batch["guide_queries"], batch["guide_documents"] = self.guide(queries, documents)
        if self.teacher is not None:
            of_queries, of_documents = self.teacher(texts.queries, texts.documents)
            batch["teacher_queries"], batch["teacher_documents"] = of_queries, of_documents
        if self.prompt_tokens is not None:
            prompted = texts.queries + texts.documents
            counts = self.prompt_tokens(prompted)
            for (prompt, text), ids, count in zip(prompted, tokens, counts):
                require_text(prompt, text, pooled=len(ids) - count)
            batch["prompt_tokens"] = long_tensor(counts)
        return {PREFIX + name: value for name, value in batch.items()}

    def _arrange(self, rows: Sequence[TrainingExample]) -> BatchTexts:
        if self.views:
            return arrange_views(rows, self.query_prompt)
        return arrange(rows, self.query_prompt, self.doc_prompt)

    def _tokenize(self, texts: BatchTexts) -> list[list[int]]:
        # A view is the same text a second time: truncated after the same length.
        doc_length = self.query_length if self.views else self.doc_length
        queries = [prompt + text for prompt, text in texts.queries]
        documents = [prompt + text for prompt, text in texts.documents]
        return self.tokenize(queries, self.query_length) + self.tokenize(documents, doc_length)


class BatchTexts(NamedTuple):
    """The distinct texts of a batch with their prompts, and which of them belong together."""

    queries: list[PromptedText]
    documents: list[PromptedText]
    pairs: PairStructure


@dataclass
class _BatchIndex:
    """The numbers of distinct queries and documents; documents also by key of their text and
    by id.
    """

    queries: dict[PromptedText, int] = field(default_factory=dict)
    documents: dict[PromptedText, int] = field(default_factory=dict)
    documents_by_text: dict[int, list[int]] = field(default_factory=lambda: defaultdict(list))
    documents_by_id: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))

    def add_query(self, prompt: str, text: str) -> int:
        """Its number, a new one where it comes up for the first time."""
        return self.queries.setdefault((prompt, text), len(self.queries))

    def add_document(self, prompt: str, text: str, name: str | None) -> int:
        """Its number, as for queries. name: its id, where it has one."""
        number = self.documents.get((prompt, text))
        if number is None:
            number = self.documents[prompt, text] = len(self.documents)
            self.documents_by_text[text_key(text)].append(number)
        if name is not None and number not in self.documents_by_id[name]:
            self.documents_by_id[name].append(number)
        return number

    def answers(self, row: TrainingExample) -> list[int]:
        """The documents that the data call a positive of the row's query, by text or by id."""
        numbers: set[int] = set()
        for key in row.known_texts:
            numbers.update(self.documents_by_text.get(key, ()))
        for name in row.known_ids:
            numbers.update(self.documents_by_id.get(name, ()))
        return sorted(numbers)


def arrange(rows: Sequence[TrainingExample], query_prompt: str, doc_prompt: str = "") -> BatchTexts:
    """Distinct texts, and who answers whom.

    A document answers a query when the data say so anywhere: a positive of that query, in any
    row, has an equal normalised text or an equal id. Such pairs are masked: never negatives.
    """
    index = _BatchIndex()
    weights: dict[tuple[int, int], float] = {}  # by positive pair
    hard_negatives: dict[tuple[int, int], None] = {}
    scored: list[tuple[int, int, int]] = []
    scores: list[float] = []
    row_of_query: dict[int, TrainingExample] = {}
    for position, row in enumerate(rows):
        query = index.add_query(query_prompt if row.prompt is None else row.prompt, row.query)
        row_of_query[query] = row
        row_scores = row.scores or {}
        prompt = doc_prompt if row.doc_prompt is None else row.doc_prompt
        texts = dict.fromkeys([*row.positives, *row.negatives, *row_scores])
        number = {text: index.add_document(prompt, text, row.ids.get(text)) for text in texts}
        for text in row.positives:  # the same pair twice in a batch is one term of double weight
            pair = query, number[text]
            weights[pair] = weights.get(pair, 0.0) + 1 / (len(rows) * len(row.positives))
        hard_negatives |= {(query, number[text]): None for text in row.negatives}
        scored += [(position, query, number[text]) for text in row_scores]
        scores += row_scores.values()
    masked = [
        (query, document) for query, row in row_of_query.items() for document in index.answers(row)
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
    return BatchTexts(list(index.queries), list(index.documents), pairs)


def arrange_views(rows: Sequence[TrainingExample], prompt: str) -> BatchTexts:
    """Every text as query i and as document i.

    Equal texts are encoded once more each, and are no negatives of each other.
    """
    texts = [(prompt if row.prompt is None else row.prompt, row.query) for row in rows]
    equal: dict[int, list[int]] = defaultdict(list)
    for position, row in enumerate(rows):
        equal[text_key(row.query)].append(position)
    masked = [(one, other) for group in equal.values() for one in group for other in group]
    pairs = PairStructure(
        positive_pairs=torch.arange(len(rows))[:, None].repeat(1, 2),
        weights=torch.full((len(rows),), 1 / len(rows)),
        hard_negative_pairs=pair_tensor([]),
        masked_pairs=pair_tensor(masked),
    )
    return BatchTexts(texts, list(texts), pairs)


def pair_tensor(pairs: Sequence[tuple[int, int]]) -> Tensor:
    """int64 (n, 2)."""
    return long_tensor(pairs).reshape(-1, 2)


def long_tensor(values: Sequence[int] | Sequence[tuple[int, ...]]) -> Tensor:
    """An int64 tensor, also of no values."""
    return torch.tensor(values, dtype=torch.long)
