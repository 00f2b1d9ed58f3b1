"""The text of --help: the docstring with its examples, then the options by group."""

from __future__ import annotations

import textwrap

from fletching.options.fields import REQUIRED, Option, describe

# The groups that every tool shares stand behind the tool's own in --help.
LAST_GROUPS = {
    "training": 1,
    "LoRA": 2,
    "input and output": 3,
    "model and encoding": 4,
    "running": 5,
}


def text(doc: str, usage: str, options: type, everything: bool = False, width: int = 100) -> str:
    """The docstring, then the options by group: the ones that matter, or all of them."""
    lines = [_dedented(doc), "", f"usage: {usage}"]
    groups: dict[str, list[Option]] = {}
    for opt in describe(options).values():
        if everything or not opt.details["advanced"]:
            groups.setdefault(opt.details["group"], []).append(opt)
    for group in sorted(groups, key=lambda group: LAST_GROUPS.get(group, 0)):
        lines += ["", group]
        for opt in groups[group]:
            lines += _entry(opt, width)
    lines += [
        "",
        "  --help, --help-all, --version"
        if everything
        else "  --help-all: every option    --version",
    ]
    return "\n".join(lines) + "\n"


def _dedented(doc: str) -> str:
    first, _, rest = doc.strip().partition("\n")
    return first + "\n" + textwrap.dedent(rest).rstrip()


def _entry(opt: Option, width: int) -> list[str]:
    if opt.positional:
        head = opt.metavar
    else:
        short = f"{opt.details['short']}, " if opt.details.get("short") else ""
        negated = "no-" if opt.scalar is bool and opt.default is True else ""
        head = f"{short}--{negated}{opt.flag[2:]} {opt.metavar}".rstrip()
    text = opt.details["help"]
    if opt.default is REQUIRED:
        text += " (required)"
    elif opt.scalar is not bool and opt.default not in (None, (), ""):
        shown = ",".join(map(str, opt.default)) if opt.is_list else opt.default
        text += f" [{shown}]"
    column = 26
    wrapped = textwrap.wrap(text, width - column) or [""]
    head = "  " + head
    first = (
        [head + " " * (column - len(head)) + wrapped.pop(0)] if len(head) < column - 1 else [head]
    )
    return first + [" " * column + line for line in wrapped]
