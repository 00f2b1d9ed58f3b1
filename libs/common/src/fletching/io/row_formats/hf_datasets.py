"""Folders of `save_to_disk` of Hugging Face `datasets`: one split, or several in folders.

A saved split is Arrow streams named by its state.json. Of several splits, train is read; the
folder of another may be named itself.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator

import pyarrow as pa

from fletching.errors import InputError
from fletching.io.opening import open_rows
from fletching.io.row_formats.collection_files import new_folder
from fletching.io.row_formats.judged_rows import choose_split
from fletching.io.row_formats.row_format import Batches, RowFormat, WriteAccount, register
from fletching.io.sources import Source
from fletching.lineage import Node
from fletching.protocols import RowSource
from fletching.schema import Schema
from fletching.table import atomic

STATE = "state.json"
SPLITS = "dataset_dict.json"
INFO = "dataset_info.json"
SHARD = "data-00000-of-00001.arrow"


class SavedDataset:
    """A folder that `save_to_disk` wrote."""

    def matches(self, path: str) -> bool:
        """Does the folder hold the state of a split, or the list of its splits?"""
        return any(os.path.isfile(os.path.join(path, name)) for name in (STATE, SPLITS))

    def open(self, path: str, schema: Schema) -> RowSource:
        """The rows of the split, or of train. Raises InputError."""
        notes = []
        if not os.path.exists(os.path.join(path, STATE)):
            splits = sorted(_names(path, SPLITS, _read(path, SPLITS).get("splits")))
            split = choose_split(path, splits, f"name one: {path}/SPLIT")
            notes.append(f"{path} is a saved data set of {len(splits)} splits: reading {split}")
            path = os.path.join(path, split)
        entries = _read(path, STATE).get("_data_files")
        listed = entries if isinstance(entries, list) else [None]
        names = [each.get("filename") if isinstance(each, dict) else None for each in listed]
        files = _names(path, STATE, names)
        if not files:
            raise InputError(f"{path} is a saved data set without a file", "save it again")
        return ShardedRows([os.path.join(path, name) for name in files], schema, notes)


def _read(folder: str, name: str) -> Node:
    path = os.path.join(folder, name)
    try:
        with open(path, encoding="utf-8") as file:
            content: Node = json.load(file)
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} cannot be read ({error})", "save the data set again") from None
    if not isinstance(content, dict):
        raise InputError(f"{path} is no object", "save the data set again")
    return content


def _names(folder: str, file: str, names: object) -> list[str]:
    """Names of files or folders inside the data set. Raises InputError for any other path."""
    inside: list[str] = []
    for name in names if isinstance(names, list) else [None]:
        if not (isinstance(name, str) and _is_inside(name)):
            where = os.path.join(folder, file)
            raise InputError(
                f"{where} names {str(name)[:60]!r}, which is no file beside it",
                "save the data set again",
            )
        inside.append(name)
    return inside


def _is_inside(name: str) -> bool:
    is_name = name not in ("", ".", "..") and "\0" not in name
    return is_name and os.path.basename(name) == name


class ShardedRows:
    """The rows of files with the same columns, one after another. notes: for the user."""

    def __init__(self, paths: list[str], schema: Schema, notes: list[str]) -> None:
        self.paths, self.known, self.notes = paths, schema, notes
        self.first = open_rows(Source(paths[0], paths[0]), schema)
        self.where = paths[0]
        self.schema = self.first.schema

    @property
    def lineage_node(self) -> Node:
        """Of the first file."""
        return self.first.lineage_node

    @property
    def ends(self) -> list[Node]:
        """Of the first file."""
        return self.first.ends

    def batches(self) -> Iterator[tuple[pa.Schema, pa.RecordBatch]]:
        """The batches of all files. Raises InputError on damage."""
        for _, batch in self.first.batches():
            yield self.schema, batch
        for path in self.paths[1:]:
            self.where = path
            for _, batch in open_rows(Source(path, path), self.known).batches():
                yield self.schema, batch


def _from_examples(batches: Batches, path: str) -> WriteAccount:
    """All columns under our names, as one split that `load_from_disk` reads."""
    account = WriteAccount()
    with new_folder(path) as folder:
        columns: pa.Schema | None = None
        with pa.OSFile(os.path.join(folder, SHARD), "wb") as file:
            writer: pa.RecordBatchWriter | None = None
            for batch in batches:
                columns = columns or batch.schema.remove_metadata()
                writer = writer or pa.ipc.new_stream(file, columns)
                writer.write_batch(pa.RecordBatch.from_arrays(batch.columns, schema=columns))
                account.rows += batch.num_rows
            if writer is None:
                raise InputError("there is no row to write", "give it rows")
            writer.close()
        state: Node = {
            "_data_files": [{"filename": SHARD}],
            "_fingerprint": "0" * 16,
            "_format_columns": None,
            "_format_kwargs": {},
            "_format_type": None,
            "_output_all_columns": False,
            "_split": "train",
        }
        info = {"citation": "", "description": "", "homepage": "", "license": ""}
        for name, content in ((STATE, state), (INFO, info)):
            atomic.write_text(os.path.join(folder, name), json.dumps(content, indent=2) + "\n")
    account.records = account.rows
    return account


register(
    RowFormat(
        name="hf-datasets",
        summary="folder of `datasets.save_to_disk`",
        columns="the columns of any other row format",
        becomes="what its columns are in that format",
        folder=SavedDataset(),
        from_examples=_from_examples,
    )
)
