"""What encodes texts and what scores pairs, as the options ask for it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fletching.protocols import Lineage, TextEncoder
from fletching.report import Report
from simfilter.options import Options

if TYPE_CHECKING:
    from fletching.encode.reranker import Reranker


@dataclass(frozen=True, kw_only=True)
class ScoringModels:
    """The models of one run; None for what it does not need."""

    encoder: TextEncoder | None
    cross_encoder: Reranker | None

    @property
    def settings(self) -> Lineage:
        """What decides the scores, for the lineage."""
        loaded = {"model": self.encoder, "cross_encoder": self.cross_encoder}
        return {name: model.settings for name, model in loaded.items() if model is not None}


@contextlib.contextmanager
def load(options: Options, report: Report) -> Iterator[ScoringModels]:
    """The models that the options ask for, until the end of the block."""
    with contextlib.ExitStack() as stack:
        encoder = open_encoder(options, report)
        if encoder is not None:
            stack.enter_context(encoder)
        cross_encoder = open_cross_encoder(options)
        if cross_encoder is not None:
            stack.enter_context(cross_encoder)
        yield ScoringModels(encoder=encoder, cross_encoder=cross_encoder)


def open_encoder(options: Options, report: Report) -> TextEncoder | None:
    """The model, the vectors computed before, or neither where no cosine is needed."""
    if options.vectors:
        from fletching.encode.precomputed import PrecomputedEmbeddings

        return PrecomputedEmbeddings(
            options.vectors,
            report,
            query_prompt=options.query_prompt,
            doc_prompt=options.doc_prompt,
            prompt_template=options.prompt_template,
        )
    scored_otherwise = options.use_scores or options.cross_encoder is not None
    if options.model is None or (scored_otherwise and options.rank_within is None):
        return None
    from fletching.encode import Encoder

    return Encoder(options, report)


def open_cross_encoder(options: Options) -> Reranker | None:
    """The model of --cross-encoder. Raises InputError where it cannot be loaded."""
    if options.cross_encoder is None:
        return None
    from fletching.encode.reranker import Reranker

    return Reranker(options.cross_encoder, options, option="--cross-encoder")
