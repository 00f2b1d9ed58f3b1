"""The contract: every valid example is read, every invalid case gives its error, every encoding the same rows."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fletching import cli, schema
from fletching.column_mapping import ColumnMapping
from fletching.errors import InputError
from fletching.io import Reader
from fletching.report import Report

SCHEMAS = Path(__file__).resolve().parents[2] / "schemas"
EXAMPLES = schema.load("examples")
INVALID = sorted(SCHEMAS.glob("*/v1/invalid/*.jsonl"))


NUMBERS = ("pos_scores", "neg_scores", "vector")  # stored as float32


def read(name: str, *inputs: str) -> pa.Table:
    return Reader(Report("TOOL", quiet=True), inputs, name).read_all()


def identity(case: Path) -> str:
    return f"{case.parents[2].name}-{case.stem}"


@pytest.mark.parametrize("case", INVALID, ids=identity)
def test_an_invalid_case_gives_exactly_its_error(case, monkeypatch, capsys):
    monkeypatch.chdir(case.parent)
    with pytest.raises(InputError) as refused:
        read(case.parents[2].name, case.name)
    cli._complain("TOOL", refused.value.what, refused.value.fix, code=1)
    assert capsys.readouterr().err == case.with_suffix(".err").read_text("utf-8")


@pytest.mark.parametrize(
    "path",
    sorted(SCHEMAS.glob("*/v1/examples/*.jsonl")),
    ids=lambda path: f"{path.parents[2].name}-{path.stem}",
)
def test_every_value_of_a_valid_example_is_read(path):
    rows = read(path.parents[2].name, str(path)).to_pylist()
    written = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    assert len(rows) == len(written)
    for row, before in zip(rows, written):
        for name, value in before.items():
            assert row[name] == (pytest.approx(value) if name in NUMBERS and value else value)


@pytest.mark.parametrize("name", schema.NAMES)
def test_every_promise_of_a_schema_has_an_invalid_case(name):
    cases = " ".join(path.stem for path in (SCHEMAS / name / "v1" / "invalid").glob("*.jsonl"))
    for field in schema.load(name).fields:
        kebab = field.name.replace("_", "-")
        one = kebab.removesuffix("s") if field.type.startswith("list") else kebab
        if field.required:
            assert f"no-{kebab}-column" in cases
        if not field.nullable and not field.filled:
            assert f"null-{kebab}" in cases
        if field.finite:
            assert f"{one}-is-not-finite" in cases
        if field.aligned_with:
            assert f"{kebab}-not-aligned" in cases
        if field.values:
            assert f"unknown-{kebab}" in cases
        if field.min_items:
            assert f"empty-{kebab}" in cases
        if field.pattern:
            assert f"{kebab}-is-no-hash" in cases


@pytest.mark.parametrize("name", schema.NAMES)
def test_each_invalid_case_is_one_mutation_of_the_minimal_example(name):
    minimal = json.loads((SCHEMAS / name / "v1" / "examples" / "minimal.jsonl").read_text("utf-8"))
    for case in (SCHEMAS / name / "v1" / "invalid").glob("*.jsonl"):
        if case.stem in ("line-is-no-json", "row-is-no-object"):
            continue
        last = json.loads(case.read_text("utf-8").splitlines()[-1])
        changed = [
            field for field in {**minimal, **last} if minimal.get(field) != last.get(field, ...)
        ]
        # A list that must be aligned needs the list beside it; a second row has a key of its own.
        allowed = {"neg", "text_hash", "id", "text"} if len(changed) > 1 else set()
        assert len(set(changed) - allowed) <= 1, case


# --- encodings -----------------------------------------------------------------------------------

words = st.text(max_size=8)
strings = st.sampled_from(
    [
        pa.string(),
        pa.large_string(),
        pa.string_view(),
        pa.dictionary(pa.int32(), pa.string()),
        pa.dictionary(pa.int8(), pa.large_string()),
    ]
)
listings = st.sampled_from([pa.list_, pa.large_list, pa.list_view, pa.large_list_view])


def encoded(values: list, kind: pa.DataType) -> pa.Array:
    """Strings or lists of strings in the encoding `kind`, which pa.array cannot always build itself."""
    if pa.types.is_dictionary(kind):
        return pa.array(values, pa.string()).dictionary_encode().cast(kind)
    if hasattr(kind, "value_type") and pa.types.is_dictionary(kind.value_type):
        flat = encoded([item for value in values for item in value or []], kind.value_type)
        ends = [0]
        for value in values:
            ends.append(ends[-1] + len(value or []))
        mask = pa.array([value is None for value in values], pa.bool_())
        return pa.ListArray.from_arrays(pa.array(ends, pa.int32()), flat, mask=mask)
    return pa.array(values, kind)


def conformed(batch: pa.RecordBatch) -> list[dict]:
    mapping = ColumnMapping(EXAMPLES, batch.schema, "memory")
    return mapping.apply(batch, mapping.columns, 1).to_pylist()


@pytest.mark.slow
@settings(max_examples=120)
@given(st.data(), strings, strings, listings)
def test_all_encodings_of_the_same_values_give_the_same_rows(data, text, item, listing):
    rows = data.draw(
        st.lists(
            st.tuples(
                words,
                st.lists(words, min_size=1, max_size=3),
                st.none() | st.lists(words, max_size=3),
            ),
            max_size=6,
        )
    )
    if pa.types.is_dictionary(item):
        listing = pa.list_
    queries, pos, neg = ([row[i] for row in rows] for i in range(3))
    plain = pa.RecordBatch.from_arrays(
        [
            pa.array(queries, pa.string()),
            pa.array(pos, pa.list_(pa.string())),
            pa.array(neg, pa.list_(pa.string())),
        ],
        ["query", "pos", "neg"],
    )
    odd = pa.RecordBatch.from_arrays(
        [encoded(queries, text), encoded(pos, listing(item)), encoded(neg, listing(item))],
        ["query", "pos", "neg"],
    )
    assert conformed(odd) == conformed(plain)
    start = data.draw(st.integers(0, len(rows)))
    assert conformed(odd.slice(start)) == conformed(plain)[start:]


@given(st.lists(st.lists(words, min_size=2, max_size=2), min_size=1, max_size=5))
def test_a_fixed_size_list_is_a_list(pos):
    fixed = pa.record_batch(
        {"query": ["q"] * len(pos), "pos": pa.array(pos, pa.list_(pa.string(), 2))}
    )
    assert [row["pos"] for row in conformed(fixed)] == pos


@pytest.mark.parametrize(
    "kind",
    [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())],
)
def test_one_string_is_a_list_of_one_and_null_stays_null(kind):
    batch = pa.RecordBatch.from_arrays(
        [pa.array(["q", "r"]), encoded(["a", "b"], kind), encoded(["n", None], kind)],
        ["anchor", "positive", "negative"],
    )
    assert [(row["query"], row["pos"], row["neg"]) for row in conformed(batch)] == [
        ("q", ["a"], ["n"]),
        ("r", ["b"], None),
    ]


def test_values_hidden_under_a_null_list_are_no_values():
    flat = pa.array(["x", None, "y"])
    lists = pa.ListArray.from_arrays(
        pa.array([0, 2, 3], pa.int32()), flat, mask=pa.array([True, False])
    )
    batch = pa.RecordBatch.from_arrays(
        [pa.array(["q", "r"]), pa.array([["a"], ["b"]]), lists], ["query", "pos", "neg"]
    )
    assert [row["neg"] for row in conformed(batch)] == [None, ["y"]]


def test_the_right_row_is_named_when_lists_before_it_are_null_or_empty():
    scores = pa.array([None, [], [0.5], [float("nan")]], pa.list_(pa.float32()))
    batch = pa.record_batch(
        {
            "query": list("abcd"),
            "pos": [["p"]] * 4,
            "neg": [None, [], ["n"], ["n"]],
            "neg_scores": scores,
        }
    )
    with pytest.raises(
        InputError, match=r"memory, row 4: `neg_scores` holds a number that is not finite"
    ):
        conformed(batch)


def test_whole_numbers_are_read_as_ids_but_not_as_texts():
    ids = pa.record_batch({"id": [7], "query": ["q"], "pos": [["a"]], "pos_ids": [[3]]})
    assert conformed(ids)[0] == {"id": "7", "query": "q", "pos": ["a"], "pos_ids": ["3"]}
    with pytest.raises(InputError, match="column `query` is int64, but examples needs string"):
        conformed(pa.record_batch({"query": [7], "pos": [["a"]]}))


def test_a_missing_id_depends_on_query_and_positives_alone():
    def ids(**columns):
        return [
            row["id"]
            for row in conformed(
                pa.record_batch(
                    {"query": ["q", "q", "r"], "pos": [["a"], ["a", "b"], ["a"]], **columns}
                )
            )
        ]

    first = ids()
    assert len(set(first)) == 3
    assert ids(neg=[["n"], None, []], task=["t"] * 3) == first
    assert ids(id=["mine", None, None]) == ["mine", *first[1:]]


def test_a_column_that_appears_twice_is_refused():
    batch = pa.RecordBatch.from_arrays(
        [pa.array(["q"]), pa.array(["q"]), pa.array([["a"]])], ["query", "query", "pos"]
    )
    with pytest.raises(InputError, match="column `query` appears twice"):
        conformed(batch)


def test_the_own_name_wins_over_another_name_for_the_column():
    batch = pa.record_batch({"anchor": ["not me"], "query": ["me"], "pos": [["a"]]})
    row = conformed(batch)[0]
    assert (row["query"], row["anchor"]) == ("me", "not me")


def test_a_column_of_nulls_without_type_is_a_column_of_nulls():
    batch = pa.record_batch(
        {
            "query": ["q"],
            "pos": [["a"]],
            "neg": pa.nulls(1),
            "prompt": pa.nulls(1),
            "extra": pa.nulls(1),
        }
    )
    row = conformed(batch)[0]
    assert (row["neg"], row["prompt"], row["extra"]) == (None, None, None)


UNKNOWN = [
    pa.array(
        [{"a": "x", "b": [1, None]}], pa.struct([("a", pa.string()), ("b", pa.list_(pa.int8()))])
    ),
    pa.array([[("k", 1.5)]], pa.map_(pa.string(), pa.float64())),
    pa.array([[("k", ["x"])]], pa.map_(pa.large_string(), pa.large_list(pa.string()))),
    pa.array([b"\x00\xff"], pa.large_binary()),
    pa.array([b"\x00\xff"], pa.binary_view()),
    pa.array([3], pa.timestamp("us", "UTC")),
    pa.array([["x", None]], pa.large_list(pa.large_string())),
    pa.array([["x", None]], pa.list_view(pa.string_view())),
    pa.array(["x"]).dictionary_encode(),
    pa.array([["x", "y"]], pa.list_(pa.dictionary(pa.int32(), pa.string()))),
    pa.array([{"a": "x"}], pa.struct([("a", pa.dictionary(pa.int32(), pa.string()))])),
    pa.RunEndEncodedArray.from_arrays(pa.array([1], pa.int32()), pa.array(["x"])),
    pa.array([[0.5, 2.0]], pa.list_(pa.float16(), 2)),
    pa.array([None], pa.null()),
    pa.array([[]], pa.list_(pa.null())),
    pa.array([True]),
]


@pytest.mark.parametrize("values", UNKNOWN, ids=lambda values: str(values.type))
def test_an_unknown_column_passes_through_whatever_its_type(values):
    batch = pa.record_batch({"query": ["q"], "pos": [["a"]], "extra": values})
    assert conformed(batch)[0]["extra"] == values.to_pylist()[0]


def test_extend_adds_known_columns_in_order_and_keeps_unknown_ones():
    before = ColumnMapping(
        EXAMPLES,
        pa.schema({"extra": pa.int8(), "pos": pa.list_(pa.string()), "query": pa.string()}),
        "x",
    ).columns
    after = schema.extend(EXAMPLES, before, "neg", "pos_scores", "neg")
    assert after.names == ["id", "query", "pos", "neg", "pos_scores", "extra"]
    assert [after.field(name).nullable for name in ("id", "query", "pos", "neg")] == [
        False,
        False,
        False,
        True,
    ]
