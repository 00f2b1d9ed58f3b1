"""The query prompts of rows: completed by a template, and looked at for a missing separator.

A prompt is prepended to its query verbatim. Every tool that encodes queries completes the prompts
of its rows here, so that mining, filtering, evaluation and training encode the same text.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from fletching.report import Report

FIX = "pass --prompt-template 'Instruct: {}\\nQuery: ', or end the prompt in a blank or line end"
SENTENCE_ENDS = ".!?。"
ESCAPES = (("\\n", "\n"), ("\\t", "\t"))  # a shell passes both characters on as they are
MAX_SHOWN = 60  # characters


@dataclass(frozen=True)
class InstructionTemplate:
    r"""What goes around the task that the `prompt` of a row names.

    >>> template = InstructionTemplate.parse(r"Instruct: {}\nQuery: ")
    >>> template.complete("Find answers.")
    'Instruct: Find answers.\nQuery: '
    >>> template.task("Instruct: Find answers.\nQuery: ")
    'Find answers.'
    """

    before: str = ""
    after: str = ""

    @classmethod
    def parse(cls, text: str | None) -> InstructionTemplate:
        r"""The template of --prompt-template; `\n` is a line end. None: prompts stay unchanged."""
        if text is None:
            return cls()
        for written, meant in ESCAPES:
            text = text.replace(written, meant)
        before, _, after = text.partition("{}")
        return cls(before, after)

    def complete(self, prompt: str) -> str:
        """The prompt as encoders take it. An empty one stays empty, a complete one as it is."""
        if not prompt or self._is_complete(prompt):
            return prompt
        return self.before + prompt + self.after

    def task(self, prompt: str) -> str:
        """The task alone, without what `complete` puts around it."""
        if not self._is_complete(prompt):
            return prompt
        return prompt[len(self.before) : len(prompt) - len(self.after)]

    def _is_complete(self, prompt: str) -> bool:
        is_long_enough = len(prompt) >= len(self.before) + len(self.after)
        return is_long_enough and prompt.startswith(self.before) and prompt.endswith(self.after)


class QueryPrompts:
    """The prompts of rows, completed; the first without a separator is noted, once a run."""

    def __init__(self, template: str | None, report: Report) -> None:
        self.template = InstructionTemplate.parse(template)
        self.report = report
        self.has_noted = False

    def complete(self, prompts: Sequence[str | None]) -> list[str | None]:
        """The prompts as encoders take them; None stays None."""
        completed = [
            None if prompt is None else self.template.complete(prompt) for prompt in prompts
        ]
        self._note_missing_separator(completed)
        return completed

    def _note_missing_separator(self, prompts: Iterable[str | None]) -> None:
        if self.has_noted:
            return
        joined = next((prompt for prompt in prompts if prompt and lacks_separator(prompt)), None)
        if joined is None:
            return
        self.has_noted = True
        shown = joined if len(joined) <= MAX_SHOWN else "…" + joined[-MAX_SHOWN:]
        note = (
            f"the prompt {shown!r} of a row has no blank or line end at its end, "
            f"so the query is joined to its last word; {FIX}"
        )
        if note not in self.report.notes:  # several encoders may share a run
            self.report.note(note)


def lacks_separator(prompt: str) -> bool:
    """Does the prompt end in a letter, a digit or a full stop, so that the query joins it?"""
    last = prompt[-1]
    return last.isalnum() or last in SENTENCE_ENDS
