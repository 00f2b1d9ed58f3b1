"""distill's ranking loss against its direct form, which compares every pair of similarities: time, memory, equality.

  python bench/distill_ranking.py [--direct 64,96,128,192,256] [--alone 512,1024]

One dimension of one batch of B texts, forward and backward, in float32, each in a new process that also reports
how far its memory grew. Up to 128 texts the direct form is one expression over M x M pairs, M = B (B-1) / 2, as it was
published. Above that it would not fit, so it is taken in blocks of rows, each with its own backward pass.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from fletching_distill.ranking import ranking

MARGIN = 0.015
WHOLE = 128  # texts up to which the direct form is taken at once
BLOCK = 64_000_000  # pairs of a block above that


def similarities(batch: int) -> tuple[Tensor, Tensor]:
    """(the student's, the teacher's) of a student near its teacher, (M,) each."""
    noise = torch.Generator().manual_seed(batch)
    teacher = torch.nn.functional.normalize(torch.randn(batch, 64, generator=noise), dim=1)
    student = torch.nn.functional.normalize(
        teacher + 0.05 * torch.randn(batch, 64, generator=noise), dim=1
    )
    rows, columns = torch.triu_indices(batch, batch, 1)
    return (student @ student.T)[rows, columns].contiguous(), (teacher @ teacher.T)[
        rows, columns
    ].contiguous()


def ours(student: Tensor, teacher: Tensor) -> tuple[float, Tensor]:
    student.requires_grad_()
    loss = ranking(student, teacher.argsort(stable=True), MARGIN)
    return loss.item(), torch.autograd.grad(loss, student)[0]


def direct(student: Tensor, teacher: Tensor, rows: int = 0) -> tuple[float, Tensor]:
    """rows: so many of the M rows at a time; 0: all."""
    student.requires_grad_()
    size = len(student)
    positions = torch.arange(size)
    total, pairs = 0.0, size * (size - 1) / 2
    for start in range(0, size, rows or size):
        stop = min(start + (rows or size), size)
        sign = torch.where(teacher[None, :] - teacher[start:stop, None] < 0, 1.0, -1.0)  # (rows, M)
        gap = torch.relu(sign * (student[None, :] - student[start:stop, None]) + MARGIN)
        loss = (gap * (positions[None, :] > positions[start:stop, None])).sum() / pairs
        loss.backward()
        total += loss.item()
    assert student.grad is not None
    return total, student.grad


def measured(batch: int, way: str) -> dict[str, Any]:
    """Seconds, megabytes and results of one way, in a new process."""

    def child(pipe: Any) -> None:
        torch.set_num_threads(1)
        student, teacher = similarities(batch)
        ours(*similarities(8))
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        function: Callable[..., tuple[float, Tensor]] = ours if way == "ours" else direct
        more = (BLOCK // len(student),) if way == "direct" and batch > WHOLE else ()
        start = time.perf_counter(), time.process_time()
        loss, gradient = function(student, teacher, *more)
        spent = time.perf_counter() - start[0], time.process_time() - start[1]
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
        pipe.send(
            {
                "wall": spent[0],
                "cpu": spent[1],
                "megabytes": grown,
                "loss": loss,
                "gradient": gradient.numpy(),
            }
        )

    receiver, sender = multiprocessing.Pipe()
    process = multiprocessing.get_context("fork").Process(target=child, args=(sender,))
    process.start()
    result = receiver.recv()
    process.join()
    return result


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--direct", default="64,96,128,192,256")
    parser.add_argument("--alone", default="512,1024")
    args = parser.parse_args()
    print(
        "| B | similarities | direct: wall s | CPU s | MB | ours: wall s | CPU s | MB | times as fast (CPU) | loss differs | gradient differs |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    for batch in map(int, filter(None, args.direct.split(","))):
        theirs, fast = measured(batch, "direct"), measured(batch, "ours")
        loss = abs(theirs["loss"] - fast["loss"]) / theirs["loss"]
        a, b = (torch.from_numpy(result["gradient"]).double() for result in (theirs, fast))
        cells = [f"{theirs['wall']:.3f}", f"{theirs['cpu']:.3f}", f"{theirs['megabytes']:,.0f}"]
        cells += [
            f"{fast['wall']:.3f}",
            f"{fast['cpu']:.3f}",
            f"{fast['megabytes']:,.0f}",
            f"{theirs['cpu'] / fast['cpu']:.1f}",
        ]
        print(
            f"| {batch} | {len(a):,} | "
            + " | ".join(cells)
            + f" | {loss:.1e} | {float((a - b).norm() / a.norm()):.1e} |",
            flush=True,
        )
    for batch in map(int, filter(None, args.alone.split(","))):
        fast = measured(batch, "ours")
        shown = f"{fast['wall']:.3f} | {fast['cpu']:.3f} | {fast['megabytes']:,.0f}"
        print(f"| {batch} | {len(fast['gradient']):,} | | | | {shown} | | | |", flush=True)


if __name__ == "__main__":
    main()
