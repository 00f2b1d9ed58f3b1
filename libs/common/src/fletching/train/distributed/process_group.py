"""The processes of one run, as torchrun starts them: ranks, barriers, who may print.

The first process reads the input, writes checkpoints, reports and publishes. All of them
compute. Where one fails the others end too, and only the one that failed first reports why.
Imports torch when several processes run, not before.
"""

from __future__ import annotations

import io
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar

from fletching.errors import InputError
from fletching.train.distributed import meeting
from fletching.train.distributed.heartbeats import Heartbeats

if TYPE_CHECKING:
    from torch.distributed.distributed_c10d import Store

Value = TypeVar("Value")

# The first process may read, evaluate or save that long while the others wait.
TIMEOUT = timedelta(hours=24)
# How long the others let the first one report an error before the processes have joined.
SECONDS_FOR_FIRST_REPORT = 20
# In errors of collectives whose other end is gone.
LOST = ("Connection closed", "Connection reset", "Broken pipe", "Timed out", "NCCL")
UNSAID = io.StringIO()  # what this process did not print
FAILURES = "failures"  # counter in the store


def world_size() -> int:
    """The number of processes of this run."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def rank() -> int:
    """The number of this process in the run."""
    return int(os.environ.get("RANK", "0"))


def local_rank() -> int:
    """The number of this process on its machine."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def local_world_size() -> int:
    """The number of processes of this run on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def is_main() -> bool:
    """Is this the first process?"""
    return rank() == 0


def has_machines() -> bool:
    """Do the processes of this run live on several machines, as far as torchrun says?"""
    return local_world_size() < world_size()


def restarted() -> bool:
    """Has torchrun started the processes of this run before?"""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")) > 0


def barrier() -> None:
    """Wait until all processes are at this point."""
    if world_size() == 1:
        return
    import torch

    torch.distributed.all_reduce(torch.zeros(1))


def broadcast(value: Value) -> Value:
    """The first process's value, in all of them. It is pickled: small ones only."""
    if world_size() == 1:
        return value
    import torch

    values = [value]
    torch.distributed.broadcast_object_list(values, src=0, device=torch.device("cpu"))
    return values[0]


def all_gather(value: Value) -> list[Value]:
    """The values of all processes, by rank, in each of them. They are pickled."""
    if world_size() == 1:
        return [value]
    import torch

    values: list[Value] = [value] * world_size()
    torch.distributed.all_gather_object(values, value)
    return values


@contextmanager
def rank_zero_output() -> Iterator[None]:
    """Let only the first process print.

    Until the processes have joined, all would print the same (usage errors, help). What the first
    one of another machine says is kept for `exit_rank`.
    """
    stdout, stderr = sys.stdout, sys.stderr
    if not is_main():
        is_heard = local_rank() == 0
        sys.stdout = sys.stderr = UNSAID if is_heard else open(os.devnull, "w")
    try:
        yield
    finally:
        sys.stdout, sys.stderr = stdout, stderr


@contextmanager
def join_group() -> Iterator[None]:
    """Join the process group of this run: gloo between CPUs, nccl between GPUs.

    Raises SystemExit, without a message, in every process but the first that failed.
    """
    if world_size() == 1:
        yield
        return
    try:
        store = _init_process_group()
    finally:
        if local_rank() == 0:
            sys.stderr = sys.__stderr__  # others of this machine would say the same
    sys.stderr = sys.__stderr__  # what fails from this point on may fail in one process alone
    heartbeats = _start_heartbeats(store)
    try:
        yield
    except BaseException as error:
        heartbeats.stop()
        # Counted before this process's connections close, hence before others can fail because
        # of it.
        if _is_first_failure(store):
            if sign := _sign_of_loss(error):
                raise _lost_process(sign) from error
            raise
        raise SystemExit(getattr(error, "code", 1)) from None
    barrier()
    heartbeats.stop()
    barrier()  # nobody closes the store before all have stopped to look at it


def _init_process_group() -> Store:
    """The store that all processes share. Raises InputError where some are missing."""
    import torch
    from torch import distributed as dist
    from torch.distributed.distributed_c10d import PrefixStore
    from torch.distributed.rendezvous import rendezvous

    try:
        store, store_rank, size = next(iter(rendezvous("env://", timeout=meeting.PATIENCE)))
    except dist.DistError:
        raise meeting.no_meeting("the first process was not reached") from None
    store = PrefixStore(meeting.meet(store, store_rank, size), store)
    has_gpu = torch.cuda.is_available()
    if has_gpu and local_rank() < torch.cuda.device_count():
        torch.cuda.set_device(local_rank())
    dist.init_process_group(
        "cpu:gloo,cuda:nccl" if has_gpu else "gloo",
        store=PrefixStore("run", store),
        rank=store_rank,
        world_size=size,
        timeout=TIMEOUT,
    )
    if dist.get_world_size() != world_size():
        raise InputError(
            f"{dist.get_world_size()} processes met, WORLD_SIZE says {world_size()}",
            "start all of them by one torchrun",
        )
    return store


def _start_heartbeats(store: Store) -> Heartbeats:
    """Those of this machine, by its first process, where there are several machines."""
    processes = all_gather((socket.gethostname(), local_rank()))
    peers = {
        each: host for each, (host, local) in enumerate(processes) if local == 0 and each != rank()
    }
    heartbeats = Heartbeats(_second_client(store), rank(), peers, on_loss=_leave)
    if local_rank() == 0 and peers:
        heartbeats.start()
    return heartbeats


def _second_client(store: Store) -> Store:
    """The store for another thread: in one connection, a call that waits holds up all others."""
    return store.clone()  # type: ignore[attr-defined,no-any-return]


def _leave(host: str) -> None:
    """End this process, whose main thread may wait for a machine that is gone."""
    error = _lost_process(f"no sign of life of {host}")
    tool = os.path.basename(sys.argv[0])
    os.write(2, f"{tool}: {error.what}\n  fix: {error.fix}\n".encode())
    os._exit(1)


def exit_rank(code: int) -> None:
    """End this process where it is one of several.

    The group is never destroyed: the destructor of gloo's, run under Python's lock, joins a
    thread that may itself wait for that lock to release a tensor, and both wait for ever (torch
    2.13).
    """
    if world_size() == 1:
        return
    sys.stdout.flush()
    sys.stderr.flush()
    if code and not is_main() and not _has_joined():
        # torchrun ends all as soon as one has failed. Let that be the first: the others were
        # silent.
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        time.sleep(SECONDS_FOR_FIRST_REPORT)
        # The first process is on another machine, and has ended well or has another command.
        os.write(2, UNSAID.getvalue().encode())
    os._exit(code)


def _sign_of_loss(error: BaseException) -> str | None:
    """The words that say it comes of the death of another process; None where it does not."""
    if not isinstance(error, RuntimeError):
        return None
    return next((sign for sign in LOST if sign in str(error)), None)


def _lost_process(sign: str) -> InputError:
    return InputError(
        f"another process of this run, or its machine, is gone ({sign})",
        "give the same command again, with as many processes as there are; or let torchrun do it: "
        "--max-restarts N",
    )


def _has_joined() -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and bool(torch.distributed.is_initialized())


def _is_first_failure(store: Store) -> bool:
    try:
        return bool(store.add(FAILURES, 1) == 1)
    except RuntimeError:  # the store ended with the process that served it
        return False
