"""Which tokens are masked, and what stands in their place: a function of (seed, epoch, place in the corpus).

So a text is masked alike in whatever block, micro-batch or process it stands, and after a stop. Needs numpy alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fletching.train.batch_order import random_bits

STREAMS = ("chosen", "kind", "token")


@dataclass(frozen=True)
class Masking:
    """probability: that a token is masked. replaced: share of the masked ones that become mask_id, and share that
    become any token of the vocabulary; the rest stays as it is but is still to be predicted.

    special (ids): never masked, never put in a masked token's place.
    """

    probability: float
    replaced: tuple[float, float]
    mask_id: int
    vocabulary: int
    special: np.ndarray
    seed: int

    def apply(self, ids: np.ndarray, first: int, epoch: int | str) -> tuple[np.ndarray, np.ndarray]:
        """(masked ids, whether each is to be predicted) of one piece. ids (n,): the first one is never masked, since
        nothing stands before it. first: the number of ids[0] in the corpus."""
        places = np.arange(first, first + len(ids), dtype=np.uint64)
        chosen, kind, token = (
            uniform(self.seed, f"{epoch} {stream}", places) for stream in STREAMS
        )
        target = (chosen < self.probability) & ~np.isin(ids, self.special)
        target[0] = False
        masks, others = self.replaced
        out = np.where(target & (kind < masks), self.mask_id, ids)
        any_token = self._ordinary(
            np.minimum((token * self.vocabulary).astype(np.int64), self.vocabulary - 1)
        )
        return np.where(target & (kind >= masks) & (kind < masks + others), any_token, out), target

    def _ordinary(self, drawn: np.ndarray) -> np.ndarray:
        """Special tokens that were drawn become the mask."""
        return np.where(np.isin(drawn, self.special), self.mask_id, drawn)


def uniform(seed: int, key: str, places: np.ndarray) -> np.ndarray:
    """A number in [0, 1) for each place."""
    return (random_bits(seed, key, places) >> np.uint64(11)).astype(np.float64) * 2.0**-53
