"""The digest is over values: the same for the same rows, another for any other row."""

from __future__ import annotations

import itertools

import pyarrow as pa
import pytest
import xxhash
from hypothesis import assume, given
from hypothesis import strategies as st

from fletching.digest import RowDigest
from fletching.schema import canonical, cast

pytestmark = pytest.mark.slow  # as a whole: each test loads models or starts many commands

COLUMNS = pa.schema(
    {
        "text": pa.string(),
        "words": pa.list_(pa.string()),
        "scores": pa.list_(pa.float32()),
        "vector": pa.list_(pa.float32(), 2),
        "number": pa.int64(),
        "flag": pa.bool_(),
        "nested": pa.struct([("a", pa.string()), ("b", pa.list_(pa.int8()))]),
        "raw": pa.binary(),
        "pairs": pa.map_(pa.string(), pa.int32()),
    }
)
float32 = st.floats(width=32, allow_nan=False)
text = st.text(max_size=4)
row = st.fixed_dictionaries(
    {
        "text": st.none() | text,
        "words": st.none() | st.lists(st.none() | text, max_size=3),
        "scores": st.none() | st.lists(float32, max_size=2),
        "vector": st.none() | st.lists(float32, min_size=2, max_size=2),
        "number": st.none() | st.integers(-(2**63), 2**63 - 1),
        "flag": st.none() | st.booleans(),
        "nested": st.none()
        | st.fixed_dictionaries(
            {"a": st.none() | text, "b": st.none() | st.lists(st.integers(-128, 127), max_size=2)}
        ),
        "raw": st.none() | st.binary(max_size=3),
        "pairs": st.none() | st.lists(st.tuples(text, st.integers(0, 9)), max_size=2),
    }
)
rows = st.lists(row, max_size=8)


def digest(*batches: pa.RecordBatch) -> str:
    whole = RowDigest()
    for batch in batches:
        whole.update(batch)
    return whole.hexdigest()


def batch(content: list[dict]) -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist(content, COLUMNS)


@given(rows, st.lists(st.integers(0, 8), max_size=3))
def test_the_cut_into_batches_does_not_matter(content, cuts):
    whole = batch(content)
    ends = sorted({0, len(content), *(min(cut, len(content)) for cut in cuts)})
    assert digest(
        *(whole.slice(start, end - start) for start, end in itertools.pairwise(ends))
    ) == digest(whole)


@given(rows, st.randoms())
def test_the_order_of_the_columns_does_not_matter(content, random):
    names = COLUMNS.names
    random.shuffle(names)
    assert digest(batch(content).select(names)) == digest(batch(content))


@given(rows, rows)
def test_other_rows_have_another_digest(one, other):
    # -0.0 equals 0.0 and True equals 1 in Python, but they are other values of a file.
    assume(repr(batch(one).to_pylist()) != repr(batch(other).to_pylist()))
    assert digest(batch(one)) != digest(batch(other))


@given(rows)
def test_any_encoding_of_the_same_values_has_the_same_digest_once_it_is_canonical(content):
    plain = batch(content)
    odd = {
        "text": plain["text"].dictionary_encode(),
        "words": plain["words"].cast(pa.large_list(pa.large_string())),
        "raw": plain["raw"].cast(pa.large_binary()),
    }
    arrays = [odd.get(name, column) for name, column in zip(plain.schema.names, plain.columns)]
    assert digest(
        pa.RecordBatch.from_arrays(
            [cast(array, canonical(array.type)) for array in arrays], plain.schema.names
        )
    ) == digest(plain)


def test_nulls_empties_and_the_place_of_a_boundary_between_texts_make_a_difference():
    def of(values, kind):
        return digest(pa.record_batch({"x": pa.array(values, kind)}))

    listed = pa.list_(pa.string())
    assert (
        len(
            {
                of([None], pa.string()),
                of([""], pa.string()),
                of(["", ""], pa.string()),
                of([], pa.string()),
            }
        )
        == 4
    )
    assert of(["ab", "c"], pa.string()) != of(["a", "bc"], pa.string())
    assert (
        len(
            {
                of([None], listed),
                of([[]], listed),
                of([[None]], listed),
                of([[""]], listed),
                of([["", ""]], listed),
            }
        )
        == 5
    )
    assert of([["a"], ["b"]], listed) != of([["a", "b"], []], listed)
    assert of([1], pa.int64()) != of([1], pa.int32())
    assert digest(pa.record_batch({"x": ["a"]})) != digest(pa.record_batch({"y": ["a"]}))


def test_it_is_computed_as_the_contract_says():
    content = pa.record_batch(
        {"b": pa.array([None, "né"]), "a": pa.array([[1.5], []], pa.list_(pa.float32()))}
    )

    def part(*pieces: bytes) -> str:
        return xxhash.xxh3_128(b"".join(pieces)).hexdigest()

    parts = {
        "b?": part(b"\x00\x01"),
        "b#": part(b"\x03\x00\x00\x00"),
        "b:string": part("né".encode()),
        "a?": part(b"\x01\x01"),
        "a#": part(b"\x01\x00\x00\x00\x00\x00\x00\x00"),
        "a[]?": part(b"\x01"),
        "a[]:float": part(b"\x00\x00\xc0\x3f"),
    }
    whole = xxhash.xxh3_128(
        b"2" + b"".join(f"\n{name}={parts[name]}".encode() for name in sorted(parts))
    )
    assert digest(content) == "xxh3-128:" + whole.hexdigest()
