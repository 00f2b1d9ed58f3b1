"""The criteria that a positive must meet, each an entry of CRITERIA.

    @criterion("--max-sim", reason=lambda options: f"above {options.max_sim:g}")
    def above(unit, options):
        bound = options.max_sim
        return None if bound is None else unit.scores > np.float32(bound)

The function returns which of the p positives of a unit fail, or None where the options turn it
off. A row is dropped when all its positives fail, for the reason of its best one; the reason is
shown in the account of the run and in --rejects. Of several criteria that fail, the first one
registered gives the reason.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fletching.registry import Registry
from simfilter.arrays import Mask, Numbers, Scores
from simfilter.options import Options

MET = -1  # in place of the number of a criterion


@dataclass(frozen=True, kw_only=True)
class ScoredUnit:
    """Rows with what is known of their p positives, end to end."""

    rows: pa.RecordBatch
    scores: Scores  # (p,)
    ranks: Numbers | None  # (p,): in the pool
    lowest_kept: Scores | None = None  # (p,): the lowest score that --keep-top keeps


Failing = Callable[[ScoredUnit, Options], Mask | None]
Reason = Callable[[Options], str]


@dataclass(frozen=True, kw_only=True)
class Criterion:
    """An entry of CRITERIA."""

    fails: Failing
    reason: Reason


CRITERIA: Registry[Criterion] = Registry("criterion")


def criterion(name: str, *, reason: Reason) -> Callable[[Failing], Failing]:
    """Register a criterion."""

    def register(fails: Failing) -> Failing:
        """Add the entry; the function stays as it is."""
        CRITERIA.register(name, Criterion(fails=fails, reason=reason))
        return fails

    return register


def first_failed(unit: ScoredUnit, options: Options) -> npt.NDArray[np.int8]:
    """The number of the first criterion in CRITERIA that each positive fails, or MET, (p,)."""
    failed = np.full(len(unit.scores), MET, np.int8)
    for number, entry in enumerate(CRITERIA.values()):
        fails = entry.fails(unit, options)
        if fails is not None:
            failed[fails & (failed == MET)] = number
    return failed


def reason_of(number: int, options: Options) -> str:
    """Why a positive was dropped that failed criterion `number`."""
    return list(CRITERIA.values())[number].reason(options)


@criterion("--max-sim", reason=lambda options: f"above {options.max_sim:g}")
def above(unit: ScoredUnit, options: Options) -> Mask | None:
    """A near copy of the query; the bound itself is kept."""
    bound = options.max_sim
    return None if bound is None else unit.scores > np.float32(bound)


@criterion("--min-sim", reason=lambda options: f"below {options.min_sim:g}")
def below(unit: ScoredUnit, options: Options) -> Mask | None:
    """Unlike the query; the bound itself is kept."""
    bound = options.min_sim
    return None if bound is None else unit.scores < np.float32(bound)


@criterion(
    "--rank-within",
    reason=lambda options: f"not among the best {options.rank_within} of the pool",
)
def ranked_too_low(unit: ScoredUnit, options: Options) -> Mask | None:
    """Behind too many other texts of the pool."""
    if options.rank_within is None or unit.ranks is None:
        return None
    return unit.ranks > options.rank_within


def _keep_top_reason(options: Options) -> str:
    group = "" if options.keep_top_by == "all" else f" of the {options.keep_top_by}"
    return f"outside the best {options.keep_top:.0%}{group}"


@criterion("--keep-top", reason=_keep_top_reason)
def outside_top(unit: ScoredUnit, options: Options) -> Mask | None:
    """Below the best share of its group."""
    if unit.lowest_kept is None:
        return None
    return unit.scores < unit.lowest_kept
