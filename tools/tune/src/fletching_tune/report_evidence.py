"""What the report shows of single rows: queries that fell, rows worth a look, rows dropped.

Read from the files that steps have left: the --per-query rows of mteb-eval, the pairs, summaries.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import polars as pl

from fletching_tune.evaluation import BASE, BM25, METRIC

MOST_SHOWN = 20  # of each kind
SAME_WORDS = 0.8  # share of words in common above which two texts say the same
NATURAL_SHARE = 0.2  # of queries with several answers, above which that is how the data are

Kind = Literal["may be an answer", "says the same", "several answers", "answer and negative"]


@dataclass(frozen=True, kw_only=True)
class FallenQuery:
    """A query that is worse than by the base.

    ranks: of the first right answer by base and tuned model, 0 where it was not retrieved.
    answer: a right one. instead: what the tuned model ranks first, best first, without right ones.
    """

    query: str
    before: int
    after: int
    loss: float
    answer: str
    instead: Sequence[str]


@dataclass(frozen=True, kw_only=True)
class SuspectRow:
    """A row worth a look. first, second: the texts that contradict or repeat each other."""

    kind: Kind
    query: str
    first: str
    second: str


@dataclass(frozen=True, kw_only=True)
class DroppedRows:
    """Rows that a step has dropped, by reason."""

    step: str
    reason: str
    rows: int


@dataclass(frozen=True, kw_only=True)
class QueryChanges:
    """How many queries rose, fell and stayed, and those that fell most."""

    rose: int
    fell: int
    same: int
    fallen: Sequence[FallenQuery]


# --- queries -------------------------------------------------------------------------------------


def query_rows(path: str, task: str) -> pl.DataFrame:
    """The rows of a --per-query file of one task and of nDCG@10, by query id and run."""
    of_task = (pl.col("name") == METRIC) & (pl.col("task") == task)
    return pl.read_parquet(path).filter(of_task).sort("query_id", "run")


def changed_queries(rows: pl.DataFrame, tuned: str) -> QueryChanges:
    """The queries of `query_rows` by the base and by the tuned run."""
    base = rows.filter(pl.col("run") == BASE).select("query_id", "value", "rank")
    pairs = rows.filter(pl.col("run") == tuned).join(base, on="query_id", suffix="_base")
    pairs = pairs.with_columns(loss=pl.col("value_base") - pl.col("value"))
    fallen = pairs.filter(pl.col("loss") > 0).sort(["loss", "query_id"], descending=[True, False])
    rose = pairs.filter(pl.col("loss") < 0).height
    shown = [_fallen_query(row) for row in fallen.head(MOST_SHOWN).to_dicts()]
    same = pairs.height - rose - fallen.height
    return QueryChanges(rose=rose, fell=fallen.height, same=same, fallen=shown)


def _fallen_query(row: Mapping[str, Any]) -> FallenQuery:
    return FallenQuery(
        query=row["query"],
        before=row["rank_base"],
        after=row["rank"],
        loss=row["loss"],
        answer=_first(row["relevant_texts"]),
        instead=[text for _, text in _wrong_documents(row)],
    )


def _wrong_documents(row: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(id, text) of the best documents that are no answer."""
    relevant = set(row["relevant_ids"])
    best = zip(row["top_ids"], row["top_texts"])
    return [(name, text) for name, text in best if name not in relevant]


def _first(texts: Sequence[str]) -> str:
    return texts[0] if texts else ""


# --- rows worth a look ---------------------------------------------------------------------------


def agreed_documents(rows: pl.DataFrame, tuned: str) -> list[SuspectRow]:
    """Documents that base, tuned model and BM25 all rank first, and that are no answer.

    What systems of different kinds agree on is often right, and only not labelled.
    """
    runs = list(dict.fromkeys([BASE, tuned, BM25]))
    tops = rows.filter(pl.col("run").is_in(runs)).with_columns(best=pl.col("top_ids").list.first())
    is_agreed = (pl.col("best").n_unique() == 1) & (pl.col("run").n_unique() == len(runs))
    tops = tops.filter(is_agreed.over("query_id"), pl.col("run") == BASE)
    tops = tops.filter(~pl.col("relevant_ids").list.contains(pl.col("best")).fill_null(True))
    return [
        SuspectRow(
            kind="may be an answer",
            query=row["query"],
            first=_first(row["top_texts"]),
            second=_first(row["relevant_texts"]),
        )
        for row in tops.to_dicts()
    ]


def near_duplicates(rows: pl.DataFrame) -> list[SuspectRow]:
    """Answers beside a document of nearly the same words, which is no answer."""
    suspects = []
    for row in rows.filter(pl.col("run") == BASE).to_dicts():
        answer = _first(row["relevant_texts"])
        words = _words(answer)
        for _, text in _wrong_documents(row):
            if overlap(words, _words(text)) >= SAME_WORDS:
                suspects.append(
                    SuspectRow(kind="says the same", query=row["query"], first=text, second=answer)
                )
                break
    return suspects


def _words(text: str) -> set[str]:
    return set(re.findall(r"\w+", text.casefold()))


def overlap(first: set[str], second: set[str]) -> float:
    """The Jaccard index of two sets of words; 0 where both are empty."""
    both = first | second
    return len(first & second) / len(both) if both else 0.0


def contradictions(paths: Sequence[str]) -> list[SuspectRow]:
    """Pairs whose labels contradict each other: `examples` files of the table.

    One query with several answers, unless many have them; an answer that is a negative of the same
    query elsewhere. Queries are compared without case and punctuation.
    """
    frames = [pl.read_parquet(path) for path in paths]
    parts = [_labelled(frame) for frame in frames]
    labels = pl.concat(parts).unique(maintain_order=True)
    answers = labels.filter(pl.col("is_answer")).group_by("key", maintain_order=True)
    by_query = answers.agg(pl.col("query").first(), pl.col("text").unique(maintain_order=True))
    several = by_query.filter(pl.col("text").list.len() > 1)
    suspects: list[SuspectRow] = []
    if several.height <= NATURAL_SHARE * max(by_query.height, 1):
        suspects += [_several(row) for row in several.to_dicts()]
    both = labels.group_by("key", "text", maintain_order=True)
    both_ways = both.agg(pl.col("query").first(), pl.col("is_answer").n_unique().alias("ways"))
    suspects += [
        SuspectRow(
            kind="answer and negative", query=row["query"], first=row["text"], second=row["text"]
        )
        for row in both_ways.filter(pl.col("ways") > 1).to_dicts()
    ]
    return suspects


def _several(row: Mapping[str, Any]) -> SuspectRow:
    first, second, *_ = row["text"]
    return SuspectRow(kind="several answers", query=row["query"], first=first, second=second)


def _labelled(frame: pl.DataFrame) -> pl.DataFrame:
    """A row for each query and text: `key` of the query, `query`, `text`, `is_answer`."""
    key = (
        pl.col("query").str.to_lowercase().str.replace_all(r"[^\p{L}\p{N}]+", " ").str.strip_chars()
    )
    columns = {"pos": True, "neg": False}
    parts = []
    for name, is_answer in columns.items():
        if name in frame.columns and frame.schema[name] != pl.Null:
            texts = frame.select(key.alias("key"), "query", pl.col(name).alias("text"))
            texts = texts.explode("text").drop_nulls("text")
            parts.append(texts.with_columns(is_answer=pl.lit(is_answer)))
    return pl.concat(parts)


# --- dropped rows --------------------------------------------------------------------------------


def dropped_rows(summaries: Mapping[str, Mapping[str, Any]]) -> list[DroppedRows]:
    """What the --json-summary files of steps say, by the name of the step."""
    return [
        DroppedRows(step=step, reason=reason, rows=rows)
        for step, summary in summaries.items()
        for reason, rows in summary.get("dropped", {}).items()
    ]
