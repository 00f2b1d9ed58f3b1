"""Which loss a run takes, with which settings, and how the model card states it. Reads the
registry.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from contrast_train.losses.registry import ADDED_TERMS, LOSSES, AddedTerm, Loss
from contrast_train.losses.requirements import DatasetStats, LossRequirements, Signal
from contrast_train.options import Options
from fletching.errors import InputError, UsageError
from fletching.options import Option, describe

if TYPE_CHECKING:
    from contrast_train.losses.structure import LossResult

LossFunction = Callable[..., "LossResult"]  # queries (Q, D), documents (N, D), pairs, **settings


def check(options: Options, name: str) -> None:
    """Raises UsageError for an option that this loss does not read, or that leaves it
    nothing.
    """
    loss = LOSSES[name]
    for option in _loss_options(options):
        is_set = getattr(options, option.name) != option.default
        if is_set and option.name not in loss.read_options:
            readers = [other.name for other in LOSSES.values() if option.name in other.read_options]
            raise UsageError(
                f"{option.flag} has no meaning with --loss {name}",
                f"leave it out; it belongs to {', '.join(readers)}",
            )
    if loss.views and options.dropout == 0:
        raise UsageError(
            "--dropout 0 makes the two views of a text equal",
            "leave --dropout out, or pass e.g. 0.1",
        )
    if loss.views and options.document_vectors:
        raise UsageError(
            f"--loss {name} compares two views of a text, and --document-vectors fixes one of them",
            "leave --document-vectors out",
        )
    if loss.needs.reads_hard_negatives and options.negatives == 0:
        raise UsageError(
            f"--negatives 0 leaves --loss {name} no hard negatives to learn from",
            "pass --negatives 1 or more, or leave it out",
        )


def _loss_options(options: Options) -> list[Option]:
    """The options that belong to some losses, in the order of the command line."""
    names = {name for loss in LOSSES.values() for name in loss.read_options}
    return [option for name, option in describe(type(options)).items() if name in names]


def requirements(name: str | None, schema: str, min_pos_score: float | None) -> LossRequirements:
    """What rows of `schema` must have to be trained with --loss `name`, or with a loss yet to
    be chosen.
    """
    loss = _default("texts") if schema == "texts" else LOSSES[name] if name else None
    if loss is None:
        return LossRequirements(min_pos_score=min_pos_score)
    reads_minimum = "min_pos_score" in loss.read_options
    return LossRequirements(
        need=loss.needs,
        loss=loss.name,
        min_pos_score=min_pos_score if reads_minimum else None,
    )


def choose(name: str | None, schema: str, stats: DatasetStats) -> tuple[str, str]:
    """(the loss of a run, why).

    Raises UsageError where texts and examples are mistaken for each other, InputError where
    no row has what the loss needs: its gradient would be zero.
    """
    if name is None:
        return _choose_by_data(schema, stats)
    if LOSSES[name].needs.reads_texts != (schema == "texts"):
        over_texts = [loss.name for loss in LOSSES.values() if loss.needs.reads_texts]
        raise UsageError(
            f"--loss {name} was given {schema}",
            f"{', '.join(over_texts)} reads texts; every other loss reads examples, "
            "with `query` and `pos`",
        )
    lacks = LOSSES[name].needs.unmet(stats)
    if lacks and stats.rows:
        raise InputError(f"--loss {name} needs {lacks}, and no row has any", LOSSES[name].needs.fix)
    return name, "as --loss says"


def check_labels(options: Options, name: str, stats: DatasetStats) -> None:
    """Raises UsageError where positives have different labels, and nothing says from which label
    on a loss that trusts every positive may do so.
    """
    reads_minimum = "min_pos_score" in LOSSES[name].read_options
    if not reads_minimum or options.min_pos_score is not None:
        return
    if stats.lowest_label < stats.highest_label:
        labels = f"{stats.lowest_label:g} to {stats.highest_label:g}"
        raise UsageError(
            f"positives have labels from {labels}, and --loss {name} would trust them all",
            "pass --min-pos-score X, or --loss cosent, which learns from labels",
        )


def _choose_by_data(schema: str, stats: DatasetStats) -> tuple[str, str]:
    if schema == "texts":
        return _default("texts").name, "texts are given"
    signal, why = stats.signal()
    if signal == "pairs" and stats.rows_with_useful_scores:
        over_scores = [loss.name for loss in LOSSES.values() if loss.needs.reads_scores]
        why += (
            f"; the scores of {stats.rows_with_useful_scores:,} rows are not used "
            f"(--loss {', '.join(over_scores)})"
        )
    return _default(signal).name, why


def _default(signal: Signal) -> Loss:
    return next(loss for loss in LOSSES.values() if loss.default_for == signal)


def temperature(options: Options, name: str, similarity: str) -> float:
    """--temperature, else the default of the loss for cosines, and 1 for dot products."""
    if options.temperature is not None:
        return options.temperature
    default = LOSSES[name].temperature
    return 1.0 if similarity == "dot" or default is None else default


def configure(options: Options, name: str, similarity: str) -> LossFunction:
    """The loss with its settings, over the Matryoshka dimensions where they are given, and the
    terms that the options add.
    """
    loss = LOSSES[name]
    settings: dict[str, Any] = {option: getattr(options, option) for option in loss.options}
    settings["similarity"] = similarity
    if loss.temperature is not None:
        settings["temperature"] = temperature(options, name, similarity)
    terms = added_terms(options)
    configured: LossFunction = functools.partial(loss, **settings)
    configured = _with_terms(configured, [each for each in terms if each[0].of_prefixes])
    if options.matryoshka:
        from contrast_train.losses.matryoshka import matryoshka

        # A learned temperature comes as a setting at each step, so the loss is bound before the
        # dimensions.
        configured = functools.partial(
            matryoshka,
            loss=configured,
            dims=options.matryoshka,
            weights=options.matryoshka_weights,
        )
    return _with_terms(configured, [each for each in terms if not each[0].of_prefixes])


def added_terms(options: Options) -> list[tuple[AddedTerm, float]]:
    """The terms beside the loss, each with its weight."""
    weighted = []
    for term in ADDED_TERMS.values():
        weight = float(getattr(options, term.weight))
        if weight and (not term.requires or getattr(options, term.requires)):
            weighted.append((term, weight))
    return weighted


def _with_terms(loss: LossFunction, terms: list[tuple[AddedTerm, float]]) -> LossFunction:
    if not terms:
        return loss
    from contrast_train.losses.added_terms import with_added_terms

    return functools.partial(with_added_terms, loss=loss, terms=terms)


def describe_loss(
    options: Options,
    name: str,
    similarity: str,
    *,
    learned_temperature: float | None = None,
) -> str:
    """The loss in words, for the model card. learned_temperature: its value after training."""
    parts = []
    if LOSSES[name].temperature is not None:
        initial = temperature(options, name, similarity)
        parts.append(_describe_temperature(initial, learned_temperature))
    parts += _describe_settings(options, LOSSES[name])
    if options.guide:
        parts.append("false negatives masked by a guide model")
    if options.document_vectors:
        parts.append("queries alone, against fixed document vectors")
    compared = "dot products" if similarity == "dot" else "cosines"
    details = f" ({', '.join(parts)})" if parts else ""
    dimensions = ", ".join(map(str, options.matryoshka))
    prefixes = f", over the first {dimensions} dimensions" if dimensions else ""
    added = "".join(f" + {weight:g} {term.name}" for term, weight in added_terms(options))
    return f"{name} over {compared}{details}{prefixes}{added}"


def _describe_temperature(initial: float, learned: float | None) -> str:
    if learned is None:
        return f"temperature {initial:g}"
    return f"temperature learned, {initial:g} at the start, {learned:.4f} at the end"


def _describe_settings(options: Options, loss: Loss) -> list[str]:
    parts = []
    known = describe(type(options))
    for name in (*loss.options, *loss.data_options):
        value = getattr(options, name)
        if name == "guide" or (value == known[name].default and name not in loss.described):
            continue
        words = name.replace("_", " ")
        shown = " ".join(value) if isinstance(value, tuple) else value
        parts.append(words if value is True else f"{words} {shown}")
    return parts
