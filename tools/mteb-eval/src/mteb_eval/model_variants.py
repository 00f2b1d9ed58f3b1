"""The variants of a model, how its encoder is made, and where its vectors are kept."""

from __future__ import annotations

import dataclasses
import itertools
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from mteb.abstasks.abstask import AbsTask

from fletching.encode import Encoder
from fletching.encode.opening import open_encoder
from fletching.encode.temporary_cache import TemporaryCache
from fletching.errors import UsageError
from fletching.options import EncodingOptions
from fletching.protocols import TextEncoder
from fletching.report import Report
from fletching.table import atomic
from mteb_eval.data.names import name_paths
from mteb_eval.encoder import EvaluatedModel, VectorVariant
from mteb_eval.options import Options

# Kinds of tasks in which a classifier or k-means sees the lengths of vectors, which ours have lost.
LENGTH_MATTERS = (
    "Classification",
    "MultilabelClassification",
    "Clustering",
    "PairClassification",
    "Regression",
)


def open_model(options: Options, path: str, cache: str, *, report: Report) -> TextEncoder:
    """A file of --vectors; else a model of a folder, of --base-url or of the hub."""
    names = [field.name for field in dataclasses.fields(EncodingOptions)]
    shared = {name: getattr(options, name) for name in names}
    if os.path.isdir(path):
        shared["base_url"] = None
    encoding = EncodingOptions(**shared | {"model": path, "cache": cache})
    is_file = path in name_paths(options.vectors, "model").values()
    return open_encoder(encoding, [path] if is_file else [], report)


@contextmanager
def vector_cache(options: Options) -> Iterator[str]:
    """The folder of the vectors.

    --cache; else beside the output and removed on success; else a temporary one.
    """
    if options.cache:
        yield options.cache
        return
    neighbour = options.results if options.output in (None, "-") else options.output
    if neighbour is None:
        with atomic.scratch_folder("mteb-eval") as folder:
            yield folder
        return
    cache = TemporaryCache(f"{neighbour}.cache")
    try:
        yield cache.path
    except BaseException:
        cache.close(succeeded=False)
        raise
    cache.close(succeeded=True)


def note_lost_lengths(
    name: str, encoder: Encoder, tasks: Sequence[AbsTask], *, report: Report
) -> None:
    """Say where unit length changes what a classifier or k-means sees of a model's vectors."""
    is_normalised = any(type(module).__name__ == "Normalize" for module in encoder.model)
    affected = [task.metadata.name for task in tasks if task.metadata.type in LENGTH_MATTERS]
    if affected and not is_normalised:
        report.note(
            f"{name} does not normalise its vectors, but they have unit length here: "
            f"{', '.join(affected)} may differ from mteb's figures"
        )


def evaluated_models(
    options: Options, name: str, encoder: TextEncoder, *, report: Report
) -> list[EvaluatedModel]:
    """One for each variant of the model. Raises UsageError for too many dimensions."""
    return [
        EvaluatedModel(name, encoder, variant=variant, report=report)
        for variant in list_variants(options, name, encoder.dimension)
    ]


def list_variants(options: Options, name: str, dimension: int) -> list[VectorVariant]:
    """Every number of dimensions with every kind of number, whole vectors and floats first.

    Raises UsageError where the model has fewer dimensions.
    """
    dimensions: list[int | None] = []
    for size in options.dims:
        if size > dimension:
            raise UsageError(
                f"--dims {size} is above the {dimension} dimensions of {name}",
                f"pass at most {dimension}",
            )
        dimensions.append(None if size == dimension else size)
    distinct_dimensions = dict.fromkeys(dimensions or [None])
    distinct_numbers = dict.fromkeys(["float", *options.quantise])
    return [
        VectorVariant(*choice)
        for choice in itertools.product(distinct_dimensions, distinct_numbers)
    ]
