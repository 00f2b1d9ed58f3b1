"""Texts to learn a teacher's vectors on, as JSON lines: docstrings and functions of the standard library, and sentences.

Reads train.csv of examples/code-search/harvest.py and any text file (a paragraph a line; .gz too). A paragraph is
given whole and as its sentences, since queries are short and documents long; headings and lines of a few words are left
out. No text stands there twice. They stand in the order of their hashes, so that the first N are a sample of all:
distill --limit N.

  python texts.py build/distill/tables/train.csv wiki.txt.gz > texts.jsonl
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import json
import re
import sys
from collections.abc import Iterator

CHARACTERS = 1000  # of a text: about the 256 tokens that the teacher reads
SENTENCE = re.compile(r"(?<=[.!?]) (?=[A-Z\"])")
WORDS = 4  # of a sentence, at least


def of_table(path: str) -> Iterator[str]:
    with open(path, encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            yield row["docstring"]
            yield row["function"]


def of_text(path: str) -> Iterator[str]:
    """Paragraphs and their sentences, without the spaces and marks that tokenised corpora put around punctuation."""
    with (
        gzip.open(path, "rt", encoding="utf-8")
        if path.endswith(".gz")
        else open(path, encoding="utf-8") as file
    ):
        for line in file:
            if line.lstrip().startswith("="):
                continue
            plain = re.sub(r" @(.)@ ", r"\1", line.replace("<unk>", " "))
            plain = re.sub(r" ([,.;:!?)]|'s)", r"\1", " ".join(plain.split()))
            parts = dict.fromkeys([plain, *SENTENCE.split(plain)])
            yield from (part for part in parts if len(part.split()) >= WORDS)


def main(table: str, *files: str) -> None:
    texts = dict.fromkeys(
        text[:CHARACTERS] for source in (of_table(table), *map(of_text, files)) for text in source
    )
    mixed = sorted(texts, key=lambda text: hashlib.sha256(text.encode()).digest())
    sys.stdout.writelines(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in mixed)


if __name__ == "__main__":
    main(*sys.argv[1:])
