"""fletching-doctor: what this machine has, what is slow here, and why.

Reads    nothing but the system: packages, processor, memory, disks, devices, the hub
Writes   a page on stdout, or JSON (--json, -o); nothing leaves the machine but one HEAD request
Holds    torch, which is imported to ask it for devices and threads

  fletching-doctor
  fletching-doctor --json --no-hub

The exit code is 1 where something is broken, such as an installed package that another one refuses.
"""

from __future__ import annotations

import os
import sys

from fletching import cli
from fletching.errors import UsageError
from fletching.report import Report
from fletching_doctor.options import Options


def check(options: Options) -> None:
    """Raise UsageError where -o cannot be written."""
    folder = os.path.dirname(options.output or "") or "."
    if not os.path.isdir(folder):
        raise UsageError(f"the folder of -o {options.output} does not exist", f"mkdir -p {folder}")
    if options.output and os.path.isdir(options.output):
        raise UsageError(f"-o {options.output} is a folder", "name a file, e.g. doctor.json")


def run(options: Options, report: Report) -> int:
    """Look, show it, and write it where -o says; 1 where something is broken."""
    check(options)

    from fletching.table import atomic
    from fletching_doctor import text
    from fletching_doctor.examination import examine

    examination = examine(tries_hub=options.hub, imports_torch=options.measure)
    if options.output:
        atomic.write_text(options.output, examination.as_json())
    sys.stdout.write(examination.as_json() if options.json else text.page(examination))
    report.measures = examination.counts()
    return int(examination.is_broken)


TOOL = cli.Tool(
    name="fletching-doctor",
    options=Options,
    run=run,
    doc=__doc__,
    usage="fletching-doctor [--json] [--no-hub] [-o FILE]",
    check=check,
    works_alone=True,
)


def main(argv: list[str] | None = None) -> int:
    """The program: its exit code."""
    return cli.main(TOOL, argv)
