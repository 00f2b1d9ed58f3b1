"""The error for options that a tool does not have: what each may have meant.

First the names of other programs, then a typing error in one of ours, then its abbreviation or a
longer form. A name that is merely similar is no guess: it would mislead.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import NoReturn

from fletching.errors import UsageError
from fletching.foreign_option_names import find_counterpart
from fletching.options.fields import Option

TYPING_ERROR, NEARLY_THE_SAME = 0.9, 0.8  # of difflib's ratio, of the words without dashes
SHORTEST_FORM = 3  # letters that an abbreviation, or the option that a word extends, must have
ALL_OPTIONS = "--help-all lists every option"


def reject(
    words: Sequence[str], options: Mapping[str, Option], *, where: str = "", dashes: bool
) -> NoReturn:
    """Raise UsageError for all these words at once.

    where: what precedes the message, such as the path of a config file. dashes: do they come from
    the command line?
    """
    answers = [_answer(word, options, dashes=dashes) for word in words]
    if len(words) == 1:
        raise UsageError(f"{where}unknown option {words[0]}", answers[0])
    width = max(map(len, words))
    lines = [f"    {word.ljust(width)}  {answer}" for word, answer in zip(words, answers)]
    heading = "rename or remove them"
    if not dashes and "translate" in options:
        heading += ", or let --translate FILE print the config under our names"
    what = f"{where}{len(words)} unknown options: {', '.join(words)}"
    raise UsageError(what, "\n".join([heading, *lines]))


def _answer(word: str, options: Mapping[str, Option], *, dashes: bool) -> str:
    entry = find_counterpart(word, options)
    if entry is not None:
        return entry.describe(options, dashes=dashes)
    name = word.lstrip("-").replace("_", "-").lower()
    flags = [option.flag[2:] for option in options.values() if not option.positional]
    guess = (
        _nearest(name, flags, TYPING_ERROR)
        or _other_form(name, flags)
        or _nearest(name, flags, NEARLY_THE_SAME)
    )
    if guess is None:
        return ALL_OPTIONS
    return f"did you mean {'--' if dashes else ''}{guess}?"


def _other_form(name: str, flags: Sequence[str]) -> str | None:
    """The only option that the word abbreviates, or the longest one that it extends.

    `temp` is `temperature` and `positive` is `pos`; `save-steps` is another thing than `save`.
    """
    if len(name) < SHORTEST_FORM:
        return None
    longer = [flag for flag in flags if flag.startswith(name)]
    if len(longer) == 1:
        return longer[0]
    shorter = [flag for flag in flags if len(flag) >= SHORTEST_FORM and name.startswith(flag)]
    longest = max(shorter, key=len, default=None)
    return None if longest is None or "-" in name[len(longest) :] else longest


def _nearest(name: str, flags: Sequence[str], ratio: float) -> str | None:
    similar = difflib.get_close_matches(name, flags, n=1, cutoff=ratio)
    return similar[0] if similar else None
