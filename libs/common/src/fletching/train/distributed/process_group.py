"""The processes of one run, as torchrun starts them: ranks, barriers, who may print.

The first process reads the input, writes checkpoints, reports and publishes. All of them
compute. Where one fails the others end too, and only the one that failed first reports why.
Imports torch when several processes run, not before.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar

from fletching.errors import InputError

if TYPE_CHECKING:
    from torch.distributed.distributed_c10d import Store

Value = TypeVar("Value")

# The first process may read, evaluate or save that long while the others wait.
TIMEOUT = timedelta(hours=24)
# How long the others let the first one report an error before the processes have joined.
SECONDS_FOR_FIRST_REPORT = 20
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


@contextmanager
def rank_zero_output() -> Iterator[None]:
    """Let only the first process print.

    Until the processes have joined, all would print the same (usage errors, help).
    """
    stdout, stderr = sys.stdout, sys.stderr
    if not is_main():
        sys.stdout = sys.stderr = open(os.devnull, "w")
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
    store = _init_process_group()
    sys.stderr = sys.__stderr__  # what fails from this point on may fail in one process alone
    try:
        yield
    except BaseException as error:
        # Counted before this process's connections close, hence before others can fail because
        # of it.
        if _is_first_failure(store):
            raise
        raise SystemExit(getattr(error, "code", 1)) from None
    barrier()


def _init_process_group() -> Store:
    """The store that all processes share. Raises InputError where some are missing."""
    import torch
    from torch import distributed as dist
    from torch.distributed.rendezvous import rendezvous

    store, store_rank, size = next(iter(rendezvous("env://", timeout=TIMEOUT)))
    has_gpu = torch.cuda.is_available()
    if has_gpu and local_rank() < torch.cuda.device_count():
        torch.cuda.set_device(local_rank())
    dist.init_process_group(
        "cpu:gloo,cuda:nccl" if has_gpu else "gloo",
        store=torch.distributed.distributed_c10d.PrefixStore("run", store),
        rank=store_rank,
        world_size=size,
        timeout=TIMEOUT,
    )
    if dist.get_world_size() != world_size():
        raise InputError(
            f"{dist.get_world_size()} processes met, WORLD_SIZE says {world_size()}",
            "start all of them by one torchrun",
        )
    return store  # type: ignore[no-any-return]


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
    os._exit(code)


def _has_joined() -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and bool(torch.distributed.is_initialized())


def _is_first_failure(store: Store) -> bool:
    try:
        return bool(store.add(FAILURES, 1) == 1)
    except RuntimeError:  # the store ended with the process that served it
        return False
