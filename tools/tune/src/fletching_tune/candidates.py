"""The candidates, a list that was fixed before any data is seen, in the order of their turn.

InfoNCE alone often makes a good base worse (Tamber et al. 2025, arXiv 2505.19274); the base as a
teacher, a low rate, blending with the base (WiSE-FT, arXiv 2109.01903) and soups of models
(Wortsman et al. 2022, arXiv 2203.05482) hold it near what it knew.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One way to train.

    flags: of contrast-train; `{base}` is the base model. is_mined: does it learn from mined hard
    negatives? price: seconds of an update, over those of plain InfoNCE.
    """

    name: str
    summary: str
    flags: tuple[str, ...]
    is_mined: bool = False
    price: float = 1.0


TEACHER = ("--teacher-vectors", "{base}", "--teacher-weight", "1")
RECIPES = (
    Recipe(
        name="anchored",
        summary="InfoNCE with the base's own vectors as teacher",
        flags=("--lr", "2e-4", *TEACHER),
    ),
    Recipe(name="infonce", summary="InfoNCE", flags=("--lr", "1e-4")),
    Recipe(
        name="hard-negatives",
        summary="InfoNCE with mined hard negatives",
        flags=("--lr", "1e-4", "--negatives", "1"),
        is_mined=True,
        price=1.5,
    ),
    Recipe(
        name="guided",
        summary="InfoNCE with the base as guide against false negatives",
        flags=("--lr", "1e-4", "--guide", "{base}", "--guide-margin", "0.05"),
    ),
    Recipe(name="gentle", summary="InfoNCE at a low rate", flags=("--lr", "2e-5")),
    Recipe(
        name="lora",
        summary="InfoNCE through LoRA adapters",
        flags=("--lr", "1e-3", "--lora"),
    ),
)


def requested_recipes(names: Sequence[str]) -> tuple[Recipe, ...]:
    """The recipes of these names in the order of the list; all of them without names."""
    return tuple(each for each in RECIPES if not names or each.name in names)


def recipe(name: str) -> Recipe:
    """The recipe of a name."""
    return next(each for each in RECIPES if each.name == name)
