"""An examination as a page for people."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from fletching.colour import has_colour, paint
from fletching.report import printable
from fletching_doctor.examination import Examination
from fletching_doctor.finding import Finding

GB = 1e9
COLUMN = 14
NO_TOOLS = ("fletching", "fletching-workspace")
STYLES = {"broken": "error", "slow": "error", "note": "heading"}


def page(examination: Examination) -> str:
    """What is there, a line each, then the findings."""
    coloured = has_colour(sys.stdout)
    parts = [*_packages(examination), *_machine(examination), *_compute(examination)]
    lines = [f"{name.ljust(COLUMN)}{printable(value)}" for name, value in parts]
    lines += ["", *(_finding(each, coloured=coloured) for each in examination.findings)]
    if not examination.findings:
        lines.append("nothing is slow or broken here")
    return "\n".join(lines) + "\n"


def _finding(finding: Finding, *, coloured: bool) -> str:
    word = paint(finding.severity, STYLES[finding.severity]) if coloured else finding.severity
    fix = paint("fix:", "fix") if coloured else "fix:"
    first = f"{word}{' ' * (COLUMN - len(finding.severity))}{printable(finding.what)}"
    return f"{first}\n{' ' * COLUMN}{fix} {printable(finding.fix)}" if finding.fix else first


def _packages(examination: Examination) -> Iterator[tuple[str, str]]:
    packages = examination.packages
    versions = sorted(set(packages.tools.values()))
    names = [name.removeprefix("fletching-") for name in packages.tools if name not in NO_TOOLS]
    yield "fletching", f"{', '.join(versions)}: {', '.join(names) or 'no tool'}"
    yield "Python", f"{packages.python}, {packages.executable}"
    yield "system", packages.system
    yield "libraries", _listed(packages.libraries)
    if packages.extras:
        yield "extras", _listed(packages.extras)
    if packages.missing_extras:
        uses = [f"{name} ({use})" for name, use in packages.missing_extras.items()]
        yield "not installed", ", ".join(uses)


def _listed(versions: dict[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions.items())


def _machine(examination: Examination) -> Iterator[tuple[str, str]]:
    machine = examination.machine
    cores = f"{machine.usable_cores} of {machine.cores} cores"
    if machine.quota is not None:
        cores += f", {machine.quota:g} by the container's quota"
    yield "processor", f"{machine.processor}, {cores}, load {machine.load:.1f}"
    yield "instructions", ", ".join(machine.instruction_sets) or "not known"
    memory = f"{machine.memory_available / GB:.1f} of {machine.memory / GB:.1f} GB available"
    if machine.memory_limit is not None:
        memory += f"; the container's limit is {machine.memory_limit / GB:.1f} GB"
    yield "memory", memory
    for disk in machine.disks:
        yield "disk", f"{disk.free / GB:,.0f} GB free for {disk.purpose} ({disk.folder})"


def _compute(examination: Examination) -> Iterator[tuple[str, str]]:
    compute = examination.compute
    if compute is not None:
        yield (
            "torch",
            f"{compute.torch} ({compute.build}), {compute.seconds_to_import:g} s to import",
        )
        devices = [f"{name} {text}".strip() for name, text in compute.devices.items()]
        yield "devices", ", ".join(devices)
        yield "threads", f"{compute.threads}, kernels for {compute.kernels}"
        speeds = [f"{name} {speed:,.0f}" for name, speed in compute.gflops.items()]
        yield "GFLOP/s", ", ".join(speeds) + " (products of 1024 x 1024 on the CPU)"
    hub = examination.hub
    seconds = f" in {hub.seconds:g} s" if hub.seconds is not None else ""
    token = "with" if hub.has_token else "without"
    yield "hub", f"{hub.endpoint}: {hub.answer}{seconds}; {token} HF_TOKEN"
