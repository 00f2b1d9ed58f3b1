"""Planted false negatives: how many each rule finds, what it costs, and how much nDCG@10 comes back.

  python bench/relabel.py --data csv_banking77 --model all-MiniLM-L6-v2 --work FOLDER
      [--shares 0.1,0.2,0.4] [--train 0.4] [--steps 15] [--judge-epochs 2] [--part rows|judge|find|train|test]

--data: Banking77 (train.csv.gz and test.csv: text, category). Texts of one intent are each other's positives. A row has 5
positives and, as hard negatives, the 5 nearest texts of other intents; a share of all positives is then planted among the
negatives of its row. Found: planted positives that are no negative any more. Lost: true negatives that are none any more.

judge is --model after contrast-train on other texts of the same intents; neither judge nor student sees test queries.
Training: contrast-train on the rows of each way, with equal seed and steps; the test queries search all documents.
Folders that stand in --work are not made again.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import io
import json
import os
import random
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

sys.path.pop(0)  # this folder, where simfilter.py would stand for the tool of its name

Row = dict[str, Any]

DOCUMENTS, QUERIES, JUDGED, TESTED = 20, 12, 12, 8  # texts of each intent
POSITIVES = NEGATIVES = 5
SEED = 1


def main() -> None:
    args = arguments()
    args.work.mkdir(parents=True, exist_ok=True)
    os.environ["HF_HUB_OFFLINE"] = os.environ["OMP_NUM_THREADS"] = "1"
    shares = [float(share) for share in args.shares.split(",")]
    parts = {
        "rows": lambda: make_rows(args, shares),
        "judge": lambda: train_judge(args),
        "find": lambda: [print_findings(args, share) for share in shares],
        "train": lambda: train_all(args, args.train),
        "test": lambda: evaluate_all(args, args.train),
    }
    for name in [args.part] if args.part else parts:
        parts[name]()


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--shares", default="0.1,0.2,0.4")
    parser.add_argument("--train", type=float, default=0.4, help="the share that is trained on")
    parser.add_argument("--only", default="planted,clean,relabel,guide,max-ratio")
    parser.add_argument("--steps", type=int, default=15, help="of training, 32 rows each")
    parser.add_argument("--judge-epochs", type=int, default=2, help="more: a better judge")
    parser.add_argument("--part", choices=["rows", "judge", "find", "train", "test"])
    return parser.parse_args()


# --- rows ---


def make_rows(args: argparse.Namespace, shares: list[float]) -> None:
    """clean.jsonl, planted-SHARE.jsonl, the corpus, the pairs of the judge and a BEIR folder."""
    intents = read_intents(args.data / "train.csv.gz")
    documents, queries, judged = [], [], []
    for intent, texts in intents.items():
        cuts = [DOCUMENTS, DOCUMENTS + QUERIES, DOCUMENTS + QUERIES + JUDGED]
        documents += [(intent, text) for text in texts[: cuts[0]]]
        queries += [(intent, text) for text in texts[cuts[0] : cuts[1]]]
        judged += [(intent, text) for text in texts[cuts[1] : cuts[2]]]
    corpus = [
        {"id": f"d{number}", "text": text, "intent": intent}
        for number, (intent, text) in enumerate(documents)
    ]
    write(args.work / "corpus.jsonl", corpus)
    write(args.work / "judged.jsonl", [{"intent": i, "text": t} for i, t in judged])
    write_beir(args, corpus)
    clean = mined(args, corpus, queries)
    write(args.work / "clean.jsonl", clean)
    for share in shares:
        planted = plant(clean, share)
        write(args.work / f"planted-{share:g}.jsonl", planted)
        count = sum(len(row["planted"]) for row in planted)
        print(f"{share:.0%}: {count:,} positives planted in {len(planted):,} rows", flush=True)


def read_intents(path: Path) -> dict[str, list[str]]:
    """{intent: its texts in seeded order, each once}."""
    opened = gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else open(path)
    intents: dict[str, dict[str, None]] = defaultdict(dict)
    with opened as file:
        for row in csv.DictReader(io.StringIO(file.read())):
            intents[row["category"]][row["text"].strip()] = None
    shuffled = {}
    for intent, texts in sorted(intents.items()):
        shuffled[intent] = random.Random(f"{SEED} {intent}").sample(list(texts), len(texts))
    return shuffled


def mined(args: argparse.Namespace, corpus: list[Row], queries: list[tuple[str, str]]) -> list[Row]:
    """Rows with 5 positives of the intent, and by hnmine the nearest texts of other intents."""
    of_intent = defaultdict(list)
    for document in corpus:
        of_intent[document["intent"]].append(document)
    rows, qrels = [], ["query-id\tcorpus-id\tscore"]
    for number, (intent, text) in enumerate(queries):
        chosen = random.Random(f"{SEED} {number}").sample(of_intent[intent], POSITIVES)
        positives = {"pos": [d["text"] for d in chosen], "pos_ids": [d["id"] for d in chosen]}
        rows.append({"id": f"q{number}", "query": text, **positives})
        qrels += [f"q{number}\t{document['id']}\t1" for document in of_intent[intent]]
    write(args.work / "rows.jsonl", rows)
    (args.work / "qrels.tsv").write_text("\n".join(qrels) + "\n")
    out = args.work / "mined.jsonl"
    options = (
        f"--range 1-{NEGATIVES} --negatives {NEGATIVES} --sample top --max-ratio 0 --pool-only"
    )
    options += f" --model {args.model} --exclude-qrels {args.work}/qrels.tsv"
    hnmine(args, "rows.jsonl", out, options)
    kept = ("id", "query", "pos", "pos_ids", "neg", "neg_ids")
    return [{name: row[name] for name in kept} for row in read(out)]


def plant(rows: list[Row], share: float) -> list[Row]:
    """The rows with a share of all positives among the negatives; each row keeps one positive."""
    pairs = [(row, place) for row in range(len(rows)) for place in range(1, POSITIVES)]
    count = round(share * len(rows) * POSITIVES)
    moved = set(random.Random(SEED).sample(pairs, count))
    planted = []
    for number, row in enumerate(rows):
        is_moved = [(number, place) in moved for place in range(POSITIVES)]
        sides: Row = {"id": row["id"], "query": row["query"]}
        for side, ids in (("", ""), ("_ids", "_ids")):
            items = row[f"pos{ids}"]
            sides[f"pos{side}"] = [item for item, gone in zip(items, is_moved) if not gone]
            wrong = [item for item, gone in zip(items, is_moved) if gone]
            sides[f"neg{side}"] = [*row[f"neg{ids}"], *wrong]
        sides["planted"] = [item for item, gone in zip(row["pos"], is_moved) if gone]
        planted.append(sides)
    return planted


def write_beir(args: argparse.Namespace, corpus: list[Row]) -> None:
    """The test queries over all documents, as a BEIR folder."""
    folder = args.work / "beir"
    (folder / "qrels").mkdir(parents=True, exist_ok=True)
    write(folder / "corpus.jsonl", [{"_id": d["id"], "text": d["text"]} for d in corpus])
    queries, qrels = [], ["query-id\tcorpus-id\tscore"]
    for intent, texts in read_intents(args.data / "test.csv").items():
        for text in texts[:TESTED]:
            name = f"t{len(queries)}"
            queries.append({"_id": name, "text": text})
            qrels += [f"{name}\t{d['id']}\t1" for d in corpus if d["intent"] == intent]
    write(folder / "queries.jsonl", queries)
    (folder / "qrels" / "test.tsv").write_text("\n".join(qrels) + "\n")


# --- the judge ---


def train_judge(args: argparse.Namespace) -> None:
    """--model after contrast-train on pairs of other texts of the same intents."""
    folder = args.work / "judge"
    if folder.exists():
        return
    of_intent = defaultdict(list)
    for row in read(args.work / "judged.jsonl"):
        of_intent[row["intent"]].append(row["text"])
    rows = []
    for texts in of_intent.values():
        rows += [{"query": text, "pos": [q for q in texts if q != text]} for text in texts]
    write(args.work / "judge-rows.jsonl", rows)
    run(
        f"contrast-train {args.work}/judge-rows.jsonl --model {args.model} -o {folder} --batch 64 "
        f"--epochs {args.judge_epochs} --lr 2e-4 --doc-length 64 --query-length 64 --seed {SEED} -q"
    )


# --- what each rule finds ---


RULES = {
    "cosine": "cosine",
    "cosine, above 0.7": "cosine --relabel-above 0.7",
    "judge": "judge",
    "judge, above 0.7": "judge --relabel-above 0.7",
    "judge, above 0.7, drop 0.1": "judge --relabel-above 0.7 --relabel-drop 0.1",
}


def encoder_of(args: argparse.Namespace, scorer: str) -> str:
    return args.model if scorer == "cosine" else f"{args.work}/judge"


def scored(args: argparse.Namespace, scorer: str) -> Path:
    """The clean rows with the scores of both sides: every pair that any share has, scored once."""
    out = args.work / f"clean-{scorer}.jsonl"
    if not out.exists():
        model = f"--model {encoder_of(args, scorer)} --cache {args.work}/vectors"
        options = f"--relabel --relabel-above 1e6 {model}"
        run(f"simfilter {args.work}/clean.jsonl {options} -q -o {out}")
    return out


def relabelled(args: argparse.Namespace, share: float, name: str) -> list[Row]:
    """The rows after simfilter --relabel."""
    scorer, *options = RULES[name].split()
    stem = args.work / f"{name.replace(', ', '-').replace(' ', '-')}-{share:g}"
    out = Path(f"{stem}.jsonl")
    if not out.exists():
        rows = read(args.work / f"planted-{share:g}.jsonl")
        for row, known in zip(rows, read(scored(args, scorer)), strict=True):
            score = dict(
                zip(known["pos"] + known["neg"], known["pos_scores"] + known["neg_scores"])
            )
            for side in ("pos", "neg"):
                row[f"{side}_scores"] = [score[text] for text in row[side]]
                row[f"{side}_score_kind"] = "judge"
        write(Path(f"{stem}-in.jsonl"), rows)
        run(f"simfilter {stem}-in.jsonl --use-scores --relabel {' '.join(options)} -q -o {out}")
    return read(out)


def print_findings(args: argparse.Namespace, share: float) -> None:
    """A table: planted positives found, true negatives lost, by rule."""
    rows = read(args.work / f"planted-{share:g}.jsonl")
    print(f"\n{share:.0%} planted\n\n| rule | found | true negatives lost | moved that are right |")
    print("|---|---|---|---|")
    for name in RULES:
        changed = relabelled(args, share, name)
        right = wrong = 0
        for old, new in zip(rows, changed, strict=True):
            moved = new["pos"][len(old["pos"]) :]
            right += len(set(moved) & set(old["planted"]))
            wrong += len(set(moved) - set(old["planted"]))
        print_line(f"relabel, {name}", rows, changed, precision=right / max(right + wrong, 1))
    for scorer in ("cosine", "judge"):
        for ratio, name in ((0.95, "hnmine --max-ratio 0.95"), (1.0, "contrast-train --guide")):
            left = guarded(args, share, ratio, rows=rows, scorer=scorer)
            print_line(f"{name}, {scorer}", rows, left)


def print_line(
    name: str, rows: list[Row], changed: list[Row], precision: float | None = None
) -> None:
    """Shares of planted positives and true negatives that are no negatives any more."""
    counts = {"planted": [0, 0], "true": [0, 0]}
    for old, new in zip(rows, changed, strict=True):
        left, planted = set(new["neg"] or []), set(old["planted"])
        for text in old["neg"]:
            kind = counts["planted" if text in planted else "true"]
            kind[0] += text not in left
            kind[1] += 1
    found, lost = (gone / max(all_, 1) for gone, all_ in counts.values())
    right = "" if precision is None else f"{precision:.1%}"
    print(f"| {name} | {found:.1%} | {lost:.1%} | {right} |", flush=True)


def guarded(
    args: argparse.Namespace, share: float, ratio: float, *, rows: list[Row], scorer: str
) -> list[Row]:
    """The rows with those negatives that hnmine --max-ratio lets through, in a pool of them all.

    With a ratio of 1 the rule is that of --guide for hard negatives.
    """
    out = args.work / f"guarded-{scorer}-{ratio:g}-{share:g}.parquet"
    every = DOCUMENTS * len({d["intent"] for d in read(args.work / "corpus.jsonl")})
    if not out.exists():
        options = f"--range 1-{every} --negatives {every} --sample top --max-ratio {ratio}"
        options += f" --pool-only --near-copy 1.01 --model {encoder_of(args, scorer)}"
        hnmine(args, f"planted-{share:g}.jsonl", out, options)
    return left_of(out, rows)


def left_of(out: Path, rows: list[Row]) -> list[Row]:
    """The rows with those of their negatives that hnmine lets through."""
    import pyarrow.parquet as pq

    changed = []
    passed = pq.read_table(out, columns=["id", "neg"])
    for row, name, texts in zip(rows, passed["id"], passed["neg"], strict=True):
        assert row["id"] == name.as_py()
        allowed = set(texts.as_py() or [])
        changed.append({**row, "neg": [text for text in row["neg"] if text in allowed]})
    return changed


def hnmine(args: argparse.Namespace, rows: str, out: Path, options: str) -> None:
    files = f"{args.work}/{rows} --corpus {args.work}/corpus.jsonl -o {out}"
    run(f"hnmine {files} --cache {args.work}/vectors -q {options}")


# --- training ---


def training_sets(args: argparse.Namespace, share: float) -> dict[str, tuple[list[Row], str]]:
    """{name: (rows, options of contrast-train)}, of --only where it names one."""
    planted = read(args.work / f"planted-{share:g}.jsonl")
    makers = {
        "planted": lambda: (planted, ""),
        "clean": lambda: (read(args.work / "clean.jsonl"), ""),
        "relabel": lambda: (relabelled(args, share, "judge, above 0.7"), ""),
        "guide": lambda: (planted, f"--guide {args.work}/judge"),
        "max-ratio": lambda: (guarded(args, share, 0.95, rows=planted, scorer="judge"), ""),
    }
    return {name: make() for name, make in makers.items() if name in args.only.split(",")}


def train_all(args: argparse.Namespace, share: float) -> None:
    for name, (rows, options) in training_sets(args, share).items():
        folder = args.work / f"model-{name}-{share:g}"
        if folder.exists():
            continue
        kept = ("id", "query", "pos", "neg")
        path = args.work / f"train-{name}.jsonl"
        write(path, [{column: row[column] for column in kept} for row in rows])
        run(
            f"contrast-train {path} --model {args.model} -o {folder} --batch 32 --steps {args.steps} --lr 2e-4 "
            f"--negatives {NEGATIVES} --doc-length 64 --query-length 64 --seed {SEED} -q {options}"
        )


def evaluate_all(args: argparse.Namespace, share: float) -> None:
    models = [f"{name}={args.work}/model-{name}-{share:g}" for name in training_sets(args, share)]
    run(
        f"mteb-eval {' '.join(models)} base={args.model} --beir {args.work}/beir "
        f"--metrics ndcg_at_10 --cache {args.work}/vectors"
    )


def run(command: str) -> None:
    subprocess.run(command.split(), check=True)


def read(path: Path) -> list[Row]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def write(path: Path, rows: Iterable[Row]) -> None:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")


if __name__ == "__main__":
    sys.exit(main())
