"""Signs of life between the machines of a run.

A process that is killed closes its connections, and its peers fail at once. A machine that loses
power or its network closes nothing: its peers would wait in a collective for as long as the first
process may take to read or evaluate, which is a day. So one process of each machine writes a
counter into the store that all share, and looks whether those of the others still grow.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch.distributed.distributed_c10d import Store

EVERY_SECONDS = 10.0
PATIENCE_SECONDS = 120.0
STORE = "the machine that serves the rendezvous"


class Heartbeats:
    """Those of one machine, in a thread.

    peers: host names of the other machines by the rank that beats for them. on_loss: called in
    the thread, with the host name of a machine that has been silent for `patience` seconds.
    """

    def __init__(
        self,
        store: Store,
        rank: int,
        peers: Mapping[int, str],
        *,
        on_loss: Callable[[str], object],
        patience: float = PATIENCE_SECONDS,
    ) -> None:
        self.store = store
        self.rank = rank
        self.peers = peers
        self.on_loss = on_loss
        self.patience = patience
        self.beats = 0
        self.newest: dict[int, tuple[bytes, float]] = {}  # (counter, when it was new) by rank
        self.ended = threading.Event()

    def start(self) -> None:
        """Beat until `stop`."""
        threading.Thread(target=self._run, name="heartbeats", daemon=True).start()

    def stop(self) -> None:
        """No machine is missed from here on."""
        self.ended.set()

    def beat(self, now: float) -> str | None:
        """Write a sign of life and read those of the others; the host that is lost, if one is.

        now: seconds of a clock. Raises RuntimeError where the store cannot be reached.
        """
        self.beats += 1
        self.store.set(f"alive/{self.rank}", str(self.beats))
        for rank, host in self.peers.items():
            key = f"alive/{rank}"
            counter = self.store.get(key) if self.store.check([key]) else b""
            before, since = self.newest.get(rank, (None, now))
            if counter != before:
                self.newest[rank] = counter, now
            elif now - since > self.patience:
                return host
        return None

    def _run(self) -> None:
        while not self.ended.wait(EVERY_SECONDS):
            try:
                lost = self.beat(time.monotonic())
            except RuntimeError:
                lost = STORE
                if self.ended.wait(EVERY_SECONDS):  # the run has ended, and its store before us
                    return
            if lost:
                self.on_loss(lost)
                return
