"""Weights between the base model's and the tuned ones: some of the base's general quality for a little of the gain.

Wortsman et al. 2022 (WiSE-FT): w = (1 - share) base + share tuned. Needs torch alone.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

SHARES = (0.2, 0.4, 0.6, 0.8, 1.0)  # those that `auto` compares


def blend(base: dict[str, Tensor], tuned: dict[str, Tensor], share: float) -> dict[str, Tensor]:
    """The mean of both, by name. Layers that the base has not are those of the tuned model.

    The product of two adapters is scaled by its second one, which began as zero: the merged weights are
    then the same mean.
    """

    def between(name: str, weight: Tensor) -> Tensor:
        if "lora_" in name:
            return weight * share if "lora_B" in name or "lora_embedding_B" in name else weight
        return base[name].to(weight) * (1 - share) + weight * share if name in base else weight

    return {name: between(name, weight) for name, weight in tuned.items()}


def best(measure: Callable[[float], float]) -> tuple[float, dict[float, float]]:
    """(the share of the highest measure, all of them); of equal ones the smaller share, nearer to the base."""
    found = {share: measure(share) for share in SHARES}
    return max(SHARES, key=lambda share: found[share]), found
