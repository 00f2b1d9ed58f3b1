"""How the processes of a run find each other, before any collective.

torchrun may keep its store when it starts processes again: what the earlier ones wrote is still in
it, and addresses of dead processes among that. So the processes agree on a word first, and
whatever they write is under it.
"""

from __future__ import annotations

import os
import secrets
import time
from datetime import timedelta
from typing import TYPE_CHECKING

from fletching.errors import InputError

if TYPE_CHECKING:
    from torch.distributed.distributed_c10d import Store

PATIENCE = timedelta(minutes=10)  # torchrun has met all machines by then; imports may be slow
POLL_SECONDS = 0.02


def meet(store: Store, rank: int, ranks: int) -> str:
    """A word that is the same in all processes of this start, and new.

    Raises InputError where some do not come within `PATIENCE`.
    """
    word = secrets.token_hex(8)
    if rank == 0:
        _welcome(store, word, ranks)
        return word
    hello = secrets.token_hex(8)
    store.set(f"hello/{rank}", hello)
    try:
        word = store.get(f"welcome/{hello}").decode()
    except RuntimeError:
        raise no_meeting("process 0 was not there") from None
    store.set(f"here/{word}/{rank}", "")
    return word


def _welcome(store: Store, word: str, ranks: int) -> None:
    """Tell the word to everyone who says hello, until all of them have repeated it."""
    absent = set(range(1, ranks))
    heard: dict[int, bytes] = {}
    end = time.monotonic() + PATIENCE.total_seconds()
    while absent:
        for rank in sorted(absent):
            if store.check([f"here/{word}/{rank}"]):
                absent.remove(rank)
            elif store.check([f"hello/{rank}"]):
                hello = store.get(f"hello/{rank}")
                if heard.get(rank) != hello:  # of an earlier start, perhaps: it never answers
                    store.set(f"welcome/{hello.decode()}", word)
                    heard[rank] = hello
        if absent and time.monotonic() > end:
            names = ", ".join(map(str, sorted(absent)))
            raise no_meeting(f"of {ranks} processes, {names} were not there")
        time.sleep(POLL_SECONDS)


def no_meeting(what: str) -> InputError:
    """The error of processes that did not come together."""
    address = f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"
    minutes = PATIENCE.total_seconds() / 60
    return InputError(
        f"{what} within {minutes:g} minutes (meeting at {address})",
        "look at the logs of their machines; start all of them by one torchrun command",
    )
