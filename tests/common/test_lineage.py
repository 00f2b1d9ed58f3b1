"""Lineage: what made the rows, and nothing about where and when."""

from __future__ import annotations

import pytest

from fletching import lineage
from fletching.io import Reader, Writer
from fletching.report import Report


def stage(tool: str, inputs: list[str], output: str, **options) -> list[dict]:
    """Copy rows as a tool of this name does; the steps that it read."""
    report = Report(tool, quiet=True)
    rows = Reader(report, inputs, "examples")
    with Writer(
        report, output, "examples", rows.columns, version="1.0", options=options, sources=[rows]
    ) as out:
        for batch in rows:
            out.write(batch)
    return rows.lineage_nodes


def steps_of(path) -> list[dict]:
    return Reader(Report("last", quiet=True), [str(path)], "examples").lineage_nodes


def test_a_stage_nests_what_it_read(tmp_path, write, examples):
    stage("first", [write(tmp_path / "in.jsonl", examples)], str(tmp_path / "a.parquet"), seed=1)
    stage("second", [str(tmp_path / "a.parquet")], str(tmp_path / "b.arrow"), keep=0.5)
    step = steps_of(tmp_path / "b.arrow")[0]
    first = {"tool": "first", "version": "1.0", "options": {"seed": 1}}
    assert step == {"tool": "second", "version": "1.0", "options": {"keep": 0.5}, "from": [first]}
    assert lineage.tools(step) == ["first", "second"]


@pytest.mark.parametrize(
    "step",
    ['{"options": {}}', '{"tool": 1}', '{"tool": "a", "from": [[]]}', '{"tool": "a", "from": 2}'],
)
def test_what_is_no_node_is_an_unknown_program(step: str) -> None:
    stamp = {lineage.KEY: b'{"schema": "examples", "step": ' + step.encode() + b"}"}
    node = lineage.read_node(stamp)
    assert lineage.tools(node) == [lineage.UNKNOWN]


def test_two_inputs_of_equal_making_are_named_once_and_others_each(tmp_path, write, examples):
    source = write(tmp_path / "in.jsonl", examples)
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        stage("first", [source], str(tmp_path / f"{name}.parquet"), seed=seed)
    stage(
        "second",
        [str(tmp_path / f"{name}.parquet") for name in "abc"],
        str(tmp_path / "all.parquet"),
    )
    assert [step["options"]["seed"] for step in steps_of(tmp_path / "all.parquet")[0]["from"]] == [
        1,
        2,
    ]


@pytest.mark.parametrize("name", ["out.parquet", "out.arrow", "out.arrows"])
def test_rows_that_passed_through_a_program_that_kept_the_key_say_so(
    name, tmp_path, write, examples
):
    import pyarrow as pa
    import pyarrow.parquet as pq

    stage("first", [write(tmp_path / "in.jsonl", examples)], str(tmp_path / name))
    if name == "out.parquet":
        pq.write_table(pq.read_table(tmp_path / name), tmp_path / name)
    else:
        ipc = (
            (pa.ipc.open_file, pa.ipc.new_file)
            if name == "out.arrow"
            else (pa.ipc.open_stream, pa.ipc.new_stream)
        )
        table = ipc[0](pa.BufferReader((tmp_path / name).read_bytes())).read_all()
        with ipc[1](str(tmp_path / name), table.schema) as out:
            out.write_table(table)
    assert lineage.tools(steps_of(tmp_path / name)[0]) == ["first", lineage.UNKNOWN]


def test_rows_of_a_foreign_file_have_no_lineage(tmp_path, write, examples):
    assert steps_of(write(tmp_path / "in.parquet", examples)) == [{}]


@pytest.mark.parametrize("stamp", [b"no json", b"[]", b'{"step": 5}', b"[" * 100_000, b"\xff"])
def test_a_stamp_that_cannot_be_read_counts_as_none(stamp):
    assert lineage.read({lineage.KEY: stamp}) == {}


@pytest.mark.parametrize(
    "name", ["out.parquet", "out.arrow", "out.arrows", "out.jsonl.gz", "out.jsonl.zst"]
)
def test_the_same_rows_from_two_folders_give_the_same_bytes_at_any_time(
    name, tmp_path, write, examples, monkeypatch
):
    import time

    outputs = []
    for folder, clock in (("here", 0.0), ("there/deep", 1e9)):
        (tmp_path / folder).mkdir(parents=True)
        monkeypatch.chdir(tmp_path / folder)
        monkeypatch.setattr(time, "time", lambda clock=clock: clock)
        monkeypatch.setenv("HOSTNAME", folder)
        stage("first", [write(tmp_path / folder / f"{folder[0]}.jsonl", examples)], name, seed=3)
        outputs.append((tmp_path / folder / name).read_bytes())
    assert outputs[0] == outputs[1]


def test_another_major_version_and_another_schema_are_refused_and_a_minor_is_read(
    tmp_path, examples
):
    import pyarrow as pa
    import pyarrow.parquet as pq

    from fletching.errors import InputError

    table = pa.Table.from_pylist(examples)
    for schema, version in (("examples", "1.7"), ("examples", "2.0"), ("texts", "1.0")):
        pq.write_table(
            table.replace_schema_metadata(lineage.stamp(schema, version, {"tool": "x"})),
            tmp_path / f"{schema}{version}.parquet",
        )
    assert (
        Reader(Report("t"), [str(tmp_path / "examples1.7.parquet")], "examples").read_all().num_rows
        == 12
    )
    with pytest.raises(
        InputError, match=r"examples2.0.parquet is examples 2.0, and 1.0 is read here"
    ):
        Reader(Report("t"), [str(tmp_path / "examples2.0.parquet")], "examples")
    with pytest.raises(InputError, match="holds texts, and examples are read here"):
        Reader(Report("t"), [str(tmp_path / "texts1.0.parquet")], "examples")
