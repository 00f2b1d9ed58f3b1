"""A server that a user names, the key that goes to it, and the removal of the key from texts.

One rule for all tools: a key goes where the user sends it. OPENAI_API_KEY, which was exported for
OpenAI, goes to OpenAI's server and no other, unless --api-key-env names it.
"""

from __future__ import annotations

import base64
import functools
import os
import re
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from fletching.errors import UsageError

OPENAI_HOST = "api.openai.com"
OPENAI_VARIABLE = "OPENAI_API_KEY"
# In error texts, where a server may show a part of the key.
KEY_PATTERN = re.compile(r"\bsk-[\w*.-]{6,}")
REDACTED = "[key]"
LONG_KEY = 8  # characters from which the base64 and hexadecimal forms of a key are distinctive


class ServerAddress(NamedTuple):
    """Where requests go, and the key that goes with them."""

    base_url: str
    key: str | None

    def redact(self, text: str) -> str:
        """The text without the key, should a server repeat it in any form."""
        pattern = key_pattern(self.key)
        return pattern.sub(REDACTED, text) if pattern else text

    def redact_error(self, text: str) -> str:
        """An error text without the key and without anything that looks like one."""
        return KEY_PATTERN.sub(REDACTED, self.redact(text))

    def describe_redirect(self, status: int, target: str | None) -> str:
        """What to say of a redirect, which no tool follows. target: the Location header.

        The texts, if not the key, would go to a host that the user did not name.
        """
        shown = self.redact_error(target or "nowhere")[:200]
        return f"HTTP {status}: the server sends us to {shown}, and redirects are not followed"


def server_address(
    base_url: str, *, key_variable: str | None = None, key_file: str | None = None
) -> ServerAddress:
    """The server of --base-url with its key. Raises UsageError.

    key_variable: of --api-key-env. key_file: of --api-key-file, which wins.
    """
    check_address(base_url)
    if key_file:
        return ServerAddress(base_url, _key_of_file(key_file))
    is_openai = urlsplit(base_url).hostname == OPENAI_HOST
    variable = key_variable or (OPENAI_VARIABLE if is_openai else None)
    return ServerAddress(base_url, _key_of_variable(variable) if variable else None)


def check_address(base_url: str) -> None:
    """Raises UsageError where --base-url is no plain http address."""
    try:
        parts = urlsplit(base_url)
        is_http = parts.scheme in ("http", "https") and bool(parts.hostname)
        is_http = is_http and (parts.port is None or parts.port > 0)
    except ValueError:
        is_http = False
    if not is_http:
        raise UsageError(
            "--base-url is no http address", "e.g. --base-url http://localhost:8000/v1"
        )
    if parts.username or parts.password or parts.query:
        raise UsageError(
            "--base-url holds a user, password or query",
            "give the key by --api-key-env NAME or --api-key-file FILE",
        )


def _key_of_file(path: str) -> str:
    key = Path(path).read_text("utf-8").strip()
    if not _is_key(key):
        raise UsageError(
            f"--api-key-file {path} holds no key", "put the key and nothing else into it"
        )
    return key


def _key_of_variable(name: str) -> str:
    key = os.environ.get(name, "").strip()
    if not key:
        raise UsageError(
            f"the environment variable {name} is not set",
            f"export {name}=..., or pass --api-key-env NAME, --api-key-file FILE, "
            "or --base-url of a local server",
        )
    if not _is_key(key):
        raise UsageError(
            f"the environment variable {name} holds no key", "put the key and nothing else into it"
        )
    return key


def _is_key(text: str) -> bool:
    """Can a header carry it?"""
    return bool(text) and text.isascii() and text.isprintable() and " " not in text


@functools.cache
def key_pattern(key: str | None) -> re.Pattern[str] | None:
    r"""What finds a key in a text: plain, by `\u0041`, `\x41`, `%41`, `&#65;`, base64 or hex.

    Escapes may be mixed and nested: a JSON text inside a JSON text has `\\u0041`.
    """
    if not key:
        return None
    forms = ["".join(map(_character_pattern, key))]
    if len(key) >= LONG_KEY:
        content = key.encode()
        forms += map(re.escape, _base64_cores(content))
        forms.append(f"(?i:{content.hex()})")
    return re.compile("|".join(forms))


def _character_pattern(character: str) -> str:
    code = ord(character)
    escapes = (
        rf"\\+u\{{?0*{code:x}\}}?",
        rf"\\+x{code:02x}",
        f"%(?:25)*{code:02x}",
        f"&#0*{code};",
        f"&#x0*{code:x};",
    )
    return rf"(?:\\*{re.escape(character)}|(?i:{'|'.join(escapes)}))"


def _base64_cores(content: bytes) -> list[str]:
    """The part of its base64 that does not depend on the bytes around it, at each alignment."""
    cores: list[str] = []
    for offset in range(3):
        start = -(-offset * 4 // 3)
        end = (offset + len(content)) * 8 // 6
        padded = b"\0" * offset + content
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            cores.append(encode(padded).decode()[start:end])
    return [*dict.fromkeys(cores)]
