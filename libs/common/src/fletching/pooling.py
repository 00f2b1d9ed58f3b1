"""How token vectors become one sentence vector, for a transformer without a pooling layer."""

from __future__ import annotations

from dataclasses import dataclass

from fletching.errors import InputError
from fletching.registry import Registry


@dataclass(frozen=True)
class Pooling:
    """A pooling that sentence-transformers' `Pooling` module knows."""

    mode: str  # sentence-transformers' name, saved in the model
    needs_eos: bool = False  # the pooled token is the last one, which must be the end-of-text token


POOLINGS = Registry[Pooling]("pooling")
POOLINGS.register("cls", Pooling("cls"))
POOLINGS.register("mean", Pooling("mean"))
POOLINGS.register("last", Pooling("lasttoken", needs_eos=True))
POOLINGS.register("weighted", Pooling("weightedmean"))


def require_text(prompt: str, text: str, *, pooled: int) -> None:
    """Raise InputError where no token but those of the prompt is left to be pooled."""
    if pooled <= 0:
        raise InputError(
            f"no token of the text {text[:60]!r} is left behind the prompt {prompt[:40]!r}, "
            "which the model does not pool: its vector would be zero",
            "allow more tokens, shorten the prompt, or leave such texts out",
        )
