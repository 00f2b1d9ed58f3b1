"""`fletching shard`, `fletching status` and `fletching join`: shards without an engine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fletching.cli import Tool
from fletching.errors import UsageError
from fletching.links import CLUSTERS
from fletching.options import OutputOptions, StandardOptions, option, positional
from fletching.report import Report

SHARD_DOC = """fletching shard: one shard of a command, in a folder that knows how it went.

Reads    what the command reads
Writes   DIR/00003-of-00016.parquet when it is complete, its log and its record beside it
Holds    what the command holds

  fletching shard shards -- texts2vectors corpus.parquet --model M --shard 3/16
  seq 0 15 | xargs -P 4 -I{} fletching shard shards -- hnmine … --pool-shard {}/16

A shard that is done is not run again. The exit code is that of the command.
"""

STATUS_DOC = """fletching status: what of a folder of shards is done, running, failed or missing.

Reads    the folder that `fletching shard` or `--engine` writes, or any with outputs of --shard
Writes   a table on stdout, or JSON with --json
Holds    the names and footers of the files

  fletching status shards

The exit code is 0 when all shards are there and of one run, else 1.
"""

JOIN_DOC = """fletching join: the outputs of all shards as the file that one run writes.

Reads    a folder of shards that is complete
Writes   the rows in the order of the shards, with the lineage and the account of one run
Holds    8,192 rows

  fletching join shards -o vectors.parquet
"""


@dataclass(frozen=True, kw_only=True)
class ShardCommandOptions(StandardOptions):
    """One command line of `fletching shard`."""

    words: tuple[str, ...] = positional(
        "the folder, `--`, and a command with --shard I/N or --pool-shard I/N and without -o",
        "DIR",
    )


@dataclass(frozen=True, kw_only=True)
class StatusOptions(StandardOptions):
    """One command line of `fletching status`."""

    folder: tuple[str, ...] = positional("the folder of the shards", "DIR")
    json: bool = option(False, "print JSON in place of the table", rows=False)


@dataclass(frozen=True, kw_only=True)
class JoinOptions(OutputOptions, StandardOptions):
    """One command line of `fletching join`."""

    folder: tuple[str, ...] = positional("the folder of the shards", "DIR")


def _run_shard(options: ShardCommandOptions, report: Report) -> int:
    """The exit code of the command."""
    from fletching.shards.record import last_line
    from fletching.shards.running import ShardTask, check_output_is_left_to_the_folder, run_shard

    folder, *words = options.words or [""]
    if not words:
        fix = "fletching shard DIR -- COMMAND … --shard I/N"
        raise UsageError("there is no command to run", fix)
    check_output_is_left_to_the_folder(words)
    task = ShardTask(folder=folder, words=words)
    code = run_shard(task)
    where = task.files.output if code == 0 else task.files.log
    report.note(f"{where}: {last_line(task.files.log)}")
    report.quiet = True  # the command has counted its rows
    return code if code >= 0 else 128 - code


def _show_status(options: StatusOptions, report: Report) -> int:
    from fletching.shards.folder import read_folder
    from fletching.shards.status import as_json, as_table

    folder = read_folder(_one_folder(options.folder))
    print(as_json(folder) if options.json else as_table(folder))
    report.quiet = True  # nothing is read or written
    return 0 if folder.is_complete else 1


def _join(options: JoinOptions, report: Report) -> None:
    from fletching.io import check_output
    from fletching.shards.folder import read_folder
    from fletching.shards.joining import join_shards

    check_output(options.output, report.tool)
    folder = read_folder(_one_folder(options.folder))
    join_shards(folder, options.output, side_outputs={}, report=report)


def _one_folder(names: Sequence[str]) -> str:
    if len(names) != 1:
        raise UsageError(f"{len(names)} folders are named", "name one folder of shards")
    return names[0]


TOOLS = {
    tool.name.removeprefix("fletching "): tool
    for tool in [
        Tool(
            name="fletching shard",
            options=ShardCommandOptions,
            run=_run_shard,
            doc=SHARD_DOC,
            usage="fletching shard DIR -- COMMAND...",
            package="fletching",
            page=CLUSTERS,
        ),
        Tool(
            name="fletching status",
            options=StatusOptions,
            run=_show_status,
            doc=STATUS_DOC,
            usage="fletching status DIR [--json]",
            package="fletching",
            page=CLUSTERS,
        ),
        Tool(
            name="fletching join",
            options=JoinOptions,
            run=_join,
            doc=JOIN_DOC,
            usage="fletching join DIR [-o OUT]",
            package="fletching",
            page=CLUSTERS,
        ),
    ]
}
