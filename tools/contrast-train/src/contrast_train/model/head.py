"""Changes of the last modules before training: Matryoshka layer, similarity, prompts in
pooling.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from contrast_train.options import Options
from fletching.errors import UsageError

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

SIMILARITIES = ("cosine", "dot")


class Similarity(NamedTuple):
    """name: cosine or dot. unnormalised: a normalising module was taken out for it."""

    name: str
    unnormalised: bool


def apply_options(model: SentenceTransformer, options: Options) -> Similarity:
    """Apply the head modifications in place; the similarity to train for. Raises UsageError."""
    similarity = set_similarity(model, options.similarity)
    if similarity.name == "dot" and options.document_vectors:
        raise UsageError(
            "--document-vectors are unit vectors, and dot products compare lengths too",
            "pass --similarity cosine, or leave --document-vectors out",
        )
    set_prompt_pooling(model, options.prompt_pooling)
    if options.matryoshka_layer:
        add_matryoshka_layer(model, options.matryoshka, options.seed)
    check_dimensions(model, options.matryoshka, options.matryoshka_weights)
    return similarity


def set_similarity(model: SentenceTransformer, option: str | None) -> Similarity:
    """The similarity that the model saves: the option's, else its own.

    Dot products of normalised vectors are cosines, so --similarity dot takes the normalising
    module out.
    """
    name = option or str(model.similarity_fn_name)
    if name not in SIMILARITIES:
        raise UsageError(
            f"the model compares by {name}, which no loss here is made for",
            "pass --similarity cosine or dot",
        )
    model.similarity_fn_name = name  # type: ignore[assignment]  # one of the two
    if option != "dot":
        return Similarity(name, unnormalised=False)
    positions = [number for number, module in enumerate(model) if _is_normalize(module)]
    for position in reversed(positions):
        del model[position]
    return Similarity(name, unnormalised=bool(positions))


def _is_normalize(module: object) -> bool:
    return type(module).__name__ == "Normalize"


def set_prompt_pooling(model: SentenceTransformer, option: str | None) -> None:
    """Prompt tokens in or out of pooling; saved in the pooling's configuration."""
    if option is None:
        return
    poolings: list[Any] = [module for module in model if hasattr(module, "include_prompt")]
    if not poolings:
        raise UsageError("--prompt-pooling: the model has no pooling module", "leave it out")
    for pooling in poolings:
        pooling.include_prompt = option == "include"


def add_matryoshka_layer(model: SentenceTransformer, dims: Sequence[int], seed: int) -> None:
    """A linear layer hidden -> max(dims), before a normalising module; saved as Dense.

    It starts as the identity, so that training starts from the quality of the base model;
    output numbers beyond the input's start as small random mixtures.
    """
    from sentence_transformers.base.modules import Dense

    width, out = dimension_of(model), max(dims)
    weight = 0.02 * torch.randn(out, width, generator=torch.Generator().manual_seed(seed))
    weight[: min(width, out)] = torch.eye(width)[:out]
    layer = Dense(
        width,
        out,
        activation_function=torch.nn.Identity(),
        init_weight=weight,
        init_bias=torch.zeros(out),
    )
    last = len(model) - 1
    model.insert(last if _is_normalize(model[last]) else last + 1, layer)


def check_dimensions(
    model: SentenceTransformer, dims: Sequence[int], weights: Sequence[float]
) -> None:
    """Raises UsageError where --matryoshka does not fit the model or its weights."""
    dimension = dimension_of(model)
    if dims and max(dims) > dimension:
        raise UsageError(
            f"--matryoshka {max(dims)} is more than the {dimension} dimensions of the model",
            "add --matryoshka-layer",
        )
    if weights and len(weights) != len(dims):
        raise UsageError(
            f"--matryoshka-weights has {len(weights)} numbers for {len(dims)} dimensions",
            "give one weight a dimension",
        )


def dimension_of(model: SentenceTransformer) -> int:
    """The numbers of a vector."""
    return model.get_embedding_dimension() or 0
