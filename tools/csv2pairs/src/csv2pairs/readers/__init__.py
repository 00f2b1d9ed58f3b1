"""Tables of text cells from every supported format.

table        all inputs of a run as one sequence of batches
registry     the formats; each module registers its format
table_input  one input, decompressed and decoded on demand
delimited    CSV, in a `dialect`
json_rows    JSON lines and arrays
typed_table  Parquet, Arrow and what else `fletching.io` reads
encoding, utf8_stream, bad_rows, text_cells
             what the formats share
"""
