"""What gives a tool its vectors: a model, a server, or files of vectors computed before."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from fletching.errors import UsageError
from fletching.options import EncodingOptions
from fletching.protocols import TextEncoder
from fletching.report import Report
from fletching.server_address import check_address

if TYPE_CHECKING:
    from fletching.encode.int8_cost import Float32Reference
    from fletching.encode.precomputed import WantedTexts


def check_vectors(options: EncodingOptions, files: Sequence[str]) -> None:
    """Raise UsageError where --vectors or --base-url stand beside options of a local model."""
    if options.dtype == "int8" and (files or options.base_url):
        flag = "--vectors" if files else "--base-url"
        raise UsageError(
            f"--dtype int8 is for a model that runs in this process, and {flag} needs none",
            "leave --dtype out",
        )
    if options.model and files:
        raise UsageError("--model and --vectors exclude each other", "leave one of them out")
    if options.base_url and files:
        raise UsageError("--base-url and --vectors exclude each other", "leave one of them out")
    if files and (options.query_echo, options.doc_echo) != (None, None):
        raise UsageError(
            "--vectors are used as they are; an echo needs a model",
            "leave --query-echo and --doc-echo out, or pass --model",
        )
    check_server(options)


def check_server(options: EncodingOptions) -> None:
    """Raise UsageError where --base-url lacks a model, or stands beside what it cannot follow."""
    if not options.base_url:
        return
    check_address(options.base_url)
    if not options.model:
        raise UsageError("--base-url has no model", "name it: --model NAME")
    local_options = {
        "--query-echo": options.query_echo,
        "--doc-echo": options.doc_echo,
        "--query-length": options.query_length,
        "--doc-length": options.doc_length,
    }
    for flag, value in local_options.items():
        if value is not None:
            raise UsageError(
                f"{flag} is for a model that runs in this process, not for one of --base-url",
                "leave it out, and set the limit in the server",
            )


def open_encoder(
    options: EncodingOptions,
    files: Sequence[str],
    report: Report,
    *,
    half_cache: bool = False,
    wanted: WantedTexts | None = None,
) -> TextEncoder:
    """The vectors of these files, or without any the model of the options, by a server or here.

    half_cache: the cache keeps float16. wanted: the texts whose vectors are kept of files that hold
    many more. Only a model that runs here imports torch and
    transformers.
    """
    if files:
        from fletching.encode.precomputed import PrecomputedEmbeddings

        devices = _devices_of_comparison(options.device)
        embeddings = PrecomputedEmbeddings(
            files,
            report,
            query_prompt=options.query_prompt,
            doc_prompt=options.doc_prompt,
            prompt_template=options.prompt_template,
            wanted=wanted,
        )
        embeddings.devices = devices
        return embeddings
    if options.base_url:
        from fletching.encode.server_encoder import ServerEncoder

        return ServerEncoder(options, report, half_cache=half_cache)
    from fletching.encode.encoder import Encoder

    return Encoder(options, report, half_cache=half_cache)


def reference_of(encoder: TextEncoder) -> Float32Reference | None:
    """The model in float32 beside one in int8; None for any other encoder."""
    reference: Float32Reference | None = getattr(encoder, "reference", None)
    return reference


def _devices_of_comparison(requested: str | None) -> list[str]:
    """Where vectors of files are compared: where --device says, else on the CPU.

    Raises UsageError where it cannot be used.
    """
    if requested in (None, "cpu"):
        return ["cpu"]  # without torch, which takes seconds to import
    from fletching.encode.model import resolve_devices

    return resolve_devices(requested)


def device_of(encoder: TextEncoder) -> str:
    """Where vectors are compared: the first device of the encoder."""
    devices: list[str] = getattr(encoder, "devices", ["cpu"])
    return devices[0]
