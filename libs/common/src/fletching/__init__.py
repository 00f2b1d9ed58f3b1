"""The library that every Fletching tool is built on.

A tool as a program
    cli             command line, exit code, errors, signals
    options         options as dataclass fields, and the groups that tools share
    parsing         a command line parsed into such a dataclass (config: from a file; help: as text)
    errors          InputError and UsageError: what is wrong, and how to fix it
    report          progress, row accounting, the summary line
    page            HTML pages: environment, style sheet, axes (extra: fletching[page])
    registry        named things of one kind that a module adds beside its code
    protocols       the interfaces of row sources, row sinks and text encoders

Rows
    schema          the exchange contract of schemas/: columns, types, names
    column_mapping  the columns of an input as rows of a schema, checked
    arrow_types     one canonical Arrow type for each encoding of a value
    io              Arrow streams, Parquet, Arrow files and JSONL, read and written safely
    table           rows and lists by number, sets of keys, atomic files
    digest          a fingerprint of rows that is the same in any file format
    lineage         which tools made the rows, in one metadata key
    qrels           relevance judgements

Texts
    text            normalisation, hashes, ids
    text_keys       the hashes of a whole column, as 64-bit integers
    training_index  the hashes of the texts that a model was trained on
    seeded_random   random choices that depend on (seed, row), never on order

Models
    pooling         poolings of a bare transformer
    encode          texts to vectors (extra: fletching[encode])
    train           training runs: checkpoints, resuming, processes (extra: fletching[train])

Importing the package itself imports nothing.
"""
