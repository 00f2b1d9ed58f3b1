"""The processor, memory and disks, as the limits of a container leave them."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import psutil

from fletching import container

CPUINFO = Path("/proc/cpuinfo")
DEVICES_OF_NVIDIA = ("/dev/nvidia0", "/dev/dxg")
# The flag of Linux for each instruction set that torch and oneDNN choose their kernels by.
INSTRUCTION_SETS = {
    "AVX2": ("avx2",),
    "AVX-512": ("avx512f",),
    "VNNI": ("avx512_vnni", "avx_vnni"),
    "AVX-512 BF16": ("avx512_bf16",),
    "AMX": ("amx_tile",),
    "NEON": ("asimd", "neon"),
    "SVE": ("sve",),
    "ARM BF16": ("bf16",),
}
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "POLARS_MAX_THREADS")
LIMITING_VARIABLES = ("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA")


@dataclass(frozen=True, kw_only=True)
class Disk:
    """A folder and what its disk has free, in bytes."""

    purpose: str
    folder: str
    free: int


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What there is to compute with, in bytes; quota: processors that a cgroup grants."""

    processor: str
    cores: int
    usable_cores: int
    quota: float | None
    load: float
    instruction_sets: list[str]
    memory: int
    memory_limit: int | None
    memory_available: int
    disks: list[Disk]
    has_nvidia_device: bool
    variables: dict[str, str]


def probe_machine() -> Machine:
    """Look at the processor, memory and disks."""
    flags = processor_flags()
    memory = psutil.virtual_memory()
    left = max(container.memory_left(), 0)
    names = (*THREAD_VARIABLES, *LIMITING_VARIABLES)
    return Machine(
        processor=_processor_name(),
        cores=os.cpu_count() or 1,
        usable_cores=container.usable_cores(),
        quota=container.cpu_quota(),
        load=os.getloadavg()[0],
        instruction_sets=[
            name for name, signs in INSTRUCTION_SETS.items() if not flags.isdisjoint(signs)
        ],
        memory=memory.total,
        memory_limit=container.memory_limit(),
        memory_available=int(min(memory.available, left)),
        disks=disks(),
        has_nvidia_device=any(map(os.path.exists, DEVICES_OF_NVIDIA)),
        variables={name: os.environ[name] for name in names if os.environ.get(name)},
    )


def processor_flags() -> set[str]:
    """What the processor can, in the words of Linux."""
    if sys.platform == "darwin":
        return _flags_of_macos()
    try:
        lines = CPUINFO.read_text().splitlines()
    except OSError:
        return set()
    named = [line.partition(":")[2] for line in lines if line.startswith(("flags", "Features"))]
    return set(named[0].split()) if named else set()


def _flags_of_macos() -> set[str]:
    if platform.machine() == "arm64":
        return {"neon"}
    command = ["sysctl", "-n", "machdep.cpu.leaf7_features"]
    words = subprocess.run(command, capture_output=True, text=True, check=False).stdout.split()
    return {word.lower() for word in words}


def _processor_name() -> str:
    try:
        lines = CPUINFO.read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def hub_cache() -> str:
    """The folder of the hub's models, as huggingface_hub resolves it."""
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    home = os.environ.get("HF_HOME") or os.path.join(home, "huggingface")
    return os.environ.get("HF_HUB_CACHE") or os.path.join(home, "hub")


def disks() -> list[Disk]:
    """The disks of the current, the temporary and the hub's folder."""
    folders = {
        "outputs": os.getcwd(),
        "temporary files": tempfile.gettempdir(),
        "models of the hub": hub_cache(),
    }
    return [
        Disk(purpose=purpose, folder=folder, free=shutil.disk_usage(_existing(folder)).free)
        for purpose, folder in folders.items()
    ]


def _existing(folder: str) -> str:
    """The folder, or the nearest one above it that is there."""
    while not os.path.isdir(folder):
        folder = os.path.dirname(folder) or os.sep
    return folder
