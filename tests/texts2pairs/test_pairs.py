"""Pairs from texts: what becomes a query is no longer in any copy of its answer."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fletching.text import normalise
from texts2pairs import code, prose
from texts2pairs.cli import main
from texts2pairs.options import Options
from texts2pairs.text_queries import TextRow, queries_of

PROSE = (
    "Bread rises by yeast. The dough rests for an hour. It is folded twice in this time. "
    "The oven must be hot before it goes in."
)


def row(text: str, *, title: str = "", format: str = "", id: str = "1") -> TextRow:
    return TextRow(id=id, text=text, title=title, source="", format=format, domain=None)


@pytest.fixture
def pairs(tmp_path: Path):
    def pairs(rows: list[dict[str, Any]], *options: str) -> list[dict[str, Any]]:
        """The rows that texts2pairs writes, and its summary in `pairs.summary`."""
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / "texts.parquet")
        out, summary = tmp_path / "out.jsonl", tmp_path / "summary.json"
        argv = [tmp_path / "texts.parquet", "-o", out, "--json-summary", summary, *options]
        assert main(list(map(str, argv))) == 0
        pairs.summary = json.loads(summary.read_text("utf-8"))
        return [json.loads(line) for line in out.read_text("utf-8").splitlines()]

    return pairs


sentences = st.lists(
    st.from_regex(r"[A-Z][a-z]{2,8}( [a-z]{2,8}){3,7}[.!?]", fullmatch=True), min_size=1, max_size=9
)


@settings(max_examples=60, deadline=None)
@given(
    parts=sentences, title=st.sampled_from(["", "Guide > Install", "Bread"]), seed=st.integers(0, 9)
)
def test_no_query_stands_in_its_positive_and_nothing_else_is_lost(parts, title, seed):
    text = " ".join(parts)
    kinds = ("title", "heading", "first-sentence", "cloze")
    result = queries_of(row(text, title=title), Options(seed=seed, kinds=kinds))
    removed = [query for _, query in result.sentences]
    for query in removed:
        assert normalise(query) not in normalise(result.positive)
    kept = [part for part in parts if part not in removed]
    assert result.positive.split() == " ".join(kept).split()


def test_a_title_at_the_beginning_of_its_text_is_cut_off():
    result = queries_of(row(f"bread . {PROSE}", title="Bread"), Options(kinds=("title",)))
    assert result.positive == PROSE
    other = queries_of(row(f"Breads {PROSE}", title="Bread"), Options(kinds=("title",)))
    assert other.positive.startswith("Breads")


def test_sentences_of_code_and_tables_are_no_queries():
    text = "x = f(a,  b).\n\nname | value.\n\nOne line of code\n    and the next of it.\n\n" + PROSE
    found = [each.text for each in prose.sentences_of(text) if each.is_query]
    assert found == [
        "Bread rises by yeast.",
        "The dough rests for an hour.",
        "It is folded twice in this time.",
        "The oven must be hot before it goes in.",
    ]


words = st.lists(st.from_regex(r"[a-z]{1,9}", fullmatch=True), min_size=1, max_size=60)


@settings(max_examples=60, deadline=None)
@given(words=words, seed=st.integers(0, 9))
def test_texts_without_title_and_sentences_ask_by_their_first_words(words, seed):
    text = " ".join(words)
    result = queries_of(row(text), Options(seed=seed))
    if not result.sentences:
        assert result.positive == text
        return
    [(kind, query)] = result.sentences
    assert kind == "first-words" and 4 <= len(query.split()) <= min(12, len(words) // 3)
    assert f"{query} {result.positive}" == text


def test_first_words_are_asked_only_where_nothing_else_is(pairs):
    plain = "a digital store of large capacity with random access is described in detail here"
    rows = [
        {"id": "1", "title": "Digital stores", "text": plain},
        {"id": "2", "title": None, "text": PROSE},
        {"id": "3", "title": None, "text": plain.replace("digital", "magnetic")},
        {"id": "4", "title": None, "text": "17 4.2 1 | 18 3.9 2 | 19 4.4 1 | 20 4.8 3 | 21 5.1"},
    ]
    kinds = {
        each["pos_ids"][0]: each["kind"] for each in pairs(rows, "--kinds", "title,first-words")
    }
    assert kinds == {"1": "title", "2": "first-words", "3": "first-words"}
    kinds = [(each["pos_ids"][0], each["kind"]) for each in pairs(rows)]
    assert ("2", "first-words") not in kinds and ("3", "first-words") in kinds


PLAIN = "a digital store of large capacity with random access is described in detail here again"


@pytest.mark.parametrize(
    ("title", "text", "kinds"),
    [
        pytest.param("Text", PLAIN, ["first-words"], id="a title of one word"),
        pytest.param("", "The wing is thin. " * 3 + PLAIN, [], id="repeated"),
        pytest.param("", f"## Heading ``` {PLAIN}", [], id="a heading and a fence"),
        pytest.param("", f"- an item and {PLAIN}", [], id="a list"),
        pytest.param("", f"1. an item and {PLAIN}", [], id="a numbered list"),
        pytest.param("", f"where a | b and {PLAIN}", [], id="a table"),
        pytest.param("", "x = f(y); z[1] = {a: b(c)}; " * 6, [], id="code"),
        pytest.param("", f"{PLAIN} 1234567890 (12.5) {{45}}", [], id="many other characters"),
    ],
)
def test_first_words_are_of_prose_without_a_title_of_enough_words(title, text, kinds):
    result = queries_of(row(text, title=title), Options())
    assert [kind for kind, _ in result.sentences] == kinds


@pytest.mark.parametrize(
    ("text", "query", "left"),
    [
        ('def f(x):\n    """Double it.\n\n    More.\n    """\n    return 2 * x', "Double it.", "def f(x):\n    return 2 * x"),
        ('    async def f(self):\n        "Wait for it."\n        await self.x', "Wait for it.", "    async def f(self):\n        await self.x"),
    ],
)  # fmt: skip
def test_a_docstring_is_taken_out_of_its_function(text, query, left):
    docstring, rest = code.split_python(text)
    assert (code.summary(docstring), rest) == (query, left)


def test_functions_without_a_docstring_of_their_own_lines_give_none():
    assert code.split_python("def f(): 'One line.'; return 1") is None
    assert code.split_python("def f(x):\n    return x") is None
    assert code.split_python("def f(:") is None


@pytest.mark.parametrize(
    ("text", "comment"),
    [
        ("/**\n * Adds two numbers.\n */\nint add(int a, int b) {\n", "Adds two numbers."),
        ("// Adds two\n// numbers.\nfunc add() {\n", "Adds two\nnumbers."),
        ("# Adds two numbers.\nadd() {\n", "Adds two numbers."),
    ],
)
def test_a_leading_comment_is_taken_off_its_code(text, comment):
    found, rest = code.split_comment(text)
    assert found == comment
    assert "Adds" not in rest and rest


def test_headings_are_as_long_as_it_takes_to_be_alone_and_list_their_section(pairs):
    rows = [
        {"id": "1", "title": "Guide > Install > Linux", "text": PROSE, "source": "guide.md"},
        {"id": "2", "title": "Guide > Install > Linux", "text": "Part two of it is here.", "source": "guide.md"},
        {"id": "3", "title": "Manual > Install > Linux", "text": "Another way to do it.", "source": "manual.md"},
        {"id": "4", "title": "Guide > The long way home", "text": "It takes time to walk.", "source": "guide.md"},
    ]  # fmt: skip
    found = {each["query"]: each["pos_ids"] for each in pairs(rows, "--kinds", "heading")}
    assert found == {
        "Guide Install Linux": ["1", "2"],
        "Manual Install Linux": ["3"],
        "The long way home": ["4"],
    }
    assert pairs.summary["rows_in"] == 4
    assert pairs.summary["dropped"] == {"in one pair with others of their section": 1}


def test_queries_of_several_texts_and_short_ones_are_dropped_and_shown(pairs, tmp_path):
    rows = [
        {"id": "1", "title": "Bread and butter", "text": "One way to make it well."},
        {"id": "2", "title": "Bread and butter", "text": "Another way to make it well."},
        {"id": "3", "title": "Oil", "text": "It is pressed from the fruit."},
        {"id": "4", "title": None, "text": "Nothing to ask here at all"},
    ]
    rejects = tmp_path / "rejects.jsonl"
    assert pairs(rows, "--rejects", str(rejects)) == []
    reasons = [json.loads(line)["reject_reason"] for line in rejects.read_text().splitlines()]
    assert sorted(reasons) == [
        "a query of several texts",
        "a query of several texts",
        "a query of too few words",
        "without a query",
    ]
    assert sum(pairs.summary["dropped"].values()) == 4
    assert pairs(rows, "--min-words", "1")[0]["query"] == "Oil"


def test_all_pairs_of_a_text_have_one_positive_which_is_what_is_searched(pairs, tmp_path):
    corpus = tmp_path / "corpus.jsonl"
    found = pairs(
        [{"id": "1", "title": "On bread today", "text": PROSE}], "--corpus-out", str(corpus)
    )
    assert sorted(each["kind"] for each in found) == ["cloze", "first-sentence", "title"]
    [searched] = [json.loads(line) for line in corpus.read_text("utf-8").splitlines()]
    assert {tuple(each["pos"]) for each in found} == {(searched["text"],)}
    assert "title" not in searched
    few = pairs([{"id": "1", "title": "On bread today", "text": PROSE}], "--min-left", "20")
    assert [each["kind"] for each in few] == ["title", "first-sentence"]


def test_the_random_sentence_follows_from_seed_and_id_alone(pairs):
    rows = [{"id": str(number), "text": PROSE + f" It is loaf {number} of them."} for number in range(6)]  # fmt: skip
    kinds = ("--kinds", "cloze")
    first = {each["pos_ids"][0]: each["query"] for each in pairs(rows, *kinds)}
    turned = {each["pos_ids"][0]: each["query"] for each in pairs(rows[::-1], *kinds)}
    other = {each["pos_ids"][0]: each["query"] for each in pairs(rows, *kinds, "--seed", "1")}
    assert first == turned
    assert first != other


@pytest.mark.slow
def test_batches_of_the_pipe_do_not_show_and_a_cut_one_is_refused(tmp_path, run):
    rows = [
        {
            "id": str(n),
            "source": "guide.md",
            "title": f"Guide > Part {n // 3} of it",
            "text": PROSE + f" Loaf {n} is done.",
        }
        for n in range(12)
    ]
    written = []
    for size in (12, 5):
        batches = [
            pa.RecordBatch.from_pylist(rows[start : start + size])
            for start in range(0, len(rows), size)
        ]
        sink = io.BytesIO()
        with pa.ipc.new_stream(sink, batches[0].schema) as stream:
            for batch in batches:
                stream.write_batch(batch)
        out = tmp_path / f"{size}.parquet"
        done = run(["texts2pairs", "-o", out], stdin=sink.getvalue())
        assert done.rc == 0, done.err
        written.append(out.read_bytes())
    assert written[0] == written[1]
    answers = [row["pos_ids"] for row in pq.read_table(out).to_pylist() if row["kind"] == "heading"]
    assert answers == [[str(n), str(n + 1), str(n + 2)] for n in range(0, 12, 3)]
    done = run(["texts2pairs", "-o", tmp_path / "cut.parquet"], stdin=sink.getvalue()[:-8])
    assert done.rc == 1
    assert "pipefail" in done.err
    assert not (tmp_path / "cut.parquet").exists()


def test_written_queries_join_with_the_text_as_it_is_searched(pairs, tmp_path):
    """Those copied from the text, of several texts and of none are dropped or told."""
    texts = [
        {"id": "1", "title": "Bread", "text": PROSE},
        {"id": "2", "title": "Hull", "text": "The hull is of steel. Its plates are welded at sea."},
        {"id": "3", "title": "Only a title", "text": "Only a title"},
    ]
    left = {row["pos_ids"][0]: row["pos"][0] for row in pairs(texts)}
    copied = " ".join(left["1"].split()[:5])
    written = [
        ("how long does dough rest", "1"),
        ("hot oven", "1"),
        (copied, "1"),
        ("why is it done", "1"),
        ("why is it done", "2"),
        ("what is left", "3"),
        ("who sails", "9"),
    ]
    file, rejects = tmp_path / "written.jsonl", tmp_path / "rejects.jsonl"
    rows = [{"query": query, "pos": ["whole"], "pos_ids": [text]} for query, text in written]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    joined = pairs(texts, "--queries", str(file), "--rejects", str(rejects))
    asked = {(row["query"], row["pos"][0]) for row in joined if row["kind"] == "written"}
    assert asked == {("how long does dough rest", left["1"]), ("hot oven", left["1"])}
    assert {row["query"] for row in pairs(texts)} < {row["query"] for row in joined}
    dropped = [json.loads(line) for line in rejects.read_text("utf-8").splitlines()]
    assert {row["query"]: row["reject_reason"] for row in dropped if row["kind"] == "written"} == {
        copied: "a written query that stands in its text",
        "why is it done": "a query of several texts",
        "what is left": "a written query of an empty text",
    }
    joined = pairs(texts, "--queries", str(file))
    [note] = [note for note in pairs.summary["notes"] if "left out" in note]
    assert "1 queries are of 1 texts that are not here" in note and "'9'" in note


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"pos_ids": ["9"]}, "no `pos_ids` is an id of these texts; the first is '9'"),
        (
            {"pos": [PROSE, "Another."], "pos_ids": ["1", "2"]},
            "row 1: `pos_ids` is ['1', '2'], not the id of one text",
        ),
        ({}, "row 1: `pos_ids` is None, not the id of one text"),
    ],
)
def test_written_queries_of_other_texts_are_refused(row, words, tmp_path, capsys):
    texts, file = tmp_path / "texts.jsonl", tmp_path / "written.jsonl"
    texts.write_text(json.dumps({"id": "1", "title": "Bread", "text": PROSE}) + "\n")
    file.write_text(json.dumps({"query": "what rises", "pos": [PROSE]} | row) + "\n")
    argv = [str(texts), "--queries", str(file), "-o", str(tmp_path / "out.parquet")]
    assert main(argv) == 1
    error = capsys.readouterr().err
    assert words in error and "--queries FILE" in error
    assert not (tmp_path / "out.parquet").exists()
