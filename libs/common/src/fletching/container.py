"""What control groups (cgroup v1 and v2: Docker, Kubernetes, Slurm, systemd) leave of the machine.

A process lies in a group, and the limits of all groups above it hold as well.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path

CGROUP, MEMBERSHIP = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


def usable_cores() -> int:
    """Processors that this process may use: by its affinity, and by the quota of its groups."""
    quota = cpu_quota()
    return _allowed_cores() if quota is None else min(_allowed_cores(), math.ceil(quota))


def threads_of_quota() -> int | None:
    """The threads that the quota is worth; None where libraries start no more of themselves.

    They take one for each physical core, of which two hardware threads may share one.
    """
    quota = cpu_quota()
    if quota is None or 2 * math.ceil(quota) > _allowed_cores():
        return None
    return math.ceil(quota)


def _allowed_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def cpu_quota() -> float | None:
    """Processors' worth of time that the groups grant; None without a limit."""
    quotas = [quota for group in _groups("cpu") if (quota := _quota_of(group)) is not None]
    return min(quotas, default=None)


def memory_limit() -> int | None:
    """Bytes that the groups grant; None without a limit."""
    limits = [limit for group in _groups("memory") if (limit := _limit_of(group)) is not None]
    return min(limits, default=None)


def memory_left() -> float:
    """Bytes that the groups still grant, cached files not counted as taken; inf without a limit."""
    left = math.inf
    for group in _groups("memory"):
        limit = _limit_of(group)
        taken = _number(group / "memory.current", group / "memory.usage_in_bytes")
        if limit is not None and taken is not None:
            left = min(left, limit - taken + _cached(group))
    return left


def _groups(controller: str) -> Iterator[Path]:
    """The folders of this process's group and of those above it.

    Inside a container the path of the group may be that of the host: its own is then the top.
    """
    try:
        lines = MEMBERSHIP.read_text(errors="replace").splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        top = CGROUP / controller if controllers else CGROUP
        parts = [part for part in path.split("/") if part not in ("", "..")]
        for depth in range(len(parts), -1, -1):
            yield top.joinpath(*parts[:depth])


def _quota_of(group: Path) -> float | None:
    try:
        quota, period = (group / "cpu.max").read_text().split()
        return int(quota) / int(period)
    except (OSError, ValueError):  # another version, or `max`
        pass
    quota_us, period_us = _number(group / "cpu.cfs_quota_us"), _number(group / "cpu.cfs_period_us")
    if quota_us is None or quota_us <= 0 or not period_us:  # -1: no limit
        return None
    return quota_us / period_us


def _limit_of(group: Path) -> int | None:
    limit = _number(group / "memory.max", group / "memory.limit_in_bytes")
    # Version 1 says "no limit" by the largest number of pages.
    return limit if limit is not None and limit < 1 << 60 else None


def _cached(group: Path) -> int:
    """Bytes of files that are given back when memory is short, of the group and those below."""
    try:
        lines = (group / "memory.stat").read_text().splitlines()
    except OSError:
        return 0
    numbers = dict(line.split()[:2] for line in lines if " " in line)
    number = numbers.get("total_inactive_file", numbers.get("inactive_file", ""))
    return int(number) if number.isdecimal() else 0


def _number(*paths: Path) -> int | None:
    """The number in the first of the files that is there and holds one."""
    for path in paths:
        try:
            return int(path.read_text())
        except (OSError, ValueError):  # `max` of version 2
            continue
    return None
