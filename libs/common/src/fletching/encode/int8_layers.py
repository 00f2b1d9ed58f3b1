"""Which linear layers become int8: not those whose errors the vectors show most.

The layers at the same place of every block are a group, such as `layer.*.attention.self.value`.
Each group is made int8 by itself, and the vectors of a few random texts are compared with those
of float32. As in mixed-precision quantisation (HAWQ, Dong et al. 2019), but by what each group
really costs and not by a Hessian.
"""

from __future__ import annotations

import contextlib
import re
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import xxhash
from torch import nn

from fletching import seeded_random
from fletching.encode import int8_linear
from fletching.encode.forward_pass import Vectors
from fletching.encode.int8_cost import Float32Reference
from fletching.encode.int8_linear import linear_layers, quantise_layers
from fletching.errors import InputError

TEXTS = 8
WORDS = 20  # of a text
LETTERS = 8  # of a word, at most
MOST_IN_FLOAT32 = 0.5  # of the products


@dataclass(frozen=True, kw_only=True)
class LayerGroup:
    """Linear layers of one place. name: with `*` for the number of the block.

    products: of a token, in multiplications. loss: of cosine, when these layers alone are int8.
    """

    name: str
    layers: tuple[str, ...]
    products: int
    loss: float


@dataclass(frozen=True)
class LayerChoice:
    """The groups of a model that become int8, and those that stay float32, costliest first."""

    int8: tuple[LayerGroup, ...]
    float32: tuple[LayerGroup, ...]

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the layers that become int8."""
        return tuple(layer for group in self.int8 for layer in group.layers)

    @property
    def number_type(self) -> str:
        """What parts vectors of this choice from any others, for caches and lineage."""
        names = "\n".join(sorted(self.layers))
        return f"{int8_linear.number_type()}-{xxhash.xxh3_64_hexdigest(names.encode())}"

    def describe(self) -> str:
        """One clause for a person."""
        share = sum(group.products for group in self.int8) / sum(
            group.products for group in (*self.int8, *self.float32)
        )
        names = ", ".join(group.name for group in self.float32)
        return f"{share:.0%} of the products are in int8; in float32 stay {names or 'none'}"


def choose(reference: Float32Reference) -> LayerChoice:
    """Measure the groups, and keep the costliest in float32, for up to half of the products.

    The same for the same model and lengths, whatever the data. Raises InputError for a model
    without linear layers.
    """
    transformer = reference.transformer
    layers = linear_layers(transformer)
    if not layers:
        raise InputError(
            "--dtype int8 changes nothing: the model has no linear layers", "leave it out"
        )
    texts = list(_random_texts())
    plain = reference.encode(texts, "document")
    groups = []
    for pattern, names in _by_pattern(layers).items():
        with _int8(transformer, names):
            loss = _loss(plain, reference.encode(texts, "document"))
        products = sum(layers[name].weight.numel() for name in names)
        groups.append(LayerGroup(name=pattern, layers=tuple(names), products=products, loss=loss))
    return _split(groups)


def _split(groups: Sequence[LayerGroup]) -> LayerChoice:
    """Those with the greatest loss for their products stay float32, as far as half of them go."""
    products_left = MOST_IN_FLOAT32 * sum(group.products for group in groups)
    int8, float32 = [], []
    for group in sorted(groups, key=lambda each: (-each.loss / each.products, each.name)):
        if group.loss > 0 and group.products <= products_left:
            products_left -= group.products
            float32.append(group)
        else:
            int8.append(group)
    return LayerChoice(tuple(int8), tuple(float32))


def _by_pattern(layers: Collection[str]) -> dict[str, list[str]]:
    groups = defaultdict(list)
    for name in layers:
        groups[re.sub(r"\d+", "*", name)].append(name)
    return groups


@contextlib.contextmanager
def _int8(model: nn.Module, names: Sequence[str]) -> Iterator[None]:
    """These layers as int8 ones for the length of the block."""
    layers = linear_layers(model)
    quantise_layers(model, names)
    try:
        yield
    finally:
        for name in names:
            model.set_submodule(name, layers[name])


def _loss(vectors: Vectors, others: Vectors) -> float:
    """1 less the mean cosine of unit vectors, by their distance, which does not round away."""
    return float(np.square(vectors - others).sum(1, dtype=float).mean()) / 2


def _random_texts() -> Iterator[str]:
    """Texts of random letters, which every tokenizer takes."""
    for text in range(TEXTS):
        numbers = seeded_random.numbers(0, f"int8 {text}")
        lengths = [2 + next(numbers) % (LETTERS - 1) for _ in range(WORDS)]
        yield " ".join(
            "".join(chr(ord("a") + next(numbers) % 26) for _ in range(length)) for length in lengths
        )
