"""Files of `candidates`, one for each part of a pool: their stamps, and whether they fit."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from fletching import schema
from fletching.arrays import Keys, Mask
from fletching.digest import RowDigest
from fletching.errors import InputError
from fletching.io import Reader
from fletching.io.sources import resolve
from fletching.lineage import Node
from fletching.options import Shard
from fletching.report import Report
from hnmine.pool import TextFilter

COLUMNS = schema.load("candidates").arrow(
    [field.name for field in schema.load("candidates").fields]
)
PART = "part"  # what the stamp says of the part, among the options of the step
MODELS = ("model", "reranker")  # in the stamp by what they are, not by their paths
MAKE_AGAIN = "make it again: hnmine --pool-shard I/N … -o FILE.parquet"
SAME_INPUTS = "give --merge the inputs of its parts, in the same order"
ONE_RUN = "merge the parts of one run: the same inputs and options, and N parts of N"


def share_of(keys: Keys, shard: Shard) -> Mask:
    """Which texts, by the keys of the normalised texts (n,), lie in this part of a pool."""
    parts = ((keys >> np.uint64(32)) * np.uint64(shard.count)) >> np.uint64(32)
    return np.asarray(parts == shard.index)


def share_filter(shard: Shard) -> TextFilter:
    """The texts of a part, as the filter of a pool."""
    return lambda texts: share_of(texts.key, shard)


class DigestedRows:
    """A reader whose rows are digested as they pass: which input was it?"""

    def __init__(self, reader: Reader) -> None:
        self.columns: pa.Schema = reader.columns
        self._reader = reader
        self._digest = RowDigest()

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        for batch in self._reader:
            self._digest.update(batch)
            yield batch

    @property
    def digest(self) -> str:
        """Of the rows that have passed."""
        return self._digest.hexdigest()


@dataclass(frozen=True, kw_only=True)
class PoolPart:
    """What the stamp of a file says of its part."""

    shard: str  # I/N
    rows: str  # digest of the examples
    corpus: str  # digest of --corpus; empty without one
    texts: int  # in the part
    all_have_ids: bool

    def as_option(self) -> dict[str, Node]:
        """The entry among the options of the step."""
        return {PART: dataclasses.asdict(self)}


@dataclass(frozen=True, kw_only=True)
class CandidateFile:
    """One part, opened. settings: the options of its run that can change rows, and the model."""

    where: str
    reader: Reader
    version: str
    part: PoolPart
    shard: Shard
    settings: Mapping[str, Any]


def open_candidates(paths: Sequence[str], report: Report) -> list[CandidateFile]:
    """The parts of one run, in their order.

    Raises InputError for a file that is no part, and for parts of different runs, one that is
    missing and one that is there twice.
    """
    files = [_open(source.path or "-", report) for source in resolve(paths)]
    files.sort(key=lambda file: file.shard.index)
    for file in files[1:]:
        _check_same_run(files[0], file)
    _check_complete(files)
    return files


def _open(path: str, report: Report) -> CandidateFile:
    reader = Reader(report, [path], "candidates", count=False)
    node = reader.lineage_nodes[0]
    settings = dict(node.get("options", {}))
    try:
        part = PoolPart(**settings.pop(PART))
        shard = Shard.parse(part.shard)
    except (KeyError, TypeError, AttributeError):
        shard = None
    if shard is None or node.get("tool") != report.tool:
        what = f"{path} does not say which part of which pool its candidates are of"
        raise InputError(what, MAKE_AGAIN)
    return CandidateFile(
        where=path,
        reader=reader,
        version=str(node.get("version")),
        part=part,
        shard=shard,
        settings=settings,
    )


def _check_same_run(first: CandidateFile, other: CandidateFile) -> None:
    """Raise InputError where two parts are of different runs."""
    differences = {
        f"is part {other.part.shard}, and {first.where} is {first.part.shard}": (
            other.shard.count != first.shard.count
        ),
        f"was made from other rows than {first.where}": other.part.rows != first.part.rows,
        f"was made from another --corpus than {first.where}": other.part.corpus
        != first.part.corpus,
        f"was made by hnmine {other.version}, and {first.where} by {first.version}": (
            other.version != first.version
        ),
        f"was made with another model than {first.where}": (
            other.settings.get("model") != first.settings.get("model")
        ),
    }
    for what, differs in differences.items():
        if differs:
            raise InputError(f"{other.where} {what}", ONE_RUN)
    name = _different_option(first.settings, other.settings)
    if name:
        what = f"{other.where} was made with {_shown(name, other.settings)}, and {first.where} "
        raise InputError(what + f"with {_shown(name, first.settings)}", ONE_RUN)


def _check_complete(files: Sequence[CandidateFile]) -> None:
    """Raise InputError where a part is there twice or missing."""
    by_index: dict[int, CandidateFile] = {}
    for file in files:
        twin = by_index.setdefault(file.shard.index, file)
        if twin is not file:
            what = f"{twin.where} and {file.where} are both part {file.part.shard}"
            raise InputError(what, "leave one of them out")
    count = files[0].shard.count
    missing = [f"{index}/{count}" for index in range(count) if index not in by_index]
    if missing:
        more = f" and {len(missing) - 1} more parts" if len(missing) > 1 else ""
        what = f"part {missing[0]} of the pool{more} is missing among the {len(files)} files"
        raise InputError(what, f"make it: hnmine --pool-shard {missing[0]} …, or name its file")


def check_options(file: CandidateFile, options: Mapping[str, Any]) -> None:
    """Raise InputError where a merge has other options than its parts."""
    name = _different_option(file.settings, options)
    if name:
        what = f"{file.where} was made with {_shown(name, file.settings)}, and --merge has "
        raise InputError(what + _shown(name, options), "give --merge the options of its parts")


def check_has_corpus(file: CandidateFile, has_corpus: bool) -> None:
    """Raise InputError where either the parts or the merge have a --corpus."""
    if has_corpus != bool(file.part.corpus):
        parts_have = "with a --corpus" if file.part.corpus else "without a --corpus"
        has = "has one" if has_corpus else "has none"
        what = f"{file.where} was made {parts_have}, and --merge {has}"
        raise InputError(what, SAME_INPUTS)


def check_digest(file: CandidateFile, name: Literal["rows", "corpus"], digest: str) -> None:
    """Raise InputError where the parts were made from another input than the merge has."""
    if getattr(file.part, name) != digest:
        inputs = "rows" if name == "rows" else "texts of --corpus"
        raise InputError(f"{file.where} was made from other {inputs}", SAME_INPUTS)


def _different_option(left: Mapping[str, Any], right: Mapping[str, Any]) -> str | None:
    """The first option whose values differ, but for models."""
    for name in sorted({*left, *right} - set(MODELS)):
        if left.get(name) != right.get(name):
            return name
    return None


def _shown(name: str, settings: Mapping[str, Any]) -> str:
    """`--range 1-50`, or `no --limit`."""
    flag = "--" + name.replace("_", "-")
    return f"{flag} {settings[name]}" if name in settings else f"no {flag}"
