"""The plan follows rows, rates and the budget."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fletching.errors import InputError, UsageError
from fletching_tune.budget import parse_budget
from fletching_tune.candidates import recipe, requested_recipes
from fletching_tune.costs import Pace, Rates
from fletching_tune.counts import Counts
from fletching_tune.halving import Rung, ladder, survivors
from fletching_tune.plan import (
    Plan,
    Planner,
    plan_lines,
    split_shares,
)
from fletching_tune.training_shape import FEWEST_OF_A_SEED, FEWEST_UPDATES

RATES = Rates(row_seconds=0.01, text_seconds=0.002, start_seconds=8)


def plan_for(rows: Counts, rates: Rates = RATES, *, budget: float, **rest: Any) -> Plan:
    return Planner(counts=rows, rates=rates, spent=15, **rest).plan(budget)


def counts(rows: int = 4000, held_out: int = 400, documents: int = 5000) -> Counts:
    queries = {"train": rows, "dev": held_out, "test": held_out}
    return Counts(rows=queries, queries=queries, documents=documents)


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("20m", 1200), ("1.5h", 5400), ("5", 300)]
)
def test_a_budget_has_a_unit_or_is_in_minutes(text, seconds):
    assert parse_budget(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "-3m", "0m"])
def test_a_budget_that_is_no_time_is_refused(text):
    with pytest.raises(UsageError, match="is no time"):
        parse_budget(text)


@given(st.integers(20, 10_000_000))
def test_the_splits_are_a_whole_and_enough_to_choose_by(queries):
    shares = [float(share.partition("=")[2]) for share in split_shares(queries, queries)]
    assert sum(shares) == pytest.approx(1)
    assert shares[0] >= 0.6
    assert shares[1] == shares[2] > 0
    if queries >= 2000:
        assert shares[1] * queries >= 390
    if queries <= 1_000_000:
        assert shares[1] * queries <= 1001


@given(st.integers(1, 20), st.integers(100, 2000))
def test_a_ladder_halves_the_recipes_and_doubles_the_updates(recipes, updates):
    rungs = ladder(recipes, updates, fewest=40)
    assert rungs[0].recipes == recipes
    assert rungs[-1] == Rung(1, updates)
    for wide, narrow in itertools.pairwise(rungs):
        assert 40 <= wide.updates == narrow.updates // 2
        assert narrow.recipes < wide.recipes
        assert wide.recipes <= 2 * narrow.recipes or wide.updates < 80


def test_the_best_go_on_and_the_first_of_equals():
    assert survivors({"a": 0.1, "b": 0.3, "c": 0.1}, 2) == ["b", "a"]


@given(
    st.integers(50, 100_000),
    st.integers(1, 240),
    st.integers(500, 1_000_000),
    st.floats(0.0001, 0.1),
)
def test_a_plan_keeps_to_the_budget_or_says_what_it_needs(rows, minutes, documents, text_seconds):
    known = counts(rows, documents=documents)
    rates = dataclasses.replace(RATES, text_seconds=text_seconds)
    try:
        plan = plan_for(known, rates, budget=minutes * 60)
    except InputError as error:
        needed = parse_budget(error.fix.removeprefix("pass --budget "))
        assert needed > minutes * 60
        assert plan_for(known, rates, budget=needed).seconds <= needed
        return
    seconds = sum(rung.recipes * rung.updates for rung in plan.rungs) * plan.batch * 0.01
    assert seconds < plan.seconds <= minutes * 60
    assert plan.updates >= FEWEST_UPDATES
    assert len(plan.recipes) == plan.rungs[0].recipes


def test_more_time_buys_candidates_then_passes():
    plans = [plan_for(counts(), RATES, budget=minutes * 60) for minutes in (6, 20, 120)]
    assert len(plans[0].recipes) < len(plans[1].recipes) <= len(plans[2].recipes)
    assert plans[1].updates <= plans[2].updates


def test_candidates_can_be_named():
    named = requested_recipes(("gentle", "infonce"))
    plan = plan_for(counts(), RATES, budget=3600, recipes=named)
    assert plan.recipes == ("infonce", "gentle")
    assert plan.lists == {"pairs"}


def test_with_documents_the_hybrid_lists_come_first_and_what_is_cheaper_where_time_is_short():
    recipes = requested_recipes((), documents=True, has_llm=True)
    plans = [plan_for(counts(), RATES, budget=budget, recipes=recipes) for budget in (600, 150)]
    assert plans[0].recipes[0] == "hybrid" and plans[0].lists >= {"hybrid"}
    assert plans[1].recipes == ("anchored",)


def test_generated_queries_teach_by_lists_alone_unless_an_llm_wrote_them_or_others_are_named():
    assert [each.name for each in requested_recipes((), documents=True)] == ["hybrid"]
    assert len(requested_recipes((), documents=True, has_llm=True)) > 2
    [named] = requested_recipes(("anchored",), documents=True)
    assert named.name == "anchored"


@given(st.integers(2, 100_000), st.integers(5, 240))
def test_a_recipe_that_more_updates_make_worse_has_no_more_whatever_the_time(rows, minutes):
    recipes = requested_recipes(("hybrid",))
    with contextlib.suppress(InputError):
        plan = plan_for(counts(rows), RATES, budget=minutes * 60, recipes=recipes)
        assert (plan.batch, plan.updates) == (32, 60)


@given(st.integers(50, 100_000), st.integers(5, 240))
def test_seeds_are_planned_where_there_is_time_and_take_the_first_candidate_from_none(
    rows, minutes
):
    plan = functools.partial(
        plan_for,
        counts(rows),
        budget=minutes * 60,
        recipes=requested_recipes((), documents=True),
    )
    try:
        one, three = plan(RATES), plan(RATES, seeds=3)
    except InputError:
        with pytest.raises(InputError):
            plan(RATES, seeds=3)
        return
    assert three.seeds in (1, 3) and one.seeds == 1
    assert three.recipes[0] == one.recipes[0]
    assert three.seconds <= minutes * 60
    if three.seeds == 1:
        assert three == one
    else:
        assert three.updates >= FEWEST_OF_A_SEED


def test_seeds_come_before_further_candidates_but_not_before_those_that_are_named():
    plan = functools.partial(
        plan_for,
        counts(),
        RATES,
        budget=500,
        recipes=requested_recipes(("anchored", "infonce")),
    )
    assert (plan().seeds, len(plan().recipes)) == (1, 2)
    assert (plan(seeds=3).seeds, len(plan(seeds=3).recipes)) == (3, 1)
    assert plan(seeds=3, keeps_all=True) == plan()


def test_the_plan_names_the_seeds():
    plan = plan_for(counts(), RATES, budget=7200, seeds=3)
    assert plan.seeds == 3
    assert ", the best with 3 seeds, " in plan_lines(plan, counts(), RATES, budget=7200)[1]


def test_the_plan_names_the_limits_of_a_recipe():
    both = requested_recipes(("anchored", "hybrid"))
    plan = plan_for(counts(), budget=7200, recipes=both)
    line = plan_lines(plan, counts(), RATES, budget=7200)[1]
    assert "(anchored, hybrid for at most 60 updates of 32)" in line
    alone = plan_for(counts(), budget=7200, recipes=both[1:])
    line = plan_lines(alone, counts(), RATES, budget=7200)[1]
    assert "0.08 s an update of hybrid," in line and " 1 x 60 updates (hybrid)," in line


def test_a_large_corpus_is_ranked_in_part_and_the_plan_says_so():
    many = counts(documents=1_000_000)
    plan = plan_for(many, RATES, budget=1200)
    assert 1000 <= plan.dev_documents < 100_000
    data, time = plan_lines(plan, many, RATES, budget=1200)
    assert f"{plan.dev_documents:,} of 1,000,000 documents" in data
    assert "20 min" in time


def test_a_machine_that_slows_down_leaves_less_to_do():
    plan = plan_for(counts(), RATES, budget=1200)
    recipes = requested_recipes(plan.recipes)[:1]
    pace = Pace(plan.costs, budget=1200)
    before = pace.updates(recipes, batch=plan.batch, spent=300)
    pace.add(100, 200)
    pace.add(100, 0)  # printed, not run
    assert pace.factor == 2
    after = pace.updates(recipes, batch=plan.batch, spent=300)
    ends = plan.costs.training(recipes, after, batch=plan.batch) + plan.costs.choice(1)
    assert after < before / 2
    assert 300 + 2 * (ends + plan.costs.verdict) <= 1200


def test_fewer_documents_are_searched_where_nothing_fits_otherwise():
    slow = Rates(row_seconds=0.05, text_seconds=0.06, start_seconds=8)
    plan = plan_for(counts(), slow, budget=600)
    assert 400 <= plan.dev_documents < 1000
    assert plan.seconds <= 600


def test_time_that_no_candidate_can_use_ranks_more_documents():
    many = counts(documents=100_000)
    recipes = requested_recipes((), documents=True)
    long, longer = (
        plan_for(many, budget=budget, recipes=recipes, seeds=3, evaluates_training=False)
        for budget in (1200, 3600)
    )
    assert long.training == longer.training
    assert 1200 / 40 / RATES.text_seconds < long.dev_documents < many.documents
    assert longer.dev_documents is None


def test_a_recipe_that_has_all_its_updates_takes_no_time_of_a_later_rung():
    plan = plan_for(counts(), budget=3600)
    capped, other = (recipe(name) for name in ("hybrid", "anchored"))
    rungs = [Rung(2, 60), Rung(1, 120)]
    seconds = plan.costs.rungs([capped, other], rungs, batch=64)
    lists = plan.costs.list_seconds["hybrid"]
    trained = plan.costs.training([capped, other], 60, batch=64)
    assert seconds == pytest.approx(lists + trained + plan.costs.training([other], 120, batch=64))
