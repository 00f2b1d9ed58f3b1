"""What runs shards side by side: processes of this machine, or tasks of a Ray cluster.

Both run `running.run_shard`, so a shard is the same process with the same record everywhere.
Ray Data is not used: it keeps no order of rows.
"""

from __future__ import annotations

import concurrent.futures
import glob
import os
import queue
import tempfile
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from fletching.container import usable_cores
from fletching.errors import InputError
from fletching.shards.engine_checks import LOCAL, check_engine_name
from fletching.shards.running import ShardStoppedError, ShardTask, run_shard

GPUS = "CUDA_VISIBLE_DEVICES"
LONGEST_SOCKET = 107  # bytes of the path of a Unix socket
RAY_SOCKET = "/ray/session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store"
SHORT_TEMP = "/tmp"


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How an attempt at a shard ended. code: of its process; None: the worker was lost."""

    task: ShardTask
    code: int | None
    what: str = ""


@dataclass(frozen=True, kw_only=True)
class WorkerPlan:
    """What the user wants of workers. count: None for what the machines have."""

    count: int | None
    cores: int
    uses_gpus: bool  # where there are some


class Engine(Protocol):
    """Runs at most `workers` shards at a time.

    may_fall_silent: it can lose a node and not say so for minutes.
    """

    workers: int
    may_fall_silent: bool

    def submit(self, task: ShardTask) -> None:
        """Start a shard on a free worker."""

    def wait(self, seconds: float) -> list[Outcome]:
        """What has ended; waits for the first one as long."""

    def forget(self, task: ShardTask) -> None:
        """Stop waiting for this task."""

    def close(self) -> None:
        """End what runs."""


def open_engine(name: str, plan: WorkerPlan) -> Engine:
    """The engine of --engine. Raises UsageError and InputError."""
    check_engine_name(name)
    kind, _, address = name.partition(":")
    return LocalEngine(plan) if kind == LOCAL else RayEngine(plan, address)


def _threads(cores: int) -> dict[str, str]:
    return {"OMP_NUM_THREADS": str(cores)}


# --- this machine --------------------------------------------------------------------------------


class LocalEngine:
    """Processes of this machine, each with its cores and, where there are GPUs, one of them."""

    may_fall_silent = False

    def __init__(self, plan: WorkerPlan) -> None:
        cores = usable_cores()
        gpus = _gpus() if plan.uses_gpus else []
        self.workers = plan.count or len(gpus) or max(cores // plan.cores, 1)
        self.env = _threads(min(plan.cores, max(cores // self.workers, 1)))
        self.gpus: queue.SimpleQueue[str] = queue.SimpleQueue()
        for number in range(self.workers if gpus else 0):
            self.gpus.put(gpus[number % len(gpus)])
        self.has_gpus = bool(gpus)
        self.stop = threading.Event()
        self.pool = concurrent.futures.ThreadPoolExecutor(self.workers)
        self.running: dict[concurrent.futures.Future[int], ShardTask] = {}

    def submit(self, task: ShardTask) -> None:
        """Start a shard in a thread, which waits for its process."""
        self.running[self.pool.submit(self._run, task)] = task

    def _run(self, task: ShardTask) -> int:
        if not self.has_gpus:
            return run_shard(_with_env(task, self.env), self.stop)
        gpu = self.gpus.get()
        try:
            return run_shard(_with_env(task, {**self.env, GPUS: gpu}), self.stop)
        finally:
            self.gpus.put(gpu)

    def wait(self, seconds: float) -> list[Outcome]:
        """What has ended."""
        done, _ = concurrent.futures.wait(
            self.running, seconds, return_when=concurrent.futures.FIRST_COMPLETED
        )
        return [Outcome(task=self.running.pop(each), code=each.result()) for each in done]

    def forget(self, task: ShardTask) -> None:
        """Stop waiting for this task."""
        self.running = {each: other for each, other in self.running.items() if other is not task}

    def close(self) -> None:
        """End the processes."""
        self.stop.set()
        self.pool.shutdown(wait=True, cancel_futures=True)
        for future in self.running:
            if not future.cancelled() and isinstance(future.exception(), ShardStoppedError):
                continue
        self.running.clear()


def _gpus() -> list[str]:
    """The numbers of the GPUs that this process may use."""
    if GPUS in os.environ:
        return [number for number in os.environ[GPUS].split(",") if number.strip()]
    paths = glob.glob("/dev/nvidia[0-9]*")
    return sorted((path.removeprefix("/dev/nvidia") for path in paths), key=int)


def _with_env(task: ShardTask, env: Mapping[str, str]) -> ShardTask:
    return ShardTask(folder=task.folder, words=task.words, cwd=task.cwd, env={**task.env, **env})


# --- Ray -----------------------------------------------------------------------------------------


def run_ray_task(task: ShardTask) -> int:
    """A shard on the node where Ray put it; the folder is on a file system that all share."""
    return run_shard(task)


class RayEngine:
    """Tasks of Ray. address: of a running cluster; "" starts one of this machine."""

    may_fall_silent = True

    def __init__(self, plan: WorkerPlan, address: str) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        # Ray would warn that a later version leaves a task's own CUDA_VISIBLE_DEVICES alone.
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        import ray

        self.ray = ray
        settings: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
        if address:
            settings["address"] = address
        else:
            settings |= {"address": LOCAL, "include_dashboard": False, **_ray_folder()}
        try:
            ray.init(**settings)
        except (ConnectionError, ValueError, RuntimeError, OSError) as error:
            what = f"no Ray cluster answers at {address or 'this machine'} ({error})"
            raise InputError(what, _fix_of_connection(address)) from None
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
        cores = int(min(plan.cores, max(node.get("CPU", 0) for node in nodes)))
        gpus = sum(int(node.get("GPU", 0)) for node in nodes) if plan.uses_gpus else 0
        if cores < 1:
            self.close()
            raise InputError("the Ray cluster has no CPU", "start a node with CPUs: ray start")
        by_cores = sum(int(node.get("CPU", 0) // cores) for node in nodes)
        self.workers = plan.count or gpus or max(by_cores, 1)
        if not gpus and self.workers > by_cores:  # as many as wanted, with fewer cores each
            cores = max(int(sum(node.get("CPU", 0) for node in nodes)) // self.workers, 1)
        self.env = _threads(cores)
        on_node = ray.remote(num_cpus=cores, num_gpus=1 if gpus else 0, max_retries=0)
        self.remote = on_node(run_ray_task)
        self.running: dict[Any, ShardTask] = {}

    def submit(self, task: ShardTask) -> None:
        """Give a task to Ray, which waits for a node with room."""
        self.running[self.remote.remote(_with_env(task, self.env))] = task

    def wait(self, seconds: float) -> list[Outcome]:
        """What has ended; a worker that was lost has no exit code."""
        done, _ = self.ray.wait(list(self.running), timeout=seconds)
        return [self._outcome(reference) for reference in done]

    def _outcome(self, reference: Any) -> Outcome:  # noqa: ANN401 - a type of Ray's
        task = self.running.pop(reference)
        try:
            return Outcome(task=task, code=self.ray.get(reference))
        except self.ray.exceptions.RayTaskError as error:
            cause = error.cause
            if isinstance(cause, InputError):
                raise InputError(cause.what, cause.fix) from None
            return Outcome(task=task, code=None, what=str(cause).splitlines()[0])
        except self.ray.exceptions.RayError as error:
            return Outcome(task=task, code=None, what=f"lost ({type(error).__name__})")

    def forget(self, task: ShardTask) -> None:
        """Stop waiting for this task, and end it where its node can be reached."""
        for reference in [each for each, other in self.running.items() if other is task]:
            del self.running[reference]
            self.ray.cancel(reference, force=True)

    def close(self) -> None:
        """Cancel what runs; the kernel ends the processes with their workers."""
        for reference in getattr(self, "running", ()):
            self.ray.cancel(reference, force=True)
        self.ray.shutdown()


def _fix_of_connection(address: str) -> str:
    """Ray's error for a call without the token of the cluster is that for a call without answer."""
    if not address:
        return "--engine local runs the shards without Ray"
    start = "start one: ray start --head, or pass --engine ray"
    if os.environ.get("RAY_AUTH_MODE") == "token":
        return f"{start}; its token must be that of this machine (ray get-auth-token)"
    return f"{start}; for a cluster with tokens: export RAY_AUTH_MODE=token"


def _ray_folder() -> dict[str, str]:
    """The folder of Ray's sockets where that of temporary files has too long a path for them."""
    socket = os.fsencode(tempfile.gettempdir() + RAY_SOCKET)
    return {"_temp_dir": SHORT_TEMP + "/ray"} if len(socket) > LONGEST_SOCKET else {}
