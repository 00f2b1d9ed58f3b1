"""Options that contradict each other, found before anything is read."""

from __future__ import annotations

from collections.abc import Mapping

from csv2pairs.options import Options
from fletching.errors import UsageError

# The columns that the tool writes itself, and those of `examples` that are no text.
TEXTS_COLUMNS = ("id", "text", "domain")
EXAMPLES_COLUMNS = ("id", "query", "pos", "neg", "domain")
TYPED_COLUMNS = (
    "pos_ids",
    "neg_ids",
    "pos_scores",
    "neg_scores",
    "pos_score_kind",
    "neg_score_kind",
)
WITHOUT_USE_FOR_TEXTS = ("negatives", "texts_out", "query", "neg", "pos_id", "neg_id", "score")


def check_options(options: Options) -> dict[str, float]:
    """The share of each split, by name; {} without --split. Raises UsageError."""
    _check_texts_of_mode(options)
    _check_category(options)
    _check_texts_out(options)
    if options.mode == "texts":
        _check_mode_texts(options)
    _check_table_negatives(options)
    _check_kept_columns(options)
    _check_partition(options)
    shares = split_shares(options)
    _check_split_paths(options, shares)
    _check_dialect(options)
    return shares


def _check_dialect(options: Options) -> None:
    """Imports the readers, which --help must not wait for."""
    from csv2pairs.table import separators, table_options
    from fletching.io.tables import encoding
    from fletching.io.tables.dialect import Dialect

    separators(options)
    Dialect.from_options(table_options(options))
    if options.encoding:
        encoding.codec_named(options.encoding)


def _check_texts_of_mode(options: Options) -> None:
    mode = options.mode
    if not (options.pos or options.template) and mode != "group":
        lacking = "has nothing to write" if mode == "texts" else "has no positives"
        raise UsageError(
            f"--mode {mode} {lacking}",
            "name columns, --pos COL[,COL], or give a --template '{col} {col}'",
        )
    if mode != "texts" and not options.query:
        raise UsageError("--query is missing", "name the column that holds the query: --query COL")


def _check_category(options: Options) -> None:
    if options.mode == "group" and not options.category:
        raise UsageError(
            "--mode group needs --category",
            "name the column whose equal values make rows each other's positives",
        )
    has_positives = options.mode not in ("group", "texts")
    if options.category_positive and not (options.category and has_positives):
        raise UsageError(
            "--category-positive needs --category, and a mode with positives in the row",
            "name the column, or choose --mode each, list or fused",
        )


def _check_texts_out(options: Options) -> None:
    if options.texts_template and not options.texts_out:
        raise UsageError("--texts-template needs --texts-out", "name the file: --texts-out FILE")


def _check_mode_texts(options: Options) -> None:
    for name in WITHOUT_USE_FOR_TEXTS:
        if getattr(options, name):
            raise UsageError(
                f"--mode texts has no use for --{name.replace('_', '-')}",
                "leave it out, or choose another mode",
            )


def _check_table_negatives(options: Options) -> None:
    is_one = options.mode in ("each", "list") and len(options.pos) == 1 and not options.template
    for option, name in (("--score", options.score), ("--pos-id", options.pos_id)):
        if name and not (is_one and "{" not in options.pos[0] and not options.category_positive):
            raise UsageError(
                f"{option} needs one --pos column that it belongs to",
                "name one column, in --mode each or list",
            )
    if options.neg_id and (len(options.neg) != 1 or options.negatives_per_row):
        raise UsageError(
            "--neg-id needs one --neg column that it belongs to, and no --negatives",
            "name one column; texts that are drawn have no ids",
        )


def _check_kept_columns(options: Options) -> None:
    written = TEXTS_COLUMNS if options.mode == "texts" else EXAMPLES_COLUMNS
    for name in options.keep:
        is_same_domain = name == "domain" and options.domain == "domain"
        if name in (*written, *TYPED_COLUMNS) and not is_same_domain:
            raise UsageError(
                f"--keep {name}: the output has a column of that name already",
                "rename the column of the table, or leave it out",
            )
    if len(set(options.keep)) < len(options.keep):
        raise UsageError("--keep names a column twice", "name it once")


def _check_partition(options: Options) -> None:
    role = options.partition_by
    if role and not getattr(options, role):
        raise UsageError(f"--partition-by {role} needs --{role}", f"name the column: --{role} COL")
    output = options.output or ""
    roles = ("domain", "category")
    in_path = [name for name in roles if f"{{{name}}}" in output]
    in_texts = [name for name in roles if f"{{{name}}}" in (options.texts_out or "")]
    if len(in_texts) > 1 or not all(getattr(options, name) for name in in_texts):
        raise UsageError(
            f"--texts-out {options.texts_out} needs the column of {{domain}} or {{category}}",
            "name one: --domain COL or --category COL",
        )
    if in_path != ([role] if role else []):
        raise UsageError(
            "--partition-by and a -o with {domain} or {category} belong together",
            "write e.g. --partition-by domain -o 'pairs.{domain}.parquet'",
        )


def split_shares(options: Options) -> dict[str, float]:
    """The share of each split, by name. Raises UsageError."""
    shares: dict[str, float] = {}
    for item in options.split:
        name, _, share = item.partition("=")
        is_new_name = name not in ("", *shares) and "/" not in name
        number = _number(share)
        if not is_new_name or number is None or not number >= 0:
            raise UsageError(
                f"--split {item!r} is not NAME=SHARE with a new name",
                "write e.g. --split train=0.8,test=0.2",
            )
        shares[name] = number
    total = sum(shares.values())
    if shares and abs(total - 1) > 1e-6:
        raise UsageError(f"the shares of --split add up to {total:g}", "let them add up to 1")
    return shares


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _check_split_paths(options: Options, shares: Mapping[str, float]) -> None:
    for option, path in (("-o", options.output), ("--texts-out", options.texts_out)):
        is_written = option == "-o" or bool(path)
        has_split = "{split}" in (path or "")
        if is_written and has_split != bool(shares):
            raise UsageError(
                f"--split and {option} with {{split}} belong together",
                f"write e.g. --split train=0.8,test=0.2 {option} 'pairs.{{split}}.parquet'",
            )
    if options.split_by and not shares:
        raise UsageError("--split-by needs --split", "say how to split: --split train=0.8,test=0.2")
