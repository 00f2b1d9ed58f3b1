"""What encodes texts and what scores pairs, as the options ask for it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fletching.protocols import Lineage, TextEncoder
from fletching.report import Report
from hnmine.options import Options

if TYPE_CHECKING:
    from fletching.encode.reranker import Reranker


@dataclass(frozen=True, kw_only=True)
class MiningModels:
    """The models of one run."""

    encoder: TextEncoder | None  # None with --score-all
    reranker: Reranker | None

    @property
    def settings(self) -> Lineage:
        """What decides vectors and scores, for the lineage."""
        loaded = {"model": self.encoder, "reranker": self.reranker}
        return {name: model.settings for name, model in loaded.items() if model is not None}


@contextlib.contextmanager
def load(options: Options, report: Report) -> Iterator[MiningModels]:
    """The models that the options ask for, until the end of the block."""
    with contextlib.ExitStack() as stack:
        reranker = open_reranker(options)
        if reranker is not None:
            stack.enter_context(reranker)
        encoder = None
        if not options.score_all:
            encoder = stack.enter_context(open_encoder(options, report))
        yield MiningModels(encoder=encoder, reranker=reranker)


def open_encoder(options: Options, report: Report) -> TextEncoder:
    """The model, or the vectors computed before."""
    if options.vectors:
        from fletching.encode.precomputed import PrecomputedEmbeddings

        return PrecomputedEmbeddings(
            options.vectors,
            report,
            query_prompt=options.query_prompt,
            doc_prompt=options.doc_prompt,
            prompt_template=options.prompt_template,
        )
    from fletching.encode import Encoder

    return Encoder(options, report)


def open_reranker(options: Options) -> Reranker | None:
    """The cross-encoder of --reranker."""
    if options.reranker is None:
        return None
    from fletching.encode.reranker import Reranker

    return Reranker(options.reranker, options, option="--reranker")


def search_device(encoder: TextEncoder) -> str:
    """Where vectors are compared: the encoder's first device, the CPU for precomputed vectors."""
    devices: list[str] = getattr(encoder, "devices", ["cpu"])
    return devices[0]
