"""`fletching tune` against sentence-transformers' default recipe and against a fixed recipe, on many tables, with equal CPU time.

  python bench/tune.py DATA [--tables french,banking77] [--seeds 0,1,2] [--model M] [--work FOLDER] [--log FILE.jsonl]
  python bench/tune.py DATA --ablation [--tables french] [--seeds 0] [--kinds lora,…]: every kind of candidate alone, and their soup
  python bench/tune.py --report FILE.jsonl

DATA: the folder of the public data sets. For each table and seed: the peer trains first (SentenceTransformerTrainer with
MultipleNegativesRankingLoss, one epoch, batches of 64 without duplicates, its other defaults) on the train and dev rows that tune's
split gives; the CPU time of its process is the --budget of tune, raised to what tune says it needs where that is less. The fixed recipe
is simfilter, hnmine and one epoch of contrast-train with its defaults. mteb-eval compares all with the base on the test rows, among all
documents of the table; the loss on STS-B (Spearman, English test) is the guard. Each result is one line of the log; what is there
is not done again. With --ablation each kind trains as many updates as tune plans for it alone, whatever the budget, and its last
weights but for those of a better evaluation on dev are what is compared.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import hashlib
import json
import os
import re
import resource
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

sys.path.pop(0)  # this folder, where contrast_train.py would stand for the tool of its name

WAYS = ("sentence-transformers", "fixed", "tune")
METRIC = "ndcg_at_10"
KINDS = ("infonce", "anchored", "hard-negatives", "guided", "gentle", "lora", "hybrid")


def main() -> None:
    args = arguments()
    if args.child:
        train_peer(args)
    elif args.report:
        print(report(args.report))
    elif args.ablation:
        for table in args.tables.split(","):
            for seed in map(int, args.seeds.split(",")):
                print(ablation(args, table, seed), flush=True)
    else:
        os.environ["HF_HUB_OFFLINE"] = "1"
        for table in args.tables.split(","):
            for seed in map(int, args.seeds.split(",")):
                run(args, table, seed)
        print(report(args.log))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", nargs="?")
    parser.add_argument("--tables", default=",".join(TABLES))
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--model", default="sentence-transformers/all-MiniLM-L6-v2")
    parser.add_argument("--work", default="build/bench/tune")
    parser.add_argument("--log", default="build/bench/tune.jsonl")
    parser.add_argument("--least", default="0m", help="the smallest --budget of tune")
    parser.add_argument("--ablation", action="store_true", help="each kind of candidate alone")
    parser.add_argument("--kinds", default=",".join(KINDS), help="those of --ablation")
    parser.add_argument("--report", metavar="LOG")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if not (args.data or args.report or args.child):
        parser.error("name the folder of the data sets, or --report LOG")
    return args


# --- tables: the words of fletching-tune ---------------------------------------------------------


def french(data: Path, work: Path) -> list[str]:
    return [
        *files(data / "csv_fra_cp1252", "*.csv"),
        *words("--encoding cp1252 --query français --pos anglais"),
    ]


def banking77(data: Path, work: Path) -> list[str]:
    return [
        unpacked(data / "csv_banking77/train.csv.gz", work),
        *words("--query text --pos category"),
    ]


def wordnet(data: Path, work: Path) -> list[str]:
    table = unpacked(data / "csv_wordnet/wordnet_synsets.csv.gz", work)
    return [table, *words("--query definition --pos lemmas --limit 6000")]


def adventureworks(data: Path, work: Path) -> list[str]:
    [packed] = (data / "csv_adventureworks").glob("products*")
    table = unpacked(packed, work)
    return [table, *words("--query '{name} {color} {culture}' --pos description --split-by model")]


def title_abstract(data: Path, work: Path) -> list[str]:
    table = unpacked(data / "title_abstract/pairs_noisy.jsonl.gz", work)
    return [table, *words("--query title --pos abstract --limit 2500")]


def concode(data: Path, work: Path) -> list[str]:
    rows = json_rows(data / "code_concode_java/concode_dev.jsonl.gz")
    return [
        *pairs(work, rows, ("text", "nl", "query", "docstring", "context"), ("code", "function"))
    ]


def scifact(data: Path, work: Path) -> list[str]:
    return beir(data / "ir_scifact", work)


def cranfield(data: Path, work: Path) -> list[str]:
    return beir(data / "ir_cranfield", work)


def vaswani(data: Path, work: Path) -> list[str]:
    return beir(data / "ir_vaswani", work)


def stdlib(data: Path, work: Path) -> list[str]:
    return harvested(work, "test")


def stdlib_masked(data: Path, work: Path) -> list[str]:
    return harvested(work, "test-masked")


TABLES = {
    "french": french,
    "banking77": banking77,
    "scifact": scifact,
    "stdlib": stdlib,
    "stdlib-masked": stdlib_masked,
    "cranfield": cranfield,
    "vaswani": vaswani,
    "wordnet": wordnet,
    "adventureworks": adventureworks,
    "title-abstract": title_abstract,
    "concode": concode,
}


def words(line: str) -> list[str]:
    return shlex.split(line)


def files(folder: Path, pattern: str) -> list[str]:
    return [str(path) for path in sorted(folder.glob(pattern)) if path.suffix != ".md"]


def unpacked(path: Path, work: Path) -> str:
    if path.suffix != ".gz":
        return str(path)
    target = work / path.stem
    if not target.exists():
        with gzip.open(path, "rb") as source, open(target, "wb") as file:
            shutil.copyfileobj(source, file)
    return str(target)


def json_rows(path: Path) -> Iterator[dict[str, Any]]:
    opened = (
        gzip.open(path, "rt", encoding="utf-8")
        if path.suffix == ".gz"
        else path.open(encoding="utf-8")
    )
    with opened as file:
        yield from map(json.loads, file)


def pairs(
    work: Path, rows: Iterator[dict[str, Any]], queries: tuple[str, ...], answers: tuple[str, ...]
) -> list[str]:
    path = work / "table.jsonl"
    with open(path, "w", encoding="utf-8") as file:
        for row in rows:
            [query], [answer] = (
                [row[name] for name in names if name in row][:1] for names in (queries, answers)
            )
            file.write(json.dumps({"query": query, "pos": [answer]}) + "\n")
    return [str(path)]


def beir(folder: Path, work: Path) -> list[str]:
    """Examples by queries: 60 % train, 20 % dev, 20 % test; SciFact's own test queries where there are some."""
    [corpus_path] = folder.glob("corpus.jsonl*")
    corpus = {
        row["_id"]: f"{row.get('title') or ''} {row['text']}".strip()
        for row in json_rows(corpus_path)
    }
    queries = {row["_id"]: row["text"] for row in json_rows(next(folder.glob("queries.jsonl*")))}
    splits: dict[str, dict[str, list[str]]] = {"train": {}, "dev": {}, "test": {}}
    sources = sorted((folder / "qrels").glob("*.tsv"))
    for source in sources:
        with open(source, encoding="utf-8", newline="") as file:
            for query, document, grade, *_ in list(csv.reader(file, delimiter="\t"))[1:]:
                if int(grade) > 0 and corpus.get(document):
                    share = int(hashlib.sha1(query.encode()).hexdigest(), 16) % 100
                    name = "train" if share < 60 else "dev" if share < 80 else "test"
                    if len(sources) > 1:
                        name = "test" if source.stem == "test" else "train" if share < 75 else "dev"
                    splits[name].setdefault(query, []).append(corpus[document])
    for name, rows in splits.items():
        with open(work / f"{name}.jsonl", "w", encoding="utf-8") as file:
            for query, answers in rows.items():
                file.write(json.dumps({"query": queries[query], "pos": answers}) + "\n")
    with open(work / "corpus.jsonl", "w", encoding="utf-8") as file:
        for name, text in corpus.items():
            file.write(json.dumps({"id": name, "text": text}) + "\n")
    held_out = [
        word for name in ("dev", "test") for word in (f"--{name}", str(work / f"{name}.jsonl"))
    ]
    return [str(work / "train.jsonl"), *held_out, "--corpus", str(work / "corpus.jsonl")]


def harvested(work: Path, test: str) -> list[str]:
    tables = work / "tables"
    if not tables.exists():
        script = Path(__file__).resolve().parents[1] / "examples/code-search/harvest.py"
        subprocess.run([sys.executable, str(script), str(tables)], check=True)
    held_out = ["--dev", str(tables / "dev.csv"), "--test", str(tables / f"{test}.csv")]
    return [
        str(tables / "train.csv"),
        *held_out,
        *words("--query docstring --pos function --id id"),
    ]


# --- runs ----------------------------------------------------------------------------------------


def run(args: argparse.Namespace, table: str, seed: int) -> None:
    """All ways of one table and seed, as lines of the log."""
    done = {(line["table"], line["seed"], line["way"]) for line in lines(args.log)}
    if all((table, seed, way) in done for way in WAYS):
        return
    work = Path(args.work, f"{table}-{seed}")
    work.mkdir(parents=True, exist_ok=True)
    tuned = tune_words(args, table, seed, work)
    subprocess.run([*tuned, "--to", "split"], check=True)
    seconds: dict[str, float] = {}
    for way, command in (
        ("sentence-transformers", peer(args, work, seed)),
        ("fixed", fixed(args, work, seed)),
    ):
        seconds[way] = once(work / f"{way}.seconds", command)
    seconds["tune"], budget = tune(args, work, tuned, seconds["sentence-transformers"])
    verdict = json.loads((work / "tuned/verdict.json").read_text())
    models = {way: str(work / way) for way in WAYS[:2]}
    if verdict["outcome"] != "NO GAIN":
        models["tune"] = str(work / "tuned")
    figures = compare(args, work, models)
    for way in WAYS:
        line = {"table": table, "seed": seed, "way": way, "cpu_seconds": round(seconds[way], 1)}
        line |= figures.get(way, {"gain": 0.0, "low": 0.0, "high": 0.0, "p": 1.0, "guard": 0.0})
        line |= {"base": figures["base"]["value"], "queries": figures["base"]["count"]}
        if way == "tune":
            line |= {
                "verdict": verdict["line"],
                "winner": verdict["findings"]["winner"],
                "budget": budget,
            }
        Path(args.log).parent.mkdir(parents=True, exist_ok=True)
        if (table, seed, way) not in done:
            with open(args.log, "a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")


def tune_words(args: argparse.Namespace, table: str, seed: int, work: Path) -> list[str]:
    """fletching-tune for a table, but its budget."""
    rows = TABLES[table](Path(args.data), work)
    words = ["--model", args.model, "--seed", str(seed), "-o", str(work / "tuned")]
    return ["fletching-tune", *rows, *words]


def ablation(args: argparse.Namespace, table: str, seed: int) -> str:
    """What each kind of candidate wins on the test rows, alone, and the uniform soup of all."""
    work = Path(args.work, f"ablation-{table}-{seed}")
    work.mkdir(parents=True, exist_ok=True)
    tuned = tune_words(args, table, seed, work)
    models, seconds = {}, {"soup": 0.0}
    for kind in args.kinds.split(","):
        alone = [*tuned, "--candidates", kind, "--budget", "3h", "--to", "train"]
        seconds[kind] = once(work / f"{kind}.seconds", alone)
        folders = (work / "tuned.tune/models").glob(f"{kind}-[0-9]*")
        [models[kind]] = [str(path) for path in folders if path.suffix != ".run"]
    soup = str(work / "soup")
    shutil.rmtree(soup, ignore_errors=True)
    subprocess.run(["blend-models", *models.values(), "-o", soup], check=True)
    figures = compare(args, work, {**models, "soup": soup})
    count, value = figures["base"]["count"], figures["base"]["value"]
    text = [f"{table}, seed {seed}: {count:,} test queries, base {value:.3f}", ""]
    text += ["| kind | updates | change | p | STS-B | CPU s |", "|---|---|---|---|---|---|"]
    for kind in sorted(seconds, key=lambda kind: -figures[kind]["gain"]):
        line = figures[kind]
        updates = models[kind].rsplit("-", 1)[1] if kind in models else ""
        change = f"{line['gain']:+.3f} [{line['low']:+.3f}, {line['high']:+.3f}]"
        chance = p_value(line["p"])
        text.append(
            f"| {kind} | {updates} | {change} | {chance} | {line['guard']:+.3f} | {seconds[kind]:.0f} |"
        )
    return "\n".join([*text, ""])


def once(mark: Path, command: str | list[str]) -> float:
    """CPU seconds of a command, which is run once."""
    if mark.exists():
        return float(mark.read_text())
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    line = ["bash", "-o", "pipefail", "-ec", command] if isinstance(command, str) else command
    subprocess.run(line, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    mark.write_text(str(seconds))
    return seconds


def peer(args: argparse.Namespace, work: Path, seed: int) -> list[str]:
    return [
        sys.executable,
        str(Path(__file__).resolve()),
        "--child",
        str(work),
        "--model",
        args.model,
        "--seed",
        str(seed),
    ]


def fixed(args: argparse.Namespace, work: Path, seed: int) -> str:
    out, train = (
        shlex.quote(str(work / "fixed")),
        shlex.quote(str(work / "tuned.tune/pairs/train.parquet")),
    )
    model = shlex.quote(args.model)
    return (
        f"simfilter {train} --model {model} --keep-top 0.97 --cache {out}.vectors | hnmine --model {model} --negatives 3 --range 1-30 "
        f"--cache {out}.vectors --seed {seed} -o {out}.parquet && contrast-train {out}.parquet --model {model} --seed {seed} -o {out}"
    )


def tune(
    args: argparse.Namespace, work: Path, command: list[str], cpu_seconds: float
) -> tuple[float, str]:
    """(CPU seconds, budget) of fletching-tune with the time of the peer, or with what it says that it needs."""
    threads = int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1))
    least = float(args.least.rstrip("m")) * 60
    budget = f"{max(cpu_seconds / threads, least):.0f}s"
    mark = work / "tune.seconds"
    for _ in range(3):
        if mark.exists():
            return float(mark.read_text()), budget
        try:
            return once(mark, [*command, "--budget", budget]), budget
        except subprocess.CalledProcessError:
            done = subprocess.run(
                [*command, "--budget", budget, "--to", "plan"],
                capture_output=True,
                text=True,
                check=False,
            )
            needed = re.search(r"pass --budget (\S+)", done.stderr)
            if needed is None:
                raise
            budget = needed[1]
    raise SystemExit(f"no budget is enough: {budget}")


def compare(
    args: argparse.Namespace, work: Path, models: dict[str, str]
) -> dict[str, dict[str, Any]]:
    """Change of nDCG@10 on the test rows, with its interval and p, and of Spearman on STS-B, by way."""
    out = work / "test.parquet"
    pairs = work / "tuned.tune"
    corpora = [
        path for path in (pairs / "documents.parquet", work / "corpus.jsonl") if path.exists()
    ]
    command = [
        "mteb-eval",
        f"base={args.model}",
        *(f"{way}={path}" for way, path in models.items()),
    ]
    command += [
        "--examples",
        f"test={pairs / 'pairs/test.parquet'}",
        "-o",
        str(out),
        "--metrics",
        METRIC,
    ]
    command += [word for path in corpora for word in ("--corpus", str(path))]
    command += ["--sts", f"guard={Path(args.data) / 'sts_stsb/stsb-en-test.csv'}"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    rows = pq.read_table(out).to_pylist()
    figures: dict[str, dict[str, Any]] = {"base": {}}
    for row in rows:
        if row["task"] == "test" and row["run"] == "base" and row["name"] == METRIC:
            figures["base"] = {"value": row["value"], "count": row["count"]}
        elif row["task"] == "test" and row["name"] == f"{METRIC}_change":
            change = {"gain": row["value"], "low": row["low"], "high": row["high"], "p": row["p"]}
            figures.setdefault(row["run"], {}).update(change)
        elif row["task"] == "guard" and row["name"].endswith("_change"):
            figures.setdefault(row["run"], {})["guard"] = row["value"]
    return figures


def train_peer(args: argparse.Namespace) -> None:
    """sentence-transformers' documented recipe, its defaults untouched: 1 epoch, batch 64, NO_DUPLICATES."""
    from datasets import Dataset
    from sentence_transformers import (
        SentenceTransformer,
        SentenceTransformerTrainer,
        SentenceTransformerTrainingArguments,
    )
    from sentence_transformers.base.training_args import BatchSamplers
    from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss

    work = Path(args.child)
    columns = [
        {"anchor": row["query"], "positive": text}
        for name in ("train", "dev")
        for row in pq.read_table(work / f"tuned.tune/pairs/{name}.parquet").to_pylist()
        for text in row["pos"]
    ]
    model = SentenceTransformer(args.model, device="cpu")
    settings = SentenceTransformerTrainingArguments(
        output_dir=str(work / "peer.run"), use_cpu=True, seed=args.seed, num_train_epochs=1, per_device_train_batch_size=64,
        batch_sampler=BatchSamplers.NO_DUPLICATES, save_strategy="no", report_to=[], disable_tqdm=True,
    )  # fmt: skip
    trainer = SentenceTransformerTrainer(
        model=model,
        args=settings,
        train_dataset=Dataset.from_list(columns),
        loss=MultipleNegativesRankingLoss(model),
    )
    trainer.train()
    model.save_pretrained(str(work / "sentence-transformers"), create_model_card=False)


# --- report --------------------------------------------------------------------------------------


def lines(path: str) -> list[dict[str, Any]]:
    return list(json_rows(Path(path))) if os.path.exists(path) else []


def p_value(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def report(path: str) -> str:
    """Two tables: every run, and how often each way is significantly better and worse."""
    rows = lines(path)
    text = [
        "| table | seed | queries | base | way | change | p | STS-B | CPU s |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in sorted(rows, key=lambda row: (row["table"], row["seed"], WAYS.index(row["way"]))):
        change = f"{row['gain']:+.3f} [{row['low']:+.3f}, {row['high']:+.3f}]"
        kept = row["way"] == "tune" and not row["gain"] and row["p"] == 1
        text.append(
            f"| {row['table']} | {row['seed']} | {row['queries']:,} | {row['base']:.3f} | {row['way']} | "
            f"{'0, the base is kept' if kept else change} | {p_value(row['p'])} | {row['guard']:+.3f} | {row['cpu_seconds']:.0f} |"
        )
    text += [
        "",
        "| way | runs | better | worse | mean change | mean STS-B |",
        "|---|---|---|---|---|---|",
    ]
    for way in WAYS:
        of_way = [row for row in rows if row["way"] == way]
        if of_way:
            better = sum(row["p"] < 0.05 and row["gain"] > 0 for row in of_way)
            worse = sum(row["p"] < 0.05 and row["gain"] < 0 for row in of_way)
            gain, guard = (np.mean([row[name] for row in of_way]) for name in ("gain", "guard"))
            text.append(
                f"| {way} | {len(of_way)} | {better} | {worse} | {gain:+.3f} | {guard:+.3f} |"
            )
    winners = [row["winner"] or "the base" for row in rows if row["way"] == "tune"]
    kinds = sorted({re.sub(r"-\d+", "", winner) for winner in winners})
    text += [
        "",
        "Winners of tune: "
        + ", ".join(
            f"{sum(re.sub(r'-[0-9]+', '', w) == kind for w in winners)} x {kind}" for kind in kinds
        ),
    ]
    return "\n".join(text)


if __name__ == "__main__":
    main()
