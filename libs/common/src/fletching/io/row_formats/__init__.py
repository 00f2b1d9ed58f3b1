"""Row formats: how the field names a query, its positives and negatives, and how to convert them.

A file format (`fletching.io.formats`) says how bytes become columns; a row format says what the
columns mean. Each module of this package is one format, or one family of a library, and registers
it in `ROW_FORMATS`:

    from fletching.io.row_formats import ROW_FORMATS

    for row_format in ROW_FORMATS.values():
        print(row_format.name, row_format.summary, row_format.columns, row_format.becomes)

Reading. `Reader` looks at the columns of each input that has no stamp of ours (`detect`), converts
what it recognises (`to_examples`) and notes what it took for what. Every tool reads so.

Writing. `ROW_FORMATS[name].from_examples(batches, path)` writes rows of `examples` to `path` and
gives a `WriteAccount`: how many rows were written and what could not be carried, by reason. The
batches are read more than once, so give a list, a table or a `fletching.table.DiskTable` and no
generator. Files and folders appear complete or not at all. A format of rows is written in the file
format of its extension (`.jsonl`, `.parquet` …; `-.jsonl` is stdout); where `is_folder` is true,
`path` is a new folder.

row_format        the registry, its entry, the account of a writer
column_types      what detection asks of columns
labels            labels of pairs as scores
formatted_rows    a source whose batches are converted
judged_rows       corpus, queries and judgements joined
writing, collection_files
                  rows into files, shared by the writers

The other modules are the formats.
"""

from fletching.io.row_formats.row_format import (
    ROW_FORMATS,
    Batches,
    RowFormat,
    WriteAccount,
    detect_folder,
    detect_row_format,
)

__all__ = [
    "ROW_FORMATS",
    "Batches",
    "RowFormat",
    "WriteAccount",
    "detect_folder",
    "detect_row_format",
]
