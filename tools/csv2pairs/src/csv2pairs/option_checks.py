"""Options that contradict each other, as a table of (is it so, what is wrong, how to fix it)."""

from __future__ import annotations

from collections.abc import Iterator

from csv2pairs.options import Options
from fletching.errors import UsageError

Contradiction = tuple[bool, str, str]

# The columns that the tool writes itself, and those of `examples` that are no text.
TEXTS_COLUMNS = ("id", "text", "domain")
EXAMPLES_COLUMNS = ("id", "query", "pos", "neg", "domain")
TYPED_COLUMNS = tuple(
    f"{side}_{what}" for side in ("pos", "neg") for what in ("ids", "scores", "score_kind")
)
WITHOUT_USE_FOR_TEXTS = ("negatives", "texts_out", "query", "neg", "pos_id", "neg_id", "score")
ROLES = ("domain", "category")  # of columns that files may be named by


def check_options(options: Options) -> dict[str, float]:
    """The share of each split, by name; {} without --split. Raises UsageError.

    Imports the readers, which --help must not wait for.
    """
    refuse(_of_texts(options))
    refuse(_of_columns(options))
    refuse(_of_partitions(options))
    shares = split_shares(options)
    refuse(_of_splits(options))

    from csv2pairs.table import separators, table_options
    from fletching.io.tables import encoding
    from fletching.io.tables.dialect import Dialect

    separators(options)
    Dialect.from_options(table_options(options))
    if options.encoding:
        encoding.codec_named(options.encoding)
    return shares


def refuse(contradictions: Iterator[Contradiction]) -> None:
    """Raise UsageError for the first one that is so."""
    for is_so, what, fix in contradictions:
        if is_so:
            raise UsageError(what, fix)


def _of_texts(options: Options) -> Iterator[Contradiction]:
    mode = options.mode
    has_texts = bool(options.pos or options.template) or mode == "group"
    lacking = "has nothing to write" if mode == "texts" else "has no positives"
    name_columns = "name columns, --pos COL[,COL], or give a --template '{col} {col}'"
    yield not has_texts, f"--mode {mode} {lacking}", name_columns
    yield (
        mode != "texts" and not options.query,
        "--query is missing",
        "name the column that holds the query: --query COL",
    )
    yield (
        mode == "group" and not options.category,
        "--mode group needs --category",
        "name the column whose equal values make rows each other's positives",
    )
    yield (
        options.category_positive and (not options.category or mode in ("group", "texts")),
        "--category-positive needs --category, and a mode with positives in the row",
        "name the column, or choose --mode each, list or fused",
    )
    yield (
        bool(options.texts_template and not options.texts_out),
        "--texts-template needs --texts-out",
        "name the file: --texts-out FILE",
    )
    for name in WITHOUT_USE_FOR_TEXTS:
        yield (
            mode == "texts" and bool(getattr(options, name)),
            f"--mode texts has no use for --{name.replace('_', '-')}",
            "leave it out, or choose another mode",
        )


def _of_columns(options: Options) -> Iterator[Contradiction]:
    is_one = options.mode in ("each", "list") and len(options.pos) == 1 and not options.template
    is_bare = is_one and "{" not in options.pos[0] and not options.category_positive
    for option, name in (("--score", options.score), ("--pos-id", options.pos_id)):
        yield (
            bool(name) and not is_bare,
            f"{option} needs one --pos column that it belongs to",
            "name one column, in --mode each or list",
        )
    yield (
        bool(options.neg_id) and (len(options.neg) != 1 or options.negatives_per_row > 0),
        "--neg-id needs one --neg column that it belongs to, and no --negatives",
        "name one column; texts that are drawn have no ids",
    )
    written = TEXTS_COLUMNS if options.mode == "texts" else EXAMPLES_COLUMNS
    for name in options.keep:
        is_same_domain = name == "domain" and options.domain == "domain"
        yield (
            name in (*written, *TYPED_COLUMNS) and not is_same_domain,
            f"--keep {name}: the output has a column of that name already",
            "rename the column of the table, or leave it out",
        )
    is_repeated = len(set(options.keep)) < len(options.keep)
    yield is_repeated, "--keep names a column twice", "name it once"


def _of_partitions(options: Options) -> Iterator[Contradiction]:
    role = options.partition_by
    if role:
        is_absent = not getattr(options, role)
        name_column = f"name the column: --{role} COL"
        yield is_absent, f"--partition-by {role} needs --{role}", name_column
    in_texts = roles_in(options.texts_out)
    yield (
        len(in_texts) > 1 or not all(getattr(options, name) for name in in_texts),
        f"--texts-out {options.texts_out} needs the column of {{domain}} or {{category}}",
        "name one: --domain COL or --category COL",
    )
    yield (
        roles_in(options.output) != ([role] if role else []),
        "--partition-by and a -o with {domain} or {category} belong together",
        "write e.g. --partition-by domain -o 'pairs.{domain}.parquet'",
    )


def _of_splits(options: Options) -> Iterator[Contradiction]:
    paths = {
        "-o": options.output or "",
        "--texts-out": options.texts_out,
    }
    for option, path in paths.items():
        yield (
            path is not None and ("{split}" in path) != bool(options.split),
            f"--split and {option} with {{split}} belong together",
            f"write e.g. --split train=0.8,test=0.2 {option} 'pairs.{{split}}.parquet'",
        )
    fix = "say how to split: --split train=0.8,test=0.2"
    yield bool(options.split_by and not options.split), "--split-by needs --split", fix


def roles_in(path: str | None) -> list[str]:
    """The roles whose values are part of the name of an output."""
    return [role for role in ROLES if f"{{{role}}}" in (path or "")]


def split_shares(options: Options) -> dict[str, float]:
    """The share of each split, by name. Raises UsageError."""
    shares: dict[str, float] = {}
    for item in options.split:
        name, _, share = item.partition("=")
        try:
            number = float(share)
        except ValueError:
            number = -1.0
        if name in ("", *shares) or "/" in name or not number >= 0:
            raise UsageError(
                f"--split {item!r} is not NAME=SHARE with a new name",
                "write e.g. --split train=0.8,test=0.2",
            )
        shares[name] = number
    total = sum(shares.values())
    if shares and abs(total - 1) > 1e-6:
        raise UsageError(f"the shares of --split add up to {total:g}", "let them add up to 1")
    return shares
