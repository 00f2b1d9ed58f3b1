"""Changes of the model's last modules before training: the Matryoshka layer, the similarity, prompts in pooling."""

from __future__ import annotations

from typing import Any

import torch

from fletching.errors import UsageError

SIMILARITIES = ("cosine", "dot")


def settle(model: Any, options: Any) -> tuple[str, bool]:
    """All of them, in place: (the similarity trained for, whether a normalising module had to go)."""
    settled = settle_similarity(model, options.similarity)
    settle_prompt_pooling(model, options.prompt_pooling)
    if options.matryoshka_layer:
        add_layer(model, options.matryoshka, options.seed)
    check_dims(model, options.matryoshka, options.matryoshka_weights)
    return settled


def settle_similarity(model: Any, given: str | None) -> tuple[str, bool]:
    """(the similarity trained for, whether a normalising module had to go). The model saves it.

    Dot products of normalised vectors are cosines, so --similarity dot takes the normalising module out.
    """
    own = model.similarity_fn_name
    similarity = given or own
    if similarity not in SIMILARITIES:
        raise UsageError(
            f"the model compares by {similarity}, which no loss here is made for",
            "pass --similarity cosine or dot",
        )
    normalising = [
        place for place, module in enumerate(model) if type(module).__name__ == "Normalize"
    ]
    model.similarity_fn_name = similarity
    if given == "dot":
        for place in reversed(normalising):
            del model[place]
    return similarity, given == "dot" and bool(normalising)


def settle_prompt_pooling(model: Any, given: str | None) -> None:
    """Prompt tokens in or out of pooling; saved in the pooling's configuration."""
    if given is None:
        return
    poolings = [module for module in model if hasattr(module, "include_prompt")]
    if not poolings:
        raise UsageError("--prompt-pooling: the model has no pooling module", "leave it out")
    for pooling in poolings:
        pooling.include_prompt = given == "include"


def add_layer(model: Any, dims: tuple[int, ...], seed: int) -> None:
    """A linear layer hidden -> max(dims), before a normalising module; saved as sentence-transformers' Dense.

    It starts as the identity, so that training starts from the quality of the base model; output numbers
    beyond the input's start as small random mixtures.
    """
    from sentence_transformers.base.modules import Dense

    width, out = model.get_embedding_dimension(), max(dims)
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
    model.insert(last if type(model[last]).__name__ == "Normalize" else last + 1, layer)


def check_dims(model: Any, dims: tuple[int, ...], weights: tuple[float, ...]) -> None:
    dimension = model.get_embedding_dimension()
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
