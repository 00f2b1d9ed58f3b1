"""Which loss a run takes, which options belong to it, and how the model card says it."""

from __future__ import annotations

import functools
from typing import Any

from contrast_train.losses.requirements import Census
from fletching.cli import describe
from fletching.errors import UsageError

CONTRAST = ("infonce", "infonce+kl", "simcse")
BELONGS = {
    "symmetric": CONTRAST,
    "candidates": ("infonce", "infonce+kl"),
    "query_negatives": CONTRAST,
    "guide": ("infonce", "infonce+kl"),
    "guide_margin": ("infonce", "infonce+kl"),
    "guide_relative": ("infonce", "infonce+kl"),
    "margin": ("triplet",),
    "temperature": (*CONTRAST, "kl", "margin-mse", "cosent"),
    "learn_temperature": (*CONTRAST, "kl", "margin-mse", "cosent"),
    "teacher_temperature": ("kl", "infonce+kl", "margin-mse"),
    "kl_weight": ("infonce+kl",),
    "min_score": ("infonce", "infonce+kl", "triplet"),
}
OVER_LISTS = (
    "kl",
    "infonce+kl",
    "margin-mse",
    "cosent",
)  # losses that take all scored documents of a row


def check(options: Any, loss: str) -> None:
    """Raises Usage for an option that this loss would not read."""
    for name, losses in BELONGS.items():
        option = describe(type(options))[name]
        if getattr(options, name) != option.default and loss not in losses:
            raise UsageError(
                f"{option.flag} has no meaning with --loss {loss}",
                f"leave it out; it belongs to {', '.join(losses)}",
            )
    if loss == "simcse" and options.dropout == 0:
        raise UsageError(
            "--dropout 0 makes the two views of a text equal",
            "leave --dropout out, or give it e.g. 0.1",
        )


def choose(given: str | None, schema: str, census: Census) -> tuple[str, str]:
    """(the loss, why). Raises Usage where texts and examples are mistaken for each other."""
    if (given == "simcse") != (schema == "texts") and given is not None:
        raise UsageError(
            f"--loss {given} was given {schema}",
            "simcse reads texts; every other loss reads examples, with `query` and `pos`",
        )
    if given is not None:
        return given, "as --loss says"
    return ("simcse", "texts are given") if schema == "texts" else census.loss()


def temperature(options: Any, loss: str, similarity: str) -> float:
    """The one given, else 0.05 for cosines and 1 where the scale of the scores is itself learned."""
    if options.temperature is not None:
        return options.temperature
    return 1.0 if similarity == "dot" or loss == "margin-mse" else 0.05


def build(options: Any, loss: str, similarity: str) -> Any:
    """The loss as a function of vectors and structure."""
    from contrast_train import losses

    settings: dict[str, Any] = {"similarity": similarity}
    if loss != "triplet":
        settings["temperature"] = temperature(options, loss, similarity)
    if loss in CONTRAST:
        settings |= {
            name: getattr(options, name)
            for name in (
                "symmetric",
                "candidates",
                "query_negatives",
                "guide_margin",
                "guide_relative",
            )
        }
    if loss in BELONGS["teacher_temperature"]:
        settings["teacher_temperature"] = options.teacher_temperature
    if loss == "infonce+kl":
        settings["kl_weight"] = options.kl_weight
    if loss == "triplet":
        settings["margin"] = options.margin
    one = functools.partial(getattr(losses, loss.replace("+", "_").replace("-", "_")), **settings)
    if not options.matryoshka:
        return one
    # The temperature may come as a setting at each step, so it is not bound twice.
    return functools.partial(
        losses.matryoshka, loss=one, dims=options.matryoshka, weights=options.matryoshka_weights
    )


def told(options: Any, loss: str, similarity: str, learned: float | None) -> str:
    """The loss in words. learned: the temperature that came out, where it was learned."""
    parts = [] if loss == "triplet" else [f"temperature {temperature(options, loss, similarity):g}"]
    if learned is not None:
        parts = [
            f"temperature learned, {parts[0].split()[1]} at the start, {learned:.4f} at the end"
        ]
    for name in BELONGS:
        option = describe(type(options))[name]
        value = getattr(options, name)
        if (
            loss in BELONGS[name]
            and name not in ("temperature", "learn_temperature", "guide")
            and value != option.default
        ):
            parts.append(name.replace("_", " ") + ("" if value is True else f" {value}"))
    if loss == "triplet" and options.margin == describe(type(options))["margin"].default:
        parts.append(f"margin {options.margin}")
    if options.guide:
        parts.append("false negatives masked by a guide model")
    text = f"{loss} over {'dot products' if similarity == 'dot' else 'cosines'}" + (
        f" ({', '.join(parts)})" if parts else ""
    )
    if options.matryoshka:
        text += f", over the first {', '.join(map(str, options.matryoshka))} dimensions"
    return text
