"""Readers of rows: Arrow, Parquet, JSON lines, tables, the layouts of other programs, and folders of them."""

from __future__ import annotations

import contextlib
import csv
import gzip
import io
import json
import unicodedata
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import fuzz_tables
from conftest import SUBJECTS
from fuzz_reader import FuzzedReader, Unreadable

from fletching import cli
from fletching.io import Reader, Writer
from fletching.options import LimitOptions, StandardOptions
from fletching.options.fields import option, positional
from fletching.report import Report

Row = dict[str, Any]
ROWS_OUT = "rows.json"


# --- a tool that reads checked rows, as trainers and miners do ---------------------------------------


@dataclass(frozen=True, kw_only=True)
class ReadOptions(StandardOptions, LimitOptions):
    """What is read, and as what."""

    inputs: tuple[str, ...] = positional("rows", "INPUT")
    schema: str = option("examples", "names of schemas", metavar="NAME")


def _read(options: ReadOptions, report: Report) -> None:
    reader = Reader(report, options.inputs, options.schema.split("+"), limit=options.limit)
    rows = reader.read_all().to_pylist()
    report.rows_out = len(rows)
    Path(ROWS_OUT).write_text(json.dumps(rows, default=repr), "utf-8")


READ = cli.Tool(name="read", options=ReadOptions, run=_read, doc="Read rows.", usage="INPUT…")


def read(argv: list[str]) -> int:
    return cli.main(READ, argv)


def rows_read(folder: Path) -> Any:
    return json.loads((folder / ROWS_OUT).read_text("utf-8"))


def lines_out(folder: Path) -> list[Row]:
    """What a command wrote as out.jsonl, by Python's json."""
    with open(folder / "out.jsonl", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


# --- inputs ------------------------------------------------------------------------------------------


def examples() -> list[Row]:
    """Twelve rows with each kind of column."""
    answers = [answer for _, answer in SUBJECTS.values()]
    return [
        {
            "id": name,
            "query": query,
            "pos": [answer],
            "neg": None
            if number == 3
            else [answers[number - 1], answers[number - 2]][: number % 3],
            "pos_scores": [0.5 + number / 32],
            "pos_score_kind": "cosine",
            "prompt": "Represent: " if number % 2 else None,
            "note": {"number": number, "flags": [True, None]},
        }
        for number, (name, (query, answer)) in enumerate(SUBJECTS.items())
    ]


def texts() -> list[Row]:
    return [{"id": name, "text": text} for name, (_, text) in SUBJECTS.items()]


def _ours(path: Path, rows: list[Row], schema: str = "examples") -> None:
    import pyarrow as pa

    from fletching import schema as contract

    known = contract.load(schema)
    names = list(rows[0])
    unknown = [
        pa.field(name, pa.array([row[name] for row in rows]).type)
        for name in names
        if known.field(name) is None
    ]
    columns = known.arrow(names, unknown)
    report = Report("maker", quiet=True)
    with Writer(
        report, str(path), schema, columns, version="1", options={"seed": 1}, count=False
    ) as out:
        out.write(pa.RecordBatch.from_pylist(rows, columns))


def _foreign(path: Path, rows: list[Row]) -> None:
    import random

    import pyarrow as pa

    kind = {".parquet": "parquet", ".arrow": "file"}.get(path.suffix, "stream")
    path.write_bytes(fuzz_tables.write(pa.Table.from_pylist(rows), kind, random.Random(1)))


def write_lines(path: Path, rows: list[Row]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")


def _plain(path: Path) -> bytes:
    """The content of a file, by other decompressors than ours. Raises Unreadable."""
    import zstandard

    data = path.read_bytes()
    try:
        for _ in range(5):
            if data[:2] == b"\x1f\x8b":
                data = gzip.decompress(data)
            elif data[:4] == b"\x28\xb5\x2f\xfd":
                frames = zstandard.ZstdDecompressor().stream_reader(data, read_across_frames=True)
                data = frames.read()
            else:
                return data
    except (OSError, EOFError, ValueError, zlib.error, zstandard.ZstdError) as error:
        raise Unreadable(str(error)) from None
    return data


# --- independent readings ----------------------------------------------------------------------------

LISTS = ("pos", "neg", "pos_ids", "neg_ids", "pos_scores", "neg_scores")
KNOWN = {"id", "query", "pos", "neg", "pos_scores", "pos_score_kind", "prompt", "note"}
COMPARED = ("query", "pos", "neg", "prompt")


def _objects(data: bytes) -> list[Any]:
    """JSON lines or an array, by Python's json alone. Raises Unreadable."""
    try:
        text = data.decode("utf-8-sig")
        if text[:1] == "[":
            return list(json.loads(text))
        return [json.loads(line) for line in text.split("\n") if line.strip()]
    except (ValueError, RecursionError, TypeError) as error:
        raise Unreadable(str(error)) from None


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _compared(rows: list[Any], names: tuple[str, ...] = COMPARED) -> list[Row]:
    """Of each row what an independent reading can say: texts, with one text for a list of one."""
    return [
        {name: _as_list(row.get(name)) if name in LISTS else row.get(name) for name in names}
        for row in rows
    ]


def expected_examples(rows: list[Any]) -> list[Row]:
    """Rows of our layout, as they have to come out. Raises Unreadable where the columns are others."""
    names = {name for row in rows if isinstance(row, dict) for name in row}
    if not all(isinstance(row, dict) for row in rows) or not {"query", "pos"} <= names <= KNOWN:
        raise Unreadable("other columns")
    return _compared(rows)


def _json_expected(folder: Path) -> list[Row]:
    [path] = folder.glob("in.*")
    return expected_examples(_objects(_plain(path)))


def _table_rows(folder: Path) -> list[Row]:
    [path] = folder.glob("in.*")
    try:
        return list(fuzz_tables.read(_plain(path)).to_pylist())
    except fuzz_tables.BROKEN as error:
        raise Unreadable(str(error)) from None


def _table_expected(folder: Path) -> list[Row]:
    return json.loads(json.dumps(expected_examples(_table_rows(folder)), default=_as_text))


def _as_text(value: Any) -> Any:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else repr(value)


def examples_read(folder: Path) -> list[Row]:
    return _compared(rows_read(folder))


# --- rules for inputs that no other program reads as we do -------------------------------------------


def strings(value: Any) -> Iterator[str]:
    """All texts and numbers in some JSON, as texts."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield str(key)
            yield from strings(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from strings(item)
    elif isinstance(value, bytes):
        yield value.decode("utf-8", "replace")
    elif value is not None:
        yield str(value)


def _words(values: Any) -> set[str]:
    return {word for text in strings(values) for word in text.split()}


def _source(path: Path) -> set[str]:
    """All words of a file, however it is laid out."""
    try:
        plain = _plain(path)
    except Unreadable:
        return set()
    try:
        return _words(fuzz_tables.read(plain).to_pylist())
    except fuzz_tables.BROKEN:
        pass
    words = set(plain.decode("utf-8", "replace").replace('"', " ").split())
    for line in plain.split(b"\n"):
        try:
            words |= _words(json.loads(line))
        except (ValueError, RecursionError):
            continue
    with contextlib.suppress(ValueError, RecursionError):
        words |= _words(json.loads(plain))
    return words


TEXTS_OF = ("query", "pos", "neg", "text")


def no_word_is_new(folder: Path, got: Any, names: tuple[str, ...] = TEXTS_OF) -> str:
    """Each word of a text that comes out stands in the input; a row has its query and a positive."""
    source: set[str] = set()
    for path in folder.rglob("*"):
        if path.is_file() and path.name not in (ROWS_OUT, "out.jsonl"):
            source |= _source(path)
    for number, row in enumerate(got, 1):
        for name in names:
            new = _words(row.get(name)) - source
            if new:
                return f"row {number}: `{name}` has words that the input lacks: {sorted(new)[:5]}"
        for name in ("query", "pos"):
            if name in names and name in row and row[name] is None:
                return f"row {number} has no {name}"
    return ""


def no_word_of_texts_is_new(folder: Path, got: Any) -> str:
    """`no_word_is_new` for rows of `texts`: a column `query` is a foreign one, of any type."""
    return no_word_is_new(folder, got, names=("text",))


# --- the readers -------------------------------------------------------------------------------------


def announced(path: Path) -> bool:
    """Does an Arrow stream or file of ours still say that its trailer comes?"""
    return b'"announced"' in path.read_bytes()


def footer_is_there(path: Path) -> bool:
    data = path.read_bytes()
    return data.endswith(b"PAR1") and fuzz_tables.END_KEY in data


def is_compressed(path: Path) -> bool:
    """Does it still begin as gzip or zstd? Else it is plain text under a name for compressed files."""
    return path.read_bytes().startswith((b"\x1f\x8b", b"\x28\xb5\x2f\xfd"))


def _rows(
    name: str, file: str, kind: str, weight: int, *, ours: bool = False, **more: Any
) -> FuzzedReader:
    """A file of examples through the checked reader."""

    def fill(folder: Path) -> None:
        path = folder / file
        if ours:
            _ours(path, examples())
        elif kind == "jsonl":
            write_lines(path, examples())
        else:
            _foreign(path, examples())

    settings: dict[str, Any] = {
        "line": f"read {file}",
        "program": read,
        "output": examples_read,
        "outputs": (ROWS_OUT,),
        "holds": no_word_is_new,
        "expected": _json_expected if kind in ("json", "jsonl") else _table_expected,
    }
    return FuzzedReader(
        name=name, fill=fill, files={file: (kind, 1)}, weight=weight, **settings | more
    )


def _arrowcat(name: str, file: str, kind: str, weight: int, line: str, **more: Any) -> FuzzedReader:
    def fill(folder: Path) -> None:
        _ours(folder / file, examples())

    settings: dict[str, Any] = {"output": lambda folder: None, "line": line}
    return FuzzedReader(
        name=name, fill=fill, files={file: (kind, 1)}, weight=weight, **settings | more
    )


def page_is_harmless(folder: Path, got: Any) -> str:
    """No element, attribute or address that our templates do not write."""
    page = (folder / "out.html").read_text("utf-8")
    for sign in ("<script>alert", "\x1b", "\x00", "src=x", "\u202e"):
        if sign in page:
            return f"{sign!r} stands on the page"
    return ""


def _json_array(folder: Path) -> None:
    (folder / "in.json").write_text(json.dumps(examples(), ensure_ascii=False, indent=1), "utf-8")


ROW_READERS = [
    _rows("Arrow stream", "in.arrows", "arrow-stream", 80, ours=True, checksummed=announced),
    _rows("Arrow file", "in.arrow", "arrow-file", 80, ours=True, checksummed=announced),
    _rows("Parquet", "in.parquet", "parquet", 80, ours=True, checksummed=footer_is_there),
    _rows("Arrow stream of others", "in.arrows", "arrow-stream", 40),
    _rows("Arrow file of others", "in.arrow", "arrow-file", 40),
    _rows("Parquet of others", "in.parquet", "parquet", 50),
    _rows("JSON lines", "in.jsonl", "jsonl", 90),
    _rows("JSON lines, gzip", "in.jsonl.gz", "jsonl", 30, ours=True, checksummed=is_compressed),
    _rows("JSON lines, zstd", "in.jsonl.zst", "jsonl", 30, ours=True, checksummed=is_compressed),
    FuzzedReader(
        name="JSON array", line="read in.json", program=read, fill=_json_array,
        files={"in.json": ("json", 1)}, output=examples_read, expected=_json_expected,
        holds=no_word_is_new, outputs=(ROWS_OUT,), weight=25,
    ),
    _arrowcat(
        "arrowcat, rows to JSON lines", "in.arrows", "arrow-stream", 25, "arrowcat in.arrows -o out.jsonl",
        output=lambda folder: _compared(lines_out(folder)), checksummed=announced,
        expected=_table_expected, outputs=("out.jsonl",),
    ),
    _arrowcat("arrowcat --check", "in.parquet", "parquet", 12, "arrowcat in.parquet --check"),
    _arrowcat("arrowcat --stats", "in.parquet", "parquet", 12, "arrowcat in.parquet --stats"),
    _arrowcat("arrowcat --lineage", "in.arrow", "arrow-file", 15, "arrowcat in.arrow --lineage"),
    _arrowcat("arrowcat, a look", "in.arrow", "arrow-file", 15, "arrowcat in.arrow --head 3"),
    _arrowcat(
        "arrowcat --html", "in.parquet", "parquet", 12, "arrowcat in.parquet --html out.html",
        holds=page_is_harmless, outputs=("out.html",),
    ),
]  # fmt: skip


# --- rows of other schemas ---------------------------------------------------------------------------


def _vectors() -> list[Row]:
    return [
        {"text_hash": f"{number:032x}", "vector": [number / 8, 1.0, -0.5, 0.25]}
        for number in range(12)
    ]


def _write_vectors(folder: Path) -> None:
    import pyarrow as pa

    rows = _vectors()
    columns = pa.schema(
        [
            pa.field("text_hash", pa.string(), nullable=False),
            pa.field("vector", pa.list_(pa.float32(), 4), nullable=False),
        ]
    )
    with Writer(
        Report("maker", quiet=True), str(folder / "in.parquet"), "vectors", columns,
        version="1", options={}, count=False,
    ) as out:  # fmt: skip
        out.write(pa.RecordBatch.from_pylist(rows, columns))


def _tasks() -> list[Row]:
    return [
        {"id": f"t{number}", "type": "short-long", "text": f"Given a {name}, find its answer."}
        for number, name in enumerate(SUBJECTS)
    ]


def _schema_reader(
    name: str, fill: Any, file: str, kind: str, *, schema: str, **more: Any
) -> FuzzedReader:
    settings: dict[str, Any] = {"output": rows_read, "outputs": (ROWS_OUT,), "weight": 20}
    return FuzzedReader(
        name=name, line=f"read {file} --schema {schema}", program=read, fill=fill,
        files={file: (kind, 1)}, **settings | more,
    )  # fmt: skip


def _vectors_are_finite(folder: Path, got: Any) -> str:
    odd = [
        row for row in got if any(x != x or abs(x) == float("inf") for x in row["vector"] or [0])
    ]
    return f"a vector that is not finite: {odd[0]}" if odd else ""


SCHEMA_READERS = [
    _schema_reader(
        "texts", lambda folder: _ours(folder / "in.parquet", texts(), "texts"), "in.parquet", "parquet",
        schema="texts", checksummed=footer_is_there, holds=no_word_of_texts_is_new,
    ),
    _schema_reader(
        "texts of others", lambda folder: write_lines(folder / "in.jsonl", texts()), "in.jsonl", "jsonl",
        schema="texts", holds=no_word_of_texts_is_new,
    ),
    _schema_reader(
        "vectors", _write_vectors, "in.parquet", "parquet", schema="vectors", checksummed=footer_is_there,
        holds=_vectors_are_finite, weight=30,
    ),
    _schema_reader(
        "tasks", lambda folder: write_lines(folder / "in.jsonl", _tasks()), "in.jsonl", "jsonl",
        schema="tasks", weight=15,
    ),
]  # fmt: skip


# --- layouts of other programs -----------------------------------------------------------------------


def _samples() -> dict[str, list[Row]]:
    """Rows in the layouts that are read, each with texts of our own."""
    rows = [(query, answer, f"no {name}") for name, (query, answer) in SUBJECTS.items()]
    return {
        "FlagEmbedding": [
            {
                "query": q,
                "pos": [p],
                "neg": [n],
                "pos_scores": [1.5],
                "neg_scores": [0.5],
                "prompt": "do: ",
            }
            for q, p, n in rows
        ],
        "RAG-Retrieval": [{"query": q, "pos": [p, n], "scores": [0.8, 0.2]} for q, p, n in rows],
        "ConRetriever": [
            {"query": q, "positive": [p], "negative": [n], "instruction": "do: "}
            for q, p, n in rows
        ],
        "n-tuple": [
            {"anchor": q, "positive": p, "negative_1": n, "negative_2": "none"} for q, p, n in rows
        ],
        "labelled pair": [
            {"sentence1": q, "sentence2": p, "score": number / 4}
            for number, (q, p, _) in enumerate(rows)
        ],
        "labelled list": [{"query": q, "docs": [p, n], "labels": [1, 0]} for q, p, n in rows],
        "filtered pair": [
            {"query": q, "document": p, "cos_sim": 0.75, "metadata": {"year": 1}}
            for q, p, _ in rows
        ],
        "Tevatron": [
            {
                "query_id": number,
                "query": q,
                "positive_passages": [{"docid": "1", "title": "T", "text": p}],
                "negative_passages": [{"docid": "2", "title": "", "text": n}],
            }
            for number, (q, p, n) in enumerate(rows)
        ],
    }


def _format_reader(name: str) -> FuzzedReader:
    return FuzzedReader(
        name=f"rows of {name}", line="read in.jsonl", program=read, output=rows_read,
        fill=lambda folder: write_lines(folder / "in.jsonl", _samples()[name]),
        files={"in.jsonl": ("jsonl", 1)}, outputs=(ROWS_OUT,), weight=10, holds=no_word_is_new,
    )  # fmt: skip


def _collection(folder: Path) -> list[tuple[str, str, int]]:
    write_lines(
        folder / "in/corpus.jsonl",
        [{"_id": n, "title": "", "text": a} for n, (_, a) in SUBJECTS.items()],
    )
    write_lines(
        folder / "in/queries.jsonl",
        [{"_id": f"q-{n}", "text": q} for n, (q, _) in SUBJECTS.items()],
    )
    names = list(SUBJECTS)
    return [
        (f"q-{name}", document, grade)
        for number, name in enumerate(names)
        for document, grade in ((name, 1), (names[number - 1], 0))
    ]


def _beir(folder: Path) -> None:
    judged = _collection(folder)
    (folder / "in/qrels").mkdir()
    lines = ["query-id\tcorpus-id\tscore", *(f"{q}\t{d}\t{g}" for q, d, g in judged)]
    (folder / "in/qrels/train.tsv").write_text("\n".join(lines) + "\n")


def _mteb(folder: Path) -> None:
    judged = _collection(folder)
    rows = [{"query-id": q, "corpus-id": d, "score": g} for q, d, g in judged]
    write_lines(folder / "in/qrels/train.jsonl", rows)


def _saved(folder: Path) -> None:
    (folder / "in").mkdir()
    _foreign(folder / "in/data-00000-of-00001.arrows", examples())
    (folder / "in/data-00000-of-00001.arrows").rename(folder / "in/data-00000-of-00001.arrow")
    state = {
        "_data_files": [{"filename": "data-00000-of-00001.arrow"}],
        "_fingerprint": "0",
        "_split": "train",
    }
    (folder / "in/state.json").write_text(json.dumps(state))
    (folder / "in/dataset_info.json").write_text("{}")


def _folder_reader(name: str, fill: Any, files: dict[str, tuple[str, int]]) -> FuzzedReader:
    return FuzzedReader(
        name=name, line="read in", program=read, output=rows_read, fill=fill, files=files,
        outputs=(ROWS_OUT,), weight=15, holds=no_word_is_new,
    )  # fmt: skip


COLLECTION = {"in/corpus.jsonl": ("jsonl", 2), "in/queries.jsonl": ("jsonl", 2)}
FORMAT_READERS = [
    *map(_format_reader, _samples()),
    _folder_reader("BEIR folder", _beir, COLLECTION | {"in/qrels/train.tsv": ("text", 3)}),
    _folder_reader("saved data set", _saved, {
        "in/state.json": ("json", 2), "in/data-00000-of-00001.arrow": ("arrow-stream", 3),
    }),
]  # fmt: skip


# --- tables ------------------------------------------------------------------------------------------


def _cells() -> list[list[str]]:
    tricky = ['He said "no", twice', "two\nlines", "", " padded ", "a;b|c\td", "naïve — ☃"]
    rows = [
        [query, answer, name, str(number)]
        for number, (name, (query, answer)) in enumerate(SUBJECTS.items())
    ]
    for row, text in zip(rows, tricky):
        row[1] = f"{row[1]} {text}"
    return [["query", "pos", "kind", "score"], *rows]


def _write_table(path: Path, *, delimiter: str = ",", encoding: str = "utf-8") -> None:
    out = io.StringIO()
    csv.writer(out, delimiter=delimiter, lineterminator="\n").writerows(_cells())
    path.write_bytes(out.getvalue().encode(encoding))


SHEET = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
PACKAGE = "http://schemas.openxmlformats.org/package/2006"


def _write_workbook(folder: Path) -> None:
    """The least that Excel and calamine open: one sheet, texts in their cells."""
    rows = [
        "".join(
            f'<c t="inlineStr"><is><t xml:space="preserve">{escape(cell)}</t></is></c>'
            for cell in row
        )
        for row in _cells()
    ]
    body = "".join(f'<row r="{number}">{row}</row>' for number, row in enumerate(rows, 1))
    main = "application/vnd.openxmlformats-officedocument.spreadsheetml"
    members = {
        "[Content_Types].xml": f'<Types xmlns="{PACKAGE}/content-types">'
        f'<Override PartName="/xl/workbook.xml" ContentType="{main}.sheet.main+xml"/>'
        f'<Override PartName="/xl/worksheets/sheet1.xml" ContentType="{main}.worksheet+xml"/></Types>',
        "_rels/.rels": f'<Relationships xmlns="{PACKAGE}/relationships">'
        f'<Relationship Id="r1" Type="{OFFICE}/officeDocument" Target="xl/workbook.xml"/></Relationships>',
        "xl/workbook.xml": f'<workbook xmlns="{SHEET}" xmlns:r="{OFFICE}">'
        '<sheets><sheet name="one" sheetId="1" r:id="r1"/></sheets></workbook>',
        "xl/_rels/workbook.xml.rels": f'<Relationships xmlns="{PACKAGE}/relationships">'
        f'<Relationship Id="r1" Type="{OFFICE}/worksheet" Target="worksheets/sheet1.xml"/></Relationships>',
        "xl/worksheets/sheet1.xml": f'<worksheet xmlns="{SHEET}"><sheetData>{body}</sheetData></worksheet>',
    }  # fmt: skip
    with zipfile.ZipFile(folder / "in.xlsx", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def _write_json_rows(folder: Path) -> None:
    header, *rows = _cells()
    write_lines(folder / "in.jsonl", [dict(zip(header, row)) for row in rows])


def _pairs_out(folder: Path) -> list[Row]:
    return [{"query": row["query"], "pos": row["pos"]} for row in lines_out(folder)]


def _pairs_expected(folder: Path) -> list[Row]:
    """By Python's csv, for tables that it reads without doubt. Raises Unreadable."""
    try:
        text = (folder / "in.csv").read_bytes().decode("utf-8-sig")
        header, *rows = csv.reader(io.StringIO(text, newline=""), strict=True)
    except (ValueError, csv.Error) as error:
        raise Unreadable(str(error)) from None
    if header.count("query") != 1 or header.count("pos") != 1 or "\x00" in text:
        raise Unreadable("other columns")
    at = header.index("query"), header.index("pos")
    if any(len(row) != len(header) for row in rows if row):
        raise Unreadable("ragged rows")
    pairs: dict[tuple[str, str], Row] = {}
    for row in rows:
        if row and all(row[position].strip() for position in at):
            query, pos = (row[position] for position in at)
            forms = _compared_form(query), _compared_form(pos)
            if forms[0] != forms[1]:
                pairs.setdefault(forms, {"query": query, "pos": [pos]})
    return list(pairs.values())


def _compared_form(text: str) -> str:
    """Texts that differ in capitals, blanks or Unicode forms alone are duplicates."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return " ".join(unicodedata.normalize("NFKC", folded).split())


PAIRS = "--query query --pos pos -o out.jsonl"


def _table_reader(name: str, file: str, kind: str, fill: Any, **more: Any) -> FuzzedReader:
    settings: dict[str, Any] = {
        "line": f"csv2pairs {file} {PAIRS}", "output": _pairs_out, "outputs": ("out.jsonl",),
        "weight": 25, "holds": _table_holds,
    }  # fmt: skip
    return FuzzedReader(name=name, fill=fill, files={file: (kind, 1)}, **settings | more)


def _table_holds(folder: Path, got: Any) -> str:
    """Texts are there and are texts; without an independent reading no more can be said of cells."""
    for number, row in enumerate(got, 1):
        if (
            not row["query"].strip()
            or not row["pos"]
            or not all(text.strip() for text in row["pos"])
        ):
            return f"row {number} has an empty text: {row}"
    return ""


def _named_columns(name: str, file: str, **settings: Any) -> FuzzedReader:
    return FuzzedReader(
        name=name, line=f"read {file}", program=read, output=rows_read, weight=20, outputs=(ROWS_OUT,),
        fill=lambda folder: _write_table(folder / file, **settings), files={file: ("text", 1)},
        holds=lambda folder, got: "",
    )  # fmt: skip


TABLE_READERS = [
    _table_reader(
        "csv2pairs, CSV", "in.csv", "text", lambda folder: _write_table(folder / "in.csv"),
        line=f"csv2pairs in.csv --delimiter , --encoding utf-8 {PAIRS}", expected=_pairs_expected,
        weight=60,
    ),
    _table_reader(
        "csv2pairs, detected", "in.csv", "text",
        lambda folder: _write_table(folder / "in.csv", delimiter=";", encoding="utf-8"),
        weight=30,
    ),
    _table_reader(
        "csv2pairs, UTF-16", "in.csv", "text",
        lambda folder: _write_table(folder / "in.csv", encoding="utf-16"),
        line=f"csv2pairs in.csv --encoding utf-16 {PAIRS}", weight=10,
    ),
    _table_reader(
        "csv2pairs, TSV, rows dropped", "in.tsv", "text",
        lambda folder: _write_table(folder / "in.tsv", delimiter="\t"),
        line=f"csv2pairs in.tsv --bad-rows drop --negatives 2 {PAIRS}", weight=20,
    ),
    _table_reader("csv2pairs, Excel", "in.xlsx", "xlsx", _write_workbook, weight=30),
    _table_reader(
        "csv2pairs, JSON lines", "in.jsonl", "jsonl", _write_json_rows,
        weight=30,
    ),
    _table_reader(
        "csv2pairs, Parquet", "in.parquet", "parquet",
        lambda folder: _foreign(folder / "in.parquet", [dict(zip(_cells()[0], row)) for row in _cells()[1:]]),
        weight=20,
    ),
    _named_columns("named columns, CSV", "in.csv"),
    _named_columns("named columns, TSV", "in.tsv", delimiter="\t"),
]  # fmt: skip
