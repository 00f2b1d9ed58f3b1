"""Limits of control groups, of both versions, in folders as the kernel shows them."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import environment

from fletching import container

UNLIMITED_V1 = "9223372036854771712\n"


@pytest.fixture
def groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes the files of groups: membership of this process, then content by path."""

    def make(membership: str, files: dict[str, str]) -> Path:
        (tmp_path / "membership").write_text(membership)
        for name, content in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
        monkeypatch.setattr(container, "CGROUP", tmp_path)
        monkeypatch.setattr(container, "MEMBERSHIP", tmp_path / "membership")
        return tmp_path

    return make


def test_the_top_group_of_a_container_is_its_own(groups: Any) -> None:
    files = {
        "cpu.max": "150000 100000\n",
        "memory.max": "1000\n",
        "memory.current": "700\n",
        "memory.stat": "anon 5\ninactive_file 200\n",
    }
    groups("0::/../../kubepods/pod1\n", files)  # a path of the host, which is not seen here
    assert container.cpu_quota() == 1.5
    assert container.memory_limit() == 1000
    assert container.memory_left() == 500


def test_the_smallest_limit_of_the_groups_above_holds(groups: Any) -> None:
    files = {
        "slurm/job/cpu.max": "max 100000\n",
        "slurm/cpu.max": "300000 100000\n",
        "slurm/job/memory.max": "max\n",
        "slurm/memory.max": "5000\n",
        "slurm/memory.current": "100\n",
    }
    groups("0::/slurm/job\n", files)
    assert container.cpu_quota() == 3
    assert (container.memory_limit(), container.memory_left()) == (5000, 4900)


def test_version_1_has_a_folder_for_each_controller(groups: Any) -> None:
    files = {
        "cpu/cpu.cfs_quota_us": "-1\n",
        "cpu/cpu.cfs_period_us": "100000\n",
        "cpu/docker/7/cpu.cfs_quota_us": "50000\n",
        "cpu/docker/7/cpu.cfs_period_us": "100000\n",
        "memory/memory.limit_in_bytes": UNLIMITED_V1,
        "memory/docker/7/memory.limit_in_bytes": "4000\n",
        "memory/docker/7/memory.usage_in_bytes": "3000\n",
        "memory/docker/7/memory.stat": "inactive_file 1\ntotal_inactive_file 500\n",
    }
    groups("5:cpu,cpuacct:/docker/7\n4:memory:/docker/7\n1:name=systemd:/\n", files)
    assert container.cpu_quota() == 0.5
    assert container.usable_cores() == 1
    assert (container.memory_limit(), container.memory_left()) == (4000, 1500)


@pytest.mark.parametrize(
    ("membership", "files"),
    [
        ("0::/\n", {}),
        ("0::/a\n", {"a/cpu.max": "max 100000\n", "a/memory.max": "max\n"}),
        ("3:cpu:/\n2:memory:/\n", {"memory/memory.limit_in_bytes": UNLIMITED_V1}),
        ("0::/a\n", {"a/cpu.max": "", "a/memory.max": "?"}),
    ],
)
def test_without_a_limit_the_machine_counts(groups: Any, membership: str, files: Any) -> None:
    groups(membership, files)
    assert container.cpu_quota() is None and container.memory_limit() is None
    assert container.memory_left() == math.inf
    if hasattr(os, "sched_getaffinity"):
        assert container.usable_cores() == len(os.sched_getaffinity(0))


THREADS = """
import os, sys
from pathlib import Path
from fletching import container
from simfilter import cli
container._allowed_cores = lambda: 8
container.CGROUP, container.MEMBERSHIP = Path(sys.argv[1]), Path(sys.argv[1]) / "membership"
cli.main(["--version"])
print(os.environ.get("OMP_NUM_THREADS"))
"""


@pytest.mark.parametrize(("wanted", "threads"), [(None, "1"), ("7", "7")])
def test_a_tool_takes_the_threads_of_its_quota_where_nobody_says_how_many(
    groups: Any, wanted: str | None, threads: str
) -> None:
    folder = groups("0::/\n", {"cpu.max": "80000 100000\n"})
    env = environment(**({"OMP_NUM_THREADS": wanted} if wanted else {}))
    if wanted is None:
        env.pop("OMP_NUM_THREADS", None)
    line = [sys.executable, "-c", THREADS, str(folder)]
    done = subprocess.run(line, env=env, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == threads


@pytest.mark.parametrize(
    ("quota", "cores", "threads"), [(1.5, 64, 2), (32, 64, 32), (33, 64, None), (40, 2, None)]
)
def test_a_quota_that_leaves_libraries_their_threads_changes_nothing(
    groups: Any, monkeypatch: pytest.MonkeyPatch, quota: float, cores: int, threads: int | None
) -> None:
    groups("0::/\n", {"cpu.max": f"{quota * 100000:.0f} 100000\n"})
    monkeypatch.setattr(container, "_allowed_cores", lambda: cores)
    assert container.threads_of_quota() == threads
