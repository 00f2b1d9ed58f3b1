"""Values of other programs' options as values of ours."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

# A value of a config file or a command line: text, number, bool, None, list or dict.
ForeignValue = Any
Convert = Callable[[ForeignValue], ForeignValue]

POOLING_NAMES = {
    "cls": "cls",
    "bos_token": "cls",
    "mean": "mean",
    "avg": "mean",
    "last": "last",
    "last_token": "last",
    "eos_token": "last",
    "eos": "last",
    "weighted_mean": "weighted",
}
DTYPE_NAMES = {
    "fp16": "float16",
    "float16": "float16",
    "half": "float16",
    "bf16": "bfloat16",
    "bfloat16": "bfloat16",
    "no": "float32",
    "fp32": "float32",
    "float32": "float32",
}
MASKING_NAMES = {"default": "mlm", "all_mask": "all"}


class NoCounterpartError(Exception):
    """A value that leaves nothing to set here; the message says why."""


def is_true(value: ForeignValue) -> bool:
    """Is a flag on? Scripts write True, true, 1 or yes."""
    return str(value).strip().lower() in ("true", "1", "yes", "on")


def as_it_is(value: ForeignValue) -> ForeignValue:
    """The value unchanged. Raises NoCounterpartError for none at all."""
    if value is None or value == "":
        raise NoCounterpartError("it has no value")
    return value


def if_true(value: ForeignValue) -> ForeignValue:
    """True. Raises NoCounterpartError for a flag that is off."""
    if not is_true(value):
        raise NoCounterpartError("it is off, as here")
    return True


def if_named(value: ForeignValue) -> ForeignValue:
    """True for a flag that is on, or that names a strategy."""
    if str(value).strip().lower() in ("", "false", "0", "no", "off", "none"):
        raise NoCounterpartError("it is off, as here")
    return True


def on_gpu(value: ForeignValue) -> ForeignValue:
    """cuda, where the flag is on."""
    return if_true(value) and "cuda"


def off_if_true(value: ForeignValue) -> ForeignValue:
    """The opposite flag. Raises NoCounterpartError where it is the default here."""
    if is_true(value):
        raise NoCounterpartError("it is so by default")
    return True


def not_negative(value: ForeignValue) -> ForeignValue:
    """A number. Raises NoCounterpartError below 0, which means `unset` there."""
    if float(value) < 0:
        raise NoCounterpartError("below 0 it is unset")
    return value


def above_one(value: ForeignValue) -> ForeignValue:
    """A count. Raises NoCounterpartError for 1, the default."""
    if int(value) <= 1:
        raise NoCounterpartError("1 is the default here")
    return value


def one_less(value: ForeignValue) -> ForeignValue:
    """A group of a positive and negatives as the number of its negatives."""
    return int(value) - 1


def inverse(value: ForeignValue) -> ForeignValue:
    """A factor of the similarities as the temperature that divides them."""
    if not float(value):
        raise NoCounterpartError("a factor of 0 is no temperature")
    return round(1 / float(value), 6)


def temperature(value: ForeignValue) -> ForeignValue:
    """A temperature; programs that multiply by it write numbers above 1."""
    return inverse(value) if float(value) > 1 else value


def several(value: ForeignValue) -> ForeignValue:
    """A list, also of a text with commas or blanks."""
    if isinstance(value, str):
        return value.replace(",", " ").split()
    return list(value) if isinstance(value, (list, tuple)) else [as_it_is(value)]


def similarity(value: ForeignValue) -> ForeignValue:
    """Dot products, where vectors are not normalised."""
    if is_true(value):
        raise NoCounterpartError("the cosine is the default")
    return "dot"


def bfloat16(value: ForeignValue) -> ForeignValue:
    """The number type of mixed precision."""
    return if_true(value) and "bfloat16"


def teacher_loss(value: ForeignValue) -> ForeignValue:
    """InfoNCE with a teacher's scores."""
    return if_true(value) and "infonce+kl"


def lora_rank(value: ForeignValue) -> ForeignValue:
    """LoRA with this rank. Raises NoCounterpartError for 0."""
    if int(value) < 1:
        raise NoCounterpartError("it is off, as here")
    return {"lora": True, "lora_rank": int(value)}


def mask_token(value: ForeignValue) -> ForeignValue:
    """LLM2Vec's kinds of mask tokens."""
    kinds = {"blank": "_"}
    if value not in kinds:
        raise NoCounterpartError("the model's own mask token is the default")
    return kinds[value]


def by_name(names: Mapping[str, str]) -> Convert:
    """A conversion by a table of names."""

    def convert(value: ForeignValue) -> ForeignValue:
        """Our name. Raises NoCounterpartError for a name that is not in the table."""
        if str(value).lower() not in names:
            known = ", ".join(map(repr, dict.fromkeys(names.values())))
            raise NoCounterpartError(f"no such value here; one of {known}")
        return names[str(value).lower()]

    return convert


def training_dtype(value: ForeignValue) -> ForeignValue:
    """A number type; float16 loses small gradients, so that it is bfloat16 here."""
    name: str = by_name(DTYPE_NAMES)("fp16" if value is True else value)
    return "bfloat16" if name == "float16" else name
