"""simfilter: drop pairs whose query and positive do not fit together.

Layers, each of which imports those below it alone:

cli            the command: checks, inputs, outputs
outputs        rows that stay, and rejects
scoring        from input batches to scored units
score_columns  scores as columns of the rows
row_filter     why positives fail; which of them and which rows stay; the counts of both
criteria       what a positive must meet: a registry of polars expressions
pool_rank      the rank of a positive among all texts
decontaminate  rows with texts of an evaluation set
histogram      counts of scores by range
scorers        the score of a positive: a registry
options        the command line
"""
