"""The card of the winner: contrast-train's, with the figures of the trial, and where it fails."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl
from huggingface_hub import ModelCard, ModelCardData

from fletching.train import model_card as cards
from fletching_tune.evaluation import BASE, METRIC, SHOWN
from fletching_tune.selection import Gain

FEWEST = 5  # queries of a kind that is shown
MOST_KINDS = 6
LONG_ANSWER = 1000  # characters
DATASET = "held-out test rows"
FRONT_MATTER = "---\n"


@dataclass(frozen=True, kw_only=True)
class QueryKind:
    """One kind of query with the mean nDCG@10 of the base and of the tuned model on it."""

    name: str
    queries: int
    base: float
    tuned: float


@dataclass(frozen=True, kw_only=True)
class TrialFigures:
    """What the trial measured on the test rows.

    base, tuned: mean nDCG@10 with its 95 % interval. kinds: the worst ones first.
    """

    base: Gain
    tuned: Gain
    change: Gain
    kinds: Sequence[QueryKind] = ()


def winner_card(
    card: str, *, name: str, folder: str, figures: TrialFigures | None, section: str
) -> str:
    """The card of the candidate in `folder` as that of the model `name`.

    section: of the comparison. figures: None where the winner was not measured.
    """
    renamed = _renamed(card, folder, name)
    parts = [renamed.rstrip(), section]
    if figures is not None and figures.kinds:
        parts.append(kinds_section(figures))
    text = "\n".join(parts)
    if figures is None or not text.startswith(FRONT_MATTER):
        return text
    parsed = ModelCard(text)
    data = parsed.data
    assert isinstance(data, ModelCardData)
    data.model_name = name
    data.eval_results = cards.held_out_results(
        {METRIC: figures.tuned.value},
        dataset=DATASET,
        intervals={METRIC: (figures.tuned.low, figures.tuned.high)},
    )
    return str(parsed.content)


def _renamed(card: str, old: str, new: str) -> str:
    """The card with the model's new name in its heading and wherever it is loaded."""
    pattern = rf'(SentenceTransformer\("|--model-id |vllm serve |^# ){re.escape(old)}(?=["\s]|$)'
    return re.sub(pattern, lambda match: match[1] + new, card, flags=re.MULTILINE)


def kinds_section(figures: TrialFigures) -> str:
    """Where the model fails: the kinds of test queries that it ranks worst. Quotes none."""
    rows = [
        [kind.name, f"{kind.queries:,}", f"{kind.base:.3f}", f"{kind.tuned:.3f}"]
        for kind in figures.kinds
    ]
    header = ["kind of query", "queries", f"{SHOWN} of the base", f"{SHOWN} of this model"]
    worse = [kind.name for kind in figures.kinds if kind.tuned < kind.base]
    sentence = (
        f"Worse than the base on: {', '.join(worse)}."
        if worse
        else "On none of these kinds is it worse than the base."
    )
    overall = f"All queries: {figures.tuned.value:.3f} [{figures.tuned.low:.3f}, " + (
        f"{figures.tuned.high:.3f}]. {sentence}"
    )
    table = cards.markdown_table(header, rows)
    return f"\n### Where it fails\n\n{table}\n\n{overall} Kinds overlap; few queries show little.\n"


def query_kinds(rows: pl.DataFrame, tuned: str) -> list[QueryKind]:
    """The kinds of `query_rows`, those with the lowest figure of the tuned run first."""
    base = rows.filter(pl.col("run") == BASE).select("query_id", base="value")
    pairs = rows.filter(pl.col("run") == tuned).join(base, on="query_id")
    kinds = []
    for name, condition in _conditions().items():
        chosen = pairs.filter(condition)
        if chosen.height >= FEWEST:
            means = chosen.select(pl.col("base").mean(), pl.col("value").mean()).row(0)
            kinds.append(QueryKind(name=name, queries=chosen.height, base=means[0], tuned=means[1]))
    return sorted(kinds, key=lambda kind: (kind.tuned, kind.name))[:MOST_KINDS]


def _conditions() -> Mapping[str, pl.Expr]:
    """What makes a query of each kind."""
    words = pl.col("query").str.to_lowercase().str.extract_all(r"[\p{L}\p{N}]+")
    answer = pl.col("relevant_texts").list.join(" ").str.to_lowercase()
    answer_words = answer.str.extract_all(r"[\p{L}\p{N}]+")
    count = words.list.len()
    shared = words.list.set_intersection(answer_words).list.len()
    return {
        "of up to 3 words": count <= 3,
        "of 4 to 8 words": count.is_between(4, 8),
        "of more than 8 words": count > 8,
        "with a number": pl.col("query").str.contains(r"\p{N}"),
        "without a letter of the Latin script": ~pl.col("query").str.contains(r"\p{Latin}"),
        "that share no word with an answer": shared == 0,
        "with several answers": pl.col("relevant_ids").list.len() > 1,
        "with a long answer": answer.str.len_chars() > LONG_ANSWER,
    }


def trial_figures(
    by_model: Mapping[str, Gain], change: Gain, rows: pl.DataFrame | None, *, tuned: str
) -> TrialFigures:
    """The figures of the trial. by_model: mean and interval by run; rows: of `query_rows`."""
    kinds: list[QueryKind] = [] if rows is None else query_kinds(rows, tuned)
    return TrialFigures(base=by_model[BASE], tuned=by_model[tuned], change=change, kinds=kinds)


def comparison_section(verdict: Mapping[str, Any], table: str) -> str:
    """The held-out comparison as a section of the model's card."""
    candidates = [
        f"| {row['candidate']} | {row['value']:+.3f} | {row['low']:+.3f} | {_share(row['kept'])} |"
        for row in verdict["candidates"]
    ]
    return "\n".join(
        [
            "\n## Held-out comparison\n",
            f"{verdict['line'].removeprefix('verdict: ')}.",
            "The rows were used once, for this verdict; no text of them was trained on.\n",
            "```\n" + table.strip("\n") + "\n```\n",
            f"Candidates on the development rows, change of {SHOWN}; the lower bounds hold "
            "together:\n",
            "| candidate | change | lower bound | guard kept |\n|---|---|---|---|",
            *candidates,
            "\n`commands.sh` holds every command, `report.html` the whole report.\n",
        ]
    )


def _share(kept: float | None) -> str:
    return "" if kept is None else f"{kept:.0%}"
