"""What a folder of shards holds: which are done, running, failed or missing, and what is mixed.

A file says itself which shard of which run it is: of --shard, of --pool-shard, with the options,
the model and the inputs. Records add what runs and what failed.
"""

from __future__ import annotations

import glob
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from fletching import lineage
from fletching.errors import InputError
from fletching.lineage import Node
from fletching.options import Shard
from fletching.shards.record import (
    DONE,
    FAILED,
    RUNNING,
    ShardFiles,
    ShardRecord,
    is_alive,
    last_line,
    read_record,
)
from fletching.shards.words import words_of_all

MISSING = "missing"
STATES = (DONE, RUNNING, FAILED, MISSING)
PART = "part"  # of the stamp of `candidates`: the part of a pool, and what it is made from
OF_ITS_PART = ("texts", "all_have_ids")  # of a stamped part: differs from part to part
ABSENT = "absent"

Recorded = tuple[ShardFiles, ShardRecord]


@dataclass(frozen=True, kw_only=True)
class ShardOutput:
    """A complete output. node: its lineage without the shard. end: what its writer knew at last."""

    path: str
    schema: str
    shard: Shard
    node: Node
    end: Node

    @property
    def rows(self) -> int:
        """How many it holds."""
        return int(self.end.get("rows", 0))


@dataclass(frozen=True, kw_only=True)
class ShardState:
    """One shard as it is. detail: of a running or failed one, where and what its log says last."""

    shard: Shard
    state: str
    output: str = ""
    rows: int | None = None
    log: str = ""
    seconds: float | None = None
    detail: str = ""


@dataclass(kw_only=True)
class ShardFolder:
    """The shards of one folder. problems: what makes them no parts of one whole, a line each."""

    path: str
    count: int = 0
    outputs: dict[int, ShardOutput] = field(default_factory=dict)
    states: list[ShardState] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def tool(self) -> str:
        """The tool that made the first output; "" without one."""
        return next((str(each.node["tool"]) for each in self.outputs.values()), "")

    def of_state(self, state: str) -> list[ShardState]:
        """The shards in this state."""
        return [each for each in self.states if each.state == state]

    @property
    def is_complete(self) -> bool:
        """Are all shards there, and of one run?"""
        return bool(self.count) and len(self.of_state(DONE)) == self.count and not self.problems

    def check(self) -> None:
        """Raise InputError where the shards are no whole, with what is missing or mixed."""
        if self.problems:
            raise InputError(self.problems[0], f"fletching status {self.path}")
        others = [each for each in self.states if each.state != DONE]
        if others:
            names = ", ".join(f"{each.shard.index}/{each.shard.count}" for each in others[:8])
            more = f" and {len(others) - 8} more" if len(others) > 8 else ""
            what = f"of {self.count} shards in {self.path}, {len(others)} are not done: {names}"
            raise InputError(what + more, f"fletching status {self.path} says why")


def read_folder(path: str) -> ShardFolder:
    """Look at every output and record. Raises InputError where there is neither."""
    if not os.path.isdir(path):
        raise InputError(f"{path} is no folder", "name the folder that the shards are written to")
    folder = ShardFolder(path=path)
    outputs = list(_outputs(folder))
    records = list(_records(folder))
    counts = [output.shard.count for output in outputs]
    counts += [files.shard.count for files, _ in records]
    if not counts and not folder.problems:
        raise InputError(
            f"{path} holds no shards",
            "write them there: fletching shard DIR -- COMMAND --shard I/N, or -o DIR/NAME.parquet",
        )
    folder.count = counts[0] if counts else 0
    for output in outputs:
        _add_output(folder, output)
    _check_records(folder, records)
    fitting = {each[0].shard.index: each for each in records if _fits(each, folder)}
    folder.states = [_state(folder, index, fitting.get(index)) for index in range(folder.count)]
    return folder


def _fits(recorded: Recorded, folder: ShardFolder) -> bool:
    return recorded[0].shard.count == folder.count


# --- outputs -------------------------------------------------------------------------------------


def _outputs(folder: ShardFolder) -> Iterator[ShardOutput]:
    """The outputs in the order of their names; what is none becomes a problem."""
    for path in sorted(glob.glob(os.path.join(glob.escape(folder.path), "*.parquet"))):
        try:
            yield read_output(path)
        except InputError as error:
            folder.problems.append(error.what)


def read_output(path: str) -> ShardOutput:
    """What the stamp and the footer of a file say. Raises InputError where it is no shard."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path)
        stamp = lineage.read(file.schema_arrow.metadata)
        end = json.loads((file.metadata.metadata or {})[lineage.END_KEY])
    except (pa.ArrowException, OSError, KeyError, ValueError):
        raise InputError(f"{path} is cut, or no Parquet file of Fletching") from None
    node = dict(stamp.get("step", {}))
    options = dict(node.get("options", {}))
    part = options.get(PART)
    text = part.pop("shard", None) if isinstance(part, dict) else options.pop("shard", None)
    try:
        shard = Shard.parse(text)
    except (InputError, AttributeError):
        shard = None
    if shard is None:
        raise InputError(f"{path} is no shard: it was made without --shard and --pool-shard")
    node["options"] = options
    return ShardOutput(path=path, schema=stamp["schema"], shard=shard, node=node, end=end)


def _add_output(folder: ShardFolder, output: ShardOutput) -> None:
    """Note what does not fit with the first output."""
    shard = output.shard
    if shard.count != folder.count:
        folder.problems.append(
            f"{output.path} is shard {shard.index}/{shard.count}, and others are of {folder.count}"
        )
        return
    twin = folder.outputs.setdefault(shard.index, output)
    if twin is not output:
        name = f"{shard.index}/{shard.count}"
        folder.problems.append(f"{twin.path} and {output.path} are both shard {name}")
    first = next(iter(folder.outputs.values()))
    difference = _difference(first, output)
    if difference:
        folder.problems.append(f"{output.path} {difference} {first.path}")


def _difference(first: ShardOutput, other: ShardOutput) -> str:
    """How a shard was made otherwise than the first one; "" where it was made alike."""
    left, right = _traits(first), _traits(other)
    names = [name for name in sorted({*left, *right}) if left.get(name) != right.get(name)]
    if not names:
        return ""
    name = names[0]
    before, after = (_shown(traits.get(name, ABSENT)) for traits in (left, right))
    return f"has {name} {after}, otherwise than {before} of"


def _traits(output: ShardOutput) -> dict[str, Any]:
    """What must be equal in all shards of one run, by name."""
    options = dict(output.node["options"])
    part = dict(options.pop(PART, {}))
    traits: dict[str, Any] = {"tool": f"{output.node['tool']} {output.node.get('version')}"}
    traits |= {f"--{name.replace('_', '-')}": value for name, value in options.items()}
    traits |= {f"input {name}": value for name, value in part.items() if name not in OF_ITS_PART}
    traits["inputs"] = [output.node.get("from"), output.end.get("from")]
    return traits


def _shown(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True)
    return text if len(text) <= 60 else text[:57] + "…"


# --- records -------------------------------------------------------------------------------------


def _records(folder: ShardFolder) -> Iterator[Recorded]:
    for path in sorted(glob.glob(os.path.join(glob.escape(folder.path), "*.json"))):
        files = ShardFiles.of_record(path)
        if files is None:
            continue
        try:
            record = read_record(path)
        except InputError as error:
            folder.problems.append(error.what)
            continue
        if record is not None:
            yield files, record


def _check_records(folder: ShardFolder, records: Sequence[Recorded]) -> None:
    """Note what is marked done without a file, and records of different commands or inputs."""
    commands: dict[str, str] = {}
    inputs: dict[str, str] = {}
    for files, record in records:
        if files.shard.count != folder.count:
            folder.problems.append(
                f"{files.record} is of {files.shard.count} shards, and others of {folder.count}"
            )
        elif record.state == DONE and files.shard.index not in folder.outputs:
            folder.problems.append(f"{files.record} says done, but {files.output} is not there")
        commands.setdefault(json.dumps(words_of_all(record.command)), files.record)
        if record.state == DONE:
            inputs.setdefault(json.dumps(record.inputs, sort_keys=True), files.output)
    for texts, what in ((commands, "other commands"), (inputs, "other inputs")):
        if len(texts) > 1:
            first, second = list(texts.values())[:2]
            folder.problems.append(f"{first} and {second} are of {what}")


def _state(folder: ShardFolder, index: int, recorded: Recorded | None) -> ShardState:
    """An output decides; without one, the record."""
    shard = Shard(index=index, count=folder.count)
    output = folder.outputs.get(index)
    if recorded is None:
        if output is None:
            return ShardState(shard=shard, state=MISSING)
        return ShardState(shard=shard, state=DONE, output=output.path, rows=output.rows)
    files, record = recorded
    log = files.log if os.path.exists(files.log) else ""
    if output is not None:
        return ShardState(
            shard=shard,
            state=DONE,
            output=output.path,
            rows=output.rows,
            log=log,
            seconds=record.seconds or None,
        )
    if is_alive(files.record, record):
        state, ended = RUNNING, f"process {record.pid} of {record.host}"
    elif record.state == RUNNING:
        state, ended = FAILED, f"lost: process {record.pid} of {record.host} is gone"
    elif record.state == DONE:
        return ShardState(shard=shard, state=MISSING, log=log, detail="marked done")
    else:
        state, ended = FAILED, how_it_ended(record.exit_code)
    detail = ", ".join(filter(None, [f"attempt {record.attempt}", ended, last_line(files.log)]))
    return ShardState(
        shard=shard, state=state, log=log, seconds=record.seconds or None, detail=detail
    )


def how_it_ended(code: int | None) -> str:
    """`exit 1`, or `killed by signal 9`."""
    if code is not None and code < 0:
        return f"killed by signal {-code}"
    return f"exit {code}"
