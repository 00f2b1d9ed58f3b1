"""The verdict: win, marginal or no gain, with the reason and the next step."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from fletching_tune.evaluation import SHOWN
from fletching_tune.selection import Gain

Outcome = Literal["WIN", "MARGINAL", "NO GAIN"]
SOLVED = 0.95  # a base above it has little left to gain
WORTHWHILE = 0.005  # a gain from twice the rows that is worth their price
FEW_QUERIES = 100


@dataclass(frozen=True, kw_only=True)
class Findings:
    """What the verdict is made of.

    winner: the candidate chosen on dev, if one was. dev: its gain, or that of the best one that was
    not chosen; None where nothing was trained to be better. test: the winner's on test.
    base_score, bm25_score: on the split that the verdict is about. origin: of its queries.
    could_have_llm: the rows are queries that no LLM wrote. curve: (share of the rows, gain on
    dev). choice: why this winner, or why none although some were better.
    """

    base: str
    winner: str | None
    dev: Gain | None
    test: Gain | None
    queries: int
    origin: Literal["held-out", "generated"] = "held-out"
    could_have_llm: bool = False
    base_score: float
    bm25_score: float | None
    smallest_visible: float | None
    curve: Sequence[tuple[float, float]] = ()
    guard: Gain | None = None
    choice: str = ""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The answer. model: the folder or hub name to use. next_step: what to try."""

    outcome: Outcome
    model: str
    reason: str
    next_step: str
    findings: Findings

    @property
    def line(self) -> str:
        """The last line on stdout."""
        findings = self.findings
        if self.outcome == "NO GAIN":
            return (
                f"verdict: NO GAIN: keep the base {findings.base}: {self.reason}; {self.next_step}"
            )
        line = (
            f"verdict: {self.outcome} {findings.test} {SHOWN} over {findings.queries:,} "
            f"{findings.origin} queries"
        )
        return f"{line}: {self.reason}; {self.next_step}" if self.reason else line

    def as_json(self) -> dict[str, Any]:
        """Everything, for verdict.json and --json-summary."""
        content = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {**content, "findings": dataclasses.asdict(self.findings), "line": self.line}


def judge(findings: Findings, *, tuned: str) -> Verdict:
    """The verdict on the winner; tuned: the folder that will hold it."""
    test = findings.test
    if findings.winner is None or test is None or test.value <= 0 or test.high < 0:
        return Verdict(
            outcome="NO GAIN",
            model=findings.base,
            reason=_no_gain_reason(findings),
            next_step=_next_step(findings),
            findings=findings,
        )
    is_sure = test.low > 0
    return Verdict(
        outcome="WIN" if is_sure else "MARGINAL",
        model=tuned,
        reason="" if is_sure else _visible(findings) or "the interval holds 0",
        next_step="" if is_sure else _next_step(findings, says_what_shows=False),
        findings=findings,
    )


def _no_gain_reason(findings: Findings) -> str:
    if findings.test is not None:
        was_better = f"was better on dev ({findings.dev}) but not"
        is_sure = findings.dev is not None and findings.dev.low > 0
        return (
            f"{findings.winner} {was_better if is_sure else 'is not better'} on the "
            f"{findings.queries:,} {findings.origin} queries ({findings.test} {SHOWN})"
        )
    if findings.choice:
        return findings.choice
    if findings.base_score >= SOLVED:
        return f"it already reaches {findings.base_score:.3f} {SHOWN}"
    if findings.dev is None:
        return f"no candidate was better on the {findings.queries:,} dev queries"
    return (
        f"no candidate is surely better, the best {findings.dev} {SHOWN} over "
        f"{findings.queries:,} dev queries"
    )


def _next_step(findings: Findings, *, says_what_shows: bool = True) -> str:
    """says_what_shows: the reason before it does not name the differences that queries show."""
    if findings.winner is None and findings.choice:
        return "next: a lower --guard-share, or a base that needs to learn less"
    if findings.base_score >= SOLVED:
        return "next: nothing to do; or harder queries to test on"
    bm25 = findings.bm25_score
    best = findings.base_score + (findings.test.value if findings.test else 0)
    if bm25 is not None and bm25 >= best:
        return f"next: search by words, BM25 alone reaches {bm25:.3f}"
    doubled = worth_of_twice(findings.curve)
    if doubled is not None and doubled >= WORTHWHILE:
        return f"next: more rows, twice as many are worth about {doubled:+.3f}"
    if findings.queries < FEW_QUERIES:
        shown = _visible(findings) or "these show little"
        return "next: more held-out queries" + (f"; {shown}" if says_what_shows else "")
    if doubled is not None:
        return "next: harder negatives or another base; more rows alone add little"
    if findings.could_have_llm:
        return "next: queries that an LLM writes (--llm), or another base"
    return "next: more rows or a larger --budget"


def _visible(findings: Findings) -> str:
    if findings.smallest_visible is None:
        return ""
    return (
        f"{findings.queries:,} queries show differences of {findings.smallest_visible:.3f} or more"
    )


def worth_of_twice(curve: Sequence[tuple[float, float]]) -> float | None:
    """What the learning curve promises for twice the rows: the mean gain of its doublings."""
    points = sorted(curve)
    if len(points) < 2:
        return None
    steps = [after - before for (_, before), (_, after) in itertools.pairwise(points)]
    return sum(steps) / len(steps)


def candidate_rows(bounds: Mapping[str, Gain], kept: Mapping[str, float]) -> list[dict[str, Any]]:
    """The candidates of dev with their gains and kept shares, best lower bound first."""
    ordered = sorted(bounds.items(), key=lambda item: -item[1].low)
    return [
        {"candidate": name, **dataclasses.asdict(gain), "kept": kept.get(name)}
        for name, gain in ordered
    ]
