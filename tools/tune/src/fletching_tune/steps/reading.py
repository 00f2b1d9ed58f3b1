"""What programs say of their work: --json-summary files."""

from __future__ import annotations

import json
from typing import Any


def read_summary(path: str) -> dict[str, Any]:
    """The --json-summary of a step that is done."""
    with open(path, encoding="utf-8") as file:
        content: dict[str, Any] = json.load(file)
    return content
