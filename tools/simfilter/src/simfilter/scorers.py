"""The score of a positive, each way an entry of SCORERS, named like the `pos_score_kind` it makes.

@scorer("cosine")
def cosine(models):
    def score(rows): …  # float32 (p,), a score for each of the p positives of the rows
    return score
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fletching import schema
from fletching.arrays import Scores, Vectors
from fletching.errors import InputError
from fletching.protocols import Lineage, TextEncoder
from fletching.registry import Registry
from fletching.row_columns import list_owners
from simfilter.options import Options

if TYPE_CHECKING:
    from fletching.encode.reranker import Reranker


@dataclass(frozen=True, kw_only=True)
class ScoringModels:
    """The models of one run; None for what it does not need."""

    encoder: TextEncoder | None = None
    cross_encoder: Reranker | None = None

    @property
    def settings(self) -> Lineage:
        """What decides the scores, for the lineage."""
        models = {"model": self.encoder, "cross_encoder": self.cross_encoder}
        return {name: model.settings for name, model in models.items() if model is not None}


Scorer = Callable[[pa.RecordBatch], Scores]  # rows with p positives -> (p,)
ScorerMaker = Callable[[ScoringModels], Scorer]

SCORERS: Registry[ScorerMaker] = Registry("scorer")
OF_THE_INPUT = "given"  # the kind of scores that are used as they are


def scorer(name: str) -> Callable[[ScorerMaker], ScorerMaker]:
    """Register a function from models to a scorer."""

    def register(make: ScorerMaker) -> ScorerMaker:
        """Add the entry; the function stays as it is."""
        SCORERS.register(name, make)
        return make

    return register


def scorer_name(options: Options) -> str:
    """The entry of SCORERS that the options ask for."""
    if options.use_scores:
        return OF_THE_INPUT
    return "reranker" if options.cross_encoder else "cosine"


def encode_queries(rows: pa.RecordBatch, encoder: TextEncoder) -> Vectors:
    """Unit vectors of the queries, (n, D)."""
    prompts = schema.column(rows, "prompt", pa.string()).to_pylist()
    return encoder.encode(rows["query"].to_pylist(), "query", prompts)


def positive_cosines(rows: pa.RecordBatch, queries: Vectors, encoder: TextEncoder) -> Scores:
    """The cosine of each positive to its query, (p,). queries: of the rows, (n, D)."""
    positives = encoder.encode(rows["pos"].flatten().to_pylist(), "document")  # (p, D)
    cosines: Scores = np.einsum("pd,pd->p", queries[list_owners(rows["pos"])], positives)
    return cosines


@scorer("cosine")
def by_cosine(models: ScoringModels) -> Scorer:
    """The cosine of query and positive."""
    encoder = models.encoder
    assert encoder is not None  # --model or --vectors, checked with the options

    def score(rows: pa.RecordBatch) -> Scores:
        """A cosine for each positive."""
        return positive_cosines(rows, encode_queries(rows, encoder), encoder)

    return score


@scorer("reranker")
def by_cross_encoder(models: ScoringModels) -> Scorer:
    """The raw score of a cross-encoder."""
    cross_encoder = models.cross_encoder
    assert cross_encoder is not None

    def score(rows: pa.RecordBatch) -> Scores:
        """A logit for each positive."""
        queries = rows["query"].take(pc.list_parent_indices(rows["pos"]))
        return cross_encoder.score(queries.to_pylist(), rows["pos"].flatten().to_pylist())

    return score


@scorer(OF_THE_INPUT)
def by_input(models: ScoringModels) -> Scorer:
    """The `pos_scores` of the input. Raises InputError for a row without them."""

    def score(rows: pa.RecordBatch) -> Scores:
        """The score that each positive came with."""
        lists = schema.column(rows, "pos_scores", pa.list_(pa.float32()))
        if lists.null_count:
            row = rows.filter(lists.is_null())["id"][0].as_py()
            raise InputError(
                f"row {row!r} has no `pos_scores`, which --use-scores needs",
                "score the rows first: simfilter --score-only",
            )
        scores: Scores = lists.flatten().to_numpy()
        return scores

    return score
