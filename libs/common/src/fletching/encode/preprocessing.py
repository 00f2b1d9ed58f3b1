"""Texts to what a model reads: token ids, truncated and counted, then padded batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from fletching.encode import echo
from fletching.encode.echo import TokenRow
from fletching.encode.prompt_tokens import PROMPT_TOKENS, tokens_before
from fletching.errors import InputError
from fletching.pooling import require_text
from fletching.protocols import Role

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer
    from tokenizers import Encoding

PAD_TO = 8  # row lengths are padded to a multiple of this
CHARACTERS_PER_TOKEN = 4  # about, for planning
NO_ECHO: dict[Role, str | None] = {"query": None, "document": None}


@dataclass(frozen=True)
class TokenizedTexts:
    """Some texts and their token ids."""

    texts: list[tuple[str, str]]  # (prompt, text)
    inputs: list[TokenRow]

    def take(self, rows: Sequence[int]) -> TokenizedTexts:
        """These rows, in this order."""
        texts = [self.texts[row] for row in rows]
        inputs = [self.inputs[row] for row in rows]
        return TokenizedTexts(texts, inputs)


@dataclass
class TruncationCount:
    """How many texts of a role were tokenized, and how many of them truncated."""

    texts: int = 0
    truncated: int = 0


class Preprocessor:
    """The tokenizer of a model, with the length and the echo separator of each role."""

    def __init__(
        self,
        model: SentenceTransformer,
        lengths: dict[Role, int],
        echoes: dict[Role, str | None],
    ) -> None:
        self.model = model
        self.lengths = lengths
        self.echoes = echoes
        self.counts: dict[Role, TruncationCount] = {
            "query": TruncationCount(),
            "document": TruncationCount(),
        }
        self.tokenizer: Any = getattr(model[0], "tokenizer", None)

    @property
    def takes_token_ids(self) -> bool:
        """Is the model a plain transformer over token ids?

        Any other chain of modules (static embeddings, routers, chat templates) prepares its own
        input.
        """
        transformer: Any = self.model[0]
        if type(transformer).__name__ != "Transformer":
            return False
        if set(transformer.modality_config) != {"text"} or not hasattr(self.tokenizer, "pad"):
            return False
        return self.pools_prompts or bool(getattr(self.tokenizer, "is_fast", False))

    @property
    def pools_prompts(self) -> bool:
        """Are the tokens of prompts part of the pooled vector?"""
        return all(getattr(module, "include_prompt", True) for module in self.model)

    def tokenize(self, texts: list[tuple[str, str]], role: Role) -> list[TokenRow]:
        """Token ids of each (prompt, text), truncated to the role's length and counted.

        For a model that prepares its own input: rows of about as many tokens, for planning
        alone. Raises InputError for a text without tokens, or without any behind its prompt
        where prompts are not pooled.
        """
        if not self.takes_token_ids:
            estimates = [1 + len(text) // CHARACTERS_PER_TOKEN for _, text in texts]
            return [{"input_ids": [0] * tokens} for tokens in estimates]
        count = self.counts[role]
        count.texts += len(texts)
        separator = self.echoes[role]
        if separator is not None:
            inputs, truncated = echo.build_inputs(
                self.tokenizer, texts, separator=separator, max_length=self.lengths[role]
            )
            count.truncated += truncated
            return inputs
        encoded = self.tokenizer(
            [prompt + text for prompt, text in texts],
            truncation="longest_first",
            max_length=self.lengths[role],
        )
        if encoded.is_fast:
            count.truncated += sum(bool(encoding.overflowing) for encoding in encoded.encodings)
        inputs = [dict(zip(encoded, values)) for values in zip(*encoded.values())]
        require_tokens([prompt + text for prompt, text in texts], encoded["input_ids"])
        if not self.pools_prompts:
            self._count_prompt_tokens(texts, inputs, encoded.encodings)
        return inputs

    def _count_prompt_tokens(
        self, texts: list[tuple[str, str]], inputs: list[TokenRow], encodings: Sequence[Encoding]
    ) -> None:
        """Note in each input how many of its tokens are not pooled."""
        for (prompt, text), token_row, encoding in zip(texts, inputs, encodings):
            count = tokens_before(encoding.offsets, len(prompt))
            require_text(prompt, text, pooled=len(token_row["input_ids"]) - count)
            token_row[PROMPT_TOKENS] = [count]

    def collate(self, batch: TokenizedTexts, replica: SentenceTransformer) -> dict[str, Any]:
        """The padded batch as the replica takes it."""
        if echo.ECHO_TOKENS in batch.inputs[0]:
            return echo.collate(self.tokenizer, batch.inputs, PAD_TO)
        if self.takes_token_ids:
            return self._pad(batch.inputs)
        first_prompt, _ = batch.texts[0]
        if any(prompt != first_prompt for prompt, _ in batch.texts):
            prompted = [prompt + text for prompt, text in batch.texts]
            return dict(replica.preprocess(prompted))
        bare = [text for _, text in batch.texts]
        return dict(replica.preprocess(bare, prompt=first_prompt or None))

    def _pad(self, inputs: list[TokenRow]) -> dict[str, Any]:
        rows = [
            {name: ids for name, ids in token_row.items() if name != PROMPT_TOKENS}
            for token_row in inputs
        ]
        padded = self.tokenizer.pad(
            rows, padding=True, pad_to_multiple_of=PAD_TO, return_tensors="pt"
        )
        batch = {**padded, "modality": "text"}
        if PROMPT_TOKENS in inputs[0]:
            batch[PROMPT_TOKENS] = torch.tensor([row[PROMPT_TOKENS][0] for row in inputs])
        return batch


def require_tokens(texts: Sequence[str], ids: Sequence[Sequence[int]]) -> None:
    """Raise InputError where the tokenizer gives no token for a text."""
    for text, ids_of_text in zip(texts, ids):
        if not ids_of_text:
            raise InputError(
                f"the model's tokenizer gives no token for the text {text[:60]!r}",
                "leave such texts out; if it gives none for any text, name another model",
            )
