"""One OpenAI-compatible endpoint: a call, and what its failures mean.

`chat.completions.create` is the call that every server has. The SDK neither retries nor parses
here: its retries know no budget, and its parsing throws a paid text away where it does not fit.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import urlsplit

import openai

from fletching.http_client import ResponseTooLargeError, http_client, parse_json
from fletching.server_address import ServerAddress
from fletching_synthgen.llm import budget, rate_limiter
from fletching_synthgen.llm.chat_request import Message
from fletching_synthgen.llm.journal import Completion

MOST_BYTES = 16 << 20  # of a response
MOST_SHOWN_BYTES = 4096  # of a body, in which an error's text is looked for
MOST_MESSAGE = 300  # characters of an error's text
MOST_NAME = 200  # characters of a model's name or a finish reason
MOST_TOKENS = 10**9  # of one exchange; more is no count
TRANSIENT_STATUS = (408, 409, 425, 429)
REQUEST_STATUS = (400, 413, 414, 422)  # this request is too long, or refused for its content
NO_MONEY = ("insufficient_quota", "billing_hard_limit_reached")
# Parameters of the SDK's call; all others go into extra_body.
SDK_PARAMETERS = (
    "messages",
    "temperature",
    "top_p",
    "max_tokens",
    "max_completion_tokens",
    "response_format",
)

# What a call raises, besides bugs.
SERVER_FAILURES = (openai.OpenAIError, ResponseTooLargeError)

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

    address: ServerAddress
    model: str
    timeout: float  # seconds for a whole exchange
    connections: int
    client: openai.OpenAI = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.client = self.new_client(MOST_BYTES)

    def new_client(self, most_bytes: int) -> openai.OpenAI:
        """A client of this server that takes responses of at most `most_bytes`."""
        base_url = self.address.base_url
        transport = http_client(
            base_url,
            seconds=self.timeout,
            most_bytes=most_bytes,
            connections=self.connections + 2,
        )
        return openai.OpenAI(
            base_url=base_url,
            api_key=self.address.key or "none",
            max_retries=0,
            timeout=self.timeout,
            http_client=transport,
        )

    @property
    def name(self) -> str:
        """The endpoint in the journal: a hash, since an address may be confidential."""
        parts = urlsplit(self.address.base_url)
        path = parts.path.rstrip("/")
        address = f"{parts.scheme}://{parts.hostname}:{parts.port}{path} {self.model}"
        return hashlib.sha256(address.encode()).hexdigest()[:16]

    def complete(self, body: dict[str, Any]) -> Completion:
        """One chat completion. Raises EndpointError."""
        known = {name: body[name] for name in SDK_PARAMETERS if name in body}
        extra = {name: value for name, value in body.items() if name not in known}
        try:
            response = self.client.chat.completions.with_raw_response.create(
                model=self.model, **known, extra_body=extra or None
            )
        except SERVER_FAILURES as error:
            raise self.error_of(error) from None
        return self._parse(response.content, body)

    def _parse(self, response: bytes, body: Mapping[str, Any]) -> Completion:
        try:
            content = parse_json(response)
            content["choices"][0]["message"].get("content")  # is it there?
        except (ValueError, LookupError, TypeError, AttributeError):
            text = response[:MOST_SHOWN_BYTES].decode(errors="replace")
            beginning = self.address.redact_error(text)[:120]
            message = f"the response is no chat completion: {beginning!r}"
            raise EndpointError("transient", message) from None
        return self.completion_of(content, body["messages"])

    def completion_of(self, content: object, messages: Sequence[Message] = ()) -> Completion:
        """The completion in a response's JSON object, with its usage; nothing in it is trusted.

        messages: what was sent, for an estimate of the tokens where the server counted none.
        """
        redact = self.address.redact
        response = _object(content)
        choices = response.get("choices")
        choice = _object(choices[0] if isinstance(choices, list) and choices else None)
        message = _object(choice.get("message"))
        text = message.get("content")
        text = redact(text) if isinstance(text, str) else None
        usage = _object(response.get("usage"))
        prompt_tokens = _token_count(usage, "prompt_tokens")
        completion_tokens = _token_count(usage, "completion_tokens")
        is_counted = prompt_tokens is not None and completion_tokens is not None
        if prompt_tokens is None or completion_tokens is None:
            prompt_tokens = budget.estimate_prompt_tokens(messages)
            completion_tokens = budget.estimate_tokens(text or "")
        details = _object(usage.get("prompt_tokens_details"))
        finish_reason = choice.get("finish_reason")
        if message.get("refusal"):
            finish_reason = "content_filter"
        return Completion(
            text=text,
            finish=redact(str(finish_reason))[:MOST_NAME] if finish_reason else None,
            model=redact(str(response.get("model") or self.model))[:MOST_NAME],
            prompt_tokens=prompt_tokens,
            completion_tokens=completion_tokens,
            cached_tokens=min(_token_count(details, "cached_tokens") or 0, prompt_tokens),
            estimated=not is_counted,
        )

    def error_of(self, error: Exception) -> EndpointError:
        """What a failure of the client means for this request and the run."""
        if isinstance(error, openai.APIStatusError):
            return self._error_of_status(error)
        if isinstance(error, openai.APITimeoutError):
            return EndpointError("transient", f"no whole answer within {self.timeout:g} s")
        if isinstance(error, ResponseTooLargeError):
            return EndpointError("request", str(error))
        cause = error.__cause__ or error
        message = self.address.redact_error(f"no connection ({cause})")
        return EndpointError("transient", " ".join(message.split())[:MOST_MESSAGE])

    def _error_of_status(self, error: openai.APIStatusError) -> EndpointError:
        status = error.status_code
        if 300 <= status < 400:
            target = error.response.headers.get("location")
            message = self.address.describe_redirect(status, target)
            return EndpointError("run", message, status=status)
        message = f"HTTP {status}: {self.address.redact_error(_server_message(error))}"
        wait: float | None = None
        scope: Scope
        if status in TRANSIENT_STATUS or status >= 500:
            scope = "run" if str(error.code or "") in NO_MONEY else "transient"
            wait = rate_limiter.retry_after(error.response.headers)
        else:
            scope = "request" if status in REQUEST_STATUS else "run"
        return EndpointError(
            scope, message[:MOST_MESSAGE], status=status, wait=wait, parameter=error.param
        )


def _object(value: object) -> Mapping[str, Any]:
    """The value where it is a JSON object, else an empty one."""
    return value if isinstance(value, dict) else {}


def _token_count(usage: Mapping[str, Any], name: str) -> int | None:
    """A count of tokens; None where the server sent no sensible number."""
    value = usage.get(name)
    if not isinstance(value, int) or isinstance(value, bool):
        return None
    return value if 0 <= value <= MOST_TOKENS else None


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
    return " ".join(text[:MOST_SHOWN_BYTES].split())
