"""Fixtures that the tests of all tools share: real commands, a tiny real model, small examples.

run       a command line (a list, or a string for bash with pipefail) as a child process
invoke    a tool's `main` in this process, with stdin, stdout and stderr of its own: fast where torch is used
model     the folder of a tiny sentence-transformers model with random weights, the same in every run
examples  twelve rows of `examples`, as dictionaries; corpus: the texts that answer them
write     rows to a file of any format that the suite writes, by pyarrow or json alone (no Fletching)
"""

from __future__ import annotations

import fcntl
import gc
import io
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

# The first example of a test also pays for imports, so single examples have no deadline. The same examples each time.
settings.register_profile("suite", deadline=None, derandomize=True, database=None)
settings.load_profile("suite")

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

# Workers import every test and thousands of commands start from the sources: where the environment keeps Python from
# storing what it has compiled, each of them would compile all of it again.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# One row a subject: the question, its answer, and a word that only these two share.
SUBJECTS = {
    "owl": ("When does the owl hunt?", "The owl hunts at night, when mice leave their holes."),
    "bread": (
        "Why does bread rise?",
        "Yeast fills bread with gas, so the dough rises before it is baked.",
    ),
    "tide": (
        "What moves the tide?",
        "The moon pulls the sea, and the tide follows it twice a day.",
    ),
    "iron": ("How is iron made?", "Iron is smelted from ore with coke in a furnace."),
    "violin": ("How is a violin tuned?", "A violin is tuned in fifths, from the lowest string up."),
    "glacier": (
        "How does a glacier move?",
        "A glacier slides on meltwater and bends under its own weight.",
    ),
    "python": (
        "How do I sort a list in python?",
        "In python, sorted(items) gives a new sorted list.",
    ),
    "chess": (
        "Who moves first in chess?",
        "White moves first in chess, then both sides take turns.",
    ),
    "honey": (
        "How do bees make honey?",
        "Bees thicken nectar into honey by fanning it with their wings.",
    ),
    "volcano": ("What comes out of a volcano?", "A volcano throws out lava, ash and gas."),
    "paper": ("What is paper made of?", "Paper is a felt of plant fibres, mostly from wood."),
    "opera": ("Where was opera born?", "Opera was born in Florence shortly before 1600."),
}


def pytest_xdist_auto_num_workers() -> int | None:
    """Workers of `-n auto`: three for two cores, since tests wait for processes, servers and time-outs."""
    if os.environ.get("PYTEST_XDIST_AUTO_NUM_WORKERS"):
        return None  # as it says
    cores = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    return cores + cores // 2


def pytest_collection_finish() -> None:
    """Let the garbage collector leave alone what lives as long as the tests: theirs, and libraries."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def temporary_files_go_with_the_tests(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Workers of pytest-xdist end without cleaning up; what lies in pytest's own folder is removed by a later run."""
    tempfile.tempdir = os.environ["TMPDIR"] = str(tmp_path_factory.mktemp("temporary"))
    if "PYTEST_XDIST_WORKER" in os.environ:
        os.environ["FLETCHING_TESTS_SERVER"] = str(
            tmp_path_factory.getbasetemp().parent / "server.json"
        )


@dataclass(frozen=True)
class Ran:
    """What a command left behind."""

    rc: int
    out: bytes
    err: str

    @property
    def text(self) -> str:
        return self.out.decode()


def environment(**extra: str) -> dict[str, str]:
    """The test's own environment with the installed commands first on PATH, and nothing of the terminal.

    Output is buffered, as a user's is: what a killed stage has sent on depends on it.
    """
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    clean = {
        name: value
        for name, value in os.environ.items()
        if name not in ("FLETCHING_DEBUG", "FLETCHING_TESTS_SERVER", "COLUMNS", "PYTHONUNBUFFERED")
    }
    return clean | {"PATH": path, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"} | extra


def environment_with_warm_commands(**extra: str) -> dict[str, str]:
    """`environment` where heavy commands need not import torch first."""
    import warm_commands

    warm = warm_commands.folder_of_programs()
    clean = environment(**extra)
    return clean | {"PATH": os.pathsep.join(filter(None, [warm, clean["PATH"]]))}


@pytest.fixture(scope="session")
def run() -> Callable[..., Ran]:
    """run(["simfilter", "--help"]) or run("a | b", cwd=folder, stdin=b"...", env={...}): a `Ran`."""

    def run(
        command: str | Sequence[str],
        *,
        stdin: bytes = b"",
        cwd: Any = None,
        env: dict[str, str] | None = None,
        timeout: float = 120,
    ) -> Ran:
        line = (
            ["bash", "-o", "pipefail", "-c", command]
            if isinstance(command, str)
            else [str(word) for word in command]
        )
        done = subprocess.run(
            line,
            input=stdin,
            capture_output=True,
            check=False,
            cwd=cwd,
            env=environment_with_warm_commands(**(env or {})),
            timeout=timeout,
        )
        return Ran(done.returncode, done.stdout, done.stderr.decode(errors="replace"))

    return run


@pytest.fixture
def invoke(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Ran]:
    """invoke(simfilter.cli.main, "in.jsonl", "--min-sim", 0.5, stdin=b"..."): a `Ran`, without a child process."""

    def invoke(main: Callable[[list[str]], int], *argv: Any, stdin: bytes = b"") -> Ran:
        out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2))
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin), "utf-8"))
            patch.setattr(sys, "stdout", out)
            patch.setattr(sys, "stderr", err)
            rc = main([str(word) for word in argv])
        out.flush()
        err.flush()
        return Ran(rc, out.buffer.getvalue(), err.buffer.getvalue().decode())  # type: ignore[attr-defined]

    return invoke


@pytest.fixture
def examples() -> list[dict[str, Any]]:
    return [
        {"id": name, "query": query, "pos": [answer]} for name, (query, answer) in SUBJECTS.items()
    ]


@pytest.fixture
def corpus() -> list[dict[str, Any]]:
    return [{"id": f"doc-{name}", "text": answer} for name, (_, answer) in SUBJECTS.items()]


@pytest.fixture(scope="session")
def write() -> Callable[[Any, list[dict[str, Any]]], str]:
    """write(path, rows): the path as a string. Files as a foreign program makes them: no stamp, no trailer."""
    return write_rows


def write_rows(path: Any, rows: list[dict[str, Any]]) -> str:
    path = Path(path)
    if path.suffix in (".jsonl", ".ndjson"):
        path.write_text(
            "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8"
        )
        return str(path)

    import pyarrow as pa
    import pyarrow.parquet as pq

    names = list(dict.fromkeys(name for row in rows for name in row))
    table = pa.table({name: [row.get(name) for row in rows] for name in names})
    if path.suffix == ".parquet":
        pq.write_table(table, path)
    else:
        new = pa.ipc.new_file if path.suffix == ".arrow" else pa.ipc.new_stream
        with new(str(path), table.schema) as out:
            out.write_table(table)
    return str(path)


def built_once(factory: pytest.TempPathFactory, name: str, build: Callable[[Path], object]) -> Path:
    """The folder that `build` fills: by one of pytest's workers, for all."""
    base = factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    folder = shared / name
    with open(shared / f"{name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            building = factory.mktemp(name)
            build(building)
            building.rename(folder)
    return folder


# --- the model -----------------------------------------------------------------------------------

LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789.,:;?!'\"()-_/="


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A BERT of 2 layers and 32 dimensions with mean pooling. Equal words give near vectors: its
    embeddings are spread wide and its layers are small. Built once for all xdist workers."""
    base = tmp_path_factory.getbasetemp()
    shared = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "model"
    if not shared.exists():
        built = tmp_path_factory.mktemp("building") / "model"
        build_model(built)
        try:
            built.rename(shared)
        except OSError:  # another worker was faster
            assert shared.exists()
    return str(shared)


def build_model(
    folder: Path, seed: int = 0, prompts: dict[str, str] | None = None, **config: Any
) -> str:
    """Save a new tiny model; `config` overrides fields of its BertConfig."""
    import torch
    import transformers
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer

    words = sorted(
        {
            word.strip(".,?()").lower()
            for pair in SUBJECTS.values()
            for text in pair
            for word in text.split()
        }
    )
    pieces = [
        *LETTERS,
        *(f"##{letter}" for letter in LETTERS),
        *(word for word in words if word.isalpha() and len(word) > 1),
    ]
    vocabulary = {
        piece: i
        for i, piece in enumerate(
            dict.fromkeys(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *pieces])
        )
    }
    settings = dict(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=64,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        bert = transformers.BertModel(
            transformers.BertConfig(vocab_size=len(vocabulary), **settings | config)
        )
        torch.nn.init.normal_(bert.embeddings.word_embeddings.weight, std=1.0)
    plain = folder.with_name(folder.name + "-plain")
    bert.save_pretrained(plain)
    transformers.BertTokenizer(vocabulary, model_max_length=64).save_pretrained(plain)
    modules = [Transformer(str(plain)), Pooling(32), Normalize()]
    SentenceTransformer(modules=modules, device="cpu", prompts=prompts).save(
        str(folder), create_model_card=False
    )
    return str(folder)
