"""One injected fault: a disturbed run, its verdict, then an undisturbed one that has to end the same.

After the fault every output is absent, whole, or the old one; an error is two lines and no
traceback. The next run of the same command ends with the bytes of a run that nothing disturbed,
and with no file beside them that such a run does not leave.
"""

from __future__ import annotations

import errno
import hashlib
import os
import random
import re
import signal
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from conftest import environment
from fault_injector import Fault, Launch, run_forked
from fault_subjects import Subject
from suite import FORKS

Snapshot = dict[str, str]  # digest by relative path
LONGEST_SECONDS = 180.0
OLD = b"what an earlier run left"
REFUSALS_BESIDE_ANOTHER = ("another ", "exists")
# The empty file by which `tempfile` asks whether a folder can be written to.
PROBE_OF_PYTHON = re.compile(r"tmp/[a-z0-9_]{8}")
CODES = {0, 1, 2, 130, 143}
OUT_OF_MEMORY = {-signal.SIGABRT, -signal.SIGSEGV, -signal.SIGKILL, -signal.SIGTRAP}


@dataclass
class Ended:
    """How a run ended."""

    code: int
    err: str
    seconds: float


@dataclass
class Run:
    """A run that has been started in a folder. name: of its streams' files beside the folder."""

    folder: Path
    process: Any
    err: Path
    started: float

    def wait(self, kill_after: float | None = None) -> Ended:
        """Its end. kill_after: seconds until SIGKILL."""
        if kill_after is not None:
            self.process.join(kill_after)
            if self.process.exitcode is None:
                self.process.kill()
        self.process.join(LONGEST_SECONDS)
        if self.process.exitcode is None:
            self.process.kill()
            self.process.join()
            return Ended(999, f"still running after {LONGEST_SECONDS:g} s", LONGEST_SECONDS)
        seconds = time.monotonic() - self.started
        return Ended(self.process.exitcode, self.err.read_text("utf-8", "replace"), seconds)


def start(
    subject: Subject, folder: Path, *, model: str, fault: Fault, stdout: str = "", name: str = "run"
) -> Run:
    """Start the command in `folder`; its streams' files lie beside it."""
    files = {end: folder.with_name(f"{name}.{end}") for end in ("stdout", "stderr", "points")}
    for file in files.values():
        file.write_bytes(b"")
    (folder / "tmp").mkdir(exist_ok=True)
    extra = {"TMPDIR": str(folder / "tmp"), "XDG_CACHE_HOME": str(folder.with_name("xdg"))}
    launch = Launch(
        argv=subject.argv(model),
        folder=str(folder),
        streams=(os.devnull, stdout or str(files["stdout"]), str(files["stderr"])),
        environment=environment(**extra),
        fault=fault,
        points_file=str(files["points"]),
    )
    process = FORKS.Process(target=run_forked, args=(launch,))
    process.start()
    return Run(folder, process, files["stderr"], time.monotonic())


def digests(folder: Path) -> Snapshot:
    """All files below a folder, links followed."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not PROBE_OF_PYTHON.fullmatch(str(path.relative_to(folder)))
    }


@dataclass
class Reference:
    """What an undisturbed run leaves. volatile: files whose bytes differ from run to run."""

    files: Snapshot
    volatile: frozenset[str]
    seconds: float
    points: int
    largest: int  # bytes of a file

    def differences(self, files: Snapshot, names: set[str]) -> list[str]:
        """How some of these files differ, by name."""
        lacking = [f"{name} is missing" for name in sorted(names - set(files))]
        other = [
            f"{name} differs"
            for name in sorted(names & set(files) - self.volatile)
            if files[name] != self.files[name]
        ]
        return lacking + other

    def of(self, output: str) -> set[str]:
        """The files of one output."""
        return {name for name in self.files if name == output or name.startswith(f"{output}/")}


def refer(subject: Subject, model: str) -> Reference:
    """Two undisturbed runs. Raises RuntimeError where one fails."""
    taken: list[Snapshot] = []
    for _ in range(2):
        with tempfile.TemporaryDirectory(prefix="faults-") as name:
            folder = Path(name, "work")
            folder.mkdir()
            subject.fill(folder)
            ended = start(subject, folder, model=model, fault=Fault()).wait()
            if ended.code != 0:
                raise RuntimeError(f"{subject.name}: {ended.err}")
            taken.append(digests(folder))
            points = int(Path(name, "run.points").read_text())
            largest = max(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    first, second = taken
    if set(first) != set(second):
        raise RuntimeError(f"{subject.name} leaves other files: {set(first) ^ set(second)}")
    volatile = frozenset(name for name in first if first[name] != second[name])
    return Reference(second, volatile, ended.seconds, points, largest)


@dataclass
class Trial:
    """One fault in one command. kind: the class of the fault; defects: what went wrong."""

    subject: Subject
    kind: str
    seed: str
    defects: list[str] = field(default_factory=list)

    def run(self, model: str, reference: Reference) -> None:
        """Fill `defects`; none is good."""
        draw = random.Random(self.seed)
        with tempfile.TemporaryDirectory(prefix="faults-") as name:
            folder = Path(name, "work")
            folder.mkdir()
            self.subject.fill(folder)
            if draw.random() < 0.5 and not self.subject.is_folder:
                for output in self.subject.outputs:
                    (folder / output).write_bytes(OLD)
            ended = KINDS[self.kind](self, folder, model, reference, draw)
            for each in ended:
                self._check_end(each)
            self._check_outputs(folder, reference, ended)
            self._check_next_run(folder, model, reference)

    def _check_end(self, ended: Ended) -> None:
        allowed = CODES | {-signal.SIGKILL}
        if self.kind == "ulimit -v":
            allowed |= OUT_OF_MEMORY
        if ended.code not in allowed:
            self.defects.append(f"exit code {ended.code}: {ended.err[-300:]}")
        for sign in ("Traceback", "unexpected failure"):
            if sign in ended.err:
                self.defects.append(ended.err[-600:])
                break

    def _check_outputs(self, folder: Path, reference: Reference, ended: list[Ended]) -> None:
        files = digests(folder)
        succeeded = any(each.code == 0 for each in ended) and self.kind != "broken pipe"
        old = hashlib.sha256(OLD).hexdigest()
        for output in self.subject.outputs:
            is_old = files.get(output) == old
            exists = (folder / output).exists() and not is_old
            differences = reference.differences(files, reference.of(output))
            if exists and differences:
                self.defects.append(f"{output} is neither absent nor whole: {differences}")
            elif succeeded and not exists:
                self.defects.append(f"exit code 0 without {output}")

    def _check_next_run(self, folder: Path, model: str, reference: Reference) -> None:
        was_published = all((folder / output).exists() for output in self.subject.outputs)
        ended = start(self.subject, folder, model=model, fault=Fault(), name="next").wait()
        is_refused = self.subject.keeps_output and was_published and "exists" in ended.err
        if ended.code != 0 and not is_refused:
            self.defects.append(f"the next run ends with {ended.code}: {ended.err[-400:]}")
            return
        files = digests(folder)
        expected = set(reference.files)
        self.defects += [f"next run: {line}" for line in reference.differences(files, expected)]
        self.defects += [f"{name} stays" for name in sorted(set(files) - expected)]


# --- kinds of faults --------------------------------------------------------------------------------

Disturb = Callable[[Trial, Path, str, Reference, random.Random], list[Ended]]


def _point(reference: Reference, draw: random.Random) -> int:
    return draw.randint(1, max(reference.points, 1))


def _at_a_call(make: Callable[[int, random.Random], Fault]) -> Disturb:
    def disturb(
        trial: Trial, folder: Path, model: str, reference: Reference, draw: random.Random
    ) -> list[Ended]:
        fault = make(_point(reference, draw), draw)
        return [start(trial.subject, folder, model=model, fault=fault).wait()]

    return disturb


def _kill_at_a_moment(
    trial: Trial, folder: Path, model: str, reference: Reference, draw: random.Random
) -> list[Ended]:
    run = start(trial.subject, folder, model=model, fault=Fault())
    return [run.wait(kill_after=draw.uniform(0, reference.seconds))]


def _limit_file_size(
    trial: Trial, folder: Path, model: str, reference: Reference, draw: random.Random
) -> list[Ended]:
    fault = Fault(limits={"RLIMIT_FSIZE": draw.randint(1, reference.largest)})
    return [start(trial.subject, folder, model=model, fault=fault).wait()]


def _limit_descriptors(
    trial: Trial, folder: Path, model: str, reference: Reference, draw: random.Random
) -> list[Ended]:
    fault = Fault(limits={"RLIMIT_NOFILE": draw.randint(8, 40)})
    return [start(trial.subject, folder, model=model, fault=fault).wait()]


def _limit_memory(
    trial: Trial, folder: Path, model: str, reference: Reference, draw: random.Random
) -> list[Ended]:
    fault = Fault(limits={"RLIMIT_AS": draw.randint(2_000, 12_000) << 20})
    return [start(trial.subject, folder, model=model, fault=fault).wait()]


def _break_pipe(
    trial: Trial, folder: Path, model: str, reference: Reference, draw: random.Random
) -> list[Ended]:
    fifo = folder.with_name("fifo")
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    run = start(trial.subject, folder, model=model, fault=Fault(), stdout=str(fifo))
    while not run.err.with_suffix(".points").read_text():
        time.sleep(0.01)  # without a reader it could not open the pipe
    end = time.monotonic() + draw.uniform(0, reference.seconds)
    while time.monotonic() < end and run.process.exitcode is None:
        time.sleep(0.01)
        try:
            os.read(reader, draw.randint(1, 5_000))
        except BlockingIOError:
            continue
    os.close(reader)
    return [run.wait()]


def _two_at_once(
    trial: Trial, folder: Path, model: str, reference: Reference, draw: random.Random
) -> list[Ended]:
    first = start(trial.subject, folder, model=model, fault=Fault(), name="first")
    time.sleep(draw.uniform(0, reference.seconds / 2))
    second = start(trial.subject, folder, model=model, fault=Fault(), name="second")
    is_killed = draw.random() < 0.5
    ended = [first.wait(draw.uniform(0, reference.seconds) if is_killed else None), second.wait()]
    for each in ended:
        is_refused = any(word in each.err for word in REFUSALS_BESIDE_ANOTHER)
        if each.code != 0 and not is_refused and each.code != -signal.SIGKILL:
            trial.defects.append(f"beside another run, {each.code}: {each.err[-300:]}")
    return ended


def _error(number: int, lasts: bool) -> Disturb:
    return _at_a_call(lambda point, draw: Fault(point=point, error=number, lasts=lasts))


def _signal(number: int) -> Disturb:
    return _at_a_call(lambda point, draw: Fault(point=point, kill=number))


STREAM_FAULTS = [
    {"closed": (0,)},
    {"closed": (2,)},
    {"closed": (0, 1, 2)},
    {"full": (2,)},
    {"full": (1, 2)},
    {"closed": (1,)},
]


def _streams(point: int, draw: random.Random) -> Fault:
    settings: dict[str, Any] = draw.choice(STREAM_FAULTS)
    return Fault(**settings)


KINDS: dict[str, Disturb] = {
    "kill -9 at a call": _signal(signal.SIGKILL),
    "kill -9 at a moment": _kill_at_a_moment,
    "disk full from a call on": _error(errno.ENOSPC, True),
    "disk full (RLIMIT_FSIZE)": _limit_file_size,
    "EIO at a call": _error(errno.EIO, False),
    "read-only from a call on": _error(errno.EROFS, True),
    "SIGTERM at a call": _signal(signal.SIGTERM),
    "SIGINT at a call": _signal(signal.SIGINT),
    "broken pipe": _break_pipe,
    "closed and full streams": _at_a_call(_streams),
    "two runs at once": _two_at_once,
    "clock back an hour": _at_a_call(lambda point, draw: Fault(point=point, clock=3600.0)),
    "ulimit -n": _limit_descriptors,
    "ulimit -v": _limit_memory,
}
SHARES = {"kill -9 at a call": 6, "kill -9 at a moment": 3, "ulimit -v": 1, "ulimit -n": 1}
USUAL_SHARE = 2


def plan(subjects: list[Subject], count: int, seed: int) -> list[Trial]:
    """So many trials, drawn by the weights of subjects and kinds; pipes break where there is one."""
    draw = random.Random(seed)
    trials: list[Trial] = []
    while len(trials) < count:
        [subject] = draw.choices(subjects, [each.weight for each in subjects])
        [kind] = draw.choices(list(KINDS), [SHARES.get(kind, USUAL_SHARE) for kind in KINDS])
        if (kind == "broken pipe") == subject.streams or subject.streams:
            trials.append(Trial(subject, kind, f"{seed}-{len(trials)}"))
    return trials
