"""Prompts of rows: completed by a template, and told where the query would run into them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fletching.prompts import InstructionTemplate, QueryPrompts, lacks_separator
from fletching.report import Report

TEMPLATE = InstructionTemplate.parse("Instruct: {}\\nQuery: ")


@given(st.text(), st.text(max_size=3), st.text(max_size=3))
def test_a_complete_prompt_stays_as_it_is(prompt: str, before: str, after: str) -> None:
    template = InstructionTemplate(before, after)
    complete = template.complete(prompt)
    assert template.complete(complete) == complete
    assert template.task(complete) == template.task(prompt)
    assert (complete == "") == (prompt == "")


def test_the_shells_line_end_is_one() -> None:
    assert TEMPLATE.complete("Find it.") == "Instruct: Find it.\nQuery: "
    assert TEMPLATE.task("Instruct: Find it.\nQuery: ") == "Find it."
    assert InstructionTemplate.parse(None).complete("Find it.") == "Find it."


@pytest.mark.parametrize("prompt", ["Find it", "Find it.", "version 2", "検索。", "really?"])
def test_a_letter_a_digit_and_a_full_stop_lack_a_separator(prompt: str) -> None:
    assert lacks_separator(prompt)


@pytest.mark.parametrize("prompt", ["Find it: ", "query:", "Instruct: x\n", "task | "])
def test_a_blank_a_line_end_and_a_mark_separate(prompt: str) -> None:
    assert not lacks_separator(prompt)


def test_the_first_prompt_without_a_separator_is_noted_once() -> None:
    report = Report("simfilter", quiet=True)
    prompts = QueryPrompts(None, report)
    assert prompts.complete([None, "", "q: ", "Find it."]) == [None, "", "q: ", "Find it."]
    assert prompts.complete(["Find that."]) == ["Find that."]
    [note] = report.notes
    assert "'Find it.'" in note
    assert "--prompt-template" in note
    completed = QueryPrompts("{}: ", report).complete(["Find it.", "Find it.: ", None])
    assert completed == ["Find it.: ", "Find it.: ", None]
    assert len(report.notes) == 1
