"""The registries of file formats: a module that registers one makes every tool read and write it."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap

import pytest

from fletching.errors import InputError, UsageError
from fletching.io import formats

pytestmark = pytest.mark.slow  # as a whole: each test starts commands or many examples

TEXT_FORMAT = '''
"""A toy: a line for each row, cells separated by bars, `id|query|positive|score`."""
import pyarrow as pa

from fletching.errors import InputError
from fletching.io.formats import INPUT_FORMATS, OUTPUT_FORMATS, InputFormat, OutputFormat


class BarFile:
    lineage_node = {}
    ends = [{}]
    schema = pa.schema(
        {"id": pa.string(), "query": pa.string(), "pos": pa.string(), "pos_scores": pa.float32()}
    )

    def __init__(self, stream, where, schema):
        self.stream, self.where = stream, where

    def batches(self):
        lines = self.stream.read().decode().splitlines()
        cells = [line.split("|") for line in lines]
        rows = [dict(zip(self.schema.names, [*texts, float(score)])) for *texts, score in cells]
        yield self.schema, pa.RecordBatch.from_pylist(rows, self.schema)


class BarSink:
    def __init__(self, file, path, columns):
        self.file = file

    def write(self, batch):
        for row in batch.to_pylist():
            cells = [row["id"], row["query"], row["pos"][0], str(row["pos_scores"][0])]
            self.file.write(("|".join(cells) + "\\n").encode())

    def close(self, end):
        self.file.write(f"# {end['rows']}\\n".encode())

    def abandon(self):
        pass


INPUT_FORMATS.register("bars", InputFormat(extensions=(".bars",), open=BarFile))
OUTPUT_FORMATS.register("bars", OutputFormat(extensions=(".bars",), create=BarSink))
'''

BINARY_FORMAT = '''
"""A toy with magic bytes: `TOYROWS` and JSON behind it."""
import json

import pyarrow as pa

from fletching.io.formats import INPUT_FORMATS, InputFormat


class ToyFile:
    lineage_node = {}
    ends = [{}]

    def __init__(self, file, where, schema):
        file.seek(len(b"TOYROWS"))
        self.where = where
        self.table = pa.Table.from_pylist(json.loads(file.read()))
        self.schema = self.table.schema

    def batches(self):
        for batch in self.table.to_batches():
            yield self.schema, batch


INPUT_FORMATS.register(
    "toy", InputFormat(magic=b"TOYROWS", extensions=(".toy",), open=ToyFile, needs_seek=True)
)
'''

# A tool's command line in a process that knows the toy formats.
PROGRAM = """
import sys
import bars, toy
from simfilter import cli
sys.exit(cli.main(sys.argv[1:]))
"""


@pytest.fixture
def simfilter(tmp_path):
    (tmp_path / "bars.py").write_text(TEXT_FORMAT)
    (tmp_path / "toy.py").write_text(BINARY_FORMAT)
    (tmp_path / "program.py").write_text(textwrap.dedent(PROGRAM))

    def simfilter(*argv: str, stdin: bytes = b"") -> subprocess.CompletedProcess:
        line = [sys.executable, "program.py", *argv]
        return subprocess.run(line, cwd=tmp_path, input=stdin, capture_output=True, check=False)

    return simfilter


# A criterion that needs no model.
CRITERION = ["--use-scores", "--min-sim", "0.25"]


def test_a_tool_reads_and_writes_a_text_format_of_another_module(simfilter, tmp_path):
    (tmp_path / "in.bars").write_text("1|a query|its answer|0.75\n2|another|answered|0.125\n")
    done = simfilter("in.bars", "-o", "out.bars", *CRITERION)
    assert done.returncode == 0, done.stderr.decode()
    assert (tmp_path / "out.bars").read_text() == "1|a query|its answer|0.75\n# 1\n"


def test_a_format_is_known_by_its_first_bytes_whatever_its_name_and_in_a_pipe(simfilter, tmp_path):
    row = {"id": "1", "query": "q", "pos": ["p"], "pos_scores": [0.5]}
    content = b"TOYROWS" + json.dumps([row]).encode()
    (tmp_path / "named.parquet").write_bytes(content)
    for argv, stdin in ((["named.parquet"], b""), ([], content)):
        done = simfilter(*argv, "-o", "out.bars", *CRITERION, stdin=stdin)
        assert done.returncode == 0, done.stderr.decode()
        assert (tmp_path / "out.bars").read_text() == "1|q|p|0.5\n# 1\n"


def test_folders_and_messages_know_the_new_extensions(simfilter, tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "a.bars").write_text("1|q|p|0.5\n")
    (tmp_path / "folder" / "notes.txt").write_text("no rows")
    assert simfilter("folder", "-o", "out.bars", *CRITERION).returncode == 0
    done = simfilter("folder", "-o", "out.csv", *CRITERION)
    assert done.returncode == 2
    assert b"end it in .arrow, .arrows, .bars, .feather, " in done.stderr


# --- the formats of the library ------------------------------------------------------------------


def test_the_library_registers_its_formats_without_a_list_of_them():
    both_ways = {"arrow-file", "arrow-stream", "jsonl", "parquet"}
    assert set(formats.OUTPUT_FORMATS) == both_ways
    assert set(formats.INPUT_FORMATS) == both_ways | {"csv", "tsv", "excel"}


def test_extensions_are_those_of_the_formats():
    assert formats.input_extensions() == (
        ".arrow",
        ".arrows",
        ".csv",
        ".feather",
        ".json",
        ".jsonl",
        ".ndjson",
        ".ods",
        ".parquet",
        ".tab",
        ".tsv",
        ".xls",
        ".xlsx",
    )
    assert set(formats.output_extensions()) - set(formats.input_extensions()) == {
        ".jsonl.gz",
        ".jsonl.zst",
    }


@pytest.mark.parametrize(
    ("head", "name"),
    [
        (b"PAR1\x15\x04", "parquet"),
        (b"ARROW1\x00\x00", "arrow-file"),
        (b"\xff\xff\xff\xff\x80\x00", "arrow-stream"),
        (b'{"id": 1', formats.TEXT),
        (b"PAR", formats.TEXT),
        (b"", formats.EMPTY),
    ],
)
def test_the_first_bytes_tell_the_format(head, name):
    assert formats.detect(head) == name


def test_files_of_no_bytes_are_no_rows_of_json_lines_alone():
    names = ("a.jsonl", "a.jsonl.gz", "a.jsonl.zst", "a.json", "a.parquet", "a", None)
    assert [formats.may_be_empty(name) for name in names] == [True] * 3 + [False] * 4


def test_a_pipe_is_written_as_an_arrow_stream_and_a_name_decides_for_a_file():
    assert formats.output_format(None) is formats.OUTPUT_FORMATS["arrow-stream"]
    assert formats.output_format("x.arrows") is formats.OUTPUT_FORMATS["arrow-stream"]
    assert formats.output_format("x.arrow") is formats.OUTPUT_FORMATS["arrow-file"]
    assert formats.output_format("x.jsonl.gz") is formats.OUTPUT_FORMATS["jsonl"]


def test_an_unknown_format_is_wrong_usage_with_the_nearest_one():
    with pytest.raises(UsageError, match="input format 'parket' is not known") as error:
        formats.INPUT_FORMATS["parket"]
    assert isinstance(error.value, InputError)
    assert error.value.fix == "did you mean parquet?"
