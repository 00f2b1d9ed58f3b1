"""The rows as queries: vectors, known answers, scores of their positives."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import polars as pl
import pyarrow as pa

from fletching import schema, text_keys
from fletching.encode import memmap_buffer
from fletching.errors import InputError
from fletching.protocols import TextEncoder
from fletching.qrels import read_qrels
from fletching.report import Report
from fletching.table import KeySet, RaggedArray
from fletching.table.key_set import find_sorted
from hnmine.arrays import Keys, Mask, Numbers, Scores, Vectors
from hnmine.mining_rows import MiningRows, domain_keys, list_lengths, list_owners, query_keys
from hnmine.options import Options
from hnmine.pool import DocumentPool


@dataclass(frozen=True, kw_only=True)
class MinedQueries:
    """r rows in g groups: rows of one domain whose queries are equal after normalisation."""

    vectors: Vectors  # (r, D)
    domains: Keys  # (r,)
    keys: Keys  # (r,): of the query in its domain
    groups: Numbers  # (r,)
    first_rows: Numbers  # (g,): the first row of each group
    draw_seeds: Keys  # (r,): hash of seed and row id
    known_answers: KeySet  # mix(query key, text key) of each positive, and of the query itself
    positives: RaggedArray  # pool numbers, a list for each row
    positive_scores: Scores  # aligned with positives.values
    old_negatives: RaggedArray  # pool numbers of negatives that are kept, a list for each row
    group_positives: RaggedArray  # pool numbers: the positives of all rows of the input, by group
    lowest_positive_scores: Scores  # (g,)

    def __len__(self) -> int:
        return len(self.keys)

    @functools.cached_property
    def old_negatives_frame(self) -> pl.DataFrame:
        """The negatives that are kept: row, candidate."""
        return _pairs_frame(self.old_negatives)

    @functools.cached_property
    def positives_frame(self) -> pl.DataFrame:
        """The positives of each row: row, candidate."""
        return _pairs_frame(self.positives)

    def are_known_answers(self, rows: Numbers, keys: Keys) -> Mask:
        """Is each text a positive of the row's query, or the query? `rows` and `keys` broadcast."""
        return self.known_answers.contains(text_keys.mix(self.keys[rows], keys))


def build_queries(
    rows: MiningRows,
    pool: DocumentPool,
    vectors: Vectors,
    *,
    encoder: TextEncoder,
    options: Options,
    report: Report,
) -> MinedQueries:
    """The shard's rows as queries; what is known of a query is gathered over all rows of the input.

    vectors: of the pool, (pool.vectors_needed, D).
    """
    query_vectors = _encoded_queries(rows, encoder, report)
    keys = _joined([query_keys(unit) for unit in rows.units])
    group_keys, first_rows, groups = np.unique(keys, return_index=True, return_inverse=True)
    positives = _pool_lists(rows.units, pool, "pos")
    if options.keep_neg:
        old_negatives = _pool_lists(rows.units, pool, "neg")
    else:
        old_negatives = RaggedArray.from_lengths(np.zeros(0, np.int64), np.zeros(len(rows), int))
    group_positives = _positives_of_groups(rows, pool, group_keys)
    owners = group_positives.owners
    lowest = np.full(len(group_keys), np.inf, np.float32)
    group_scores = memmap_buffer.pairwise_dot(
        left=query_vectors,
        left_rows=first_rows[owners],
        right=vectors,
        right_rows=group_positives.values,
    )
    np.minimum.at(lowest, owners, group_scores)
    row_ids = [text_keys.hash_texts(unit["id"]) for unit in rows.units]
    return MinedQueries(
        vectors=query_vectors,
        domains=_joined([domain_keys(unit) for unit in rows.units]),
        keys=keys,
        groups=groups,
        first_rows=first_rows,
        draw_seeds=text_keys.mix(options.seed, _joined(row_ids)),
        known_answers=_known_answers(rows, pool, options.exclude_qrels),
        positives=positives,
        positive_scores=memmap_buffer.pairwise_dot(
            left=query_vectors,
            left_rows=positives.owners,
            right=vectors,
            right_rows=positives.values,
        ),
        old_negatives=old_negatives,
        group_positives=group_positives,
        lowest_positive_scores=lowest,
    )


def _pairs_frame(numbers: RaggedArray) -> pl.DataFrame:
    """Pool numbers, a list for each row, as pairs: row, candidate."""
    pairs = {"row": numbers.owners, "candidate": numbers.values}
    return pl.DataFrame(pairs, schema={"row": pl.Int32, "candidate": pl.Int32})


def _encoded_queries(rows: MiningRows, encoder: TextEncoder, report: Report) -> Vectors:
    """Unit vectors of the shard's queries, (r, D), mapped from disk."""
    vectors = memmap_buffer.allocate(len(rows), encoder.dimension)
    with report.progress("encoding queries", len(rows)) as progress:
        for start, unit in rows.numbered_units():
            prompts = schema.column(unit, "prompt", pa.string()).to_pylist()
            texts = unit["query"].to_pylist()
            vectors[start : start + len(unit)] = encoder.encode(texts, "query", prompts)
            progress.advance(len(unit))
    return vectors


def _joined(parts: list[Keys]) -> Keys:
    return np.concatenate([np.zeros(0, np.uint64), *parts])


def _pool_lists(batches: list[pa.RecordBatch], pool: DocumentPool, name: str) -> RaggedArray:
    """The pool numbers of the texts in a list column."""
    numbers = [np.zeros(0, np.int64)]
    lengths = [np.zeros(0, np.int64)]
    for batch in batches:
        lists = schema.column(batch, name, batch["pos"].type)
        lengths.append(list_lengths(lists))
        domains = np.repeat(domain_keys(batch), lengths[-1])
        numbers.append(pool.numbers_of(lists.flatten(), domains))
    return RaggedArray.from_lengths(np.concatenate(numbers), np.concatenate(lengths))


def _positives_of_groups(rows: MiningRows, pool: DocumentPool, group_keys: Keys) -> RaggedArray:
    """The distinct positives of each group, by number, gathered over all rows of the input."""
    parts = [pl.DataFrame(schema={"group": pl.Int64, "number": pl.Int64})]
    for batch in rows.table:
        owners = list_owners(batch["pos"])
        groups = find_sorted(group_keys, query_keys(batch))[owners]
        numbers = pool.numbers_of(batch["pos"].flatten(), domain_keys(batch)[owners])
        parts.append(pl.DataFrame({"group": groups, "number": numbers}, schema=parts[0].schema))
    of_shard = pl.concat(parts).filter(pl.col("group") >= 0)
    group, number = of_shard.unique().sort("group", "number").get_columns()
    return RaggedArray.from_pairs(group.to_numpy(), number.to_numpy(), len(group_keys))


def _known_answers(rows: MiningRows, pool: DocumentPool, qrels: tuple[str, ...]) -> KeySet:
    """mix(query key, text key) of queries and positives: by text, by `pos_ids`, by qrels."""
    relevant = _relevant_documents(qrels)
    answers = [np.zeros(0, np.uint64)]
    for batch in rows.table:
        keys = query_keys(batch)
        positives = text_keys.hash_texts(batch["pos"].flatten())
        answers.append(text_keys.mix(keys, text_keys.hash_texts(batch["query"])))
        answers.append(text_keys.mix(keys[list_owners(batch["pos"])], positives))
        for owners, ids in _positive_ids(batch, relevant):
            texts = pool.keys_with_ids(ids)
            answers.append(text_keys.mix(keys[owners][texts.owners], texts.values))
    return KeySet(np.concatenate(answers))


def _positive_ids(
    batch: pa.RecordBatch, relevant: dict[str, list[str]]
) -> Iterator[tuple[Numbers, pa.Array]]:
    """(row of each id, ids of documents that answer its query)."""
    ids = schema.column(batch, "pos_ids", batch["pos"].type)
    if ids.null_count < len(ids):
        yield list_owners(ids), ids.flatten()
    if relevant:
        judged = [relevant.get(name, []) for name in batch["id"].to_pylist()]
        lists = pa.array(judged, pa.list_(pa.string()))
        yield list_owners(lists), lists.flatten()


def _relevant_documents(files: tuple[str, ...]) -> dict[str, list[str]]:
    """The document ids that qrels files judge relevant (grade above 0), by query id."""
    relevant: dict[str, list[str]] = {}
    for path in files:
        try:
            grades = read_qrels(path)
        except InputError as error:
            raise InputError(f"--exclude-qrels: {error.what}", error.fix) from None
        for query, documents in grades.items():
            positive = [document for document, grade in documents.items() if grade > 0]
            relevant.setdefault(query, []).extend(positive)
    return relevant
