"""What every tool does with input that is empty, small, foreign, of another version or wrong, and with its options."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from suite import (
    COMMANDS,
    FORKS,
    ROOT,
    WRITERS,
    Command,
    call,
    output_of,
    rows_for,
    tell_warmth,
)
from suite import PROGRAMS as ALL_PROGRAMS

from fletching import lineage, schema
from fletching.io import Reader
from fletching.report import Report

pytestmark = pytest.mark.slow  # as a whole: each test loads models or starts many commands

every_tool = pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS.keys())
every_writer = pytest.mark.parametrize("command", [COMMANDS[name] for name in WRITERS], ids=WRITERS)
readers_of_examples = [command for command in COMMANDS.values() if command.reads == "examples"]
every_reader_of_examples = pytest.mark.parametrize(
    "command", readers_of_examples, ids=[command.name for command in readers_of_examples]
)
SUMMARY = jsonschema.Draft202012Validator(
    json.loads((ROOT / "schemas/summary/v1.json").read_text("utf-8"))
)
FORMATS = (".parquet", ".arrow", ".arrows", ".jsonl")


def types_for(command: Command, rows: list[dict[str, Any]]) -> pa.Schema:
    return pa.schema(
        [
            (name, pa.list_(pa.string()) if isinstance(value, list) else pa.string())
            for name, value in rows[0].items()
        ]
    )


def put(
    path: Path,
    rows: list[dict[str, Any]],
    columns: pa.Schema,
    metadata: dict[bytes, bytes] | None = None,
) -> Path:
    """Rows, possibly none, as a foreign program writes them, by extension."""
    table = pa.Table.from_pylist(rows, columns).replace_schema_metadata(metadata)
    if path.suffix == ".parquet":
        pq.write_table(table, path)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    else:
        new = pa.ipc.new_file if path.suffix == ".arrow" else pa.ipc.new_stream
        with new(str(path), table.schema) as out:
            out.write_table(table)
    return path


def refused(done: Any, tool: str, code: int = 1) -> str:
    """The first line of a refusal in its one form: what is wrong, then what to do, after notes at most; no traceback."""
    *notes, told, fix = ["", "", *done.err.splitlines()]
    assert done.rc == code, done.err
    assert told.startswith(f"{tool}: ") and fix.startswith("  fix: "), done.err
    assert all(note.startswith(f"{tool}: ") for note in notes[2:]), done.err
    return told


def left(folder: Path) -> list[str]:
    """What stands in a folder of outputs, hidden files too, but for what the next run goes on from: vectors, checkpoints."""
    return sorted(
        path.name
        for path in folder.iterdir()
        if path.name not in ("out.run", "out.parquet.cache", "out.parquet.results")
    )


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """An empty folder for outputs."""
    (tmp_path / "outputs").mkdir()
    return tmp_path / "outputs"


@pytest.fixture
def source(tmp_path: Path) -> Callable[..., Path]:
    def source(
        command: Command, name: str = "in.parquet", rows: list[dict[str, Any]] | None = None
    ) -> Path:
        every = rows_for(command)
        return put(tmp_path / name, every if rows is None else rows, types_for(command, every))

    return source


def test_every_folder_of_tools_stands_in_the_table() -> None:
    assert sorted(path.parent.name for path in ROOT.glob("tools/*/pyproject.toml")) == sorted(
        command.folder.name for command in ALL_PROGRAMS.values()
    )


# --- little input --------------------------------------------------------------------------------


@pytest.mark.parametrize("extension", FORMATS)
@every_tool
def test_no_rows_give_no_rows_or_a_refusal(
    command: Command, extension: str, source: Any, out: Path, model: str
) -> None:
    if command.reads == "table" and extension == ".jsonl":
        pytest.skip("0 bytes are no table")
    if not command.works_on_nothing and extension != ".parquet":
        pytest.skip("one format is enough for a refusal")
    target = output_of(command, out)
    done = call(command.argv(source(command, "in" + extension, []), model, target))
    if not command.works_on_nothing:
        refused(done, command.name)
        assert not target.exists()
        return
    assert done.rc == 0 and done.err.startswith(f"{command.name}: 0 in, 0 out"), done.err
    reader = Reader(Report("test"), [str(target)], command.schema)
    assert reader.read_all().num_rows == 0
    required = {field.name for field in schema.load(command.schema).fields if field.required}
    assert required <= set(reader.columns.names)
    assert lineage.tools(reader.lineage_nodes[0]) == [command.name]


@every_tool
def test_a_file_of_zero_bytes_is_refused(
    command: Command, tmp_path: Path, out: Path, model: str
) -> None:
    (tmp_path / "in.parquet").touch()
    told = refused(
        call(command.argv(tmp_path / "in.parquet", model, output_of(command, out))), command.name
    )
    assert "in.parquet is empty (0 bytes)" in told
    assert not left(out)


@every_tool
def test_an_empty_pipe_is_refused_and_blames_the_program_before(
    command: Command, out: Path, model: str
) -> None:
    done = call(command.argv("-", model, output_of(command, out)))
    assert "stdin is empty (0 bytes)" in refused(done, command.name)
    assert not left(out)
    assert "pipefail" in done.err or command.reads == "table", done.err


@every_tool
def test_one_row_is_enough(command: Command, source: Any, out: Path, model: str) -> None:
    target = output_of(command, out)
    done = call(command.argv(source(command, rows=rows_for(command)[:1]), model, target))
    assert done.rc == 0 and "1 in" in done.err and target.exists(), done.err


@every_tool
def test_limit_reads_the_first_rows(command: Command, source: Any, out: Path, model: str) -> None:
    done = call(command.argv(source(command), model, output_of(command, out), "--limit", 5))
    assert done.rc == 0 and f"{command.name}: 5 in" in done.err, done.err


# --- wrong input ---------------------------------------------------------------------------------


@every_tool
def test_a_missing_column_is_named(command: Command, source: Any, out: Path, model: str) -> None:
    rows = [
        {name: value for name, value in row.items() if name not in ("query", "text")}
        for row in rows_for(command)
    ]
    lost = "text" if command.reads == "texts" else "query"
    done = call(command.argv(source(command, "in.jsonl", rows), model, output_of(command, out)))
    told = refused(done, command.name, code=2 if command.reads == "table" else 1)
    assert "in.jsonl has no column `" + lost in told
    assert not left(out)


@every_tool
def test_a_column_of_the_wrong_type_is_named(
    command: Command, tmp_path: Path, out: Path, model: str
) -> None:
    broken = "text" if command.reads == "texts" else "query"
    rows = [row | {broken: {"nested": 1}} for row in rows_for(command)]
    wrong = [
        pa.field(f.name, pa.struct([("nested", pa.int64())])) if f.name == broken else f
        for f in types_for(command, rows_for(command))
    ]
    done = call(
        command.argv(
            put(tmp_path / "in.parquet", rows, pa.schema(wrong)), model, output_of(command, out)
        )
    )
    told = refused(done, command.name)
    assert "in.parquet" in told
    assert f"`{broken}`" in told
    assert not left(out)


@every_reader_of_examples
def test_a_null_query_is_refused_with_its_row(
    command: Command, source: Any, out: Path, model: str
) -> None:
    rows = rows_for(command)
    rows[6]["query"] = None
    told = refused(
        call(command.argv(source(command, rows=rows), model, output_of(command, out))), command.name
    )
    assert "row 7" in told
    assert "`query`" in told
    assert not left(out)


@every_reader_of_examples
def test_a_file_of_another_schema_is_refused_even_where_its_columns_fit(
    command: Command, tmp_path: Path, out: Path, model: str
) -> None:
    stamp = lineage.stamp(
        "measures", "1.0", lineage.make_node("maker", "1", options={}, sources=[])
    )
    path = put(
        tmp_path / "in.parquet", rows_for(command), types_for(command, rows_for(command)), stamp
    )
    told = refused(call(command.argv(path, model, output_of(command, out))), command.name)
    assert "holds measures" in told
    assert "examples" in told
    assert not left(out)


@every_reader_of_examples
def test_an_unknown_major_version_is_refused(
    command: Command, tmp_path: Path, out: Path, model: str
) -> None:
    stamp = lineage.stamp(
        "examples", "2.0", lineage.make_node("maker", "1", options={}, sources=[])
    )
    path = put(
        tmp_path / "in.parquet", rows_for(command), types_for(command, rows_for(command)), stamp
    )
    assert "examples 2.0" in refused(
        call(command.argv(path, model, output_of(command, out))), command.name
    )
    assert not left(out)


@every_reader_of_examples
def test_a_newer_minor_version_is_accepted(
    command: Command, tmp_path: Path, out: Path, model: str
) -> None:
    stamp = lineage.stamp(
        "examples", "1.7", lineage.make_node("maker", "1", options={}, sources=[])
    )
    columns = types_for(command, rows_for(command)).append(pa.field("field_of_1_7", pa.int64()))
    path = put(
        tmp_path / "in.parquet",
        [row | {"field_of_1_7": 7} for row in rows_for(command)],
        columns,
        stamp,
    )
    done = call(command.argv(path, model, output_of(command, out)))
    assert done.rc == 0 and "12 in" in done.err, done.err


# --- foreign input -------------------------------------------------------------------------------


def by_duckdb(path: Path, rows: list[dict[str, Any]], columns: pa.Schema) -> None:
    import duckdb

    duckdb.from_arrow(pa.Table.from_pylist(rows, columns)).write_parquet(str(path))


def by_pandas(path: Path, rows: list[dict[str, Any]], columns: pa.Schema) -> None:
    import pandas

    pandas.DataFrame(rows).to_parquet(path)


def by_polars(path: Path, rows: list[dict[str, Any]], columns: pa.Schema) -> None:
    import polars

    polars.DataFrame(rows).write_parquet(path)


PROGRAMS = [by_duckdb, by_pandas, by_polars]
MEETINGS = [  # all programs with the writers of rows, one with each of the others, which read by the same Reader
    pytest.param(command, program, id=f"{command.name}-{program.__name__}")
    for number, command in enumerate(COMMANDS.values())
    for program in (PROGRAMS if command.writes == "rows" else [PROGRAMS[number % 3]])
]


@pytest.mark.parametrize(("command", "program"), MEETINGS)
def test_parquet_of_other_programs_is_a_first_class_input(
    command: Command, program: Any, tmp_path: Path, out: Path, model: str
) -> None:
    rows = rows_for(command)
    program(tmp_path / "in.parquet", rows, types_for(command, rows))
    done = call(command.argv(tmp_path / "in.parquet", model, output_of(command, out)))
    assert done.rc == 0 and "12 in" in done.err and "Traceback" not in done.err, done.err


@pytest.mark.parametrize(
    "command", [c for c in COMMANDS.values() if c.passes_columns], ids=lambda c: c.name
)
def test_columns_that_it_does_not_know_pass_through(
    command: Command, tmp_path: Path, out: Path, model: str
) -> None:
    extra = {
        "price": (pa.decimal128(9, 2), "1.50"),
        "seen": (pa.timestamp("us", tz="UTC"), 1_700_000_000_000_000),
        "nested": (
            pa.struct([("a", pa.list_(pa.int32())), ("b", pa.struct([("c", pa.bool_())]))]),
            {"a": [1, None], "b": {"c": True}},
        ),
        "map": (pa.map_(pa.string(), pa.list_(pa.int8())), [("k", [1, 2])]),
        "raw": (pa.binary(), b"\x00\xff"),
        "nothing": (pa.null(), None),
    }
    rows, columns = rows_for(command), types_for(command, rows_for(command))
    table = pa.Table.from_pylist(rows, columns)
    for name, (kind, value) in extra.items():
        plain = pa.array(
            [value] * len(rows),
            pa.int64() if name == "seen" else pa.string() if name == "price" else kind,
        )
        table = table.append_column(pa.field(name, kind), plain.cast(kind))
    pq.write_table(table, tmp_path / "in.parquet")
    done = call(command.argv(tmp_path / "in.parquet", model, out / "out.parquet"))
    assert done.rc == 0, done.err
    written = pq.read_table(out / "out.parquet")
    for name in extra:
        assert written[name].to_pylist() == table[name].to_pylist(), name
        assert written.schema.field(name).type == table.schema.field(name).type, name


@every_tool
def test_concatenated_streams_are_read_as_one(
    command: Command, source: Any, out: Path, model: str
) -> None:
    first = source(command, "a.arrows", rows_for(command)[:5]).read_bytes()
    second = source(command, "b.arrows", rows_for(command)[5:]).read_bytes()
    done = call(command.argv("-", model, output_of(command, out)), stdin=first + second)
    assert done.rc == 0 and "12 in" in done.err, done.err


# --- options -------------------------------------------------------------------------------------


@every_tool
def test_an_unknown_option_is_refused_with_the_one_that_was_meant(
    command: Command, run: Any
) -> None:
    done = run([*command.argv("in.parquet", "model", "out"), "--jason-summary", "x"])
    assert "--jason-summary" in refused(done, command.name, 2)
    assert "did you mean --json-summary?" in done.err


@every_tool
def test_an_unknown_key_of_a_config_file_is_refused(
    command: Command, run: Any, tmp_path: Path
) -> None:
    (tmp_path / "c.yaml").write_text("limt: 3\n")
    done = run([*command.argv("in.parquet", "model", "out"), "--config", tmp_path / "c.yaml"])
    assert "limt" in refused(done, command.name, 2)
    assert "did you mean limit?" in done.err


@every_tool
def test_a_config_file_sets_options_and_the_command_line_wins(
    command: Command, source: Any, out: Path, tmp_path: Path, model: str
) -> None:
    (tmp_path / "c.toml").write_text(f'limit = 3\njson-summary = "{tmp_path / "summary.json"}"\n')
    done = call(
        command.argv(
            source(command),
            model,
            output_of(command, out),
            "--config",
            tmp_path / "c.toml",
            "--limit",
            4,
        )
    )
    assert done.rc == 0, done.err
    assert json.loads((tmp_path / "summary.json").read_text())["rows_in"] == 4


@every_tool
def test_the_account_of_the_json_summary_balances_and_is_the_last_line_said(
    command: Command, source: Any, out: Path, tmp_path: Path, model: str
) -> None:
    done = call(
        command.argv(
            source(command),
            model,
            output_of(command, out),
            "--json-summary",
            tmp_path / "summary.json",
        )
    )
    assert done.rc == 0, done.err
    account = json.loads((tmp_path / "summary.json").read_text())
    SUMMARY.validate(account)
    assert account["tool"] == command.name
    assert account["rows_in"] == 12
    assert account["rows_in"] + sum(account["added"].values()) == account["rows_out"] + sum(
        account["dropped"].values()
    )
    last = done.err.splitlines()[-1]
    assert re.fullmatch(
        rf"{command.name}: 12 in, {account['rows_out']} out( \(.+\))?, \d+\.\d s", last
    ), last
    if command.writes == "rows":
        assert account["rows_out"] == pq.read_metadata(output_of(command, out)).num_rows


@pytest.mark.parametrize(
    ("place", "told"), [("none/summary.json", "does not exist"), (".", "is a folder")]
)
@every_tool
def test_a_summary_that_cannot_be_written_is_told_before_the_work(
    command: Command, run: Any, tmp_path: Path, place: str, told: str
) -> None:
    done = run([*command.argv("in.parquet", "model", "out"), "--json-summary", tmp_path / place])
    assert told in refused(done, command.name, 2)


@every_tool
def test_quiet_says_nothing_and_stdout_holds_data_alone(
    command: Command, source: Any, out: Path, model: str
) -> None:
    done = call(command.argv(source(command), model, output_of(command, out), "--quiet"))
    assert (done.rc, done.err) == (0, "")
    assert command.writes == "figures" or done.out == b""


@every_tool
def test_an_output_in_a_folder_that_does_not_exist_is_refused(
    command: Command, source: Any, out: Path, model: str
) -> None:
    done = call(command.argv(source(command), model, out / "no" / "out.parquet"))
    assert "does not exist" in refused(done, command.name, 2)
    assert "mkdir -p" in done.err
    assert not left(out)


@every_tool
def test_an_output_with_an_unknown_extension_is_refused(
    command: Command, source: Any, out: Path, model: str
) -> None:
    if command.writes == "folder":
        pytest.skip("a folder has no extension")
    told = refused(call(command.argv(source(command), model, out / "out.xlsx")), command.name, 2)
    assert "out.xlsx has no known extension" in told
    assert not left(out)


@every_tool
def test_version_is_the_one_of_the_package(command: Command, run: Any) -> None:
    done = run([command.name, "--version"])
    assert done.rc == 0
    assert done.text.startswith(f"{command.name} {command.project['version']} (fletching ")


def test_what_commands_are_forked_from_has_their_modules_and_rests() -> None:
    ours, theirs = FORKS.Pipe()
    process = FORKS.Process(target=tell_warmth, args=(theirs,))
    process.start()
    modules, resting = ours.recv()  # a failed import there says nothing and only costs time
    process.join()
    assert modules >= {f"{command.module}.cli" for command in ALL_PROGRAMS.values()}
    assert modules >= {"contrast_train.training.trainer", "fletching.encode.model", "mntp.trainer"}
    assert resting > 100_000
