"""What is prepended to a text: the prompt of its row, else that of its role."""

from __future__ import annotations

from collections.abc import Sequence

from fletching.errors import InputError
from fletching.options import EncodingOptions
from fletching.prompts import QueryPrompts
from fletching.protocols import Role
from fletching.report import Report

PromptedText = tuple[str, str]  # (prompt, text)


class RolePrompts:
    """The prompts of an encoder.

    by_role: those of --query-prompt and --doc-prompt, else the model's own; may be replaced.
    """

    def __init__(self, options: EncodingOptions, report: Report, by_role: dict[Role, str]) -> None:
        self.options = options
        self.by_role = by_role
        self.of_rows = QueryPrompts(options.prompt_template, report)

    def pairs(
        self, texts: Sequence[str], role: Role, prompts: Sequence[str | None] | None
    ) -> list[PromptedText]:
        """(prompt, text) of each text. prompts: of the rows; None stands for the role's own.

        Raises InputError where a row's prompt contradicts the role's.
        """
        if role == "query" and prompts:
            prompts = self.of_rows.complete(prompts)
        return [
            (self._resolve(role, prompt), text)
            for text, prompt in zip(texts, prompts or [None] * len(texts))
        ]

    def _resolve(self, role: Role, prompt: str | None) -> str:
        """The prompt of one text."""
        role_prompt = self.by_role[role]
        if prompt is None:
            return role_prompt
        if role_prompt and prompt != role_prompt:
            source = "--query-prompt" if self.options.query_prompt is not None else "the model"
            raise InputError(
                f"the data asks for the {role} prompt {prompt[:40]!r}, "
                f"{source} for {role_prompt[:40]!r}",
                "drop the column `prompt`, or pass the data's prompt as --query-prompt",
            )
        return prompt
