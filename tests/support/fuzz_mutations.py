"""Mutations of a file: bytes of any kind, text, JSON, YAML and TOML, containers and HTTP answers.

Each takes the bytes and a source of random numbers and gives other bytes. MUTATIONS names them by the
kind of the file. Those whose name begins with "inside" or "rewritten" leave checksums whole: the file that
they make is a document of its own.
"""

from __future__ import annotations

import gzip
import io
import json
import random
import struct
import zipfile
import zlib
from collections.abc import Callable
from typing import Any

import fuzz_json
import fuzz_tables

Mutation = Callable[[bytes, random.Random], bytes]

MOST_BYTES = 4 << 20
WORDS = (0, 1, -1, 2, 127, 128, 255, 256, 0x7FFF, 0x8000, 0xFFFF, 2**31 - 1, -(2**31), 2**63 - 1)
CONTROLS = (b"\x00", b"\x1b[2J", b"\x1b]0;owned\x07", b"\x7f", b"\x08", b"\x0c", b"\x1a", b"\r")
TEXTS = (
    "\ufeff", "\u202e", "\u2028", "\u0085", "\u200b", "\ud7ff\U0010ffff", "\U0001f9b6" * 20, "é",
    "e\u0301", "\u00a0", "ı", "ß",
)  # fmt: skip
NO_UTF8 = (b"\xff", b"\xfe\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe2\x82")
OTHER_MAGIC = (
    b"PAR1", b"ARROW1\x00\x00", b"\xff\xff\xff\xff", b"\x1f\x8b\x08\x00", b"\x28\xb5\x2f\xfd",
    b"PK\x03\x04", b"\x89HDF", b"\x80\x04\x95", b"\xff\xfe", b"\xef\xbb\xbf", b"BZh9", b"\xfd7zXZ",
)  # fmt: skip


def _position(data: bytes, draw: random.Random) -> int:
    """Anywhere; in a third of all cases near an end, where headers and footers are."""
    if draw.random() < 0.33:
        offset = min(int(draw.expovariate(1 / 24)), len(data))
        return offset if draw.random() < 0.5 else len(data) - offset
    return draw.randint(0, len(data))


def _block(data: bytes, draw: random.Random) -> tuple[int, int]:
    """Start and end of some bytes, mostly few."""
    start = _position(data, draw)
    size = int(draw.expovariate(1 / draw.choice((2, 8, 64, 1024))))
    return start, min(start + size + 1, len(data))


def _insert(data: bytes, at: int, more: bytes) -> bytes:
    return data[:at] + more + data[at:]


# --- bytes -------------------------------------------------------------------------------------------


def flip_bits(data: bytes, draw: random.Random) -> bytes:
    """One to eight bits."""
    changed = bytearray(data)
    for _ in range(draw.choice((1, 1, 1, 2, 8))):
        if changed:
            at = min(_position(data, draw), len(data) - 1)
            changed[at] ^= 1 << draw.randrange(8)
    return bytes(changed)


def overwrite_bytes(data: bytes, draw: random.Random) -> bytes:
    start, end = _block(data, draw)
    return data[:start] + draw.randbytes(end - start) + data[end:]


def zero_bytes(data: bytes, draw: random.Random) -> bytes:
    start, end = _block(data, draw)
    return data[:start] + bytes(end - start) + data[end:]


def cut_the_end(data: bytes, draw: random.Random) -> bytes:
    return data[: _position(data, draw)]


def cut_the_start(data: bytes, draw: random.Random) -> bytes:
    return data[_position(data, draw) :]


def remove_bytes(data: bytes, draw: random.Random) -> bytes:
    start, end = _block(data, draw)
    return data[:start] + data[end:]


def insert_bytes(data: bytes, draw: random.Random) -> bytes:
    size = draw.choice((1, 1, 4, 8, 100, 70_000))
    more = draw.randbytes(size) if draw.random() < 0.7 else bytes(size)
    return _insert(data, _position(data, draw), more)


def duplicate_bytes(data: bytes, draw: random.Random) -> bytes:
    start, end = _block(data, draw)
    return _insert(data, end, data[start:end] * draw.choice((1, 1, 2, 1000)))[:MOST_BYTES]


def swap_blocks(data: bytes, draw: random.Random) -> bytes:
    (a, b), (c, d) = sorted((_block(data, draw), _block(data, draw)))
    if b > c:
        return flip_bits(data, draw)
    return data[:a] + data[c:d] + data[b:c] + data[a:b] + data[d:]


def overwrite_length(data: bytes, draw: random.Random) -> bytes:
    """A number of 1, 2, 4 or 8 bytes, as lengths and offsets are written."""
    number, size = draw.choice(WORDS), draw.choice((1, 2, 4, 4, 8))
    order: Any = draw.choice(("little", "little", "big"))
    word = (number % (1 << 8 * size)).to_bytes(size, order)
    at = _position(data, draw) // size * size if draw.random() < 0.5 else _position(data, draw)
    return data[:at] + word + data[at + size :]


def nudge_length(data: bytes, draw: random.Random) -> bytes:
    """A 32-bit number at an aligned place, a little larger or smaller."""
    if len(data) < 8:
        return flip_bits(data, draw)
    at = min(_position(data, draw) // 4 * 4, (len(data) - 4) // 4 * 4)
    [number] = struct.unpack_from("<I", data, at)
    moved = (number + draw.choice((-8, -4, -1, 1, 4, 8, 64, 1 << 16))) % (1 << 32)
    return data[:at] + struct.pack("<I", moved) + data[at + 4 :]


def repeat_the_whole(data: bytes, draw: random.Random) -> bytes:
    return (data * draw.choice((2, 2, 3)))[:MOST_BYTES]


def empty(data: bytes, draw: random.Random) -> bytes:
    return draw.choice((b"", b"", b"\n", b" ", b"\x00", data[:4], data[:1]))


def put_another_magic(data: bytes, draw: random.Random) -> bytes:
    magic = draw.choice(OTHER_MAGIC)
    return magic + (data if draw.random() < 0.5 else data[len(magic) :])


def insert_controls(data: bytes, draw: random.Random) -> bytes:
    return _insert(data, _position(data, draw), draw.choice(CONTROLS))


BYTES: list[Mutation] = [
    flip_bits, flip_bits, overwrite_bytes, zero_bytes, cut_the_end, cut_the_start, remove_bytes,
    insert_bytes, duplicate_bytes, swap_blocks, overwrite_length, nudge_length, repeat_the_whole,
    empty, put_another_magic, insert_controls,
]  # fmt: skip


# --- text --------------------------------------------------------------------------------------------


def insert_odd_text(data: bytes, draw: random.Random) -> bytes:
    return _insert(data, _position(data, draw), draw.choice(TEXTS).encode("utf-8", "surrogatepass"))


def insert_no_utf8(data: bytes, draw: random.Random) -> bytes:
    return _insert(data, _position(data, draw), draw.choice(NO_UTF8))


def encode_otherwise(data: bytes, draw: random.Random) -> bytes:
    encoding = draw.choice(
        ("utf-16", "utf-16-le", "utf-32", "utf-8-sig", "cp1252", "utf-7", "cp037")
    )
    return data.decode(errors="replace").encode(encoding, "replace")


def mix_encodings(data: bytes, draw: random.Random) -> bytes:
    """The rest of the file in another encoding."""
    at = _position(data, draw)
    encoding = draw.choice(("latin-1", "utf-16-le", "shift-jis"))
    return data[:at] + ("é" + data[at:].decode(errors="replace")).encode(encoding, "replace")


def change_line_ends(data: bytes, draw: random.Random) -> bytes:
    return data.replace(
        b"\n", draw.choice((b"\r\n", b"\r", b"\n\n", b"\x0b", b"\xe2\x80\xa8", b""))
    )


def edit_lines(data: bytes, draw: random.Random) -> bytes:
    """Drop, double, swap, join or shuffle lines."""
    lines = data.split(b"\n")
    i, j = draw.randrange(len(lines)), draw.randrange(len(lines))
    edit = draw.randrange(5)
    if edit == 0:
        del lines[i]
    elif edit == 1:
        lines.insert(j, lines[i])
    elif edit == 2:
        lines[i], lines[j] = lines[j], lines[i]
    elif edit == 3:
        lines[i : i + 2] = [b"".join(lines[i : i + 2])]
    else:
        draw.shuffle(lines)
    return b"\n".join(lines)


def lengthen_a_line(data: bytes, draw: random.Random) -> bytes:
    return _insert(data, _position(data, draw), draw.choice((b"a", b" ", b'"', b"\\")) * 600_000)


PUNCTUATION = "\"'`,;:\t|\\/{}[]()<>#&*!%@-=+?.\n\r"


def edit_punctuation(data: bytes, draw: random.Random) -> bytes:
    """One character of a syntax, put in or in place of another."""
    at, mark = _position(data, draw), draw.choice(PUNCTUATION).encode()
    return data[:at] + mark * draw.choice((1, 1, 2, 3)) + data[at + draw.randrange(2) :]


def change_a_number(data: bytes, draw: random.Random) -> bytes:
    """Digits that stand somewhere, by an odd number."""
    digits = [at for at, byte in enumerate(data[:100_000]) if 48 <= byte <= 57]
    if not digits:
        return edit_punctuation(data, draw)
    at = draw.choice(digits)
    end = at
    while end < len(data) and 48 <= data[end] <= 57:
        end += 1
    return data[:at] + draw.choice(fuzz_json.ODD_NUMBERS).encode() + data[end:]


TEXT: list[Mutation] = [
    *BYTES, insert_odd_text, insert_no_utf8, encode_otherwise, mix_encodings, change_line_ends,
    edit_lines, edit_lines, lengthen_a_line, edit_punctuation, edit_punctuation, change_a_number,
]  # fmt: skip


# --- JSON --------------------------------------------------------------------------------------------


def edit_json(data: bytes, draw: random.Random) -> bytes:
    """Change the type of a value, a key, the order, the depth … of one document."""
    try:
        return fuzz_json.edit(json.loads(data), draw)
    except (ValueError, RecursionError):
        return edit_punctuation(data, draw)


def edit_json_line(data: bytes, draw: random.Random) -> bytes:
    """The same in one line or a few of a file of JSON lines."""
    lines = data.split(b"\n")
    for _ in range(draw.choice((1, 1, 3))):
        at = draw.randrange(len(lines))
        try:
            lines[at] = fuzz_json.edit(json.loads(lines[at]), draw)
        except (ValueError, RecursionError):
            lines[at] = edit_punctuation(lines[at], draw)
    return b"\n".join(lines)


def edit_json_lines_alike(data: bytes, draw: random.Random) -> bytes:
    """The same edit in every line: a column of another type."""
    seed = draw.random()
    lines = []
    for line in data.split(b"\n"):
        try:
            lines.append(fuzz_json.edit(json.loads(line), random.Random(seed)))
        except (ValueError, RecursionError):
            lines.append(line)
    return b"\n".join(lines)


# --- YAML and TOML -----------------------------------------------------------------------------------

YAML_BITS = (
    "? [a, b]\n: c\n", "&a [*a, *a]\n", "x: &x [1]\ny: *x\n", "<<: {seed: 5}\n", "%YAML 9.9\n---\n",
    "---\n...\n---\na: 1\n", "!!python/object/apply:os.system ['true']\n", "seed: !!float 1\n",
    "seed: 0o17\n", "seed: 1_000\n", "seed: 2001-01-01\n", "seed: yes\n", "seed: !!binary aGk=\n",
    "seed: .inf\n", "seed: 0x10\n", "seed: 1:30\n", "\tseed: 1\n", "seed: |\n  1\n", "- 1\n",
    "!!set {a, b}\n", "a: &a\n  <<: *a\n", "seed: 5\nseed: 6\n", "? ", ": ", "seed: null\n", "~: 1\n",
    "1: 2\n", "[1]: 2\n", "seed: [[[[]]]]\n", "{" * 300, "[" * 3000, "? " * 300, "- " * 3000,
)  # fmt: skip
TOML_BITS = (
    "[[seed]]\n", "[seed]\n", "[a.b.c]\n", "seed = 1979-05-27T07:32:00Z\n", "seed = inf\n",
    "seed = nan\n", "seed = 0xff\n", "seed = 1_000\n", "seed = {a = 1}\n", "seed = [[[]]]\n",
    'seed = """\n5"""\n', "seed = '5'\n", '"" = 1\n', "a.b = 1\n", "seed = 07:32:00\n", "= 1\n",
    "seed = " + "[" * 3000 + "\n", "seed = -0\n", "seed = " + "9" * 5000 + "\n",
)  # fmt: skip


def _insert_line(bits: tuple[str, ...]) -> Mutation:
    def insert_syntax(data: bytes, draw: random.Random) -> bytes:
        lines = data.split(b"\n")
        lines.insert(draw.randint(0, len(lines)), draw.choice(bits).encode().rstrip(b"\n"))
        return b"\n".join(lines)

    return insert_syntax


def _replace_value(bits: tuple[str, ...], mark: str) -> Mutation:
    def replace_value(data: bytes, draw: random.Random) -> bytes:
        lines = data.decode(errors="replace").split("\n")
        keyed = [at for at, line in enumerate(lines) if mark in line]
        if not keyed:
            return edit_punctuation(data, draw)
        at = draw.choice(keyed)
        value = draw.choice(fuzz_json.ODD_VALUES)
        lines[at] = lines[at].split(mark)[0] + f"{mark} {value}"
        return "\n".join(lines).encode("utf-8", "surrogatepass")

    return replace_value


# --- containers --------------------------------------------------------------------------------------


def _inside_zip(kind: str) -> Mutation:
    def inside_a_member(data: bytes, draw: random.Random) -> bytes:
        try:
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                members = {name: archive.read(name) for name in archive.namelist()}
        except (
            zipfile.BadZipFile,
            OSError,
            ValueError,
            NotImplementedError,
            EOFError,
            zlib.error,
            RuntimeError,
        ):
            return flip_bits(data, draw)
        name = draw.choice(sorted(members) or ["none"])
        if draw.random() < 0.1:
            members.pop(name, None)
        else:
            members[name] = draw.choice(MUTATIONS[kind])(members.get(name, b""), draw)
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
            for member, content in members.items():
                archive.writestr(member, content)
        return out.getvalue()

    return inside_a_member


def edit_safetensors_header(data: bytes, draw: random.Random) -> bytes:
    """The JSON of the header, with the right length before it, or a wrong one."""
    if len(data) < 8:
        return flip_bits(data, draw)
    [length] = struct.unpack_from("<Q", data)
    header = edit_json(data[8 : 8 + length], draw)
    stated = len(header) if draw.random() < 0.8 else draw.choice(WORDS) % (1 << 64)
    return struct.pack("<Q", stated) + header + data[8 + length :]


def compressed(mutation: Mutation, suffix: str) -> Mutation:
    """A mutation of what a .gz or .zst file holds; its checksums are made anew."""

    def inside(data: bytes, draw: random.Random) -> bytes:
        import zstandard

        try:
            if suffix == ".gz":
                return gzip.compress(mutation(gzip.decompress(data), draw), 1)
            plain = zstandard.ZstdDecompressor().decompress(data, max_output_size=MOST_BYTES)
            return zstandard.ZstdCompressor(write_checksum=True).compress(mutation(plain, draw))
        except (OSError, EOFError, ValueError, zlib.error, zstandard.ZstdError):
            return flip_bits(data, draw)

    inside.__name__ = f"inside: {mutation.__name__}"
    return inside


# --- HTTP answers ------------------------------------------------------------------------------------

STATUS_LINES = (
    b"HTTP/1.1 204 No Content", b"HTTP/1.1 500 Oops", b"HTTP/1.1 429 Slow", b"HTTP/1.0 200 OK",
    b"HTTP/1.1 99 What", b"HTTP/1.1 1000 What", b"HTTP/1.1 OK 200", b"HTTP/1.1 301 Moved", b"ICY 200",
    b"HTTP/1.1 401 No", b"HTTP/1.1 100 Continue", b"HTTP/1.1 304 Same", b"HTTP/1.1 206 Part",
    b"HTTP/9.9 200 OK", b"HTTP/1.1 200 \x1b[31m", b"HTTP/1.1 418 \xff\xfe", b"HTTP/1.1 503 Busy",
)  # fmt: skip
HEADERS = (
    b"content-encoding: gzip", b"content-encoding: br", b"content-encoding: gzip, gzip",
    b"transfer-encoding: chunked", b"transfer-encoding: gzip, chunked", b"content-length: 0",
    b"content-length: -1", b"content-length: 99999999999999999999", b"content-length: 5",
    b"content-type: text/html", b"content-type: application/json; charset=utf-16",
    b"content-type: application/json; charset=nonsense", b"retry-after: 99999999999",
    b"retry-after: -1", b"retry-after: soon", b"retry-after: nan", b"location: file:///etc/passwd",
    b"location: http://127.0.0.1:1/", b"connection: close", b"x: " + b"y" * 70_000, b" folded: 1",
    b"no colon", b": empty", b"x-\xff: \xfe", b"set-cookie: a=b", b"x-ratelimit-reset-requests: 9e9s",
    b"retry-after-ms: 1e400", b"x-should-retry: true",
)  # fmt: skip


def _http_parts(data: bytes) -> tuple[list[bytes], bytes]:
    head, _, body = data.partition(b"\r\n\r\n")
    return head.split(b"\r\n"), body


def _http_whole(lines: list[bytes], body: bytes) -> bytes:
    lines = [b"content-length: %d" % len(body) if b"content-length" in x else x for x in lines]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def change_status(data: bytes, draw: random.Random) -> bytes:
    lines, body = _http_parts(data)
    return b"\r\n".join([draw.choice(STATUS_LINES), *lines[1:]]) + b"\r\n\r\n" + body


def add_header(data: bytes, draw: random.Random) -> bytes:
    lines, body = _http_parts(data)
    lines.insert(draw.randint(1, len(lines)), draw.choice(HEADERS))
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def chunk_the_body(data: bytes, draw: random.Random) -> bytes:
    """Chunked, with a wrong size or ending now and then."""
    lines, body = _http_parts(data)
    lines = [line for line in lines if b"content-length" not in line]
    out, at = [], 0
    while at < len(body):
        size = draw.randint(1, 200)
        stated = size if draw.random() < 0.98 else draw.choice((0, size + 1, 2**31, 2**64))
        out.append(b"%x\r\n" % min(stated, 2**70) + body[at : at + size] + b"\r\n")
        at += size
    ending = draw.choice((b"0\r\n\r\n", b"0\r\n\r\n", b"0\r\nx: y\r\n\r\n", b"", b"-1\r\n\r\n"))
    head = b"\r\n".join([*lines, b"transfer-encoding: chunked"])
    return head + b"\r\n\r\n" + b"".join(out) + ending


def compress_the_body(data: bytes, draw: random.Random) -> bytes:
    lines, body = _http_parts(data)
    packed = gzip.compress(body)
    if draw.random() < 0.5:
        packed = draw.choice(BYTES)(packed, draw)
    return _http_whole([*lines, b"content-encoding: gzip"], packed)


def edit_the_json_body(data: bytes, draw: random.Random) -> bytes:
    lines, body = _http_parts(data)
    return _http_whole(lines, edit_json(body, draw))


def edit_the_content(data: bytes, draw: random.Random) -> bytes:
    """The text that the model wrote, which is JSON in a string of the JSON."""
    lines, body = _http_parts(data)
    try:
        answer = json.loads(body)
        message = answer["choices"][0]["message"]
        message["content"] = edit_json(message["content"].encode(), draw).decode("utf-8", "replace")
        return _http_whole(lines, json.dumps(answer).encode())
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return edit_the_json_body(data, draw)


HTTP: list[Mutation] = [
    *BYTES, change_status, change_status, add_header, add_header, chunk_the_body, chunk_the_body,
    compress_the_body, *[edit_the_json_body] * 6, *[edit_the_content] * 6,
]  # fmt: skip


def rewrite_table(data: bytes, draw: random.Random) -> bytes:
    """Arrow or Parquet, read and written by pyarrow with a change."""
    return fuzz_tables.rewrite(data, draw) or flip_bits(data, draw)


def edit_messages(data: bytes, draw: random.Random) -> bytes:
    """Drop, double or swap whole messages of an Arrow stream."""
    return fuzz_tables.edit_messages(data, draw) or flip_bits(data, draw)


def edit_notes(data: bytes, draw: random.Random) -> bytes:
    """The JSON of announcement, trailer, footer or stamp."""
    return fuzz_tables.edit_notes(data, draw) or flip_bits(data, draw)


rewrite_table.__name__ = "rewritten by pyarrow"

STRUCTURED: list[Mutation] = [*[rewrite_table] * 5, *[edit_notes] * 3]
MUTATIONS: dict[str, list[Mutation]] = {
    "bytes": BYTES,
    "text": TEXT,
    "json": [*TEXT, *[edit_json] * 20],
    "jsonl": [*TEXT, *[edit_json_line] * 14, *[edit_json_lines_alike] * 6],
    "yaml": [*TEXT, *[_insert_line(YAML_BITS)] * 8, *[_replace_value(YAML_BITS, ":")] * 8],
    "toml": [*TEXT, *[_insert_line(TOML_BITS)] * 8, *[_replace_value(TOML_BITS, "=")] * 8],
    "arrow-stream": [*BYTES, *STRUCTURED, *[edit_messages] * 3],
    "arrow-file": [*BYTES, *STRUCTURED],
    "parquet": [*BYTES, *STRUCTURED],
    "xlsx": [*BYTES, *[_inside_zip("text")] * 12],
    "safetensors": [*BYTES, *[edit_safetensors_header] * 12],
    "http": HTTP,
}


def mutate(data: bytes, kind: str, suffix: str, draw: random.Random) -> tuple[list[str], bytes]:
    """(the names of the mutations, the bytes after them). suffix: .gz and .zst hold the kind."""
    names = []
    for _ in range(draw.choice((1, 1, 1, 1, 2, 3))):
        mutation = draw.choice(MUTATIONS[kind])
        if suffix in (".gz", ".zst"):
            whole = draw.random() < 0.5
            mutation = draw.choice(BYTES) if whole else compressed(mutation, suffix)
        data = mutation(data, draw)[:MOST_BYTES]
        names.append(mutation.__name__.replace("_", " "))
    return names, data
