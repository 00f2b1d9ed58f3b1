"""csv2pairs, simfilter and hnmine over public tables: rows in and out, drops by reason, seconds of each.

  python bench/tried_on.py FOLDER --model all-MiniLM-L6-v2 [--limit 5000] [--only NAME,NAME]

FOLDER holds one folder for each table of TABLES, or a part of them. Every table passes csv2pairs as a whole; simfilter and
hnmine get its first --limit examples. Seconds are wall-clock and CPU, of whole commands with their start. Nothing is asserted:
a tool that fails ends the run with its own error.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

# Which columns mean what, and the mode that fits. None: the file holds examples already.
TABLES: dict[str, tuple[str, list[str] | None]] = {
    "csv_adventureworks": (
        "products_multilang.csv.gz",
        "--query name --pos description --category category --domain culture --negatives 3".split(),
    ),
    "csv_banking77": (
        "train.csv.gz",
        "--query text --category category --mode group --negatives 3".split(),
    ),
    "csv_fra_cp1252": (
        "tatoeba_fra_cp1252.csv",
        "--query anglais --pos français --id n° --negatives 3".split(),
    ),
    "csv_kenall_sjis": (
        "ken_all.zip",
        "--columns jis,old,zip,ku,cu,tu,pref,city,town,f1,f2,f3,f4,f5,f6 --query {ku}{cu}{tu} --pos {pref}{city}{town} --category cu --negatives 3".split(),
    ),
    "csv_wordnet": (
        "wordnet_synsets.csv.gz",
        "--query definition --pos lemmas,examples,hypernym_lemmas --mode list --category topic --domain pos --id synset_id --negatives 3".split(),
    ),
    "bitext_msdocs_lv": ("lv_en_train.tsv.gz", "--query lv --pos en --negatives 3".split()),
    "bitext_tatoeba": (
        "tatoeba_pairs.tsv.gz",
        "--query source --pos english --domain lang --negatives 3".split(),
    ),
    "ft_rag_retrieval": ("t2rank_100.jsonl.gz", None),
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", required=True)
    parser.add_argument("--limit", type=int, default=5000)
    parser.add_argument("--only", help="some of the folders, divided by commas")
    args = parser.parse_args()
    wanted = args.only.split(",") if args.only else [*TABLES]
    print(
        "| table | command | in | out | dropped, added | notes | wall s | CPU s |\n|---|---|---|---|---|---|---|---|"
    )
    for name in wanted:
        if (args.folder / name).exists():
            with tempfile.TemporaryDirectory() as work:
                through(name, args.folder / name, Path(work), args.model, args.limit)


def through(name: str, folder: Path, work: Path, model: str, limit: int) -> None:
    file, options = TABLES[name]
    table, pairs = folder / file, work / "pairs.parquet"
    if table.suffix == ".zip":
        with zipfile.ZipFile(table) as packed:
            table = Path(packed.extract(packed.namelist()[0], work))
    if options is None:
        pairs = table
    else:
        tell(name, run(["csv2pairs", str(table), *options, "-o", str(pairs)], work))
    encode = ["--model", model, "--cache", str(work / "vectors")]
    kept, mined = work / "kept.parquet", work / "mined.parquet"
    tell(
        name, run(["simfilter", str(pairs), *encode, "--limit", str(limit), "-o", str(kept)], work)
    )
    tell(name, run(["hnmine", str(kept), *encode, "-o", str(mined)], work))


def run(command: list[str], work: Path) -> tuple[str, dict, float, float]:
    summary = work / "summary.json"
    start, before = time.perf_counter(), os.times()
    done = subprocess.run(
        [*command, "--json-summary", str(summary)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        sys.exit(done.stderr)
    after = os.times()
    cpu = (
        after.children_user + after.children_system - before.children_user - before.children_system
    )
    return command[0], json.loads(summary.read_text("utf-8")), time.perf_counter() - start, cpu


def tell(name: str, ran: tuple[str, dict, float, float]) -> None:
    tool, summary, wall, cpu = ran
    changes = [f"{count:,} {reason}" for reason, count in summary["dropped"].items()]
    changes += [f"+{count:,} {reason}" for reason, count in summary["added"].items()]
    notes = "; ".join(summary["notes"]).replace("|", "\\|")
    for path in (note.split()[0] for note in summary["notes"] if "/" in note.split()[0]):
        notes = notes.replace(path, Path(path).name)
    print(
        f"| {name} | `{tool}` | {summary['rows_in']:,} | {summary['rows_out']:,} | {', '.join(changes) or '-'} | {notes or '-'} | {wall:.1f} | {cpu:.1f} |",
        flush=True,
    )


if __name__ == "__main__":
    main()
