"""Names for the array types of annotations."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Keys = npt.NDArray[np.uint64]  # hashes of texts, ids, categories
Integers = npt.NDArray[np.int64]  # counts, row numbers, positions
Mask = npt.NDArray[np.bool_]
SmallIntegers = npt.NDArray[np.uint8]
