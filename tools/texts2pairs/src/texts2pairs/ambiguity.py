"""Queries that several sections or texts answer: they would teach that one of them is wrong."""

from __future__ import annotations

from array import array

import numpy as np
import xxhash

from fletching.table import KeySet
from fletching.text import normalise


def query_key(query: str) -> int:
    """xxh3-64 of the normalised query."""
    return xxhash.xxh3_64_intdigest(normalise(query).encode())


class QueryOwners:
    """Which queries belong to one owner alone. 16 bytes for each query that is added."""

    def __init__(self) -> None:
        self.queries = array("Q")
        self.owners = array("Q")

    def add(self, query: str, owner: str) -> None:
        """A query of a section or text."""
        self.queries.append(query_key(query))
        self.owners.append(xxhash.xxh3_64_intdigest(owner.encode()))

    def ambiguous(self) -> KeySet:
        """The keys of queries with more than one owner."""
        pairs = np.stack([np.array(self.queries, np.uint64), np.array(self.owners, np.uint64)])
        distinct = np.unique(pairs, axis=1)
        keys, counts = np.unique(distinct[0], return_counts=True)
        return KeySet(keys[counts > 1])
