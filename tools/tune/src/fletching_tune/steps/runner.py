"""Steps run at most once: a stamp beside the outputs says which content they are of.

FOLDER/stamps/NAME.json   key, digests of the outputs, seconds: written when the step is done
FOLDER/stamps/NAME.begun  the key of a step that is running, or was killed
FOLDER/logs/NAME.log      what the program said
FOLDER/lock               held while a run, or a program of a killed one, is alive
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Iterator, Sequence
from typing import Any

from fletching.errors import InputError
from fletching.report import Report
from fletching.table import atomic
from fletching_tune.options import Stage
from fletching_tune.steps import content_keys, launch
from fletching_tune.steps.step import Step

WAIT_SECONDS = 20.0  # for the program of a run that was killed to end too
STAGES: tuple[Stage, ...] = ("split", "plan", "mine", "train", "choose", "verdict")


class StepRunner:
    """Runs the steps of one work folder, and keeps the account of their time.

    folder: the work folder. seconds: of every step of this run, those done earlier included, so
    that decisions by time are the same when a killed run goes on.
    """

    def __init__(self, folder: str, report: Report) -> None:
        self.folder = folder
        self.report = report
        self.seconds = 0.0
        self.steps: list[Step] = []
        self.executed: list[str] = []
        self.lock = -1

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the work folder. Raises InputError where another run does."""
        for name in ("stamps", "logs"):
            os.makedirs(os.path.join(self.folder, name), exist_ok=True)
        with open(os.path.join(self.folder, "lock"), "w") as lock:
            deadline = time.monotonic() + WAIT_SECONDS
            while not _try_lock(lock.fileno()):
                if time.monotonic() > deadline:
                    what = f"another run is at work in {self.folder}"
                    raise InputError(what, "wait for it, or name another -o")
                time.sleep(0.2)
            self.lock = lock.fileno()
            yield

    def forget(self, first: Stage) -> None:
        """Forget the steps of a stage and of those after it: they are run again."""
        later = STAGES[STAGES.index(first) :]
        folder = os.path.join(self.folder, "stamps")
        for name in sorted(os.listdir(folder)):
            stamp = _read_json(os.path.join(folder, name))
            if stamp is not None and stamp.get("stage") in later:
                atomic.remove(os.path.join(folder, name))

    def recorded_seconds(self, step: Step) -> float | None:
        """The seconds that the step took; None where its outputs are not there."""
        stamp = self._stamp_of(step, content_keys.step_key(step))
        return None if stamp is None else float(stamp["seconds"])

    def require(self, advice: str) -> None:
        """Do nothing: every step before this call has been run. advice: for those that print."""

    def run(self, step: Step) -> float:
        """Run a step unless its outputs are there; its seconds, then or now. Raises InputError."""
        key = content_keys.step_key(step)
        self.steps.append(step)
        stamp = self._stamp_of(step, key)
        if stamp is None:
            stamp = self._execute(step, key)
        seconds = float(stamp["seconds"])
        self.seconds += seconds
        return seconds

    def _stamp_of(self, step: Step, key: str) -> dict[str, Any] | None:
        stamp = _read_json(self._path_of(step, "json"))
        if stamp is None or stamp["key"] != key:
            return None
        return stamp if stamp["outputs"] == output_digests(step.outputs) else None

    def _execute(self, step: Step, key: str) -> dict[str, Any]:
        begun = self._path_of(step, "begun")
        atomic.remove(self._path_of(step, "json"))
        if _read_json(begun) != {"key": key}:
            for path in step.leftovers:
                atomic.remove(path)
            atomic.write_text(begun, json.dumps({"key": key}))
        for path in step.outputs:
            atomic.remove(path)
            os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
        if not self.report.quiet:
            self.report.note(step.line)
        start = time.monotonic()
        log = os.path.join(self.folder, "logs", f"{step.name}.log")
        launch.launch(step, log, keep_open=self.lock)
        seconds = round(time.monotonic() - start, 3)
        self.executed.append(step.name)
        digests = output_digests(step.outputs)
        missing = sorted(path for path, digest in digests.items() if digest is None)
        if missing:
            raise InputError(
                f"{step.program} left no {', '.join(missing)}", f"run it by hand: {step.line}"
            )
        stamp = {"key": key, "stage": step.stage, "seconds": seconds, "outputs": digests}
        atomic.write_text(self._path_of(step, "json"), json.dumps(stamp, indent=2))
        atomic.remove(begun)
        return stamp

    def _path_of(self, step: Step, extension: str) -> str:
        return os.path.join(self.folder, "stamps", f"{step.name}.{extension}")


def output_digests(paths: Sequence[str]) -> dict[str, str | None]:
    """The digest of each output; None where it is missing."""
    return {
        path: content_keys.content_digest(path) if os.path.exists(path) else None for path in paths
    }


def _read_json(path: str) -> dict[str, Any] | None:
    """The object in a file; None where there is none, or no whole one."""
    try:
        with open(path, encoding="utf-8") as file:
            content = json.load(file)
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
