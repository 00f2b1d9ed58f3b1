"""simfilter: drop pairs whose query and positive do not fit together.

Layers, each of which imports those below it alone:

cli                    the command: checks, inputs, outputs
outputs                rows that stay, and rejects
row_filter             which positives and rows stay, and the counts of both
scoring                from input batches to scored units
drop_reasons           why each positive fails, by unit or over the run
criteria               what a positive must meet: a registry of polars expressions
pool_rank              the rank of a positive among all texts
decontaminate          rows with texts of an evaluation set
histogram              counts of scores by range
scorers                the score of a positive: a registry
score_columns          scores as columns of the rows
positive_lists         lists of positives, and what is aligned with them
row_units              the rows in units and shards
models                 what encodes and what scores pairs
options arrays         the command line; array types
"""
