"""Folders as they come: what is dropped is counted and named, and the bytes are always the same."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from docs2texts.cli import main

pytestmark = pytest.mark.slow  # as a whole: each test starts commands


def read_jsonl(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def build(folder: Path) -> None:
    """Documents of each trouble."""
    folder.mkdir()
    page = "<title>T{n}</title><nav>Menu</nav><p>The same line on each page.<p>Page {n} says {n}."
    for number in range(6):
        (folder / f"p{number}.html").write_text(page.format(n=number))
    (folder / "copy.html").write_text(page.format(n=1))
    words = " ".join(f"word{n}" for n in range(60))
    (folder / "near1.txt").write_text(words)
    (folder / "near2.txt").write_text(words + " more")
    (folder / "latin.txt").write_bytes("Grüße aus Köln".encode("cp1252"))
    (folder / "korean.txt").write_bytes(("안녕하세요 세계 " * 20).encode("cp949"))
    (folder / "wide.txt").write_bytes("a b c\n".encode("utf-16"))
    (folder / "stated.html").write_bytes(
        '<meta charset="shift_jis"><p>日本語のページ'.encode("shift_jis")
    )
    (folder / "unknown.txt").write_bytes(b"a\xff\x81 b\x8d")
    (folder / "binary.txt").write_bytes(bytes(range(256)) * 4)
    (folder / "broken.pdf").write_bytes(b"%PDF-1.4 nothing")
    (folder / "broken.docx").write_bytes(b"PK nothing")
    (folder / "old.py").write_text("print 'two'\n")
    (folder / "empty.md").touch()
    (folder / "blank.md").write_text(" \n\n")
    (folder / "packed.js").write_text("function f(){return " + "1+" * 400 + "1}\n")
    (folder / "sheet.csv").write_text("a,b\n")
    (folder / ".hidden").mkdir()
    (folder / "loop").symlink_to(folder)
    (folder / "lost.txt").symlink_to(folder / "nowhere")
    os.mkfifo(folder / "pipe.txt")
    with open(folder / "huge.txt", "wb") as file:
        file.truncate(10**9)
    deep = folder
    for _ in range(40):
        deep = deep / "deep"
        deep.mkdir()
    (deep / "end.txt").write_text("at the end of it")


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    build(tmp_path / "docs")
    return tmp_path / "docs"


def test_every_trouble_is_counted_and_named(docs: Path, tmp_path: Path, run):
    out, rejects = tmp_path / "out.jsonl", tmp_path / "rejects.jsonl"
    argv = ["docs2texts", docs, "--rejects", rejects, "-o", out]
    done = run([*argv, "--json-summary", tmp_path / "summary.json"])
    assert done.rc == 0, done.err
    summary = json.loads((tmp_path / "summary.json").read_text("utf-8"))
    dropped = summary["dropped"]
    assert dropped == {
        "a link to a folder": 1,
        "above 16 MB": 1,
        "binary": 1,
        "boilerplate": 7,
        "broken DOCX": 1,
        "broken PDF": 1,
        "duplicate": 1,
        "empty": 1,
        "hidden": 1,
        "minified or generated": 1,
        "navigation": 7,
        "near duplicate": 1,
        "not a regular file": 1,
        "not readable: no such file or directory": 1,
        "of an unknown encoding": 2,
        "of another format": 1,
        "without text": 1,
    }
    rows, rejected = read_jsonl(out), read_jsonl(rejects)
    assert summary["rows_out"] == len(rows)
    assert Counter(row["reject_reason"] for row in rejected) == Counter(dropped)
    assert summary["measures"]["encodings"].keys() >= {"utf-8", "cp949", "utf-16"}
    assert summary["measures"]["read_as_plain_text"] == 1
    texts = {row["source"]: row["text"] for row in rows}
    assert "latin.txt" in done.err  # cp1252 or gb18030: not guessed
    assert texts["stated.html"] == "日本語のページ"
    assert texts["deep/" * 40 + "end.txt"] == "at the end of it"
    assert texts["old.py"] == "print 'two'"
    for name in ("huge.txt", "unknown.txt", "broken.pdf", "packed.js", "loop", "pipe.txt"):
        assert name in done.err


def test_ids_and_bytes_depend_on_the_documents_alone(docs: Path, tmp_path: Path, run):
    first = tmp_path / "first.parquet"
    assert run(["docs2texts", docs, "-o", first], env={"PYTHONHASHSEED": "1"}).rc == 0
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for path in sorted(docs.iterdir(), reverse=True):  # another order in the folder
        path.rename(elsewhere / path.name)
    second = tmp_path / "second.parquet"
    assert run(["docs2texts", elsewhere, "-o", second], env={"PYTHONHASHSEED": "2"}).rc == 0
    assert first.read_bytes() == second.read_bytes()


def test_options_that_choose_documents_and_what_repeats(docs: Path, tmp_path: Path):
    def sources(*more: str) -> Counter:
        out = tmp_path / "out.jsonl"
        assert main([str(docs), "-o", str(out), *more]) == 0
        return Counter(row["source"] for row in read_jsonl(out))

    assert set(sources("--include", "*.py")) == {"old.py"}
    assert not any(name.startswith("deep") for name in sources("--exclude", "deep"))
    everything = sources("--near-duplicates", "1", "--boilerplate", "1")
    assert {"near1.txt", "near2.txt"} <= set(everything)
    assert everything["p3.html"] == 1
    assert sources("--encoding", "cp1252").keys() >= {"latin.txt", "wide.txt", "near1.txt"}
    assert "Grüße aus Köln" in (tmp_path / "out.jsonl").read_text("utf-8")
    assert sum(sources("--limit", "3").values()) <= 3
    small = sources("--max-file-size", "0.00002")
    assert set(small) <= {"lost.txt", "latin.txt", "unknown.txt", "old.py", "wide.txt", "deep/" * 40 + "end.txt"}  # fmt: skip


def test_several_folders_keep_their_names(tmp_path: Path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.txt").write_text(f"words of {name}")
    folders = [str(tmp_path / name) for name in ("a", "b")]
    assert main([*folders, "-o", str(tmp_path / "out.parquet")]) == 0
    table = pq.read_table(tmp_path / "out.parquet")
    assert table["source"].to_pylist() == ["a/x.txt", "b/x.txt"]


def test_tokens_are_those_of_a_model(model: str, tmp_path: Path):
    from transformers import AutoTokenizer

    (tmp_path / "docs").mkdir()
    text = " ".join(f"The {n}th unbelievable internationalisation." for n in range(60))
    (tmp_path / "docs" / "a.txt").write_text(text)
    out = tmp_path / "out.jsonl"
    argv = [str(tmp_path / "docs"), "--model", model, "--max-tokens", "50", "-o", str(out)]
    assert main(argv) == 0
    tokenizer = AutoTokenizer.from_pretrained(model)
    lengths = [
        len(tokenizer(row["text"], add_special_tokens=False)["input_ids"])
        for row in read_jsonl(out)
    ]
    assert len(lengths) > 3
    assert max(lengths) <= 50


def test_a_missing_extra_is_named(tmp_path: Path, run):
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a.pdf").write_bytes(b"%PDF-1.4")
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    (hidden / "pypdf.py").write_text("raise ImportError('none')\n")
    out = tmp_path / "out.jsonl"
    done = run(["docs2texts", tmp_path / "docs", "-o", out], env={"PYTHONPATH": str(hidden)})
    assert done.rc == 0, done.err
    assert "needing pip install 'fletching-docs2texts[pdf]': a.pdf" in done.err


def test_a_dry_run_writes_nothing(docs: Path, tmp_path: Path, run):
    done = run(["docs2texts", docs, "--dry-run", "-o", tmp_path / "out.parquet"])
    assert done.rc == 0, done.err
    assert not (tmp_path / "out.parquet").exists()
    missing = run(["docs2texts", tmp_path / "none", "--dry-run", "-o", tmp_path / "out.parquet"])
    assert "does not exist" in missing.err
