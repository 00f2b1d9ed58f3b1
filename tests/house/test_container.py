"""The Dockerfile, the installer and the workflows, as far as they can be held without docker and GitHub."""

from __future__ import annotations

import fnmatch
import re
import shlex
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml
from source_tree import COMMON, FOLDERS, project
from suite import ROOT

from fletching import dispatch

DOCKERFILE = (ROOT / "Dockerfile").read_text("utf-8")
INSTALLER = ROOT / "scripts" / "install.sh"


def instructions() -> list[tuple[str, str]]:
    """(word, rest) of each instruction, continued lines joined."""
    text = re.sub(r"^#.*\n", "", DOCKERFILE, flags=re.MULTILINE).replace("\\\n", " ")
    return [(line.split()[0], line.split(None, 1)[1]) for line in text.splitlines() if line.strip()]


def test_what_the_image_copies_exists_and_is_not_ignored() -> None:
    ignored = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    kept = {line[1:] for line in ignored if line.startswith("!")}
    copied = set()
    for word, rest in instructions():
        if word == "COPY":
            *sources, _ = shlex.split(rest)
            copied |= set(sources)
    assert copied == kept
    for path in copied:
        assert (ROOT / path).exists(), path


def test_the_image_installs_as_a_user_does_and_has_all_that_needs() -> None:
    runs = [rest for word, rest in instructions() if word == "RUN"]
    assert any("make install TORCH=${TORCH}" in line for line in runs)
    # What the rule of `make install` and the installer read.
    needed = {
        "Makefile",
        "constraints.txt",
        "pyproject.toml",
        "scripts/install.sh",
        "libs",
        "tools",
    }
    copied = {name for word, rest in instructions() if word == "COPY" for name in rest.split()}
    assert needed <= copied


def test_the_image_follows_the_rules_of_a_linter() -> None:
    words = [word for word, _ in instructions()]
    known = {"ARG", "FROM", "ENV", "RUN", "WORKDIR", "COPY", "USER", "VOLUME", "ENTRYPOINT", "CMD"}
    assert set(words) <= known
    first = [rest for word, rest in instructions() if word in ("ARG", "FROM")][:2]
    assert re.fullmatch(r"BASE=\S+:\S+", first[0]), "a base with a tag"
    assert first[1] == "${BASE}"
    users = [rest for word, rest in instructions() if word == "USER"]
    assert users and users[-1] != "root"
    for word, rest in instructions():
        if word in ("ENTRYPOINT", "CMD"):
            assert rest.startswith("["), "the exec form, so that signals arrive"
        if word == "RUN" and "apt-get install" in rest:
            assert "--no-install-recommends" in rest and "rm -rf /var/lib/apt/lists" in rest
        if word == "WORKDIR":
            assert rest.startswith("/")


def test_nothing_that_was_built_or_installed_here_enters_the_image() -> None:
    patterns = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    assert patterns[1] == "*", "what is not named stays out"
    for path in ("libs/common/build", "tools/tune/src/fletching_tune.egg-info"):
        assert any(fnmatch.fnmatch(path, line) for line in patterns if line.startswith("**")), path


# --- the installer -------------------------------------------------------------------------------


def test_the_installer_is_right_for_bash_3() -> None:
    text = INSTALLER.read_text("utf-8")
    newer = r"mapfile|readarray|declare -A|\$\{\w+,,|\$\{\w+\^\^|&>>|\|&|\$\{\w+@"
    assert not re.search(newer, text)
    subprocess.run(["bash", "-n", INSTALLER], check=True)
    if shutil.which("shellcheck"):
        subprocess.run(["shellcheck", INSTALLER], check=True)


@pytest.mark.parametrize(
    ("system", "torch", "installed"),
    [
        ("Linux", "auto", "cpu"),
        ("Darwin", "auto", "default"),
        ("Linux", "cuda", "default"),
        ("Linux", "default", "default"),
        ("Darwin", "cpu", "cpu"),
        ("Linux", "auto unreachable", "default"),
    ],
)
def test_the_build_of_torch_follows_the_machine_and_torch(
    system: str, torch: str, installed: str, tmp_path: Path
) -> None:
    """pip and uname are stand-ins; the answer of the machine's own GPU is left out."""
    if system == "Linux" and any(Path(path).exists() for path in ("/dev/nvidia0", "/dev/dxg")):
        pytest.skip("this machine has a GPU")
    programs = tmp_path / "bin"
    venv = tmp_path / "venv" / "bin"
    programs.mkdir()
    venv.mkdir(parents=True)
    refuses = "unreachable" in torch
    stubs = {
        programs / "uname": f"echo {system}",
        programs / "nvidia-smi": "exit 1",
        venv / "python": 'case "$*" in *version*torch*) exit 1;; esac',
        venv / "pip": f'echo "$@" >> {tmp_path}/pip.log\n'
        + ('case "$*" in *--index-url*) exit 1;; esac' if refuses else ""),
    }
    for path, text in stubs.items():
        path.write_text(f"#!/bin/bash\n{text}\n")
        path.chmod(0o755)
    env = {"PATH": f"{programs}:/usr/bin:/bin", "TORCH": torch.split()[0]}
    command = ["bash", str(INSTALLER), str(tmp_path / "venv"), "demo,run"]
    done = subprocess.run(command, capture_output=True, text=True, env=env, check=True)
    calls = (tmp_path / "pip.log").read_text().splitlines()
    from_index = [
        line for line in calls if "--index-url https://download.pytorch.org/whl/cpu" in line
    ]
    assert bool(from_index) == (installed == "cpu" or refuses)
    if from_index:
        assert "--no-deps" in from_index[0] and "torch==" in from_index[0]
        assert "the CPU build of torch" in done.stdout
    assert ("is not reached" in done.stdout) == refuses
    assert "-c constraints.txt -e ./libs/common" in calls[-1] and ".[demo,run]" in calls[-1]


def test_an_unknown_build_of_torch_is_refused(tmp_path: Path) -> None:
    venv = tmp_path / "bin"
    venv.mkdir()
    (venv / "python").write_text('#!/bin/bash\ncase "$*" in *torch*) exit 1;; esac\n')
    (venv / "python").chmod(0o755)
    env = {"PATH": "/usr/bin:/bin", "TORCH": "gpu"}
    command = ["bash", str(INSTALLER), str(tmp_path), "run"]
    done = subprocess.run(command, capture_output=True, text=True, env=env, check=False)
    assert done.returncode == 2 and "none of auto, cpu, cuda, default" in done.stderr


# --- extras and workflows ------------------------------------------------------------------------


def test_each_tool_is_an_extra_of_fletching_and_all_has_all() -> None:
    extras = project(COMMON)["optional-dependencies"]
    folders = {folder.name: folder for folder in FOLDERS if folder != COMMON}
    on_disk = {path.parent.name for path in ROOT.glob("tools/*/pyproject.toml")}
    assert set(folders) == on_disk, "tests/support/suite.py names every tool"
    # Not by way of its other extras: pipx would not see the programs.
    everything = {re.split(r"[\[>]", line)[0] for line in extras["all"]}
    assert everything - {"python-calamine"} == {project(path)["name"] for path in folders.values()}
    for name, folder in folders.items():
        distribution = project(folder)["name"]
        assert distribution in {re.split(r"[\[>]", line)[0] for line in extras[name]}, name


def test_what_running_needs_is_installed_without_what_developing_needs() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    developing = {"mypy", "duckdb", "sphinx", "pytest", "ruff", "hypothesis"}
    for name in ("demo", "run"):
        lines = extras["optional-dependencies"][name]
        assert not developing & {re.split(r"[>=<]", line)[0] for line in lines}
    makefile = (ROOT / "Makefile").read_text("utf-8")
    for target in ("quick", "test", "check", "docs", "docs-site"):
        assert re.search(rf"^{target}: dev ", makefile, re.MULTILINE), target
    for target in ("demo", "tune"):
        assert re.search(rf"^{target}: install ", makefile, re.MULTILINE), target


def test_ci_tries_every_python_and_builds_the_image() -> None:
    jobs = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text("utf-8"))["jobs"]
    tried = set(jobs["quick"]["strategy"]["matrix"]["python"])
    classifiers = project(COMMON)["classifiers"]
    stated = {line.rpartition(" ")[2] for line in classifiers if ":: Python :: 3." in line}
    assert tried == stated
    steps = "\n".join(str(step.get("run", "")) for step in jobs["container"]["steps"])
    assert "docker build" in steps and "docker run" in steps
    assert "bash .ci/run" in str(jobs["check"]["steps"])


def test_recipes_say_which_make_they_need() -> None:
    line = ["make", "-n", "-f", "examples/faq/Makefile", ".FEATURES="]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "brew install make" in done.stderr
    for path in [
        ROOT / "Makefile",
        *ROOT.glob("examples/**/Makefile"),
        *ROOT.glob("examples/*.mk"),
    ]:
        assert not re.search(r"^[^#\t].* &:", path.read_text("utf-8"), re.MULTILINE), path


def test_the_dispatcher_lists_its_own_commands() -> None:
    assert set(dispatch.BUILT_IN) == {"completion", "schema-config"}
