"""All probes and findings of one run."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from dataclasses import dataclass

from fletching_doctor import findings
from fletching_doctor.finding import Finding
from fletching_doctor.probes.compute import Compute, probe_compute
from fletching_doctor.probes.hub import Hub, probe_hub
from fletching_doctor.probes.machine import Machine, probe_machine
from fletching_doctor.probes.packages import Packages, probe_packages


@dataclass(frozen=True, kw_only=True)
class Examination:
    """What was seen. compute: None where torch was not imported or is not installed."""

    packages: Packages
    machine: Machine
    compute: Compute | None
    hub: Hub
    findings: list[Finding]

    @property
    def is_broken(self) -> bool:
        """Is anything so that a tool fails?"""
        return any(each.severity == "broken" for each in self.findings)

    def counts(self) -> dict[str, int]:
        """How many findings there are of each severity."""
        return dict(Counter(each.severity for each in self.findings))

    def as_json(self) -> str:
        """Everything, by the names of the fields."""
        return json.dumps(dataclasses.asdict(self), indent=2, ensure_ascii=False) + "\n"


def examine(*, tries_hub: bool, imports_torch: bool) -> Examination:
    """Look at this machine."""
    packages = probe_packages()
    machine = probe_machine()
    compute = probe_compute() if imports_torch else None
    hub = probe_hub(tries=tries_hub)
    return Examination(
        packages=packages,
        machine=machine,
        compute=compute,
        hub=hub,
        findings=[
            *findings.of_packages(packages),
            *findings.of_machine(machine),
            *(findings.of_compute(compute, machine) if compute else []),
            *findings.of_hub(hub),
        ],
    )
