"""The generated parts of the documentation, so that it cannot drift from what it describes.

  python scripts/build_docs.py           write them
  python scripts/build_docs.py --check   fail with a diff where they differ

In schemas/*/v*/README.md: the table of fields and one row. In schemas/README.md: who writes and reads
each schema. In docs/formats.md: the row formats. In docs/recipes.md: what recipes cost. In tools/*/README.md: what --help prints. They lie between `<!-- NAME -->` and
`<!-- /NAME -->`. Whole files: schemas/config/*.json, the JSON schemas of the tools' configs. For the site, `write_site_pages` writes one page a command, with all its options.
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
from typing import Any

import recipe_costs

from fletching import cli, config_schema
from fletching.io.row_formats import ROW_FORMATS
from fletching.options import REQUIRED, Option, describe

ROOT = Path(__file__).resolve().parents[1]
WIDTH = 100  # of the help blocks, whatever the terminal
SCHEMAS = ("examples", "texts", "vectors", "candidates", "tasks", "measures")


def version() -> str:
    """The version that all packages share."""
    content = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    return str(content["project"]["version"])


def tools() -> Iterator[tuple[Path, cli.Tool]]:
    """(folder, tool) of every command of this tree, installed or not."""
    for path in sorted(ROOT.glob("tools/*/pyproject.toml")):
        scripts = tomllib.loads(path.read_text("utf-8"))["project"].get("scripts", {})
        for entry in scripts.values():
            sys.path.insert(0, str(path.parent / "src"))
            try:
                yield path.parent, importlib.import_module(entry.split(":")[0]).TOOL
            finally:
                sys.path.remove(str(path.parent / "src"))


def parts() -> Iterator[tuple[Path, str, str]]:
    """(page, name of the part, its content) of everything that is generated."""
    for path in sorted(ROOT.glob("schemas/*/v*/schema.json")):
        page = path.with_name("README.md")
        yield page, "fields", fields_table(json.loads(path.read_text("utf-8")))
        yield page, "row", row_block(path.parent / "examples" / "full.jsonl")
    yield ROOT / "schemas" / "README.md", "users", users_table()
    yield ROOT / "docs" / "formats.md", "formats", formats_table()
    yield ROOT / "docs" / "recipes.md", "settings", recipe_costs.settings_table()
    yield ROOT / "docs" / "recipes.md", "costs", recipe_costs.costs_table()
    for folder, tool in tools():
        yield folder / "README.md", "help", help_block(tool)


# --- schemas -------------------------------------------------------------------------------------


def fields_table(schema: dict[str, Any]) -> str:
    """The fields of a schema as a table."""
    lines = ["| field | type | null | meaning |", "|---|---|---|---|"]
    for field in schema["fields"]:
        need = "**REQUIRED.** " if field.get("required") else ""
        null = "yes" if field["nullable"] else "no"
        kind = field["type"].replace("|", "\\|")
        meaning = f"{need}{field['meaning']}{_promises(field)}"
        lines.append(f"| `{field['name']}` | `{kind}` | {null} | {meaning} |")
    head = f"**{schema['name']} {schema['version']}.** {schema['description']}"
    return "\n".join([head, "", *lines])


def _promises(field: dict[str, Any]) -> str:
    """What a reader checks, and the other names under which it finds the column."""
    sentences = []
    if field.get("values"):
        sentences.append("One of " + ", ".join(f"`{value}`" for value in field["values"]) + ".")
    if field.get("pattern"):
        sentences.append(f"Of the form `{field['pattern']}`.")
    if field.get("finite"):
        sentences.append("Finite.")
    if field.get("aliases"):
        aliases = ", ".join(f"`{alias}`" for alias in field["aliases"])
        sentences.append(f"Read also as {aliases}.")
    return "".join(" " + sentence for sentence in sentences)


def row_block(path: Path) -> str:
    """The first row of a file of JSON lines, one key a line."""
    row = json.loads(path.read_text("utf-8").splitlines()[0])
    items = [
        f"  {json.dumps(name)}: {json.dumps(value, ensure_ascii=False)}"
        for name, value in row.items()
    ]
    return "```json\n{\n" + ",\n".join(items) + "\n}\n```"


def formats_table() -> str:
    """The row formats of the registry."""
    lines = ["| format | of | columns | read as | written |", "|---|---|---|---|---|"]
    for row_format in ROW_FORMATS.values():
        written = "" if row_format.from_examples is None else "yes"
        columns = row_format.columns.replace("|", "\\|")
        cells = [f"`{row_format.name}`", row_format.summary, columns, row_format.becomes, written]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def users_table() -> str:
    """Which tools write and read each schema, by the `Reads` and `Writes` of their docstrings."""
    lines = ["| schema | what it holds | written by | read by |", "|---|---|---|---|"]
    for schema in SCHEMAS:
        stated = json.loads((ROOT / "schemas" / schema / "v1" / "schema.json").read_text("utf-8"))
        writers = [tool.name for _, tool in tools() if schema in _schemas(tool, "Writes")]
        readers = [tool.name for _, tool in tools() if schema in _schemas(tool, "Reads")]
        link = f"[`{schema}`]({schema}/v1/README.md)"
        cells = [link, stated["description"], ", ".join(writers), ", ".join(readers)]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _schemas(tool: cli.Tool, verb: str) -> set[str]:
    """The schemas named in the paragraph of a docstring that begins with Reads or Writes."""
    match = re.search(rf"^{verb} .*(?:\n {{9}}.*)*", tool.doc, re.MULTILINE)
    words = re.findall(r"\w+", match.group()) if match else []
    return set(words) & set(SCHEMAS)


# --- commands ------------------------------------------------------------------------------------


def help_block(tool: cli.Tool) -> str:
    """What --help prints, as a code block."""
    return f"```\n$ {tool.name} --help\n{cli.help_text(tool, width=WIDTH)}```"


def options_table(tool: cli.Tool) -> str:
    """Every option by group, with its default; and why a default differs from the other tools'."""
    groups: dict[str, list[Option]] = {}
    for option in describe(tool.options).values():
        groups.setdefault(option.details["group"], []).append(option)
    blocks = []
    for group, options in groups.items():
        rows = ["| option | default | meaning |", "|---|---|---|"]
        rows += [_option_row(option) for option in options]
        blocks.append(f"### {group[:1].upper()}{group[1:]}\n\n" + "\n".join(rows))
    return "\n\n".join(blocks)


def _option_row(option: Option) -> str:
    metavar = option.metavar.replace("|", "\\|")
    name = f"`{metavar}`" if option.positional else f"`{option.flag} {metavar}`".replace(" `", "`")
    if option.default is REQUIRED:
        default = "required"
    elif option.default in (None, (), ""):
        default = ""
    else:
        default = f"`{option.default}`"
    meaning = option.details["help"].replace("|", "\\|")
    if "because" in option.details:
        meaning += f" ({option.details['because'].replace('|', chr(92) + '|')})"
    return f"| {name} | {default} | {meaning} |"


def write_site_pages(docs: Path) -> None:
    """The pages of the site that come from the code: one a command, and the common library's."""
    folder = docs / "commands"
    folder.mkdir(exist_ok=True)
    names = []
    for source, tool in tools():
        names.append(tool.name)
        readme = f"```{{include}} ../../{source.relative_to(ROOT)}/README.md\n```"
        options = f"## All options\n\n{options_table(tool)}\n"
        (folder / f"{tool.name}.md").write_text(f"{readme}\n\n{options}", "utf-8")
    entries = "\n".join(names)
    index = f"# Commands\n\n:::{{toctree}}\n:maxdepth: 1\n\n{entries}\n:::\n"
    (folder / "index.md").write_text(index, "utf-8")
    (docs / "library.md").write_text(_library_page(), "utf-8")


def _library_page() -> str:
    modules = ["table.disk_table", "table.ragged_array", "table.key_set", "table.atomic"]
    modules += ["registry", "protocols", "options.fields", "errors", "report", "qrels", "pooling"]
    blocks = [
        f"## fletching.{name}\n\n```{{automodule}} fletching.{name}\n:members:\n```"
        for name in modules
    ]
    readme = "```{include} ../libs/common/README.md\n```"
    return "\n\n".join([readme, *blocks]) + "\n"


# --- pages ---------------------------------------------------------------------------------------


def renew(text: str, name: str, content: str) -> str:
    """`text` with the part `name` replaced; at the end where its marks are missing."""
    block = f"<!-- {name} -->\n{content}\n<!-- /{name} -->"
    pattern = rf"<!-- {name} -->.*?<!-- /{name} -->"
    renewed, count = re.subn(pattern, lambda _: block, text, flags=re.DOTALL)
    return renewed if count else text.rstrip() + f"\n\n{block}\n"


def whole_files() -> dict[Path, str]:
    """Files that are generated from the first to the last line."""
    folder = ROOT / "schemas" / "config"
    return {
        folder / f"{tool.name}.json": config_schema.as_text(tool.options, tool.name)
        for _, tool in tools()
    }


def differences() -> dict[Path, tuple[str, str]]:
    """Pages whose text is not what it should be: (the text now, the text due)."""
    now: dict[Path, str] = {}
    due: dict[Path, str] = {}
    for page, name, content in parts():
        if page not in due:
            now[page] = due[page] = page.read_text("utf-8") if page.exists() else ""
        due[page] = renew(due[page], name, content)
    for path, content in whole_files().items():
        now[path] = path.read_text("utf-8") if path.exists() else ""
        due[path] = content
    return {page: (now[page], text) for page, text in due.items() if text != now[page]}


def main(argv: list[str]) -> int:
    """Write the generated parts, or check them; the exit code."""
    changes = differences()
    check_only = "--check" in argv
    for page, (now, due) in changes.items():
        name = str(page.relative_to(ROOT))
        if check_only:
            before, after = now.splitlines(True), due.splitlines(True)
            sys.stdout.writelines(difflib.unified_diff(before, after, name, f"{name} (due)"))
        else:
            page.parent.mkdir(exist_ok=True)
            page.write_text(due, "utf-8")
            print(f"wrote {name}")
    if changes and check_only:
        print("generated parts differ; run: python scripts/build_docs.py")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
