"""bench/gpu.sh checks on a GPU what tests here cannot: every branch for a device is reached by one of its checks."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCES = [*ROOT.glob("libs/common/src/**/*.py"), *ROOT.glob("tools/*/src/**/*.py")]
BRANCH = re.compile(
    r"torch\.cuda|/dev/nvidia|CUDA_VISIBLE|[\"']cuda[\"']|(?:type|device|\[0\]) [!=]= [\"']cpu[\"']"
)
# Names of options that other programs have, and their values.
WORDS = {"foreign_option_names.py", "foreign_option_values.py"}


def test_every_branch_for_a_device_is_in_a_check_of_the_gpu_bench() -> None:
    script = (ROOT / "bench" / "gpu.sh").read_text("utf-8")
    named = {
        name
        for line in re.findall(r'^(?:check|compare) \w+ \d+ "([^"]+)"', script, re.MULTILINE)
        for name in line.split()
    }
    paths = [path for path in SOURCES if "egg-info" not in str(path)]
    ends = {
        name: [path for path in paths if path.as_posix().endswith("/" + name)] for name in named
    }
    assert [name for name, files in ends.items() if not files] == []
    reached = {path for files in ends.values() for path in files}
    branching = {path for path in paths if BRANCH.search(path.read_text("utf-8"))}
    assert sorted(p.name for p in branching - reached if p.name not in WORDS) == []
