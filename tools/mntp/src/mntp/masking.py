"""Which tokens are masked, and what replaces them.

A function of (seed, epoch, position in the corpus): a text is masked alike in whatever block,
micro-batch or process it is trained, and after a resume. Needs numpy alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fletching.train.batch_order import random_bits

Ids = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

STREAMS = ("chosen", "kind", "token")  # one independent random number of each for every token


@dataclass(frozen=True, kw_only=True)
class TokenMasking:
    """The masking of BERT (Devlin et al. 2019), for tokens of a decoder.

    probability: that a token is masked.
    replaced: of the masked tokens, the fraction that becomes `mask_id`, and the fraction that
    becomes a random token of the vocabulary; the rest keeps its id but is still predicted.
    special: ids that are never masked and never replace a masked token.
    first: may the first token be masked? Not where the state before a token predicts it.
    """

    probability: float
    replaced: tuple[float, float]
    mask_id: int
    vocabulary: int
    special: Ids
    seed: int
    first: bool = False

    def apply(self, ids: Ids, *, position: int, epoch: int | str) -> tuple[Ids, Flags]:
        """(ids with masks, which tokens are to be predicted) of one piece, (n,) each.

        position: that of ids[0] in the corpus.
        """
        positions = np.arange(position, position + len(ids), dtype=np.uint64)
        chosen, kind, token = (
            uniform(self.seed, f"{epoch} {stream}", positions) for stream in STREAMS
        )
        is_target = (chosen < self.probability) & ~np.isin(ids, self.special)
        is_target[0] &= self.first

        mask_fraction, random_fraction = self.replaced
        becomes_mask = is_target & (kind < mask_fraction)
        becomes_random = (
            is_target & (kind >= mask_fraction) & (kind < mask_fraction + random_fraction)
        )
        masked = np.where(becomes_mask, self.mask_id, ids)
        return np.where(becomes_random, self._random_ids(token), masked), is_target

    def _random_ids(self, numbers: npt.NDArray[np.float64]) -> Ids:
        """Ids by numbers in [0, 1); the mask where the id is special."""
        ids = (numbers * self.vocabulary).astype(np.int64)
        ids = np.minimum(ids, self.vocabulary - 1)
        return np.where(np.isin(ids, self.special), self.mask_id, ids)


def uniform(seed: int, key: str, positions: npt.NDArray[np.uint64]) -> npt.NDArray[np.float64]:
    """A number in [0, 1) for each position."""
    bits = random_bits(seed, key, positions) >> np.uint64(11)
    return bits.astype(np.float64) * 2.0**-53
