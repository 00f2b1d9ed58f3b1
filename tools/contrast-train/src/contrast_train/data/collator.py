"""From rows to one global batch: distinct texts, their tokens, and which belong together.

The result is a flat dict of tensors, so that any DataLoader and any trainer can carry it. It
needs no sentence-transformers: the tokenizer is a function.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from contrast_train.data import pairing
from contrast_train.data.dataset import TrainingExample
from contrast_train.data.pairing import ArrangedBatch, RowOutline, RowTexts, long_tensor
from contrast_train.data.rank_exchange import PromptedText, RankExchange
from fletching.pooling import require_text

FILLER = "a"  # the one text of a batch without a row: every rank still has a pass to make
PREFIX = "texts_"  # sentence-transformers' trainer groups tensors by a prefix before `input_ids`
Tokenize = Callable[[list[str], int], list[list[int]]]
GuideVectors = Callable[[list[str], list[str]], tuple[Tensor, Tensor]]
DocumentVectors = Callable[[list[PromptedText]], Tensor]
TeacherVectors = Callable[[list[PromptedText], list[PromptedText]], tuple[Tensor, Tensor]]


@dataclass(frozen=True, kw_only=True)
class ContrastCollator:
    """Rows to tensors.

    tokenize: (texts, length) -> the token ids of each, truncated to the length. A row's own
    prompt goes before its query, `query_prompt` where it has none; `doc_prompt` before every
    document. views: each text is encoded twice, as a query and as a document (SimCSE), equal
    texts included. guide: (queries, documents), without prompts -> a guide model's vectors of
    them. teacher: the same of a teacher, for (prompt, text) pairs. document_vectors: (prompt,
    text) pairs -> vectors of documents that are not trained, and not tokenised. prompt_tokens:
    (prompt, text) pairs -> how many tokens of each are left out of pooling; None: none are.
    exchange: the ranks that make a batch together, each called with its share of the rows; each
    text is tokenised by the first of them that has it, and all get the whole batch.

    Returns, with Q distinct queries, then N distinct documents, as texts 0 … Q+N-1:
      texts_input_ids (tokens,) all token ids end to end · texts_lengths (Q+N,) · texts_queries () Q
      texts_rows (B,) row numbers · texts_prompt_tokens (Q+N,) where they are left out of pooling
      texts_document_vectors (N, E) where they are not trained: token ids are then of queries alone
      texts_positive_pairs (T, 2) and the other fields of `PairStructure`
    A streamed batch may be without a row that can be trained: it has one text and no pairs.
    """

    tokenize: Tokenize
    query_prompt: str = ""
    doc_prompt: str = ""
    query_length: int = 512
    doc_length: int = 512
    views: bool = False
    guide: GuideVectors | None = None
    teacher: TeacherVectors | None = None
    document_vectors: DocumentVectors | None = None
    prompt_tokens: Callable[[list[PromptedText]], list[int]] | None = None
    exchange: RankExchange = field(default_factory=RankExchange)

    def __call__(self, rows: Sequence[TrainingExample]) -> dict[str, Tensor]:
        """One batch of rows as tensors."""
        prompts = self.query_prompt, self.doc_prompt
        texts = [pairing.texts_of(row, *prompts) for row in rows]
        outlines: list[list[RowOutline]] = self.exchange.all_gather(self._outline(rows, texts))
        batch_rows = list(itertools.chain.from_iterable(outlines))
        arranged = self._arrange(batch_rows)
        encoded = self._encode(self._texts_to_encode(outlines, texts))
        batch = {
            **_join(self.exchange.all_gather(encoded)),
            "queries": torch.tensor(len(arranged.queries)),
            "rows": long_tensor([row.row for row in batch_rows]),
            **arranged.pairs.tensors(),
        }
        return {PREFIX + name: value for name, value in batch.items()}

    def _outline(
        self, rows: Sequence[TrainingExample], texts: Sequence[RowTexts]
    ) -> list[RowOutline]:
        outline = pairing.outline_view if self.views else pairing.outline
        identify = self.exchange.identify
        return [outline(row, its_texts, identify) for row, its_texts in zip(rows, texts)]

    def _arrange(self, rows: Sequence[RowOutline]) -> ArrangedBatch:
        return pairing.arrange_views(rows) if self.views and rows else pairing.arrange(rows)

    def _texts_to_encode(
        self, outlines: Sequence[Sequence[RowOutline]], texts: Sequence[RowTexts]
    ) -> TextsByRole:
        """This rank's part of the texts; those of all ranks in turn are the texts of the batch."""
        if not any(outlines):
            return TextsByRole([("", FILLER)] if self.exchange.rank == 0 else [], [])
        if self.views:
            queries = [query for query, _ in texts]
            return TextsByRole(queries, list(queries))
        rank = self.exchange.rank
        earlier = list(itertools.chain.from_iterable(outlines[:rank]))
        encoded_queries = {row.query for row in earlier}
        encoded_documents = {each.identity for row in earlier for each in row.documents}
        new_queries, new_documents = {}, {}
        for row, (query, documents) in zip(outlines[rank], texts):
            if row.query not in encoded_queries:
                new_queries[row.query] = query
            for document, text in zip(row.documents, documents):
                if document.identity not in encoded_documents:
                    new_documents[document.identity] = text
        return TextsByRole(list(new_queries.values()), list(new_documents.values()))

    def _encode(self, texts: TextsByRole) -> EncodedTexts:
        # A view is the same text a second time: truncated after the same length.
        doc_length = self.query_length if self.views else self.doc_length
        queries = self._tensors(texts.queries, self.query_length)
        if self.document_vectors is not None:
            documents = {"vectors": self.document_vectors(texts.documents)}
        else:
            documents = self._tensors(texts.documents, doc_length)
        if self.guide is not None:
            bare = ([text for _, text in side] for side in texts)
            queries["guide"], documents["guide"] = self.guide(*bare)
        if self.teacher is not None:
            queries["teacher"], documents["teacher"] = self.teacher(*texts)
        return EncodedTexts(queries, documents)

    def _tensors(self, texts: list[PromptedText], length: int) -> dict[str, Tensor]:
        token_ids = self.tokenize([prompt + text for prompt, text in texts], length)
        tensors = {
            "input_ids": long_tensor([token for ids in token_ids for token in ids]).int(),
            "lengths": long_tensor([len(ids) for ids in token_ids]),
        }
        if self.prompt_tokens is not None:
            counts = self.prompt_tokens(texts) if texts else []
            for (prompt, text), ids, count in zip(texts, token_ids, counts):
                require_text(prompt, text, pooled=len(ids) - count)
            tensors["prompt_tokens"] = long_tensor(counts)
        return tensors


class TextsByRole(NamedTuple):
    """Texts with their prompts, by role."""

    queries: list[PromptedText]
    documents: list[PromptedText]


class EncodedTexts(NamedTuple):
    """What is known of the texts that one rank has read, by role and name."""

    queries: dict[str, Tensor]
    documents: dict[str, Tensor]


def _join(parts: Sequence[EncodedTexts]) -> dict[str, Tensor]:
    """The tensors of a batch from those of its ranks, in turn: queries, then documents."""
    queries, documents = (
        {name: torch.cat([side[name] for side in sides]) for name in sides[0]}
        for sides in zip(*parts)
    )
    batch = {}
    for name in ("guide", "teacher"):
        if name in queries:
            batch[f"{name}_queries"] = queries.pop(name)
            batch[f"{name}_documents"] = documents.pop(name)
    if "vectors" in documents:
        batch["document_vectors"] = documents.pop("vectors")
    sides = [queries, documents] if documents else [queries]
    return batch | {name: torch.cat([side[name] for side in sides]).long() for name in queries}
