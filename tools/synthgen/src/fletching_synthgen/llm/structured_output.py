"""Structured output: the ways to make a server reply in JSON, and a probe for the best one."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from fletching_synthgen.llm.chat_request import JSONSchema, Message
from fletching_synthgen.llm.endpoint import EndpointError
from fletching_synthgen.llm.journal import Completion
from fletching_synthgen.llm.response_parsing import (
    RejectedResponseError,
    object_schema,
    parse_response,
)

# From the strictest to the one that every server takes: the form is only described in the prompt.
MODES = ("json-schema", "json-object-schema", "json-object", "prompt")
# No model replies with this field unless it is made to.
PROBE_SCHEMA = object_schema(zorvel="string")
PROBE_MESSAGES = ({"role": "user", "content": "Say hello. Reply in JSON."},)
PROBE_TOKENS = 64
PROBE_ATTEMPTS = 4  # for each mode, each with one parameter less
OPTIONAL_PARAMETERS = ("seed", "temperature", "top_p")
UNKNOWN_MODE = (500, 501)  # servers that do not know a mode may also reply with these

# (body, is it the last mode?) → the completion. Raises EndpointError.
SendProbe = Callable[[dict[str, Any], bool], Completion]


@dataclass(frozen=True, kw_only=True)
class RequestFormat:
    """How requests to an endpoint are written, as the probe found out."""

    structured_output_mode: str = "prompt"
    dropped_parameters: tuple[str, ...] = ()  # which the endpoint refuses
    token_limit_name: str = "max_tokens"  # or max_completion_tokens

    def body(
        self, messages: Sequence[Message], schema: JSONSchema, sampling: Mapping[str, Any]
    ) -> dict[str, Any]:
        """The body of a request, without the model."""
        body: dict[str, Any] = {"messages": list(messages), **sampling}
        body[self.token_limit_name] = body.pop("max_tokens")
        response_format = response_format_parameter(self.structured_output_mode, schema)
        if response_format:
            body["response_format"] = response_format
        return {name: body[name] for name in body if name not in self.dropped_parameters}


def response_format_parameter(mode: str, schema: JSONSchema) -> dict[str, Any] | None:
    """The value of `response_format`; None where the prompt alone describes the form."""
    if mode == "json-schema":
        named_schema = {"name": "reply", "schema": schema, "strict": True}
        return {"type": "json_schema", "json_schema": named_schema}
    if mode == "json-object-schema":
        return {"type": "json_object", "schema": schema}
    if mode == "json-object":
        return {"type": "json_object"}
    return None


def probe(
    send: SendProbe, sampling: Mapping[str, Any], modes: Sequence[str] = MODES
) -> tuple[RequestFormat, list[Completion]]:
    """Find the request format of an endpoint by at most a handful of calls of a few tokens.

    Returns the format and the completions paid for. The first mode that is enforced is taken
    (its reply has the field that only the schema names), else the first that is not refused.
    Servers refuse what they do not know by 400, 422 or 500; a parameter that a refusal names is
    dropped, and the same mode is tried again. Raises EndpointError where no mode is accepted.
    """
    request_format = RequestFormat()
    accepted: RequestFormat | None = None
    completions: list[Completion] = []
    for mode in modes:
        request_format = replace(request_format, structured_output_mode=mode)
        is_last = mode == modes[-1] and accepted is None
        completion, request_format = _try_mode(send, request_format, sampling, is_last=is_last)
        if completion is None:
            continue
        completions.append(completion)
        accepted = accepted or request_format
        if mode != "prompt" and _follows_schema(completion):
            return request_format, completions
    chosen = accepted or request_format
    chosen = replace(
        chosen,
        dropped_parameters=request_format.dropped_parameters,
        token_limit_name=request_format.token_limit_name,
    )
    return chosen, completions


def _follows_schema(completion: Completion) -> bool:
    try:
        parse_response(completion.text, completion.finish, PROBE_SCHEMA)
    except RejectedResponseError:
        return False
    return True


def _try_mode(
    send: SendProbe, request_format: RequestFormat, sampling: Mapping[str, Any], *, is_last: bool
) -> tuple[Completion | None, RequestFormat]:
    """(completion, or None where the mode is refused; format without refused parameters)."""
    probe_sampling = {"seed": 0, **sampling, "max_tokens": PROBE_TOKENS}
    for _ in range(PROBE_ATTEMPTS):
        body = request_format.body(PROBE_MESSAGES, PROBE_SCHEMA, probe_sampling)
        try:
            return send(body, is_last), request_format
        except EndpointError as error:
            reduced = _without_refused_parameter(request_format, error, body)
            is_refusal = error.scope == "request" or error.status in UNKNOWN_MODE
            if reduced:
                request_format = reduced
            elif is_last or not is_refusal:
                raise
            else:
                return None, request_format
    return None, request_format


def _without_refused_parameter(
    request_format: RequestFormat, error: EndpointError, body: Mapping[str, Any]
) -> RequestFormat | None:
    """The format without the parameter that the error names, or None."""
    if error.scope != "request":
        return None
    has_old_limit = request_format.token_limit_name == "max_tokens"
    if "max_completion_tokens" in error.message and has_old_limit:
        return replace(request_format, token_limit_name="max_completion_tokens")
    for name in OPTIONAL_PARAMETERS:
        is_named = error.parameter == name or re.search(rf"\b{name}\b", error.message)
        if name in body and is_named:
            dropped = (*request_format.dropped_parameters, name)
            return replace(request_format, dropped_parameters=dropped)
    return None
