"""The generated parts of the documentation, so that it cannot drift from what it describes.

  python scripts/build_docs.py           write them
  python scripts/build_docs.py --check   fail with a diff where they differ

Generated: in schemas/*/v*/README.md the table of fields and one row; in tools/*/README.md what --help prints.
They stand between `<!-- NAME -->` and `<!-- /NAME -->`.
"""

from __future__ import annotations

import difflib
import importlib
import json
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

from fletching import cli

ROOT = Path(__file__).resolve().parents[1]
WIDTH = 100  # of the help blocks, whatever the terminal


def parts() -> Iterator[tuple[Path, str, str]]:
    """(page, name of the part, its content) of everything that is generated."""
    for path in sorted(ROOT.glob("schemas/*/v*/schema.json")):
        page = path.with_name("README.md")
        yield page, "fields", fields_table(json.loads(path.read_text("utf-8")))
        yield page, "row", row_block(path.parent / "examples" / "full.jsonl")
    for path in sorted(ROOT.glob("tools/*/pyproject.toml")):
        for command, entry in (
            tomllib.loads(path.read_text("utf-8"))["project"].get("scripts", {}).items()
        ):
            module = entry.split(":")[0]
            if (path.parent / "src" / (module.replace(".", "/") + ".py")).exists():
                yield (
                    path.with_name("README.md"),
                    "help",
                    help_block(module, command, path.parent / "src"),
                )


def fields_table(schema: dict) -> str:
    lines = ["| field | type | null | meaning |", "|---|---|---|---|"]
    for field in schema["fields"]:
        need = "**REQUIRED.** " if field.get("required") else ""
        null = "yes" if field["nullable"] else "no"
        kind = field["type"].replace("|", "\\|")
        lines.append(
            f"| `{field['name']}` | `{kind}` | {null} | {need}{field['meaning']}{_promises(field)} |"
        )
    return "\n".join(
        [f"**{schema['name']} {schema['version']}.** {schema['description']}", "", *lines]
    )


def _promises(field: dict) -> str:
    """What a reader checks, and the other names under which it finds the column."""
    told = []
    if field.get("values"):
        told.append("One of " + ", ".join(f"`{value}`" for value in field["values"]) + ".")
    if field.get("pattern"):
        told.append(f"Of the form `{field['pattern']}`.")
    if field.get("finite"):
        told.append("Finite.")
    if field.get("aliases"):
        told.append("Read also as " + ", ".join(f"`{alias}`" for alias in field["aliases"]) + ".")
    return "".join(" " + sentence for sentence in told)


def row_block(path: Path) -> str:
    row = json.loads(path.read_text("utf-8").splitlines()[0])
    items = ",\n".join(
        f"  {json.dumps(name)}: {json.dumps(value, ensure_ascii=False)}"
        for name, value in row.items()
    )
    return f"```json\n{{\n{items}\n}}\n```"


def help_block(module: str, command: str, source: Path) -> str:
    sys.path.insert(0, str(source))  # the tool of this tree, installed or not
    try:
        tool = importlib.import_module(module).TOOL
    finally:
        sys.path.remove(str(source))
    return f"```\n$ {command} --help\n{cli.help_text(tool, width=WIDTH)}```"


def renew(text: str, name: str, content: str) -> str:
    """`text` with the part `name` replaced; at the end where the marks do not stand yet."""
    block = f"<!-- {name} -->\n{content}\n<!-- /{name} -->"
    renewed, found = re.subn(
        rf"<!-- {name} -->.*?<!-- /{name} -->", lambda _: block, text, flags=re.DOTALL
    )
    return renewed if found else text.rstrip() + f"\n\n{block}\n"


def differences() -> dict[Path, tuple[str, str]]:
    """Pages whose text is not what it should be: (the text now, the text due)."""
    due: dict[Path, str] = {}
    for page, name, content in parts():
        before = due[page] if page in due else page.read_text("utf-8") if page.exists() else ""
        due[page] = renew(before, name, content)
    now = {page: page.read_text("utf-8") if page.exists() else "" for page in due}
    return {page: (now[page], text) for page, text in due.items() if text != now[page]}


def main(argv: list[str]) -> int:
    found = differences()
    for page, (now, due) in found.items():
        name = str(page.relative_to(ROOT))
        if "--check" in argv:
            sys.stdout.writelines(
                difflib.unified_diff(
                    now.splitlines(True), due.splitlines(True), name, f"{name} (due)"
                )
            )
        else:
            page.write_text(due, "utf-8")
            print(f"wrote {name}")
    if found and "--check" in argv:
        print("generated parts differ; run: python scripts/build_docs.py")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
