"""Values that follow from the options: defaults by kind of student, weights of the losses."""

from __future__ import annotations

import os

from fletching_distill.options import Options

DEFAULT_LR = {"transformer": 1e-4, "static": 5e-3}
DEFAULT_WEIGHT_DECAY = {"transformer": 0.01, "static": 0.0}


def temporary_cache(options: Options) -> str | None:
    """Where vectors are kept until the run succeeds, unless --cache names a folder."""
    if options.cache or options.dry_run or options.output is None:
        return None
    if os.path.isdir(options.output) and os.listdir(options.output):
        return None  # an earlier run has published: this one finds that out and ends
    return f"{options.output.rstrip('/')}.cache"


def learning_rate(options: Options) -> float:
    """--lr, or the default of the student's kind."""
    return options.lr or DEFAULT_LR[options.student]


def weight_decay(options: Options) -> float:
    """--weight-decay, or the default of the student's kind.

    The embeddings of tokens that no text has would only shrink in a static student.
    """
    decay: float | None = options.weight_decay
    return DEFAULT_WEIGHT_DECAY[options.student] if decay is None else decay


def softmax_temperature(options: Options) -> float:
    """--temperature, which has a default in distill."""
    assert options.temperature is not None
    return options.temperature


def loss_weights(options: Options) -> dict[str, float]:
    """The weight of each loss by its name."""
    return {
        "cosine": options.cosine_weight,
        "similarity": options.similarity_weight,
        "ranking": options.ranking_weight,
        "mse": options.mse_weight,
        "kl": options.kl_weight,
    }


def describe_loss(options: Options) -> str:
    """The weighted sum of losses, for the card.

    >>> describe_loss(Options(similarity_weight=0.0, ranking_weight=2.5))
    '10 cosine + 2.5 ranking (margin 0.015)'
    """
    terms = [f"{weight:g} {name}" for name, weight in loss_weights(options).items() if weight]
    description = " + ".join(terms)
    if options.ranking_weight:
        description += f" (margin {options.ranking_margin:g})"
    if options.matryoshka:
        dims = ", ".join(map(str, options.matryoshka))
        description += f"; those of similarities are means over the first {dims} dimensions"
    return description
