"""Inject faults into every command: kills, full disks, errors, signals, limits, two runs at once.

    python scripts/inject_faults.py --count 1000 --seed 0

Prints a table by class: tried, handled, defects; then each defect with the numbers that repeat it.
Exit code 1 where there is one. --only N repeats trial N of the same count and seed. --journal FILE
keeps each verdict; given again, what was handled is not done again and what was a defect is.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing.process
import os
import platform
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "support")]

import fault_subjects  # noqa: E402
import fault_trials  # noqa: E402
import suite  # noqa: E402
from conftest import build_model  # noqa: E402

PRELOADED = ["__main__", *suite.PRELOADED, "fault_injector"]


def processor() -> str:
    """The name of the CPU."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":")[1].strip()
    return platform.processor()


def table(trials: list[fault_trials.Trial], name: str, attribute: str) -> str:
    """Trials, handled ones and defects by class or command, in Markdown."""
    tried: Counter[str] = Counter()
    defects: Counter[str] = Counter()
    for trial in trials:
        label = trial.kind if attribute == "kind" else trial.subject.name
        tried[label] += 1
        defects[label] += bool(trial.defects)
    lines = [f"| {name} | tried | handled | defects |", "|---|---|---|---|"]
    for label, count in sorted(tried.items()):
        lines.append(f"| {label} | {count} | {count - defects[label]} | {defects[label]} |")
    total, bad = tried.total(), defects.total()
    return "\n".join([*lines, f"| **all** | {total} | {total - bad} | {bad} |"])


def keep(trial: fault_trials.Trial, journal: Path | None) -> None:
    """Append the verdict on a trial to the journal."""
    if journal:
        verdict = {"seed": trial.seed, "kind": trial.kind, "defects": trial.defects}
        with journal.open("a") as file:
            file.write(json.dumps(verdict | {"command": trial.subject.name}) + "\n")


def replay(trials: list[fault_trials.Trial], journal: Path | None) -> list[fault_trials.Trial]:
    """The trials that an earlier run has seen handled."""
    if journal is None or not journal.exists():
        return []
    verdicts = map(json.loads, journal.read_text().splitlines())
    is_handled = {verdict["seed"]: not verdict["defects"] for verdict in verdicts}
    return [trial for trial in trials if is_handled.get(trial.seed)]


def main() -> int:
    """Run the trials; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--only", type=int, help="repeat this one trial")
    parser.add_argument("--subject", help="the command alone")
    parser.add_argument("--journal", type=Path, help="verdicts, one a line; resumes from there")
    parser.add_argument("--seconds", type=float, help="start no trial after so many seconds")
    args = parser.parse_args()
    suite.FORKS.set_forkserver_preload(PRELOADED)
    # A thread that starts a process would reap those of other threads, whose exit codes are lost.
    multiprocessing.process._cleanup = lambda: None
    begin = time.monotonic()
    subjects = [each for each in fault_subjects.ALL if args.subject in (None, each.name)]
    trials = fault_trials.plan(subjects, args.count, args.seed)
    if args.only is not None:
        trials = [trials[args.only]]
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        model = build_model(Path(folder, "model"))
        needed = {trial.subject.name: trial.subject for trial in trials}
        with ThreadPoolExecutor(args.jobs) as pool:
            made = pool.map(lambda each: fault_trials.refer(each, model), needed.values())
            references = dict(zip(needed, made))
        for name, each in references.items():
            print(f"{name}: {each.seconds:.1f} s, {each.points} points", file=sys.stderr)
        done = replay(trials, args.journal)

        def run(trial: fault_trials.Trial) -> None:
            if trial in done or (args.seconds and time.monotonic() - begin > args.seconds):
                return
            try:
                trial.run(model, references[trial.subject.name])
            except Exception as error:
                trial.defects.append(f"the harness failed: {error!r}")
            done.append(trial)
            keep(trial, args.journal)
            if trial.defects:
                label = f"{trial.seed} {trial.subject.name}, {trial.kind}"
                print(f"{label}: {trial.defects}", file=sys.stderr, flush=True)
            elif len(done) % 50 == 0:
                print(f"{len(done):,} of {len(trials):,}", file=sys.stderr, flush=True)

        with ThreadPoolExecutor(args.jobs) as pool:
            list(pool.map(run, trials))
    print(f"{processor()}, {os.cpu_count()} cores, {time.monotonic() - begin:.0f} s\n")
    print(table(done, "fault", "kind") + "\n")
    print(table(done, "command", "subject"))
    print(f"\nFiles compared by name alone, as they hold times: {_volatile(references)}.")
    return int(any(trial.defects for trial in done))


def _volatile(references: dict[str, fault_trials.Reference]) -> str:
    names = {
        f"{command}: {Path(name).name}"
        for command, reference in references.items()
        for name in reference.volatile
    }
    return "; ".join(sorted(names)) or "none"


if __name__ == "__main__":
    sys.exit(main())
