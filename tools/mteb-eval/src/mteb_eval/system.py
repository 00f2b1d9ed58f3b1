"""What is evaluated: a variant of a model, BM25, or a model and BM25 fused."""

from __future__ import annotations

from typing import Any, Protocol

from mteb.abstasks.abstask import AbsTask
from mteb.models import ModelMeta


class System(Protocol):
    """One run of the comparison, as `evaluation` uses it; mteb calls its other methods."""

    name: str

    @property
    def texts(self) -> int:
        """How many texts were encoded since `prepare`."""

    @property
    def prompts_used(self) -> dict[str, str]:
        """What was prepended last, by kind of text."""

    @property
    def settings(self) -> dict[str, Any]:
        """Everything that decides a result, apart from the data."""

    @property
    def mteb_model_meta(self) -> ModelMeta:
        """What mteb writes into its own files."""

    @property
    def is_quantised(self) -> bool:
        """Are scores tied exactly, where mteb would compute them anew?"""

    def prepare(self, task: AbsTask) -> None:
        """Take over what a task says of its texts, and count from 0."""
