"""From rows to one global batch: distinct texts, their tokens, and what belongs together.

The result is a flat dict of tensors, so that any DataLoader and any trainer can carry it. It needs no
sentence-transformers: the tokenizer is a function.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from contrast_train.losses import Structure
from contrast_train.rows import Drawn, text_key

PREFIX = "texts_"  # sentence-transformers' trainer groups tensors by a prefix before `input_ids`
Tokenize = Callable[[list[str], int], list[list[int]]]


@dataclass(frozen=True)
class Collator:
    """Rows to tensors.

    tokenize: texts and a length -> token ids of each, cut to the length. A row's own prompt stands
    before its query, `query_prompt` where it has none; `doc_prompt` before every document.

    Gives, with Q distinct queries, then N distinct documents, as texts 0 … Q+N-1:
      texts_input_ids (tokens,) all token ids end to end · texts_lengths (Q+N,) · texts_queries () Q
      texts_terms (T, 2) · texts_weights (T,) · texts_hard (H, 2) · texts_known (P, 2): see Structure
      texts_rows (B,) row numbers
    """

    tokenize: Tokenize
    query_prompt: str = ""
    doc_prompt: str = ""
    query_length: int = 512
    doc_length: int = 512

    def __call__(self, rows: Sequence[Drawn]) -> dict[str, Tensor]:
        queries, documents, structure = arrange(rows, self.query_prompt)
        tokens = self.tokenize([prompt + text for prompt, text in queries], self.query_length)
        tokens += self.tokenize([self.doc_prompt + text for text in documents], self.doc_length)
        batch = {
            "input_ids": torch.tensor([token for text in tokens for token in text], dtype=torch.long),
            "lengths": torch.tensor([len(text) for text in tokens], dtype=torch.long),
            "queries": torch.tensor(len(queries)),
            "rows": torch.tensor([row.row for row in rows], dtype=torch.long),
            **structure._asdict(),
        }
        return {PREFIX + name: value for name, value in batch.items()}


def arrange(rows: Sequence[Drawn], query_prompt: str) -> tuple[list[tuple[str, str]], list[str], Structure]:
    """(distinct (prompt, query), distinct documents, who belongs to whom).

    A document answers a query when the data say so anywhere: equal normalised text or equal id of a
    positive of that query, in any row. Such pairs stand in `known` and are never negatives.
    """
    queries: dict[tuple[str, str], int] = {}
    documents: dict[str, int] = {}
    terms: dict[tuple[int, int], float] = {}
    hard: dict[tuple[int, int], None] = {}
    of_query: dict[int, Drawn] = {}
    by_text: dict[int, list[int]] = defaultdict(list)
    by_id: dict[str, list[int]] = defaultdict(list)
    for row in rows:
        prompt = query_prompt if row.prompt is None else row.prompt
        query = queries.setdefault((prompt, row.query), len(queries))
        of_query[query] = row
        for text in row.positives + row.negatives:
            if text not in documents:
                documents[text] = len(documents)
                by_text[text_key(text)].append(documents[text])
            name = row.ids.get(text)
            if name is not None and documents[text] not in by_id[name]:
                by_id[name].append(documents[text])
        for text in row.positives:  # the same pair twice in a batch is one term of double weight
            pair = query, documents[text]
            terms[pair] = terms.get(pair, 0.0) + 1 / (len(rows) * len(row.positives))
        hard |= {(query, documents[text]): None for text in row.negatives}
    known = [
        (query, document)
        for query, row in of_query.items()
        for document in sorted(
            {d for key in row.known_texts for d in by_text.get(key, ())} | {d for name in row.known_ids for d in by_id.get(name, ())}
        )
    ]
    structure = Structure(pairs(list(terms)), torch.tensor(list(terms.values()), dtype=torch.float32), pairs(list(hard)), pairs(known))
    return list(queries), list(documents), structure


def pairs(items: Sequence[tuple[int, int]]) -> Tensor:
    return torch.tensor(items, dtype=torch.long).reshape(-1, 2)


def structure_of(features: dict[str, Tensor]) -> Structure:
    """The structure out of the features of a batch (without prefix)."""
    return Structure(features["terms"], features["weights"], features["hard"], features["known"])
