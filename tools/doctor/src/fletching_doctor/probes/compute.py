"""What torch would compute on, and how fast: devices, threads, kernels, a product of matrices."""

from __future__ import annotations

import time
from dataclasses import dataclass

SIZE = 1024  # rows and columns of the matrices
REPEATS = 3


@dataclass(frozen=True, kw_only=True)
class Compute:
    """torch as it is installed.

    devices: what `--device` may name, the best one first. kernels: the instruction set that torch
    has chosen. gflops: 10⁹ operations a second of 1024 x 1024 products on the CPU, by number type.
    """

    torch: str
    build: str
    threads: int
    kernels: str
    devices: dict[str, str]
    gflops: dict[str, float]
    seconds_to_import: float


def probe_compute() -> Compute | None:
    """Import torch and ask it; None where it is not installed or cannot be loaded."""
    started = time.perf_counter()
    try:
        import torch
    except (ImportError, OSError):
        return None
    seconds = time.perf_counter() - started
    return Compute(
        torch=torch.__version__,
        build=f"CUDA {torch.version.cuda}" if torch.version.cuda else "CPU",
        threads=torch.get_num_threads(),
        kernels=torch.backends.cpu.get_cpu_capability(),
        devices=_devices(),
        gflops={name: _gflops(name) for name in ("float32", "bfloat16")},
        seconds_to_import=round(seconds, 1),
    )


def _devices() -> dict[str, str]:
    import torch

    devices = {}
    for number in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        properties = torch.cuda.get_device_properties(number)
        memory = properties.total_memory / 1e9
        devices[f"cuda:{number}"] = f"{properties.name}, {memory:.0f} GB"
    if torch.backends.mps.is_available():
        devices["mps"] = "GPU of this Mac"
    return devices | {"cpu": ""}


def _gflops(dtype: str) -> float:
    """The best of a few products."""
    import torch

    left = torch.ones(SIZE, SIZE, dtype=getattr(torch, dtype))
    seconds = []
    for _ in range(REPEATS + 1):  # the first one chooses its kernel
        started = time.perf_counter()
        left @ left
        seconds.append(time.perf_counter() - started)
    return round(2 * SIZE**3 / min(seconds[1:]) / 1e9, 1)
