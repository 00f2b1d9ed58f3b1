"""From a request to its response: the journal first, then the endpoint."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

from fletching.errors import InputError
from fletching_synthgen.llm.budget import Budget, estimate_prompt_tokens
from fletching_synthgen.llm.chat_request import ChatRequest
from fletching_synthgen.llm.endpoint import Endpoint, EndpointError
from fletching_synthgen.llm.journal import Completion, Journal
from fletching_synthgen.llm.rate_limiter import RateLimiter, backoff
from fletching_synthgen.llm.response_parsing import RejectedResponseError, parse_response
from fletching_synthgen.llm.structured_output import MODES, UNKNOWN_MODE, RequestFormat, probe

# Requests in a row that the server refuses before the whole run is taken for wrong.
MOST_REFUSALS = 10
RESUME = "all answers so far are in the journal: the same command goes on from there"
SEED_DIGITS = 7  # of the request's key

# (request, text of the response, what is wrong with it) → a request for the right form
RepairRequest = Callable[[ChatRequest, str, str], ChatRequest]


@dataclass(frozen=True, kw_only=True)
class LLMResponse:
    """A parsed response (`content`), or why there is none (`rejection`), with the raw text."""

    content: dict[str, Any] | None = None
    rejection: RejectedResponseError | None = None
    raw_text: str = ""
    model: str = ""


class RunStoppedError(Exception):
    """The run ends; this request was not sent."""


@dataclass(kw_only=True)
class LLMClient:
    """Sends requests, from many threads at once; journals what is paid for before it is used.

    sampling: parameters of each request (temperature, top_p, max_tokens, …).
    repair_request: None where responses are not repaired.
    longest_wait: seconds; the run stops where the server asks for a longer pause.
    structured_output_mode: None to find the best one by a probe.
    online: False where only journaled completions are used, as with the Batch API.
    """

    endpoint: Endpoint
    journal: Journal
    budget: Budget
    rate_limiter: RateLimiter
    sampling: Mapping[str, Any]
    repair_request: RepairRequest | None
    retries: int
    longest_wait: float
    structured_output_mode: str | None = None
    online: bool = True

    probing: threading.Lock = field(default_factory=threading.Lock, init=False)
    cached_format: RequestFormat | None = field(default=None, init=False)
    last_success: float = field(default=0.0, init=False)  # by the monotonic clock
    refusals: int = field(default=0, init=False)  # in a row

    def respond(self, request: ChatRequest) -> LLMResponse:
        """The response to a request, whether paid for now or before.

        Raises InputError where the run cannot go on, RunStoppedError where it ends.
        """
        try:
            completion = self._complete(request)
        except EndpointError as error:
            reasons = {"request": "refused by the server", "batch": "no answer in the batch"}
            reason = reasons.get(error.scope, "server failed")
            return LLMResponse(rejection=RejectedResponseError(reason, error.message))
        response = parse_completion(request, completion)
        repair = self.repair_of(request, response)
        if repair is None:
            return response
        self.budget.count_event("repairs")
        try:
            repaired = parse_completion(request, self._complete(repair))
        except EndpointError:
            return response
        return repaired if repaired.content else response

    def repair_of(self, request: ChatRequest, response: LLMResponse) -> ChatRequest | None:
        """The one further request that a response without the right form is worth."""
        rejection = response.rejection
        if rejection is None or not rejection.repairable or self.repair_request is None:
            return None
        return self.repair_request(request, response.raw_text, rejection.detail)

    def body(self, request: ChatRequest) -> dict[str, Any]:
        """The body of a request.

        Each has its own seed, so that equal prompts get different responses.
        """
        seed = int(request.key[:SEED_DIGITS], 16)
        sampling = {"seed": seed, **self.sampling}
        return self.request_format().body(request.messages, request.schema, sampling)

    def request_format(self) -> RequestFormat:
        """How the endpoint's requests are written: probed once, and noted in the journal."""
        with self.probing:
            if self.cached_format is None:
                self.cached_format = self._noted_format() or self._probed_format()
            return self.cached_format

    def _complete(self, request: ChatRequest) -> Completion:
        """The completion of a request: the journal's, else the endpoint's, journaled."""
        completion = self.journal.get(request.key)
        if completion is not None:
            self.budget.count(completion, new=False)
            return completion
        if not self.online:
            raise EndpointError("batch", "it failed, expired or was not submitted")
        completion = self._send(self.body(request), self._handle_failure)
        self.journal.put(request.key, completion)
        self.budget.count(completion, new=True)
        return completion

    # The keys of a probe's note (`asked`, `rung`, `drop`, `limit`) are those of journals on disk.

    def _noted_format(self) -> RequestFormat | None:
        for note in reversed(self.journal.notes):
            is_ours = note.get("probe") == self.endpoint.name
            if is_ours and note.get("asked") == self.structured_output_mode:
                return RequestFormat(
                    structured_output_mode=note["rung"],
                    dropped_parameters=tuple(note["drop"]),
                    token_limit_name=note["limit"],
                )
        return None

    def _probed_format(self) -> RequestFormat:
        mode = self.structured_output_mode
        modes = MODES if mode is None else (mode,)
        try:
            request_format, completions = probe(self._send_probe, self.sampling, modes)
        except EndpointError as error:
            _stop_run(error)
        tokens = (entry.prompt_tokens + entry.completion_tokens for entry in completions)
        self.journal.note(
            probe=self.endpoint.name,
            asked=mode,
            rung=request_format.structured_output_mode,
            drop=list(request_format.dropped_parameters),
            limit=request_format.token_limit_name,
            tokens=sum(tokens),
        )
        return request_format

    def _send_probe(self, body: dict[str, Any], is_last: bool) -> Completion:
        """One completion of a probe.

        A 500 may mean an unknown mode: one retry, except for the last mode.
        """

        def handle(error: EndpointError, attempt: int, start: float) -> None:
            """As `_handle_failure`, for a probe."""
            may_be_unknown = error.status in UNKNOWN_MODE and not is_last
            was_retried = attempt >= min(1, self.retries)
            if error.scope == "request" or (may_be_unknown and was_retried):
                raise error
            self._handle_failure(error, attempt, start)

        return self._send(body, handle)

    def _send(
        self, body: dict[str, Any], handle_failure: Callable[[EndpointError, int, float], None]
    ) -> Completion:
        """One completion, over all retries.

        handle_failure(error, attempt, start) returns for another attempt, or raises.
        """
        start = time.monotonic()
        size = estimate_prompt_tokens(body["messages"])
        for attempt in range(self.retries + 1):
            seconds = self.rate_limiter.reserve_turn(size)
            if not self.rate_limiter.wait(seconds):
                raise RunStoppedError
            try:
                completion = self.endpoint.complete(dict(body))
            except EndpointError as error:
                handle_failure(error, attempt, start)
                continue
            self.last_success = time.monotonic()
            self.refusals = 0
            used = completion.prompt_tokens + completion.completion_tokens
            self.rate_limiter.correct(used - size)
            return completion
        raise AssertionError("the last attempt returns or raises")

    def _handle_failure(self, error: EndpointError, attempt: int, start: float) -> None:
        """Wait for another attempt, or raise.

        EndpointError: this request is refused. InputError: the run stops.
        """
        if error.scope == "request":
            self.refusals += 1
            if self.refusals < MOST_REFUSALS:
                raise error
        if error.scope in ("run", "request"):
            _stop_run(error)
        if error.wait is not None and error.wait > self.longest_wait:
            raise InputError(
                f"the server wants a pause of {error.wait:,.0f} s ({error.message})",
                f"wait and run again, or pass --longest-wait; {RESUME}",
            ) from None
        if attempt == self.retries:
            others_succeed = self.last_success > start
            if others_succeed:
                raise error
            raise InputError(
                f"the server does not answer after {attempt + 1} attempts: {error.message}",
                f"check the server; {RESUME}",
            ) from None
        self.budget.count_event("retries")
        if error.wait is not None:
            self.rate_limiter.pause(error.wait)
        elif not self.rate_limiter.wait(backoff(attempt)):
            raise RunStoppedError


def parse_completion(request: ChatRequest, completion: Completion) -> LLMResponse:
    """The response in a completion, parsed by the request's schema."""
    text = completion.text or ""
    try:
        content = parse_response(completion.text, completion.finish, request.schema)
    except RejectedResponseError as rejection:
        return LLMResponse(rejection=rejection, raw_text=text, model=completion.model)
    return LLMResponse(content=content, raw_text=text, model=completion.model)


def _stop_run(error: EndpointError) -> NoReturn:
    """Raise InputError with the server's words and what to do."""
    message = f"the server refuses: {error.message}"
    raise InputError(message, _advice(error)) from None


def _advice(error: EndpointError) -> str:
    message = error.message.lower()
    if error.status in (401, 403):
        return "pass the key by --api-key-env NAME or --api-key-file FILE, and check its rights"
    if 300 <= error.status < 400:
        return "pass that address by --base-url, where you trust it"
    if error.status == 404:
        return "check --base-url (it usually ends in /v1) and --model"
    if error.status == 402 or any(word in message for word in ("quota", "billing", "credit")):
        return f"top up the account; {RESUME}"
    return f"correct what the server names; {RESUME}"
