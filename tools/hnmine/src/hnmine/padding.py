"""Random texts for rows that have too few negatives, under the same guards."""

from __future__ import annotations

import numpy as np

from fletching import text_keys
from fletching.table import KeySet
from hnmine.arrays import Numbers
from hnmine.guards import GuardChain, NegativeCandidates
from hnmine.pool import Domain
from hnmine.selection import ChosenNegatives, NegativeKind

ATTEMPTS = 50  # random texts looked at for a row


def pad(
    rows: Numbers, mined: ChosenNegatives, *, guards: GuardChain, domain: Domain
) -> ChosenNegatives:
    """Random texts of the domain for rows that have fewer than --negatives mined.

    rows: (w,), rising. mined: their negatives.
    """
    queries = guards.evidence.queries
    mined_counts = np.bincount(np.searchsorted(rows, mined.rows), minlength=len(rows))
    missing = guards.evidence.options.negative_count - mined_counts
    old = queries.old_negatives.take(rows)
    taken = KeySet(
        text_keys.mix(
            np.concatenate([mined.rows, rows[old.owners]]),
            np.concatenate([mined.numbers, old.values]),
        )
    )
    parts = []
    for attempt in range(ATTEMPTS):
        short = np.flatnonzero(missing)
        if not len(short):
            break
        pairs = _random_texts(rows[short], attempt, guards=guards, domain=domain)
        keys = text_keys.mix(pairs.rows, pairs.numbers)
        eligible = ~guards.without_rank(pairs) & ~taken.contains(keys)
        is_accepted = guards.in_range(pairs, eligible)
        is_accepted[is_accepted] = guards.drawn(pairs.where(is_accepted))
        parts.append(pairs.where(is_accepted))
        taken = KeySet(np.append(taken.keys, keys[is_accepted]))
        missing[short[is_accepted]] -= 1
    return ChosenNegatives(
        kind=NegativeKind.PADDING,
        rows=np.concatenate([np.zeros(0, np.int64), *(part.rows for part in parts)]),
        numbers=np.concatenate([np.zeros(0, np.int64), *(part.numbers for part in parts)]),
        scores=np.concatenate([np.zeros(0, np.float32), *(part.scores for part in parts)]),
    )


def _random_texts(
    rows: Numbers, attempt: int, *, guards: GuardChain, domain: Domain
) -> NegativeCandidates:
    """A text of the domain for each row; it depends on the row's seed and the attempt alone."""
    evidence = guards.evidence
    queries = evidence.queries
    hashes = text_keys.mix(queries.draw_seeds[rows], attempt)
    numbers = domain.first + (hashes % np.uint64(len(domain))).astype(np.int64)
    return NegativeCandidates(
        rows=rows,
        numbers=numbers,
        scores=evidence.cosines(rows, numbers),
        positive_scores=queries.lowest_positive_scores[queries.groups[rows]],
    )
