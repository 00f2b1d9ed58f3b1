"""What int8 costs: the model in float32 beside the one in int8, on a sample of the texts."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from fletching.encode.batching import batches_by_length
from fletching.encode.forward_pass import ForwardPass, Vectors
from fletching.encode.preprocessing import Preprocessor, TokenizedTexts
from fletching.encode.role_prompts import RolePrompts
from fletching.protocols import Role
from fletching.report import Report

SAMPLE = 32  # texts of a role
SAMPLE_TOKENS = 8192  # of them at most, the first text apart


class Float32Reference:
    """The model as it is before its layers become int8, for as long as it is compared.

    preprocessor: of the model.
    """

    def __init__(
        self, preprocessor: Preprocessor, role_prompts: RolePrompts, *, batch_tokens: int
    ) -> None:
        model = copy.deepcopy(preprocessor.model)
        # Of its own: what is tokenized again does not count as truncated again.
        self.preprocessor = Preprocessor(model, preprocessor.lengths, preprocessor.echoes)
        self.role_prompts = role_prompts
        self.forward_pass = ForwardPass(
            model, self.preprocessor, ["cpu"], dtype=torch.float32, batch_tokens=batch_tokens
        )
        self.noted: set[Role] = set()

    @property
    def transformer(self) -> nn.Module:
        """Its layers, in float32."""
        return self.forward_pass.replicas[0][0]

    def encode(
        self, texts: Sequence[str], role: Role, prompts: Sequence[str | None] | None = None
    ) -> Vectors:
        """Unit vectors (n, dimension) of the texts, as `Encoder.encode` gives them in float32."""
        pairs = self.role_prompts.pairs(texts, role, prompts)
        return self._vectors(TokenizedTexts(pairs, self.preprocessor.tokenize(pairs, role)))

    def _vectors(self, window: TokenizedTexts) -> Vectors:
        return _in_batches(self.forward_pass, window)

    def note_cosines(
        self, window: TokenizedTexts, role: Role, *, int8: ForwardPass, report: Report
    ) -> None:
        """Say once for a role how near its vectors are to those of float32."""
        if role in self.noted:
            return
        self.noted.add(role)
        sample = window.take(_sample_rows(window))
        cosines = (self._vectors(sample) * _in_batches(int8, sample)).sum(1)
        mean, least = float(cosines.mean()), float(cosines.min())
        report.measures.setdefault("int8_cosine", {})[role] = {
            "mean": round(mean, 6),
            "min": round(least, 6),
            "texts": len(cosines),
        }
        texts = "queries" if role == "query" else "documents"
        report.note(
            f"--dtype int8: {texts} have a cosine of {mean:.4f} to their vectors in float32, "
            f"{least:.4f} at least ({len(cosines)} texts)"
        )


def _sample_rows(window: TokenizedTexts) -> list[int]:
    """Rows spread over the window, up to SAMPLE of them and SAMPLE_TOKENS."""
    step = max(len(window.inputs) // SAMPLE, 1)
    rows: list[int] = []
    tokens = 0
    for row in range(0, len(window.inputs), step):
        tokens += len(window.inputs[row]["input_ids"])
        if rows and (tokens > SAMPLE_TOKENS or len(rows) == SAMPLE):
            break
        rows.append(row)
    return rows


def _in_batches(forward_pass: ForwardPass, window: TokenizedTexts) -> Vectors:
    """Unit vectors (n, D) of all texts of a window."""
    lengths = [len(token_row["input_ids"]) for token_row in window.inputs]
    planned = batches_by_length(lengths, forward_pass.batch_tokens)
    parts = list(forward_pass.batches(planned, window))
    vectors = np.empty((len(lengths), parts[0][1].shape[1]), np.float32)
    for rows, values in parts:
        vectors[rows] = values
    return vectors
