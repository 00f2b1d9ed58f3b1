"""Replies are read however they are wrapped; what cannot be a row has a name."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fletching_synthgen.llm import response_parsing
from fletching_synthgen.llm.response_parsing import (
    RejectedResponseError,
    object_schema,
    parse_response,
)

PAIR = object_schema(input="string", label="string")
TASKS = object_schema(tasks=["string"])
QUERIES = object_schema(queries=[{"query": "string", "evidence": "string"}])
GOOD = {"input": "a text", "label": "b"}
GOOD_TEXT = json.dumps(GOOD)


def attempt(*reply: Any) -> Any:
    """What was read, or the reason why nothing was."""
    try:
        return parse_response(*reply)
    except RejectedResponseError as problem:
        return problem.reason


@pytest.mark.parametrize(
    "text",
    [
        GOOD_TEXT,
        f"```json\n{GOOD_TEXT}\n```",
        f"```\n{GOOD_TEXT}",
        f"Sure! Here it is:\n{GOOD_TEXT}\nLet me know.",
        f"<think>the {{user}} wants {{}} JSON</think>\n{GOOD_TEXT}",
        f"{{not json}} {GOOD_TEXT} {{}}",
        json.dumps({**GOOD, "more": 1}),
        f'{{"wrong": 1}}\n{GOOD_TEXT}',
        "\ufeff" + GOOD_TEXT,
    ],
)
def test_an_object_is_found_whatever_stands_around_it(text: str) -> None:
    assert parse_response(text, "stop", PAIR) == GOOD


def test_raw_control_characters_inside_strings_are_read() -> None:
    assert (
        parse_response('{"input": "a\nb\tc\x01", "label": "x"}', "stop", PAIR)["input"]
        == "a\nb\tc\x01"
    )


def test_a_bare_list_is_taken_for_the_only_field() -> None:
    assert parse_response('["one", "two"]', "stop", TASKS) == {"tasks": ["one", "two"]}


@pytest.mark.parametrize(
    ("text", "finish", "reason", "repairable"),
    [
        (None, "stop", "empty reply", False),
        ("  ", "stop", "empty reply", False),
        ("", "length", "cut off", False),
        ("I would rather not.", "stop", "no JSON", True),
        ('{"input": "a", "lab', "length", "cut off", False),
        ('{"input": "a", "lab', "stop", "no JSON", True),
        ('{"input": "a"}', "stop", "wrong schema", True),
        ('{"input": "a", "label": 3}', "stop", "wrong schema", True),
        ('{"input": ["a"], "label": "b"}', "stop", "wrong schema", True),
        ('{"input": null, "label": "b"}', "stop", "wrong schema", True),
        ('["input", "label"]', "stop", "wrong schema", True),
        (GOOD_TEXT, "content_filter", "refused by the model", False),
        ("[" * 100_000, "stop", "no JSON", True),
    ],
)
def test_what_gives_no_row_has_a_reason(
    text: str | None, finish: str, reason: str, repairable: bool
) -> None:
    with pytest.raises(RejectedResponseError) as caught:
        parse_response(text, finish, PAIR)
    assert (caught.value.reason, caught.value.repairable) == (reason, repairable)


def test_of_a_list_that_was_cut_off_the_whole_items_are_kept() -> None:
    assert parse_response('{"tasks": ["one", "two", "thr', "length", TASKS) == {
        "tasks": ["one", "two"]
    }
    assert parse_response(
        '```json\n{"queries": [{"query": "a", "evidence": "b"}, {"query": "c"', "length", QUERIES
    ) == {"queries": [{"query": "a", "evidence": "b"}]}
    with pytest.raises(RejectedResponseError):
        parse_response('{"tasks": ["on', "length", TASKS)
    with pytest.raises(RejectedResponseError):
        parse_response(
            '{"scores": [1', "length", object_schema(scores=["integer"])
        )  # it may have been 10


@given(st.lists(st.text(), min_size=1, max_size=5), st.data())
def test_a_cut_anywhere_gives_a_prefix_of_the_items_or_a_reason(
    items: list[str], data: st.DataObject
) -> None:
    text = json.dumps({"tasks": items})
    cut = text[: data.draw(st.integers(0, len(text)))]
    parsed = attempt(cut, "length", TASKS)
    assert parsed == "cut off" or parsed["tasks"] == items[: len(parsed["tasks"])]


@given(st.text())
def test_no_reply_makes_it_fall_over(text: str) -> None:
    assert attempt(text, "stop", PAIR)


@given(st.dictionaries(st.sampled_from(["input", "label"]), st.text(), min_size=2))
def test_what_was_written_as_json_is_read_back(value: dict[str, str]) -> None:
    assert (
        parse_response(f"Here:\n```json\n{json.dumps(value, indent=1)}\n```", "stop", PAIR) == value
    )


def test_the_schema_is_strict_and_is_described_in_words() -> None:
    assert QUERIES["additionalProperties"] is False and QUERIES["required"] == ["queries"]
    assert QUERIES["properties"]["queries"]["items"]["required"] == ["query", "evidence"]
    assert response_parsing.format_instruction(QUERIES).endswith(
        '{"queries": [{"query": "...", "evidence": "..."}, ...]}'
    )
