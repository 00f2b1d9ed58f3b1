"""What a run will do, before it does it: cut texts, duplicates, false negatives, time."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from contrast_train.data.batch_sampler import Plan
from contrast_train.data.collator import Collator
from contrast_train.data.dataset import Rows
from contrast_train.model.backbone import Backbone
from contrast_train.training.gradcache import micro_batches
from contrast_train.training.objective import Objective
from fletching.report import Report

SAMPLE = 2_000  # rows looked at for lengths
PROBES = 8  # batches looked at for duplicates and masked pairs


def describe(rows: Rows, plan: Plan, backbone: Backbone, collate: Collator, report: Report) -> None:
    """Notes of the plan and of what training will see of the data."""
    for line in plan.describe():
        report.note(line)
    report.note(f"{plan.steps:,} steps of up to {plan.batch:,} rows, {plan.epoch_steps:,} an epoch")
    report.measures |= {
        "steps": plan.steps,
        "steps_per_epoch": plan.epoch_steps,
        "rows": plan.rows,
        "repeated_queries": rows.repeated_queries(),
    }
    _lengths(rows, backbone, report)
    _batches(rows, plan, collate, report)


def _lengths(rows: Rows, backbone: Backbone, report: Report) -> None:
    chosen = [
        rows[0, int(number)]
        for number in np.linspace(0, len(rows) - 1, min(SAMPLE, len(rows))).astype(int)
    ]
    own = backbone.prompts
    texts = {
        "query": [
            (own["query"] if row.prompt is None else row.prompt) + row.query for row in chosen
        ],
        "document": [
            (own["document"] if row.doc_prompt is None else row.doc_prompt) + text
            for row in chosen
            for text in row.positives + row.negatives
        ],
    }
    for role, those in texts.items():
        if not those:
            continue
        counts, limit = np.array(backbone.untruncated(those)), backbone.lengths[role]
        cut = float((counts > limit).mean())
        report.note(
            f"{role} tokens: mean {counts.mean():.0f}, median {np.median(counts):.0f}, longest {counts.max():,}; "
            f"{cut:.1%} cut after {limit}"
        )
        report.measures |= {f"{role}_tokens_mean": float(counts.mean()), f"{role}_cut": cut}


def _batches(rows: Rows, plan: Plan, collate: Collator, report: Report) -> None:
    texts = distinct = masked = tokens = 0
    probed = plan.epoch(0)[:PROBES]
    for batch in probed:
        drawn = [rows[0, int(number)] for number in batch]
        features = collate(drawn)
        terms, known = features["texts_terms"], features["texts_known"]
        texts += sum(
            2 if collate.views else 1 + len(row.positives) + len(row.negatives) for row in drawn
        )
        distinct += len(features["texts_lengths"])
        masked += len(known) - len(terms)
        tokens += int(features["texts_lengths"].sum())
    share = 1 - distinct / texts
    report.note(
        f"{len(probed)} batches looked at: {share:.1%} of the texts are repeated and encoded once; "
        f"{masked:,} query-document pairs masked as false negatives; {tokens // len(probed):,} tokens a step"
    )
    report.measures |= {
        "repeated_texts": share,
        "masked_pairs": masked,
        "tokens_per_step": tokens // len(probed),
    }


def estimate(
    rows: Rows,
    plan: Plan,
    backbone: Backbone,
    collate: Collator,
    objective: Objective,
    report: Report,
) -> float:
    """Seconds for the whole run, from one real micro-batch there and back."""
    batch = plan.epoch(0)[0]
    features = {
        name.removeprefix("texts_"): tensor.to(backbone.device)
        for name, tensor in collate([rows[0, int(number)] for number in batch]).items()
    }
    parts = micro_batches(
        features["lengths"], objective.batch_tokens, features.get("prompt_tokens")
    )
    part = parts[len(parts) // 2]
    seconds: Sequence[float] = [_there_and_back(objective, features, part) for _ in range(3)]
    tokens = int(features["lengths"][part].sum())
    # The second pass of GradCache costs one more forward: a third on top of forward and backward.
    recomputed = (
        1 - min(objective.keep_tokens // objective.batch_tokens / len(parts), 1)
        if len(parts) > 1
        else 0
    )
    whole = (
        min(seconds)
        * (1 + recomputed / 3)
        * report.measures["tokens_per_step"]
        / tokens
        * plan.steps
    )
    report.note(
        f"about {whole / 60:.1f} minutes on {backbone.device}, {'bfloat16' if backbone.autocast else 'float32'}, "
        f"in {len(parts)} micro-batches a step"
    )
    report.measures["estimated_seconds"] = whole
    return whole


def _there_and_back(objective: Objective, features: dict, part: object) -> float:
    start = time.monotonic()
    objective.embed(
        features["input_ids"], features["lengths"], part, features.get("prompt_tokens")
    ).sum().backward()  # type: ignore[arg-type]
    objective.zero_grad(set_to_none=True)
    return time.monotonic() - start
