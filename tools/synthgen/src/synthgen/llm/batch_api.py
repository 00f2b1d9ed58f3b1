"""The OpenAI Batch API: all requests of a wave as files, answered within a day for about half the price.

The state is in the journal: a note before a batch is made, one with its id after, one when its answers are in.
A run that is killed finds its batches again, by id, or by the tag that stands in their metadata.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import json
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import openai

from fletching.errors import InputError
from fletching.report import Report
from synthgen.llm.budget import Reserve
from synthgen.llm.client import GOES_ON, Asker, read
from synthgen.llm.endpoint import Failed
from synthgen.llm.response_parsing import Unusable
from synthgen.request_plan import Request

LARGEST_REQUESTS, LARGEST_BYTES = 50_000, 190 << 20  # of an input file; the service takes 200 MB
OVER = (
    "completed",
    "expired",
    "cancelled",
)  # states that have an output file; expired and cancelled in part
ROUNDS = 3  # batches that expire in part are followed by others


@dataclass
class Batches:
    """The batches of one run: fill the journal with the answers to a wave."""

    asker: Asker
    report: Report
    poll: float  # seconds between looks
    worst: Callable[[Request], Reserve]
    retries: int = 5

    def answer(self, wave: Callable[[], Iterator[Request]]) -> None:
        """Put the answers to all requests of the wave, and one repair of each that needs it, into the journal."""
        self._collect_open()
        answered = lambda: (
            request for request in wave() if request.messages and request.key in self.asker.journal
        )  # noqa: E731
        for plan in (wave, lambda: itertools.chain(answered(), self._repairs(wave()))):
            for _ in range(ROUNDS):
                if not self._submit(plan()):
                    break
                self._collect_open()

    def _repairs(self, plan: Iterable[Request]) -> Iterator[Request]:
        for request in plan:
            answer = self.asker.journal.get(request.key) if request.messages else None
            if answer and self.asker.repair:
                problem = read(request, answer).problem
                if isinstance(problem, Unusable) and problem.mendable:
                    yield self.asker.setting.repair(request, answer.text or "", problem.detail)

    # --- submitting ----------------------------------------------------------------------------------

    def _submit(self, plan: Iterable[Request]) -> int:
        """Make batches of the requests that nobody has answered; how many requests that were."""
        number = 0
        lines: list[bytes] = []
        size = 0
        seen: set[bytes] = set()
        book = self.asker.book.sketch()
        for request in plan:
            key = bytes.fromhex(request.key)
            if not request.messages or key in seen:
                continue
            answer = self.asker.journal.get(request.key)
            if answer:
                book.count(answer, asked_now=False)
                continue
            if not book.admit(self.worst(request), wait=False):
                break
            seen.add(key)
            line = (
                json.dumps(
                    {
                        "custom_id": request.key,
                        "method": "POST",
                        "url": "/v1/chat/completions",
                        "body": {"model": self.asker.endpoint.model, **self.asker.body(request)},
                    }
                ).encode()
                + b"\n"
            )
            if lines and (len(lines) == LARGEST_REQUESTS or size + len(line) > LARGEST_BYTES):
                self._create(lines)
                lines, size = [], 0
            lines.append(line)
            size += len(line)
            number += 1
        if lines:
            self._create(lines)
        return number

    def _create(self, lines: list[bytes]) -> None:
        content = b"".join(lines)
        name = f"batch-{sum('batch_made' in note for note in self.asker.journal.notes) + 1:04}"
        tag = hashlib.sha256(name.encode() + content).hexdigest()[:32]
        path = os.path.join(self.asker.journal.folder, name + ".jsonl")
        os.makedirs(self.asker.journal.folder, exist_ok=True)
        with open(path, "wb") as file:
            file.write(content)
        self.asker.journal.note(batch_meant=tag)
        client = self.asker.endpoint.client
        with open(path, "rb") as file:
            uploaded = self._call(
                lambda: client.files.create(file=(name + ".jsonl", file.read()), purpose="batch")
            )
        made = self._call(
            lambda: client.batches.create(
                input_file_id=uploaded.id,
                endpoint="/v1/chat/completions",
                completion_window="24h",
                metadata={"synthgen": tag},
            )
        )
        self.asker.journal.note(batch_made=made.id, tag=tag, requests=len(lines))
        self.report.note(f"batch {made.id}: {len(lines):,} requests")

    # --- collecting ----------------------------------------------------------------------------------

    def _collect_open(self) -> None:
        """Wait for every batch that is not over, this run's or an earlier one's, and journal its answers."""
        for batch in self._open():
            while True:
                state = self._call(
                    functools.partial(self.asker.endpoint.client.batches.retrieve, batch)
                )
                if state.status in OVER:
                    break
                if state.status == "failed":
                    self.asker.journal.note(batch_over=batch, status="failed")
                    told = (
                        "; ".join(
                            str(error.message)
                            for error in (
                                state.errors.data if state.errors and state.errors.data else []
                            )
                        )
                        or "no reason given"
                    )
                    raise InputError(
                        self.asker.endpoint.told(f"batch {batch} failed: {told}"),
                        f"correct what the server names; {GOES_ON}",
                    )
                counts = state.request_counts
                done = f", {counts.completed:,} of {counts.total:,} done" if counts else ""
                self.report.note(
                    f"batch {batch} is {state.status}{done}; looking again in {self.poll:g} s"
                )
                self.asker.pace.wait(self.poll)
            for file in (state.output_file_id, state.error_file_id):
                if file:
                    self._journal(file)
            self.asker.journal.note(batch_over=batch, status=state.status)

    def _open(self) -> list[str]:
        """Ids of batches that were made and not collected, those too whose id a kill kept from the journal."""
        notes = self.asker.journal.notes
        made = {note["tag"]: note["batch_made"] for note in notes if "batch_made" in note}
        lost = [
            note["batch_meant"]
            for note in notes
            if "batch_meant" in note and note["batch_meant"] not in made
        ]
        if lost:
            listed = self._call(lambda: list(self.asker.endpoint.client.batches.list(limit=100)))
            for batch in listed:
                tag = (batch.metadata or {}).get("synthgen", "")
                if tag in lost and tag not in made:
                    self.asker.journal.note(batch_made=batch.id, tag=tag)
                    made[tag] = batch.id
        over = {note["batch_over"] for note in notes if "batch_over" in note}
        return [batch for batch in made.values() if batch not in over]

    def _journal(self, file: str) -> None:
        """The answers of an output file, those of them that are answers; an error leaves its request unanswered."""
        failures: list[str] = []
        content = self._call(lambda: self.asker.endpoint.client.files.content(file).read())
        for line in content.splitlines():
            try:
                entry = json.loads(line)
                key, response = str(entry["custom_id"]), entry.get("response") or {}
                bytes.fromhex(key)
            except (ValueError, KeyError, TypeError, AttributeError):
                raise InputError(
                    f"the batch file {file} holds a line that is no result: {line[:80].decode(errors='replace')}",
                    "look at the server",
                ) from None
            if response.get("status_code") == 200 and key not in self.asker.journal:
                body = response["body"]
                choice = (body.get("choices") or [{}])[0]
                text = (choice.get("message") or {}).get("content")
                self.asker.journal.put(
                    key, self.asker.endpoint.counted(body, choice, text, {"messages": ()})
                )
            elif response.get("status_code") != 200:
                failures.append(
                    json.dumps(entry.get("error") or response.get("body") or "no reason given")[
                        :200
                    ]
                )
        if failures:
            self.report.note(
                self.asker.endpoint.told(
                    f"{len(failures):,} requests of the batch failed, the first: {failures[0]}"
                )
            )

    def _call(self, call: Callable[[], Any]) -> Any:
        """A call of the batch service, over transient failures."""
        for attempt in range(self.retries + 1):
            try:
                return call()
            except openai.APIStatusError as error:
                failure = self.asker.endpoint.failure(error)
            except openai.APIConnectionError as error:
                failure = Failed("transient", self.asker.endpoint.told(f"no connection ({error})"))
            if failure.scope != "transient" or attempt == self.retries:
                raise InputError(
                    f"the batch service refuses: {failure.words}",
                    f"does this server have /v1/batches? {GOES_ON}",
                )
            self.asker.pace.wait(failure.wait or min(0.5 * 2**attempt, 30))
        raise AssertionError
