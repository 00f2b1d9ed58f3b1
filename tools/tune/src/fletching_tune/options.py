"""The options of fletching-tune."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fletching.options import (
    IO,
    RUN,
    CorpusOptions,
    LimitOptions,
    ModelOptions,
    PairOptions,
    SeedOptions,
    StandardOptions,
    TableReadingOptions,
    option,
    override,
    positional,
)

TUNING = "tuning"
DOCUMENTS = "documents without queries"
DEFAULT_MODEL = "sentence-transformers/all-MiniLM-L6-v2"
Stage = Literal["split", "plan", "mine", "train", "choose", "verdict"]


@dataclass(frozen=True, kw_only=True)
@override(
    "model",
    DEFAULT_MODEL,
    because="the first run should need a table and two column names alone",
    help="the base: a sentence-transformers folder or a hub name",
    group=TUNING,
)
@override(
    "corpus",
    (),
    because="the documents of the table are searched in any case, held-out ones too",
    help="`texts` that join the documents of the table as those to search",
    group=TUNING,
)
class Options(
    TableReadingOptions,
    PairOptions,
    ModelOptions,
    CorpusOptions,
    LimitOptions,
    SeedOptions,
    StandardOptions,
):
    """One command line of fletching-tune: those of csv2pairs, and how to tune."""

    inputs: tuple[str, ...] = positional(
        "tables: files, folders, globs or URLs; or documents, or `texts`", "TABLE"
    )
    documents: bool = option(
        False,
        "TABLE names documents or `texts`, for which queries are generated",
        group=DOCUMENTS,
    )
    llm: str | None = option(
        None,
        "OpenAI-compatible server of an LLM that writes them",
        metavar="URL",
        group=DOCUMENTS,
        rows=False,
    )
    llm_model: str | None = option(
        None, "name of the LLM on that server", metavar="NAME", group=DOCUMENTS
    )
    llm_queries: int = option(
        3,
        "queries of a text by the LLM",
        metavar="N",
        low=1,
        high=100,
        group=DOCUMENTS,
        advanced=True,
    )
    llm_single: bool = option(
        False,
        "ask for one query at a time, after examples: for small LLMs",
        group=DOCUMENTS,
        advanced=True,
    )
    llm_requests: int | None = option(
        None,
        "requests to the LLM at most; the other texts get no query",
        metavar="N",
        low=1,
        group=DOCUMENTS,
        advanced=True,
    )
    budget: str = option(
        "20m", "time for everything, 90s, 20m or 2h; the plan fits into it", group=TUNING
    )
    dev: tuple[str, ...] = option(
        (),
        "tables of the rows that choose the model, instead of a share of TABLE",
        metavar="TABLE",
        group=TUNING,
        advanced=True,
    )
    test: tuple[str, ...] = option(
        (),
        "tables of the rows that the verdict is about, instead of a share of TABLE; with "
        "--documents examples or BEIR folders of people's queries",
        metavar="TABLE",
        group=TUNING,
        advanced=True,
    )
    split_by: tuple[str, ...] = option(
        (),
        "rows with the same value in one of these columns stay in one split",
        metavar="COL[,COL]",
        group=IO,
        advanced=True,
    )
    candidates: tuple[
        Literal["anchored", "infonce", "hard-negatives", "guided", "gentle", "lora", "hybrid"], ...
    ] = option((), "train these alone [all that fit into the budget]", group=TUNING, advanced=True)
    guard: str | None = option(
        None,
        "a task `guard` against forgetting: examples, or `texts` (e.g. the training corpus) whose "
        "nearest neighbours by the baseline are the truth",
        metavar="FILE",
        group=TUNING,
        advanced=True,
    )
    guard_share: float = option(
        0.0,
        "leave out candidates that keep a smaller share of the guard (by default of the base's ten "
        "nearest neighbours among the documents)",
        metavar="X",
        low=0,
        high=1,
        group=TUNING,
        advanced=True,
    )
    require_gain: bool = option(
        False, "exit with 1 unless the verdict is WIN", group=TUNING, rows=False
    )
    output: str | None = option(
        None,
        "folder of the tuned model, the report and the verdict (required)",
        metavar="DIR",
        short="-o",
        group=IO,
        rows=False,
        written=True,
    )
    to: Literal["split", "plan", "mine", "train", "choose", "verdict"] | None = option(
        None, "stop after this stage; the same command without it continues", group=RUN, rows=False
    )
    from_: Literal["split", "plan", "mine", "train", "choose", "verdict"] | None = option(
        None, "redo this stage and those after it, whatever is there", group=RUN, rows=False
    )
    print_commands: bool = option(
        False,
        "print the command lines that are known so far, and run none",
        group=RUN,
        rows=False,
    )
