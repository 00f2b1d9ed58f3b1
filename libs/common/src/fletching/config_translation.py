"""Our config for the config or script of another program: --translate FILE."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from fletching import foreign_configs
from fletching.counterparts import Counterpart, same
from fletching.errors import UsageError
from fletching.foreign_option_names import find_counterpart
from fletching.foreign_option_values import ForeignValue, NoCounterpartError, is_true
from fletching.options.fields import Option, describe


@dataclass(frozen=True, kw_only=True)
class TranslatedOption:
    """One of our options, with the name that its value had, and how it changed."""

    value: ForeignValue
    theirs: str
    remark: str
    is_general: bool


@dataclass
class Translation:
    """Our options by field name, and a line for each of theirs that leaves nothing to set."""

    options: dict[str, TranslatedOption] = field(default_factory=dict)
    left: list[str] = field(default_factory=list)

    def leave(self, theirs: str, value: ForeignValue, reason: str) -> None:
        """Name an option that has no counterpart."""
        self.left.append(_as_comment(f"{theirs}: {_as_yaml(value)}  ({reason})"))

    def add(self, ours: str, new: TranslatedOption) -> None:
        """Set an option; of two that say the same, the more special or the one with a value."""
        earlier = self.options.get(ours)
        if earlier is not None:
            new_wins = earlier.is_general > new.is_general or not earlier.value
            winner, loser = (new, earlier) if new_wins else (earlier, new)
            if winner.value == loser.value:
                winner = replace(winner, theirs=f"{winner.theirs}, {loser.theirs}")
            else:
                self.leave(loser.theirs, loser.value, f"{winner.theirs} is taken")
            new = winner
        self.options[ours] = new


def translate(path: str, tool: str, options_class: type) -> str:
    """The text of a YAML config for the tool, with what has no counterpart as comments.

    Raises UsageError where the file cannot be read.
    """
    options = describe(options_class)
    translation = Translation()
    for theirs, value in foreign_configs.read(path).items():
        _translate_option(str(theirs), value, options=options, translation=translation)
    _drop_rivals(translation, getattr(options_class, "INSTEAD", ()))
    lines = [f"# {tool}: the options of {_as_comment(os.path.basename(path))}"]
    for name, option in translation.options.items():
        remark = f"; {option.remark}" if option.remark else ""
        lines.append(
            f"{options[name].flag[2:]}: {_as_yaml(option.value)}  "
            f"# {_as_comment(option.theirs)}{remark}"
        )
    if translation.left:
        lines += ["", "# without a counterpart:", *(f"#   {line}" for line in translation.left)]
    return "\n".join(lines) + "\n"


def _translate_option(
    theirs: str, value: ForeignValue, *, options: Mapping[str, Option], translation: Translation
) -> None:
    entry = find_counterpart(theirs, options)
    name = theirs.replace("-", "_")
    if entry is None and name in options:
        entry = same(name)
    if entry is None:
        translation.leave(theirs, value, "not known")
    elif not entry.ours:
        translation.leave(theirs, value, entry.remark)
    else:
        try:
            converted = _convert(entry, value, options)
        except (NoCounterpartError, UsageError) as reason:
            translation.leave(theirs, value, str(reason))
            return
        except (LookupError, ValueError, TypeError, AttributeError, OverflowError):
            translation.leave(theirs, value, "of a type that it has not here")
            return
        for ours, our_value in converted.items():
            option = TranslatedOption(
                value=our_value, theirs=theirs, remark=entry.remark, is_general=entry.is_general
            )
            translation.add(ours, option)


def _convert(
    entry: Counterpart, value: ForeignValue, options: Mapping[str, Option]
) -> dict[str, ForeignValue]:
    """Our values by field name, checked. Raises NoCounterpartError or UsageError."""
    converted = entry.convert(value)
    by_name = converted if isinstance(converted, dict) else dict.fromkeys(entry.ours, converted)
    return {name: _typed(options[name], ours) for name, ours in by_name.items()}


def _typed(option: Option, value: ForeignValue) -> ForeignValue:
    if option.scalar is bool:
        return is_true(value)
    if option.is_list:
        return [option.convert(str(item)) for item in value]
    if option.scalar is str:
        return option.convert(str(value))
    # Whole numbers come as 3.0 or 1e4 too, and leave as 3.
    number = float(value)
    return option.convert(str(int(number) if number.is_integer() else number))


def _drop_rivals(translation: Translation, groups: tuple[tuple[str, ...], ...]) -> None:
    """Of options that exclude one another (epochs, steps) the last one of the group stays."""
    for group in groups:
        rivals = [name for name in group if name in translation.options]
        for name in rivals[:-1]:
            dropped = translation.options.pop(name)
            winner = translation.options[rivals[-1]].theirs
            translation.leave(dropped.theirs, dropped.value, f"{winner} ends the run")


def _as_comment(text: str) -> str:
    """A text on one line, in characters that YAML takes."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in " ".join(text.split()))


def _as_yaml(value: ForeignValue) -> str:
    """A value on one line of YAML."""
    from fletching.yaml_text import on_one_line

    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, str) and "\n" in value:
        return json.dumps(value, ensure_ascii=False)
    return on_one_line(value)
