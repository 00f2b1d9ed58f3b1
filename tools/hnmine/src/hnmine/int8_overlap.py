"""What --dtype int8 changes in mining: the nearest texts of some queries beside float32's."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fletching.arrays import Numbers
from fletching.report import Report
from hnmine.domain_search import DomainSearch
from hnmine.pool import DocumentPool
from hnmine.queries import MiningRows
from hnmine.search import exact_finder, rank

if TYPE_CHECKING:  # torch
    from fletching.encode.int8_cost import Float32Reference

NEAREST = 10
SEARCHED = 2 * NEAREST  # nearest by int8, among which those by float32 are looked for
QUERIES = (4, 16)  # at least and at most; each has up to SEARCHED texts encoded in float32
POOL_OF_A_QUERY = 1000  # texts for each query of the sample: a percent or two of the work


def note_overlap(
    searches: list[DomainSearch],
    rows: MiningRows,
    pool: DocumentPool,
    *,
    reference: Float32Reference,
    report: Report,
) -> None:
    """Say how many of the nearest texts stay, in the largest domain of the pool."""
    largest = max(searches, key=lambda search: len(search.domain) * bool(len(search.rows)))
    if not len(largest.rows) or len(largest.domain) <= SEARCHED:
        return
    sample = _sample(largest)
    find = exact_finder(largest.queries, largest.documents, "cpu")
    by_int8 = find(sample, SEARCHED).numbers
    numbers, positions = np.unique(by_int8, return_inverse=True)
    positions = positions.reshape(by_int8.shape)  # of each among the distinct texts
    texts = pool.texts(largest.domain.first + numbers).to_pylist()
    documents = reference.encode(texts, "document")
    prompts = rows.query_prompts(sample)
    queries = reference.encode(rows.query_texts(sample), "query", prompts)
    by_float32 = rank(queries, documents, positions).numbers
    share = float(np.mean([
        len(np.intersect1d(before[:NEAREST], after[:NEAREST])) / NEAREST
        for before, after in zip(by_float32, positions)
    ]))  # fmt: skip
    report.measures["int8_overlap"] = {
        "share": round(share, 4),
        "at": NEAREST,
        "queries": len(sample),
        "pool": len(largest.domain),
    }
    report.note(
        f"--dtype int8 finds {share:.1%} of the nearest {NEAREST} texts by float32 "
        f"(on {len(sample)} queries)"
    )


def _sample(search: DomainSearch) -> Numbers:
    """Some rows of the domain, spread evenly."""
    least, most = QUERIES
    count = min(max(len(search.domain) // POOL_OF_A_QUERY, least), most, len(search.rows))
    sample: Numbers = search.rows[:: len(search.rows) // count][:count]
    return sample
