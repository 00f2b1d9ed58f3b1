"""--print-config: the options of a run as YAML that --config takes back."""

from __future__ import annotations

from fletching import links
from fletching.config import NOT_IN_A_FILE
from fletching.options.fields import Option, OptionValue, describe


def as_yaml(options: object, tool: str) -> str:
    """Every option with its value, by group; null where it has none."""
    groups: dict[str, list[Option]] = {}
    for name, opt in describe(type(options)).items():
        if name not in NOT_IN_A_FILE:
            groups.setdefault(opt.details["group"], []).append(opt)
    lines = [f"# {tool} --config FILE", f"# yaml-language-server: $schema={links.schema_of(tool)}"]
    for group, members in groups.items():
        lines += ["", f"# {group}"]
        lines += [_entry(opt, getattr(options, opt.name)) for opt in members]
    return "\n".join(lines) + "\n"


def _entry(opt: Option, value: OptionValue) -> str:
    from fletching.yaml_text import on_one_line

    plain = list(value) if isinstance(value, tuple) else value
    return f"{on_one_line(opt.config_key)}: {on_one_line(plain)}"
