"""A local server that speaks the OpenAI protocol by a script: chat completions, files, batches, and faults on demand.

It writes what it is asked for (the right fields, about the right number of words), the same for the same
request. It keeps every request that reached it, so that a test can count what was paid for twice.
"""

from __future__ import annotations

import email.parser
import email.policy
import hashlib
import json
import random
import re
import socket
import struct
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

NOUNS = (
    "river bridge garden engine letter winter market teacher window harbour valley orchard copper "
    "lantern forest meadow signal mirror anchor barrel castle desert feather glacier hammer island "
    "jacket kettle ladder marble needle oyster pepper quarry ribbon saddle temple umbrella velvet "
    "wagon"
).split()
VERBS = (
    "moves keeps finds holds brings follows shows repairs measures carries paints counts"
).split()
TASKS_PER_REPLY = 20


def prose(count: int, source: random.Random) -> str:
    """English of so many words, without sense."""
    words: list[str] = []
    while len(words) < count:
        words += [
            "the",
            source.choice(NOUNS),
            source.choice(VERBS),
            "the",
            source.choice(NOUNS),
            source.choice(["of", "in", "with"]),
            source.choice(NOUNS),
        ]
    return " ".join(words[:count]).capitalize()


def author(body: dict[str, Any]) -> Any:
    """The object that a perfect model would reply with, by the prompt's last line (the form of the reply)."""
    prompt = body["messages"][0]["content"]
    identity = json.dumps([body["messages"], body.get("seed")])
    source = random.Random(hashlib.sha256(identity.encode()).hexdigest())
    form = prompt.rsplit("\n", 1)[-1]
    if '"tasks"' in form:
        return {"tasks": [_task(source) for _ in range(TASKS_PER_REPLY)]}
    if '"queries": [{' in form:
        return {"queries": _queries(prompt, source)}
    if '"scores"' in form:
        texts = re.findall(r"^Text \d+:", prompt, re.MULTILINE)
        return {"scores": [source.randrange(11) for _ in texts]}
    lists = re.findall(r'"(\w+)": \[', form)
    if lists:
        count = re.search(r"Write (\d+) (?:texts|other queries)", prompt)
        return {lists[0]: [prose(9, source) for _ in range(int(count[1]) if count else 1)]}
    lengths = {"user_query": 5, "label": 2, "misleading_label": 2}
    fields = re.findall(r'"(\w+)": "', form)
    return {name: prose(lengths.get(name, _document_words(prompt)), source) for name in fields}


def _task(source: random.Random) -> str:
    return (
        f"Given a {source.choice(NOUNS)} of the {source.choice(NOUNS)} number "
        f"{source.randrange(10**6)}, find what {source.choice(VERBS)} it."
    )


def _queries(prompt: str, source: random.Random) -> list[dict[str, str]]:
    quoted = re.search(r'^".*"$', prompt, re.MULTILINE)
    assert quoted
    evidence = " ".join(json.loads(quoted[0]).split()[:4])
    numbers = re.findall(r"^\d+\. ", prompt, re.MULTILINE)
    return [
        {
            "query": f"what {source.choice(VERBS)} {prose(4, source).lower()}",
            "evidence": evidence,
        }
        for _ in numbers
    ]


def _document_words(prompt: str) -> int:
    """The length that a prompt asks for."""
    if not re.search(r"about \d+ words long", prompt) and re.search(
        r"has less than 5 words|of less than 10 words", prompt
    ):
        return 8
    lengths = re.findall(r"(\d+) words", prompt)
    return int(lengths[-1]) if lengths else 12


class Server(ThreadingHTTPServer):
    """Start it, point --base-url at `url`, stop it (a context manager).

    write(body): the object to reply with, or the text itself. fault(number, body): what goes wrong with the n-th
    chat request, or None: a dict {"status", "headers", "body"}, "hang", "half" (closes in mid-body), "drip"
    (whole, but slowly: over 1.2 s), "cut" (half the JSON, properly ended), "reset". refuses: {form of structured output: status}.
    enforces: without one of these forms, the reply to the probe is prose.
    """

    daemon_threads = True
    request_queue_size = 1024

    def __init__(
        self,
        write: Callable[[dict[str, Any]], Any] = author,
        fault: Callable[[int, dict[str, Any]], Any] = lambda number, body: None,
        latency: float = 0.0,
        refuses: dict[str, int] | None = None,
        enforces: tuple[str, ...] = ("json_schema", "json_object+schema"),
        usage: bool = True,
    ) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.write = write
        self.fault = fault
        self.latency = latency
        self.refuses = refuses or {}
        self.enforces = enforces
        self.usage = usage
        # Bodies of chat requests except probes, in order of arrival.
        self.chat_requests: list[dict[str, Any]] = []
        # Messages, as JSON, whose whole reply was sent.
        self.completed: list[str] = []
        self.probes: list[str] = []  # response formats of the probes
        self.headers: list[dict[str, str]] = []
        self.files: dict[str, bytes] = {}
        self.batches: dict[str, dict[str, Any]] = {}
        self.polls_until_done = 1
        # In place of completing a batch.
        self.run_batch: Callable[[dict[str, Any]], None] | None = None
        self.lock = threading.Lock()
        self.in_flight = self.most_in_flight = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def __enter__(self) -> Server:
        threading.Thread(
            target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        ).start()
        return self

    def __exit__(self, *failure: object) -> None:
        self.shutdown()
        self.server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that was killed is no trouble of the server's."""

    def complete(self, body: dict[str, Any]) -> dict[str, Any]:
        """The response to a request, as `write` has it."""
        return self.completion(body, self.write(body))

    def probe_reply(self, form: str) -> Any:
        """What the model says to a probe: the schema's field only where the form is enforced."""
        return {"zorvel": "hello"} if form in self.enforces else "Hello! How may I help?"

    def completion(self, body: dict[str, Any], reply: Any) -> dict[str, Any]:
        """A chat completion. reply: an object, a text, None, or (one of them, finish reason)."""
        text, finish = reply if isinstance(reply, tuple) else (reply, "stop")
        if text is not None and not isinstance(text, str):
            text = json.dumps(text, ensure_ascii=False)
        message = {"role": "assistant", "content": text}
        content: dict[str, Any] = {
            "id": "c",
            "object": "chat.completion",
            "created": 0,
            "model": "scripted-1",
            "choices": [{"index": 0, "finish_reason": finish, "message": message}],
        }
        if self.usage:
            sent = sum(len(message["content"].split()) for message in body["messages"])
            written = len((text or "").split())
            content["usage"] = {
                "prompt_tokens": sent,
                "completion_tokens": written,
                "total_tokens": sent + written,
            }
        return content


def response_format_of(body: dict[str, Any]) -> str:
    form = body.get("response_format") or {}
    return form.get("type", "prompt") + ("+schema" if "schema" in form else "")


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server
    wbufsize = -1
    disable_nagle_algorithm = True

    def log_message(self, *args: Any) -> None:
        pass

    def reply(self, status: int, content: Any, headers: dict[str, str] | None = None) -> None:
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {
            "content-type": "application/json",
            "content-length": str(len(data)),
            **(headers or {}),
        }.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)
        self.wfile.flush()

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers.get("content-length", 0)))
        self.server.headers.append(dict(self.headers.items()))
        if self.path.endswith("/chat/completions"):
            self.chat(json.loads(raw))
        elif self.path.endswith("/files"):
            self.upload(raw)
        elif self.path.endswith("/batches"):
            self.make_batch(json.loads(raw))
        else:
            self.reply(404, {"error": {"message": f"no such path: {self.path}"}})

    def chat(self, body: dict[str, Any]) -> None:
        server = self.server
        form = response_format_of(body)
        if form in server.refuses:
            return self.reply(
                server.refuses[form],
                {
                    "error": {
                        "message": f"response_format {form} is not supported",
                        "param": "response_format",
                    }
                },
            )
        if body["messages"][0]["content"].startswith("Say hello"):
            server.probes.append(form)
            fault = server.fault(-1, body)
            if fault:
                return self.send_fault(fault, body)
            return self.reply(200, server.completion(body, server.probe_reply(form)))
        with server.lock:
            number = len(server.chat_requests)
            server.chat_requests.append(body)
            server.in_flight += 1
            server.most_in_flight = max(server.most_in_flight, server.in_flight)
        try:
            fault = server.fault(number, body)
            if fault is not None:
                return self.send_fault(fault, body)
            content = server.complete(body)
            if server.latency:
                time.sleep(server.latency)
            self.reply(200, content)
            server.completed.append(json.dumps(body["messages"]))
        finally:
            with server.lock:
                server.in_flight -= 1
        return None

    def send_fault(self, fault: Any, body: dict[str, Any]) -> None:
        data = json.dumps(self.server.complete(body)).encode()
        if isinstance(fault, dict):
            return self.reply(
                fault["status"],
                fault.get("body", {"error": {"message": f"fault {fault['status']}"}}),
                fault.get("headers"),
            )
        if fault == "hang":
            time.sleep(5)
        elif fault == "cut":
            return self.reply(200, data[: len(data) // 2])
        elif fault == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        else:
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            pieces = 6 if fault == "drip" else 2
            size = len(data) // pieces + 1
            for at in range(0, len(data) if fault == "drip" else size, size):
                self.wfile.write(data[at : at + size])
                self.wfile.flush()
                time.sleep(0.2 if fault == "drip" else 0)
        self.close_connection = True
        self.connection.close()
        return None

    # --- files and batches ---------------------------------------------------------------------------

    def upload(self, raw: bytes) -> None:
        head = f"content-type: {self.headers['content-type']}\r\n\r\n".encode()
        message = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(head + raw)
        [content] = [
            part.get_payload(decode=True) for part in message.iter_parts() if part.get_filename()
        ]  # type: ignore[attr-defined]
        name = f"file-{len(self.server.files)}"
        self.server.files[name] = content
        self.reply(
            200,
            {
                "id": name,
                "object": "file",
                "bytes": len(content),
                "created_at": 0,
                "filename": "in.jsonl",
                "purpose": "batch",
                "status": "processed",
            },
        )

    def make_batch(self, request: dict[str, Any]) -> None:
        name = f"batch-{len(self.server.batches)}"
        self.server.batches[name] = {
            "id": name,
            "object": "batch",
            "endpoint": request["endpoint"],
            "completion_window": "24h",
            "created_at": 0,
            "status": "in_progress",
            "input_file_id": request["input_file_id"],
            "metadata": request.get("metadata"),
            "polls": 0,
        }
        self.show_batch(name)

    def do_GET(self) -> None:
        parts = self.path.split("?")[0].strip("/").split("/")
        if parts[-1] == "content":
            return self.reply(
                200, self.server.files[parts[-2]], {"content-type": "application/octet-stream"}
            )
        if parts[-1] == "batches":
            return self.reply(
                200,
                {
                    "object": "list",
                    "data": [self.shown(name) for name in self.server.batches],
                    "has_more": False,
                },
            )
        self.server.batches[parts[-1]]["polls"] += 1
        return self.show_batch(parts[-1])

    def show_batch(self, name: str) -> None:
        batch = self.server.batches[name]
        if batch["status"] == "in_progress" and batch["polls"] >= self.server.polls_until_done:
            (self.server.run_batch or self.run_batch)(batch)
        self.reply(200, self.shown(name))

    def shown(self, name: str) -> dict[str, Any]:
        return {key: value for key, value in self.server.batches[name].items() if key != "polls"}

    def run_batch(self, batch: dict[str, Any]) -> None:
        good, bad = [], []
        for line in self.server.files[batch["input_file_id"]].splitlines():
            entry = json.loads(line)
            with self.server.lock:
                number = len(self.server.chat_requests)
                self.server.chat_requests.append(entry["body"])
            fault = self.server.fault(number, entry["body"])
            status, content = (
                (fault["status"], fault.get("body", {"error": {"message": "no"}}))
                if fault
                else (200, self.server.complete(entry["body"]))
            )
            (bad if fault else good).append(
                json.dumps(
                    {
                        "id": "r",
                        "custom_id": entry["custom_id"],
                        "response": {"status_code": status, "request_id": "q", "body": content},
                        "error": None,
                    }
                )
            )
        for name, lines in (("output_file_id", good), ("error_file_id", bad)):
            if lines:
                batch[name] = f"{name}-{batch['id']}"
                self.server.files[batch[name]] = "\n".join(
                    reversed(lines)
                ).encode()  # the service keeps no order
        batch["status"] = "completed"
        batch["request_counts"] = {
            "total": len(good) + len(bad),
            "completed": len(good),
            "failed": len(bad),
        }
