"""The candidates, a list that was fixed before any data is seen, in the order of their turn.

InfoNCE alone often makes a good base worse (Tamber et al. 2025, arXiv 2505.19274); the base as a
teacher, a low rate, blending with the base (WiSE-FT, arXiv 2109.01903) and soups of models
(Wortsman et al. 2022, arXiv 2203.05482) hold it near what it knew.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Lists = Literal["pairs", "negatives", "hybrid"]


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One way to train.

    flags: of contrast-train; `{base}` is the base model, `{document-vectors}` the file of its
    vectors of the lists' documents. lists: what a row has beside its pair: nothing, mined hard
    negatives, or the best of a hybrid search with its scores. price: seconds of a row of an
    update, over those of plain InfoNCE. batch: rows of an update, whatever the others have.
    most_updates: it is trained for no more, whatever the time and the rows.
    """

    name: str
    summary: str
    flags: tuple[str, ...]
    lists: Lists = "pairs"
    price: float = 1.0
    batch: int | None = None
    most_updates: int | None = None

    def batch_of(self, planned: int) -> int:
        """Rows of an update, where others have so many."""
        return self.batch or planned

    def updates_of(self, planned: int) -> int:
        """Updates, where others have so many."""
        return min(planned, self.most_updates or planned)

    def trains_on(self, updates: int, planned: int) -> bool:
        """After so many updates, does it train longer where others have `planned`?"""
        return self.updates_of(planned) > self.updates_of(updates)

    @property
    def reads_document_vectors(self) -> bool:
        """Is it trained against the base's vectors of documents?"""
        return any("{document-vectors}" in flag for flag in self.flags)


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
        lists="negatives",
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
    Recipe(
        name="hybrid",
        summary="the ranking of words and vectors together, distilled into the vectors",
        flags=(
            *("--lr", "5e-5", "--loss", "kl", "--teacher-temperature", "0.05"),
            *("--document-vectors", "{document-vectors}"),
        ),
        lists="hybrid",
        price=0.25,  # its documents are encoded once, and not trained
        batch=32,
        most_updates=60,  # a choice on two sets, where 180 gained less within the noise
    ),
)
# Generated queries teach their own style more than people's: what needs no labels comes first,
# and alone where no LLM wrote them.
FOR_DOCUMENTS = sorted(RECIPES, key=lambda each: each.name != "hybrid")
WITHOUT_LLM = ("hybrid",)


def requested_recipes(
    names: Sequence[str], *, documents: bool = False, has_llm: bool = False
) -> tuple[Recipe, ...]:
    """The recipes of these names in the order of their turn; without names all that are tried.

    documents: queries were generated for them. has_llm: by an LLM too.
    """
    if documents and not has_llm:
        names = names or WITHOUT_LLM
    recipes = FOR_DOCUMENTS if documents else RECIPES
    return tuple(each for each in recipes if not names or each.name in names)


def recipe(name: str) -> Recipe:
    """The recipe of a name."""
    return next(each for each in RECIPES if each.name == name)
