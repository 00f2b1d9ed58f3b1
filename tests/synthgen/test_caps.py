"""No request over a cap, an estimate before anything is paid, and the same account with and without a kill."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fletching.errors import UsageError
from fletching_synthgen.llm.budget import Budget, ModelPrice, Reservation
from fletching_synthgen.llm.journal import Completion

pytestmark = pytest.mark.slow  # as a whole: each test starts commands or many examples

PRICES = {"m": {"input": 1000.0, "output": 2000.0, "cached": 100.0, "batch": 0.5}}


def test_no_more_requests_than_the_cap_and_the_rows_so_far_are_written(
    serve: Any, generate: Any, tasks: Any
) -> None:
    server = serve()
    done = generate(server, tasks[2:3], "--per-row", 20, "--max-requests", 7, "--no-repair")
    assert (
        done.rc == 0
        and len(server.chat_requests) == len(done.rows) == 7
        and done.summary["dropped"]["not asked: --max-requests 7"] == 13
    )
    assert "stopped at --max-requests 7" in done.err
    more = generate(server, tasks[2:3], "--per-row", 20, "--max-requests", 9, "--no-repair")
    assert len(server.chat_requests) == len(more.rows) == 9 and more.rows[:7] == done.rows


def test_repairs_count_against_the_cap(serve: Any, generate: Any, tasks: Any) -> None:
    server = serve(write=lambda body: "no form")
    generate(server, tasks[2:3], "--per-row", 20, "--max-requests", 7)
    assert len(server.chat_requests) == 6  # three with their repairs; a fourth could need two


def test_no_more_tokens_than_the_cap(serve: Any, generate: Any, tasks: Any) -> None:
    server = serve()
    done = generate(
        server,
        tasks[2:3],
        "--per-row",
        60,
        "--max-tokens",
        3000,
        "--answer-tokens",
        100,
        "--no-repair",
    )
    ledger = done.summary["measures"]["ledger"]
    spent = ledger["prompt_tokens"] + ledger["completion_tokens"]
    assert (
        2000 < spent <= 3000
        and 0 < len(done.rows) < 60
        and ledger["requests"] == len(server.chat_requests)
    )


def test_no_more_money_than_the_cap(serve: Any, generate: Any, tasks: Any, tmp_path: Path) -> None:
    (tmp_path / "prices.json").write_text(json.dumps(PRICES))
    server = serve()
    done = generate(
        server,
        tasks[2:3],
        "--per-row",
        60,
        "--max-cost",
        2,
        "--answer-tokens",
        50,
        "--prices",
        tmp_path / "prices.json",
        "--no-repair",
    )
    ledger = done.summary["measures"]["ledger"]
    assert (
        ledger["cost"]
        == pytest.approx(
            (ledger["prompt_tokens"] * 1000 + ledger["completion_tokens"] * 2000) / 1e6
        )
        and 1.5 < ledger["cost"] <= 2
    )
    assert f"${ledger['cost']:.2f}" in done.err


def test_a_cap_stops_at_the_same_row_whatever_the_concurrency(
    serve: Any, generate: Any, tasks: Any
) -> None:
    first = generate(
        serve(),
        tasks[2:3],
        "--per-row",
        60,
        "--max-tokens",
        4000,
        "--answer-tokens",
        100,
        "--concurrency",
        1,
    )
    second = generate(
        serve(latency=0.02),
        tasks[2:3],
        "--per-row",
        60,
        "--max-tokens",
        4000,
        "--answer-tokens",
        100,
        "--concurrency",
        24,
        name="b",
    )
    assert first.rows == second.rows and 0 < len(first.rows) < 60
    for done in (
        first,
        second,
    ):  # it waits for what comes back, and stops only where a worst case (about 800) does not fit
        ledger = done.summary["measures"]["ledger"]
        assert 3000 < ledger["prompt_tokens"] + ledger["completion_tokens"] <= 4000


def test_an_answer_from_the_journal_counts_like_a_new_one(
    serve: Any, generate: Any, tasks: Any, tmp_path: Path
) -> None:
    first = generate(serve(), tasks[:5], "--per-row", 3, "--ledger", tmp_path / "a.jsonl")
    second = generate(serve(), tasks[:5], "--per-row", 3, "--ledger", tmp_path / "b.jsonl")
    assert (
        first.summary["measures"]["ledger"] == second.summary["measures"]["ledger"]
        and first.summary["measures"]["this_run"] != second.summary["measures"]["this_run"]
    )
    assert (tmp_path / "a.jsonl").read_bytes() == (tmp_path / "b.jsonl").read_bytes()


def test_a_dry_run_asks_nothing_and_tells_what_it_would_take(
    serve: Any, generate: Any, tasks: Any, tmp_path: Path
) -> None:
    (tmp_path / "prices.json").write_text(json.dumps(PRICES))
    server = serve()
    dry = generate(server, tasks, "--per-row", 5, "--dry-run", "--prices", tmp_path / "prices.json")
    assert (
        dry.rc == 0
        and not server.chat_requests
        and not server.probes
        and dry.rows == []
        and not list(tmp_path.glob("*.journal"))
    )
    plan = dry.summary["measures"]["plan"]
    assert (
        plan["requests"] == 30
        and plan["answered_before"] == 0
        and "requests            30" in dry.text
        and "$" in dry.text
    )
    assert plan["cost"] == pytest.approx(
        (plan["prompt_tokens"] * 1000 + plan["completion_tokens"] * 2000) / 1e6
    )
    real = generate(server, tasks, "--per-row", 5, "--no-language-check").summary["measures"][
        "ledger"
    ]
    assert (
        plan["prompt_tokens"] / real["prompt_tokens"] < 2
        and 0.5 < plan["completion_tokens"] / (1.4 * real["completion_tokens"]) < 2
    )
    assert (
        generate(server, tasks, "--per-row", 6, "--dry-run").summary["measures"]["plan"][
            "answered_before"
        ]
        == 30
    )
    assert "unknown" in generate(server, tasks, "--dry-run").text


def test_a_dry_run_of_a_brainstorm_counts_its_first_round(serve: Any, generate: Any) -> None:
    dry = generate(serve(), None, "--brainstorm", 50, "--types", "short-long,sts", "--dry-run")
    assert dry.summary["measures"]["plan"]["requests"] == 3


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ("{", "no price table"),
        ("[]", "no price table"),
        ('"x"', "no price table"),
        ('{"m": {"input": 1}, "m": {"input": 2}}', "the key `m` appears twice"),
    ],
)
def test_a_price_table_that_is_none_is_refused(
    content: str, what: str, serve: Any, generate: Any, tasks: Any, tmp_path: Path
) -> None:
    (tmp_path / "prices.json").write_text(content)
    done = generate(serve(), tasks, "--prices", tmp_path / "prices.json")
    assert done.rc == 2 and what in done.err


def test_prices_are_for_cached_tokens_and_batches_too() -> None:
    live = ModelPrice.from_table(PRICES, "m", batch=False)
    batch = ModelPrice.from_table(PRICES, "m", batch=True)
    assert live
    assert batch
    assert live.cost(1000, 100, 400) == pytest.approx((600 * 1000 + 400 * 100 + 100 * 2000) / 1e6)
    assert batch.cost(1000, 100) == pytest.approx(0.6)
    assert ModelPrice.from_table(PRICES, "other", batch=False) is None
    with pytest.raises(UsageError, match="not complete"):
        ModelPrice.from_table({"x": {"input": 1}}, "x", batch=False)


@given(
    st.lists(st.tuples(st.integers(1, 50), st.integers(0, 100)), max_size=30), st.integers(0, 500)
)
def test_what_is_admitted_never_passes_the_cap(requests: list[tuple[int, int]], cap: int) -> None:
    """Each request reserves its worst case and uses a share of it."""
    budget = Budget(max_tokens=cap)
    for worst, share in requests:
        reservation = Reservation(requests=1, tokens=worst)
        if not budget.admit(reservation, wait=False):
            break
        completion = Completion(
            text="",
            finish="stop",
            model="m",
            prompt_tokens=worst * share // 100,
            completion_tokens=0,
        )
        budget.count(completion, new=True)
        budget.release(reservation)
        assert budget.counts["prompt_tokens"] <= cap
