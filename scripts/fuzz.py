"""Mutate the input of every reader, and see that it is refused by name or read as it is written.

    python scripts/fuzz.py --count 20000 --seed 0

Prints tables by reader and by mutation; then each defect with the number that repeats it. Exit code 1
where there is one. --only N repeats case N of the same count and seed; --keep DIR keeps its input.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import queue
import sys
import threading
import time
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import IO

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "support")]

import fuzz_trials  # noqa: E402
import suite  # noqa: E402
from fuzz_readers import READERS  # noqa: E402
from fuzz_trials import DEFECT, VERDICTS, FuzzCase  # noqa: E402

PRELOADED = ["__main__", *suite.PRELOADED, "fuzz_trials", "fuzz_readers"]


def processor() -> str:
    """The name of the CPU."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":")[1].strip()
    return platform.processor()


def table(cases: list[FuzzCase], name: str, attribute: str) -> str:
    """Cases by verdict, in Markdown."""
    counts: dict[str, Counter[str]] = {}
    for case in cases:
        counts.setdefault(getattr(case, attribute), Counter())[case.verdict] += 1
    lines = [f"| {name} | tried | {' | '.join(VERDICTS)} |", "|---" * (2 + len(VERDICTS)) + "|"]
    total: Counter[str] = Counter()
    for label, count in sorted(counts.items()):
        total += count
        cells = [str(count[verdict]) for verdict in VERDICTS]
        lines.append(f"| {label} | {count.total()} | {' | '.join(cells)} |")
    cells = [str(total[verdict]) for verdict in VERDICTS]
    return "\n".join([*lines, f"| **all** | {total.total()} | {' | '.join(cells)} |"])


def run_all(cases: list[FuzzCase], args: argparse.Namespace) -> list[FuzzCase]:
    """All cases, by some warm processes side by side."""
    waiting: dict[bool, queue.SimpleQueue[FuzzCase]] = {
        is_quick: queue.SimpleQueue() for is_quick in (True, False)
    }
    for case in cases:
        waiting[READERS[case.reader].is_quick].put(case)
    log = open(args.log, "w") if args.log else None
    begin = time.monotonic()
    done: list[FuzzCase] = []

    def work(order: list[bool]) -> None:
        for is_quick in order:
            if waiting[is_quick].empty():
                continue
            with fuzz_trials.Fuzzer(is_quick=is_quick) as fuzzer:
                while not args.seconds or time.monotonic() - begin < args.seconds:
                    try:
                        case = waiting[is_quick].get_nowait()
                    except queue.Empty:
                        break
                    done.append(fuzzer.run(case, args.keep))
                    tell(done[-1], len(done), time.monotonic() - begin, log)

    threads = [
        threading.Thread(target=work, args=([bool(number % 2), not number % 2],))
        for number in range(args.jobs)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return done


def tell(case: FuzzCase, count: int, seconds: float, log: IO[str] | None) -> None:
    """Progress, and a defect at once; a line of the log."""
    if case.verdict == DEFECT:
        print(f"{case.seed} {case.reader}, {case.target}, {case.mutations}:", file=sys.stderr)
        print(f"    {case.detail}", file=sys.stderr, flush=True)
    if log:
        log.write(json.dumps(asdict(case)) + "\n")
        log.flush()
    if count % 500 == 0:
        print(f"{count}, {seconds:.0f} s", file=sys.stderr, flush=True)


def main() -> int:
    """Run the cases; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--only", help="repeat these cases, by number, comma between")
    parser.add_argument("--keep", help="keep the input and the streams of the last case here")
    parser.add_argument("--reader", help="readers whose name has this in it")
    parser.add_argument("--seconds", type=float, help="start no case after so many seconds")
    parser.add_argument("--log", help="all cases as JSON lines")
    args = parser.parse_args()
    suite.FORKS.set_forkserver_preload(PRELOADED)
    readers = {name: each for name, each in READERS.items() if (args.reader or "") in name}
    cases = fuzz_trials.plan(readers, args.count, args.seed)
    if args.only is not None:
        cases = [cases[int(number)] for number in args.only.split(",")]
    else:
        cases = fuzz_trials.kept(readers) + cases
    begin = time.monotonic()
    done = run_all(cases, args)
    print(f"{processor()}, {os.cpu_count()} cores, {time.monotonic() - begin:.0f} s\n")
    print(table(done, "reader", "reader") + "\n")
    print(table(done, "mutation", "kind"))
    defects = [case for case in done if case.verdict == DEFECT]
    for case in defects:
        print(f"\n{case.seed} {case.reader}, {case.target}, {case.mutations}\n    {case.detail}")
    return int(bool(defects))


if __name__ == "__main__":
    sys.exit(main())
