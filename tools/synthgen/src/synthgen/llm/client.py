"""From a request to its outcome: journal first, then the endpoint with pace and retries, one repair at most."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fletching.errors import InputError
from synthgen.llm import budget, response_parsing
from synthgen.llm.endpoint import RUNGS, Endpoint, Failed, Manner, probe
from synthgen.llm.journal import Answer, Journal
from synthgen.llm.rate_limiter import Pace, backoff
from synthgen.llm.response_parsing import Unusable
from synthgen.request_plan import Request, Setting

ENOUGH = 10  # requests in a row that the server refuses, before the whole run is thought wrong
GOES_ON = "what was answered is in the journal: the same command goes on from there"


@dataclass(frozen=True)
class Outcome:
    """What came of a request: the reply, or the problem and the raw text that has it."""

    reply: dict[str, Any] | None = None
    problem: Unusable | None = None
    raw: str = ""
    model: str = ""


class Stopped(Exception):
    """The run ends; this request was not asked."""


class Asker:
    """Asks requests, many threads at once. What it pays for is in the journal before it is used."""

    def __init__(
        self,
        setting: Setting,
        endpoint: Endpoint,
        journal: Journal,
        book: budget.Ledger,
        pace: Pace,
        *,
        retries: int,
        longest_wait: float,
        repair: bool,
        rung: str | None,
        online: bool = True,
    ) -> None:
        self.setting, self.endpoint, self.journal, self.book, self.pace = (
            setting,
            endpoint,
            journal,
            book,
            pace,
        )
        self.retries, self.longest_wait, self.repair, self.rung, self.online = (
            retries,
            longest_wait,
            repair,
            rung,
            online,
        )
        self.probing = threading.Lock()
        self.found: Manner | None = None
        self.last_success, self.refusals = 0.0, 0

    def outcome(self, request: Request) -> Outcome:
        """The reply to a request, whoever paid for it and when."""
        try:
            answer = self._paid(request)
        except Failed as failure:
            reason = {"request": "refused by the server", "batch": "no answer in the batch"}.get(
                failure.scope, "server failed"
            )
            return Outcome(problem=Unusable(reason, failure.words))
        outcome = read(request, answer)
        if outcome.problem and outcome.problem.mendable and self.repair:
            self.book.event("repairs")
            try:
                mended = read(
                    request,
                    self._paid(
                        self.setting.repair(request, outcome.raw, str(outcome.problem.detail))
                    ),
                )
            except Failed:
                return outcome
            return mended if mended.reply else outcome
        return outcome

    def manner(self) -> Manner:
        """How the endpoint wants to be asked: found out once, and noted in the journal."""
        with self.probing:
            if self.found is None:
                self.found = self._noted() or self._probed()
            return self.found

    def body(self, request: Request) -> dict[str, Any]:
        """The body of a request. Its seed is its own, so that equal prompts do not get equal replies."""
        sampling = {"seed": int(request.key[:7], 16), **self.setting.sampling}
        return self.manner().body(request.messages, request.schema, sampling)

    def _paid(self, request: Request) -> Answer:
        answer = self.journal.get(request.key)
        if answer is None:
            if not self.online:
                raise Failed("batch", "it failed, expired or was not submitted")
            answer = self._asked(self.body(request))
            self.journal.put(request.key, answer)
            self.book.count(answer, asked_now=True)
        else:
            self.book.count(answer, asked_now=False)
        return answer

    def _noted(self) -> Manner | None:
        for note in reversed(self.journal.notes):
            if note.get("probe") == self.endpoint.name and note.get("asked") == self.rung:
                return Manner(note["rung"], tuple(note["drop"]), note["limit"])
        return None

    def _probed(self) -> Manner:
        rungs = RUNGS if self.rung is None else (self.rung,)
        try:
            found, spent = probe(
                lambda body, last: self._asked(body, probing=True, last=last),
                self.setting.sampling,
                rungs,
            )
        except Failed as failure:
            raise InputError(f"the server refuses: {failure.words}", _fix(failure)) from None
        self.journal.note(
            probe=self.endpoint.name,
            asked=self.rung,
            rung=found.rung,
            drop=list(found.drop),
            limit=found.limit,
            tokens=sum(a.prompt_tokens + a.completion_tokens for a in spent),
        )
        return found

    def _asked(self, body: Mapping[str, Any], probing: bool = False, last: bool = False) -> Answer:
        """One answer, over all retries. While probing, 500 may mean "I do not know this form": one retry, but for the last."""
        started = time.monotonic()
        size = budget.prompt_tokens(body["messages"])
        for attempt in range(self.retries + 1):
            if not self.pace.wait(self.pace.turn(size)):
                raise Stopped
            try:
                answer = self.endpoint.ask(dict(body))
            except Failed as failure:
                self._after(failure, attempt, started, probing, last)
            else:
                self.last_success, self.refusals = time.monotonic(), 0
                self.pace.correct(answer.prompt_tokens + answer.completion_tokens - size)
                return answer
        raise AssertionError("the last attempt returns or raises")

    def _after(
        self, failure: Failed, attempt: int, started: float, probing: bool, last: bool
    ) -> None:
        """Wait for another attempt, or raise: Failed for this request, InputError for the run."""
        if probing and (
            failure.scope == "request"
            or (failure.status in (500, 501) and attempt >= min(1, self.retries) and not last)
        ):
            raise failure
        if failure.scope == "request":
            self.refusals += 1
            if self.refusals < ENOUGH:
                raise failure
        if failure.scope in ("run", "request"):
            raise InputError(f"the server refuses: {failure.words}", _fix(failure)) from None
        if failure.wait is not None and failure.wait > self.longest_wait:
            raise InputError(
                f"the server wants a pause of {failure.wait:,.0f} s ({failure.words})",
                f"wait and run again, or pass --longest-wait; {GOES_ON}",
            ) from None
        if attempt == self.retries:
            if self.last_success > started:  # others get through: this one is the trouble
                raise failure
            raise InputError(
                f"the server does not answer after {attempt + 1} attempts: {failure.words}",
                f"look at the server; {GOES_ON}",
            ) from None
        self.book.event("retries")
        if failure.wait is not None:
            self.pace.pause(failure.wait)
        elif not self.pace.wait(backoff(attempt)):
            raise Stopped


def read(request: Request, answer: Answer) -> Outcome:
    try:
        return Outcome(
            response_parsing.read(answer.text, answer.finish, request.schema),
            None,
            answer.text or "",
            answer.model,
        )
    except Unusable as problem:
        return Outcome(None, problem, answer.text or "", answer.model)


def _fix(failure: Failed) -> str:
    if failure.status in (401, 403):
        return "pass the key by --api-key-env NAME or --api-key-file FILE, and look at its rights"
    if failure.status == 404:
        return "check --base-url (it mostly ends in /v1) and --model"
    if failure.status == 402 or any(
        word in failure.words.lower() for word in ("quota", "billing", "credit")
    ):
        return f"top up the account; {GOES_ON}"
    return f"correct what the server names; {GOES_ON}"
