"""Is a text in the requested language? By script and by py3langid (Lui & Baldwin 2012).

A text is rejected only if the identifier gives the language and its near kin a probability
below 0.001. On Tatoeba's sentences in ten languages, and on English queries, abstracts and code
comments, that rejects no right one.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from fletching_synthgen.llm.response_parsing import RejectedResponseError
from fletching_synthgen.prompts.library import Language
from fletching_synthgen.text_validation import script_of

if TYPE_CHECKING:
    from py3langid.langid import LanguageIdentifier

REJECTED_BELOW = 1e-3  # probability
# For a language that the identifier does not know: this sure it must be that the text is English.
ENGLISH_ABOVE = 0.9
LEAST_LETTERS = 3  # fewer are not checked
IDENTIFIER_LETTERS = 20  # fewer are checked by script alone
# Languages written so alike that the identifier takes one for the other.
KIN = (
    ("bs", "hr", "sr"),
    ("id", "ms"),
    ("no", "nn", "da"),
    ("xh", "zu"),
    ("zh", "yue", "wuu"),
)


@functools.cache
def language_identifier() -> LanguageIdentifier:
    """The identifier, loaded once (a second), when the first text is checked."""
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


def check_language(text: str, language: Language, field: str) -> None:
    """Raise RejectedResponseError where the text is plainly in another language."""
    scripts = [script_of(character) for character in text if character.isalpha()]
    if len(scripts) < LEAST_LETTERS:
        return
    # A borrowed word in another script is common; half of the letters is not.
    expected = sum(script in language.scripts for script in scripts)
    if expected < len(scripts) / 2:
        raise RejectedResponseError("wrong language", f'"{field}" is not in {language.name}')
    if len(scripts) < IDENTIFIER_LETTERS:
        return
    ranking = language_identifier().rank(text)
    probabilities = {code: float(probability) for code, probability in ranking}
    if _is_other_language(language, probabilities):
        likeliest = max(probabilities, key=probabilities.__getitem__)
        detail = f'"{field}" is not in {language.name} but looks like {likeliest}'
        raise RejectedResponseError("wrong language", detail)


def _is_other_language(language: Language, probabilities: dict[str, float]) -> bool:
    if language.code not in probabilities:
        return probabilities["en"] > ENGLISH_ABOVE
    kin = next((group for group in KIN if language.code in group), (language.code,))
    return sum(probabilities[code] for code in kin) < REJECTED_BELOW
