"""Requests as data: what will be asked, fixed by the input, the options and the seed, before anything is asked."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import pyarrow as pa

from synthgen import text_validation
from synthgen.llm import response_parsing
from synthgen.prompts.library import Language, Materials, fill

FORMAT = 1  # of the request hash; another number would ask everything again


@dataclass(frozen=True)
class Row:
    """A row of the input, by its batch: no copy."""

    batch: pa.RecordBatch
    index: int

    def __getitem__(self, name: str) -> Any:
        at = self.batch.schema.get_field_index(name)
        return self.batch.column(at)[self.index].as_py() if at >= 0 else None


def rows_of(batches: Iterable[pa.RecordBatch]) -> Iterator[Row]:
    for batch in batches:
        for index in range(batch.num_rows):
            yield Row(batch, index)


@dataclass(frozen=True)
class Request:
    """One call of the model.

    key: 32 hex digits over everything that the answer depends on but the endpoint. schema: the JSON schema
    of the reply. words: how many words the reply is likely to have. wishes: what each row that comes of it
    has to be, as sampled. row: the input row it is about. A request without messages asks nothing.
    """

    key: str
    slot: str
    messages: tuple[dict[str, str], ...]
    schema: dict[str, Any]
    words: int = 0
    wishes: tuple[dict[str, Any], ...] = ()
    row: Row | None = None
    leaks: frozenset[tuple[str, ...]] = field(default=frozenset(), repr=False)


@dataclass(frozen=True)
class Setting:
    """What all requests of a run have in common."""

    materials: Materials
    model: str
    seed: int
    per_row: int
    sampling: Mapping[str, Any]  # temperature, top_p, answer tokens, extra fields of the body
    languages: Sequence[Language]  # to draw from
    all_languages: Sequence[Language]
    bitext_languages: Sequence[Language]
    slack: float
    check_language: bool

    def request(
        self,
        slot: str,
        prompt: Prompt,
        values: Mapping[str, Any],
        schema: dict[str, Any],
        words: int,
        wishes: Sequence[dict[str, Any]],
        row: Row | None = None,
    ) -> Request:
        text = fill(prompt.template, {**values, "format": response_parsing.told(schema)})
        messages = ({"role": "user", "content": text},)
        return Request(
            self.key(messages, schema, slot),
            slot,
            messages,
            schema,
            words,
            tuple(wishes),
            row,
            prompt.leaks,
        )

    def key(self, messages: Sequence[dict[str, str]], schema: dict[str, Any], slot: str) -> str:
        content = dict(
            format=FORMAT,
            model=self.model,
            messages=messages,
            schema=schema,
            sampling=dict(self.sampling),
            seed=self.seed,
            slot=slot,
        )
        return hashlib.sha256(
            json.dumps(content, sort_keys=True, ensure_ascii=False).encode("utf-8", "surrogatepass")
        ).hexdigest()[:32]

    def repair(self, request: Request, text: str, problem: str) -> Request:
        """The one further request that an unreadable reply is worth."""
        prompt = self.prompt("repair", {"problem"})
        asked = fill(
            prompt.template, {"problem": problem, "format": response_parsing.told(request.schema)}
        )
        messages = (
            *request.messages,
            {"role": "assistant", "content": text},
            {"role": "user", "content": asked},
        )
        slot = request.slot + "/repair"
        return Request(
            self.key(messages, request.schema, slot),
            slot,
            messages,
            request.schema,
            request.words,
            request.wishes,
            request.row,
            request.leaks,
        )

    def prompt(self, name: str, places: set[str]) -> Prompt:
        template = self.materials.template(name, places | {"format"})
        return Prompt(template, text_validation.pieces(template))

    def language(self, code: str | None) -> Language | None:
        """The language of a BCP 47 code (`pt-BR` is `pt`), where the table knows it."""
        short = (code or "").split("-")[0].lower()
        return next((entry for entry in self.all_languages if entry.code == short), None)


@dataclass(frozen=True)
class Prompt:
    template: str
    leaks: frozenset[tuple[str, ...]]


class Job(Protocol):
    """What a run does with its input: from rows to requests, and from replies to rows."""

    name: str
    writes: str  # schema
    asks_for_rows: bool  # each wish is a row more; else requests enrich the rows that are there
    keeps_rows: bool  # the rows read stand in the output

    def columns(self, source: pa.Schema | None) -> pa.Schema: ...

    def waves(
        self, batches: Callable[[], Iterable[pa.RecordBatch]]
    ) -> Iterator[Callable[[], Iterator[Request]]]:
        """Plans, each to be done before the next is asked for. Each can be gone over twice."""
        ...

    def rows(
        self, request: Request, reply: dict[str, Any]
    ) -> list[dict[str, Any] | response_parsing.Unusable]:
        """For each wish a row (the columns that differ from the row read), or why there is none."""
        ...

    def without_reply(self, request: Request) -> list[dict[str, Any]]:
        """The rows that stand even where nothing came back."""
        ...
