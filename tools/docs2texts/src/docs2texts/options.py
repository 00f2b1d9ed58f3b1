"""The options of docs2texts."""

from __future__ import annotations

from dataclasses import dataclass

from fletching.options import (
    IO,
    LimitOptions,
    OutputOptions,
    RejectsOptions,
    StandardOptions,
    option,
    override,
    positional,
)

CHUNKS = "texts"
FILES = "which documents"
REPEATS = "repeated texts"


@dataclass(frozen=True, kw_only=True)
@override(
    "limit",
    None,
    because="what is read here are documents, not rows",
    help="read only the first N documents, in the order of their names",
    group=IO,
)
class Options(
    LimitOptions,
    OutputOptions,
    RejectsOptions,
    StandardOptions,
):
    """One command line of docs2texts."""

    inputs: tuple[str, ...] = positional("folders of documents, or documents", "FOLDER")
    max_tokens: int = option(
        256, "tokens of a text with its title, at most", metavar="N", low=16, group=CHUNKS
    )
    overlap: int = option(
        0,
        "tokens that a text repeats of the one before it in the section, whole sentences",
        metavar="N",
        low=0,
        group=CHUNKS,
    )
    model: str | None = option(
        None,
        "count the tokens of this model, a folder or hub name "
        "[a token for each six letters of a word begun, each sign, each CJK letter]",
        metavar="M",
        group=CHUNKS,
        is_model=True,
    )
    include: tuple[str, ...] = option(
        (), "only files whose path in FOLDER matches, e.g. '*.md'", metavar="GLOB", group=FILES
    )
    exclude: tuple[str, ...] = option(
        (),
        "no files and folders whose path matches, e.g. 'vendor/*'",
        metavar="GLOB",
        group=FILES,
    )
    max_file_size: float = option(
        16.0, "drop files above so many MB, which are parsed in memory", low=0, group=FILES
    )
    encoding: str | None = option(
        None,
        "character encoding, e.g. cp949, shift-jis, cp1252, utf-16 "
        "[UTF-8, else the only one that decodes the file]",
        metavar="E",
        group=FILES,
        advanced=True,
    )
    near_duplicates: float = option(
        0.9,
        "drop texts that share this part of their 3-word runs (Jaccard) with an earlier one; "
        "1: equal ones alone",
        metavar="X",
        low=0.5,
        high=1,
        group=REPEATS,
    )
    boilerplate: float = option(
        0.2,
        "drop paragraphs that occur in more than this share of the documents, and in five or more; "
        "1: none",
        metavar="X",
        low=0,
        high=1,
        group=REPEATS,
    )
