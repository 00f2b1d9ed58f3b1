"""Weights between the base model's and the tuned ones: a little of the gain for the base's
generality.

Wortsman et al. 2022 (WiSE-FT): w = (1 - share) base + share tuned. Needs torch alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor

SHARES = (0.2, 0.4, 0.6, 0.8, 1.0)  # those that `auto` compares
SECOND_LORA_MATRICES = ("lora_B", "lora_embedding_B")


def interpolate(
    base: Mapping[str, Tensor], tuned: Mapping[str, Tensor], share: float
) -> dict[str, Tensor]:
    """(1 - share) base + share tuned, by name. Layers that the base lacks are those of the
    tuned model.

    Of an adapter, the second matrix is scaled: it began as zero, so the merged weights are
    the same mean.
    """
    interpolated = {}
    for name, weight in tuned.items():
        if any(matrix in name for matrix in SECOND_LORA_MATRICES):
            interpolated[name] = weight * share
        elif "lora_" in name or name not in base:
            interpolated[name] = weight
        else:
            interpolated[name] = base[name].to(weight) * (1 - share) + weight * share
    return interpolated


def best_share(measure: Callable[[float], float]) -> tuple[float, dict[float, float]]:
    """(the share of the highest measure, the measure by share).

    Of equal ones the smallest share wins: it is the nearest to the base.
    """
    values = {share: measure(share) for share in SHARES}
    return max(SHARES, key=lambda share: values[share]), values
