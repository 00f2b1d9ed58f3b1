"""What simfilter costs beyond encoding: reading, joining, scoring and writing, as a share of the whole.

  python bench/simfilter.py --model all-MiniLM-L6-v2 [--pairs 1000]

The same pairs pass twice in one process: once with the encoder at work (each vector timed), and the time outside
Encoder.encode is the rest. Wall and CPU seconds.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path

from encode import standard_library

sys.path = [
    path for path in sys.path if Path(path or ".").resolve() != Path(__file__).resolve().parent
]  # this file is named like the tool


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", required=True)
    parser.add_argument("--pairs", type=int, default=1000)
    args = parser.parse_args()
    import torch

    from fletching.encode import Encoder
    from fletching.encode.instruction_set import instruction_set
    from simfilter import cli

    texts = standard_library(2 * args.pairs)
    load = ", ".join(f"{each:.1f}" for each in os.getloadavg())
    print(f"{len(texts)} texts, {torch.get_num_threads()} threads")
    print(f"{instruction_set()}, torch {torch.__version__}, load at the start {load}\n")
    spent = [0.0, 0.0]
    encode, start, loaded = Encoder.encode, Encoder.__init__, [0.0, 0.0]

    def timed(into: list[float], function):
        def call(*args, **kwargs):
            wall, cpu = time.perf_counter(), time.process_time()
            try:
                return function(*args, **kwargs)
            finally:
                into[0] += time.perf_counter() - wall
                into[1] += time.process_time() - cpu

        return call

    Encoder.encode, Encoder.__init__ = timed(spent, encode), timed(loaded, start)  # type: ignore[method-assign]
    print(
        "| criterion | whole, wall s | whole, CPU s | rest, wall | rest, CPU |\n|---|---|---|---|---|"
    )
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "pairs.jsonl"
        source.write_text(
            "".join(
                json.dumps({"query": query, "pos": [text]}) + "\n"
                for query, text in zip(texts[::2], texts[1::2])
            ),
            "utf-8",
        )
        assert (
            cli.main(
                [
                    str(source),
                    "--model",
                    args.model,
                    "--quiet",
                    "--limit",
                    "8",
                    "--score-only",
                    "-o",
                    f"{folder}/out.parquet",
                ]
            )
            == 0
        )  # imports
        for criterion in (["--min-sim", "0.3"], ["--keep-top", "0.9"], ["--rank-within", "20"]):
            spent[:], loaded[:] = [0.0, 0.0], [0.0, 0.0]
            wall, cpu = time.perf_counter(), time.process_time()
            assert (
                cli.main(
                    [
                        str(source),
                        "--model",
                        args.model,
                        "--quiet",
                        *criterion,
                        "-o",
                        f"{folder}/out.parquet",
                    ]
                )
                == 0
            )
            whole = time.perf_counter() - wall - loaded[0], time.process_time() - cpu - loaded[1]
            rest = [1 - part / total for part, total in zip(spent, whole)]
            print(
                f"| `{' '.join(criterion)}` | {whole[0]:.2f} | {whole[1]:.2f} | {rest[0]:.1%} | {rest[1]:.1%} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
