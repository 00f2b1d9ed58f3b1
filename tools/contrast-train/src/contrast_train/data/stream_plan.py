"""Which rows are in which global batch where the rows are streamed: by row group and window.

An epoch passes through the row groups in a random order, in windows of neighbours in that order;
the rows of a window are dealt into batches as `batch_sampler` deals those of a whole data set.
Everything follows from the numbers of rows in the footers, so a batch is found again without
reading a row. Needs no torch.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from contrast_train.data.batch_sampler import BatchPlan, PlanSettings
from fletching.errors import InputError
from fletching.table.ragged_array import Integers, offsets_of
from fletching.train.batch_order import random_permutation

RowKey = tuple[int, int]  # epoch, row number


class StreamWindow(NamedTuple):
    """Rows that are shuffled together. name: "" for the first window of an epoch.

    groups: numbers of row groups, ascending. rows: in the order of the groups.
    """

    name: str
    groups: Integers
    rows: Integers


class StreamBatch(NamedTuple):
    """A global batch: its rows by row group; shares (n,): where in its window, 0 up to 1."""

    rows: Integers
    shares: npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class StreamPlan:
    """The global batches of a streamed run; also the batch sampler of its DataLoader.

    group_rows: rows of each row group, by the footers. window: rows that are shuffled together,
    at most, unless a row group is larger. steps: batches of the run. rank, ranks: iterating gives
    the share of this rank in each batch, which is that of its row groups. With a window over all
    rows, the batches are those of `batch_sampler.plan`.
    """

    group_rows: tuple[int, ...]
    window: int
    steps: int
    settings: PlanSettings
    rank: int = 0
    ranks: int = 1

    @property
    def rows(self) -> int:
        """Rows of the data, those included that cannot be trained."""
        return sum(self.group_rows)

    @property
    def batch(self) -> int:
        """Rows in a global batch, at most."""
        return self.settings.batch

    @property
    def most_rows(self) -> int:
        """Rows of a window, where no row group is larger."""
        return self.window + self.batch

    @property
    def epoch_steps(self) -> int:
        """Batches in the first epoch; another one may have a few more or fewer."""
        return self._steps_of(0)

    @property
    def reaches_all(self) -> bool:
        """Does a whole epoch hold every row?"""
        return not self.settings.drop_last

    def steps_of_passes(self, epochs: float) -> int:
        """The batches of so many epochs, the last of which may be cut short."""
        part, whole = math.modf(epochs)
        steps = sum(map(self._steps_of, range(int(whole))))
        return steps + math.ceil(part * self._steps_of(int(whole)))

    def _steps_of(self, epoch: int) -> int:
        return sum(map(self._batches_in, self._windows_of_groups(epoch)))

    def _batches_in(self, groups: Integers) -> int:
        rows: int = sum(self.group_rows[group] for group in groups.tolist())
        return rows // self.batch if self.settings.drop_last else -(-rows // self.batch)

    def _windows_of_groups(self, epoch: int) -> list[Integers]:
        """The row groups of each window, ascending. A last window below a batch is none."""
        order = random_permutation(len(self.group_rows), self.settings.seed, f"{epoch} row groups")
        windows: list[list[int]] = []
        rows = 0
        for group in order.tolist():
            if not windows or (rows and rows + self.group_rows[group] > self.window):
                windows.append([])
                rows = 0
            windows[-1].append(group)
            rows += self.group_rows[group]
        if rows < self.batch and len(windows) > 1:
            windows[-2:] = [windows[-2] + windows[-1]]
        return [np.sort(np.array(window, np.int64)) for window in windows]

    def windows(self, epoch: int) -> Iterator[StreamWindow]:
        """The windows of an epoch, in order."""
        starts = offsets_of(self.group_rows)
        for number, groups in enumerate(self._windows_of_groups(epoch)):
            rows = [np.arange(starts[group], starts[group + 1]) for group in groups]
            name = f"window {number}" if number else ""
            yield StreamWindow(name, groups, np.concatenate(rows))

    def _batches(self, epoch: int) -> Iterator[StreamBatch]:
        starts = offsets_of(self.group_rows)
        for window in self.windows(epoch):
            deal = BatchPlan(
                tasks=(window.name,),
                task_of_row=np.zeros(len(window.rows), np.int64),
                sizes=(len(window.rows),),
                steps=0,
                settings=self.settings,
            )
            for positions in deal.epoch(epoch):
                rows = window.rows[positions]
                groups = np.searchsorted(starts, rows, side="right") - 1
                order = np.argsort(groups, kind="stable")
                ranks = np.searchsorted(window.groups, groups[order])
                yield StreamBatch(rows[order], ranks / len(window.groups))

    def __iter__(self) -> Iterator[list[RowKey]]:
        """Batches of (epoch, row number) for all steps, this rank's share of each."""
        left = self.steps
        for epoch in itertools.count():
            for batch in itertools.islice(self._batches(epoch), left):
                left -= 1
                is_share = (batch.shares * self.ranks).astype(np.int64) == self.rank
                yield [(epoch, row) for row in batch.rows[is_share].tolist()]
            if not left:
                return

    def __len__(self) -> int:
        return self.steps

    def is_reached(self, steps: int) -> npt.NDArray[np.bool_]:
        """Which rows the first `steps` batches hold (rows,)."""
        steps = min(steps, self.steps)
        if self.reaches_all and steps >= self.epoch_steps:
            return np.ones(self.rows, bool)
        whole = dataclasses.replace(self, steps=steps, rank=0, ranks=1)
        reached = np.zeros(self.rows, bool)
        for batch in whole:
            reached[[row for _, row in batch]] = True
        return reached

    def describe(self) -> list[str]:
        """What is streamed, how it is shuffled, and how far known answers are known."""
        groups, windows = len(self.group_rows), len(self._windows_of_groups(0))
        lines = [
            f"{self.rows:,} rows streamed from {groups:,} row groups, without a copy: the groups "
            f"in random order, rows shuffled within {windows:,} windows of about "
            f"{min(self.window, self.rows):,} rows an epoch",
            "equal texts and known answers are found within a row group and within a batch",
        ]
        largest = max(self.group_rows)
        if largest > self.window:
            lines.append(
                f"the largest row group has {largest:,} rows, all of which are in memory at once"
            )
        return lines


def plan_stream(
    group_rows: tuple[int, ...],
    settings: PlanSettings,
    *,
    window: int,
    epochs: float | None = None,
    steps: int | None = None,
) -> StreamPlan:
    """The plan of a run of `steps` batches, or of `epochs` passes [1].

    Raises InputError for a plan without a batch.
    """
    plan = StreamPlan(group_rows=group_rows, window=window, steps=0, settings=settings)
    if not plan.rows:
        raise InputError("there is no row to train on", "look at what made the files")
    if not plan.epoch_steps:
        raise InputError(
            f"{plan.rows:,} rows do not fill a batch of {settings.batch}",
            "take a smaller --batch, or no --drop-last",
        )
    return dataclasses.replace(plan, steps=steps or plan.steps_of_passes(epochs or 1))
