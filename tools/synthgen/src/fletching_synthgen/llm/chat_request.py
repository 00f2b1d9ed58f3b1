"""One call of a chat model as data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

Message = dict[str, str]  # {"role": …, "content": …}
JSONSchema = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class ChatRequest:
    """One call of the model.

    key: 32 hex digits, a hash of all that the response depends on except the endpoint.
    slot: its place in the plan, e.g. `judge/e1`.
    messages: empty where the model need not be asked.
    schema: JSON schema of the response.
    """

    key: str
    slot: str
    messages: tuple[Message, ...]
    schema: JSONSchema

    @property
    def calls_model(self) -> bool:
        """Is there anything to ask the model?"""
        return bool(self.messages)
