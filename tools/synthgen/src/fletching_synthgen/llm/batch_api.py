"""The OpenAI Batch API: requests as files, answered within a day for about half the price.

The state is in the journal: a note before a batch is created, one with its id after, one when
its results are in. A killed run finds its batches again, by id or by the tag in their metadata.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import openai

from fletching.errors import InputError
from fletching.http_client import parse_json
from fletching.report import Report
from fletching_synthgen.llm.budget import Reservation
from fletching_synthgen.llm.chat_request import ChatRequest
from fletching_synthgen.llm.client import RESUME, LLMClient, parse_completion
from fletching_synthgen.llm.endpoint import (
    MOST_MESSAGE,
    MOST_NAME,
    MOST_SHOWN_BYTES,
    SERVER_FAILURES,
    Endpoint,
    EndpointError,
)

if TYPE_CHECKING:
    from openai.types import Batch

# Of an input file; the service takes 50,000 requests and 200 MB.
MOST_REQUESTS = 50_000
MOST_BYTES = 190 << 20
MOST_RESULT_BYTES = 2 << 30  # of a result file
FILE_SECONDS = 3600.0  # to send or receive a file
# States with result files; expired and cancelled batches have some of their results.
FINISHED = ("completed", "expired", "cancelled")
ROUNDS = 3  # batches that expire in part are followed by others
LONGEST_BACKOFF = 30.0  # seconds
SHOWN_CHARACTERS = 200  # of a failed request's error

Result = TypeVar("Result")
# Can be iterated more than once.
RequestRound = Callable[[], Iterator[ChatRequest]]


@dataclass(kw_only=True)
class BatchRunner:
    """Fills the journal with the completions of request rounds, by batches.

    poll_seconds: between two looks at a batch. worst_case: what a request can cost at most.
    """

    client: LLMClient
    report: Report
    poll_seconds: float
    worst_case: Callable[[ChatRequest], Reservation]
    retries: int = 5
    endpoint: Endpoint = field(init=False, repr=False)
    service: openai.OpenAI = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.journal = self.client.journal
        self.endpoint = self.client.endpoint
        self.service = self.endpoint.new_client(MOST_RESULT_BYTES)

    def complete(self, request_round: RequestRound) -> None:
        """Journal the completions of a round, and of one repair of each response that needs it.

        Raises InputError where the service refuses or a batch fails.
        """

        def completed_and_repairs() -> Iterator[ChatRequest]:
            """The completed requests count against the caps."""
            completed = (request for request in request_round() if self._is_completed(request))
            return itertools.chain(completed, self._repairs(request_round()))

        self._collect_all()
        for plan in (request_round, completed_and_repairs):
            for _ in range(ROUNDS):
                submitted = self._submit(plan())
                if not submitted:
                    break
                self._collect_all()

    def _is_completed(self, request: ChatRequest) -> bool:
        return request.calls_model and request.key in self.journal

    def _repairs(self, requests: Iterator[ChatRequest]) -> Iterator[ChatRequest]:
        for request in requests:
            completion = self.journal.get(request.key) if request.calls_model else None
            if completion is None:
                continue
            response = parse_completion(request, completion)
            repair = self.client.repair_of(request, response)
            if repair is not None:
                yield repair

    # --- submitting --------------------

    def _submit(self, requests: Iterator[ChatRequest]) -> int:
        """Create batches of the requests without a completion; how many requests they have."""
        submitted = 0
        lines: list[bytes] = []
        size = 0
        for request in self._affordable(requests):
            line = self._batch_line(request)
            is_full = len(lines) == MOST_REQUESTS or size + len(line) > MOST_BYTES
            if lines and is_full:
                self._create(lines)
                lines = []
                size = 0
            lines.append(line)
            size += len(line)
            submitted += 1
        if lines:
            self._create(lines)
        return submitted

    def _affordable(self, requests: Iterator[ChatRequest]) -> Iterator[ChatRequest]:
        """Distinct requests without a completion, until one may exceed a cap."""
        planned: set[bytes] = set()
        budget = self.client.budget.planning_copy()
        for request in requests:
            key = bytes.fromhex(request.key)
            if not request.calls_model or key in planned:
                continue
            completion = self.journal.get(request.key)
            if completion:
                budget.count(completion, new=False)
                continue
            if not budget.admit(self.worst_case(request), wait=False):
                return
            planned.add(key)
            yield request

    def _batch_line(self, request: ChatRequest) -> bytes:
        body = {"model": self.endpoint.model, **self.client.body(request)}
        entry = {
            "custom_id": request.key,
            "method": "POST",
            "url": "/v1/chat/completions",
            "body": body,
        }
        return json.dumps(entry).encode() + b"\n"

    def _create(self, lines: list[bytes]) -> None:
        """Upload a file of requests and create a batch of it, with a note before and after."""
        content = b"".join(lines)
        number = sum("batch_made" in note for note in self.journal.notes) + 1
        name = f"batch-{number:04}"
        tag = hashlib.sha256(name.encode() + content).hexdigest()[:32]
        path = os.path.join(self.journal.folder, name + ".jsonl")
        os.makedirs(self.journal.folder, exist_ok=True)
        with open(path, "wb") as file:
            file.write(content)
        self.journal.note(batch_meant=tag)
        upload = functools.partial(
            self.service.files.create,
            file=(name + ".jsonl", content),
            purpose="batch",
            timeout=FILE_SECONDS,
        )
        uploaded = self._call(upload)
        create = functools.partial(
            self.service.batches.create,
            input_file_id=uploaded.id,
            endpoint="/v1/chat/completions",
            completion_window="24h",
            metadata={"synthgen": tag},
        )
        batch = self._call(create)
        self.journal.note(batch_made=batch.id, tag=tag, requests=len(lines))
        self.report.note(f"batch {batch.id}: {len(lines):,} requests")

    # --- collecting --------------------

    def _collect_all(self) -> None:
        """Wait for every open batch, of this run or an earlier one, and journal its results."""
        for batch_id in self._open_batches():
            batch = self._wait_for(batch_id)
            for file_id in (batch.output_file_id, batch.error_file_id):
                if file_id:
                    self._journal_results(file_id)
            self.journal.note(batch_over=batch_id, status=batch.status)

    def _wait_for(self, batch_id: str) -> Batch:
        """The batch when it is finished. Raises InputError where it failed."""
        retrieve = functools.partial(self.service.batches.retrieve, batch_id)
        while True:
            batch = self._call(retrieve)
            if batch.status in FINISHED:
                return batch
            if batch.status == "failed":
                self.journal.note(batch_over=batch_id, status="failed")
                message = f"batch {batch_id} failed: {_batch_errors(batch)}"
                raise InputError(
                    self.endpoint.address.redact_error(message)[:MOST_MESSAGE],
                    f"correct what the server names; {RESUME}",
                )
            counts = batch.request_counts
            progress = f", {counts.completed:,} of {counts.total:,} done" if counts else ""
            self.report.note(
                f"batch {batch_id} is {batch.status}{progress}; "
                f"looking again in {self.poll_seconds:g} s"
            )
            self.client.rate_limiter.wait(self.poll_seconds)

    def _open_batches(self) -> list[str]:
        """Ids of the batches that were created and not collected.

        They include those whose id a kill kept from the journal.
        """
        notes = self.journal.notes
        id_of_tag = {note["tag"]: note["batch_made"] for note in notes if "batch_made" in note}
        planned = [note["batch_meant"] for note in notes if "batch_meant" in note]
        lost = {tag for tag in planned if tag not in id_of_tag}
        if lost:
            list_batches = functools.partial(self.service.batches.list, limit=100)
            for batch in self._call(lambda: list(list_batches())):
                tag = (batch.metadata or {}).get("synthgen", "")
                if tag in lost and tag not in id_of_tag:
                    self.journal.note(batch_made=batch.id, tag=tag)
                    id_of_tag[tag] = batch.id
        collected = {note["batch_over"] for note in self.journal.notes if "batch_over" in note}
        return [batch_id for batch_id in id_of_tag.values() if batch_id not in collected]

    def _journal_results(self, file_id: str) -> None:
        """Journal the completions of a result file; the request of an error stays without one."""
        failures: list[str] = []
        redact = self.endpoint.address.redact_error
        download = functools.partial(self.service.files.content, file_id, timeout=FILE_SECONDS)
        content = self._call(lambda: download().read())
        for line in content.splitlines():
            key, response, error = self._parse_result(line, file_id)
            if response.get("status_code") != 200:
                failure = json.dumps(error or response.get("body") or "no reason given")
                failures.append(redact(failure)[:SHOWN_CHARACTERS])
            elif key not in self.journal:
                completion = self.endpoint.completion_of(response.get("body"))
                self.journal.put(key, completion)
        if failures:
            first = failures[0]
            self.report.note(f"{len(failures):,} requests of the batch failed, the first: {first}")

    def _checked(self, result: Result) -> Result:
        """The object that the service sent, whose id can be journaled.

        Raises EndpointError where it is no object of the service, or its id is no plain name.
        """
        if isinstance(result, str):  # the client's reading of what is no JSON
            raise EndpointError("run", "the response is no JSON of the batch service")
        name = str(getattr(result, "id", ""))
        if len(name) > MOST_NAME or self.endpoint.address.redact_error(name) != name:
            raise EndpointError("run", "the response has an id that is no name")
        return result

    def _call(self, call: Callable[[], Result]) -> Result:
        """A call of the batch service, over transient failures. Raises InputError."""
        for attempt in range(self.retries + 1):
            try:
                return self._checked(call())
            except SERVER_FAILURES as error:
                failure = self.endpoint.error_of(error)
            except EndpointError as error:
                failure = error
            except (ValueError, RecursionError):
                failure = EndpointError("transient", "the response is no JSON")
            if failure.scope != "transient" or attempt == self.retries:
                raise InputError(
                    f"the batch service refuses: {failure.message}",
                    f"does this server have /v1/batches? {RESUME}",
                )
            seconds = failure.wait or min(0.5 * 2**attempt, LONGEST_BACKOFF)
            self.client.rate_limiter.wait(seconds)
        raise AssertionError("the last attempt returns or raises")

    def _parse_result(self, line: bytes, file_id: str) -> tuple[str, dict[str, Any], object]:
        """(request key, response or {}, error) of a line of a result file. Raises InputError."""
        try:
            entry = parse_json(line)
            key = str(entry["custom_id"])
            bytes.fromhex(key)
            response = entry.get("response") or {}
            response.get("status_code")  # is it an object?
            return key, response, entry.get("error")
        except (ValueError, KeyError, TypeError, AttributeError):
            text = line[:MOST_SHOWN_BYTES].decode(errors="replace")
            shown = self.endpoint.address.redact_error(text)[:80]
            raise InputError(
                f"the batch file {file_id} holds a line that is no result: {shown}",
                "check the server",
            ) from None


def _batch_errors(batch: Batch) -> str:
    """What the service says about a failed batch."""
    errors = batch.errors.data if batch.errors else None
    messages = [str(error.message) for error in errors or []]
    return "; ".join(messages) or "no reason given"
