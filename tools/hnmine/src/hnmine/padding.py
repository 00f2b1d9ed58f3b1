"""Random texts for rows that have too few negatives, under the same guards."""

from __future__ import annotations

import numpy as np
import polars as pl

from fletching import text_keys
from hnmine.arrays import Numbers
from hnmine.guards import GuardChain
from hnmine.pool import Domain
from hnmine.selection import NegativeKind, with_kind

ATTEMPTS = 50  # random texts looked at for a row
PAIR = ["row", "candidate"]


def pad(rows: Numbers, mined: pl.DataFrame, *, guards: GuardChain, domain: Domain) -> pl.DataFrame:
    """Random texts of the domain for rows that have fewer than --negatives mined.

    rows: (w,), of the domain. mined: the negatives of all rows.
    """
    evidence = guards.evidence
    missing = pl.DataFrame({"row": pl.Series(rows, dtype=pl.Int32)}).join(
        mined.group_by("row").len(), on="row", how="left", maintain_order="left"
    )
    is_short = pl.col("len").fill_null(0) < evidence.options.negative_count
    missing = missing.filter(is_short)
    taken = pl.concat([mined.select(PAIR), evidence.queries.old_negatives_frame])
    padding = [with_kind(mined.clear(), NegativeKind.PADDING)]
    for attempt in range(ATTEMPTS):
        if not missing.height:
            break
        pairs = _random_texts(missing["row"].to_numpy(), attempt, guards=guards, domain=domain)
        pairs = guards.with_rejections(pairs).filter(pl.col("rejected_by").is_null())
        pairs = pairs.join(taken, on=PAIR, how="anti", maintain_order="left")
        accepted = guards.passed(guards.passed(pairs, "range"), "draw")
        padding.append(with_kind(accepted, NegativeKind.PADDING))
        taken = pl.concat([taken, accepted.select(PAIR)])
        is_accepted = pl.col("row").is_in(accepted["row"].implode())
        missing = missing.with_columns(pl.col("len").fill_null(0) + is_accepted).filter(is_short)
    return pl.concat(padding)


def _random_texts(
    rows: Numbers, attempt: int, *, guards: GuardChain, domain: Domain
) -> pl.DataFrame:
    """A text of the domain for each row; it depends on the row's seed and the attempt alone."""
    evidence = guards.evidence
    hashes = text_keys.mix(evidence.queries.draw_seeds[rows], attempt)
    numbers = domain.first + (hashes % np.uint64(len(domain))).astype(np.int64)
    return evidence.candidates(rows, numbers, evidence.cosines(rows, numbers))
