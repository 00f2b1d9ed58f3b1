"""The folder of a run in the making, `DIR.run`: lock, manifest and whole checkpoints.

lock            held while a run is alive
manifest.json   fingerprint of data, model and options
rows.arrow      the rows
ranks.json      the number of processes that the run was started with
measures.jsonl  the metrics log
eval_corpus.arrow  texts that held-out queries are ranked in, if there are any
vectors/        vectors of another model that the run learns from, if there is one
checkpoint-N/   weights, optimiser, schedule, random state, position; whole or not at all
published.json  the finished model is renamed to DIR next, or has been; with the manifest
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import shutil
import time
from collections.abc import Callable

from fletching.errors import InputError, UsageError
from fletching.table import atomic
from fletching.train import agreement
from fletching.train.checkpoint_check import (
    PREFIX,
    find_damage,
    read_json,
    write_checksums,
)
from fletching.train.distributed import process_group
from fletching.train.manifest import (
    Identity,
    Manifest,
    describe_changes,
    digest_manifest,
    read_identity,
)

CHECKPOINT = re.compile(rf"{PREFIX}(0|[1-9][0-9]*)")
LOCK = "lock"
MANIFEST = "manifest.json"
ROWS = "rows.arrow"
EVAL_CORPUS = "eval_corpus.arrow"
VECTORS = "vectors"
BUILDING = "building"  # a checkpoint that is being written
SECONDS_FOR_LOST_PROCESS = 60  # until it has let go of the lock, after a restart by torchrun
REMOVING = "dropped"  # a checkpoint that is being removed
PUBLISHED = "published.json"  # the name of the finished folder in here, and the manifest

FillFolder = Callable[[str], None]  # writes into the folder of this path


class RunDir:
    """Claims `DIR.run`. Raises InputError where DIR exists or another run is alive.

    command: its digest; where DIR is the model of an equal one, `is_finished` decides. Of several
    processes the first one claims, writes and removes; the others wait for it where they must.
    """

    def __init__(self, output: str, command: str | None = None) -> None:
        self.output = output.rstrip("/")
        self.command = command
        self.path = self.output + ".run"
        self.passed_over: list[str] = []  # newer checkpoints that are broken, and how
        if process_group.is_main():
            self._claim()
        try:
            agreement.refuse_unshared(self.path)
        except InputError:
            self.abandon()
            raise

    def _claim(self) -> None:
        if self._output_exists() and not self.is_published() and not self._may_be_finished():
            self._remove_empty()
            raise InputError(
                f"-o {self.output} exists already",
                f"name another folder, or remove it: rm -r {self.output}",
            )
        parent = os.path.dirname(os.path.abspath(self.output))
        if not os.path.isdir(parent):
            raise UsageError(
                f"the folder of -o {self.output} does not exist",
                f"mkdir -p {os.path.dirname(self.output)}",
            )
        os.makedirs(self.path, exist_ok=True)
        self.lock = open(self.path_to(LOCK), "a")
        end = time.monotonic() + process_group.restarted() * SECONDS_FOR_LOST_PROCESS
        while not self._lock():
            if time.monotonic() >= end:
                raise InputError(
                    f"another run is at work in {self.path}", "wait for it, or name another -o"
                )
            time.sleep(1)

    def _lock(self) -> bool:
        """Lock this folder, where no other run is at work in it."""
        try:
            fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.stat(self.path_to(LOCK))  # gone where the other run ended in between
        except OSError:
            return False
        return True

    def _output_exists(self) -> bool:
        is_empty_folder = os.path.isdir(self.output) and not os.listdir(self.output)
        return os.path.lexists(self.output) and not is_empty_folder

    def is_published(self) -> bool:
        """Is DIR the model of the run in here, which was killed before it removed this folder?"""
        published = read_json(self.path_to(PUBLISHED))
        if published is None:
            return False
        return self._output_exists() and not os.path.exists(self.path_to(published["folder"]))

    def _may_be_finished(self) -> bool:
        """Is DIR the model of an earlier run of this command?"""
        earlier = read_identity(self.output).get("command")
        return earlier is not None and earlier == self.command

    @property
    def identity(self) -> Identity:
        """What the published model says of its run."""
        manifest = read_json(self.path_to(MANIFEST)) or {}
        return {"command": self.command or "", "manifest": digest_manifest(manifest)}

    def is_finished(self, manifest: Manifest) -> bool:
        """Did a run of this manifest publish DIR? What is in here is removed then.

        Raises InputError where DIR is the model of other data or options.
        """
        is_finished = self._finish(manifest) if process_group.is_main() else False
        return process_group.broadcast(is_finished)

    def _finish(self, manifest: Manifest) -> bool:
        if not self._output_exists():
            return False
        changes: list[str] = []
        if self.is_published():
            published = (read_json(self.path_to(PUBLISHED)) or {})["manifest"]
            changes = describe_changes(published, manifest)
        elif read_identity(self.output).get("manifest") != digest_manifest(manifest):
            changes = ["the command reads other rows or models now"]
        if changes:
            raise InputError(
                f"-o {self.output} exists already, of other data or options: {'; '.join(changes)}",
                f"name another folder, or remove it: rm -r {self.output} {self.path}",
            )
        self._remove()
        return True

    def _remove(self) -> None:
        """Remove this folder; last, what says that the run is published."""
        for name in os.listdir(self.path):
            if name not in (LOCK, PUBLISHED):
                atomic.remove(self.path_to(name))
        atomic.remove(self.path_to(PUBLISHED))
        shutil.rmtree(self.path)
        self.lock.close()

    def _remove_empty(self) -> None:
        """Remove this folder where a run that was killed at its very end left the lock alone."""
        with contextlib.suppress(OSError):
            if os.listdir(self.path) in ([], [LOCK]):
                shutil.rmtree(self.path)

    def path_to(self, *names: str) -> str:
        """The path of something in this folder."""
        return os.path.join(self.path, *names)

    def resume_or_start(self, manifest: Manifest) -> str | None:
        """Write the manifest; the newest checkpoint to resume from, None where there is none.

        A newer one that is broken is passed over, and described in `passed_over`. Raises
        InputError, with the differences, where there are checkpoints of other data or options,
        and where none is whole.
        """
        newest = self._resume_or_start(manifest) if process_group.is_main() else None
        return process_group.broadcast(newest)

    def _resume_or_start(self, manifest: Manifest) -> str | None:
        steps = self.checkpoint_steps()
        earlier = read_json(self.path_to(MANIFEST))
        if not steps:
            self._refuse_odd_names()
            self._remove_leftovers()
        elif earlier != manifest:
            changes = "; ".join(describe_changes(earlier or {}, manifest))
            raise InputError(
                f"{self.path} holds a run of other data or options: "
                + (changes or "the manifest is damaged"),
                f"run the earlier command again, or start anew: rm -r {self.path}",
            )
        newest = self._newest_whole_checkpoint(steps)
        content = json.dumps(manifest, indent=1, sort_keys=True, ensure_ascii=False)
        atomic.write_text(self.path_to(MANIFEST), content)
        return newest

    def _newest_whole_checkpoint(self, steps: list[int]) -> str | None:
        for step in reversed(steps):
            folder = self.checkpoint_path(step)
            damage = find_damage(folder, step)
            if damage is None:
                return folder
            self.passed_over.append(f"{folder} is broken: {damage}")
        if steps:
            raise InputError(
                f"no checkpoint is whole: {'; '.join(self.passed_over)}",
                f"start anew: rm -r {self.path}",
            )
        return None

    def _refuse_odd_names(self) -> None:
        """Raise InputError rather than remove what may be a checkpoint that was renamed."""
        for name in sorted(os.listdir(self.path)):
            if name.startswith(PREFIX):
                raise InputError(
                    f"{self.path_to(name)} is no name of a checkpoint",
                    f"name it {PREFIX}N after its step, or start anew: rm -r {self.path}",
                )

    def _remove_leftovers(self) -> None:
        """Remove what a run without a checkpoint left, except its rows, texts and vectors."""
        for name in os.listdir(self.path):
            if name not in (LOCK, ROWS, EVAL_CORPUS, VECTORS):
                atomic.remove(self.path_to(name))

    def abandon(self) -> None:
        """Leave before training: without a checkpoint to resume from, no trace stays."""
        if not process_group.is_main():
            return
        has_checkpoints = any(name.startswith(PREFIX) for name in os.listdir(self.path))
        if not has_checkpoints and not self.is_published():
            shutil.rmtree(self.path)
        self.lock.close()

    def checkpoint_steps(self) -> list[int]:
        """The steps of the checkpoints, ascending; folders of other names are left alone."""
        matches = map(CHECKPOINT.fullmatch, os.listdir(self.path))
        return sorted(int(match[1]) for match in matches if match)

    def checkpoint_path(self, step: int) -> str:
        """The folder of one checkpoint."""
        return self.path_to(f"{PREFIX}{step}")

    def save(self, step: int, fill: FillFolder, *, keep: int, best: int | None) -> None:
        """Make a checkpoint appear whole; remove older ones beyond `keep`, except the best.

        fill: writes into a folder; it runs in every process, with the same one.
        """
        building = self.path_to(BUILDING)
        if process_group.is_main():
            atomic.remove(building)
            os.makedirs(building)
        process_group.barrier()
        fill(building)
        process_group.barrier()
        if process_group.is_main():
            self._commit(building, step)
            self._prune(keep, best)

    def _commit(self, building: str, step: int) -> None:
        write_checksums(building)
        atomic.sync_tree(building)  # first: an earlier checkpoint of this step goes late
        atomic.remove(self.checkpoint_path(step))
        atomic.move_folder(building, self.checkpoint_path(step))

    def _prune(self, keep: int, best: int | None) -> None:
        for step in self.checkpoint_steps()[:-keep]:
            if step != best:
                # Renamed first, so that a kill in mid-removal leaves no half checkpoint.
                removing = self.path_to(REMOVING)
                atomic.remove(removing)
                atomic.replace(self.checkpoint_path(step), removing)
                atomic.remove(removing)

    def publish(self, built: str) -> None:
        """Rename the finished folder to DIR, and remove the run folder."""
        apply_umask(built)
        published = {
            "folder": os.path.relpath(built, self.path),
            "manifest": read_json(self.path_to(MANIFEST)),
        }
        atomic.write_text(self.path_to(PUBLISHED), json.dumps(published, ensure_ascii=False))
        atomic.move_folder(built, self.output)
        self._remove()


def checkpoint_step(checkpoint: str | None) -> int:
    """The step that a run resumes from; 0 where it starts."""
    if checkpoint is None:
        return 0
    state = read_json(os.path.join(checkpoint, "trainer_state.json")) or {}
    return int(state.get("global_step", 0))


def apply_umask(folder: str) -> None:
    """Give every file the mode that the user's umask asks for: safetensors writes 0600."""
    umask = os.umask(0)
    os.umask(umask)
    for path, _, names in os.walk(folder):
        for name in names:
            os.chmod(os.path.join(path, name), 0o666 & ~umask)
