"""Is a text in the language that was asked for? By script, and by py3langid (Lui & Baldwin 2012) where it knows the language.

A text is refused only where the identifier gives the language and its near kin less than one in a thousand: on Tatoeba's
sentences in ten languages, and on English queries, abstracts and code comments, that refuses none that is right.
"""

from __future__ import annotations

import functools
from typing import Any

from synthgen.llm.response_parsing import Unusable
from synthgen.prompts.library import Language
from synthgen.text_validation import script

UNLIKELY = 1e-3
ENGLISH = 0.9  # so sure it must be of English where it does not know the language asked for
LETTERS = 20  # fewer are judged by script alone
# What is written so alike that the identifier takes one for the other.
KIN = (("bs", "hr", "sr"), ("id", "ms"), ("no", "nn", "da"), ("xh", "zu"), ("zh", "yue", "wuu"))


@functools.cache
def identifier() -> Any:
    """Loaded once (a second), when the first text is looked at."""
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


def in_language(text: str, language: Language, name: str) -> None:
    """Unusable where the text is plainly not in the language."""
    letters = [script(c) for c in text if c.isalpha()]
    if len(letters) < 3:
        return
    # A borrowed word in another script is common; half of the letters is not.
    if sum(found in language.scripts for found in letters) < len(letters) / 2:
        raise Unusable("wrong language", f'"{name}" is not in {language.name}')
    if len(letters) < LETTERS:
        return
    shares = {code: float(share) for code, share in identifier().rank(text)}
    if language.code in shares:
        kin = next((group for group in KIN if language.code in group), (language.code,))
        wrong = sum(shares[code] for code in kin) < UNLIKELY
    else:
        wrong = shares["en"] > ENGLISH
    if wrong:
        raise Unusable(
            "wrong language",
            f'"{name}" is not in {language.name} but looks like {max(shares, key=shares.__getitem__)}',
        )
