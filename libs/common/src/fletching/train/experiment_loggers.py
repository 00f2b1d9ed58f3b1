"""Services that get the measures of a run while it goes on: what transformers integrates, such as tensorboard or wandb."""

from __future__ import annotations

import os
from collections.abc import Sequence

from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK

from fletching.errors import UsageError


def check(names: Sequence[str], output: str) -> None:
    """Raises Usage where a service of --report-to is unknown or not installed. output: the folder of the model."""
    for name in names:
        if name not in INTEGRATION_TO_CALLBACK:
            raise UsageError(
                f"--report-to {name} is unknown",
                "choose from " + ", ".join(sorted(INTEGRATION_TO_CALLBACK)),
            )
        try:
            INTEGRATION_TO_CALLBACK[name]()
        except Exception as error:  # each raises its own
            raise UsageError(
                f"--report-to {name}: {str(error).splitlines()[0]}",
                "install it, or leave --report-to out",
            ) from None
    os.environ.setdefault("TENSORBOARD_LOGGING_DIR", f"{output}.logs")  # not in DIR.run, which goes
