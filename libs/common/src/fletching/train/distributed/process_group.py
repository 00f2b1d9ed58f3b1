"""The processes of one run, as torchrun starts them: who is first, what all wait for, who speaks.

The first process reads the input, writes checkpoints, reports and publishes. All of them compute. Where
one fails the others end too, and only the one that failed first says why. Imports torch when several
processes run, not before.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

from fletching.errors import InputError

Value = TypeVar("Value")

PATIENCE = timedelta(
    hours=24
)  # the first process may read, evaluate or save that long while others wait
THE_FIRST_SPEAKS = (
    20  # seconds that the others leave it for saying what is wrong, before the processes have met
)


def world_size() -> int:
    return int(os.environ.get("WORLD_SIZE", "1"))


def rank() -> int:
    return int(os.environ.get("RANK", "0"))


def local_rank() -> int:
    """The number of this process on its machine."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def is_main() -> bool:
    return rank() == 0


def barrier() -> None:
    """Until all have come here."""
    if world_size() == 1:
        return
    import torch

    torch.distributed.all_reduce(torch.zeros(1))


def broadcast(value: Value) -> Value:
    """The first process's value, in all of them. It travels as a Python object: small ones only."""
    if world_size() == 1:
        return value
    import torch

    box: list[Any] = [value]
    torch.distributed.broadcast_object_list(box, src=0, device=torch.device("cpu"))
    return box[0]


@contextmanager
def rank_zero_output() -> Iterator[None]:
    """Until the processes have met, all would say the same (wrong usage, help): the first one says it."""
    spoken, standard = sys.stdout, sys.stderr
    if not is_main():
        sys.stdout = sys.stderr = open(os.devnull, "w")
    try:
        yield
    finally:
        sys.stdout, sys.stderr = spoken, standard


@contextmanager
def join_group() -> Iterator[None]:
    """Connect the processes: gloo between CPUs, nccl between GPUs. Raises SystemExit, in silence, in all
    processes but the first that failed."""
    if world_size() == 1:
        yield
        return
    import torch
    from torch import distributed as dist

    store, rank_in_store, size = next(iter(dist.rendezvous("env://", timeout=PATIENCE)))
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    if torch.cuda.is_available() and local_rank() < torch.cuda.device_count():
        torch.cuda.set_device(local_rank())
    dist.init_process_group(
        backend,
        store=dist.PrefixStore("run", store),
        rank=rank_in_store,
        world_size=size,
        timeout=PATIENCE,
    )
    if dist.get_world_size() != world_size():
        raise InputError(
            f"{dist.get_world_size()} processes met, WORLD_SIZE says {world_size()}",
            "start all of them by one torchrun",
        )
    sys.stderr = sys.__stderr__  # what fails from here on may fail in one process alone
    try:
        yield
    except BaseException as error:
        # Claimed before this process's connections close, hence before any other can fail because of it.
        if _claimed(store):
            raise
        raise SystemExit(getattr(error, "code", 1)) from None
    barrier()


def exit_rank(code: int) -> None:
    """End this process, one of several, as it is.

    The group is never taken down: the destructor of gloo's, run under Python's lock, joins a thread that
    may itself wait for that lock to release a tensor, and both wait for ever (torch 2.13).
    """
    if world_size() > 1:
        sys.stdout.flush()
        sys.stderr.flush()
        if code and not is_main() and not _met():
            # torchrun ends all as soon as one has failed. It shall be the first: the others were silent.
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            time.sleep(THE_FIRST_SPEAKS)
        os._exit(code)


def _met() -> bool:
    return "torch" in sys.modules and sys.modules["torch"].distributed.is_initialized()


def _claimed(store: Any) -> bool:
    """Whether this is the first failure of the run."""
    try:
        return store.add("failures", 1) == 1
    except RuntimeError:  # the store went with the process that held it
        return False
