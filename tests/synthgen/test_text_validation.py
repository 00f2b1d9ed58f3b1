"""Which generated texts are fit for training, and why the others are not."""

from __future__ import annotations

import pytest

from fletching_synthgen import language_check, text_validation
from fletching_synthgen.llm.response_parsing import RejectedResponseError
from fletching_synthgen.prompts.library import PromptLibrary

TABLE = {entry.code: entry for entry in PromptLibrary().languages()}
SPANISH = "El búho caza por la noche, cuando los ratones salen de sus agujeros y buscan comida en el prado."
BOSNIAN = "Sova lovi noću, kada miševi izađu iz svojih rupa i traže hranu na livadi pored šume."
INDONESIAN = (
    "Burung hantu berburu pada malam hari ketika tikus keluar dari lubangnya untuk mencari makan."
)
GERMAN = "Die Eule jagt in der Nacht, wenn die Mäuse ihre Löcher verlassen und auf der Wiese nach Futter suchen."
ENGLISH = "The owl hunts at night, when the mice leave their holes and look for food on the meadow."


def reason(check, *arguments, **settings) -> str | None:
    try:
        check(*arguments, **settings)
    except RejectedResponseError as problem:
        return problem.reason
    return None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("fine", None),
        ("", "empty field"),
        (" \n ", "empty field"),
        ("...!", "empty field"),
        ("\x00\x01", "empty field"),
        ("half \ud800 pair", "broken characters"),
        ("I'm sorry, but I cannot do that.", "refused by the model"),
        ("As an AI language model, I", "refused by the model"),
        ("Was ist das?", None),
        ("什么", None),
    ],
)
def test_a_field_is_text(text: str, expected: str | None) -> None:
    assert reason(text_validation.clean_text, text, "x") == expected


def test_control_characters_become_blanks_and_line_feeds_stay() -> None:
    assert text_validation.clean_text(" a\x00\x07b\r\nc\td ", "x") == "a b\nc\td"


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("one two, three!", 3),
        ("a - b", 2),
        ("", 0),
        ("don't", 1),
        ("这是一个用来测试的句子", 11 / 1.6),
        ("東京 is big", 2 + 2 / 1.6),
    ],
)
def test_words_are_counted_in_every_script(text: str, count: float) -> None:
    assert text_validation.count_words(text) == pytest.approx(count)


@pytest.mark.parametrize(
    ("count", "requested", "slack", "fits"),
    [
        (4, "less than 5 words", 0, True),
        (5, "less than 5 words", 0, False),
        (6, "less than 5 words", 0.5, True),
        (7, "less than 5 words", 0.5, False),
        (100, "200", 0.5, True),
        (99, "200", 0.5, False),
        (300, "200", 0.5, True),
        (301, "200", 0.5, False),
        (9000, "at least 10", 0, True),
        (3, "clear", 0, True),
    ],
)
def test_lengths_are_held_to_what_was_asked_and_the_slack(
    count: int, requested: str, slack: float, fits: bool
) -> None:
    assert reason(
        text_validation.check_length, " ".join(["word"] * count), requested, slack=slack, field="x"
    ) == (None if fits else "wrong length")


@pytest.mark.parametrize(
    ("text", "code", "fits"),
    [
        (ENGLISH, "en", True), (GERMAN, "de", True), (ENGLISH, "de", False), (ENGLISH, "ru", False), (ENGLISH, "zh", False),
        ("Сова охотится ночью", "ru", True), ("Сова охотится ночью", "en", False), ("猫头鹰在夜间捕猎", "zh", True), ("フクロウは夜に狩りをする", "ja", True),
        ("올빼미는 밤에 사냥한다", "ko", True), ("GPT-4 und CUDA 12", "de", True), ("12 34", "ru", True), (GERMAN + " " + GERMAN, "en", False),
        ("उल्लू रात में शिकार करता है", "hi", True), (GERMAN, "nl", False), (GERMAN, "af", False), (SPANISH, "es", True), (SPANISH, "fr", False),
        (BOSNIAN, "bs", True), (BOSNIAN, "hr", True), (BOSNIAN, "pl", False), (ENGLISH, "su", False), (INDONESIAN, "su", True),
        (INDONESIAN, "ms", True), ("sort -k2 -n file.txt | uniq", "en", True),
        ("short English query", "de", True),
    ],
)  # fmt: skip
def test_a_text_that_is_plainly_in_another_language_is_noticed(
    text: str, code: str, fits: bool
) -> None:
    assert reason(language_check.check_language, text, TABLE[code], "x") == (
        None if fits else "wrong language"
    )


def leak_reason(text: str, phrases, reply_fields=()) -> str | None:
    return reason(
        text_validation.check_no_leak, text, phrases, reply_fields=reply_fields, field="x"
    )


def test_a_text_that_repeats_the_prompt_or_names_its_fields_is_a_leak() -> None:
    template = PromptLibrary().text("example.short-long.md")
    phrases = text_validation.prompt_phrases(template)
    fields = ("user_query", "positive_document")
    repeated = "a document that looks as if it served the query, by its subject"
    assert leak_reason(f"Well: {repeated}.", phrases, fields) == "instruction leak"
    assert leak_reason("see positive_document above", phrases, fields) == "instruction leak"
    assert leak_reason(ENGLISH, phrases, fields) is None


def test_what_fills_a_placeholder_is_no_leak() -> None:
    phrases = text_validation.prompt_phrases("Write about this: {text} now.")
    assert leak_reason("one two three four five six seven eight", phrases) is None


def test_texts_that_differ_in_case_and_blanks_alone_are_the_same() -> None:
    assert reason(text_validation.check_different, "The  Owl", "the owl", "same") == "same"
    assert reason(text_validation.check_different, "The owl", "an owl", "same") is None


def test_a_quotation_must_be_in_the_passage() -> None:
    contains_quote = text_validation.contains_quote
    assert contains_quote("At night the owl\nhunts mice", '"The OWL hunts..."')
    assert not contains_quote("the owl hunts", "the owl sleeps")
    assert not contains_quote("a . b", ".")
