"""`fletching tune --documents` on corpora whose queries by people are held back: base, BM25 and what was tuned.

  python bench/documents.py DATA [--sets ir_cranfield,ir_scifact] [--model M] [--budget 20m] [--work FOLDER]
      [--llm URL [--llm-model NAME] [--llm-requests N]]       with queries of a small LLM, one a text

DATA: the folder of the public data sets, of which each set is a BEIR folder. Queries are generated from the corpus alone; the
test queries of people decide the verdict, and mteb-eval ranks the whole corpus by base, BM25 and the model that the verdict names.
Settings are those of the release: none is chosen on SciFact.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

sys.path.pop(0)  # this folder, where contrast_train.py would stand for the tool of its name


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--sets", default="ir_cranfield,ir_scifact")
    parser.add_argument("--model", default="sentence-transformers/all-MiniLM-L6-v2")
    parser.add_argument("--budget", default="20m")
    parser.add_argument("--llm")
    parser.add_argument("--llm-model", default="llm")
    parser.add_argument("--llm-requests", default="1000")
    parser.add_argument("--work", type=Path, default=Path("build/bench/documents"))
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    for name in args.sets.split(","):
        run(args, name)


def run(args: argparse.Namespace, name: str) -> None:
    folder, out = args.data / name, args.work / name
    corpus = next(folder.glob("corpus.jsonl*"))
    tune = ["fletching-tune", corpus, "--documents", "--test", folder, "--model", args.model]
    if args.llm:
        tune += ["--llm", args.llm, "--llm-model", args.llm_model, "--llm-single"]
        tune += ["--llm-queries", "1", "--llm-requests", args.llm_requests]
    subprocess.run([*tune, "--budget", args.budget, "-o", out], check=True, stdout=sys.stderr)
    verdict = json.loads((out / "verdict.json").read_text("utf-8"))
    work = Path(f"{out}.tune")
    models = [f"base={args.model}"]
    if verdict["outcome"] != "NO GAIN":
        models.append(f"tuned={out}")
    rows = ["--examples", f"test={work}/pairs/test.parquet", "--corpus", work / "texts.parquet"]
    measures = ["-o", work / "whole.parquet", "--metrics", "ndcg_at_10"]
    ranking = ["mteb-eval", *models, *rows, "--bm25", "--baseline", "base", *measures]
    table = subprocess.run(ranking, check=True, capture_output=True, text=True).stdout
    summaries = {
        step: json.loads((work / "summaries" / f"{step}.json").read_text("utf-8"))
        for step in ("texts", "queries", "round")
    }
    print(f"## {name}\n")
    print(
        f"{summaries['texts']['rows_out']:,} texts, {summaries['queries']['rows_out']:,} queries generated, "
        f"{summaries['round']['rows_out']:,} after the round trip; {verdict['seconds'] / 60:.1f} min\n"
    )
    print(f"```\n{table.rstrip()}\n\n{verdict['line'].replace(args.model, 'all-MiniLM-L6-v2')}\n```\n", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
