"""texts2vectors: texts to vectors, once, for every tool that encodes.

Layers, each of which imports those below it alone:

cli           the command: checks, inputs, output
vector_rows   from input batches to rows of `vectors`
shards        the part of the rows that --shard names
texts         the texts of a batch by role
options       the command line
"""
