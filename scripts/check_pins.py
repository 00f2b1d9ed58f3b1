"""Can the pinned versions be installed together, with every extra of every package?

    python scripts/check_pins.py      pip looks everything up in the package index and installs nothing

`make install` brings few of the extras: a pin that one of the others excludes is seen by nobody else.
"""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]


def requirements() -> list[str]:
    """What all extras name, without the packages of this repository."""
    lines: set[str] = set()
    for path in (ROOT, ROOT / "libs" / "common", *(ROOT / "tools").iterdir()):
        project = path / "pyproject.toml"
        if project.exists():
            content = tomllib.loads(project.read_text("utf-8"))["project"]
            for extra in content.get("optional-dependencies", {}).values():
                lines.update(extra)
    return sorted(line for line in lines if not line.startswith("fletching"))


def main() -> int:
    """Ask pip. Its message names what excludes what."""
    pip = [sys.executable, "-m", "pip", "install", "--dry-run", "--quiet"]
    pip += ["--disable-pip-version-check", "--constraint", str(ROOT / "constraints.txt")]
    return subprocess.run([*pip, *requirements()], check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
