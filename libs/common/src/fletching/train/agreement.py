"""What the processes of a run must agree on, on whatever machines they are: folder and settings.

Every function is a collective: all processes call it, and all of them raise where two disagree.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import time
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from fletching.errors import InputError
from fletching.table import atomic
from fletching.train.checkpoint_check import read_json
from fletching.train.distributed import process_group
from fletching.train.manifest import describe_changes

SECONDS_TO_APPEAR = 30  # a network file system may show a new file late
RANKS = "ranks.json"
PROBE = "seen"  # a file that is there while all processes look for it


def refuse_unshared(folder: str) -> None:
    """Raise InputError where a process does not see what the first one writes into `folder`.

    A random word is written, so that a folder of the same path on another disk is found out.
    """
    if process_group.world_size() == 1:
        return
    path = os.path.join(folder, PROBE)
    word = process_group.broadcast(secrets.token_hex(8))
    if process_group.is_main():
        atomic.write_text(path, word)
    process_group.barrier()
    views = process_group.all_gather((socket.gethostname(), _appears(path, word)))
    if process_group.is_main():
        atomic.remove(path)
    blind = defaultdict(list)
    for rank, (host, sees) in enumerate(views):
        if not sees:
            blind[host].append(str(rank))
    if blind:
        where = "; ".join(f"{', '.join(ranks)} on {host}" for host, ranks in blind.items())
        raise InputError(
            f"{folder} is not seen by every process: not by {where}",
            "put -o on a disk that all machines share, under one path",
        )


def _appears(path: str, word: str) -> bool:
    """Is this the content of the file, now or soon?"""
    patience = SECONDS_TO_APPEAR if process_group.has_machines() else 0
    end = time.monotonic() + patience
    while True:
        try:
            with open(path, encoding="ascii") as file:
                if file.read() == word:
                    return True
        except (OSError, ValueError):
            pass
        if time.monotonic() >= end:
            return False
        time.sleep(0.5)


def refuse_differences(subject: str, values: Mapping[str, Any], fix: str) -> None:
    """Raise InputError where a process has other values than the first one.

    subject: what they are, in the plural. fix: how to make them equal. What a process leaves out
    is not compared: it does not know it.
    """
    everyone = process_group.all_gather((socket.gethostname(), dict(values)))
    _, first = everyone[0]
    for rank, (host, others) in enumerate(everyone):
        known = first.keys() & others.keys()
        changes = describe_changes(
            {key: first[key] for key in known},
            {key: others[key] for key in known},
            phrase="{key} is {old}, there {new}",
        )
        if changes:
            raise InputError(
                f"process {rank} on {host} has other {subject} than process 0: "
                + "; ".join(changes),
                fix,
            )


def first_world_size(folder: str, *, resumes: bool) -> int:
    """The number of processes that the run in `folder` was started with.

    resumes: does it go on from a checkpoint? Else it starts now, with these processes.
    """
    path = os.path.join(folder, RANKS)
    ranks = None
    if process_group.is_main():
        ranks = (read_json(path) or {}).get("ranks") if resumes else None
        if not isinstance(ranks, int) or ranks < 1:
            ranks = process_group.world_size()
            atomic.write_text(path, json.dumps({"ranks": ranks}))
    return process_group.broadcast(ranks) or 1
