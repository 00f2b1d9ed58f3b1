"""Command lines for injected faults: each with its inputs in a folder, and what it leaves there undisturbed."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from conftest import SUBJECTS, write_rows
from suite import llm_address, tiny_decoder

TRAINING = "--steps 3 --save-every 1 --batch 4 --dtype float32 --device cpu"


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A command whose paths are relative to a folder.

    line: with {model}, {decoder} and {server} for what all runs share. outputs: its files and
    folders that are whole or absent. weight: of 1,000 faults, about how many it gets. is_folder: is
    the output one? keeps_output: does a second run refuse to replace it, where a trainer is done?
    """

    name: str
    line: str
    outputs: tuple[str, ...]
    fill: Callable[[Path], None]
    weight: int
    is_folder: bool = False
    keeps_output: bool = False
    streams: bool = False  # does the output go to stdout?

    def argv(self, model: str) -> list[str]:
        shared = {"model": model}
        if "{decoder}" in self.line:
            shared["decoder"] = tiny_decoder()
        if "{server}" in self.line:
            shared["server"] = llm_address()
        return [word.format(**shared) for word in self.line.replace("{split}", "{{split}}").split()]


def _rows() -> list[dict[str, Any]]:
    answers = [answer for _, answer in SUBJECTS.values()]
    return [
        {"id": name, "query": query, "pos": [answer], "neg": [answers[number - 1]]}
        for number, (name, (query, answer)) in enumerate(SUBJECTS.items())
    ]


def _table(folder: Path) -> None:
    with open(folder / "in.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["query", "pos", "kind"])
        for copy in range(40):
            for query, answer in SUBJECTS.values():
                writer.writerow([f"{query} {copy}", f"{answer} {copy}", "ab"[copy % 2]])


def _examples(folder: Path) -> None:
    write_rows(folder / "in.parquet", _rows())


def _texts(folder: Path) -> None:
    rows = [{"id": row["id"], "text": row["pos"][0]} for row in _rows()]
    write_rows(folder / "in.parquet", rows)


def _configured_examples(folder: Path) -> None:
    _examples(folder)
    (folder / "options.json").write_text(json.dumps({"negatives": 2}))


PAIRS = "csv2pairs in.csv --query query --pos pos"

ALL = [
    Subject(
        name="csv2pairs",
        line=f"{PAIRS} -o out.parquet --json-summary summary.json",
        outputs=("out.parquet",),
        fill=_table,
        weight=110,
    ),
    Subject(
        name="csv2pairs, splits with negatives",
        line=f"{PAIRS} --negatives 2 --split train=0.8,test=0.2 -o {{split}}.jsonl.zst",
        outputs=("train.jsonl.zst", "test.jsonl.zst"),
        fill=_table,
        weight=110,
    ),
    Subject(
        name="csv2pairs, stream",
        line=PAIRS,
        outputs=(),
        fill=_table,
        weight=60,
        streams=True,
    ),
    Subject(
        name="arrowcat, conversion",
        line="arrowcat in.parquet -o out.jsonl.gz",
        outputs=("out.jsonl.gz",),
        fill=_examples,
        weight=100,
    ),
    Subject(
        name="arrowcat, collection",
        line="arrowcat in.parquet --to beir -o out",
        outputs=("out",),
        fill=_examples,
        weight=80,
        is_folder=True,
        keeps_output=True,
    ),
    Subject(
        name="arrowcat, page",
        line="arrowcat in.parquet --html out.html",
        outputs=("out.html",),
        fill=_examples,
        weight=80,
    ),
    Subject(
        name="simfilter",
        line="simfilter in.parquet --model {model} --rank-within 3 --rejects rejects.jsonl "
        "-o out.arrow",
        outputs=("out.arrow", "rejects.jsonl"),
        fill=_examples,
        weight=100,
    ),
    Subject(
        name="hnmine",
        line="hnmine in.parquet --model {model} --negatives 2 --range 1-4 -o out.parquet",
        outputs=("out.parquet",),
        fill=_configured_examples,
        weight=80,
    ),
    Subject(
        name="texts2vectors",
        line="texts2vectors in.parquet --model {model} --vector-type float16 -o out.parquet",
        outputs=("out.parquet",),
        fill=_texts,
        weight=40,
    ),
    Subject(
        name="mteb-eval",
        line="mteb-eval {model} --examples in.parquet -o out.parquet --html out.html",
        outputs=("out.parquet", "out.html"),
        fill=_examples,
        weight=40,
    ),
    Subject(
        name="synthgen",
        line="synthgen in.parquet --job negatives --model m --base-url {server} --journal journal "
        "--no-repair -o out.parquet",
        outputs=("out.parquet",),
        fill=_examples,
        weight=100,
    ),
    Subject(
        name="contrast-train",
        line=f"contrast-train in.parquet --model {{model}} {TRAINING} -o out",
        outputs=("out",),
        fill=_examples,
        weight=50,
        is_folder=True,
    ),
    Subject(
        name="distill",
        line=f"distill in.parquet --teacher {{model}} --student-layers 1 {TRAINING} -o out",
        outputs=("out",),
        fill=_texts,
        weight=30,
        is_folder=True,
    ),
    Subject(
        name="mntp",
        line=f"mntp in.parquet --model {{decoder}} --length 64 {TRAINING} -o out",
        outputs=("out",),
        fill=_texts,
        weight=20,
        is_folder=True,
    ),
]
