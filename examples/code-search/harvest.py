"""Docstring-function pairs from the running Python's standard library, as CSV tables.

Writes train.csv, dev.csv, test.csv and test-masked.csv into the folder given, with the columns
id, docstring, function, module. The docstring is cut out of the function's text. A top-level module is in
one split alone. Masked means that the function's own name stands as `_` in both texts, so that it gives
nothing away: so are all rows of test-masked.csv and half of the train rows. No text of a test row stands
in train or dev, compared after normalisation.

  python harvest.py build/demo/tables
"""

from __future__ import annotations

import ast
import csv
import hashlib
import re
import sys
import sysconfig
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from fletching.text import normalise

LEFT_OUT = {"test", "tests", "idle_test", "site-packages", "__pycache__", "pydoc_data"}
WORDS = range(2, 150)  # of a docstring's first paragraph
LINES = range(2, 150)  # of a function without its docstring
SHARES = (("train", 0.70), ("dev", 0.83), ("test", 1.0))  # upper ends on the unit interval


@dataclass(frozen=True)
class Function:
    id: str
    name: str
    docstring: str
    function: str
    module: str

    def masked(self) -> Function:
        name = re.compile(rf"\b{re.escape(self.name)}\b")
        return replace(
            self, docstring=name.sub("_", self.docstring), function=name.sub("_", self.function)
        )


def unit(text: str) -> float:
    """A number in [0, 1) that depends on the text alone."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") / 2**64


def split_of(module: str) -> str:
    position = unit(module)
    return next(name for name, end in SHARES if position < end)


def harvest(root: Path) -> Iterator[Function]:
    """Every documented function of every module below `root`, by path and line."""
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        if LEFT_OUT & set(parts):
            continue
        try:
            source = path.read_text(encoding="utf-8")
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                tree = ast.parse(source)
        except (SyntaxError, UnicodeDecodeError):
            continue  # a file for tests of the parser
        lines = source.splitlines(keepends=True)
        for node in ast.walk(tree):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                found = function_of(node, lines, parts)
                if found:
                    yield found


def function_of(
    node: ast.FunctionDef | ast.AsyncFunctionDef, lines: list[str], parts: tuple[str, ...]
) -> Function | None:
    docstring = ast.get_docstring(node)
    if not docstring or len(node.body) < 2:
        return None
    summary = " ".join(docstring.split("\n\n")[0].split())
    first = node.body[0]
    kept = lines[node.lineno - 1 : first.lineno - 1] + lines[first.end_lineno : node.end_lineno]
    indent = len(kept[0]) - len(kept[0].lstrip())
    text = "".join(
        line[indent:] if line[:indent].isspace() or not indent else line for line in kept
    ).rstrip()
    if len(summary.split()) not in WORDS or text.count("\n") + 1 not in LINES:
        return None
    if len(summary) > 40 and summary in " ".join(text.split()):
        return None  # the code says it again, so that nothing is left to find
    return Function(f"{'.'.join(parts)}:{node.lineno}", node.name, summary, text, parts[0])


def main() -> None:
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    tables: dict[str, list[Function]] = {"test": [], "dev": [], "train": []}
    seen: dict[str, str] = {}  # a text after normalisation: the split that has it
    for row in sorted(
        harvest(Path(sysconfig.get_paths()["stdlib"])),
        key=lambda row: (split_of(row.module) != "test", row.id),
    ):
        split = split_of(row.module)
        texts = [
            normalise(text)
            for form in (row, row.masked())
            for text in (form.docstring, form.function)
        ]
        # The same function stands in several modules here and there; the split that saw it first keeps it.
        if any(seen.get(text, split) != split for text in texts) or seen.get(texts[1]) == split:
            continue
        seen.update(dict.fromkeys(texts, split))
        tables[split].append(row)
    tables["train"] = [
        row.masked() if unit(f"mask {row.id}") < 0.5 else row for row in tables["train"]
    ]
    tables["test-masked"] = [row.masked() for row in tables["test"]]
    check(tables)
    for name, rows in tables.items():
        with open(folder / f"{name}.csv", "w", encoding="utf-8", newline="") as file:
            table = csv.writer(file, lineterminator="\n")
            table.writerow(["id", "docstring", "function", "module"])
            table.writerows([row.id, row.docstring, row.function, row.module] for row in rows)
        print(
            f"{name}: {len(rows):,} functions of {len({row.module for row in rows})} modules",
            file=sys.stderr,
        )


def check(tables: dict[str, list[Function]]) -> None:
    """No text of a test row, masked or not, stands in train or dev."""
    texts = {
        name: {normalise(text) for row in rows for text in (row.docstring, row.function)}
        for name, rows in tables.items()
    }
    held_out = texts["test"] | texts["test-masked"]
    assert not held_out & (texts["train"] | texts["dev"]), "a text of test stands in train"
    assert not texts["dev"] & texts["train"], "a text of dev stands in train"


if __name__ == "__main__":
    main()
