"""Milliseconds a query and texts a second of an encoder, as measured now on this machine."""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Encode = Callable[[Sequence[str]], npt.NDArray[np.float32]]

SECONDS = 3.0  # of each measurement, about, for all encoders
FEWEST = 3  # calls, however slow
MOST = 200
LONGEST_SHARE = 0.9  # quantile of the lengths: longer texts would decide the padding of a batch
BATCH = 32


@dataclass(frozen=True, kw_only=True)
class Speed:
    """Median milliseconds of one text; texts a second in batches of 32."""

    query_ms: float
    texts_per_second: float


def measure_speeds(encoders: Sequence[Encode], texts: Sequence[str]) -> list[Speed]:
    """Encode texts one by one, then in batches; the encoders in turn, so that load meets both."""
    lengths = sorted(map(len, texts))
    longest = lengths[int(LONGEST_SHARE * (len(lengths) - 1))]
    usual = [text for text in texts if len(text) <= longest]
    repeated = list(itertools.islice(itertools.cycle(usual), BATCH))
    single_seconds = _call_seconds(encoders, [[text] for text in usual])
    batch_seconds = _call_seconds(encoders, [repeated])
    return [
        Speed(
            query_ms=1000 * statistics.median(single),
            texts_per_second=BATCH / statistics.median(batch),
        )
        for single, batch in zip(single_seconds, batch_seconds)
    ]


def _call_seconds(
    encoders: Sequence[Encode], batches: Sequence[Sequence[str]]
) -> list[list[float]]:
    """Seconds of calls by encoder, in turn over the batches, after one that does not count."""
    durations: list[list[float]] = [[] for _ in encoders]
    for encode in encoders:
        encode(batches[0])
    for number, batch in enumerate(itertools.cycle(batches)):
        for encode, seconds in zip(encoders, durations):
            start = time.perf_counter()
            encode(batch)
            seconds.append(time.perf_counter() - start)
        spent = sum(map(sum, durations))
        if number + 1 >= MOST or (number + 1 >= FEWEST and spent >= SECONDS):
            break
    return durations
