"""Inputs by URL: a stand-in of the hub, and packages that are not installed."""

from __future__ import annotations

import io
import json
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import environment
from hub_server import Hub

from fletching.errors import InputError
from fletching.io import Reader
from fletching.io.sources import Source
from fletching.report import Report

pytestmark = pytest.mark.slow  # as a whole: each test starts commands or many examples

pytest.importorskip("huggingface_hub")

LINES = "".join(
    json.dumps({"query": f"q{number}", "pos": ["p"]}) + "\n" for number in range(9000)
).encode()


def parquet() -> bytes:
    sink = io.BytesIO()
    table = {"anchor": ["a"], "positive": ["p"], "negative_1": ["n"]}
    pq.write_table(pa.table(table), sink)
    return sink.getvalue()


PROGRAM = """
import json, sys
from fletching.io import Reader
from fletching.report import Report
for name in sys.argv[1:]:
    rows = Reader(Report("reader", quiet=True), [name], "examples").read_all()
    print(json.dumps([rows.num_rows, rows.column_names, rows["query"][0].as_py()]))
"""


def test_data_sets_of_the_hub_are_read() -> None:
    files = {"train.jsonl": LINES, "data/train-0.parquet": parquet(), "README.md": b"# faq"}
    root = "hf://datasets/acme/faq"
    names = [f"{root}/{name}" for name in ("train.jsonl", "data/train-0.parquet", "data/*.parquet")]
    names += [f"{root}/data", root]
    with Hub("acme/faq", files) as hub:
        env = environment(HF_ENDPOINT=hub.url, HF_HUB_OFFLINE="0", HF_HUB_DISABLE_XET="1")
        line = [sys.executable, "-c", PROGRAM, *names]
        done = subprocess.run(line, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines, *tables, folder = [json.loads(line) for line in done.stdout.splitlines()]
    assert lines == folder == [9000, ["id", "query", "pos"], "q0"]
    assert tables == [[1, ["id", "query", "pos", "neg"], "a"]] * 3


def test_a_folder_behind_a_url_is_read_as_the_folder_of_a_path(tmp_path, capsys):
    (tmp_path / "rows.parquet" / "inner").mkdir(parents=True)
    (tmp_path / "rows.parquet" / "named.jsonl").mkdir()
    (tmp_path / "rows.parquet" / "part-0.parquet").write_bytes(parquet())
    (tmp_path / "rows.parquet" / "_SUCCESS").write_text("")
    read = []
    for name in (str(tmp_path / "rows.parquet"), f"file://{tmp_path}/rows.parquet"):
        rows = Reader(Report("reader"), [name], "examples").read_all()
        read.append(
            (rows.num_rows, capsys.readouterr().err.partition("not read: ")[2].splitlines()[0])
        )
    assert read[0] == read[1] == (1, "inner/, named.jsonl/")


def test_one_file_of_a_data_set_is_not_taken_for_all(tmp_path):
    for name in ("corpus.jsonl", "queries.jsonl"):
        (tmp_path / name).write_text('{"_id": "1", "text": "a"}\n')
    with pytest.raises(InputError, match="is a data set of several files"):
        Reader(Report("reader", quiet=True), [f"file://{tmp_path}"], "texts")


@pytest.mark.parametrize(
    ("url", "package", "extra"),
    [("s3://bucket/x.parquet", "s3fs", "s3"), ("gs://bucket/*.parquet", "gcsfs", "gs")],
)
def test_a_package_that_lacks_is_named_with_its_extra(url, package, extra, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(InputError, match=f"no package reads {extra}://") as refused:
        Reader(Report("reader", quiet=True), [url], "examples")
    assert refused.value.fix == f"pip install 'fletching[{extra}]'"


def test_a_server_that_is_not_there_is_an_error_and_no_traceback(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    url = "hf://datasets/acme/nowhere/x.parquet"
    with pytest.raises(InputError, match="cannot be opened"):
        Source(url, url).open()
