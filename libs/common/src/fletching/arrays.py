"""The array types that numeric code names."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.int64]  # of rows, or of texts
Keys = npt.NDArray[np.uint64]  # of texts, domains, queries
Vectors = npt.NDArray[np.float32]  # (n, D), of unit length
Scores = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
