"""What every command has of the frame: --dry-run, --print-config, --verbose, short help, colour."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from dataclasses import dataclass, replace
from typing import Literal

import jsonschema
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from suite import call

from fletching import cli, completion, config_schema, config_text, links, parsing
from fletching.colour import has_colour, paint_error, paint_help
from fletching.errors import UsageError
from fletching.options import (
    REQUIRED,
    ExamplesOptions,
    OutputOptions,
    StandardOptions,
    describe,
    option,
)

DOC = "toy: a test.\n\nReads    nothing\n\n  other | toy\n  toy a.parquet -o b.parquet\n"


@dataclass(frozen=True, kw_only=True)
class Options(OutputOptions, ExamplesOptions, StandardOptions):
    from_: str | None = option(None, "first step", group="work")
    rate: float = option(0.5, "rate", low=0, high=1, metavar="X")
    names: tuple[str, ...] = option((), "names")
    loss: Literal["mnr", "cosent"] = option("mnr", "loss")


def tool(run=lambda options, report: None, **more) -> cli.Tool:
    return cli.Tool(name="csv2pairs", options=Options, run=run, doc=DOC, usage="toy [A]", **more)


# --- no argument ---------------------------------------------------------------------------------


def test_without_arguments_and_input_the_usage_and_an_example_are_shown():
    command = [os.path.join(os.path.dirname(sys.executable), "csv2pairs")]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    usage, example, more = done.stderr.splitlines()
    assert usage.startswith("usage: csv2pairs FILE...")
    assert example.startswith("example: csv2pairs faq.csv --query question")
    assert more == "csv2pairs --help shows the options"
    # With rows on stdin a tool without options works: `csv2pairs … | arrowcat`.
    assert call(["arrowcat"], stdin=b'{"id":"a","query":"q","pos":["p"]}\n').rc == 0
    assert "usage: csv2pairs" in call(["csv2pairs"], stdin=b"a,b\n1,2\n").err


# --- dry run -------------------------------------------------------------------------------------


def forbidden(options, report):
    raise AssertionError("the work was done")


def test_a_dry_run_checks_and_says_what_would_be_read_and_written(invoke, write, tmp_path):
    source = write(tmp_path / "in.parquet", [{"id": "1", "query": "q", "pos": ["p"]}])
    out = tmp_path / "out.parquet"
    checked = []
    toy = tool(forbidden, check=checked.append)
    ran = invoke(lambda argv: cli.main(toy, argv), source, "-o", out, "--dry-run")
    assert ran.rc == 0 and len(checked) == 1
    lines = [line.removeprefix("csv2pairs: would ") for line in ran.err.splitlines()]
    assert lines[:2] == [f"read {source} (1 rows)", f"write {out}"]
    assert os.listdir(tmp_path) == ["in.parquet"]
    missing = invoke(lambda argv: cli.main(toy, argv), tmp_path / "no.parquet", "--dry-run")
    assert missing.rc == 1 and "no.parquet" in missing.err
    nowhere = invoke(lambda argv: cli.main(toy, argv), source, "-o", "no/b.parquet", "--dry-run")
    assert nowhere.rc == 2 and "mkdir -p no" in nowhere.err


def test_a_dry_run_fails_for_the_reason_for_which_the_run_would(invoke):
    def check(options):
        raise UsageError("these contradict", "leave one out")

    ran = invoke(lambda argv: cli.main(tool(forbidden, check=check), argv), "--dry-run")
    assert (ran.rc, ran.err) == (2, "csv2pairs: these contradict\n  fix: leave one out\n")


def test_a_dry_run_of_csv2pairs_knows_the_columns(tmp_path):
    (tmp_path / "t.csv").write_text("q,a\nx,y\n")
    line = "csv2pairs t.csv --query {} --pos a -o p.parquet --dry-run"
    right = call(line.format("q").split(), cwd=tmp_path)
    wrong = call(line.format("qq").split(), cwd=tmp_path)
    assert (right.rc, wrong.rc) == (0, 2)
    assert "t.csv has no column `qq`" in wrong.err
    assert os.listdir(tmp_path) == ["t.csv"]


# --- config --------------------------------------------------------------------------------------

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)


@given(
    from_=st.none() | TEXTS,
    rate=st.floats(0, 1),
    names=st.lists(TEXTS, max_size=3),
    loss=st.sampled_from(["mnr", "cosent"]),
    inputs=st.lists(TEXTS, max_size=2),
    quiet=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_the_printed_config_gives_the_same_options_again(tmp_path_factory, **values):
    values |= {name: tuple(values[name]) for name in ("names", "inputs")}
    options = Options(**values)
    path = tmp_path_factory.getbasetemp() / "round-trip.yaml"
    path.write_text(config_text.as_yaml(options, "toy"), "utf-8")
    assert replace(parsing.parse(Options, ["--config", str(path)]), config=None) == options


def test_print_config_resolves_line_and_file_and_runs_nothing(invoke, tmp_path):
    (tmp_path / "c.yaml").write_text("rate: 0.25\nfrom: mining\nloss: cosent\n")
    line = ["--config", tmp_path / "c.yaml", "--loss", "mnr", "--print-config"]
    ran = invoke(lambda argv: cli.main(tool(forbidden), argv), *line)
    assert ran.rc == 0 and ran.err == ""
    assert {"rate: 0.25", "from: mining", "loss: mnr", "output: null"} <= set(ran.text.splitlines())
    assert links.schema_of("csv2pairs") in ran.text


def test_the_schema_of_configs_says_types_ranges_and_choices():
    schema = config_schema.schema_of(Options, "toy")
    assert schema["additionalProperties"] is False
    properties = schema["properties"]
    assert properties["rate"] == {
        "description": "rate",
        "type": "number",
        "minimum": 0,
        "maximum": 1,
        "default": 0.5,
    }
    assert properties["loss"]["enum"] == ["mnr", "cosent"]
    assert properties["from"]["anyOf"] == [{"type": "string"}, {"type": "null"}]
    assert not {"config", "print-config", "from_"} & properties.keys()


def test_the_printed_config_of_every_tool_obeys_its_schema():
    for each in completion.installed_tools():
        required = [opt for opt in describe(each.options).values() if opt.default is REQUIRED]
        options = parsing.parse(
            each.options, [word for opt in required for word in (opt.flag, "x")]
        )
        printed = yaml.safe_load(config_text.as_yaml(options, each.name))
        schema = config_schema.schema_of(each.options, each.name)
        jsonschema.validate(printed, schema)
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(printed | {"quiet": "yes"}, schema)


# --- quiet and verbose ---------------------------------------------------------------------------


def test_verbose_tells_versions_options_and_tracebacks(invoke):
    def run(options, report):
        raise UsageError("no", "yes")

    ran = invoke(lambda argv: cli.main(tool(run), argv), "a", "-v", "--rate", "0.25")
    lines = ran.err.splitlines()
    assert ran.rc == 2
    assert lines[0].startswith("csv2pairs: csv2pairs 0.")
    assert {"csv2pairs: --rate 0.25", "csv2pairs: EXAMPLES a"} <= set(lines)
    assert "Traceback (most recent call last):" in lines
    assert "MB of memory" in ran.err and lines[-2:] == ["csv2pairs: no", "  fix: yes"]
    assert invoke(lambda argv: cli.main(tool(), argv), "a", "-q").err == ""
    both = invoke(lambda argv: cli.main(tool(), argv), "a", "-q", "-v")
    assert both.rc == 2 and "contradict" in both.err


# --- colour --------------------------------------------------------------------------------------


def shown_on_a_terminal(*argv: str, **env: str) -> str:
    """What a command prints on a terminal."""
    leader, follower = pty.openpty()
    clean = {name: value for name, value in os.environ.items() if not name.endswith("_COLOR")}
    process = subprocess.Popen(
        argv, stdin=follower, stdout=follower, stderr=follower, env=clean | {"TERM": "xterm"} | env
    )
    os.close(follower)
    printed = b""
    while True:
        try:
            printed += os.read(leader, 4096)
        except OSError:  # the other end is closed
            break
    process.wait(30)
    os.close(leader)
    return printed.decode()


def test_errors_and_help_are_coloured_on_a_terminal_unless_no_color_is_set():
    program = os.path.join(os.path.dirname(sys.executable), "csv2pairs")
    error = shown_on_a_terminal(program, "--zzz")
    assert "\x1b[1;31mcsv2pairs:\x1b[0m unknown option --zzz" in error
    assert "\x1b[1;32mfix:\x1b[0m" in error
    assert "\x1b[36m--query\x1b[0m" in shown_on_a_terminal(program, "--help")
    assert "\x1b[1" not in shown_on_a_terminal(program, "--zzz", NO_COLOR="1")


@pytest.mark.parametrize(
    ("variables", "expected"),
    [({}, False), ({"FORCE_COLOR": "1"}, True), ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, False)],
)
def test_force_color_colours_what_is_no_terminal(variables, expected, monkeypatch, tmp_path):
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with open(tmp_path / "log", "w") as stream:
        assert has_colour(stream) is expected


def test_colours_change_no_letter():
    import re

    text = cli.help_text(replace(tool(), usage="toy"))
    plain = re.sub(r"\x1b\[[0-9;]*m", "", paint_help(text))
    assert plain == text != paint_help(text)
    assert "\x1b[1minput and output\x1b[0m" in paint_help(text)
    assert re.sub(r"\x1b\[[0-9;]*m", "", paint_error("a: b\n  fix: c")) == "a: b\n  fix: c"
