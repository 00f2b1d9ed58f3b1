"""Every command of tools/, how to run it on a tiny input, and how to run it fast. A new tool joins COMMANDS by one entry.

The tests of `test_every_tool*.py`, `test_architecture.py` and `test_pipeline.py` go over this table. Importing
torch takes seconds, so a heavy command is forked from a process that has imported it already: same entry point,
own process with its own streams, limits, signals and exit code. A light one is run as the installed script, or
forked too where that process runs already and the command needs no environment of its own.
"""

from __future__ import annotations

import fcntl
import functools
import gc
import importlib
import importlib.metadata
import json
import multiprocessing.forkserver
import os
import resource
import shlex
import socket
import subprocess
import sys
import tempfile
import threading
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from typing import Any, Literal

import bare_models
from conftest import SUBJECTS, Ran, environment
from llm_server import Server

ROOT = Path(__file__).resolve().parents[2]
MAJOR_PARTS = [
    "torch",
    "transformers",
    "sentence_transformers",
    "accelerate",
    "mteb",
    "pyarrow.parquet",
    "numpy",
    "pandas",
    "openai",
]
os.environ.setdefault(
    "OMP_NUM_THREADS", "1"
)  # tests run side by side, and torch's threads would fight


@functools.cache
def llm_address() -> str:
    """A scripted LLM server that runs until the tests end."""
    return Server().__enter__().url


@functools.cache
def tiny_decoder() -> str:
    """The folder of a tiny language model, as decoders are published."""
    return bare_models.build(Path(tempfile.mkdtemp()) / "decoder", "qwen3", head=True)


@dataclass(frozen=True)
class Command:
    """A command line that works; `{input}` is what it reads ("-" is stdin), `{model}` the tiny model, `{decoder}` another.

    `{server}` is the address of a scripted LLM server, `{journal}` a new folder for its answers.
    """

    name: str
    line: str
    reads: Literal["table", "examples", "texts", "any", "models", "documents"]
    writes: Literal[
        "rows", "folder", "figures"
    ]  # rows: to -o or as a stream; folder: to -o; figures: a table, rows to -o
    heavy: bool = True  # imports torch or openai
    passes_columns: bool = False  # columns that it does not know stand in its output
    works_on_nothing: bool = False  # no rows in, no rows out; the others refuse such an input
    schema: str = "examples"  # of the rows written

    @property
    def module(self) -> str:
        entry: str = self.project["scripts"][self.name]
        return entry.partition(".")[0]

    @property
    def folder(self) -> Path:
        return ROOT / "tools" / self.name.removeprefix("fletching-")

    @property
    def project(self) -> dict[str, Any]:
        return tomllib.loads((self.folder / "pyproject.toml").read_text("utf-8"))["project"]

    def argv(self, source: Any, model: str = "", out: Any = None, *more: Any) -> list[str]:
        asking = (
            {"server": llm_address(), "journal": tempfile.mkdtemp()}
            if "{server}" in self.line
            else {}
        )
        asking |= {"decoder": tiny_decoder()} if "{decoder}" in self.line else {}
        words = [
            word.format(input=source, model=model, **asking) for word in shlex.split(self.line)
        ]
        if out is None and self.writes == "folder":
            raise ValueError(f"{self.name} writes a folder: name it")
        return [*words, *(["-o", str(out)] if out is not None else []), *map(str, more)]


COMMANDS = {
    command.name: command
    for command in [
        Command(
            "csv2pairs",
            "csv2pairs {input} --query query --pos pos",
            "table",
            "rows",
            heavy=False,
            works_on_nothing=True,
        ),
        Command(
            "simfilter",
            "simfilter {input} --model {model} --score-only",
            "examples",
            "rows",
            passes_columns=True,
            works_on_nothing=True,
        ),
        Command(
            "hnmine",
            "hnmine {input} --model {model} --negatives 2 --range 1-4",
            "examples",
            "rows",
            passes_columns=True,
            works_on_nothing=True,
        ),
        Command(
            "contrast-train",
            "contrast-train {input} --model {model} --steps 1 --batch 4",
            "examples",
            "folder",
        ),
        Command(
            "distill",
            "distill {input} --teacher {model} --student-layers 1 --steps 1 --batch 4",
            "texts",
            "folder",
        ),
        Command(
            "mntp",
            "mntp {input} --model {decoder} --steps 1 --batch 4 --length 64",
            "texts",
            "folder",
        ),
        Command(
            "arrowcat",
            "arrowcat {input}",
            "any",
            "figures",
            heavy=False,
            passes_columns=True,
            works_on_nothing=True,
        ),
        Command("mteb-eval", "mteb-eval {model} --examples own={input}", "examples", "figures"),
        Command(
            "texts2vectors",
            "texts2vectors {input} --model {model}",
            "texts",
            "rows",
            works_on_nothing=True,
            schema="vectors",
        ),
        Command(
            "synthgen",
            # The cap keeps the tests with thousands of rows short: what is not asked passes as it is.
            "synthgen {input} --job negatives --model m --base-url {server} --journal {journal} --max-requests 40 --no-repair",
            "examples",
            "rows",
            passes_columns=True,
            works_on_nothing=True,
        ),
    ]
}
# Programs that run the commands above as processes: the rules of the house hold for them, but the tests of
# `test_every_tool*.py` would run all of them again.
CONDUCTORS = {
    "fletching-tune": Command(
        "fletching-tune", "fletching-tune {input} --query query --pos pos", "table", "folder"
    )
}
# Programs that read models and no rows: the rules of the house hold for them, those for rows do not.
MODEL_PROGRAMS = {
    "blend-models": Command("blend-models", "blend-models {model} {model}", "models", "folder"),
    "fletching-doctor": Command(
        "fletching-doctor", "fletching-doctor", "models", "figures", heavy=False
    ),
    "fletching-export": Command(
        "fletching-export", "fletching-export {model} --to onnx", "models", "folder"
    ),
}
# Programs that read documents, or `texts` and no `examples`: the rules of the house hold for them; the tests of
# `test_every_tool*.py`, which feed pairs of one sentence, would see nothing come out.
DOCUMENT_PROGRAMS = {
    "docs2texts": Command(
        "docs2texts", "docs2texts {input}", "documents", "rows", heavy=False, schema="texts"
    ),
    "texts2pairs": Command("texts2pairs", "texts2pairs {input}", "texts", "rows", heavy=False),
}
PROGRAMS = COMMANDS | CONDUCTORS | MODEL_PROGRAMS | DOCUMENT_PROGRAMS
WRITERS = [name for name, command in COMMANDS.items() if command.writes == "rows"]
TRAINED = "model.safetensors"  # stands in every model folder


def rows_for(command: Command) -> list[dict[str, Any]]:
    """Rows that the command can read, a dozen."""
    if command.reads == "texts":
        return [{"id": name, "text": answer} for name, (_, answer) in SUBJECTS.items()]
    return [
        {"id": name, "query": query, "pos": [answer]} for name, (query, answer) in SUBJECTS.items()
    ]


def output_of(command: Command, folder: Path) -> Path:
    """Where its output goes in a test."""
    return folder / ("out" if command.writes == "folder" else "out.parquet")


# --- running -------------------------------------------------------------------------------------

PRELOADED = [*MAJOR_PARTS, "suite", "forked", "preloaded"]
SERVER_OF_ALL_WORKERS = "FLETCHING_TESTS_SERVER"  # a variable: the file that says where it is
COLD = bool(os.environ.get("FLETCHING_TESTS_COLD"))
_STARTING = threading.Lock()
FOLDERS_OF_TESTS = [str(ROOT / name) for name in ("tests/support", "tests", "scripts")]


@functools.cache
def start_server() -> None:
    """Start the process that everything is forked from, or join that of another worker of pytest-xdist.

    One server for all tests, tests/support/forked.py and torch's own launcher too.
    """
    note = Path(os.environ.get(SERVER_OF_ALL_WORKERS, ""))
    if note == Path() or sys.version_info >= (3, 14) or not os.path.exists("/proc/self/fd"):
        _launch_server()
        return
    with open(f"{note}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if note.exists() and _join_server(**json.loads(note.read_text())):
            return
        _launch_server()
        server = multiprocessing.forkserver._forkserver  # type: ignore[attr-defined]
        alive = f"/proc/{os.getpid()}/fd/{server._forkserver_alive_fd}"
        note.write_text(json.dumps({"address": server._forkserver_address, "alive": alive}))


def _join_server(address: str, alive: str) -> bool:
    """Use the server at an address; it lives as long as somebody holds the pipe `alive`."""
    try:
        held = os.open(alive, os.O_WRONLY)
    except OSError:  # who started it has ended
        return False
    server = multiprocessing.forkserver._forkserver  # type: ignore[attr-defined]
    server._forkserver_address, server._forkserver_alive_fd = address, held
    server.ensure_running = resource_tracker.ensure_running
    return True


def _launch_server() -> None:
    """It would leave out the tests' own modules without a word: not every Python gives it `sys.path`."""
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join([*FOLDERS_OF_TESTS, *filter(None, [before])])
    try:
        multiprocessing.forkserver.ensure_running()
    finally:
        os.environ.pop("PYTHONPATH")
        if before:
            os.environ["PYTHONPATH"] = before


def tell_warmth(connection: Connection) -> None:
    """Send the names of the modules that a forked process has, and how many objects its collector leaves alone."""
    connection.send((set(sys.modules), gc.get_freeze_count()))


class WarmProcess(ForkServerProcess):
    """A process that is forked from one that has imported torch and the tools."""

    @staticmethod
    def _Popen(process: Any) -> Any:
        with _STARTING:  # scripts start commands in threads
            start_server()
        return ForkServerProcess._Popen(process)  # type: ignore[attr-defined]


class WarmContext(ForkServerContext):
    """As `multiprocessing.get_context("forkserver")`, with `WarmProcess`."""

    Process = WarmProcess  # type: ignore[assignment]


FORKS = WarmContext()
FORKS.set_forkserver_preload(PRELOADED)


class Running:
    """A command that has been started. Streams are files (or FIFOs, or terminals) by path."""

    def __init__(
        self,
        argv: Sequence[str],
        folder: Path,
        *,
        stdin: str,
        stdout: str,
        env: dict[str, str],
        cwd: Any,
        file_size: int | None,
        constants: dict[str, Any],
    ) -> None:
        self.err = folder / "stderr"
        self.err.touch()
        is_warm = start_server.cache_info().currsize > 0
        self.is_forked = PROGRAMS[argv[0]].heavy or (is_warm and not env and not COLD)
        self.is_forked |= bool(constants)
        if self.is_forked:
            self.process: Any = FORKS.Process(
                target=_child,
                args=(
                    list(argv),
                    [stdin, stdout, str(self.err)],
                    environment(**env),
                    str(cwd),
                    file_size,
                ),
                kwargs={"constants": constants},
            )
            self.process.start()
        else:
            with (
                open(stdin, "rb") as given,
                open(stdout, "ab") as taken,
                open(self.err, "ab") as told,
            ):
                limit = (
                    (lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (file_size, file_size)))
                    if file_size
                    else None
                )
                self.process = subprocess.Popen(
                    list(argv),
                    stdin=given,
                    stdout=taken,
                    stderr=told,
                    env=environment(**env),
                    cwd=cwd,
                    preexec_fn=limit,
                )
        self.pid: int = self.process.pid

    def wait(self, timeout: float = 120) -> int:
        """The exit code; minus the number of the signal that killed it."""
        if not self.is_forked:
            return self.process.wait(timeout)
        self.process.join(timeout)
        if self.process.exitcode is None:
            self.process.kill()
            raise TimeoutError(f"still running after {timeout:g} s: {self.err.read_text()[-500:]}")
        return self.process.exitcode


def start(
    argv: Sequence[str],
    folder: Path,
    *,
    stdin: Any = os.devnull,
    stdout: Any = os.devnull,
    env: dict[str, str] | None = None,
    cwd: Any = None,
    file_size: int | None = None,
    constants: dict[str, Any] | None = None,
) -> Running:
    """Start a command whose stderr goes to `folder`. file_size: the largest file in bytes that it may write.

    constants: other values for constants of its modules, as "module:NAME"; a wait made shorter, say.
    """
    return Running(
        [str(word) for word in argv],
        folder,
        stdin=str(stdin),
        stdout=str(stdout),
        env=env or {},
        cwd=cwd or folder,
        file_size=file_size,
        constants=constants or {},
    )


def call(argv: Sequence[str], *, stdin: bytes | str = b"", **settings: Any) -> Ran:
    """Run a command to its end. stdin: what it reads, or the path of a terminal or FIFO."""
    with tempfile.TemporaryDirectory(prefix="suite-") as name:
        folder = Path(name)
        (folder / "stdin").write_bytes(b"" if isinstance(stdin, str) else stdin)
        (folder / "stdout").touch()
        given = stdin if isinstance(stdin, str) else folder / "stdin"
        running = start(argv, folder, stdin=given, **{"stdout": folder / "stdout"} | settings)
        code = running.wait()
        return Ran(
            code, (folder / "stdout").read_bytes(), running.err.read_text("utf-8", errors="replace")
        )


def call_ranks(
    count: int,
    argv: Sequence[Any],
    watch: Callable[[list[Running]], None] = lambda running: None,
    *,
    machines: int = 1,
    more: Callable[[int], Sequence[Any]] = lambda rank: (),
    cwd: Callable[[int], Any] = lambda rank: None,
    constants: dict[str, Any] | None = None,
) -> Ran:
    """A command in so many processes as torchrun starts them, but forked.

    stdout and stderr: of all ranks in turn. watch: meanwhile. machines: so many are feigned. more, cwd: further
    words, and the working folder, of a rank.
    """
    with socket.socket() as probe, tempfile.TemporaryDirectory(prefix="suite-") as name:
        probe.bind(("127.0.0.1", 0))
        meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(probe.getsockname()[1])}
        probe.close()
        running = []
        ranks_each = count // machines
        for rank in range(count):
            (folder := Path(name, str(rank))).mkdir()
            (folder / "stdout").touch()
            env = meeting | {
                "RANK": str(rank),
                "LOCAL_RANK": str(rank % ranks_each),
                "WORLD_SIZE": str(count),
                "LOCAL_WORLD_SIZE": str(ranks_each),
            }
            running.append(
                start(
                    [*argv, *more(rank)],
                    folder,
                    stdout=folder / "stdout",
                    env=env if count > 1 else {},
                    cwd=cwd(rank),
                    constants=constants,
                )
            )
        watch(running)
        code = max(abs(each.wait()) for each in running)
        outs = [each.err.with_name("stdout").read_bytes() for each in running]
        return Ran(
            code,
            b"".join(outs),
            "".join(each.err.read_text("utf-8", errors="replace") for each in running),
        )


def _child(
    argv: list[str],
    streams: list[str],
    env: dict[str, str],
    cwd: str,
    file_size: int | None,
    *,
    constants: dict[str, Any],
) -> None:
    """What the installed script does, in a forked process."""
    os.setsid()
    for descriptor, (path, flags) in enumerate(
        zip(streams, [os.O_RDONLY, os.O_WRONLY | os.O_APPEND, os.O_WRONLY | os.O_APPEND])
    ):
        opened = os.open(path, flags)
        os.dup2(opened, descriptor)
        os.close(opened)
    sys.stdin = open(0, closefd=False, encoding="utf-8")
    sys.stdout = open(1, "w", closefd=False, encoding="utf-8")
    sys.stderr = open(2, "w", closefd=False, encoding="utf-8", buffering=1)
    os.environ.clear()  # the server may be that of another worker
    os.environ.update(env)
    os.chdir(cwd)
    if file_size:
        resource.setrlimit(resource.RLIMIT_FSIZE, (file_size, file_size))
    for name, value in constants.items():
        module, _, constant = name.partition(":")
        assert hasattr(importlib.import_module(module), constant), name
        setattr(importlib.import_module(module), constant, value)
    [entry] = importlib.metadata.entry_points(group="console_scripts", name=argv[0])
    main = entry.load()
    sys.argv = argv
    code = main()
    sys.stdout.flush()
    sys.exit(code)
