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

from contrast_train.data.dataset import Drawn, text_key
from contrast_train.losses import Structure

PREFIX = "texts_"  # sentence-transformers' trainer groups tensors by a prefix before `input_ids`
Tokenize = Callable[[list[str], int], list[list[int]]]


@dataclass(frozen=True)
class Collator:
    """Rows to tensors.

    tokenize: texts and a length -> token ids of each, cut to the length. A row's own prompt stands
    before its query, `query_prompt` where it has none; `doc_prompt` before every document.
    views: each text is encoded twice, as a query and as a document (SimCSE), equal texts included.
    guide: queries and documents (without prompts) -> a guide model's vectors of them.
    prompt_tokens: a prompt -> how many of its tokens are left out of pooling; None: none are.

    Gives, with Q distinct queries, then N distinct documents, as texts 0 … Q+N-1:
      texts_input_ids (tokens,) all token ids end to end · texts_lengths (Q+N,) · texts_queries () Q
      texts_terms (T, 2) · texts_weights (T,) · texts_hard (H, 2) · texts_known (P, 2) …: see Structure
      texts_rows (B,) row numbers · texts_prompt_tokens (Q+N,) where they are left out of pooling
    """

    tokenize: Tokenize
    query_prompt: str = ""
    doc_prompt: str = ""
    query_length: int = 512
    doc_length: int = 512
    views: bool = False
    guide: Callable[[list[str], list[str]], tuple[Tensor, Tensor]] | None = None
    prompt_tokens: Callable[[str], int] | None = None

    def __call__(self, rows: Sequence[Drawn]) -> dict[str, Tensor]:
        queries, documents, structure = (
            arrange_views(rows, self.query_prompt)
            if self.views
            else arrange(rows, self.query_prompt, self.doc_prompt)
        )
        if self.guide is not None:
            vectors = self.guide([text for _, text in queries], [text for _, text in documents])
            structure = structure._replace(guide_queries=vectors[0], guide_documents=vectors[1])
        tokens = self.tokenize([prompt + text for prompt, text in queries], self.query_length)
        # A view is the same text a second time: cut after the same length.
        tokens += self.tokenize(
            [prompt + text for prompt, text in documents],
            self.query_length if self.views else self.doc_length,
        )
        batch = {
            "input_ids": torch.tensor(
                [token for text in tokens for token in text], dtype=torch.long
            ),
            "lengths": torch.tensor([len(text) for text in tokens], dtype=torch.long),
            "queries": torch.tensor(len(queries)),
            "rows": torch.tensor([row.row for row in rows], dtype=torch.long),
            **{name: value for name, value in structure._asdict().items() if value is not None},
        }
        if self.prompt_tokens is not None:
            counts = [self.prompt_tokens(prompt) for prompt, _ in queries + documents]
            batch["prompt_tokens"] = torch.tensor(counts, dtype=torch.long)
        return {PREFIX + name: value for name, value in batch.items()}


Texts = list[tuple[str, str]]  # prompt, text


def arrange(
    rows: Sequence[Drawn], query_prompt: str, doc_prompt: str = ""
) -> tuple[Texts, Texts, Structure]:
    """(distinct queries, distinct documents, who belongs to whom); texts with their prompts.

    A document answers a query when the data say so anywhere: equal normalised text or equal id of a
    positive of that query, in any row. Such pairs stand in `known` and are never negatives.
    """
    queries: dict[tuple[str, str], int] = {}
    documents: dict[tuple[str, str], int] = {}
    terms: dict[tuple[int, int], float] = {}
    hard: dict[tuple[int, int], None] = {}
    lists: list[tuple[int, int, int]] = []
    scores: list[float] = []
    of_query: dict[int, Drawn] = {}
    by_text: dict[int, list[int]] = defaultdict(list)
    by_id: dict[str, list[int]] = defaultdict(list)
    for number, row in enumerate(rows):
        query = queries.setdefault(
            (query_prompt if row.prompt is None else row.prompt, row.query), len(queries)
        )
        own = doc_prompt if row.doc_prompt is None else row.doc_prompt
        of_query[query] = row
        for text in dict.fromkeys([*row.positives, *row.negatives, *row.scores]):
            if (own, text) not in documents:
                documents[own, text] = len(documents)
                by_text[text_key(text)].append(documents[own, text])
            name = row.ids.get(text)
            if name is not None and documents[own, text] not in by_id[name]:
                by_id[name].append(documents[own, text])
        for text in row.positives:  # the same pair twice in a batch is one term of double weight
            pair = query, documents[own, text]
            terms[pair] = terms.get(pair, 0.0) + 1 / (len(rows) * len(row.positives))
        hard |= {(query, documents[own, text]): None for text in row.negatives}
        lists += [(number, query, documents[own, text]) for text in row.scores]
        scores += row.scores.values()
    known = [
        (query, document)
        for query, row in of_query.items()
        for document in sorted(
            {d for key in row.known_texts for d in by_text.get(key, ())}
            | {d for name in row.known_ids for d in by_id.get(name, ())}
        )
    ]
    weights = torch.tensor(list(terms.values()), dtype=torch.float32)
    structure = Structure(pairs(list(terms)), weights, pairs(list(hard)), pairs(known))
    structure = structure._replace(
        lists=torch.tensor(lists, dtype=torch.long).reshape(-1, 3), scores=torch.tensor(scores)
    )
    return list(queries), list(documents), structure


def arrange_views(rows: Sequence[Drawn], prompt: str) -> tuple[Texts, Texts, Structure]:
    """Every text as query i and as document i; equal texts are encoded anew and are no negatives of each other."""
    texts = [(prompt if row.prompt is None else row.prompt, row.query) for row in rows]
    equal: dict[int, list[int]] = defaultdict(list)
    for number, row in enumerate(rows):
        equal[text_key(row.query)].append(number)
    known = [(one, other) for same in equal.values() for one in same for other in same]
    terms = torch.arange(len(rows))[:, None].repeat(1, 2)
    return (
        texts,
        list(texts),
        Structure(terms, torch.full((len(rows),), 1 / len(rows)), pairs([]), pairs(known)),
    )


def pairs(items: Sequence[tuple[int, int]]) -> Tensor:
    return torch.tensor(items, dtype=torch.long).reshape(-1, 2)


def structure_of(features: dict[str, Tensor]) -> Structure:
    """The structure out of the features of a batch (without prefix)."""
    return Structure(
        **{name: features[name] for name in Structure._fields if features.get(name) is not None}
    )
