"""The text of --help: the docstring with its examples, then the options by group."""

from __future__ import annotations

import textwrap

from fletching.options.fields import REQUIRED, Option, describe

# The groups that tools share come after the tool's own, in this order.
SHARED_GROUPS = {
    "training": 1,
    "LoRA": 2,
    "input and output": 3,
    "model and encoding": 4,
    "running": 5,
}
HELP_COLUMN = 26  # where the texts of options start


def render(
    doc: str, usage: str, options: type, *, everything: bool = False, width: int = 100
) -> str:
    """The docstring, then the options by group: the basic ones, or all of them."""
    groups: dict[str, list[Option]] = {}
    for opt in describe(options).values():
        if everything or not opt.details["advanced"]:
            groups.setdefault(opt.details["group"], []).append(opt)
    lines = [_dedent(doc), "", f"usage: {usage}"]
    for group in sorted(groups, key=lambda name: SHARED_GROUPS.get(name, 0)):
        lines += ["", group]
        for opt in groups[group]:
            lines += _entry(opt, width)
    if everything:
        last = "  --help, --help-all, --version"
    else:
        last = "  --help-all: every option    --version"
    return "\n".join([*lines, "", last]) + "\n"


def short_text(doc: str, usage: str, name: str) -> str:
    """The usage, an example from the docstring, and where there is more: without any argument."""
    commands = [line.strip() for line in doc.splitlines() if line.startswith("  ")]
    examples = [line for line in commands if line.startswith(f"{name} ")]
    shown = [f"usage: {usage}", *(f"example: {line}" for line in examples[:1])]
    return "\n".join([*shown, f"{name} --help shows the options"])


def _dedent(doc: str) -> str:
    first, _, rest = doc.strip().partition("\n")
    return first + "\n" + textwrap.dedent(rest).rstrip()


def _entry(opt: Option, width: int) -> list[str]:
    """The lines of one option: flags on the left, help text wrapped on the right."""
    flags = "  " + flags_text(opt)
    wrapped = textwrap.wrap(_help_text(opt), width - HELP_COLUMN) or [""]
    indented = [" " * HELP_COLUMN + line for line in wrapped]
    if len(flags) >= HELP_COLUMN - 1:
        return [flags, *indented]
    return [flags.ljust(HELP_COLUMN) + wrapped[0], *indented[1:]]


def flags_text(opt: Option) -> str:
    """The short and the long form with the placeholder of the value: `-o, --output OUT`."""
    if opt.positional:
        return opt.metavar
    short = f"{opt.details['short']}, " if opt.details.get("short") else ""
    is_on_by_default = opt.scalar is bool and opt.default is True
    long = opt.negated_flag if is_on_by_default else opt.flag
    return f"{short}{long} {opt.metavar}".rstrip()


def _help_text(opt: Option) -> str:
    text: str = opt.details["help"]
    if opt.default is REQUIRED:
        return text + " (required)"
    if opt.scalar is bool or opt.default in (None, (), ""):
        return text
    default = ",".join(map(str, opt.default)) if opt.is_list else opt.default
    return f"{text} [{default}]"
