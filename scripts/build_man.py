"""The manual pages: one a command, from its docstring and options, as --help-all has them.

python scripts/build_man.py build/man      then: man build/man/csv2pairs.1
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from build_docs import tools, version

from fletching import cli, help, links
from fletching.options import REQUIRED, Option, describe

EXIT_CODES = {
    "0": "done",
    "1": "the data cannot be processed, or a quality target was missed",
    "2": "wrong command line or config",
    "130, 143": "interrupted, terminated",
}


def page(tool: cli.Tool) -> str:
    """The manual page of a tool in section 1, as man(7) macros."""
    first, _, rest = tool.doc.strip().partition("\n")
    summary = first.partition(": ")[2].rstrip(".")
    header = f'.TH {tool.name.upper()} 1 "" "fletching {version()}" "Fletching"'
    lines = [header, ".SH NAME", f"{tool.name} \\- {escaped(summary)}"]
    lines += [".SH SYNOPSIS", ".nf", escaped(tool.usage), ".fi"]
    lines += [".SH DESCRIPTION", ".nf", *map(escaped, rest.strip("\n").splitlines()), ".fi"]
    lines += _options(tool)
    lines += [".SH EXIT STATUS"]
    for code, meaning in EXIT_CODES.items():
        lines += [".TP", f".B {code}", escaped(meaning)]
    lines += [
        ".SH ENVIRONMENT",
        "NO_COLOR and FORCE_COLOR rule colours, FLETCHING_DEBUG=1 shows tracebacks;",
    ]
    lines += [f"all are listed in {links.SOURCE}/blob/main/docs/environment.md"]
    lines += [".SH SEE ALSO", ".BR fletching (1)", ".br", escaped(links.page_of(tool.name))]
    return "\n".join(lines) + "\n"


def _options(tool: cli.Tool) -> list[str]:
    groups: dict[str, list[Option]] = {}
    for option in describe(tool.options).values():
        groups.setdefault(option.details["group"], []).append(option)
    lines = [".SH OPTIONS"]
    for group in sorted(groups, key=lambda name: help.SHARED_GROUPS.get(name, 0)):
        lines.append(f'.SS "{escaped(group[:1].upper() + group[1:])}"')
        for option in groups[group]:
            lines += _entry(option)
    return lines


def _entry(option: Option) -> list[str]:
    text = option.details["help"]
    if option.default is REQUIRED:
        text += " (required)"
    elif option.default not in (None, (), "") and option.scalar is not bool:
        default = option.default if not option.is_list else ",".join(map(str, option.default))
        text += f" [{default}]"
    return [".TP", rf"\fB{escaped(help.flags_text(option))}\fR", escaped(text)]


def overview() -> str:
    """The manual page of `fletching`."""
    lines = [f'.TH FLETCHING 1 "" "fletching {version()}" "Fletching"', ".SH NAME"]
    lines += ["fletching \\- every tool under one name", ".SH SYNOPSIS", ".nf"]
    lines += ["fletching NAME [ARGUMENT...]", "fletching completion bash|zsh|fish"]
    lines += ["fletching schema\\-config NAME", ".fi", ".SH TOOLS"]
    for _, tool in tools():
        summary = tool.doc.strip().partition("\n")[0].partition(": ")[2]
        lines += [".TP", rf"\fB{escaped(tool.name)}\fR(1)", escaped(summary)]
    lines += [".SH SEE ALSO", links.SOURCE]
    return "\n".join(lines) + "\n"


def escaped(text: str) -> str:
    """A text in which roff sees no request, escape or hyphen."""
    text = text.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq").replace("…", "...")
    return re.sub(r"^\.", r"\\&.", text)


def main(folder: str) -> None:
    """Write the pages into a folder."""
    out = Path(folder)
    out.mkdir(parents=True, exist_ok=True)
    (out / "fletching.1").write_text(overview(), "utf-8")
    for _, tool in tools():
        (out / f"{tool.name}.1").write_text(page(tool), "utf-8")
    print(f"man pages: {out}/*.1")


if __name__ == "__main__":
    main(sys.argv[1])
