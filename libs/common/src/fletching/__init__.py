"""What every Fletching tool shares: the command line, streams, schemas, lineage and the encoder.

cli       a tool as a program: command line, exit code, errors, signals
arguments options from a dataclass (config: from a file; help: their text)
options   groups of options that several tools have in common
report    progress, row accounting, the summary line
errors    the one way to refuse
schema    the exchange contract of schemas/, loaded and enforced
stream    Arrow streams, Parquet, Arrow files and JSONL, read and written safely
digest    one fingerprint for the same rows in any file format
lineage   what made these rows, carried in one metadata key
text      normalisation and hashing of texts
keys      the same for whole columns, as 64-bit integers
draw      random choices that depend on (seed, row), never on order
encode    texts to vectors (extra: fletching[encode])

Importing the package itself imports nothing.
"""
