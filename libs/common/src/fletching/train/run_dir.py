"""The folder of a run in the making, `DIR.run`: who works there, on what, and the whole checkpoints.

lock            held while a run is alive
manifest.json   fingerprint of data, model and options
rows.arrow      the rows
measures.jsonl  one line a step
vectors/        vectors of another model that the run learns from, where there is one
checkpoint-N/   weights, optimiser, schedule, random state, position; whole or not there at all
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Callable
from typing import Any

from fletching.errors import InputError, UsageError
from fletching.train.distributed import process_group

PREFIX = "checkpoint-"
ROWS = "rows.arrow"
VECTORS = "vectors"


class RunDir:
    """Claims `DIR.run` for this run. Raises InputError where DIR exists or another run is alive.

    Of several processes the first one claims, writes and removes; the others wait for it where they must.
    """

    def __init__(self, output: str) -> None:
        self.output = output.rstrip("/")
        self.path = self.output + ".run"
        if process_group.is_main():
            self._claim()
        process_group.barrier()
        if not os.path.isdir(self.path):
            raise InputError(
                f"{self.path} is not seen by every process",
                "put -o on a disk that all machines share",
            )

    def _claim(self) -> None:
        if os.path.exists(self.output) and not (
            os.path.isdir(self.output) and not os.listdir(self.output)
        ):
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
        self.lock = open(self.path_to("lock"), "w")
        try:
            fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise InputError(
                f"another run is at work in {self.path}", "wait for it, or name another -o"
            ) from None

    def path_to(self, *names: str) -> str:
        return os.path.join(self.path, *names)

    def resume_or_start(self, manifest: dict[str, Any]) -> str | None:
        """Write the manifest; the newest checkpoint to go on from, where there is one.

        Raises InputError, with the differences, where checkpoints of other data or options stand here.
        """
        return process_group.broadcast(
            self._resume_or_start(manifest) if process_group.is_main() else None
        )

    def _resume_or_start(self, manifest: dict[str, Any]) -> str | None:
        newest = self.newest_checkpoint()
        before = read_json(self.path_to("manifest.json"))
        if newest and before != manifest:
            changes = "; ".join(describe_changes(before or {}, manifest)) or "the manifest is damaged"
            raise InputError(
                f"{self.path} holds a run of other data or options: {changes}",
                f"run the earlier command again, or start anew: rm -r {self.path}",
            )
        if not newest:
            for name in os.listdir(self.path):
                if name not in ("lock", ROWS, VECTORS):
                    remove(self.path_to(name))
        write_whole(
            self.path_to("manifest.json"),
            json.dumps(manifest, indent=1, sort_keys=True, ensure_ascii=False).encode(),
        )
        return newest

    def abandon(self) -> None:
        """Nothing was begun: without a checkpoint to go on from, no trace stays."""
        if not process_group.is_main():
            return
        if not self.checkpoint_steps():
            shutil.rmtree(self.path)
        self.lock.close()

    def checkpoint_steps(self) -> list[int]:
        names = [name for name in os.listdir(self.path) if name.startswith(PREFIX)]
        return sorted(int(name.removeprefix(PREFIX)) for name in names)

    def checkpoint_path(self, step: int) -> str:
        return self.path_to(f"{PREFIX}{step}")

    def newest_checkpoint(self) -> str | None:
        steps = self.checkpoint_steps()
        return self.checkpoint_path(steps[-1]) if steps else None

    def save(self, step: int, fill: Callable[[str], None], *, keep: int, best: int | None
    ) -> None:
        """A checkpoint that appears by one rename; older ones beyond `keep` go, the best one stays.

        `fill` runs in every process, with the same folder.
        """
        building = self.path_to("building")
        if process_group.is_main():
            remove(building)
            os.makedirs(building)
        process_group.barrier()
        fill(building)
        process_group.barrier()
        if process_group.is_main():
            self._commit(building, step)
            self._prune(keep, best)

    def _commit(self, building: str, step: int) -> None:
        sync_tree(building)
        remove(self.checkpoint_path(step))
        os.rename(building, self.checkpoint_path(step))
        sync(self.path)

    def _prune(self, keep: int, best: int | None) -> None:
        for old in self.checkpoint_steps()[:-keep]:
            if old != best:
                # Renamed first, so that a kill in mid-removal leaves no half checkpoint.
                remove(self.path_to("dropped"))
                os.rename(self.checkpoint_path(old), self.path_to("dropped"))
                remove(self.path_to("dropped"))

    def publish(self, built: str) -> None:
        """The finished folder takes its place by one rename, and the run folder goes."""
        apply_umask(built)
        sync_tree(built)
        if os.path.isdir(self.output):
            os.rmdir(self.output)
        os.rename(built, self.output)
        sync(os.path.dirname(os.path.abspath(self.output)))
        shutil.rmtree(self.path)
        self.lock.close()


def checkpoint_step(checkpoint: str | None) -> int:
    """The step that a run goes on from."""
    state = read_json(os.path.join(checkpoint, "trainer_state.json")) if checkpoint else None
    return (state or {}).get("global_step", 0)


def apply_umask(folder: str) -> None:
    """Give every file the rights that the user's umask asks for: safetensors writes 0600."""
    mask = os.umask(0)
    os.umask(mask)
    for path, _, names in os.walk(folder):
        for name in names:
            os.chmod(os.path.join(path, name), 0o666 & ~mask)


def describe_changes(before: dict[str, Any], now: dict[str, Any], path: str = "") -> list[str]:
    """What changed, one phrase each.

    >>> describe_changes({"options": {"lr": 1}}, {"options": {"lr": 2, "batch": 8}})
    ['batch was unset, now 8', 'lr was 1, now 2']
    """
    found = []
    for key in sorted({*before, *now}):
        old, new = before.get(key), now.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            found += describe_changes(old, new)
        elif old != new:
            found.append(f"{key} was {_display(old)}, now {_display(new)}")
    return found


def _display(value: Any) -> str:
    return (
        "unset"
        if value is None
        else json.dumps(value, ensure_ascii=False)
        if not isinstance(value, str)
        else value[-40:]
    )


def read_json(path: str) -> dict[str, Any] | None:
    try:
        with open(path, encoding="utf-8") as file:
            content = json.load(file)
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def write_whole(path: str, content: bytes) -> None:
    with open(path + ".tmp", "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(path + ".tmp", path)


def remove(path: str) -> None:
    if os.path.isdir(path):
        shutil.rmtree(path)
    elif os.path.lexists(path):
        os.unlink(path)


def sync(path: str) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_tree(path: str) -> None:
    for folder, _, names in os.walk(path):
        for name in names:
            sync(os.path.join(folder, name))
        sync(folder)
