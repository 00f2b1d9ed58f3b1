"""`fletching NAME`: which program it becomes, and what of the process stays as it was."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

PROGRAM = Path(sys.executable).with_name("fletching")
ECHO = '#!/bin/sh\nfor word in "$@"; do echo "[$word]"; done\ncat\nexit 7\n'


def write_program(path: Path, content: str = ECHO) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(content, "utf-8")
    path.chmod(0o755)
    return path


@pytest.fixture
def fletching(tmp_path, monkeypatch):
    """fletching("echo", "a"): the program as a process, with an empty `bin` first on PATH."""
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")

    def call(*words: str, program: Path = PROGRAM, stdin: str = "") -> subprocess.CompletedProcess:
        command = [str(program), *words]
        return subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=60)

    return call


def test_a_program_gets_arguments_and_stdin_and_gives_its_exit_code(fletching, tmp_path):
    write_program(tmp_path / "bin" / "fletching-echo")
    ran = fletching("echo", "two words", "", "--help", "*", stdin="from stdin")
    assert ran.returncode == 7
    assert ran.stdout == "[two words]\n[]\n[--help]\n[*]\nfrom stdin"
    assert ran.stderr == ""


def test_a_tool_runs_by_its_name_and_by_help(fletching):
    assert fletching("csv2pairs", "--version").stdout.startswith("csv2pairs ")
    by_help = fletching("help", "csv2pairs")
    assert by_help.returncode == 0
    assert by_help.stdout == fletching("csv2pairs", "--help").stdout


def test_what_is_beside_the_program_comes_before_path_and_links_are_followed(fletching, tmp_path):
    beside = tmp_path / "installed"
    write_program(beside / "fletching-echo", "#!/bin/sh\necho beside\n")
    write_program(tmp_path / "bin" / "fletching-echo", "#!/bin/sh\necho on PATH\n")
    shutil.copy(PROGRAM, beside / "fletching")
    (tmp_path / "elsewhere").mkdir()
    link = tmp_path / "elsewhere" / "fletching"
    link.symlink_to(beside / "fletching")
    assert fletching("echo", program=beside / "fletching").stdout == "beside\n"
    assert fletching("echo", program=link).stdout == "beside\n"
    assert fletching("echo").stdout == "on PATH\n"


def test_signals_reach_the_program_as_if_it_was_started_alone(fletching, tmp_path):
    # `exec`: the shell itself would wait for its child.
    write_program(tmp_path / "bin" / "fletching-wait", "#!/bin/sh\necho ready\nexec sleep 60\n")
    with subprocess.Popen([PROGRAM, "wait"], stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"ready\n"
        started = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert process.wait() == -signal.SIGTERM
    assert time.monotonic() - started < 30
    write_program(tmp_path / "bin" / "fletching-yes", "#!/bin/sh\nexec yes\n")
    line = f"{PROGRAM} yes | head -1; echo ${{PIPESTATUS[0]}}"
    ran = subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=60)
    assert ran.stdout == f"y\n{128 + signal.SIGPIPE}\n", "SIGPIPE ends it, as without fletching"


def test_the_list_names_tools_with_a_line_and_other_programs_without(fletching, tmp_path):
    write_program(tmp_path / "bin" / "fletching-zebra")
    (tmp_path / "bin" / "fletching-notes.txt").write_text("no program")
    ran = fletching()
    listed = [line for line in ran.stdout.splitlines() if line.startswith("  ")]
    lines = {line.split()[0]: line.split()[1:] for line in listed}
    assert ran.returncode == 0
    assert {"csv2pairs", "contrast-train", "mteb-eval", "zebra"} <= lines.keys()
    assert lines["zebra"] == [] and len(lines["csv2pairs"]) > 3
    assert "notes.txt" not in lines and "fletching" not in lines
    assert fletching("--help").stdout == fletching("-h").stdout == ran.stdout
    assert fletching("--version").stdout.startswith("fletching ")


@pytest.mark.parametrize(
    ("name", "fix"),
    [
        ("csv2pars", "did you mean csv2pairs"),
        ("zzz", "`fletching` lists them: "),
        ("ls", "`fletching` lists them: "),  # what PATH holds besides is not ours
        ("../bin/ls", "`fletching` lists them: "),
        ("--quiet", "`fletching` lists them: "),
        ("", "`fletching` lists them: "),
    ],
)
def test_an_unknown_name_is_one_error_with_the_nearest_names(fletching, name, fix):
    ran = fletching(name)
    assert ran.returncode == 2
    what, line = ran.stderr.splitlines()
    assert what == f"fletching: {name!r} is no tool of Fletching that is installed"
    assert line.startswith(f"  fix: {fix}")


def test_a_program_that_the_system_cannot_run_is_an_error(fletching, tmp_path):
    write_program(tmp_path / "bin" / "fletching-broken", "#!/no/such/interpreter\n")
    ran = fletching("broken")
    assert ran.returncode == 1
    assert "fletching-broken cannot be run (No such file or directory)" in ran.stderr


def test_the_list_imports_nothing_heavy():
    line = "import sys; from fletching import dispatch; dispatch.main([]); print(*sys.modules)"
    command = [sys.executable, "-c", line]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    loaded = set(printed.splitlines()[-1].split())
    assert "fletching.errors" in loaded
    assert loaded.isdisjoint({"numpy", "pyarrow", "torch", "yaml", "fletching.cli"})
