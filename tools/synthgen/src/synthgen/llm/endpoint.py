"""One OpenAI-compatible endpoint: a call, what its failures mean, and which forms of structured output it takes.

`chat.completions.create` is the call that every server has. The SDK neither retries nor parses here: its retries
know no budget, and its parsing throws the paid text away when it does not fit.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlsplit

import httpx2
import openai

from synthgen.llm import budget, rate_limiter, response_parsing
from synthgen.llm.journal import Answer

RUNGS = ("json-schema", "json-object-schema", "json-object", "prompt")
LARGEST = 16 << 20  # bytes of a response
TRANSIENT = (408, 409, 425, 429)
THIS_REQUEST = (400, 413, 414, 422)  # too long, or refused for its content
NO_MONEY = ("insufficient_quota", "billing_hard_limit_reached")
KEYLIKE = re.compile(
    r"\bsk-[\w*.-]{6,}"
)  # in error texts, where a server may show a part of the key


class Failed(Exception):
    """A call without an answer. scope: "transient" (ask again), "request" (this one never), "run" (none of them), "batch" (not in it)."""

    def __init__(
        self,
        scope: str,
        words: str,
        status: int = 0,
        wait: float | None = None,
        param: str | None = None,
    ) -> None:
        super().__init__(words)
        self.scope, self.words, self.status, self.wait, self.param = (
            scope,
            words,
            status,
            wait,
            param,
        )


@dataclass(frozen=True)
class Manner:
    """How an endpoint wants to be asked, as the probe found out."""

    rung: str = "prompt"
    drop: tuple[str, ...] = ()  # parameters that it refuses
    limit: str = "max_tokens"  # or max_completion_tokens

    def body(
        self,
        messages: Sequence[Mapping[str, str]],
        schema: dict[str, Any],
        sampling: Mapping[str, Any],
    ) -> dict[str, Any]:
        """The body of a request, less the model."""
        body: dict[str, Any] = {"messages": list(messages), **sampling}
        body[self.limit] = body.pop("max_tokens")
        form = response_format(self.rung, schema)
        if form:
            body["response_format"] = form
        return {name: value for name, value in body.items() if name not in self.drop}


def response_format(rung: str, schema: dict[str, Any]) -> dict[str, Any] | None:
    if rung == "json-schema":
        return {
            "type": "json_schema",
            "json_schema": {"name": "reply", "schema": schema, "strict": True},
        }
    if rung == "json-object-schema":
        return {"type": "json_object", "schema": schema}
    return {"type": "json_object"} if rung == "json-object" else None


@dataclass
class Endpoint:
    """A server and a model. Threads share it: the connections are pooled."""

    base_url: str
    model: str
    key: str | None
    timeout: float  # seconds for a whole answer
    connections: int
    client: openai.OpenAI = field(init=False, repr=False)

    def __post_init__(self) -> None:
        limits = httpx2.Limits(
            max_connections=self.connections + 2, max_keepalive_connections=self.connections + 2
        )
        # A redirect would carry prompts, if not the key, to a host that the user did not name.
        transport = openai.DefaultHttpx2Client(
            limits=limits,
            follow_redirects=False,
            timeout=httpx2.Timeout(self.timeout, connect=min(10.0, self.timeout)),
        )
        self.client = openai.OpenAI(
            base_url=self.base_url, api_key=self.key or "none", max_retries=0, http_client=transport
        )

    @property
    def name(self) -> str:
        """The endpoint in the journal: a hash, since an address may tell more than it should."""
        parts = urlsplit(self.base_url)
        return hashlib.sha256(
            f"{parts.scheme}://{parts.hostname}:{parts.port}{parts.path.rstrip('/')} {self.model}".encode()
        ).hexdigest()[:16]

    def redact(self, text: str) -> str:
        """The text without the key, should a server say it back."""
        return text.replace(self.key, "[key]") if self.key else text

    def told(self, text: str) -> str:
        """What a server said of a failure, fit to be shown."""
        return KEYLIKE.sub("[key]", self.redact(text))

    def ask(self, body: dict[str, Any]) -> Answer:
        """One answer, or Failed."""
        try:
            return self._answer(self._exchange(body), body)
        except openai.APIStatusError as error:
            raise self.failure(error) from None
        except (openai.APITimeoutError, httpx2.TimeoutException):
            raise Failed("transient", f"no answer within {self.timeout:g} s") from None
        except (openai.APIConnectionError, httpx2.HTTPError) as error:
            raise Failed(
                "transient", self.told(f"no connection ({error.__cause__ or error})")
            ) from None

    def _exchange(self, body: dict[str, Any]) -> bytes:
        """The raw response. The time-out holds for the whole of it, however slowly it drips."""
        known = {
            name: body[name]
            for name in (
                "messages",
                "temperature",
                "top_p",
                "max_tokens",
                "max_completion_tokens",
                "response_format",
            )
            if name in body
        }
        extra = {name: value for name, value in body.items() if name not in known}
        started = time.monotonic()
        chunks, size = [], 0
        with self.client.chat.completions.with_streaming_response.create(
            model=self.model, **known, extra_body=extra or None
        ) as response:
            for chunk in response.iter_bytes():
                chunks.append(chunk)
                size += len(chunk)
                if size > LARGEST:
                    raise Failed("request", f"the response is larger than {LARGEST >> 20} MB")
                if time.monotonic() - started > self.timeout:
                    raise Failed("transient", f"no whole answer within {self.timeout:g} s")
        return b"".join(chunks)

    def _answer(self, raw: bytes, body: dict[str, Any]) -> Answer:
        try:
            content = json.loads(raw)
            choice = content["choices"][0]
            text = choice["message"].get("content")
        except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError):
            raise Failed(
                "transient",
                self.told(
                    f"the response is no chat completion: {raw[:120].decode(errors='replace')!r}"
                ),
            ) from None
        return self.counted(content, choice, text, body)

    def counted(
        self, content: dict[str, Any], choice: dict[str, Any], text: Any, body: dict[str, Any]
    ) -> Answer:
        """The answer with its usage; where the server counted nothing, with an estimate."""
        text = self.redact(text) if isinstance(text, str) else None
        usage = content.get("usage") or {}
        prompt, completion = usage.get("prompt_tokens"), usage.get("completion_tokens")
        estimated = not isinstance(prompt, int) or not isinstance(completion, int)
        if estimated:
            prompt, completion = budget.prompt_tokens(body["messages"]), budget.tokens(text or "")
        cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0
        finish, model = choice.get("finish_reason"), content.get("model") or self.model
        if (choice.get("message") or {}).get("refusal"):
            finish = "content_filter"
        return Answer(
            text,
            str(finish) if finish else None,
            self.redact(str(model)),
            int(prompt or 0),
            int(completion or 0),
            int(cached),
            estimated,
        )

    def failure(self, error: openai.APIStatusError) -> Failed:
        status, code = error.status_code, str(error.code or "")
        words = self.told(f"HTTP {status}: {_words(error)}")
        if 300 <= status < 400:
            return Failed("run", f"HTTP {status}: the server sends us elsewhere", status)
        if status in TRANSIENT or status >= 500:
            scope = "run" if code in NO_MONEY else "transient"
            return Failed(
                scope, words, status, rate_limiter.retry_after(error.response.headers), error.param
            )
        return Failed(
            "request" if status in THIS_REQUEST else "run", words, status, None, error.param
        )


def _words(error: openai.APIStatusError) -> str:
    """What the server said of it, in one line."""
    body = error.body
    for name in ("message", "error", "detail"):
        if isinstance(body, dict) and body.get(name):
            body = body[name]
            break
    text = (
        body
        if isinstance(body, str)
        else json.dumps(body)
        if body
        else error.response.reason_phrase or "no reason given"
    )
    return " ".join(text.split())[:300]


PROBE = response_parsing.shape(
    zorvel="string"
)  # a name that no model hits on without being made to
GREETING = ({"role": "user", "content": "Say hello. Reply in JSON."},)


def probe(
    ask: Any, sampling: Mapping[str, Any], rungs: Sequence[str] = RUNGS
) -> tuple[Manner, list[Answer]]:
    """Find out how an endpoint wants to be asked: at most a handful of calls of a few tokens.

    The first form that is enforced is taken (its reply has a field that only the schema names), else the first
    that is not refused. Servers refuse what they do not know by 400, 422, or 500; a parameter that is named in
    the refusal is dropped and the same form asked again.
    """
    manner, accepted, spent = Manner(), None, []
    for rung in rungs:
        manner = replace(manner, rung=rung)
        answer, manner = _try(ask, manner, sampling, last=rung == rungs[-1] and accepted is None)
        if answer is None:
            continue
        spent.append(answer)
        accepted = accepted or manner
        try:
            response_parsing.read(answer.text, answer.finish, PROBE)
            if rung != "prompt":
                return manner, spent
        except response_parsing.Unusable:
            continue
    return replace(accepted or manner, drop=manner.drop, limit=manner.limit), spent


def _try(
    ask: Any, manner: Manner, sampling: Mapping[str, Any], last: bool
) -> tuple[Answer | None, Manner]:
    """The answer in this form, or None where it is refused, and the manner without refused parameters."""
    for _ in range(4):
        body = manner.body(GREETING, PROBE, {"seed": 0, **sampling, "max_tokens": 64})
        try:
            return ask(body, last), manner
        except Failed as failure:
            changed = _without(manner, failure, body)
            if changed:
                manner = changed
            elif last or not (failure.scope == "request" or failure.status in (500, 501)):
                raise
            else:
                return None, manner
    return None, manner


def _without(manner: Manner, failure: Failed, body: Mapping[str, Any]) -> Manner | None:
    """The manner without the parameter that the failure names, or None where it names none that can go."""
    if failure.scope != "request":
        return None
    if "max_completion_tokens" in failure.words and manner.limit == "max_tokens":
        return replace(manner, limit="max_completion_tokens")
    for name in ("seed", "temperature", "top_p"):
        if name in body and (failure.param == name or re.search(rf"\b{name}\b", failure.words)):
            return replace(manner, drop=(*manner.drop, name))
    return None
