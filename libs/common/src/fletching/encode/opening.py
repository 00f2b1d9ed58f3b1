"""What gives a tool its vectors: a model, or files of vectors computed before."""

from __future__ import annotations

from collections.abc import Sequence

from fletching.errors import UsageError
from fletching.options import EncodingOptions
from fletching.protocols import TextEncoder
from fletching.report import Report


def check_vectors(options: EncodingOptions, files: Sequence[str]) -> None:
    """Raise UsageError where --vectors stand beside options of a model."""
    if options.model and files:
        raise UsageError("--model and --vectors exclude each other", "leave one of them out")
    if files and (options.query_echo, options.doc_echo) != (None, None):
        raise UsageError(
            "--vectors are used as they are; an echo needs a model",
            "leave --query-echo and --doc-echo out, or pass --model",
        )


def open_encoder(options: EncodingOptions, files: Sequence[str], report: Report) -> TextEncoder:
    """The vectors of these files, or without any the model of the options.

    Only a model imports torch and transformers.
    """
    if files:
        from fletching.encode.precomputed import PrecomputedEmbeddings

        return PrecomputedEmbeddings(
            files,
            report,
            query_prompt=options.query_prompt,
            doc_prompt=options.doc_prompt,
            prompt_template=options.prompt_template,
        )
    from fletching.encode.encoder import Encoder

    return Encoder(options, report)


def device_of(encoder: TextEncoder) -> str:
    """Where vectors are compared: the encoder's first device, the CPU for vectors of files."""
    devices: list[str] = getattr(encoder, "devices", ["cpu"])
    return devices[0]
