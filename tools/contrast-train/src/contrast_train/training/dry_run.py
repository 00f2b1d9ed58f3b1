"""What a run will do, before it does it: truncated texts, duplicates, false negatives, time."""

from __future__ import annotations

import functools
import itertools
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from contrast_train.data.batch_sampler import BatchPlan
from contrast_train.data.collator import PREFIX, ContrastCollator
from contrast_train.data.dataset import TrainingDataset, TrainingExample
from contrast_train.data.stream_plan import StreamPlan
from contrast_train.data.streamed_dataset import StreamedDataset
from contrast_train.model.backbone import Backbone
from contrast_train.training.objective import ContrastObjective
from fletching.errors import InputError
from fletching.report import Report

SAMPLED_ROWS = 2_000  # whose texts are counted
PROBED_BATCHES = 8  # whose duplicates and masked pairs are counted
TIMINGS = 3
RECOMPUTED_SHARE = 1 / 3  # GradCache's second forward pass beside a forward and a backward one


@dataclass(frozen=True, kw_only=True)
class DryRun:
    """The parts of a run that its forecast is made from."""

    dataset: TrainingDataset | StreamedDataset
    plan: BatchPlan | StreamPlan
    backbone: Backbone
    collate: ContrastCollator
    report: Report

    def describe(self) -> None:
        """Note the plan, and what training will see of the data.

        Raises InputError where no batch has a row that can be trained.
        """
        plan = self.plan
        for line in plan.describe():
            self.report.note(line)
        self.report.note(
            f"{plan.steps:,} steps of up to {plan.batch:,} rows, {plan.epoch_steps:,} an epoch"
        )
        self.report.measures |= {
            "steps": plan.steps,
            "steps_per_epoch": plan.epoch_steps,
            "rows": plan.rows,
            "repeated_queries": self.dataset.repeated_queries(),
        }
        probes = [*map(self._probe, filter(None, self.first_batches))]
        self._describe_lengths()
        self._describe_batches(probes)

    @functools.cached_property
    def first_batches(self) -> list[list[TrainingExample]]:
        """The rows that can be trained of the first few batches, or of all up to one that has any.

        Raises InputError where no batch has any.
        """
        first: list[list[TrainingExample]] = []
        for rows in map(self.dataset.examples, self.plan):
            first.append(rows)
            if len(first) >= PROBED_BATCHES and any(first):
                break
        if not any(first):
            raise InputError(
                "no batch of the plan has a row that can be trained",
                "pass more --steps, leave --drop-last out, or look at what made the other rows",
            )
        return first

    def _describe_lengths(self) -> None:
        # What a stream has in memory after the first batches may all be other rows.
        rows = self.dataset.sample(SAMPLED_ROWS) or [*itertools.chain(*self.first_batches)]
        self._describe_role("query", [self._query(row) for row in rows])
        if self.collate.document_vectors is not None:
            return
        documents = [text for row in rows for text in self._documents(row)]
        if documents:
            self._describe_role("document", documents)

    def _query(self, row: TrainingExample) -> str:
        default = self.backbone.prompts["query"]
        return (default if row.prompt is None else row.prompt) + row.query

    def _documents(self, row: TrainingExample) -> list[str]:
        default = self.backbone.prompts["document"]
        prompt = default if row.doc_prompt is None else row.doc_prompt
        return [prompt + text for text in row.positives + row.negatives]

    def _describe_role(self, role: str, texts: list[str]) -> None:
        counts = np.array(self.backbone.count_tokens(texts))
        limit = self.backbone.lengths[role]
        truncated = float((counts > limit).mean())
        self.report.note(
            f"{role} tokens: mean {counts.mean():.0f}, median {np.median(counts):.0f}, "
            f"longest {counts.max():,}; {truncated:.1%} cut after {limit}"
        )
        self.report.measures |= {
            f"{role}_tokens_mean": float(counts.mean()),
            f"{role}_cut": truncated,
        }

    def _describe_batches(self, probes: Sequence[_BatchCounts]) -> None:
        texts = sum(probe.texts for probe in probes)
        repeated = 1 - sum(probe.distinct_texts for probe in probes) / texts
        masked = sum(probe.masked_pairs for probe in probes)
        batches = len(self.first_batches)
        tokens = sum(probe.tokens for probe in probes) // batches
        encoded = "texts" if self.collate.document_vectors is None else "queries"
        self.report.note(
            f"{batches} batches looked at: {repeated:.1%} of the {encoded} are repeated and "
            f"encoded once; {masked:,} query-document pairs masked as false negatives; "
            f"{tokens:,} tokens a step"
        )
        self.report.measures |= {
            "repeated_texts": repeated,
            "masked_pairs": masked,
            "tokens_per_step": tokens,
        }

    def _probe(self, rows: Sequence[TrainingExample]) -> _BatchCounts:
        features = self.collate(rows)
        masked_pairs = features[PREFIX + "masked_pairs"]
        positive_pairs = features[PREFIX + "positive_pairs"]
        lengths = features[PREFIX + "lengths"]
        return _BatchCounts(
            texts=sum(map(self._count_encoded, rows)),
            distinct_texts=len(lengths),
            masked_pairs=len(masked_pairs) - len(positive_pairs),
            tokens=int(lengths.sum()),
        )

    def _count_encoded(self, row: TrainingExample) -> int:
        """The texts of a row that are encoded, repeated ones included."""
        if self.collate.views:
            return 2
        if self.collate.document_vectors is not None:
            return 1
        return 1 + len(row.positives) + len(row.negatives)

    def estimate(self, objective: ContrastObjective) -> float:
        """Seconds for the whole run, from one real micro-batch forward and backward."""
        rows = next(filter(None, self.first_batches))
        features = {
            name.removeprefix(PREFIX): tensor.to(self.backbone.device)
            for name, tensor in self.collate(rows).items()
        }
        micro_batches = objective.split(features["lengths"], features.get("prompt_tokens"))
        middle = micro_batches[len(micro_batches) // 2]
        seconds = min(_time_forward_backward(objective, features, middle) for _ in range(TIMINGS))
        kept = objective.count_kept(features["lengths"], micro_batches)
        recomputed = 1 - kept / len(micro_batches)
        tokens = int(features["lengths"][middle].sum())
        steps = self.report.measures["tokens_per_step"] / tokens * self.plan.steps
        total = seconds * (1 + recomputed * RECOMPUTED_SHARE) * steps
        dtype = "bfloat16" if self.backbone.autocast else "float32"
        self.report.note(
            f"about {total / 60:.1f} minutes on {self.backbone.device}, {dtype}, "
            f"in {len(micro_batches)} micro-batches a step"
        )
        self.report.measures["estimated_seconds"] = total
        return float(total)


class _BatchCounts(NamedTuple):
    texts: int
    distinct_texts: int
    masked_pairs: int
    tokens: int


def _time_forward_backward(
    objective: ContrastObjective, features: Mapping[str, Tensor], micro_batch: Tensor
) -> float:
    start = time.monotonic()
    torch.autograd.backward(objective.embed(features, micro_batch).sum())
    objective.zero_grad(set_to_none=True)
    return time.monotonic() - start
