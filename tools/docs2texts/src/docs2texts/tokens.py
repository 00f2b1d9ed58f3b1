"""How many tokens a text has: by a model's tokenizer, or by an estimate from its words."""

from __future__ import annotations

import re
from collections.abc import Callable

from fletching.errors import InputError

TokenCounter = Callable[[str], int]

LETTERS_A_TOKEN = 6
# A word, or one sign; letters of scripts without blanks are one token each.
PIECES = re.compile(r"[぀-ヿ㐀-鿿가-힯豈-﫿]|[^\W_぀-ヿ㐀-鿿가-힯豈-﫿]+|[^\w\s]|_")


def estimate_tokens(text: str) -> int:
    """A token for each six letters of a word begun, each sign and each CJK letter.

    >>> estimate_tokens("Install it, please!"), estimate_tokens("internationalisation")
    (6, 4)
    """
    return sum(-(-len(piece) // LETTERS_A_TOKEN) for piece in PIECES.findall(text))


def token_counter(model: str | None) -> TokenCounter:
    """The counter of a model's tokenizer, special tokens left out; the estimate for None.

    Raises InputError for a model without a tokenizer.
    """
    if model is None:
        return estimate_tokens
    try:
        from transformers import AutoTokenizer
    except ImportError:
        raise InputError(
            "--model needs transformers", "pip install 'fletching-docs2texts[tokenizer]'"
        ) from None
    try:
        tokenizer = AutoTokenizer.from_pretrained(model)
    except Exception as error:  # whatever the hub and the files raise
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"--model {model}: {reason}", "name a model's folder") from None
    tokenizer.model_max_length = 1 << 30  # else each longer text brings a warning

    def count(text: str) -> int:
        """Tokens of a text, without those that the model puts around it."""
        return len(tokenizer(text, add_special_tokens=False)["input_ids"])

    return count
