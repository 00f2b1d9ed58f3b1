"""Customer questions of a made-up bank with their intents, like Banking77: train.csv, dev.csv, test.csv.

  python examples/faq/questions.py build/faq/tables

An intent is a matter (card, transfer, …) with a problem (lost, slow, …). Its questions are its wordings in
frames of small talk, so that questions of one matter look alike and differ in intent. The intents of the
three tables are apart: the test shows what the model has learned about questions, not about intents.
"""

from __future__ import annotations

import csv
import hashlib
import itertools
import random
import sys
from pathlib import Path

MATTERS = {
    "debit card": ["debit card", "bank card", "plastic card"],
    "credit card": ["credit card", "charge card"],
    "virtual card": ["virtual card", "online-only card", "card in the app"],
    "transfer": ["transfer", "wire", "payment to a friend"],
    "standing order": ["standing order", "monthly payment", "regular payment"],
    "direct debit": ["direct debit", "automatic collection"],
    "cash withdrawal": ["cash withdrawal", "money from the machine", "ATM withdrawal"],
    "top-up": ["top-up", "deposit", "money I added"],
    "savings account": ["savings account", "savings pot", "saver"],
    "joint account": ["joint account", "shared account", "account with my partner"],
    "loan": ["loan", "personal loan", "credit"],
    "statement": ["statement", "account statement", "monthly overview"],
}
PROBLEMS = {
    "late": [
        "when will my {} finally arrive",
        "my {} is taking forever",
        "how long does a {} take",
        "still waiting for my {}",
    ],
    "refused": [
        "why was my {} declined",
        "my {} did not go through",
        "the shop says my {} is refused",
        "{} rejected, what now",
    ],
    "unknown": [
        "I do not recognise this {}",
        "there is a {} that I never asked for",
        "someone else used my {}",
        "who made this {}",
    ],
    "fee": [
        "why did I pay a fee for my {}",
        "what does a {} cost",
        "extra charge on my {}",
        "is a {} free of charge",
    ],
    "cancel": [
        "how do I cancel my {}",
        "please stop my {}",
        "I no longer want the {}",
        "undo my {}",
    ],
    "limit": [
        "what is the limit of a {}",
        "can I raise the maximum for my {}",
        "my {} is too large, it says",
        "how high may a {} be",
    ],
    "change": [
        "how can I change the details of my {}",
        "wrong name on my {}",
        "update my {}",
        "my {} shows old data",
    ],
    "abroad": [
        "does my {} work abroad",
        "using a {} in another country",
        "I travel soon, what about my {}",
        "{} in foreign currency",
    ],
}
FRAMES = [
    "{}?",
    "Hi, {}?",
    "{}, please help",
    "Can you tell me: {}?",
    "Hello there. {}!",
    "quick question, {}",
    "{} - thanks",
    "I am worried. {}?",
]
EACH = 16  # questions of an intent


def questions(matter: str, problem: str) -> list[str]:
    draw = random.Random(f"{matter} {problem}")
    wordings = [
        wording.format(name)
        for wording, name in itertools.product(PROBLEMS[problem], MATTERS[matter])
    ]
    made = [frame.format(wording) for wording, frame in itertools.product(wordings, FRAMES)]
    return [text[0].upper() + text[1:] for text in draw.sample(made, EACH)]


def split(intent: str) -> str:
    share = int(hashlib.sha256(intent.encode()).hexdigest()[:8], 16) / 16**8
    return "train" if share < 0.6 else "dev" if share < 0.75 else "test"


def main(folder: Path) -> None:
    tables: dict[str, list[tuple[str, str]]] = {"train": [], "dev": [], "test": []}
    for matter, problem in itertools.product(MATTERS, PROBLEMS):
        intent = f"{matter}: {problem}"
        tables[split(intent)] += [(text, intent) for text in questions(matter, problem)]
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in tables.items():
        random.Random(0).shuffle(rows)
        with open(folder / f"{name}.csv", "w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["question", "intent"])
            writer.writerows(rows)
        print(
            f"{len(rows):,} questions of {len({intent for _, intent in rows})} intents in {folder}/{name}.csv"
        )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
