"""All examples of a run on disk, in frames that are mapped one at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise

import polars as pl
import pyarrow as pa
from polars import DataFrame, Series

from csv2pairs.keys import arrow_texts, flat
from fletching.table.disk_array import DiskTexts
from fletching.table.ragged_array import offsets_of

SMALL = 1 << 30  # bytes of texts that may stay mapped all at once
TAKEN_AT_ONCE = 1 << 14  # texts, before the pages that they are on are given back


class StoredFrames:
    """Rows numbered from 0; each frame is an Arrow file, which is mapped while it is read.

    path: how the names of the files begin; their folder is the caller's to remove.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.starts = [0]  # of each frame; the last one is the number of rows

    def __len__(self) -> int:
        return self.starts[-1]

    def append(self, frame: DataFrame) -> None:
        """Add rows; an empty frame too, since a table without rows has columns."""
        table = frame.to_arrow()
        with pa.ipc.new_file(f"{self.path}.{len(self.starts) - 1}", table.schema) as file:
            file.write_table(table)
        self.starts.append(len(self) + len(frame))

    def frames(self, *columns: str, is_wanted: Series | None = None) -> Iterator[DataFrame]:
        """These of the columns, and the `number` of each row; is_wanted: of which rows, (n,)."""
        for number, (start, stop) in enumerate(pairwise(self.starts)):
            if is_wanted is not None and not is_wanted[start:stop].any():
                continue
            mapped = pa.memory_map(f"{self.path}.{number}")
            table = pa.ipc.open_file(mapped).read_all()
            names = [name for name in columns if name in table.schema.names]
            frame = DataFrame(table.select(names))
            frame = frame.with_row_index("number", offset=start)
            yield frame if is_wanted is None else frame.filter(is_wanted[start:stop])


class StoredPairs:
    """All examples of a run, the links of their rows, their splits, and what they draw.

    folder: an empty one, the caller's to remove. drawn: by column of the output that is drawn, the
    column that its texts are from.
    """

    def __init__(self, folder: str, drawn: Mapping[str, str]) -> None:
        self.examples = StoredFrames(f"{folder}/examples")
        self.links = StoredFrames(f"{folder}/links")
        self.draws = StoredFrames(f"{folder}/draws")
        self.drawn = drawn
        self.texts = {name: DrawnTexts(f"{folder}/{name}") for name in drawn.values()}
        # Of each example, (n,), once all are stored: the number of its split; is it written?
        self.splits = Series(dtype=pl.UInt32)
        self.is_kept = Series(dtype=pl.Boolean)

    def append(self, examples: DataFrame, links: DataFrame, *, at_once: int) -> None:
        """Add examples in frames of so many rows, and the links of their rows."""
        self.links.append(links)
        for frame in [*examples.iter_slices(at_once)] or [examples]:
            self.examples.append(frame)
        for name, texts in self.texts.items():
            texts.append(examples[name])

    def drawn_frames(
        self,
        *columns: str,
        is_wanted: Series,
    ) -> Iterator[tuple[DataFrame, dict[str, pa.LargeListArray]]]:
        """Those of the examples that are kept, and the lists of texts that they drew, by column."""
        is_wanted = is_wanted & self.is_kept
        draws = self.draws.frames(*self.drawn, is_wanted=is_wanted)
        for examples in self.examples.frames(*columns, is_wanted=is_wanted):
            numbers = next(draws, examples)
            lists = {
                name: self.texts[source].take_lists(numbers[name])
                for name, source in self.drawn.items()
            }
            yield examples, lists


class DrawnTexts:
    """Texts, or lists of texts, of all examples as one column on disk; drawn by their number."""

    def __init__(self, path: str) -> None:
        self.disk_texts = DiskTexts(path)
        self.texts: pa.LargeStringArray | None = None

    def append(self, column: Series) -> None:
        """Add the texts of a frame. Not after `take_lists`."""
        self.disk_texts.append(arrow_texts(flat(column)))

    def take_lists(self, lists: Series) -> pa.LargeListArray:
        """Lists of numbers of texts as lists of the texts, copied into memory."""
        if self.texts is None:
            self.texts = self.disk_texts.finish()
        numbers = lists.explode(empty_as_null=False).cast(pl.Int64)
        if self.texts.nbytes < SMALL:
            texts = self.texts.take(numbers.to_arrow())
        else:
            texts = self._take_rising(self.texts, numbers)
        offsets = pa.array(offsets_of(lists.list.len().to_numpy()))
        return pa.LargeListArray.from_arrays(offsets, texts)

    def _take_rising(self, texts: pa.LargeStringArray, numbers: Series) -> pa.LargeStringArray:
        """These texts of a large file: read from its start to its end, then put in order.

        In the order of the draws, each text would map pages of its own, again and again.
        """
        order = numbers.arg_sort()
        parts = [texts.slice(0, 0)]
        rising = numbers.gather(order).to_arrow()
        for start in range(0, len(rising), TAKEN_AT_ONCE):
            parts.append(texts.take(rising.slice(start, TAKEN_AT_ONCE)))
            self.disk_texts.release_pages()
        return pa.concat_arrays(parts).take(order.arg_sort().to_arrow())
