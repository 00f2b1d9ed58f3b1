"""One OpenAI-compatible endpoint: a call, and what its failures mean.

`chat.completions.create` is the call that every server has. The SDK neither retries nor parses
here: its retries know no budget, and its parsing throws a paid text away where it does not fit.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import urlsplit

import httpx2
import openai

from synthgen.llm import budget, rate_limiter
from synthgen.llm.chat_request import Message
from synthgen.llm.journal import Completion

MOST_BYTES = 16 << 20  # of a response
CONNECT_SECONDS = 10.0
TRANSIENT_STATUS = (408, 409, 425, 429)
REQUEST_STATUS = (400, 413, 414, 422)  # this request is too long, or refused for its content
NO_MONEY = ("insufficient_quota", "billing_hard_limit_reached")
# In error texts, where a server may show a part of the key.
KEY_PATTERN = re.compile(r"\bsk-[\w*.-]{6,}")
# Parameters of the SDK's call; all others go into extra_body.
SDK_PARAMETERS = (
    "messages",
    "temperature",
    "top_p",
    "max_tokens",
    "max_completion_tokens",
    "response_format",
)

Scope = Literal["transient", "request", "run", "batch"]


class EndpointError(Exception):
    """A call that gave no completion.

    scope: "transient" (try again), "request" (this request is refused), "run" (every request
    will fail), "batch" (the batch holds no result of it). wait: seconds that the server asks to
    wait.
    parameter: the one that the server names as wrong.
    """

    def __init__(
        self,
        scope: Scope,
        message: str,
        *,
        status: int = 0,
        wait: float | None = None,
        parameter: str | None = None,
    ) -> None:
        super().__init__(message)
        self.scope = scope
        self.message = message
        self.status = status
        self.wait = wait
        self.parameter = parameter


@dataclass(kw_only=True)
class Endpoint:
    """A server and a model. Threads share it: the connections are pooled."""

    base_url: str
    model: str
    key: str | None
    timeout: float  # seconds for a whole response
    connections: int
    client: openai.OpenAI = field(init=False, repr=False)

    def __post_init__(self) -> None:
        most_connections = self.connections + 2
        limits = httpx2.Limits(
            max_connections=most_connections, max_keepalive_connections=most_connections
        )
        connect_seconds = min(CONNECT_SECONDS, self.timeout)
        transport = openai.DefaultHttpx2Client(
            limits=limits,
            # A redirect would carry prompts, if not the key, to a host that the user did not name.
            follow_redirects=False,
            timeout=httpx2.Timeout(self.timeout, connect=connect_seconds),
        )
        self.client = openai.OpenAI(
            base_url=self.base_url,
            api_key=self.key or "none",
            max_retries=0,
            http_client=transport,
        )

    @property
    def name(self) -> str:
        """The endpoint in the journal: a hash, since an address may be confidential."""
        parts = urlsplit(self.base_url)
        path = parts.path.rstrip("/")
        address = f"{parts.scheme}://{parts.hostname}:{parts.port}{path} {self.model}"
        return hashlib.sha256(address.encode()).hexdigest()[:16]

    def redact_key(self, text: str) -> str:
        """The text without the key, should a server repeat it."""
        return text.replace(self.key, "[key]") if self.key else text

    def redact_error(self, text: str) -> str:
        """An error text without the key and without anything that looks like one."""
        return KEY_PATTERN.sub("[key]", self.redact_key(text))

    def complete(self, body: dict[str, Any]) -> Completion:
        """One chat completion. Raises EndpointError."""
        try:
            response = self._post(body)
        except openai.APIStatusError as error:
            raise self.error_of_status(error) from None
        except (openai.APITimeoutError, httpx2.TimeoutException):
            raise EndpointError("transient", f"no answer within {self.timeout:g} s") from None
        except (openai.APIConnectionError, httpx2.HTTPError) as error:
            cause = error.__cause__ or error
            message = self.redact_error(f"no connection ({cause})")
            raise EndpointError("transient", message) from None
        return self._parse(response, body)

    def _post(self, body: dict[str, Any]) -> bytes:
        """The raw response. The time-out is for the whole of it, however slowly it arrives."""
        known = {name: body[name] for name in SDK_PARAMETERS if name in body}
        extra = {name: value for name, value in body.items() if name not in known}
        start = time.monotonic()
        chunks: list[bytes] = []
        size = 0
        with self.client.chat.completions.with_streaming_response.create(
            model=self.model, **known, extra_body=extra or None
        ) as response:
            for chunk in response.iter_bytes():
                chunks.append(chunk)
                size += len(chunk)
                if size > MOST_BYTES:
                    message = f"the response is larger than {MOST_BYTES >> 20} MB"
                    raise EndpointError("request", message)
                if time.monotonic() - start > self.timeout:
                    message = f"no whole answer within {self.timeout:g} s"
                    raise EndpointError("transient", message)
        return b"".join(chunks)

    def _parse(self, response: bytes, body: Mapping[str, Any]) -> Completion:
        try:
            content = json.loads(response)
            content["choices"][0]["message"].get("content")  # is it there?
        except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError):
            beginning = response[:120].decode(errors="replace")
            message = self.redact_error(f"the response is no chat completion: {beginning!r}")
            raise EndpointError("transient", message) from None
        return self.completion_of(content, body["messages"])

    def completion_of(
        self, content: Mapping[str, Any], messages: Sequence[Message] = ()
    ) -> Completion:
        """The completion in a response's JSON object, with its usage.

        messages: what was sent, for an estimate of the tokens where the server counted none.
        """
        [choice, *_] = content.get("choices") or [{}]
        message = choice.get("message") or {}
        text = message.get("content")
        text = self.redact_key(text) if isinstance(text, str) else None
        usage = content.get("usage") or {}
        prompt_tokens = usage.get("prompt_tokens")
        completion_tokens = usage.get("completion_tokens")
        is_counted = isinstance(prompt_tokens, int) and isinstance(completion_tokens, int)
        if not is_counted:
            prompt_tokens = budget.estimate_prompt_tokens(messages)
            completion_tokens = budget.estimate_tokens(text or "")
        details = usage.get("prompt_tokens_details") or {}
        finish_reason = choice.get("finish_reason")
        if message.get("refusal"):
            finish_reason = "content_filter"
        model = content.get("model") or self.model
        return Completion(
            text=text,
            finish=str(finish_reason) if finish_reason else None,
            model=self.redact_key(str(model)),
            prompt_tokens=int(prompt_tokens or 0),
            completion_tokens=int(completion_tokens or 0),
            cached_tokens=int(details.get("cached_tokens") or 0),
            estimated=not is_counted,
        )

    def error_of_status(self, error: openai.APIStatusError) -> EndpointError:
        """What an HTTP status means for this request and the run."""
        status = error.status_code
        if 300 <= status < 400:
            message = f"HTTP {status}: the server sends us elsewhere"
            return EndpointError("run", message, status=status)
        message = self.redact_error(f"HTTP {status}: {_server_message(error)}")
        wait: float | None = None
        scope: Scope
        if status in TRANSIENT_STATUS or status >= 500:
            scope = "run" if str(error.code or "") in NO_MONEY else "transient"
            wait = rate_limiter.retry_after(error.response.headers)
        else:
            scope = "request" if status in REQUEST_STATUS else "run"
        return EndpointError(scope, message, status=status, wait=wait, parameter=error.param)


def _server_message(error: openai.APIStatusError) -> str:
    """What the server says about it, in one line."""
    body = error.body
    for name in ("message", "error", "detail"):
        if isinstance(body, dict) and body.get(name):
            body = body[name]
            break
    if isinstance(body, str):
        text = body
    elif body:
        text = json.dumps(body)
    else:
        text = error.response.reason_phrase or "no reason given"
    return " ".join(text.split())[:300]
