"""Which criterion of simfilter finds swapped pairs: precision and recall on title-abstract pairs with planted noise.

  python bench/simfilter_noise.py --data title_abstract --model all-MiniLM-L6-v2

--data: a folder with pairs_noisy.jsonl.gz (id, domain, title, abstract) and noise_gold.tsv (id, noise), in which some
abstracts were swapped with those of another row (swap_near: of the same review, swap_far: of another). Rows without an
abstract are left out. Vectors are computed once and kept in --cache.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import sys
import tempfile
from pathlib import Path

sys.path = [
    path for path in sys.path if Path(path or ".").resolve() != Path(__file__).resolve().parent
]  # a file here is named like the tool

from simfilter import cli  # noqa: E402

CRITERIA = [
    *(["--min-sim", bound] for bound in ("0.2", "0.3", "0.4", "0.5", "0.6", "0.75")),
    *(["--keep-top", share] for share in ("0.95", "0.9", "0.85")),
    *(["--keep-top", share, "--keep-top-by", "domain"] for share in ("0.9",)),
    *(["--rank-within", rank] for rank in ("1", "2", "3", "5", "10", "20", "50", "100")),
    ["--rank-within", "5", "--min-sim", "0.4"],
    ["--rank-within", "20", "--min-sim", "0.4"],
]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--cache", default=None)
    args = parser.parse_args()
    with open(args.data / "noise_gold.tsv", encoding="utf-8") as file:
        noise = {row["id"]: row["noise"] for row in csv.DictReader(file, delimiter="\t")}
    with tempfile.TemporaryDirectory() as folder:
        pairs = Path(folder) / "pairs.jsonl"
        ids = write_pairs(args.data / "pairs_noisy.jsonl.gz", pairs)
        cache = args.cache or f"{folder}/cache"
        print(
            "| criterion | rows dropped | precision | recall | near swaps found | far swaps found | good pairs lost |\n|---|---|---|---|---|---|---|"
        )
        for criterion in CRITERIA:
            out = Path(folder) / "kept.jsonl"
            code = cli.main(
                [
                    str(pairs),
                    "--model",
                    args.model,
                    "--cache",
                    cache,
                    "--quiet",
                    *criterion,
                    "-o",
                    str(out),
                ]
            )
            assert code == 0
            kept = {json.loads(line)["id"] for line in open(out, encoding="utf-8")}
            print(line_of(criterion, ids, kept, noise), flush=True)


def write_pairs(source: Path, target: Path) -> list[str]:
    with gzip.open(source, "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    rows = [row for row in rows if row.get("abstract") and row.get("title")]
    with open(target, "w", encoding="utf-8") as file:
        for row in rows:
            file.write(
                json.dumps(
                    {
                        "id": str(row["id"]),
                        "query": row["title"],
                        "pos": [row["abstract"]],
                        "domain": row["domain"],
                    }
                )
                + "\n"
            )
    return [str(row["id"]) for row in rows]


def line_of(criterion: list[str], ids: list[str], kept: set[str], noise: dict[str, str]) -> str:
    """Precision: dropped rows that are swapped; recall: swapped rows that are dropped; lost: untouched rows dropped."""
    by_kind = {
        kind: [name for name in ids if noise[name] == kind]
        for kind in ("ok", "swap_near", "swap_far")
    }
    gone = {kind: sum(name not in kept for name in names) for kind, names in by_kind.items()}
    swaps, detected = (
        len(by_kind["swap_near"]) + len(by_kind["swap_far"]),
        gone["swap_near"] + gone["swap_far"],
    )
    share = {kind: gone[kind] / len(names) for kind, names in by_kind.items()}
    precision = detected / max(detected + gone["ok"], 1)
    cells = [
        f"`{' '.join(criterion)}`",
        str(len(ids) - len(kept)),
        f"{precision:.3f}",
        f"{detected / swaps:.3f}",
    ]
    return (
        "| "
        + " | ".join(
            [*cells, f"{share['swap_near']:.1%}", f"{share['swap_far']:.1%}", f"{share['ok']:.1%}"]
        )
        + " |"
    )


if __name__ == "__main__":
    main()
