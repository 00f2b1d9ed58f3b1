"""Rows become examples: the modes, templates, ids and columns kept."""

from __future__ import annotations

import pytest

from fletching.text import content_id

SHOP = [
    {"id": "1", "name": "lamp", "title": "Desk lamp", "text": "A lamp.", "kind": "light"},
    {"id": "2", "name": "bulb", "title": "", "text": "A bulb.", "kind": "light"},
    {"id": "3", "name": "chair", "title": "Chair", "text": " chair ", "kind": "seat"},
    {"id": "", "name": " ", "title": "x", "text": "y", "kind": "seat"},
]


def positives(result) -> list[tuple[str, list[str]]]:
    return [(row["query"], row["pos"]) for row in result.rows]


def test_each_makes_a_pair_for_every_positive_and_counts_what_it_drops(pairs):
    result = pairs(SHOP, "--query name --pos title,text")
    assert positives(result) == [
        ("lamp", ["Desk lamp"]),
        ("lamp", ["A lamp."]),
        ("bulb", ["A bulb."]),
    ]
    assert result.dropped == {"with an empty query": 1, "with a positive equal to the query": 2}
    assert result.summary["added"] == {"for further positives of the same row": 2}


def test_list_puts_the_distinct_positives_of_a_row_into_one_example(pairs):
    result = pairs(
        [*SHOP, {"name": "cup", "title": "Cup of tea", "text": "cup  OF tea", "kind": ""}],
        "--query name --pos title,text --mode list",
    )
    assert positives(result) == [
        ("lamp", ["Desk lamp", "A lamp."]),
        ("bulb", ["A bulb."]),
        ("cup", ["Cup of tea"]),
    ]


def test_fused_joins_what_is_there_with_its_column(pairs):
    result = pairs(SHOP[:2], "--query name --pos title,text --mode fused")
    assert positives(result) == [
        ("lamp", ["title: Desk lamp, text: A lamp."]),
        ("bulb", ["text: A bulb."]),
    ]


def test_a_template_sets_the_text_of_fused_and_is_one_more_positive_of_each_and_list(pairs):
    options = ["--query", "name", "--template", "{kind}/{title}"]
    assert positives(pairs(SHOP[:1], *options, "--mode fused")) == [("lamp", ["light/Desk lamp"])]
    assert positives(pairs(SHOP[:1], *options, "--pos text")) == [
        ("lamp", ["A lamp."]),
        ("lamp", ["light/Desk lamp"]),
    ]
    assert positives(pairs(SHOP[:1], *options, "--pos text --mode list")) == [
        ("lamp", ["A lamp.", "light/Desk lamp"])
    ]
    assert positives(pairs(SHOP[:2], *options, "--category kind --mode group")) == [
        ("lamp", ["light/"]),
        ("bulb", ["light/Desk lamp"]),
    ]


def test_queries_and_positives_may_be_templates_of_columns(pairs):
    result = pairs(SHOP[:2], "--query '{name} ({kind})' --pos '\"{title}, {{new}}\",text'")
    assert positives(result)[:2] == [
        ("lamp (light)", ["Desk lamp, {new}"]),
        ("lamp (light)", ["A lamp."]),
    ]
    assert ("bulb (light)", [", {new}"]) not in positives(
        result
    )  # nothing but empty cells is no text


@pytest.mark.parametrize("template", ["{", "no column", "{}", "{a:>3}", "{a!r}"])
def test_a_template_that_cannot_be_filled_is_a_usage_error(pairs, template):
    assert pairs(SHOP, "--query name --mode fused --template", template).rc == 2


def test_group_takes_every_other_row_of_the_category_on_request(pairs):
    rows = [{"q": f"question {n}", "c": "abc"[n % 3]} for n in range(20)] + [
        {"q": "alone", "c": "z"},
        {"q": "none", "c": " "},
    ]
    result = pairs(rows, "--query q --category c --mode group --group-positives 0")
    for row in result.rows:
        number = int(row["query"].split()[1])
        assert sorted(row["pos"]) == sorted(
            f"question {n}" for n in range(20) if n % 3 == number % 3 and n != number
        )
    assert result.dropped == {"alone in its category": 1, "without a category": 1}
    some = pairs(rows, "--query q --category c --mode group --group-positives 2 --negatives 4")
    for row in some.rows:
        assert len(row["pos"]) == 2
        assert not {rows[int(text.split()[1])]["c"] for text in row["neg"] if " " in text} & {
            rows[int(row["query"].split()[1])]["c"]
        }


def test_positives_of_a_group_are_its_texts_where_negatives_are_queries(pairs):
    rows = [{"q": f"q{n}", "a": f"a{n}", "c": "xy"[n % 2]} for n in range(6)]
    options = "--query q --pos a --category c --mode group --negatives 2 --negatives-from query"
    for row in pairs(rows, options).rows:
        assert {text[0] for text in row["pos"]} == {"a"}
        assert {text[0] for text in row["neg"]} == {"q"}


def test_a_hard_negative_of_the_table_is_no_positive_of_its_group(pairs):
    rows = [{"q": f"q{n}", "c": "x", "n": f"q{(n + 1) % 6}"} for n in range(6)]
    result = pairs(rows, "--query q --category c --mode group --group-positives 0 --neg n")
    for n, row in enumerate(result.rows):
        assert sorted(row["pos"]) == [f"q{m}" for m in range(6) if m not in (n, (n + 1) % 6)]
        assert row["neg"] == [f"q{(n + 1) % 6}"]


def test_the_category_is_a_positive_on_request_and_its_negatives_are_other_categories(pairs):
    rows = [{"q": f"q{n}", "a": f"a{n}", "c": "xyz"[n % 3]} for n in range(12)]
    result = pairs(rows, "--query q --pos a --category c --category-positive --negatives 2")
    names = {row["query"]: row["neg"] for row in result.rows if row["pos"][0] in "xyz"}
    assert len(result.rows) == 24
    assert all(
        sorted(negatives) == sorted(set("xyz") - {"xyz"[int(query[1:]) % 3]})
        for query, negatives in names.items()
    )
    assert all(
        len(row["neg"]) == 2 and all(text[0] == "a" for text in row["neg"])
        for row in result.rows
        if row["pos"][0][0] == "a"
    )
    assert pairs(rows, "--query q --pos a --category-positive").rc == 2


def test_texts_come_from_a_template_or_the_columns_once_each(pairs):
    result = pairs(
        [*SHOP, {"name": "LAMP", "title": "desk  lamp"}, {"name": "", "title": ""}],
        "--mode texts --template '{name} {title}' --keep kind --id id",
    )
    assert [(row["id"], row["text"], row.get("kind")) for row in result.rows[:1]] == [
        ("1", "lamp Desk lamp", "light")
    ]
    assert result.dropped == {"duplicate": 1, "empty": 1}
    assert (
        pairs(SHOP[:1], "--mode texts --pos title,text --domain kind").rows[0].items()
        >= {"text": "title: Desk lamp, text: A lamp.", "domain": "light"}.items()
    )


def test_texts_out_writes_the_unsupervised_texts_in_the_same_run(pairs):
    result = pairs(SHOP[:2], "--query name --pos title,text --texts-out texts.jsonl")
    assert sorted(row["text"] for row in result.files["texts.jsonl"]) == sorted(
        ["lamp", "bulb", "Desk lamp", "A lamp.", "A bulb."]
    )
    result = pairs(
        SHOP[:2],
        "--query name --pos text --texts-out texts.jsonl --texts-template '[{name}] {text}' --negatives 1",
    )
    assert [row["text"] for row in result.files["texts.jsonl"]] == [
        "[lamp] A lamp.",
        "[bulb] A bulb.",
    ]


def test_ids_are_the_users_or_a_hash_of_the_content(pairs):
    result = pairs(
        [*SHOP[:1], {"id": " ", "name": "a", "text": "b"}], "--query name --pos text --id id"
    )
    assert [row["id"] for row in result.rows] == ["1", content_id("a", "b")]
    assert pairs(SHOP[:1], "--query name --pos text").rows[0]["id"] == content_id("lamp", "A lamp.")


def test_rows_that_repeat_an_id_stay_are_told_and_are_never_each_others_negatives(pairs):
    rows = [{"i": str(n // 2), "q": f"q{n}", "a": f"a{n}"} for n in range(8)]
    result = pairs(rows, "--query q --pos a --id i --negatives 8")
    assert result.summary["measures"]["rows_with_an_id_seen_before"] == 4
    for n, row in enumerate(result.rows):
        assert sorted(row["neg"]) == sorted(f"a{m}" for m in range(8) if m // 2 != n // 2)
    assert (
        "rows_with_an_id_seen_before"
        not in pairs(rows, "--query q --pos a,q --mode list --id q").summary["measures"]
    )


def test_columns_are_kept_as_they_are_and_may_not_hide_ours(pairs):
    result = pairs(SHOP[:1], "--query name --pos text --keep kind,title --domain kind")
    assert result.rows[0]["kind"] == result.rows[0]["domain"] == "light"
    for name in ("query", "neg", "pos_scores"):
        assert pairs(SHOP, "--query name --pos text --keep", name).rc == 2


def test_repeated_rows_are_dropped_and_the_first_stays(pairs):
    rows = [{"q": "How?", "a": "So."}, {"q": "how? ", "a": "SO."}, {"q": "How?", "a": "Thus."}]
    result = pairs(rows, "--query q --pos a")
    assert positives(result) == [("How?", ["So."]), ("How?", ["Thus."])]
    assert result.dropped == {"duplicate": 1}


@pytest.mark.parametrize(
    "options",
    [
        ["--pos", "text"], ["--query", "name"], ["--query", "name", "--mode", "group"], ["--mode", "texts"], ["--mode", "texts", "--pos", "text", "--negatives", "2"],
        ["--query", "name", "--pos", "text", "--texts-template", "{text}"], ["--query", "name", "--pos", "text", "--split-by", "kind"], ["--query", "name", "--pos", "text", "--delimiter", '"'],
    ],
)  # fmt: skip
def test_options_that_contradict_each_other_are_usage_errors(pairs, options):
    assert pairs(SHOP, *options).rc == 2
