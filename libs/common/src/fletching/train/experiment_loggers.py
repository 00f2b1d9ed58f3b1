"""Experiment loggers of --report-to: those that transformers integrates, such as wandb."""

from __future__ import annotations

import os
from collections.abc import Sequence

from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK

from fletching.errors import UsageError


def check(names: Sequence[str], output: str) -> None:
    """Raise UsageError where a logger is unknown or missing. output: the model folder."""
    for name in names:
        if name not in INTEGRATION_TO_CALLBACK:
            known = ", ".join(sorted(INTEGRATION_TO_CALLBACK))
            raise UsageError(f"--report-to {name} is unknown", f"choose from {known}")
        try:
            INTEGRATION_TO_CALLBACK[name]()
        except Exception as error:  # each logger raises its own
            raise UsageError(
                f"--report-to {name}: {str(error).splitlines()[0]}",
                "install it, or leave --report-to out",
            ) from None
    # Beside DIR: the run folder is removed at the end.
    os.environ.setdefault("TENSORBOARD_LOGGING_DIR", f"{output}.logs")
