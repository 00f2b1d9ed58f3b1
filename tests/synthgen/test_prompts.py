"""The axes are those of the paper's tables, value by value, and drawn as the seed says."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fletching.errors import InputError, UsageError
from fletching_synthgen.prompts import attributes
from fletching_synthgen.prompts.library import PromptLibrary, fill_template, quote

OURS = PromptLibrary()
PAPER = {  # tables 8 to 13 of arXiv 2401.00368
    ("short-long", "query_type"): ["extremely long-tail", "long-tail", "common"],
    ("short-long", "query_length"): ["less than 5 words", "5 to 15 words", "at least 10 words"],
    ("short-long", "difficulty"): ["high school", "college", "PhD"],
    ("short-long", "clarity"): ["clear", "understandable with some effort", "ambiguous"],
    ("short-long", "num_words"): ["50", "100", "200", "300", "400", "500"],
    ("long-short", "num_words"): [
        "less than 10",
        "at least 10",
        "at least 50",
        "at least 100",
        "at least 200",
    ],
    ("long-short", "difficulty"): ["high school", "college", "PhD"],
    ("long-short", "clarity"): ["clear", "understandable with some effort", "ambiguous"],
    ("long-long", "num_words"): ["at least 300"],
    ("sts", "unit"): ["sentence", "phrase", "passage"],
    ("sts", "high_score"): ["4", "4.5", "5"],
    ("sts", "low_score"): ["2.5", "3", "3.5"],
    ("sts", "difficulty"): ["elementary school", "high school", "college"],
    ("bitext", "unit"): ["sentence", "phrase", "passage"],
    ("bitext", "high_score"): ["4", "4.5", "5"],
    ("bitext", "low_score"): ["1.5", "2", "2.5"],
    ("bitext", "difficulty"): ["elementary school", "high school", "college"],
}


@pytest.mark.parametrize(("group", "axis"), PAPER, ids=lambda name: name)
def test_a_value_set_is_the_papers(group: str, axis: str) -> None:
    assert OURS.attributes[group][axis] == PAPER[group, axis]


def test_the_groups_have_no_other_axes() -> None:
    assert {
        (group, axis)
        for group, values in OURS.attributes.items()
        if group != "queries"
        for axis in values
    } == set(PAPER)
    assert OURS.attributes["short-short"] == {}


def test_there_are_93_languages_and_english_has_its_share_of_the_draw() -> None:
    for name in ("languages.tsv", "languages.bitext.tsv"):
        table = OURS.languages(name)
        assert len(table) == len({entry.code for entry in table}) == 93
        weights = sorted((entry.weight for entry in table), reverse=True)
        assert weights[0] == 431 and weights[1:14] == [29] * 13 and set(weights[14:]) == {2.29}
        assert table[0].code == "en"


def test_languages_are_drawn_by_weight() -> None:
    table = OURS.languages()
    drawn = Counter(attributes.sample_language(table, 0, str(i)).code for i in range(4000))
    total = sum(entry.weight for entry in table)
    assert abs(drawn["en"] / 4000 - 431 / total) < 0.03
    assert abs(drawn["de"] / 4000 - 29 / total) < 0.015


def test_a_pair_of_languages_is_never_one_language() -> None:
    pairs = [
        attributes.sample_language_pair(OURS.languages("languages.bitext.tsv"), 0, str(i))
        for i in range(500)
    ]
    assert all(first.code != second.code for first, second in pairs)
    assert len({(first.code, second.code) for first, second in pairs}) > 150


def test_every_value_of_an_axis_is_drawn_about_as_often() -> None:
    drawn = Counter(
        attributes.sample_attributes(OURS.attributes["short-long"], 0, str(i))["num_words"]
        for i in range(6000)
    )
    assert set(drawn) == set(PAPER["short-long", "num_words"])
    assert all(850 < count < 1150 for count in drawn.values())


def test_a_new_axis_changes_no_draw_of_the_others() -> None:
    before = attributes.sample_attributes(OURS.attributes["sts"], 5, "a")
    after = attributes.sample_attributes(
        {"mood": ["calm", "angry"], **OURS.attributes["sts"]}, 5, "a"
    )
    assert {axis: after[axis] for axis in before} == before


def test_seeds_and_slots_draw_apart() -> None:
    drawn = {
        tuple(attributes.sample_attributes(OURS.attributes["short-long"], seed, slot).values())
        for seed in range(10)
        for slot in "abcdefghij"
    }
    assert len(drawn) > 60


def test_demonstrations_have_a_query_of_each_kind() -> None:
    assert len(OURS.demonstrations) == 2
    assert all(set(each.queries) == set(OURS.query_kinds) for each in OURS.demonstrations)


def test_kinds_of_the_user_need_no_demonstrations(tmp_path: Path) -> None:
    (tmp_path / "kinds.tsv").write_text("name\tlength\tdescription\njoke\t3 words\ta joke\n")
    library = PromptLibrary(str(tmp_path))
    assert set(library.query_kinds) == {"joke"} and len(library.demonstrations) == 2


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ("{}", "demonstrations.json is no list"),
        ("[", "demonstrations.json is no JSON"),
        ('[{"passage": "a"}]', "demonstrations.json, item 1: not a passage with queries"),
        ('[{"passage": " ", "queries": {}}]', "item 1: not a passage"),
        ('[{"passage": "a", "queries": {"title": 1}}]', "item 1: not a passage"),
        ('[{"passage": "a", "queries": {"joke": "b"}}]', "kinds.tsv has no kind 'joke'"),
    ],
)
def test_demonstrations_of_the_user_are_checked(content: str, what: str, tmp_path: Path) -> None:
    (tmp_path / "demonstrations.json").write_text(content)
    with pytest.raises(InputError, match=re.escape(what)):
        _ = PromptLibrary(str(tmp_path)).demonstrations


@pytest.mark.parametrize(
    ("value", "bounds"),
    [
        ("less than 5 words", (1, 4)),
        ("5 to 15 words", (5, 15)),
        ("at least 10", (10, 10**9)),
        ("at most 8 words", (1, 8)),
        ("300", (300, 300)),
        ("about 300 words", (300, 300)),
        ("clear", None),
    ],
)
def test_a_length_is_read_as_a_range_of_words(value: str, bounds: tuple[int, int] | None) -> None:
    assert attributes.parse_word_range(value) == bounds


@given(
    st.lists(st.text(min_size=1), min_size=1, unique=True),
    st.integers(0, 50),
    st.integers(0, 2**40),
)
def test_what_is_chosen_is_different_and_of_the_list(
    items: list[str], count: int, seed: int
) -> None:
    chosen = attributes.sample_items(items, seed, "slot", count=count)
    assert len(chosen) == len(set(chosen)) == min(count, len(items)) and set(chosen) <= set(items)


@given(st.text(), st.text())
def test_what_is_filled_in_is_never_filled_again(first: str, second: str) -> None:
    assert fill_template("{a}|{b}", {"a": first + "{b}", "b": second}) == f"{first}{{b}}|{second}"


@given(st.text())
def test_a_quoted_text_cannot_end_its_quotation(text: str) -> None:
    import json

    assert json.loads(quote(text)) == text and "\n" not in quote(text)


def test_a_users_file_stands_in_for_ours_and_the_rest_stays(tmp_path) -> None:
    (tmp_path / "axes.json").write_text('{"sts": {"unit": ["haiku"]}}')
    mixed = PromptLibrary(str(tmp_path))
    assert (
        mixed.attributes == {"sts": {"unit": ["haiku"]}} and mixed.languages() == OURS.languages()
    )
    assert mixed.digest and OURS.digest is None


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("axes.json", "{", "no JSON"),
        ("axes.json", '{"sts": {"unit": []}}', "sts.unit"),
        ("axes.json", '{"sts": {"U!": ["a"]}}', "U!"),
        ("languages.tsv", "head\nen\tEnglish\n", "line 2"),
        ("seeds.sts.txt", "", "none of our files"),
    ],
)
def test_a_wrong_file_is_refused_by_name(name: str, content: str, problem: str, tmp_path) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=problem):
        library = PromptLibrary(str(tmp_path))
        assert library.attributes and library.languages()


def test_a_prompt_that_names_an_unknown_place_is_refused(tmp_path) -> None:
    (tmp_path / "judge.md").write_text("{query} {nonsense} {format}")
    with pytest.raises(InputError, match="nonsense"):
        PromptLibrary(str(tmp_path)).template("judge", {"query", "format"})
    (tmp_path / "judge.md").write_text("{query}")
    with pytest.raises(InputError, match="format"):
        PromptLibrary(str(tmp_path)).template("judge", {"query", "format"})


def test_a_prompts_folder_that_is_none_is_wrong_usage(tmp_path) -> None:
    with pytest.raises(UsageError):
        PromptLibrary(str(tmp_path / "no"))
