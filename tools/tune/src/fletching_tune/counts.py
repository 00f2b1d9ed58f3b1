"""How much there is to learn from and to test on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fletching.report import Report


@dataclass(frozen=True, kw_only=True)
class Counts:
    """Rows and distinct queries by split; distinct documents that are searched."""

    rows: Mapping[str, int]
    queries: Mapping[str, int]
    documents: int


def distinct_texts(paths: Sequence[str], column: str) -> int:
    """How many distinct texts a column of Parquet files has; lists are counted by their items."""
    import polars as pl

    texts = pl.scan_parquet(list(paths), glob=False).select(pl.col(column))
    if isinstance(texts.collect_schema()[column], pl.List):
        texts = texts.explode(column)
    return int(texts.select(pl.col(column).drop_nulls().n_unique()).collect().item())


def shared_queries(path: str, other: str) -> int:
    """How many distinct queries of one file are queries of another."""
    import polars as pl

    ours, theirs = (pl.read_parquet(each, columns=["query"]).unique() for each in (path, other))
    return ours.join(theirs, on="query", how="semi").height


def text_count(files: Sequence[str], report: Report) -> int:
    """The rows of `texts` files. Raises InputError for files that hold no texts."""
    from fletching.io import Reader

    if not files:
        return 0
    return sum(batch.num_rows for batch in Reader(report, files, "texts", count=False))


def row_count(path: str) -> int:
    """The rows of a Parquet file."""
    import pyarrow.parquet as pq

    return int(pq.read_metadata(path).num_rows)
