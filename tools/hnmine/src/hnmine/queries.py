"""The rows as queries: their vectors, known answers, the scores of their positives."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import polars as pl
import pyarrow as pa

from fletching import schema, text_keys
from fletching.arrays import Keys, Numbers, Scores, Vectors
from fletching.encode import memmap_buffer
from fletching.errors import InputError
from fletching.options import Shard
from fletching.protocols import TextEncoder
from fletching.qrels import read_qrels
from fletching.report import Report
from fletching.row_columns import domain_keys, list_owners, query_keys
from fletching.table import DiskTable, KeySet, RaggedArray, row_units
from fletching.table.key_set import find_sorted
from hnmine.options import Options
from hnmine.pool import DocumentPool
from hnmine.stored_texts import Origin, hash_bytes


class RowBatches(Protocol):
    """Record batches of known columns: a `Reader`, or one whose rows are digested."""

    columns: pa.Schema

    def __iter__(self) -> Iterator[pa.RecordBatch]: ...


QueryTexts = Callable[[Numbers], list[str]]  # of rows of the shard
PAIR = {"row": pl.Int32, "candidate": pl.Int32}  # of a row of the shard and a text of the pool


class MiningRows:
    """All input rows on disk, and the units of them that this shard mines for.

    The pool is made of all rows, whatever the shard. Use it as a context manager.
    """

    def __init__(self, reader: RowBatches, report: Report, shard: Shard | None = None) -> None:
        with report.progress("reading") as progress:

            def batches() -> Iterator[pa.RecordBatch]:
                """The batches, counted as they pass."""
                for batch in reader:
                    yield batch
                    progress.advance(len(batch))

            self.table = DiskTable.from_batches(reader.columns, batches())
        units = list(row_units.split_units(self.table))
        part = shard.part(len(units)) if shard is not None else slice(0, None)
        self.units = units[part]
        earlier = units[: part.start]
        self.first_row = sum(len(unit) for unit in earlier)
        report.drop_other_shards(len(self), of=len(self.table), unit=row_units.UNIT)

    def __len__(self) -> int:
        return sum(len(unit) for unit in self.units)

    def __enter__(self) -> MiningRows:
        return self

    def __exit__(self, *failure: object) -> None:
        self.units = []
        self.table.close()

    def query_texts(self, rows: Numbers) -> list[str]:
        """The query texts of these rows of the shard."""
        queries = pa.chunked_array([unit["query"] for unit in self.units], pa.string())
        texts: list[str] = queries.take(pa.array(rows)).to_pylist()
        return texts

    def query_prompts(self, rows: Numbers) -> list[str | None]:
        """The prompts of these rows of the shard."""
        columns = [schema.column(unit, "prompt", pa.string()) for unit in self.units]
        prompts = pa.chunked_array(columns, pa.string()).take(pa.array(rows))
        texts: list[str | None] = prompts.to_pylist()
        return texts


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
    positives: pl.DataFrame  # row, candidate, score
    old_negatives: pl.DataFrame  # row, candidate: negatives that are kept
    taken: pl.DataFrame  # row, candidate: texts of the pool that equal one of them
    group_positives: RaggedArray  # pool numbers: the positives of all rows of the input, by group
    lowest_positive_scores: Scores  # (r,): of all positives of the group

    def __len__(self) -> int:
        return len(self.keys)


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
    query_vectors = memmap_buffer.store(_encoded(rows, encoder, report), encoder.dimension)
    groups = QueryGroups(rows)
    group_positives = groups.positives(pool)
    owners = group_positives.owners
    group_scores = memmap_buffer.pairwise_dot(
        left=query_vectors,
        left_rows=groups.first_rows[owners],
        right=vectors,
        right_rows=group_positives.values,
    )
    lowest = np.full(len(group_positives), np.inf, np.float32)
    np.minimum.at(lowest, owners, group_scores)
    positives = pairs_of(rows, pool, Origin.POSITIVE)
    positive_scores = memmap_buffer.pairwise_dot(
        left=query_vectors,
        left_rows=positives["row"].to_numpy(),
        right=vectors,
        right_rows=positives["candidate"].to_numpy(),
    )
    answers = _known_answers(rows.table, pool, groups.every_key, qrels=options.exclude_qrels)
    return MinedQueries(
        vectors=query_vectors,
        domains=domains_of(rows),
        keys=groups.keys,
        groups=groups.of_rows,
        first_rows=groups.first_rows,
        draw_seeds=draw_seeds_of(rows, options.seed),
        known_answers=answers,
        positives=positives.with_columns(score=pl.Series(positive_scores)),
        old_negatives=pairs_of(rows, pool, Origin.OLD_NEGATIVE),
        taken=taken_of(rows, pool),
        group_positives=group_positives,
        lowest_positive_scores=lowest[groups.of_rows],
    )


class QueryGroups:
    """The rows of a shard by query: one group for queries of a domain that are equal.

    every_key: of the query of each row of the input. keys: of those of the shard, (r,).
    of_rows: the group of each row, (r,). first_rows: the first row of each group, (g,).
    """

    def __init__(self, rows: MiningRows) -> None:
        self.every_key = _joined([query_keys(batch) for batch in rows.table])
        self.keys = self.every_key[rows.first_row : rows.first_row + len(rows)]
        self.group_keys, self.first_rows, self.of_rows = np.unique(
            self.keys, return_index=True, return_inverse=True
        )

    def __len__(self) -> int:
        return len(self.group_keys)

    def positives(self, pool: DocumentPool) -> RaggedArray:
        """The distinct positives of each group, by number, gathered over all rows of the input."""
        positives = pool.of_rows.filter(pl.col("origin") == Origin.POSITIVE)
        groups = find_sorted(self.group_keys, self.every_key[positives["row"].to_numpy()])
        of_groups = positives.select(pl.Series("group", groups), "number")
        of_shard = of_groups.filter(pl.col("group") >= 0).unique().sort("group", "number")
        numbers = of_shard["number"].to_numpy().astype(np.int64)
        owners = of_shard["group"].to_numpy()
        return RaggedArray.from_pairs(owners, numbers, len(self.group_keys))


def domains_of(rows: MiningRows) -> Keys:
    """The key of the domain of each row of the shard, (r,)."""
    return _joined([domain_keys(unit) for unit in rows.units])


def draw_seeds_of(rows: MiningRows, seed: int) -> Keys:
    """A hash of seed and row id for each row of the shard, (r,)."""
    row_ids = _joined([text_keys.hash_texts(unit["id"]) for unit in rows.units])
    return text_keys.mix(seed, row_ids)


def _encoded(rows: MiningRows, encoder: TextEncoder, report: Report) -> Iterator[Vectors]:
    """Unit vectors of the shard's queries, unit by unit."""
    with report.progress("encoding queries", len(rows)) as progress:
        for unit in rows.units:
            prompts = schema.column(unit, "prompt", pa.string()).to_pylist()
            yield encoder.encode(unit["query"].to_pylist(), "query", prompts)
            progress.advance(len(unit))


def _joined(parts: list[Keys]) -> Keys:
    return np.concatenate([np.zeros(0, np.uint64), *parts])


def pairs_of(rows: MiningRows, pool: DocumentPool, origin: Origin) -> pl.DataFrame:
    """The texts of this origin in the rows of the shard: row, candidate (the number)."""
    row = pl.col("row") - rows.first_row
    return _of_shard(rows, pool, origin).select(
        row.cast(pl.Int32), candidate=pl.col("number").cast(pl.Int32)
    )


def taken_of(rows: MiningRows, pool: DocumentPool) -> pl.DataFrame:
    """The texts of the pool that equal a negative that is kept: row, candidate."""
    row = pl.col("row") - rows.first_row
    old = _of_shard(rows, pool, Origin.OLD_NEGATIVE).drop_nulls("candidate")
    return old.select(row.cast(pl.Int32), pl.col("candidate").cast(pl.Int32))


def _of_shard(rows: MiningRows, pool: DocumentPool, origin: Origin) -> pl.DataFrame:
    row = pl.col("row") - rows.first_row
    return pool.of_rows.filter(row.is_between(0, len(rows) - 1), pl.col("origin") == origin)


def _known_answers(
    table: DiskTable, pool: DocumentPool, every_key: Keys, *, qrels: tuple[str, ...]
) -> KeySet:
    """mix(query key, text key) of queries and positives: by text, by `pos_ids`, by qrels."""
    relevant = _relevant_documents(qrels)
    queries = _joined([text_keys.hash_texts(batch["query"]) for batch in table])
    positives = pool.of_rows.filter(pl.col("origin") == Origin.POSITIVE).select("row", "key")
    ids = [pl.DataFrame(schema={"row": pl.Int64, "id_hash": pl.UInt64})]
    for first_row, batch in zip(table.offsets, table):
        for lists in _positive_ids(batch, relevant):
            columns = {
                "row": first_row + list_owners(lists),
                "id_hash": hash_bytes(lists.flatten()),
            }
            ids.append(pl.DataFrame(columns, schema=ids[0].schema))
    of_rows = pl.concat(ids)
    of_pool = pool.keys_of_ids(of_rows["id_hash"].to_numpy())
    by_id = of_rows.join(of_pool, on="id_hash").select("row", "key")
    answers = pl.concat([positives, by_id])
    query_of_answer = every_key[answers["row"].to_numpy()]
    mixed = text_keys.mix(query_of_answer, answers["key"].to_numpy())
    themselves = text_keys.mix(every_key, queries)
    return KeySet(np.concatenate([themselves, mixed]))


def _positive_ids(batch: pa.RecordBatch, relevant: dict[str, list[str]]) -> Iterator[pa.ListArray]:
    """Lists of the ids of documents that answer each row's query."""
    yield schema.column(batch, "pos_ids", batch["pos"].type)
    if relevant:
        judged = [relevant.get(name, []) for name in batch["id"].to_pylist()]
        yield pa.array(judged, pa.list_(pa.string()))


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
