"""Texts a second of a teacher and its students, side by side: what distillation is for.

  python bench/distill_speed.py build/distill/texts.jsonl all-MiniLM-L6-v2 build/distill/small build/distill/static

`SentenceTransformer.encode` at its defaults, float32, one thread. The models take turns for --rounds rounds on the same
texts; a static model gets them --repeat times over, so that its round is long enough to be timed. The least CPU time of
each model counts, since other programs make a round longer and never shorter; wall time is shown beside it.
"""

from __future__ import annotations

import argparse
import json
import time
from itertools import islice
from typing import Any

import torch


def texts_of(path: str, count: int) -> list[str]:
    with open(path, encoding="utf-8") as file:
        return [json.loads(line)["text"] for line in islice(file, count)]


def is_static(model: Any) -> bool:
    return type(model[0]).__name__ == "StaticEmbedding"


def spent(model: Any, texts: list[str]) -> tuple[float, float]:
    """(CPU seconds, wall seconds) of one encoding."""
    start = time.process_time(), time.perf_counter()
    model.encode(texts, show_progress_bar=False)
    return time.process_time() - start[0], time.perf_counter() - start[1]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("texts", help="JSON lines with `text`")
    parser.add_argument("models", nargs="+", help="the teacher first")
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--repeat", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()

    torch.set_num_threads(1)
    from sentence_transformers import SentenceTransformer

    texts = texts_of(args.texts, args.count)
    models = [SentenceTransformer(name, device="cpu") for name in args.models]
    texts_of_model = [texts * args.repeat if is_static(model) else texts for model in models]
    for model in models:
        model.encode(texts[:8], show_progress_bar=False)
    rounds = [
        [spent(model, own_texts) for model, own_texts in zip(models, texts_of_model)]
        for _ in range(args.rounds)
    ]

    print(
        "| model | texts | CPU s, least | wall s, least | texts a CPU second | times the teacher |"
    )
    print("|---|---|---|---|---|---|")
    least = [
        [min(times[number][clock] for times in rounds) for clock in (0, 1)]
        for number in range(len(models))
    ]
    speeds = [len(own_texts) / cpu for own_texts, (cpu, _) in zip(texts_of_model, least)]
    for name, own_texts, (cpu, wall), speed in zip(args.models, texts_of_model, least, speeds):
        label = name.rstrip("/").rsplit("/", 1)[-1]
        print(
            f"| {label} | {len(own_texts):,} | {cpu:.2f} | {wall:.2f} | {speed:,.0f} | {speed / speeds[0]:.2f} |"
        )


if __name__ == "__main__":
    main()
