"""The command line: options from a dataclass, config files, help, exit codes and signals."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal, Optional

import pytest

from fletching import cli, failures, parsing
from fletching.errors import InputError, UsageError
from fletching.options import StandardOptions, describe, option, positional, required


@dataclass(frozen=True, kw_only=True)
class Options(StandardOptions):
    inputs: tuple[str, ...] = positional("what to read", "FILES")
    model: str = required("the model", metavar="M", group="model and encoding")
    rate: float | None = option(None, "share of 100 % to keep", low=0, high=1, metavar="X")
    steps: Optional[int] = option(None, "steps", low=1, metavar="N", short="-n")  # noqa: UP045
    loss: Literal["mnr", "cosent", "triplet"] = option("mnr", "what is minimised")
    dims: tuple[int, ...] = option((), "dimensions", metavar="D,D", low=1)
    kinds: tuple[Literal["a", "b"], ...] = option(("a",), "kinds", rows=False)
    columns: tuple[str, ...] = option((), "columns", metavar="COL,COL")
    shuffle: bool = option(True, "in another order each epoch")
    dry_run: bool = option(False, "do nothing", advanced=True, group="running")


def tool(run=lambda options, report: None) -> cli.Tool:
    return cli.Tool(
        name="simfilter",
        options=Options,
        run=run,
        doc="simfilter: a test.\n\n    Reads nothing.\n",
        usage="simfilter [FILES...] --model M",
    )


def parse(*argv: str) -> Options:
    return parsing.parse(tool().options, ["--model", "m", *argv])


def refusal(*argv: str) -> tuple[str, str]:
    with pytest.raises(UsageError) as error:
        parsing.parse(tool().options, list(argv))
    return error.value.what, error.value.fix


# --- values --------------------------------------------------------------------------------------


def test_values_have_the_type_of_their_field_and_defaults_are_kept():
    options = parse("--rate", "0.5", "-n", "3", "--loss=cosent")
    assert (options.rate, options.steps, options.loss, options.model) == (0.5, 3, "cosent", "m")
    assert parse() == Options(model="m")


def test_a_list_is_repeated_or_separated_by_commas_and_a_comma_is_quoted():
    assert parse("--dims", "1,2", "--dims", "3").dims == (1, 2, 3)
    assert parse("--columns", 'a,"b, c"', "--columns=d").columns == ("a", "b, c", "d")
    assert parse("--columns", " a , b ").columns == ("a", "b")
    assert parse("--kinds", "b,a").kinds == ("b", "a")


def test_flags_have_both_forms():
    assert (parse("--no-shuffle").shuffle, parse("--shuffle").shuffle) == (False, True)
    assert (parse("--dry-run").dry_run, parse("--dry-run", "--no-dry-run").dry_run) == (True, False)


def test_positionals_may_be_anywhere_and_after_two_dashes_anything_is_one():
    assert parse("a", "--rate", "1", "b", "-n", "2", "c").inputs == ("a", "b", "c")
    assert parse("--", "-a", "--help").inputs == ("-a", "--help")
    assert parse("-").inputs == ("-",)


def test_negative_numbers_are_values():
    assert refusal("--model", "m", "--rate", "-0.5")[0] == "--rate -0.5 is below 0"


@pytest.mark.parametrize(
    ("argv", "what", "fix"),
    [
        (["--rate", "1.5"], "--rate 1.5 is above 1", "pass a value from 0 to 1"),
        (["--rate", "nan"], "--rate nan is not finite", "pass a number, e.g. --rate 1.0"),
        (["--rate", "inf"], "--rate inf is not finite", "pass a number, e.g. --rate 1.0"),
        (["--rate", "much"], "--rate 'much' is not a number", "pass a number, e.g. --rate 1.0"),
        (
            ["--steps", "1.5"],
            "--steps '1.5' is not a whole number",
            "pass a whole number, e.g. --steps 1",
        ),
        (["--steps", "0"], "--steps 0 is below 1", "pass at least 1"),
        (["--dims", "8,0"], "--dims 0 is below 1", "pass at least 1"),
        (["--loss", "cosnet"], "--loss 'cosnet' is not a known choice", "did you mean cosent?"),
        (
            ["--loss", "xyz"],
            "--loss 'xyz' is not a known choice",
            "pass one of mnr, cosent, triplet",
        ),
        (["--kinds", "a,c"], "--kinds 'c' is not a known choice", "pass one of a, b"),
        (["--shufle"], "unknown option --shufle", "did you mean --shuffle?"),
        (["--stesp=3"], "unknown option --stesp", "did you mean --steps?"),
        (["--zzz"], "unknown option --zzz", "--help-all lists every option"),
        (["--st", "3"], "unknown option --st", None),
        (["--rate"], "--rate: expected one argument", "see --help"),
    ],
)
def test_the_error_of_a_wrong_value_says_what_to_do(argv, what, fix):
    actual_what, actual_fix = refusal("--model", "m", *argv)
    assert actual_what == what
    assert fix is None or actual_fix == fix


def test_a_required_option_is_demanded_by_name():
    assert refusal() == ("--model is missing", "pass --model M: the model")


# --- config files --------------------------------------------------------------------------------

CONFIGS = {
    "c.json": '{"model": "m", "rate": 0.5, "dims": [1, 2], "no-such": null}',
    "c.yaml": "model: m\nrate: 0.5\ndims: [1, 2]\n",
    "c.yml": "model: m\nrate: 0.5\ndims: 1,2\n",
    "c.toml": 'model = "m"\nrate = 0.5\ndims = [1, 2]\n',
}


@pytest.mark.parametrize("name", ["c.json", "c.yaml", "c.yml", "c.toml"])
def test_a_config_file_gives_options_and_the_command_line_wins(name, tmp_path):
    (tmp_path / name).write_text(CONFIGS[name].replace(', "no-such": null', ""))
    line = ["--config", str(tmp_path / name)]
    read = parsing.parse(tool().options, line)
    assert (read.model, read.rate, read.dims) == ("m", 0.5, (1, 2))
    both = parsing.parse(tool().options, [*line, "--rate", "1", "--dims", "7"])
    assert (both.model, both.rate, both.dims) == ("m", 1.0, (7,))


def test_an_option_on_the_line_wins_over_its_rival_in_the_config(tmp_path):
    @dataclass(frozen=True, kw_only=True)
    class Either(Options):
        INSTEAD: ClassVar = (("rate", "steps"),)

    (tmp_path / "c.json").write_text('{"rate": 0.5, "steps": 2}')
    line = ["--model", "m", "--config", str(tmp_path / "c.json")]
    parsed = [
        parsing.parse(Either, [*line, *words]) for words in ([], ["--steps", "3"], ["--rate", "1"])
    ]
    values = [(options.rate, options.steps) for options in parsed]
    assert values == [(0.5, 2), (None, 3), (1.0, None)]


@pytest.mark.parametrize(
    ("content", "what", "fix"),
    [
        ({"rat": 1}, "unknown option rat", "did you mean rate?"),
        ({"dry-run": "yes"}, 'dry-run is "yes"', "write true or false"),
        ({"rate": True}, "rate is true", "write X"),
        ({"rate": 2}, "--rate 2 is above 1", "pass a value from 0 to 1"),
        ({"steps": 2.5}, "--steps '2.5' is not a whole number", None),
        ({"rate": [1]}, "rate is [1], but takes one value", "write X"),
        ({"loss": "cosnet"}, "--loss 'cosnet' is not a known choice", "did you mean cosent?"),
        ({"shuffle": None}, "shuffle is null", "leave the key out to get the default"),
        ({"config": "x.json"}, "unknown option config", None),
    ],
)
def test_the_error_of_a_wrong_config_names_its_file(content, what, fix, tmp_path):
    import json

    path = tmp_path / "c.json"
    path.write_text(json.dumps(content))
    actual_what, actual_fix = refusal("--model", "m", "--config", str(path))
    assert actual_what == f"{path}: {what}"
    assert fix is None or actual_fix == fix


def test_dashes_underscores_null_and_flags_in_a_config(tmp_path):
    (tmp_path / "c.yaml").write_text(
        "dry-run: true\nshuffle: false\nrate: null\ninputs: [a, b]\njson_summary: s.json\n"
    )
    options = parse("--config", str(tmp_path / "c.yaml"))
    assert (
        options.dry_run,
        options.shuffle,
        options.rate,
        options.inputs,
        options.json_summary,
    ) == (
        True,
        False,
        None,
        ("a", "b"),
        "s.json",
    )


@pytest.mark.parametrize(
    ("name", "content", "what"),
    [
        ("c.json", "{", "cannot be parsed"),
        ("c.yaml", "a: [", "cannot be parsed"),
        ("c.toml", "a", "cannot be parsed"),
        ("c.ini", "", "has no known extension"),
        ("c.json", "[1]", "holds no options"),
        ("c.yaml", "!!python/object/apply:os.getcwd []", "cannot be parsed"),
    ],
)
def test_a_config_that_cannot_be_read_is_wrong_usage(name, content, what, tmp_path):
    (tmp_path / name).write_text(content)
    assert what in refusal("--config", str(tmp_path / name))[0]
    assert "No such file" in refusal("--config", str(tmp_path / "missing.json"))[0]


# --- help ----------------------------------------------------------------------------------------


def test_help_shows_what_matters_and_help_all_the_rest(capsys):
    assert cli.main(tool(), ["--help"]) == 0
    short = capsys.readouterr().out
    assert cli.main(tool(), ["x", "--rate", "nonsense", "--help-all"]) == 0
    long = capsys.readouterr().out
    assert short.startswith("simfilter: a test.\n\nReads nothing.\n")
    assert "--model M" in short
    assert "(required)" in short
    assert "--no-shuffle" in short
    assert "share of 100 % to keep" in short
    assert "[mnr]" in short
    assert "-n, --steps N" in short
    assert "mnr|cosent|triplet" in short
    assert "--dry-run" not in short
    assert "--dry-run" in long
    assert "--json-summary" in long
    assert short.index("input and output") < short.index("model and encoding")
    assert max(map(len, long.splitlines())) <= 100


def test_version_names_the_tool_and_the_library(capsys):
    assert cli.main(tool(), ["--version"]) == 0
    assert capsys.readouterr().out.startswith("simfilter 0.1.0 (fletching ")


def test_help_after_two_dashes_is_a_file_name():
    assert cli._information(tool(), ["--", "--help"]) is None


def test_row_options_are_the_ones_with_a_value_that_can_change_rows():
    options = parse("a", "--dims", "2,1", "--quiet")
    assert cli.row_options(options) == {
        "model": "m",
        "loss": "mnr",
        "dims": [2, 1],
        "shuffle": True,
        "dry_run": False,
    }


# --- exit codes ----------------------------------------------------------------------------------


def outcome(run, capsys, monkeypatch, *argv: str) -> tuple[int, str]:
    monkeypatch.delenv("FLETCHING_DEBUG", raising=False)
    code = cli.main(tool(run), ["--model", "m", *argv])
    return code, capsys.readouterr().err


def raising(error: BaseException):
    def run(options, report):
        raise error

    return run


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (
            InputError("in.parquet, row 3: bad", "drop it"),
            1,
            "simfilter: in.parquet, row 3: bad\n  fix: drop it\n",
        ),
        (InputError("bad"), 1, "simfilter: bad\n"),
        (
            UsageError("--a and --b", "leave one out"),
            2,
            "simfilter: --a and --b\n  fix: leave one out\n",
        ),
        (KeyboardInterrupt(), 130, "simfilter: interrupted\n"),
        (
            PermissionError(13, "Permission denied", "/x"),
            1,
            "simfilter: permission denied (/x)\n  fix: check the path, its rights and the free space\n",
        ),
        (
            MemoryError(),
            1,
            "simfilter: out of memory\n  fix: use --limit, smaller batches or a machine with more memory\n",
        ),
        (InputError("a\x1b[31mred\u202e\nline"), 1, "simfilter: a\\x1b[31mred\\u202e line\n"),
    ],
)
def test_every_error_is_two_lines_and_a_code(error, code, message, capsys, monkeypatch):
    assert outcome(raising(error), capsys, monkeypatch) == (code, message)


def test_wrong_usage_is_2_and_a_missed_target_is_the_code_of_the_tool(capsys, monkeypatch):
    assert outcome(lambda *_: None, capsys, monkeypatch, "--nonsense")[0] == 2
    assert outcome(lambda *_: 1, capsys, monkeypatch)[0] == 1
    code, err = outcome(lambda *_: None, capsys, monkeypatch)
    assert code == 0
    assert err.startswith("simfilter: 0 in, 0 out, ")
    assert outcome(lambda *_: None, capsys, monkeypatch, "--quiet") == (0, "")


def test_an_unexpected_failure_names_the_file_of_its_traceback(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    code, message = outcome(raising(KeyError("k")), capsys, monkeypatch)
    [file] = tmp_path.glob("fletching-traceback-*.txt")
    assert code == 1
    assert message == (
        "simfilter: unexpected failure, KeyError: 'k'\n"
        "  fix: please report it at https://github.com/fletching/fletching/issues "
        f"with the traceback in {file}\n"
    )
    content = file.read_text("utf-8")
    assert content.startswith("Traceback (most recent call last):\n")
    assert content.endswith("KeyError: 'k'\n")
    assert "in run\n" in content


def test_a_traceback_that_cannot_be_written_is_asked_for(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "missing"))
    _, message = outcome(raising(KeyError("k")), capsys, monkeypatch)
    assert "fix: run again with FLETCHING_DEBUG=1 and report the traceback at http" in message


def test_a_traceback_is_shown_on_request_alone(monkeypatch):
    monkeypatch.setenv("FLETCHING_DEBUG", "1")
    with pytest.raises(KeyError):
        cli.main(tool(raising(KeyError("k"))), ["--model", "m"])


PROGRAM = """
import sys, time
from dataclasses import dataclass
from fletching import cli
from fletching.options import OutputOptions, StandardOptions

@dataclass(frozen=True, kw_only=True)
class Options(OutputOptions, StandardOptions):
    pass

def run(options, report):
    import pyarrow as pa
    from fletching.io import Writer
    columns = pa.schema({"id": pa.string(), "query": pa.string(), "pos": pa.list_(pa.string())})
    batch = pa.RecordBatch.from_pylist([{"id": "i", "query": "q" * 100, "pos": ["p"]}] * 8192, columns)
    with Writer(report, options.output, "examples", columns, version="1", options={}, count=False) as out:
        print("ready", file=sys.stderr, flush=True)
        out.write(batch)
        WORK

sys.exit(cli.main(cli.Tool(name="simfilter", options=Options, run=run, doc="doc", usage="usage")))
"""


def started(tmp_path, work: str, *argv: str, **options) -> subprocess.Popen:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM.replace("WORK", textwrap.indent(work, "        ").strip()))
    process = subprocess.Popen(
        [sys.executable, program, *argv], stderr=subprocess.PIPE, text=True, cwd=tmp_path, **options
    )
    assert process.stderr.readline() == "ready\n"
    return process


@pytest.mark.parametrize(
    ("sent", "code", "word"),
    [(signal.SIGTERM, 143, "terminated"), (signal.SIGINT, 130, "interrupted")],
)
def test_a_signal_withdraws_the_output_and_gives_its_code(sent, code, word, tmp_path):
    with started(tmp_path, "time.sleep(60)", "-o", "out.parquet") as process:
        begun = time.monotonic()
        process.send_signal(sent)
        assert process.wait(20) == code
        assert time.monotonic() - begun < 5
        assert process.stderr.read() == f"simfilter: {word}\n"
    assert sorted(os.listdir(tmp_path)) == ["program.py"]


def test_a_second_signal_kills_at_once(tmp_path):
    work = "try:\n    print('working', file=sys.stderr, flush=True)\n    time.sleep(60)\nfinally:\n    print('unwinding', file=sys.stderr, flush=True)\n    time.sleep(60)"
    with started(tmp_path, work, "-o", "out.parquet") as process:
        assert process.stderr.readline() == "working\n"
        process.send_signal(signal.SIGTERM)
        assert process.stderr.readline() == "unwinding\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == -signal.SIGTERM


def test_a_closed_pipe_downstream_is_no_error(tmp_path):
    with started(
        tmp_path, "for _ in range(100): out.write(batch)", "-o", "-", stdout=subprocess.PIPE
    ) as process:
        process.stdout.close()
        assert process.wait(30) == 0
        assert process.stderr.read() == ""


def test_help_needs_no_heavy_import():
    line = "import sys; from fletching import cli, options, report; print([m for m in ('pyarrow', 'numpy', 'torch', 'yaml', 'fsspec') if m in sys.modules])"
    assert (
        subprocess.run(
            [sys.executable, "-c", line], capture_output=True, text=True, check=True
        ).stdout
        == "[]\n"
    )


def test_options_of_every_group_have_a_default_and_a_help_text():
    from fletching import options

    for name, group in vars(options).items():
        if isinstance(group, type) and group.__module__ == options.__name__:
            for option in describe(group).values():
                assert option.details["help"], f"{name}.{option.name}"
    assert Path(options.__file__).exists()


@pytest.mark.parametrize(
    ("error", "what"),
    [
        (
            RuntimeError("Error while serializing: I/O error (os error 28)"),
            "no space left on device",
        ),
        (OSError("Memory mapping file failed: Cannot allocate memory"), "out of memory"),
        (RuntimeError("can't start new thread"), "out of memory"),
        (
            RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 64 vs 0"),
            "no space left on device",
        ),
        (OSError("Error writing bytes: Input/output error"), "input/output error"),
    ],
)
def test_what_libraries_tell_of_the_system_is_no_unexpected_failure(error, what):
    assert failures.explain(error)[0] == what


def test_a_panic_of_polars_is_told_in_two_lines(capsys):
    class PanicException(BaseException):
        """As pyo3 names it."""

    def run(options, report):
        raise PanicException('kind: TooManyOpenFiles, message: "Too many open files"')

    tool = cli.Tool(name="tool", options=StandardOptions, run=run, doc="", usage="")
    assert cli.main(tool, []) == 1
    assert capsys.readouterr().err.startswith("tool: too many open files\n  fix: ")
