"""Options of tools that read and write rows, and of every tool."""

from __future__ import annotations

from dataclasses import dataclass

from fletching.errors import UsageError
from fletching.options.fields import option, positional
from fletching.options.headings import IO, RUN


@dataclass(frozen=True, kw_only=True)
class StandardOptions:
    """What every tool has."""

    config: str | None = option(
        None,
        "options from a JSON, YAML or TOML file; the command line wins",
        metavar="FILE",
        group=RUN,
        rows=False,
    )
    print_config: bool = option(
        False,
        "print every option with its value as YAML for --config, then stop",
        group=RUN,
        advanced=True,
        rows=False,
    )
    dry_run: bool = option(
        False,
        "check options and inputs, say what would be read and written, then stop",
        group=RUN,
        advanced=True,
        rows=False,
    )
    quiet: bool = option(
        False, "print errors only", short="-q", group=RUN, advanced=True, rows=False
    )
    verbose: bool = option(
        False,
        "also print versions, the options that were set, memory, and an error's traceback",
        short="-v",
        group=RUN,
        advanced=True,
        rows=False,
    )
    json_summary: str | None = option(
        None, "the summary line as JSON", metavar="FILE", group=RUN, advanced=True, rows=False
    )


@dataclass(frozen=True, kw_only=True)
class SeedOptions:
    """A tool that makes random choices."""

    seed: int = option(
        0, "random seed; the same seed gives the same output", metavar="N", low=0, group=RUN
    )


@dataclass(frozen=True, kw_only=True)
class LimitOptions:
    """A tool that can stop reading early."""

    limit: int | None = option(
        None, "read only the first N rows", metavar="N", low=1, group=IO, advanced=True
    )


@dataclass(frozen=True, kw_only=True)
class ExamplesOptions(LimitOptions):
    """A tool that reads `examples`."""

    inputs: tuple[str, ...] = positional(
        "examples: Parquet, Arrow or JSONL files, folders, globs or URLs; none or - is stdin",
        "EXAMPLES",
    )


@dataclass(frozen=True, kw_only=True)
class OutputOptions:
    """A tool that writes a stream of rows."""

    output: str | None = option(
        None,
        "FILE.parquet, .arrow, .jsonl, .jsonl.gz or .jsonl.zst; else an Arrow stream on stdout",
        metavar="OUT",
        short="-o",
        group=IO,
        rows=False,
        written=True,
    )


@dataclass(frozen=True, kw_only=True)
class Shard:
    """Part `index` of `count` of the rows, in order; the parts laid end to end are the whole."""

    index: int
    count: int

    @classmethod
    def parse(cls, text: str | None, flag: str = "--shard") -> Shard | None:
        """`0/4` … `3/4`; None stays None. Raises UsageError, which names the flag."""
        if text is None:
            return None
        index, slash, count = text.partition("/")
        if not (slash and index.isdecimal() and count.isdecimal() and int(index) < int(count)):
            raise UsageError(
                f"{flag} {text} is no part of a whole",
                f"pass {flag} I/N with 0 <= I < N, e.g. 0/4",
            )
        return cls(index=int(index), count=int(count))

    def part(self, items: int) -> slice:
        """Which of so many items belong to this part."""
        return slice(self.index * items // self.count, (self.index + 1) * items // self.count)


@dataclass(frozen=True, kw_only=True)
class ShardOptions:
    """A tool that can do one part of its rows."""

    shard: str | None = option(
        None,
        "process part I of N of the rows (0/4 … 3/4); the outputs in order are the whole",
        metavar="I/N",
        group=RUN,
        advanced=True,
    )


@dataclass(frozen=True, kw_only=True)
class CorpusOptions:
    """A tool that searches more texts than its rows hold."""

    corpus: tuple[str, ...] = option(
        (),
        "`texts` that join the positives of the input as documents to search",
        metavar="TEXTS",
        group=IO,
        rows=False,
    )


@dataclass(frozen=True, kw_only=True)
class ScoreWritingOptions:
    """A tool that writes scores beside texts."""

    replace_scores: bool = option(
        False,
        "overwrite scores of a reranker, label or judge, and those without a kind",
        group=IO,
        advanced=True,
    )


@dataclass(frozen=True, kw_only=True)
class RejectsOptions:
    """A tool that can show what it dropped."""

    rejects: str | None = option(
        None,
        "write what was dropped here, each with its reason",
        metavar="FILE",
        group=IO,
        rows=False,
        written=True,
    )
