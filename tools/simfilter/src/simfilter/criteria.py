"""The criteria that a positive must meet, each a named polars expression, an entry of CRITERIA.

    @criterion("--max-sim", reason=lambda options: f"above {options.max_sim:g}")
    def above(options):
        bound = options.max_sim
        return None if bound is None else pl.col("score") > bound

The expression says which positives fail; None turns the criterion off. Its columns, with one row
for each positive of a unit:

row       number of the row in its unit
positive  text
score     float32
rank      among the pool; null without --rank-within
group     key of the task or domain of --keep-top-by

A criterion with over="run" sees the positives of all rows at once, but only `score` and `group`.

A row is dropped when all its positives fail, for the reason of its best one; the reason is shown
in the account of the run and in --rejects. Of several criteria that fail, the first one registered
gives the reason, those over a unit before those over the run.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import polars as pl

from fletching.registry import Registry
from simfilter.options import Options

Scope = Literal["unit", "run"]
Failing = Callable[[Options], pl.Expr | None]
Reason = Callable[[Options], str]


@dataclass(frozen=True, kw_only=True)
class Criterion:
    """An entry of CRITERIA."""

    fails: Failing
    reason: Reason
    over: Scope


CRITERIA: Registry[Criterion] = Registry("criterion")


def criterion(name: str, *, reason: Reason, over: Scope = "unit") -> Callable[[Failing], Failing]:
    """Register a criterion."""

    def register(fails: Failing) -> Failing:
        """Add the entry; the function stays as it is."""
        CRITERIA.register(name, Criterion(fails=fails, reason=reason, over=over))
        return fails

    return register


def failures(options: Options, over: Scope) -> dict[str, pl.Expr]:
    """{reason: which positives fail} of the criteria that the options turn on."""
    expressions = {}
    for entry in CRITERIA.values():
        fails = entry.fails(options) if entry.over == over else None
        if fails is not None:
            expressions[entry.reason(options)] = fails
    return expressions


def first_that_holds(conditions: dict[str, pl.Expr], dtype: pl.Enum) -> pl.Expr:
    """The name of the first condition that holds, of this type; null where none does."""
    names = [pl.when(holds).then(pl.lit(name, dtype)) for name, holds in conditions.items()]
    return pl.coalesce(*names, pl.lit(None, dtype))


@criterion("--max-sim", reason=lambda options: f"above {options.max_sim:g}")
def above(options: Options) -> pl.Expr | None:
    """A near copy of the query; the bound itself is kept."""
    return None if options.max_sim is None else pl.col("score") > options.max_sim


@criterion("--min-sim", reason=lambda options: f"below {options.min_sim:g}")
def below(options: Options) -> pl.Expr | None:
    """Unlike the query; the bound itself is kept."""
    return None if options.min_sim is None else pl.col("score") < options.min_sim


@criterion(
    "--rank-within",
    reason=lambda options: f"not among the best {options.rank_within} of the pool",
)
def ranked_too_low(options: Options) -> pl.Expr | None:
    """Behind too many other texts of the pool."""
    return None if options.rank_within is None else pl.col("rank") > options.rank_within


def _keep_top_reason(options: Options) -> str:
    group = "" if options.keep_top_by == "all" else f" of the {options.keep_top_by}"
    return f"outside the best {options.keep_top:.0%}{group}"


@criterion("--keep-top", reason=_keep_top_reason, over="run")
def outside_top(options: Options) -> pl.Expr | None:
    """Below the best share of its group, of which at least one is kept."""
    if options.keep_top is None:
        return None
    kept = (pl.len() * options.keep_top).round().clip(lower_bound=1).cast(pl.UInt32)
    lowest_kept = pl.col("score").sort(descending=True).get(kept - 1)
    return pl.col("score") < lowest_kept.over("group")
