"""What of a machine breaks tools or costs time, each with its fix."""

from __future__ import annotations

from collections.abc import Iterator

from fletching_doctor.finding import Finding
from fletching_doctor.probes.compute import Compute
from fletching_doctor.probes.hub import Hub
from fletching_doctor.probes.machine import Machine
from fletching_doctor.probes.packages import Packages

GB = 1e9
LEAST_DISK = 5 * GB  # weights, vectors and checkpoints of a small run
LEAST_MEMORY = 3 * GB  # a small encoder that is tuned at batch 64
FASTER = 1.2  # how much faster bfloat16 must be to be worth it
CPU_INDEX = "https://download.pytorch.org/whl/cpu"


def of_packages(packages: Packages) -> Iterator[Finding]:
    """Requirements that are not met, and tools that are not installed."""
    for line in packages.unmet:
        yield Finding(
            severity="broken", what=line, fix="install it again: pip install 'fletching[all]'"
        )
    if "torch" not in packages.libraries:
        yield Finding(
            severity="note",
            what="torch is not installed: no tool that encodes or trains will run",
            fix="pip install 'fletching[all]'",
        )


def of_machine(machine: Machine) -> Iterator[Finding]:
    """Slow processors, few threads, full disks, little memory, other programs."""
    is_x86 = not {"NEON", "SVE"} & set(machine.instruction_sets)
    if is_x86 and "AVX2" not in machine.instruction_sets:
        what = "no AVX2: the processor is old, or the virtual machine hides what it can"
        yield Finding(
            severity="slow", what=what, fix="use a host that passes the processor through"
        )
    for name in ("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA"):
        if name in machine.variables:
            what = f"{name}={machine.variables[name]} forbids faster instructions"
            yield Finding(severity="slow", what=what, fix=f"unset {name}")
    if machine.load > 1.5 * machine.usable_cores:
        what = (
            f"the load is {machine.load:.1f} on {machine.usable_cores} processors: others compute"
        )
        yield Finding(severity="slow", what=what, fix="wait for them, or see who they are: top")
    for disk in machine.disks:
        if disk.free < LEAST_DISK:
            what = f"{disk.folder} ({disk.purpose}) has {disk.free / GB:.1f} GB free"
            variable = {"temporary files": "TMPDIR", "models of the hub": "HF_HOME"}.get(
                disk.purpose
            )
            fix = (
                f"free some, or name another disk: export {variable}=…" if variable else "free some"
            )
            yield Finding(severity="slow", what=what, fix=fix)
    if machine.memory_available < LEAST_MEMORY:
        what = f"{machine.memory_available / GB:.1f} GB of memory are available"
        yield Finding(severity="slow", what=what, fix="end other programs, or pass smaller batches")


def of_compute(compute: Compute, machine: Machine) -> Iterator[Finding]:
    """Builds of torch for another device, threads for other numbers of cores, slow types."""
    has_gpu = any(name != "cpu" for name in compute.devices)
    if machine.has_nvidia_device and not has_gpu:
        if compute.build == "CPU":
            what, fix = "there is an NVIDIA GPU, and torch is a build for CPUs", _reinstall("cuda")
        else:
            what = f"there is an NVIDIA GPU, and torch ({compute.build}) does not reach it"
            fix = "nvidia-smi shows the driver: it must be as new as that CUDA"
        yield Finding(severity="slow", what=what, fix=fix)
    elif compute.build != "CPU" and not has_gpu:
        what = f"torch is a build for {compute.build}, and there is no GPU: gigabytes for nothing"
        yield Finding(severity="note", what=what, fix=_reinstall("cpu"))
    if not has_gpu:
        yield from _of_threads(compute, machine)
        yield from _of_types(compute)


def _reinstall(build: str) -> str:
    """How pip, and how make, replaces torch."""
    index = f" --index-url {CPU_INDEX}" if build == "cpu" else ""
    return f"pip uninstall torch; pip install torch{index} (or make install TORCH={build})"


def _of_threads(compute: Compute, machine: Machine) -> Iterator[Finding]:
    # Two threads of a core share its units: torch takes one of them.
    granted = machine.usable_cores
    if compute.threads > granted * 1.5:
        what = f"torch takes {compute.threads} threads, and the container has {granted} processors"
        fix = f"export OMP_NUM_THREADS={max(1, round(granted))}"
        yield Finding(severity="slow", what=what, fix=fix)
    elif compute.threads * 2 < granted:
        what = f"torch takes {compute.threads} of {granted:g} processors"
        fix = "export OMP_NUM_THREADS=" + str(max(1, int(granted)))
        if "OMP_NUM_THREADS" in machine.variables:
            fix = "unset OMP_NUM_THREADS"
        yield Finding(severity="slow", what=what, fix=fix)
    elif "OMP_NUM_THREADS" in machine.variables and compute.threads < granted:
        what = f"OMP_NUM_THREADS lets torch take {compute.threads} of {granted:g} processors"
        yield Finding(severity="slow", what=what, fix="unset OMP_NUM_THREADS")


def _of_types(compute: Compute) -> Iterator[Finding]:
    whole, half = compute.gflops["float32"], compute.gflops["bfloat16"]
    if half < whole * FASTER:
        speeds = f"{half:,.0f} GFLOP/s, float32 {whole:,.0f}"
        what = f"bfloat16 is no faster here ({speeds}): the processor has no units for it"
        yield Finding(
            severity="note", what=what, fix="leave --dtype at auto, which takes float32 then"
        )


def of_hub(hub: Hub) -> Iterator[Finding]:
    """Why a model's name would not be fetched."""
    if hub.offline_flags:
        flags = " and ".join(hub.offline_flags)
        what = f"{flags} set: models are read from folders and the cache alone"
        yield Finding(severity="note", what=what, fix=f"unset {' '.join(hub.offline_flags)}")
    elif hub.answer not in ("reached", "not tried"):
        what = f"{hub.endpoint} is not reached ({hub.answer}): names of models cannot be fetched"
        fix = "name a folder, or a mirror: export HF_ENDPOINT=…; a proxy: HTTPS_PROXY=…"
        yield Finding(severity="note", what=what, fix=fix)
