"""An options dataclass as the words of a command line, and the shard that such words name."""

from __future__ import annotations

import csv
import io
from collections.abc import Collection, Mapping, Sequence

from fletching.errors import UsageError
from fletching.options import Option, Shard, describe
from fletching.options.fields import OptionValue, Scalar

SHARD_FLAGS = ("--shard", "--pool-shard")
WRITTEN = ("--cache", "--rejects")  # options that name what is written while shards run


def command_words(
    tool: str, options: object, *, leave_out: Collection[str], replaced: Mapping[str, OptionValue]
) -> list[str]:
    """The command line that parses to these options, in values that differ from the defaults.

    leave_out: names of options that are not passed on. replaced: values in place of theirs.
    Raises UsageError for a value that no command line can state.
    """
    words, inputs = [tool], []
    for name, opt in describe(type(options)).items():
        value: OptionValue = replaced.get(name, getattr(options, name))
        if name in leave_out or value == opt.default:
            continue
        if opt.positional:
            inputs = [str(each) for each in _values(value)]
        else:
            words += _option_words(opt, value)
    if any(word.startswith("-") for word in inputs):
        words.append("--")
    return [*words, *inputs]


def _values(value: OptionValue) -> tuple[Scalar, ...]:
    if value is None:
        return ()
    return value if isinstance(value, tuple) else (value,)


def _option_words(opt: Option, value: OptionValue) -> list[str]:
    if opt.scalar is bool:
        return [opt.flag if value else opt.negated_flag]
    values = _values(value)
    if not values:
        raise UsageError(
            f"{opt.flag} without a value cannot be passed to shards", "leave --engine out"
        )
    words: list[str] = []
    for each in values:
        text = _quoted(str(each)) if opt.is_list else str(each)
        # Behind a blank, `-1` and `--x` would be read as options.
        words += [f"{opt.flag}={text}"] if text.startswith("-") else [opt.flag, text]
    return words


def _quoted(text: str) -> str:
    """One value of a list as CSV."""
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow([text])
    return line.getvalue()


def shard_of(words: Sequence[str]) -> tuple[Shard, list[str]]:
    """The shard that a command names, and its words without it. Raises UsageError without one."""
    rest = list(words)
    for flag in SHARD_FLAGS:
        for number, word in enumerate(rest):
            name, equals, value = word.partition("=")
            if name != flag:
                continue
            if not equals:
                value = rest.pop(number + 1) if number + 1 < len(rest) else ""
            rest.pop(number)
            shard = Shard.parse(value, flag)
            assert shard is not None
            return shard, [*rest, flag]
    raise UsageError(
        "the command has no --shard I/N and no --pool-shard I/N",
        "say which shard: … -- texts2vectors corpus.parquet --model M --shard 0/16",
    )


def words_of_all(words: Sequence[str]) -> list[str]:
    """The words that the commands of all shards of one run have in common."""
    _, rest = shard_of(words)
    return without_written(rest)


def without_written(words: Sequence[str]) -> list[str]:
    """A command without what names a file or folder that it writes."""
    pairs = zip(["", *words], words)
    return [
        word for before, word in pairs if before not in WRITTEN and not word.startswith(WRITTEN)
    ]
