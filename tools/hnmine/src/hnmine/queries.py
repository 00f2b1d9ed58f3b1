"""The rows seen as queries: their vectors, what each must not be given, and the scores of its positives."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fletching import schema, text_keys
from fletching.encode import Encoder, memmap_buffer
from fletching.errors import InputError
from fletching.report import Report
from hnmine.pool import Pool, Spool, domain_keys


@dataclass
class Lists:
    """A list of pool numbers for each of r rows, end to end."""

    numbers: np.ndarray  # int64 (sum of lengths,)
    offsets: np.ndarray  # int64 (r + 1,)

    @property
    def rows(self) -> np.ndarray:
        return np.repeat(np.arange(len(self.offsets) - 1), np.diff(self.offsets))

    def of(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(i, number) of every item of rows[i]."""
        first, count = self.offsets[rows], self.offsets[rows + 1] - self.offsets[rows]
        places = np.repeat(first - (count.cumsum() - count), count) + np.arange(count.sum())
        return np.repeat(np.arange(len(rows)), count), self.numbers[places]


@dataclass
class Queries:
    """r rows in g groups; a group is the rows of one domain whose queries are equal after normalisation."""

    vectors: np.ndarray  # float32 (r, D)
    domains: np.ndarray  # uint64 (r,)
    draws: np.ndarray  # uint64 (r,): hash of (seed, row id)
    names: np.ndarray  # uint64 (r,): key of query and domain, to ask `own`
    group: np.ndarray  # int64 (r,)
    own: (
        np.ndarray
    )  # uint64, sorted: mix(name, text key) of each known positive and of the query itself
    positives: Lists  # of the rows, in their order
    merged: Lists  # of the groups: the positives of every row of the input with this query
    old: Lists  # negatives that stay, of the rows
    pos_scores: np.ndarray  # float32, aligned with positives.numbers
    floor: np.ndarray  # float32 (g,): the lowest score of a positive

    def knows(self, rows: np.ndarray, keys: np.ndarray) -> np.ndarray:
        """Is each text (len(rows), k) a positive of the row's query, or the query itself?"""
        asked = text_keys.mix(self.names[rows][:, None], keys)
        places = np.searchsorted(self.own, asked)
        return self.own[np.minimum(places, len(self.own) - 1)] == asked


def queries_of(
    spool: Spool,
    pool: Pool,
    vectors: np.ndarray,
    encoder: Encoder,
    keep_neg: bool,
    qrels: tuple[str, ...],
    seed: int,
    report: Report,
) -> Queries:
    """The rows of the shard as queries; positives are merged over all rows of the input."""
    held = memmap_buffer.allocate(int(spool.starts[-1]), encoder.dimension)
    with report.progress("encoding queries", len(held)) as progress:
        for unit, start in zip(spool.units, spool.starts.tolist()):
            prompts = schema.column(unit, "prompt", pa.string()).to_pylist()
            held[start : start + len(unit)] = encoder.encode(
                unit["query"].to_pylist(), "query", prompts
            )
            progress.advance(len(unit))
    domains = _joined([domain_keys(unit) for unit in spool.units])
    names = _joined(
        [
            text_keys.mix(text_keys.hash_texts(unit["query"]), domain_keys(unit))
            for unit in spool.units
        ]
    )
    _, first, group = np.unique(names, return_index=True, return_inverse=True)
    positives = _lists(spool.units, pool, "pos")
    old = _lists(spool.units if keep_neg else [], pool, "neg", len(names))
    pos_scores = memmap_buffer.pairwise_dot(held, positives.rows, vectors, positives.numbers)
    merged = _merged(spool, pool, names[first])
    floor = np.full(len(first), np.inf, np.float32)
    owners = merged.rows
    np.minimum.at(
        floor, owners, memmap_buffer.pairwise_dot(held, first[owners], vectors, merged.numbers)
    )
    draws = _joined([text_keys.mix(seed, text_keys.hash_texts(unit["id"])) for unit in spool.units])
    own = _own(spool, pool, qrels)
    return Queries(
        held, domains, draws, names, group, own, positives, merged, old, pos_scores, floor
    )


def _joined(parts: list[np.ndarray]) -> np.ndarray:
    return np.concatenate(parts or [np.zeros(0, np.uint64)])


def _lists(batches: list[pa.RecordBatch], pool: Pool, name: str, rows: int = 0) -> Lists:
    numbers, counts = [np.zeros(0, np.int64)], [np.zeros(rows if not batches else 0, np.int64)]
    for batch in batches:
        lists = schema.column(batch, name, batch["pos"].type)
        counts.append(pc.fill_null(pc.list_value_length(lists), 0).to_numpy().astype(np.int64))
        numbers.append(pool.find(lists.flatten(), np.repeat(domain_keys(batch), counts[-1])))
    return Lists(np.concatenate(numbers), np.concatenate([[0], np.concatenate(counts).cumsum()]))


def _merged(spool: Spool, pool: Pool, wanted: np.ndarray) -> Lists:
    """The distinct positives of each name of `wanted` (sorted), gathered over all rows."""
    groups, numbers = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for batch in spool.batches:
        domains, row = domain_keys(batch), pc.list_parent_indices(batch["pos"]).to_numpy()
        names = text_keys.mix(text_keys.hash_texts(batch["query"]), domains)
        place = np.minimum(np.searchsorted(wanted, names), max(len(wanted) - 1, 0))
        mine = (wanted[place] == names if len(wanted) else np.zeros(len(names), bool))[row]
        groups.append(place[row][mine])
        numbers.append(pool.find(batch["pos"].flatten(), domains[row])[mine])
    pairs = np.unique(np.stack([np.concatenate(groups), np.concatenate(numbers)], 1), axis=0)
    return Lists(pairs[:, 1], np.searchsorted(pairs[:, 0], np.arange(len(wanted) + 1)))


def _own(spool: Spool, pool: Pool, qrels: tuple[str, ...]) -> np.ndarray:
    """mix(name, text key) of what is positive for a query: by text, by `pos_ids`, by a judgement."""
    found = []
    judged = _judgements(qrels)
    for batch in spool.batches:
        query = text_keys.hash_texts(batch["query"])
        names, row = (
            text_keys.mix(query, domain_keys(batch)),
            pc.list_parent_indices(batch["pos"]).to_numpy(),
        )
        found += [
            text_keys.mix(names, query),
            text_keys.mix(names[row], text_keys.hash_texts(batch["pos"].flatten())),
        ]
        ids = schema.column(batch, "pos_ids", batch["pos"].type)
        if ids.null_count < len(ids):
            item, keys = pool.with_id(ids.flatten())
            found.append(text_keys.mix(names[pc.list_parent_indices(ids).to_numpy()[item]], keys))
        if judged:
            pairs = [
                (i, document)
                for i, name in enumerate(batch["id"].to_pylist())
                for document in judged.get(name, ())
            ]
            item, keys = pool.with_id(pa.array([document for _, document in pairs], pa.string()))
            found.append(
                text_keys.mix(names[np.array([i for i, _ in pairs], np.int64)[item]], keys)
            )
    return np.unique(_joined(found))


def _judgements(files: tuple[str, ...]) -> dict[str, list[str]]:
    """The documents that BEIR's qrels (query-id, corpus-id, score; tabs) call relevant: score above 0."""
    relevant: dict[str, list[str]] = {}
    for path in files:
        try:
            with open(path, encoding="utf-8") as file:
                for number, line in enumerate(file, 1):
                    cells = line.rstrip("\r\n").split("\t")
                    if number == 1 and len(cells) == 3 and not _is_number(cells[2]):
                        continue  # the header
                    if len(cells) != 3 or not _is_number(cells[2]):
                        raise InputError(
                            f"--exclude-qrels {path}, line {number:,}: no `query-id<TAB>corpus-id<TAB>score`: {line.rstrip()[:60]!r}",
                            "give BEIR's qrels/*.tsv",
                        )
                    if float(cells[2]) > 0:
                        relevant.setdefault(cells[0], []).append(cells[1])
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(
                f"--exclude-qrels {path} cannot be read: {getattr(error, 'strerror', None) or error}",
                "check the path",
            ) from None
    return relevant


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
