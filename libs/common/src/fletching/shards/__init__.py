"""Shards of a command: run one by one or by an engine, watched, and joined to the bytes of one run.

Layers, each of which imports those below it alone:

commands       `fletching shard`, `status` and `join`
engine_run     what `--engine` of a tool does: all shards, then what they make together
joining        the outputs of all shards as one file
engines        processes of this machine, or of a Ray cluster
running        one shard as a process, with its record and log
folder         what a folder of shards holds: done, running, failed, missing, mixed
engine_checks  what --engine cannot run
words          an options dataclass as a command line
record         the names of a shard's files, and its record

The output of a shard appears under its name when it is complete, so it is its own marker.
"""
