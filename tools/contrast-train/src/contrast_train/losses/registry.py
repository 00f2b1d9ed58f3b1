"""The losses by name, each registered beside its formula with what it needs and which options
it reads.

    @loss("kl", needs=ScoredLists(2), options=("teacher_temperature",), positives="all")
    def kl(q, d, pairs, *, temperature=0.05, teacher_temperature=1.0): ...

The command line, its checks, the row requirements and the model card read this registry and
keep no list of names. Modules of this package import torch inside functions only: --help
reads the names.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeVar

from contrast_train.losses.requirements import Need, Signal
from fletching.registry import Registry

if TYPE_CHECKING:
    from torch import Tensor

    from contrast_train.losses.structure import Gradients, LossResult, PairStructure

Setting = bool | float | str | tuple[str, ...]
Compute = Callable[..., "Gradients"]  # (q, d, pairs, *, temperature, options of the loss)


@dataclass(frozen=True, kw_only=True)
class Loss:
    """A loss over one global batch; call it with raw vectors.

    compute: (q (Q, D), d (N, D), pairs, **settings) -> the value and its gradients for q and
    d. Its similarities are the dot products of q and d, which are unit vectors for the
    cosine. options: names of command-line options that are passed to it as settings of the
    same name. data_options: options that belong to it and are read elsewhere. described:
    options that the model card states even where they keep their default. positives: does it
    take one positive of a row, or all of them? default_for: the rows for which it is chosen
    when --loss is absent. temperature: its default for cosines; None for a loss without one.
    """

    name: str
    compute: Compute
    needs: Need
    options: tuple[str, ...] = ()
    data_options: tuple[str, ...] = ()
    described: tuple[str, ...] = ()
    positives: Literal["sample", "all"] = "sample"
    default_for: Signal | None = None
    temperature: float | None = 0.05

    def __call__(
        self,
        queries: Tensor,
        documents: Tensor,
        pairs: PairStructure,
        *,
        similarity: str = "cosine",
        **settings: Setting,
    ) -> LossResult:
        """The loss of raw query (Q, D) and document (N, D) vectors, with its gradients for
        both.
        """
        from contrast_train.losses.structure import differentiate

        return differentiate(
            lambda q, d: self.compute(q, d, pairs, **settings),
            queries,
            documents,
            similarity=similarity,
        )

    @property
    def read_options(self) -> tuple[str, ...]:
        """All command-line options that belong to it."""
        softmax = () if self.temperature is None else ("temperature", "learn_temperature")
        return (*softmax, *self.options, *self.data_options)

    @property
    def views(self) -> bool:
        """Is each text encoded twice, as its own positive?"""
        return self.needs.reads_texts


@dataclass(frozen=True, kw_only=True)
class AddedTerm:
    """A term that is added to any loss; call it with raw vectors, which it compares by cosine.

    compute: as of `Loss`, without settings. weight: the option that weighs it. requires: the option
    without which it is left out, where that is another one. of_prefixes: with --matryoshka, is it
    the mean over the prefixes, or of the whole vectors alone?
    """

    name: str
    compute: Compute
    weight: str
    requires: str = ""
    of_prefixes: bool = False

    def __call__(self, queries: Tensor, documents: Tensor, pairs: PairStructure) -> LossResult:
        """The term of raw query (Q, D) and document (N, D) vectors, with its gradients."""
        from contrast_train.losses.structure import differentiate

        return differentiate(
            lambda q, d: self.compute(q, d, pairs), queries, documents, similarity="cosine"
        )


LOSSES = Registry[Loss]("loss", package="contrast_train.losses")
ADDED_TERMS = Registry[AddedTerm]("term", package="contrast_train.losses")


def term(
    name: str, *, weight: str, requires: str = "", of_prefixes: bool = False
) -> Callable[[Compute], AddedTerm]:
    """Decorator: register the function below as the term `name`; arguments as of `AddedTerm`."""

    return _registers(
        ADDED_TERMS,
        lambda compute: AddedTerm(
            name=name,
            compute=compute,
            weight=weight,
            requires=requires,
            of_prefixes=of_prefixes,
        ),
    )


def loss(
    name: str,
    *,
    needs: Need,
    options: tuple[str, ...] = (),
    data_options: tuple[str, ...] = (),
    described: tuple[str, ...] = (),
    **details: str | float | None,
) -> Callable[[Compute], Loss]:
    """Decorator: register the function below as the loss `name`. details: other fields of
    `Loss`.

    Raises TypeError without `needs`, ValueError where the name is taken.
    """

    return _registers(
        LOSSES,
        lambda compute: Loss(
            name=name,
            compute=compute,
            needs=needs,
            options=options,
            data_options=data_options,
            described=described,
            **details,  # type: ignore[arg-type]  # the dataclass refuses unknown names
        ),
    )


Entry = TypeVar("Entry", Loss, AddedTerm)


def _registers(
    registry: Registry[Entry], make_entry: Callable[[Compute], Entry]
) -> Callable[[Compute], Entry]:
    """The decorator that registers what `make_entry` makes of a function."""

    def _register(compute: Compute) -> Entry:
        entry = make_entry(compute)
        registry.register(entry.name, entry)
        return entry

    return _register
