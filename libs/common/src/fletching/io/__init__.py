"""Rows in and out: Arrow streams, Parquet, Arrow files and JSONL behind two classes.

`Reader` takes paths, folders, globs, URLs or stdin, whatever the format, and gives checked batches
in canonical types. `Writer` takes batches and makes a file appear complete or not at all, or a
stream that a reader can tell from a cut one. `AtomicOutputs` makes several of them appear at once.

formats   the registries of input and output formats
streams   byte streams: peeked into, decompressed
sources   from the arguments to open inputs
arrow     Arrow IPC streams and files, with their trailer
parquet   Parquet with page checksums
jsonl     JSON lines and JSON arrays
reader    the inputs as one sequence of checked batches
writer    canonical batches, atomic files, failure bytes
"""

from fletching.io.reader import Reader
from fletching.io.writer import AtomicOutputs, Writer, check_output

__all__ = ["AtomicOutputs", "Reader", "Writer", "check_output"]
