"""Tables of any program: CSV and its dialects, JSON rows, workbooks, Parquet and Arrow, as text.

Every cell is text exactly as written; a row that cannot be read is refused, or dropped under a
reason with its line. `open_table` opens one input, `TableReader` reads several as one table:

    options = TableOptions(delimiter=";", bad_rows="drop")
    table = open_table(Source("faq.csv", "faq.csv"), options, report)
    for batch in table.batches():  # record batches of string columns
        ...

table_options  how the inputs are written, and what happens to bad rows
reader         all inputs of a run as one sequence of batches
registry       the formats; each module registers its format
table_input    one input, decompressed and decoded on demand
delimited      CSV, in a `dialect`
json_rows      JSON lines and arrays
workbook       Excel and OpenDocument sheets
typed_table    Parquet, Arrow and what else `fletching.io` reads
encoding, utf8_stream, bad_rows, text_cells
               what the formats share
"""

from fletching.io.tables.reader import TableReader
from fletching.io.tables.registry import OpenTable, file_extensions, open_table
from fletching.io.tables.table_input import TableInput
from fletching.io.tables.table_options import CellKind, TableOptions

__all__ = [
    "CellKind",
    "OpenTable",
    "TableInput",
    "TableOptions",
    "TableReader",
    "file_extensions",
    "open_table",
]
