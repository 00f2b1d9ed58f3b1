"""Groups of options that several tools have in common, added by inheritance, never subtracted.

The same thing has the same name everywhere. A tool's options class lists the groups it wants and adds
its own fields; every field has a default (`cli.required` marks the ones that must be given).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from fletching.cli import option, positional, required

IO = "input and output"
MODEL = "model and encoding"
TRAINING = "training"
RUN = "running"


@dataclass(frozen=True, kw_only=True)
class Standard:
    """What every tool has."""

    config: str | None = option(
        None, "options from a JSON, YAML or TOML file; the command line wins", metavar="FILE", group=RUN, rows=False
    )
    quiet: bool = option(False, "say nothing but errors", group=RUN, advanced=True, rows=False)
    json_summary: str | None = option(None, "the summary line as JSON", metavar="FILE", group=RUN, advanced=True, rows=False)


@dataclass(frozen=True, kw_only=True)
class Seed:
    seed: int = option(0, "the same seed gives the same rows", metavar="N", low=0, group=RUN)


@dataclass(frozen=True, kw_only=True)
class Examples:
    """A tool that reads `examples`."""

    inputs: tuple[str, ...] = positional("examples: Parquet, Arrow or JSONL files, folders, globs or URLs; none or - is stdin", "EXAMPLES")
    limit: int | None = option(None, "read the first N rows only", metavar="N", low=1, group=IO, advanced=True)


@dataclass(frozen=True, kw_only=True)
class Output:
    """A tool that writes a stream of rows."""

    output: str | None = option(
        None,
        "FILE.parquet, .arrow, .jsonl, .jsonl.gz or .jsonl.zst; else an Arrow stream on stdout",
        metavar="OUT",
        short="-o",
        group=IO,
        rows=False,
    )


@dataclass(frozen=True, kw_only=True)
class Model:
    """A tool that runs or trains a sentence-transformers model."""

    model: str = required("sentence-transformers model: a folder or a hub name", metavar="M", group=MODEL)
    query_prompt: str | None = option(None, "put before each query [the model's own]", metavar="TEXT", group=MODEL, advanced=True)
    doc_prompt: str | None = option(None, "put before each document [the model's own]", metavar="TEXT", group=MODEL, advanced=True)
    query_length: int | None = option(None, "cut queries after N tokens [the model's own]", metavar="N", low=1, group=MODEL, advanced=True)
    doc_length: int | None = option(None, "cut documents after N tokens [the model's own]", metavar="N", low=1, group=MODEL, advanced=True)
    batch_tokens: int | None = option(
        None, "tokens in one forward pass [by hardware]", metavar="N", low=1, group=MODEL, advanced=True, rows=False
    )
    device: str | None = option(None, "cpu, cuda, cuda:1, mps [the best there is]", metavar="D", group=MODEL, advanced=True, rows=False)
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = option("auto", "number type of the model", group=MODEL, advanced=True)
    trust_remote_code: bool = option(False, "let the model's folder run its own Python", group=MODEL, advanced=True, rows=False)


@dataclass(frozen=True, kw_only=True)
class Encoding(Model):
    """A tool that turns texts into vectors."""

    cache: str | None = option(
        None, "keep vectors here and reuse them; by default beside OUT until done", metavar="DIR", group=MODEL, advanced=True, rows=False
    )
    query_echo: str | None = option(
        None,
        "echo embeddings: a query, TEXT and the query again, pooled over the second time; the length is that of both",
        metavar="TEXT",
        group=MODEL,
        advanced=True,
    )
    doc_echo: str | None = option(
        None, "the same for documents; both are meant for causal models and stand in no model", metavar="TEXT", group=MODEL, advanced=True
    )


@dataclass(frozen=True, kw_only=True)
class Training:
    """A tool that trains: the rhythm of a run. Each has `steps`, `epochs`, `batch` and `lr` of its own beside it."""

    INSTEAD: ClassVar = (("epochs", "steps"),)
    warmup: float = option(
        0.1, "steps of rising learning rate; below 1: a share of the run", metavar="X", low=0, group=TRAINING, advanced=True
    )
    schedule: Literal["linear", "cosine", "constant"] = option("linear", "learning rate after the warmup", group=TRAINING, advanced=True)
    clip: float = option(1.0, "gradients longer than this are shortened; 0: never", metavar="X", low=0, group=TRAINING, advanced=True)
    save_every: int | None = option(
        None, "steps between checkpoints [a tenth of the run]", metavar="N", low=1, group=TRAINING, advanced=True, rows=False
    )
    keep: int = option(2, "checkpoints kept, the best one besides", metavar="N", low=1, group=TRAINING, advanced=True, rows=False)
    report_to: tuple[str, ...] = option(
        (),
        "services that get the measures: tensorboard, wandb, trackio, mlflow …",
        metavar="NAME,NAME",
        group=TRAINING,
        advanced=True,
        rows=False,
    )
