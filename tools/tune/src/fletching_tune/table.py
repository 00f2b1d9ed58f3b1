"""The table as pairs: command lines of csv2pairs with every option of tables and columns."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from fletching.errors import InputError, UsageError
from fletching.options import PairOptions, TableReadingOptions, describe
from fletching.report import Report
from fletching_tune.counts import Counts
from fletching_tune.options import Options, Stage
from fletching_tune.steps.step import Step, arguments, list_value
from fletching_tune.work_folder import WorkFolder

FEWEST_QUERIES = 20


def check_table(options: Options) -> None:
    """Raise UsageError for a table that cannot be read twice or has no answers; of documents,
    `check_documents` says the rest.
    """
    if not options.inputs:
        raise UsageError("there is no table", "fletching tune faq.csv --query … --pos … -o tuned/")
    for path in (*options.inputs, *options.dev, *options.test, *options.corpus):
        if path == "-":
            raise UsageError("a table on stdin is read once alone", "save it as a file")
    if options.documents:
        return
    if options.mode == "texts":
        raise UsageError("--mode texts makes no pairs", "pass --query and --pos")
    has_answers = options.pos or options.category or options.template
    if options.query and not has_answers:
        raise UsageError(
            "--pos is missing", "name the column that answers: --pos COL; or --category COL"
        )
    if has_answers and not options.query:
        raise UsageError("--query is missing", "name the column that people search with")
    if bool(options.dev) != bool(options.test):
        raise UsageError("--dev and --test come together", "pass both, or none for a split")


def column_words(options: Options, tables: Sequence[str], report: Report) -> list[str]:
    """The words of csv2pairs that say which columns are pairs, and how the tables are read.

    Raises UsageError for tables that are no `examples` where no column was named.
    """
    words = []
    if options.query is None:
        from fletching_tune.examples_columns import examples_words  # imports pyarrow

        words = examples_words(options, tables, report)
    if is_grouped(options) and options.mode == "each":
        words += ["--mode", "group"]
    for group in (PairOptions, TableReadingOptions):
        for name, option in describe(group).items():
            value = getattr(options, name)
            if value == option.default:
                continue
            if option.scalar is bool:
                words.append(option.flag if value else option.negated_flag)
            elif option.is_list:
                words += [word for each in value for word in (option.flag, list_value(each))]
            else:
                words += [option.flag, str(value)]
    return words


def is_grouped(options: Options) -> bool:
    """Do rows of one category answer each other?"""
    return options.mode == "group" or not (options.pos or options.template or not options.query)


def pairs_step(
    options: Options, work: WorkFolder, *, name: str, tables: Sequence[str], columns: Sequence[str]
) -> Step:
    """The pairs of tables, as the examples of a split. columns: of `column_words`."""
    summary = work.summary(f"pairs-{name}")
    words = (*_common(options, columns), "-o", work.split(name), "--json-summary", summary)
    return Step(
        name=f"pairs-{name}",
        stage="split",
        argv=("csv2pairs", *words, *arguments(tables)),
        inputs=tuple(tables),
        outputs=(work.split(name), summary),
    )


def split_step(
    options: Options, work: WorkFolder, shares: Sequence[str], *, columns: Sequence[str]
) -> Step:
    """The pairs of the table in splits that have no text in common.

    shares: `train=0.8` … columns: of `column_words`.
    """
    names = [share.partition("=")[0] for share in shares]
    summary = work.summary("split")
    by = [word for each in options.split_by for word in ("--split-by", list_value(each))]
    return Step(
        name="split",
        stage="split",
        argv=(
            "csv2pairs",
            *_common(options, columns),
            *by,
            *("--split", ",".join(shares), "-o", work.split("{split}")),
            *("--json-summary", summary),
            *arguments(options.inputs),
        ),
        inputs=options.inputs,
        outputs=(*map(work.split, names), summary),
    )


def documents_steps(work: WorkFolder, splits: Sequence[str]) -> list[Step]:
    """Every answer of the table as `texts`: what is searched in use."""
    pairs = [work.split(name) for name in splits]
    return positives_steps(work, pairs, out=work.documents, stage="split")


def positives_steps(
    work: WorkFolder, pairs: Sequence[str], *, out: str, stage: Stage
) -> list[Step]:
    """Every positive of pairs as `texts`, each one of a list a text of its own."""
    name = os.path.basename(out).removesuffix(".parquet")
    single = work.file(f"{name}-pairs.parquet")
    each = ("--query", "query", "--pos", "pos", "--mode", "each", "-o", single)
    texts = ("--mode", "texts", "--template", "{pos}", "-o", out)
    return [
        Step(
            name=f"{name}-pairs",
            stage=stage,
            argv=("csv2pairs", *each, *arguments(pairs)),
            inputs=tuple(pairs),
            outputs=(single,),
        ),
        Step(
            name=name,
            stage=stage,
            argv=("csv2pairs", single, *texts),
            inputs=(single,),
            outputs=(out,),
        ),
    ]


def _common(options: Options, columns: Sequence[str]) -> list[str]:
    limit = ["--limit", str(options.limit)] if options.limit else []
    return [*columns, *limit, "--seed", str(options.seed)]


def check_counts(counts: Counts, options: Options) -> None:
    """Raise InputError for splits that can teach or show nothing."""
    empty = [name for name, rows in counts.rows.items() if not rows]
    if not empty:
        return
    rows = ", ".join(f"{number} {name}" for name, number in counts.rows.items())
    what = f"no row is left for {' and '.join(empty)} ({rows})"
    if options.dev:
        raise InputError(what, "check the tables of --dev and --test")
    raise InputError(
        f"{what}; rows that share a text stay together",
        "give more rows, or held-out tables of their own: --dev TABLE --test TABLE",
    )


def check_pairs(queries: int, documents: int, dropped: Mapping[str, int]) -> None:
    """Raise InputError for pairs from which nothing can be learned or shown.

    dropped: rows of the table that are no pairs, by reason.
    """
    reasons = [f"{rows:,} {reason}" for reason, rows in sorted(dropped.items())]
    why = f" ({', '.join(reasons)})" if reasons else ""
    if queries < FEWEST_QUERIES:
        raise InputError(
            f"{queries} queries with {documents} documents{why} are too few to train on some, to "
            "choose by others and to test on the rest",
            f"give at least {FEWEST_QUERIES} different queries, better 500",
        )
    if documents == 1:
        raise InputError(
            "all rows have one and the same answer: there is nothing to rank",
            "check --pos: it names the column that answers the query",
        )
