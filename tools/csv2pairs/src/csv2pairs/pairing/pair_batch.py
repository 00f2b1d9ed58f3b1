"""Pairs of one batch of rows, with the keys by which they are split and sampled."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from csv2pairs.array_types import Integers, Keys, Mask, SmallIntegers

# Numbers of the pools that negatives come from: a column of positives draws from the same column.
ONE_POOL = 0
CATEGORY_POOL = 0xC  # the names of categories
FIRST_COLUMN_POOL = 16


@dataclass(frozen=True, kw_only=True)
class Positives:
    """The m positives of n rows, end to end: row i has the next counts[i] of them."""

    texts: pa.StringArray  # (m,)
    keys: Keys  # (m,)
    pools: SmallIntegers  # (m,): the column a positive comes from, in --mode each
    counts: Integers  # (n,)

    def filter(self, keep: Mask) -> Positives:
        """Those of some rows; keep: (n,)."""
        keep_positive = np.repeat(keep, self.counts)
        return Positives(
            texts=self.texts.filter(pa.array(keep_positive)),
            keys=self.keys[keep_positive],
            pools=self.pools[keep_positive],
            counts=self.counts[keep],
        )


@dataclass(frozen=True, kw_only=True)
class PairKeys:
    """What identifies n examples and links them to each other; ABSENT for none."""

    query: Keys  # (n,)
    links: Keys  # (n, L): examples with one in common are never each other's negatives
    id_links: Keys  # (n,): the same for ids that the user gives
    split_links: Keys  # (n, S): examples with one of these in common stay in one split too
    category_positive: Keys  # (n,): the name of the category where that is a positive
    seeds: Keys  # (n,): what the draws of an example depend on
    category: Keys  # (n,)
    domain: Keys  # (n,)

    def filter(self, keep: Mask) -> PairKeys:
        """Those of some examples; keep: (n,)."""
        return PairKeys(**{name: keys[keep] for name, keys in vars(self).items()})


@dataclass(frozen=True, kw_only=True)
class PairBatch:
    """n examples of one batch.

    In --mode group, the one positive is the text under which the row becomes a positive of others.
    """

    ids: pa.StringArray  # (n,)
    query: pa.StringArray  # (n,)
    positives: Positives
    passed: pa.RecordBatch  # (n,): domain, category and kept columns
    row_texts: pa.StringArray | None  # (n,): of --texts-template
    content: Keys  # (n,): equal for examples that say the same
    keys: PairKeys

    def __len__(self) -> int:
        return len(self.ids)

    def filter(self, keep: Mask) -> PairBatch:
        """Some of the examples; keep: (n,)."""
        if keep.all():
            return self
        rows = pa.array(keep)
        row_texts = None if self.row_texts is None else self.row_texts.filter(rows)
        return dataclasses.replace(
            self,
            ids=self.ids.filter(rows),
            query=self.query.filter(rows),
            positives=self.positives.filter(keep),
            passed=self.passed.filter(rows),
            row_texts=row_texts,
            content=self.content[keep],
            keys=self.keys.filter(keep),
        )
