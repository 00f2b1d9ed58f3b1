"""One thing that is broken, slow or worth knowing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Severity = Literal["broken", "slow", "note"]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What is the matter, and what to do; "" where nothing can be done."""

    severity: Severity
    what: str
    fix: str = ""
