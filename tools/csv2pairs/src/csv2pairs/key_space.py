"""Numbers that keep hashes of different kinds of things apart."""

from __future__ import annotations

from enum import IntEnum

import numpy as np

from csv2pairs.array_types import Keys
from fletching import text_keys


class KeySpace(IntEnum):
    """What a key is the hash of, mixed into it, so that an id never equals a query.

    Seeds of draws and splits depend on these numbers: another number gives other rows.
    """

    GROUP_POSITIVES = 0x905  # draws of positives in --mode group, independent of the negatives
    SPLIT = 0x5B117  # the position of a component among the splits
    SPLIT_BY = 0x590  # the first column of --split-by; the next one is one higher
    ROW_TEXT = 0x7E  # the text of --texts-template
    CATEGORY = 0xCA
    ID = 0x1D


def move_keys(keys: Keys, space: int) -> Keys:
    """Keys of texts (n,) as keys of another space; ABSENT stays."""
    moved: Keys = text_keys.mix(space, keys)
    return np.where(keys == text_keys.ABSENT, text_keys.ABSENT, moved)
