"""The draws equal a slow reference written from the rule, whatever the blocks, threads and hash seed."""

from __future__ import annotations

import itertools
import os
import random
import tempfile
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from csv2pairs import keys, pools
from csv2pairs.links import LinkedTexts, LinkKind, shared_links
from csv2pairs.pools import TextPools, distinct_texts
from csv2pairs.stored_pairs import StoredFrames
from fletching.table import KeySet
from fletching.text_keys import mix

pytestmark = pytest.mark.slow  # as a whole: each test starts commands or many examples

Example = dict[str, Any]


def reference(examples: list[Example], k: int) -> list[list[int]]:
    """The rule in plain Python: the texts that each example draws, in their order.

    A pool's distinct texts are numbered in rising order. Proposal c of an example is text number
    mix(seed, c) % size; of a pool of at most 4 k texts, all of them in the order of mix(seed, c).
    The first k distinct ones that may be drawn are drawn. Where 16 * (k + 3) proposals give fewer,
    they are the first k of all texts of the pool in the order of mix(seed, c).
    """
    drawn = []
    for example in examples:
        pool = sorted({e["text"] for e in examples if e["pool"] == example["pool"]})
        forbidden = set(example["excluded"])
        for other in examples:
            if set(other["links"]) & set(example["links"]):
                forbidden.add(other["text"])
        seed = example["seed"]
        in_order = [pool[c] for c in sorted(range(len(pool)), key=lambda c: (int(mix(seed, c)), c))]
        proposals = in_order
        if len(pool) > 4 * k:
            width = max((k + 3) * 4**number for number in range(3))
            proposals = [pool[int(mix(seed, c)) % len(pool)] for c in range(width)]
        allowed = list(dict.fromkeys(text for text in proposals if text not in forbidden))
        if len(allowed) < k:
            allowed = [text for text in in_order if text not in forbidden]
        drawn.append(allowed[:k])
    return drawn


def drawn_by_pools(examples: list[Example], k: int, blocks: int) -> list[list[int]]:
    frame = pl.DataFrame(
        examples,
        schema={
            "pool": pl.UInt64,
            "text": pl.UInt64,
            "links": pl.List(pl.UInt64),
            "excluded": pl.List(pl.UInt64),
            "seed": pl.UInt64,
        },
    )
    frame = frame.with_row_index("number").with_columns(row="number")
    size = -(-len(frame) // blocks)
    links = frame.select("row", link="links", kind=pl.lit(LinkKind.TEXT, pl.UInt8)).explode("link")
    with tempfile.TemporaryDirectory() as folder:
        stored = StoredFrames(os.path.join(folder, "links"))
        for block in links.iter_slices(size):
            stored.append(block)
        links = shared_links(stored, LinkKind.CATEGORY)
    known = LinkedTexts(links, iter([frame.select("row", "text")]))
    candidates = frame.select("pool", "text", "seed", source="number")
    text_pools = TextPools(distinct_texts(candidates), known)
    lists: dict[int, list[int]] = {}
    for block in frame.iter_slices(size):
        excluded = pl.concat_list("links", "excluded", "text")
        requests = block.select("number", "row", "pool", "seed", excluded=excluded)
        drawn = text_pools.draw(requests, k)
        lists |= dict(drawn.select("number", "text").iter_rows())
    return [lists.get(number, []) for number in range(len(frame))]


KEY = st.integers(1, 30)
EXAMPLES = st.lists(
    st.fixed_dictionaries(
        {
            "pool": st.integers(1, 2),
            "text": KEY,
            "links": st.lists(KEY, min_size=1, max_size=3),
            "excluded": st.lists(KEY, max_size=2),
            "seed": st.integers(1, 2**63),
        }
    ),
    min_size=1,
    max_size=40,
)


@settings(max_examples=60, deadline=None)
@given(EXAMPLES, st.integers(1, 6), st.integers(1, 3))
def test_the_draws_are_those_of_a_slow_reference_in_any_blocks(examples, k, blocks):
    for example in examples:  # a text is a link of the examples that have it
        example["links"] = [*example["links"], example["text"]]
    assert drawn_by_pools(examples, k, blocks) == reference(examples, k)


def test_large_pools_with_few_texts_left_are_those_of_the_reference():
    random.seed(3)
    examples = [
        {
            "pool": 1,
            "text": 1000 + n,
            "links": [5000 + n, 1000 + n, *([7] if n % 50 else [])],
            "excluded": [],
            "seed": random.getrandbits(62),
        }
        for n in range(200)
    ]
    assert drawn_by_pools(examples, 3, 2) == reference(examples, 3)


def test_a_pool_that_is_searched_without_what_a_common_link_excludes_gives_the_same_draws():
    examples = [
        {"pool": 1, "text": 1000 + n, "links": [1000 + n, 7 if n >= 6 else 8 + n], "excluded": [], "seed": n + 1}
        for n in range(pools.SEARCHED + 50)
    ]  # fmt: skip
    assert drawn_by_pools(examples, 4, 1) == reference(examples, 4)


@given(st.lists(st.tuples(st.integers(0, 2**64 - 1), st.integers(0, 2**32)), min_size=1))
def test_mixing_as_an_expression_is_that_of_the_library(values):
    frame = pl.DataFrame(values, schema={"a": pl.UInt64, "b": pl.UInt64}, orient="row")
    a, b = (frame[name].to_numpy() for name in "ab")
    assert np.array_equal(frame.select(k=keys.mixed(3, "a", "b"))["k"].to_numpy(), mix(3, a, b))
    members = KeySet(a[:1])
    assert frame.select(keys.matching(pl.col("a"), members))["a"][0]


@pytest.mark.slow
def test_threads_hash_seed_and_chunks_change_no_byte(run, tmp_path):
    rows = [f"q{n},p{n % 700},c{n % 7}" for n in range(2000)]
    (tmp_path / "t.csv").write_text("q,p,c\n" + "\n".join(rows) + "\n")
    options = "--query q --pos p --category c --negatives 3 --split train=0.8,test=0.2"
    outputs = []
    for number, (threads, hashing) in enumerate(itertools.product("12", "01")):
        environment = {"POLARS_MAX_THREADS": threads, "PYTHONHASHSEED": hashing}
        command = f"csv2pairs t.csv {options} -o {number}.{{split}}.parquet"
        if number % 2:  # as a pipe gives it, in chunks of its own
            command = f"cat t.csv | csv2pairs {options} -o '{number}.{{split}}.parquet'"
        done = run(command, cwd=tmp_path, env=environment)
        assert done.rc == 0, done.err
        outputs.append((tmp_path / f"{number}.train.parquet").read_bytes())
    assert len(set(outputs)) == 1
