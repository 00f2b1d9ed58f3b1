"""The keys that a model keeps of its training texts."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fletching import text_keys, training_index
from fletching.errors import InputError
from fletching.table.key_set import contains_sorted
from fletching.training_index import TrainingIndex

LONG = "one two three four five six seven eight nine ten"


def index_of(*texts: str, most_runs: int = training_index.MOST_RUNS) -> TrainingIndex:
    index = TrainingIndex(most_runs)
    index.add(pa.array(texts))
    index.merge()
    return index


def test_a_text_is_found_again_however_it_is_spelled_and_another_is_not(tmp_path):
    index_of("The owl  hunts.", "", LONG).save(tmp_path)
    index = training_index.load(tmp_path)
    keys = text_keys.hash_texts(pa.array(["the OWL hunts.", "The owl sleeps.", " "]))
    assert contains_sorted(index.whole, keys).tolist() == [True, False, False]
    _, runs = text_keys.hash_word_runs(
        pa.array(
            [
                "Two, three: four five six seven eight nine!",
                "two three five four six seven eight nine",
            ]
        ),
        8,
    )
    assert contains_sorted(index.runs, runs).tolist() == [True, False]
    assert len(index.runs) == 3


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.lists(st.text("ab ", max_size=30), max_size=5), max_size=5))
def test_the_file_does_not_depend_on_order_or_batches(tmp_path, batches):
    files = []
    for number, order in enumerate(
        (batches, [list(reversed([text for batch in batches for text in batch]))])
    ):
        index = TrainingIndex()
        for batch in order:
            index.add(pa.array(batch, pa.string()))
        (tmp_path / str(number)).mkdir(exist_ok=True)
        index.save(tmp_path / str(number))
        files.append((tmp_path / str(number) / training_index.NAME).read_bytes())
    assert files[0] == files[1]


def test_many_runs_are_thinned_to_a_sample_that_says_how_thin(tmp_path):
    words = [f"w{number}" for number in range(1007)]
    whole, thin = index_of(" ".join(words)), index_of(" ".join(words), most_runs=300)
    assert len(whole.runs) == 1000
    assert thin.halvings == 2
    assert set(thin.runs) == {key for key in whole.runs if key < 2**62}
    assert np.array_equal(thin.sampled(whole.runs), whole.runs < 2**62)
    thin.save(tmp_path)
    assert training_index.load(tmp_path).halvings == 2


def test_what_the_base_model_saw_stays_with_the_model_tuned_from_it():
    base, tuned = index_of(LONG, "the base", most_runs=1), TrainingIndex()
    tuned.add(pa.array(["the tuned"]))
    tuned.include(base)
    tuned.merge()
    keys = text_keys.hash_texts(pa.array(["The base", "The tuned", LONG, "other"]))
    assert contains_sorted(tuned.whole, keys).tolist() == [True, True, True, False]
    assert tuned.halvings == base.halvings


def test_the_file_holds_no_text(tmp_path):
    index_of("secretword", "secretword " * 20).save(tmp_path)
    assert b"secretword" not in (tmp_path / training_index.NAME).read_bytes()


@pytest.mark.parametrize("damage", ["cut", "foreign", "version"])
def test_a_damaged_file_is_refused(tmp_path, damage):
    index_of("a text").save(tmp_path)
    path = tmp_path / training_index.NAME
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-20])
    elif damage == "foreign":
        pq.write_table(pa.table({"a": [1]}), path)
    else:
        pq.write_table(
            pq.read_table(path).replace_schema_metadata(
                {training_index.META: b'{"version": "2.0", "words": 8}'}
            ),
            path,
        )
    with pytest.raises(InputError, match="version 2.0" if damage == "version" else "damaged"):
        training_index.load(tmp_path)


def test_a_model_without_the_file_is_not_known():
    assert training_index.load("/nowhere") is None
