"""Documents as a table: command lines that make texts, queries for them, and the pairs that fit.

docs2texts cuts the documents, texts2pairs or synthgen makes queries, simfilter keeps those whose
text is found again among all texts (round trip), csv2pairs splits by document.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from fletching.errors import UsageError
from fletching.options import PairOptions, describe
from fletching_tune.options import Options
from fletching_tune.steps.reading import read_summary
from fletching_tune.steps.step import Step, arguments
from fletching_tune.training import model_words
from fletching_tune.work_folder import WorkFolder

# One query a request, without a quotation, after demonstrations; a small LLM may never stop.
SINGLE = ("--queries-per-request", "1", "--no-evidence", "--answer-tokens", "100")
ROUND_TRIP_RANK = 20  # stricter than simfilter's 50: each query was made for one text
GENERATED = "generated"
BY_LLM = "queries-of-llm"
COLUMNS = (
    *("--query", "query", "--pos", "pos", "--id", "id"),
    "--mode",
    "list",
    "--keep",
    "document",
)
ROW_FILES = (".parquet", ".arrow", ".arrows", ".json", ".jsonl", ".jsonl.gz", ".jsonl.zst")


def check_documents(options: Options) -> None:
    """Raise UsageError for options that contradict --documents, or need it."""
    if not options.documents:
        if options.llm or options.llm_model or options.llm_single:
            raise UsageError("--llm belongs to --documents, which is missing", "add --documents")
        return
    for name, option in describe(PairOptions).items():
        if getattr(options, name) != option.default:
            raise UsageError(
                f"{option.flag} names columns of a table, but --documents makes the queries",
                "leave one of them out",
            )
    if bool(options.llm) != bool(options.llm_model):
        raise UsageError(
            "--llm and --llm-model come together",
            "--llm http://localhost:8000/v1 --llm-model NAME",
        )
    if options.dev or options.split_by:
        flag = "--dev" if options.dev else "--split-by"
        raise UsageError(f"{flag} does not go with --documents", "leave it out")


def are_texts(paths: Sequence[str]) -> bool:
    """Are these files of rows, `texts` already?"""
    return all(path.endswith(ROW_FILES) for path in paths)


class DocumentCommands:
    """The command lines of one run's documents.

    has_sources: do the texts say which document they are of? Else each is a document.
    """

    def __init__(self, options: Options, work: WorkFolder) -> None:
        self.options = options
        self.work = work
        self.base = str(options.model)
        self.has_sources = not are_texts(options.inputs)

    def texts(self) -> Step:
        """The texts of the documents; of files of texts, the same rows."""
        options, work = self.options, self.work
        summary = work.summary("texts")
        limit = ["--limit", str(options.limit)] if options.limit else []
        if self.has_sources:
            encoding = ["--encoding", options.encoding] if options.encoding else []
            program = ["docs2texts", *arguments(options.inputs), "--model", self.base, *encoding]
        else:
            program = ["arrowcat", *arguments(options.inputs)]
        return Step(
            name="texts",
            stage="split",
            argv=(*program, *limit, "-o", work.texts, "--json-summary", summary),
            inputs=options.inputs,
            models=(self.base,) if self.has_sources else (),
            outputs=(work.texts, summary),
        )

    def queries(self) -> list[Step]:
        """Queries for the texts, and the texts as they are searched by them."""
        generated, summary = self.work.split(GENERATED), self.work.summary("queries")
        written = [self.work.split(BY_LLM)] if self.options.llm else []
        taken = Step(
            name="queries",
            stage="split",
            argv=(
                *("texts2pairs", self.work.texts, "--corpus-out", self.work.searched),
                *(word for path in written for word in ("--queries", path)),
                *("--seed", str(self.options.seed), "--json-summary", summary, "-o", generated),
            ),
            inputs=(self.work.texts, *written),
            outputs=(generated, self.work.searched, summary),
        )
        return [self._synthesis(), taken] if self.options.llm else [taken]

    def _synthesis(self) -> Step:
        """Queries by the LLM. Its journal stays, whatever else changes: nothing is paid twice."""
        options, summary = self.options, self.work.summary(BY_LLM)
        server = ("--model", str(options.llm_model), "--base-url", str(options.llm))
        single = SINGLE if options.llm_single else ()
        cap = ["--max-requests", str(options.llm_requests)] if options.llm_requests else []
        return Step(
            name=BY_LLM,
            stage="split",
            argv=(
                *("synthgen", self.work.texts, "--job", "queries", *server),
                *("--per-row", str(options.llm_queries), *single, *cap),
                *("--journal", self.work.journal, "--seed", str(options.seed)),
                *("--json-summary", summary, "-o", self.work.split(BY_LLM)),
            ),
            inputs=(self.work.texts,),
            outputs=(self.work.split(BY_LLM), summary),
        )

    def round_trip(self) -> list[Step]:
        """The pairs without prompts, and those whose text is found again among all texts."""
        pairs, kept = self.work.file("pairs-generated.parquet"), self.work.split("all")
        rejects, summary = self.work.file("not-found-again.parquet"), self.work.summary("round")
        generated = self.work.split(GENERATED)
        plain = Step(
            name="pairs-generated",
            stage="split",
            argv=("csv2pairs", generated, *COLUMNS, "-o", pairs),
            inputs=(generated,),
            outputs=(pairs,),
        )
        found_again = Step(
            name="round-trip",
            stage="split",
            argv=(
                *("simfilter", pairs, "--model", self.base, "--corpus", self.work.searched),
                *("--rank-within", str(ROUND_TRIP_RANK), "--rejects", rejects, "-o", kept),
                *("--cache", self.work.cache, *model_words(self.options)),
                *("--json-summary", summary),
            ),
            inputs=(pairs, self.work.searched),
            models=(self.base,),
            outputs=(kept, rejects, summary),
        )
        return [plain, found_again]

    def split(self, shares: Sequence[str]) -> Step:
        """The pairs in splits: a document, and whatever shares a text with it, is on one side."""
        names = [share.partition("=")[0] for share in shares]
        pairs, summary = self.work.split("all"), self.work.summary("split")
        return Step(
            name="split",
            stage="split",
            argv=(
                *("csv2pairs", pairs, *COLUMNS, "--split-by", "document"),
                *("--seed", str(self.options.seed), "--split", ",".join(shares)),
                *("-o", self.work.split("{split}")),
                *("--json-summary", summary),
            ),
            inputs=(pairs,),
            outputs=(*map(self.work.split, names), summary),
        )

    def test(self) -> Step:
        """The queries of people that --test names, as `examples` with the ids of their texts."""
        rows = self.work.split("test")
        return Step(
            name="test-queries",
            stage="split",
            argv=("arrowcat", *arguments(rows_of_people(self.options.test)), "-o", rows),
            inputs=self.options.test,
            outputs=(rows,),
        )


def rows_of_people(paths: Sequence[str]) -> list[str]:
    """These paths; of a BEIR folder its test judgements: the reader would take those of train."""
    judgements = [os.path.join(path, "qrels", "test.tsv") for path in paths]
    return [
        judged if os.path.exists(judged) else path
        for path, judged in zip(paths, judgements, strict=True)
    ]


def describe_pairs(work: WorkFolder, *, searched: int, has_llm: bool) -> str:
    """One line on what the documents gave. searched: the number of texts."""
    texts, queries = (read_summary(work.summary(name)) for name in ("texts", "queries"))
    found_again = read_summary(work.summary("round"))
    written = read_summary(work.summary(BY_LLM))["rows_out"] if has_llm else 0
    by_llm = f" ({written:,} written by the LLM)" if has_llm else ""
    return (
        f"documents: {texts['rows_in']:,} in, {searched:,} texts; {queries['rows_out']:,} queries "
        f"generated{by_llm}, {found_again['rows_out']:,} of which find their text among the "
        f"nearest {ROUND_TRIP_RANK}"
    )


def two_shares(shares: Sequence[str]) -> list[str]:
    """Shares of train and dev alone, where the test rows are others.

    >>> two_shares(["train=0.8", "dev=0.1", "test=0.1"])
    ['train=0.9', 'dev=0.1']
    """
    dev = float(shares[1].partition("=")[2])
    return [f"train={round(1 - dev, 6):.8g}", shares[1]]
