"""Equality of texts, hashes, and draws that depend on (seed, row) alone."""

from __future__ import annotations

import itertools
from collections import Counter

import xxhash
from hypothesis import given
from hypothesis import strategies as st

from fletching import seeded_random
from fletching.text import content_id, normalise, text_hash

unicode = st.text(alphabet=st.characters(exclude_categories=["Cs"]))
keys = st.text(max_size=12)
seeds = st.integers(-(2**63), 2**64)


@given(unicode)
def test_normalising_twice_is_normalising_once(text):
    assert normalise(normalise(text)) == normalise(text)


@given(unicode)
def test_case_and_surrounding_or_repeated_blanks_do_not_matter(text):
    assert normalise(f"\t{text}\u00a0 \n") == normalise(text)
    assert normalise(text.casefold()) == normalise(text)


def test_composed_and_full_width_forms_are_equal_and_other_words_are_not():
    assert normalise("Ｃａｆé") == normalise("cafe\u0301") == "café"
    assert normalise("Straße") == normalise("STRASSE")
    assert normalise("\u1e9b\u0323") == normalise("\u1e69")
    assert normalise("cafe") != normalise("café")


def test_the_text_hash_is_plain_xxh3_of_the_utf8_bytes():
    assert text_hash("né 🐈") == xxhash.xxh3_128_hexdigest("né 🐈".encode())


@given(st.lists(unicode), st.lists(unicode))
def test_content_ids_are_equal_exactly_for_equal_parts(one, other):
    assert (content_id(*one) == content_id(*other)) == (one == other)
    assert len(content_id(*one)) == 16


def test_the_boundary_between_parts_enters_the_id():
    assert (
        len(
            {content_id("ab", "c"), content_id("a", "bc"), content_id("abc"), content_id("abc", "")}
        )
        == 4
    )


@given(seeds, keys, st.integers(0, 200))
def test_permuted_gives_each_number_once(seed, key, size):
    assert sorted(seeded_random.permuted(seed, key, size)) == list(range(size))


@given(seeds, keys, st.integers(0, 50), st.integers(0, 50))
def test_a_shorter_draw_is_the_start_of_a_longer_one(seed, key, few, more):
    longer = list(itertools.islice(seeded_random.permuted(seed, key, 50), max(few, more)))
    assert (
        list(itertools.islice(seeded_random.permuted(seed, key, 50), min(few, more)))
        == longer[: min(few, more)]
    )


@given(st.lists(keys, unique=True, min_size=2, max_size=5), st.randoms())
def test_a_draw_of_a_row_does_not_depend_on_other_rows_or_their_order(rows, random):
    first = {key: list(seeded_random.permuted(7, key, 10)) for key in rows}
    random.shuffle(rows)
    assert {key: list(seeded_random.permuted(7, key, 10)) for key in rows} == first


def test_another_seed_or_row_draws_other_numbers():
    drawn = {
        tuple(itertools.islice(seeded_random.numbers(seed, key), 3))
        for seed in range(50)
        for key in ("a", "b", "")
    }
    assert len(drawn) == 150


def test_five_of_a_million_are_drawn_without_making_a_million():
    assert len(set(itertools.islice(seeded_random.permuted(0, "row", 10**15), 5))) == 5


def test_every_position_gets_every_number_about_equally_often():
    rounds, size = 6000, 6
    counts = Counter(
        (position, number)
        for i in range(rounds)
        for position, number in enumerate(seeded_random.permuted(1, f"row {i}", size))
    )
    expected = rounds / size
    chi_square = sum(
        (counts[position, number] - expected) ** 2 / expected
        for position in range(size)
        for number in range(size)
    )
    assert chi_square < 60  # 25 degrees of freedom: above 60 by chance in one case of 10,000


def test_numbers_use_all_of_their_64_bits_evenly():
    drawn = list(itertools.islice(seeded_random.numbers(3, "row"), 4000))
    ones = [sum(number >> bit & 1 for number in drawn) for bit in range(64)]
    assert all(
        abs(count - 2000) < 5 * 31.6 for count in ones
    )  # five standard deviations of a fair coin
