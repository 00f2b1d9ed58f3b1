"""The model hub: which one, whether it may be asked, whether it answers."""

from __future__ import annotations

import os
import time
import urllib.error
import urllib.request
from dataclasses import dataclass

ENDPOINT = "https://huggingface.co"
SECONDS = 3.0
OFFLINE_FLAGS = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE")
TRUE = ("1", "true", "yes", "on")


@dataclass(frozen=True, kw_only=True)
class Hub:
    """The hub. answer: `reached` (seconds are known), `not tried`, or why it was not reached."""

    endpoint: str
    offline_flags: list[str]
    has_token: bool
    answer: str
    seconds: float | None = None


def probe_hub(*, tries: bool) -> Hub:
    """Ask the hub for nothing but its head, unless a flag forbids it."""
    endpoint = os.environ.get("HF_ENDPOINT") or ENDPOINT
    flags = [name for name in OFFLINE_FLAGS if os.environ.get(name, "").lower() in TRUE]
    answer, seconds = ("not tried", None) if flags or not tries else _ask(endpoint)
    return Hub(
        endpoint=endpoint,
        offline_flags=flags,
        has_token=bool(os.environ.get("HF_TOKEN")),
        answer=answer,
        seconds=seconds,
    )


def _ask(endpoint: str) -> tuple[str, float | None]:
    started = time.perf_counter()
    try:
        request = urllib.request.Request(endpoint, method="HEAD")
        with urllib.request.urlopen(request, timeout=SECONDS):
            pass
    except urllib.error.HTTPError as error:
        if error.code >= 500:
            return f"HTTP {error.code}", None
    except (OSError, ValueError) as error:
        return str(getattr(error, "reason", error)), None
    return "reached", round(time.perf_counter() - started, 2)
