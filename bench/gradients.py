"""The gradient of every loss, micro-batch size, number of ranks and wrapper against one process and one pass.

  python bench/gradients.py [--ranks 1,2,4] [--wrappers ddp,fsdp,zero1,zero2,zero3] [--losses infonce,…]

The whole matrix of the cases of which tests/contrast-train/test_gradients.py runs a cover. Told is the largest relative
error of each group: of the averaged gradient, and of the way that the weights went in two SGD steps. The bound is 1e-5.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import tempfile
import time
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1] / "tests"
# In place of this folder, where a file has the name of the tool.
sys.path[:1] = [str(TESTS), str(TESTS / "support")]

import gradients  # noqa: E402
from gradients import LOSSES, ZERO, Case  # noqa: E402

SPLITS = [
    (1, 0),
    (16, 0),
    (40, 0),
    (40, 90),
    (200, 0),
    (10**6, 0),
]  # (tokens of a micro-batch, tokens kept)
UPDATES = [(1, 9), (2, 2)]  # (global batches an update, rows of each)
BOUND = 1e-5
WRAPPERS = ("ddp", "fsdp", *ZERO)


def matrix(ranks: list[int], wrappers: list[str], losses: list[str]) -> list[Case]:
    groups = [("none", 1)] * (1 in ranks) + [
        (wrapper, count) for count in ranks if count > 1 for wrapper in wrappers
    ]
    return [
        Case(
            loss=loss,
            wrapper=wrapper,
            ranks=count,
            batch_tokens=batch_tokens,
            keep=keep,
            accumulate=accumulate,
            rows=rows,
        )
        for (wrapper, count), loss, (batch_tokens, keep), (accumulate, rows) in itertools.product(
            groups, losses, SPLITS, UPDATES
        )
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--ranks", default="1,2,4")
    parser.add_argument("--wrappers", default=",".join(WRAPPERS))
    parser.add_argument("--losses", default=",".join(LOSSES))
    args = parser.parse_args()
    cases, start = (
        matrix(
            [int(count) for count in args.ranks.split(",")],
            args.wrappers.split(","),
            args.losses.split(","),
        ),
        time.monotonic(),
    )
    with tempfile.TemporaryDirectory() as folder:
        gradients.gather(cases, Path(folder))
        errors = {case: gradients.errors(case, Path(folder)) for case in cases}
    print(f"{len(cases)} cases, {time.monotonic() - start:.0f} s\n")
    print("| wrapper | ranks | loss | cases | gradient | weights |")
    print("|---|---|---|---|---|---|")
    for key, group in itertools.groupby(
        cases, key=lambda case: (case.wrapper, case.ranks, case.loss)
    ):
        found = [errors[case] for case in group]
        print(
            f"| {' | '.join(map(str, key))} | {len(found)} | {max(g for g, _ in found):.1e} | {max(w for _, w in found):.1e} |"
        )
    beyond = [case for case, worst in errors.items() if max(worst) > BOUND]
    print(f"\nbeyond {BOUND:g}: {len(beyond)}", *beyond, sep="\n  ")
    sys.exit(bool(beyond))


if __name__ == "__main__":
    main()
