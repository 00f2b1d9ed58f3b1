"""The running Python's standard library as plain text: what a language model may read before it searches the held-out modules.

Writes train.jsonl (files of train modules) and heldout.jsonl (files of dev modules) into the folder given, as
`texts` (id, text). Modules are split as harvest.py splits them. A file that holds a docstring's function of a
test row, as some do that were copied from one module to another, is left out of both.

  python sources.py build/llm2vec/sources
"""

from __future__ import annotations

import json
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from harvest import LEFT_OUT, harvest, split_of

from fletching.text import normalise

OUTPUTS = {"train": "train", "dev": "heldout"}


def files(root: Path) -> Iterator[tuple[str, str, str]]:
    """(split, id, text) of every file, by path."""
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        if LEFT_OUT & set(parts):
            continue
        try:
            yield split_of(parts[0]), ".".join(parts), path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue  # a file for tests of the parser


def main() -> None:
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    root = Path(sysconfig.get_paths()["stdlib"])
    rows = list(harvest(root))
    asked = {normalise(row.function) for row in rows if split_of(row.module) == "test"}
    copied = {row.id.rpartition(":")[0] for row in rows if normalise(row.function) in asked}
    for split, name in OUTPUTS.items():
        kept = [
            {"id": key, "text": text}
            for of, key, text in files(root)
            if of == split and key not in copied and text.strip()
        ]
        with open(folder / f"{name}.jsonl", "w", encoding="utf-8") as file:
            file.writelines(json.dumps(row) + "\n" for row in kept)
        print(
            f"{name}: {len(kept):,} files, {sum(len(row['text']) for row in kept):,} characters",
            file=sys.stderr,
        )


if __name__ == "__main__":
    main()
