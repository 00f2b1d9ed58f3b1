"""synthgen: does it keep the server busy, is memory bounded, are rows of a real grammar accepted?

  python bench/synthgen.py                 throughput and memory (about 5 minutes on 2 cores)
  python bench/synthgen.py throughput      64 in flight against a server of fixed latency
  python bench/synthgen.py memory          100,000 rows: the largest memory of the process
  python bench/synthgen.py grammar         llama.cpp with a tiny GGUF of random weights (needs gguf, and llama-server or llama-cpp-python)
  python bench/synthgen.py queries         queries of a real LLM with and without a grammar, and what of them finds its text again
                                           (LLM_URL=http://…/v1 TEXTS=texts.jsonl MODEL=all-MiniLM-L6-v2 WORK=folder COUNT=200 LLM_MODEL=llm)

The server runs in a process of its own and does nothing but wait and reply, so that what is measured is the client.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import json
import multiprocessing
import os
import resource
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
ASCII = "▁" + "".join(map(chr, range(33, 127)))  # ▁ is the blank of this tokenizer
# Bytes are no text, and a random text ends late: servers check the whole, so bytes are forbidden and the quotation mark is likelier.
BIAS = {str(token): -100 for token in range(259)} | {str(259 + ASCII.index('"')): 1.5}
TASK = {"id": "t", "text": "Given a proverb, find another one.", "type": "short-short"}


# --- a server of fixed latency ---


def wait_and_reply(port: int, latency: float) -> None:
    """Chat completions on a port: each reply is new and comes `latency` seconds after its request."""
    count = 0

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal count
        while head := await reader.readuntil(b"\r\n\r\n"):
            length = next(
                int(line.split(b":")[1])
                for line in head.lower().split(b"\r\n")
                if line.startswith(b"content-length")
            )
            request = await reader.readexactly(length)
            count += 1
            reply = (
                {"zorvel": "hello"}
                if b"zorvel" in request
                else {
                    "input": f"the owl number {count}",
                    "positive_document": f"the mouse number {count}",
                }
            )
            choice = {
                "index": 0,
                "finish_reason": "stop",
                "message": {"role": "assistant", "content": json.dumps(reply)},
            }
            body = json.dumps(
                {
                    "model": "m",
                    "choices": [choice],
                    "usage": {"prompt_tokens": 100, "completion_tokens": 20},
                }
            ).encode()
            await asyncio.sleep(latency)
            writer.write(
                b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
                % len(body)
                + body
            )

    async def serve() -> None:
        async def guarded(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                await talk(reader, writer)
            except (asyncio.IncompleteReadError, ConnectionError):
                writer.close()

        server = await asyncio.start_server(guarded, "127.0.0.1", port, backlog=4096)
        await server.serve_forever()

    asyncio.run(serve())


class Waiting:
    """The server in a process of its own, as long as the block lasts."""

    def __init__(self, latency: float) -> None:
        self.port = free_port()
        self.process = multiprocessing.get_context("spawn").Process(
            target=wait_and_reply, args=(self.port, latency), daemon=True
        )

    def __enter__(self) -> str:
        self.process.start()
        wait_for(self.port)
        return f"http://127.0.0.1:{self.port}/v1"

    def __exit__(self, *failure: object) -> None:
        self.process.kill()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(port: int, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise SystemExit("the server does not come up")


def synthgen(folder: Path, rows: list[dict[str, Any]], url: str, *words: Any) -> dict[str, Any]:
    """Its JSON summary, with the seconds of asking and the largest memory in MB."""
    (folder / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    out, summary = folder / "out.parquet", folder / "summary.json"
    argv = [
        "synthgen",
        folder / "in.jsonl",
        "--model",
        "m",
        "--base-url",
        url,
        "-o",
        out,
        "--json-summary",
        summary,
        *words,
    ]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [str(word) for word in argv],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
    )
    if done.returncode:
        print(done.stderr)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    figures = json.loads(summary.read_text()) if summary.exists() else {}
    return figures | {
        "code": done.returncode,
        "cpu": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
        "rss": after.ru_maxrss / 1024,
        "err": done.stderr,
    }


# --- the claims ---


def throughput(latency: float = 2.0, in_flight: int = 64, rounds: int = 12) -> None:
    """Requests a second between the first round and the end: without the start of Python and the probe."""
    with tempfile.TemporaryDirectory() as name, Waiting(latency) as url:
        folder = Path(name)
        seconds = {}
        for count in (in_flight, in_flight * rounds):
            (folder / str(count)).mkdir()
            seconds[count] = synthgen(
                folder / str(count), [TASK], url, "--per-row", count, "--concurrency", in_flight
            )["seconds"]
    requests = in_flight * rounds - in_flight
    rate = requests / (seconds[in_flight * rounds] - seconds[in_flight])
    ideal = in_flight / latency
    print(
        f"throughput: {in_flight} in flight, latency {latency:g} s: {rate:.1f} requests/s of {ideal:.1f} ideal = {rate / ideal:.1%} (claim: 95 %), load {os.getloadavg()[0]:.1f}"
    )


def memory(rows: int = 100_000) -> None:
    peaks = {}
    for count in (rows // 10, rows):
        with tempfile.TemporaryDirectory() as name, Waiting(0.0) as url:
            tasks = [TASK | {"id": f"t{i}"} for i in range(100)]
            done = synthgen(Path(name), tasks, url, "--per-row", count // 100, "--concurrency", 64)
            peaks[count] = done["rss"]
            rate = count / done["seconds"]
            print(
                f"memory: {done['rows_out']:,} rows, {done['rss']:.0f} MB, {rate:,.0f} requests/s, {1e6 * done['cpu'] / count:.0f} us of CPU a request"
            )
    small, large = peaks.values()
    print(f"memory: {1e6 * (large - small) / (rows - rows // 10):.0f} bytes more for each row more")


def grammar(rows: int = 20) -> None:
    """A random model can write nothing but what the grammar lets through: rows that come out were made by the form alone."""
    program = os.environ.get("LLAMA_SERVER") or shutil.which("llama-server")
    missing = [
        name
        for name in ("gguf", *(() if program else ("llama_cpp",)))
        if importlib.util.find_spec(name) is None
    ]
    if missing:
        print(
            f"grammar: not run, {', '.join(missing)} is not installed: pip install gguf llama-cpp-python[server], or LLAMA_SERVER=PATH"
        )
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        random_gguf(folder / "tiny.gguf")
        port = free_port()
        address = ["--host", "127.0.0.1", "--port", str(port), "--model", str(folder / "tiny.gguf")]
        command = (
            [program, *address, "--ctx-size", "8192"]
            if program
            else [sys.executable, "-m", "llama_cpp.server", *address, "--n_ctx", "4096"]
        )
        with open(folder / "log", "wb") as log:
            server = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            wait_for(port)
            time.sleep(2)  # the port is open before the model is read
            (folder / "body.json").write_text(json.dumps({"logit_bias": BIAS}))
            words = f"--per-row {rows} --concurrency 2 --answer-tokens 1500 --retries 0 --no-language-check --body {folder / 'body.json'}"
            done = synthgen(
                folder,
                [TASK],
                f"http://127.0.0.1:{port}/v1",
                *words.split(),
                "--rejects",
                folder / "rejects.jsonl",
            )
            lines = (folder / "out.parquet.journal" / "answers.jsonl").read_text().splitlines()
            modes = [json.loads(line)["note"]["rung"] for line in lines if '"probe"' in line]
        finally:
            server.terminate()
            server.wait(10)
    print(
        f"grammar: mode {modes}, {done.get('rows_out', 0)} of {rows} random replies are rows; rejected: {done.get('measures', {}).get('rejected')}"
    )


def queries() -> None:
    """One query a request of the server LLM_URL, in five kinds a text; its journal is kept in WORK and replayed."""
    url, texts, model = (os.environ.get(name) for name in ("LLM_URL", "TEXTS", "MODEL"))
    if not (url and texts and model):
        print("queries: not run, it needs LLM_URL, TEXTS and MODEL")
        return
    work = Path(os.environ.get("WORK") or tempfile.mkdtemp())
    kinds = "question,keywords,title,claim,how-to"
    limit, name = int(os.environ.get("COUNT", "200")) // 5, os.environ.get("LLM_MODEL", "llm")
    for mode in ("json-schema", "prompt"):
        words = (
            f"synthgen {texts} --job queries --model {name} --base-url {url} --limit {limit} -q "
            f"--queries-per-text 5 --query-kinds {kinds} --queries-per-request 1 --no-evidence "
            f"--concurrency 4 --answer-tokens 80 --sampling-temperature 0.3 --response-format {mode} "
            f"-o {work}/{mode}.jsonl --rejects {work}/{mode}-rejects.jsonl --json-summary {work}/{mode}.json"
        )
        subprocess.run(words.split(), check=True)
        done = json.loads((work / f"{mode}.json").read_text())
        ledger = done["measures"]["ledger"]
        print(
            f"queries, {mode}: {done['rows_out']} rows of {5 * limit} requests and {ledger['repairs']} repairs, "
            f"{ledger['prompt_tokens']:,} + {ledger['completion_tokens']:,} tokens; rejected: {done['measures']['rejected']}"
        )
        rows = [json.loads(line) for line in (work / f"{mode}.jsonl").read_text().splitlines()]
        by_kind = {
            kind: sum(row["synth_kind"] == kind for row in rows) for kind in kinds.split(",")
        }
        print(f"queries, {mode}: rows by kind {by_kind}")
        for rank in (1, 10):
            filtered = (
                f"simfilter {work}/{mode}.jsonl --model {model} --cache {work}/vectors --corpus {texts} "
                f"--rank-within {rank} -q -o {work}/{mode}-{rank}.jsonl --json-summary {work}/filtered.json"
            )
            subprocess.run(filtered.split(), check=True)
            left = json.loads((work / "filtered.json").read_text())["rows_out"]
            print(f"queries, {mode}: {left} find their text among the best {rank} of the corpus")


def random_gguf(path: Path) -> None:
    """A Llama of one layer with random weights, whose tokens are the characters of ASCII, and the bytes for the rest of the prompt."""
    import gguf

    width, heads, vocabulary = 64, 2, 259 + len(ASCII)
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_context_length(4096)
    writer.add_embedding_length(width)
    writer.add_block_count(1)
    writer.add_feed_forward_length(2 * width)
    writer.add_head_count(heads)
    writer.add_head_count_kv(heads)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(width // heads)
    writer.add_vocab_size(vocabulary)
    add_tokens(writer, gguf.TokenType)
    add_weights(writer, width, vocabulary)
    write_out(writer)


def add_tokens(writer: Any, kinds: Any) -> None:
    """Special tokens, the 256 bytes, the characters of ASCII; and a template that joins messages."""
    writer.add_tokenizer_model("llama")
    characters = [character.encode() for character in ASCII]
    every_byte = [f"<0x{byte:02X}>".encode() for byte in range(256)]
    tokens = [b"<unk>", b"<s>", b"</s>", *every_byte, *characters]
    writer.add_token_list(tokens)
    writer.add_token_scores([0.0] * len(tokens))
    special = [kinds.UNKNOWN, kinds.CONTROL, kinds.CONTROL]
    writer.add_token_types([*special, *[kinds.BYTE] * 256, *[kinds.NORMAL] * len(ASCII)])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_chat_template("{% for message in messages %}{{ message['content'] }}{% endfor %}")


def add_weights(writer: Any, width: int, vocabulary: int) -> None:
    """Seeded random matrices, and norms of 1."""
    import numpy as np

    draw = np.random.default_rng(0)

    def add(name: str, *shape: int) -> None:
        if len(shape) > 1:
            values = draw.normal(0, 0.02, shape).astype(np.float32)
        else:
            values = np.ones(shape, np.float32)
        writer.add_tensor(name, values)

    add("token_embd.weight", vocabulary, width)
    add("output_norm.weight", width)
    add("output.weight", vocabulary, width)
    shapes = {
        "attn_norm": (width,),
        "ffn_norm": (width,),
        "attn_q": (width, width),
        "attn_k": (width, width),
        "attn_v": (width, width),
        "attn_output": (width, width),
        "ffn_gate": (2 * width, width),
        "ffn_up": (2 * width, width),
        "ffn_down": (width, 2 * width),
    }
    for part, shape in shapes.items():
        add(f"blk.0.{part}.weight", *shape)


def write_out(writer: Any) -> None:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


CLAIMS = {"throughput": throughput, "memory": memory, "grammar": grammar, "queries": queries}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("claims", nargs="*", choices=[[], *CLAIMS], default=[])
    for claim in parser.parse_args().claims or CLAIMS:
        CLAIMS[claim]()
