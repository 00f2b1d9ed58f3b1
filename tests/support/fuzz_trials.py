"""One mutated input: a command reads it in a forked process with limits, and a verdict.

accepted, equal     the rows (options, vectors …) of the undamaged input
accepted, as written  the input is a document of its own, and what came out is what an independent reading gives
accepted, other     the input has no checksum and no independent reading; what came out keeps the reader's rules
refused             exit code 1 or 2, an error of two lines, no output
defect              anything else: a crash, a hang, a traceback, other rows than the input holds, memory
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import multiprocessing
import os
import random
import re
import resource
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from dataclasses import asdict, dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import fuzz_mutations
import suite
from fuzz_reader import FuzzedReader, Unreadable

EQUAL, AS_WRITTEN, OTHER, REFUSED, DEFECT = VERDICTS = (
    "accepted, equal",
    "accepted, as written",
    "accepted, other",
    "refused",
    "defect",
)
WALL_SECONDS = 90.0  # the machine may be busy
MOST_MEMORY = 700 << 20  # bytes more than before the input was read
ADDRESS_SPACE = 6 << 30  # bytes more; threads and arenas reserve much
CORPUS = Path(__file__).resolve().parents[1] / "fuzz" / "corpus"
COMMANDS = 0.04  # of the cases of a light command are run by the installed program
WRITE = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
SECRET = "sk-fuzzed-3f1c9a"
# Below a fix may stand a list, such as of several unknown options.
ERROR = re.compile(r"(?s)(?:.*\n)?[\w-]+: [^\n]+\n  fix: [^\n]+\n(?:    [^\n]+\n)*")
BARE_ERROR = re.compile(r"(?s)(?:.*\n)?[\w-]+: [^\n]+\n")


@dataclass
class FuzzCase:
    """One mutated input of a reader, and what came of it. seed: repeats it."""

    reader: str
    seed: str
    target: str = ""
    mutations: list[str] = field(default_factory=list)
    verdict: str = ""
    detail: str = ""
    seconds: float = 0.0
    memory: int = 0
    is_command: bool = False
    replaces: str = ""  # a folder whose files take the place of the input's, in place of a mutation

    @property
    def kind(self) -> str:
        """The last mutation, as its class."""
        return self.mutations[-1] if self.mutations else "none"


# --- in the forked process ---------------------------------------------------------------------------


def _limit(cpu_seconds: int) -> None:
    """CPU seconds, address space, size of files; no core file."""
    reserved = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    limits = {
        resource.RLIMIT_AS: reserved + ADDRESS_SPACE,
        resource.RLIMIT_CPU: cpu_seconds,
        resource.RLIMIT_FSIZE: 1 << 30,
        resource.RLIMIT_CORE: 0,
    }
    for name, value in limits.items():
        resource.setrlimit(name, (value, value))


def _redirect(folder: Path) -> None:
    for number, (name, flags) in enumerate(
        [(os.devnull, os.O_RDONLY), ("stdout", WRITE), ("stderr", WRITE)]
    ):
        opened = os.open(folder.parent / name, flags, 0o600)
        os.dup2(opened, number)
        os.close(opened)
    sys.stdin = open(0, closefd=False, encoding="utf-8")
    sys.stdout = open(1, "w", closefd=False, encoding="utf-8")
    sys.stderr = open(2, "w", closefd=False, encoding="utf-8", buffering=1)


def _memory() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def prepare(reader: FuzzedReader, base: Path, folder: Path) -> None:
    """The undamaged input in a folder of its own."""
    shutil.copytree(base, folder, symlinks=True)
    (folder.parent / "tmp").mkdir(exist_ok=True)
    os.environ.update(TMPDIR=str(folder.parent / "tmp"), XDG_CACHE_HOME=str(folder.parent / "xdg"))
    os.environ.update(OPENAI_API_KEY=SECRET, HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false")
    os.environ.pop("FLETCHING_DEBUG", None)
    tempfile.tempdir = None


def mutate(reader: FuzzedReader, case: FuzzCase, folder: Path) -> None:
    """Change one file of the input, as the seed says."""
    if case.replaces:
        shutil.copytree(case.replaces, folder, dirs_exist_ok=True)
        return
    draw = random.Random(f"{case.reader} {case.seed}")
    names = sorted(reader.files)
    if not names:
        return
    [case.target] = draw.choices(names, [reader.files[name][1] for name in names])
    path = folder / case.target
    before = path.read_bytes()
    suffix = path.suffix if path.suffix in (".gz", ".zst") else ""
    for _ in range(5):
        case.mutations, after = fuzz_mutations.mutate(
            before, reader.files[case.target][0], suffix, draw
        )
        if after != before:
            break
    path.write_bytes(after)


def run(reader: FuzzedReader, case: FuzzCase, folder: Path) -> int:
    """The command's exit code."""
    os.chdir(folder)
    case.is_command = reader.is_command and _share(case) < COMMANDS
    if case.is_command:
        program = Path(sys.executable).parent / reader.line.split()[0]
        return subprocess.run([program, *reader.argv()], check=False).returncode
    if reader.around is None:
        return reader.main(reader.argv())
    with reader.around(random.Random(f"{case.seed} answers"), case) as words:
        return reader.main([*reader.argv(), *words])


def _share(case: FuzzCase) -> float:
    """A number below 1 that the seed decides."""
    return random.Random(f"{case.seed} command").random()


def judge(reader: FuzzedReader, case: FuzzCase, code: int, folder: Path, reference: Any) -> None:
    """Fill the verdict in."""
    err = (folder.parent / "stderr").read_text("utf-8", "replace")
    problem = _broken_rule(code, err, folder)
    if problem:
        case.verdict, case.detail = DEFECT, problem
    elif code:
        present = [name for name in reader.outputs if (folder / name).exists()]
        case.verdict, case.detail = (REFUSED, err) if not present else (DEFECT, f"{present} stay")
    else:
        case.verdict, case.detail = _judge_output(reader, case, folder, reference)


def _broken_rule(code: int, err: str, folder: Path) -> str:
    for sign in ("Traceback", "unexpected failure", "PanicException"):
        if sign in err:
            return err[-3000:] + _saved_traceback(folder)
    if code not in (0, 1, 2):
        return f"exit code {code}: {err[-1000:]}"
    if code and not ERROR.fullmatch(err) and not BARE_ERROR.fullmatch(err):
        return f"the error is not two lines: {err[-1500:]!r}"
    if "out of memory" in err:
        return err[-1000:]
    if any(ord(c) < 32 and c not in "\n\t" for c in err):
        return f"control characters reach the terminal: {err[-1000:]!r}"
    for path in folder.rglob("*"):
        if path.is_file() and SECRET.encode() in path.read_bytes():
            return f"the key stands in {path.name}"
    return f"the key is told: {err}" if SECRET in err else ""


def _saved_traceback(folder: Path) -> str:
    for path in (folder.parent / "tmp").glob("fletching-traceback-*"):
        return path.read_text()[-2500:]
    return ""


def _judge_output(
    reader: FuzzedReader, case: FuzzCase, folder: Path, reference: Any
) -> tuple[str, str]:
    got = reader.output(folder)
    if canonical(got) == canonical(reference):
        return EQUAL, ""
    is_own_document = any(
        name.startswith(("inside", "rewritten", "repeat")) for name in case.mutations
    )
    if case.target and reader.checksummed(folder / case.target) and not is_own_document:
        return DEFECT, f"checksummed, and other than it was: {canonical(got)[:1500]}"
    if reader.expected is not None:
        try:
            expected = reader.expected(folder)
        except Unreadable:
            expected = None
        except Exception as error:
            return DEFECT, f"accepted, and an independent reading fails: {error!r}"[:1500]
        if expected is not None:
            if canonical(got) == canonical(expected):
                return AS_WRITTEN, ""
            return DEFECT, f"other than written: {difference(got, expected)}"
    problem = reader.holds(folder, got)
    return (DEFECT, problem[:2000]) if problem else (OTHER, "")


def canonical(value: Any) -> str:
    """Equal for equal content; NaN equals NaN."""
    return json.dumps(value, default=repr, sort_keys=True)


def difference(got: Any, expected: Any) -> str:
    """The first rows that differ."""
    if isinstance(got, list) and isinstance(expected, list):
        for number, (one, two) in enumerate(zip(got, expected), 1):
            if canonical(one) != canonical(two):
                return f"row {number}: {canonical(one)[:600]} instead of {canonical(two)[:600]}"
        return f"{len(got)} rows instead of {len(expected)}"
    return f"{canonical(got)[:800]} instead of {canonical(expected)[:800]}"


def _child(reader: FuzzedReader, case: FuzzCase, base: Path, folder: Path, reference: Any) -> None:
    """Run one case and write it to the file `case` beside its folder."""
    os.setsid()
    try:
        prepare(reader, base, folder)
        mutate(reader, case, folder)
    except BaseException:
        (folder.parent / "stderr").write_text(f"the harness failed: {traceback.format_exc()}")
        raise
    (folder.parent / "case").write_text(json.dumps(asdict(case)))
    _redirect(folder)
    before, started = _resident(), time.monotonic()
    _limit(reader.cpu_seconds)
    try:
        code = run(reader, case, folder)
        sys.stdout.flush()
    except SystemExit as exit:
        code = exit.code if isinstance(exit.code, int) else 1
    except BaseException:
        code = 1
        os.write(2, traceback.format_exc().encode("utf-8", "backslashreplace"))
    case.seconds, case.memory = time.monotonic() - started, max(_memory() - before, 0)
    os.chdir(folder.parent)
    try:
        judge(reader, case, code, folder, reference)
    except Exception:
        case.verdict, case.detail = DEFECT, f"the harness failed: {traceback.format_exc()[-2000:]}"
    if case.memory > MOST_MEMORY:
        case.verdict, case.detail = DEFECT, f"took {case.memory >> 20} MB; {case.detail}"
    (folder.parent / "case").write_text(json.dumps(asdict(case)))


# --- in the warm process -----------------------------------------------------------------------------


class Workshop:
    """A warm process's readers: their undamaged inputs, what these give, and a fork for each case."""

    def __init__(self, readers: dict[str, FuzzedReader]) -> None:
        self.readers = readers
        self.home = Path(tempfile.mkdtemp(prefix="fuzz-"))
        self.references: dict[str, Any] = {}

    def base(self, name: str) -> Path:
        return self.home / "bases" / name.replace("/", "-").replace(" ", "-")

    def set_up(self, name: str) -> None:
        """Make the input, read it undamaged, and import what that imported. Raises RuntimeError."""
        reader = self.readers[name]
        base = self.base(name)
        shutil.rmtree(base, ignore_errors=True)
        base.mkdir(parents=True)
        answer = self.home / "set-up.json"
        child = os.fork()
        if child == 0:
            self._learn(reader, base, answer)
        os.waitpid(child, 0)
        content = json.loads(answer.read_text())
        if "error" in content:
            raise RuntimeError(f"{name}: {content['error']}")
        self.references[name] = content["reference"]
        for module in content["modules"]:
            with contextlib.suppress(Exception):
                importlib.import_module(module)
        gc.freeze()  # a collection in a fork would copy every page

    def _learn(self, reader: FuzzedReader, base: Path, answer: Path) -> None:
        """What the undamaged input gives, and the modules that reading it needs."""
        before = set(sys.modules)
        try:
            (self.home / "learn").mkdir(exist_ok=True)
            folder = self.home / "learn" / "work"
            shutil.rmtree(folder, ignore_errors=True)
            os.environ["TMPDIR"] = str(self.home / "learn")
            tempfile.tempdir = None
            reader.fill(base)
            prepare(reader, base, folder)
            _redirect(folder)
            case = FuzzCase(reader.name, "undamaged")
            code = run(reader, case, folder)
            err = (folder.parent / "stderr").read_text("utf-8", "replace")
            content: dict[str, Any] = {"error": f"exit code {code}: {err[-2000:]}"}
            if code == 0:
                content = {"reference": json.loads(canonical(reader.output(folder)))}
            content["modules"] = sorted(set(sys.modules) - before)
        except BaseException:
            content = {"error": traceback.format_exc()}
        answer.write_text(json.dumps(content))
        os._exit(0)

    def try_case(self, case: FuzzCase, keep: str | None = None) -> FuzzCase:
        """Run the case in a fork. keep: a folder that gets the mutated input and the streams."""
        if case.reader not in self.references:
            self.set_up(case.reader)
        reader = self.readers[case.reader]
        done, was_mutated = self._try(reader, case, keep)
        if was_mutated:
            return done
        # A library that writes the mutated file crashed, and no reader.
        return self._try(reader, FuzzCase(case.reader, f"{case.seed} again"), keep)[0]

    def _try(self, reader: FuzzedReader, case: FuzzCase, keep: str | None) -> tuple[FuzzCase, bool]:
        """The case with its verdict, and whether its input was made."""
        room = Path(tempfile.mkdtemp(prefix="case-", dir=self.home))
        child = os.fork()
        if child == 0:
            try:
                _child(
                    reader,
                    case,
                    self.base(case.reader),
                    room / "work",
                    self.references[case.reader],
                )
            finally:
                os._exit(0)
        ended = self._wait(child)
        was_mutated = (room / "case").exists()
        if was_mutated:
            case = FuzzCase(**json.loads((room / "case").read_text()))
        if ended is not None or not case.verdict:
            err = room / "stderr"
            told = err.read_text("utf-8", "replace")[-1500:] if err.exists() else ""
            case.verdict, case.detail = DEFECT, f"{ended or 'ended without a verdict'}: {told}"
        if keep:
            shutil.rmtree(keep, ignore_errors=True)
            shutil.copytree(room, keep, symlinks=True)
        shutil.rmtree(room, ignore_errors=True)
        return case, was_mutated

    def _wait(self, child: int) -> str | None:
        """None, or how the process was ended."""
        descriptor = os.pidfd_open(child)
        ready, _, _ = select.select([descriptor], [], [], WALL_SECONDS)
        os.close(descriptor)
        if not ready:
            with contextlib.suppress(OSError):
                os.killpg(child, signal.SIGKILL)
            with contextlib.suppress(OSError):
                os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        with contextlib.suppress(OSError):
            os.killpg(child, signal.SIGKILL)  # what it may have started
        code = os.waitstatus_to_exitcode(status)
        if not ready:
            return f"hang: still running after {WALL_SECONDS:g} s"
        return f"killed by {signal.Signals(-code).name}" if code < 0 else None


def serve(connection: Connection) -> None:
    """In a process forked from the fork server: run the cases that come, until None does."""
    import fuzz_broken
    import fuzz_readers

    broken = {reader.name: reader for reader in fuzz_broken.BROKEN_READERS}
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    workshop = Workshop(fuzz_readers.READERS | broken)
    try:
        while (request := connection.recv()) is not None:
            case, keep = request
            try:
                connection.send(workshop.try_case(case, keep))
            except Exception as error:
                case.verdict, case.detail = DEFECT, f"the harness failed: {error!r}"
                connection.send(case)
    except EOFError:
        pass
    finally:
        shutil.rmtree(workshop.home, ignore_errors=True)


class Fuzzer:
    """A warm process that runs cases; a context manager.

    is_quick: start it anew, without torch; a process of that size takes long to fork.
    """

    def __init__(self, *, is_quick: bool = False) -> None:
        context: Any = multiprocessing.get_context("spawn") if is_quick else suite.FORKS
        self.ours, theirs = context.Pipe()
        self.process = context.Process(target=serve, args=(theirs,))
        self.process.start()
        theirs.close()

    def run(self, case: FuzzCase, keep: str | None = None) -> FuzzCase:
        self.ours.send((case, keep))
        done: FuzzCase = self.ours.recv()
        return done

    def __enter__(self) -> Fuzzer:
        return self

    def __exit__(self, *failure: object) -> None:
        with contextlib.suppress(OSError):
            self.ours.send(None)
        self.process.join(10)
        self.process.kill()


def kept(readers: dict[str, FuzzedReader]) -> list[FuzzCase]:
    """The inputs that once broke a reader: reader/what went wrong/the file at its path."""
    folders = sorted(CORPUS.glob("*/*"))
    return [
        FuzzCase(folder.parent.name, f"kept: {folder.name}", replaces=str(folder))
        for folder in folders
        if folder.parent.name in readers
    ]


def plan(readers: dict[str, FuzzedReader], count: int, seed: int) -> list[FuzzCase]:
    """So many cases, drawn by the weights of the readers."""
    draw = random.Random(seed)
    names = list(readers)
    drawn = draw.choices(names, [readers[name].weight for name in names], k=count)
    return [FuzzCase(name, f"{seed}-{number}") for number, name in enumerate(drawn)]
