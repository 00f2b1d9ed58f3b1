"""A runner that prints the command lines and runs none."""

from __future__ import annotations

from typing import TextIO

from fletching.report import Report
from fletching_tune.steps.runner import StepRunner
from fletching_tune.steps.step import Step


class UndecidedStepError(Exception):
    """What comes next depends on a step that has not been run."""


class CommandPrinter(StepRunner):
    """Prints each step's line; `require` raises where a step before was never run."""

    def __init__(self, folder: str, report: Report, out: TextIO) -> None:
        super().__init__(folder, report)
        self.out = out
        self.is_complete = True

    def run(self, step: Step) -> float:
        """Print the line; the seconds of the step where it has been run."""
        self.out.write(step.line + "\n")
        seconds = self.recorded_seconds(step)
        if seconds is None:
            self.is_complete = False
            return 0.0
        self.seconds += seconds
        return seconds

    def require(self, advice: str) -> None:
        """Raise UndecidedStepError where a printed step has not been run."""
        if not self.is_complete:
            raise UndecidedStepError(advice)
