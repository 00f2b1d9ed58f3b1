"""From vectors to negatives: search, take out what is positive, guard, choose."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fletching import draw, keys, schema
from fletching.encode import Encoder
from fletching.report import Report
from hnmine import search
from hnmine.pool import Pool, Spool, domain_keys

if TYPE_CHECKING:
    from hnmine.cli import Options

EXAMPLES = schema.load("examples")
PROTECTED = pa.array(["reranker", "label", "judge"])
MEASURED = ("pos_scores", "pos_score_kind", "neg", "neg_ids", "neg_scores", "neg_score_kind")


def mined_columns(columns: pa.Schema) -> pa.Schema:
    return schema.extend(EXAMPLES, columns, *MEASURED)


@dataclass
class Queries:
    """The rows seen as queries: r rows, q distinct queries (by normalised text and prompt and domain)."""

    vectors: np.ndarray  # float32 (r, D)
    domains: np.ndarray  # uint64 (r,)
    ids: list[str]
    pos_scores: list[np.ndarray]  # cosine of each positive, row by row
    floor: np.ndarray  # float32 (r,): the lowest score of a known positive
    own: np.ndarray  # uint64, sorted: mix(query, text key) of each known positive and of the query itself
    names: np.ndarray  # uint64 (r,): the query's key, to ask `own`
    positives: list[np.ndarray]  # numbers in the pool of the row's own positives
    old: list[np.ndarray]  # numbers in the pool of the negatives that stay, with --keep-neg


@dataclass
class Mined:
    """Negatives of the rows of one batch."""

    numbers: list[np.ndarray]  # in the pool
    scores: list[np.ndarray]
    pos_scores: list[np.ndarray]


def mine(spool: Spool, pool: Pool, encoder: Encoder, window: tuple[int, int], options: Options, report: Report) -> Iterator[Mined]:
    """The negatives of every batch of the spool, in order."""
    with report.progress("encoding the pool", len(pool), "texts") as progress:
        vectors = encoder.encode(pool.texts.to_pylist(), "document", progress=progress)  # (n, D)
    queries = _queries(spool, pool, vectors, encoder, options.keep_neg, report)
    numbers: list[np.ndarray] = [np.zeros(0, np.int64)] * len(queries.ids)
    scores: list[np.ndarray] = [np.zeros(0, np.float32)] * len(queries.ids)
    removed = dict.fromkeys(("positive or copy", "near copy of a positive", "above --max-ratio", "above --margin", "above --max-sim", "below --min-sim"), 0)
    with report.progress("mining", len(queries.ids)) as progress:
        for rows, inside in _by_domain(queries, pool):
            for start in range(0, len(rows), search.QUERY_BLOCK):
                block = rows[start : start + search.QUERY_BLOCK]
                for row, candidates, cosines in _block(block, inside, queries, pool, vectors, window, encoder.devices[0], options, removed):
                    chosen = _choose(len(candidates), queries.ids[row], options)
                    old = queries.old[row]
                    numbers[row] = np.concatenate([old, candidates[chosen]])
                    scores[row] = np.concatenate([vectors[old] @ queries.vectors[row], cosines[chosen]])
                progress.advance(len(block))
    short = sum(len(found) - len(old) < options.negatives for found, old in zip(numbers, queries.old))
    report.measures |= {"removed_by_guard": {reason: count for reason, count in removed.items() if count}, "rows_short_of_negatives": short, "pool": len(pool)}
    if short:
        report.note(f"{short:,} rows have fewer than {options.negatives} negatives; widen --range, loosen a guard or add a --corpus")
    for start, end in itertools.pairwise(spool.starts):
        yield Mined(numbers[start:end], scores[start:end], queries.pos_scores[start:end])


def _queries(spool: Spool, pool: Pool, vectors: np.ndarray, encoder: Encoder, keep_neg: bool, report: Report) -> Queries:
    total = int(spool.starts[-1])
    parts: list[np.ndarray] = []
    domains, names, owners, owned, ids = [], [], [], [], []
    positives: list[np.ndarray] = []
    old: list[np.ndarray] = []
    with report.progress("encoding queries", total) as progress:
        for batch in spool.batches:
            prompts = schema.column(batch, "prompt", pa.string()).to_pylist()
            parts.append(encoder.encode(batch["query"].to_pylist(), "query", prompts))
            domain, name = domain_keys(batch), keys.of(batch["query"])
            texts, row = keys.of(batch["pos"].flatten()), pc.list_parent_indices(batch["pos"]).to_numpy()
            owners += [keys.mix(name, domain), keys.mix(name, domain)[row]]
            owned += [name, texts]
            domains.append(domain)
            names.append(keys.mix(name, domain))
            ids += batch["id"].to_pylist()
            positives += _places(pool, batch["pos"], domain)
            old += _places(pool, schema.column(batch, "neg", batch["pos"].type), domain) if keep_neg else [np.zeros(0, np.int64)] * len(batch)
            progress.advance(len(batch))
    held = np.concatenate(parts) if parts else np.zeros((0, encoder.dimension), np.float32)
    pos_scores = [vectors[places] @ query for query, places in zip(held, positives)]
    all_names = np.concatenate(names or [np.zeros(0, np.uint64)])
    own = np.unique(keys.mix(np.concatenate(owners), np.concatenate(owned))) if owners else all_names
    return Queries(held, np.concatenate(domains or [all_names]), ids, pos_scores, _floors(all_names, pos_scores), own, all_names, positives, old)


def _places(pool: Pool, lists: pa.ListArray, domains: np.ndarray) -> list[np.ndarray]:
    """The numbers in the pool of each row's texts, int64 (len of the row's list,)."""
    lengths = pc.fill_null(pc.list_value_length(lists), 0).to_numpy()
    pairs = zip(np.repeat(domains, lengths).tolist(), keys.of(lists.flatten()).tolist())
    return np.split(np.array([pool.place[pair] for pair in pairs], np.int64), lengths.cumsum()[:-1])


def _floors(names: np.ndarray, pos_scores: list[np.ndarray]) -> np.ndarray:
    """The lowest score that any row of the same query has for a positive."""
    lowest = np.array([scores.min() if len(scores) else 1.0 for scores in pos_scores], np.float32)
    _, codes = np.unique(names, return_inverse=True)
    best = np.full(codes.max() + 1 if len(codes) else 0, np.inf, np.float32)
    np.minimum.at(best, codes, lowest)
    return best[codes]


def _by_domain(queries: Queries, pool: Pool) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(rows, numbers of the pool) of each domain."""
    for domain in np.unique(queries.domains):
        yield np.flatnonzero(queries.domains == domain), np.flatnonzero(pool.domains == domain)


def _block(
    rows: np.ndarray, inside: np.ndarray, queries: Queries, pool: Pool, vectors: np.ndarray, window: tuple[int, int], device: str, options: Options, removed: dict[str, int]
) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """(row, candidates in the window, their scores) after all guards."""
    low, high = window
    documents = vectors if len(inside) == len(vectors) else vectors[inside]
    k = high + 16
    waiting = rows
    while len(waiting):
        scores, numbers = search.top_k(queries.vectors[waiting], documents, k, device)  # (w, k)
        numbers = inside[numbers]
        asked = keys.mix(queries.names[waiting][:, None], pool.text_keys[numbers])
        known = np.isin(asked, queries.own, kind="sort")
        enough = ((~known).sum(1) >= high) | (k >= len(inside))
        for row, candidates, cosines, positive in zip(waiting[enough], numbers[enough], scores[enough], known[enough]):
            removed["positive or copy"] += int(positive.sum())
            candidates, cosines = candidates[~positive][low - 1 : high], cosines[~positive][low - 1 : high]
            keep = _guard(row, candidates, cosines, queries, vectors, options, removed)
            yield row, candidates[keep], cosines[keep]
        # Many copies stood before the window: look further for these queries.
        waiting, k = waiting[~enough], k * 2


def _guard(row: int, candidates: np.ndarray, cosines: np.ndarray, queries: Queries, vectors: np.ndarray, options: Options, removed: dict[str, int]) -> np.ndarray:
    """Which candidates are no likely positives; each removal counts for the first guard that sees it."""
    floor = queries.floor[row]
    keep = ~np.isin(candidates, queries.old[row])

    def guard(reason: str, wrong: np.ndarray) -> None:
        removed[reason] += int((keep & wrong).sum())
        keep[wrong] = False

    if len(queries.positives[row]) and len(candidates):
        copies = vectors[candidates] @ vectors[queries.positives[row]].T  # (candidates, positives)
        guard("near copy of a positive", copies.max(1) >= options.near_copy)
    if options.max_ratio:
        # Written with |p|, so that a negative p moves the bound down too (NV-Retriever, arXiv 2407.15831).
        guard("above --max-ratio", cosines > floor - (1 - options.max_ratio) * abs(floor))
    if options.margin is not None:
        guard("above --margin", cosines > floor - options.margin)
    if options.max_sim is not None:
        guard("above --max-sim", cosines > options.max_sim)
    if options.min_sim is not None:
        guard("below --min-sim", cosines < options.min_sim)
    return keep


def _choose(count: int, row_id: str, options: Options) -> np.ndarray:
    """Which of `count` ranked candidates to take, nearest first."""
    if options.sample == "top" or count <= options.negatives:
        return np.arange(min(count, options.negatives))
    return np.sort(np.fromiter(itertools.islice(draw.permuted(options.seed, row_id, count), options.negatives), np.int64))


def with_negatives(batch: pa.RecordBatch, columns: pa.Schema, pool: Pool, mined: Mined, options: Options) -> pa.RecordBatch:
    """The batch with `neg` and scores; better scores of positives than a cosine stay."""
    offsets = pa.array(np.cumsum([0, *(len(found) for found in mined.numbers)]), pa.int32())
    flat = np.concatenate(mined.numbers)
    texts = pool.texts.take(pa.array(flat)).combine_chunks()
    named = pa.array([pool.ids[number] for number in flat], pa.string()) if pool.has_ids else None
    lists = {
        "neg": pa.ListArray.from_arrays(offsets, texts),
        "neg_scores": pa.ListArray.from_arrays(offsets, pa.array(np.concatenate(mined.scores), pa.float32())),
        "neg_score_kind": pa.array(["cosine"] * len(batch)),
        "neg_ids": pa.ListArray.from_arrays(offsets, named) if named is not None and not named.null_count else pa.nulls(len(batch), pa.list_(pa.string())),
    }
    lengths = pc.list_value_length(batch["pos"]).to_numpy()
    own = pa.ListArray.from_arrays(pa.array(np.concatenate([[0], lengths.cumsum()]), pa.int32()), pa.array(np.concatenate(mined.pos_scores), pa.float32()))
    kinds: pa.Array = pa.array(["cosine"] * len(batch))
    before = schema.column(batch, "pos_score_kind", pa.string())
    if not options.replace_scores:
        better = pc.is_in(before, PROTECTED)
        own = pc.if_else(better, schema.column(batch, "pos_scores", own.type), own)
        kinds = pc.if_else(better, before, kinds)
    lists |= {"pos_scores": own, "pos_score_kind": kinds}
    return pa.RecordBatch.from_arrays([lists.get(field.name, batch[field.name] if field.name in batch.schema.names else None) for field in columns], schema=columns)
