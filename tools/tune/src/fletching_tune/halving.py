"""Successive halving: many recipes for a short time, the better half for twice as long, and on.

Karnin, Koren and Somekh 2013; Jamieson and Talwalkar 2016 (arXiv 1502.07943). A rung trains from
the base with a schedule of its full length, so that every model of it is a candidate.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Rung:
    """So many recipes for so many updates."""

    recipes: int
    updates: int


def ladder(recipes: int, updates: int, *, fewest: int) -> tuple[Rung, ...]:
    """Rungs for so many recipes, of which the last trains one for `updates`.

    fewest: updates of the shortest rung, which takes all recipes that are left: none is repeated
    for as long.

    >>> [(rung.recipes, rung.updates) for rung in ladder(7, 160, fewest=40)]
    [(7, 40), (2, 80), (1, 160)]
    """
    rungs = [Rung(1, updates)]
    while rungs[0].recipes < recipes:
        half = rungs[0].updates // 2
        is_shortest = half < 2 * fewest
        wider = recipes if is_shortest else min(recipes, rungs[0].recipes * 2)
        rungs.insert(0, Rung(wider, max(half, min(fewest, updates))))
    return tuple(rungs)


def survivors(gains: dict[str, float], count: int) -> list[str]:
    """The names with the largest gains, the earlier one first where they are equal."""
    return sorted(gains, key=lambda name: -gains[name])[:count]
