"""Requests as data, fixed by the input, the options and the seed before anything is asked."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from fletching.prompts import InstructionTemplate
from fletching_synthgen import text_validation
from fletching_synthgen.llm import response_parsing
from fletching_synthgen.llm.chat_request import ChatRequest, JSONSchema, Message
from fletching_synthgen.prompts.library import (
    Language,
    PromptLibrary,
    check_template,
    fill_template,
)

if TYPE_CHECKING:
    import pyarrow as pa

KEY_VERSION = 1  # part of every key; another number would ask everything again
KEY_DIGITS = 32
DEFAULT_TASK = "Find texts that serve the query."  # of examples without a prompt

Attributes = dict[str, Any]  # what a row has to be, as sampled


@dataclass(frozen=True)
class InputRow:
    """A row of the input, by its batch: nothing is copied."""

    batch: pa.RecordBatch
    index: int

    def _scalar(self, name: str) -> pa.Scalar | None:
        if not self.has_column(name):
            return None
        return self.batch.column(name)[self.index]

    def has_column(self, name: str) -> bool:
        """Does the input have this column?"""
        index: int = self.batch.schema.get_field_index(name)
        return index >= 0

    def is_null(self, name: str) -> bool:
        """Is the value null, or the column missing?"""
        scalar = self._scalar(name)
        return scalar is None or scalar.as_py() is None

    def text(self, name: str) -> str:
        """The value of a text column, "" where it is null or missing."""
        return self.optional_text(name) or ""

    def optional_text(self, name: str) -> str | None:
        """The value of a text column, None where it is null or missing."""
        scalar = self._scalar(name)
        return None if scalar is None else scalar.as_py()

    def texts(self, name: str) -> list[str]:
        """The value of a column of lists, [] where it is null or missing."""
        scalar = self._scalar(name)
        values: list[str] | None = None if scalar is None else scalar.as_py()
        return values or []


def input_rows(batches: Iterable[pa.RecordBatch]) -> Iterator[InputRow]:
    """The rows of batches, one by one."""
    for batch in batches:
        for index in range(batch.num_rows):
            yield InputRow(batch, index)


@dataclass(frozen=True, kw_only=True)
class PlannedRequest(ChatRequest):
    """A request and what its rows are made from.

    expected_words: how many words the response is likely to have.
    requested_attributes: for each row that comes of it, what it has to be, as sampled.
    row: the input row that it is about.
    prompt_phrases: runs of words of its prompt that no response may repeat.
    """

    expected_words: int = 0
    requested_attributes: tuple[Attributes, ...] = ()
    row: InputRow | None = None
    prompt_phrases: frozenset[text_validation.Phrase] = field(default=frozenset(), repr=False)

    @property
    def input_row(self) -> InputRow:
        """The input row of a request that is about one."""
        assert self.row is not None
        return self.row


@dataclass(frozen=True)
class PromptTemplate:
    """A prompt with {placeholders}, and the runs of words that no response may repeat.

    demonstrations: turns of a conversation before it, in which the same was asked and answered.
    """

    text: str
    phrases: frozenset[text_validation.Phrase]
    demonstrations: tuple[Message, ...] = ()


@dataclass(frozen=True, kw_only=True)
class RequestSettings:
    """What all requests of a run have in common, and how a request is made.

    sampling: temperature, top_p, max_tokens, more fields of the body.
    languages: those to sample from. length_slack: see `text_validation.check_length`.
    prompt_template: makes the `prompt` of an example from the text of its task.
    """

    library: PromptLibrary
    model: str
    seed: int
    per_row: int
    sampling: Mapping[str, Any]
    languages: Sequence[Language]
    all_languages: Sequence[Language]
    bitext_languages: Sequence[Language]
    length_slack: float
    check_language: bool
    prompt_template: InstructionTemplate

    def request(
        self,
        slot: str,
        prompt: PromptTemplate,
        values: Mapping[str, object],
        *,
        schema: JSONSchema,
        expected_words: int,
        requested_attributes: Sequence[Attributes],
        row: InputRow | None = None,
    ) -> PlannedRequest:
        """A request. values: what fills the placeholders of the prompt, except {format}."""
        messages = (*prompt.demonstrations, self.question(prompt, values, schema))
        return PlannedRequest(
            key=self.request_key(messages, schema, slot),
            slot=slot,
            messages=messages,
            schema=schema,
            expected_words=expected_words,
            requested_attributes=tuple(requested_attributes),
            row=row,
            prompt_phrases=prompt.phrases,
        )

    def question(
        self, prompt: PromptTemplate, values: Mapping[str, object], schema: JSONSchema
    ) -> Message:
        """The filled prompt as a turn of the user."""
        form = response_parsing.format_instruction(schema)
        return {"role": "user", "content": fill_template(prompt.text, {**values, "format": form})}

    def request_key(self, messages: Sequence[Message], schema: JSONSchema, slot: str) -> str:
        """A hash of all that the response depends on except the endpoint, 32 hex digits."""
        content = {
            "format": KEY_VERSION,
            "model": self.model,
            "messages": messages,
            "schema": schema,
            "sampling": dict(self.sampling),
            "seed": self.seed,
            "slot": slot,
        }
        text = json.dumps(content, sort_keys=True, ensure_ascii=False)
        digest = hashlib.sha256(text.encode("utf-8", "surrogatepass"))
        return digest.hexdigest()[:KEY_DIGITS]

    def repair(self, request: ChatRequest, response_text: str, problem: str) -> ChatRequest:
        """The request for the same content in the right form; problem: what is wrong with it."""
        prompt = self.prompt("repair", {"problem"})
        form = response_parsing.format_instruction(request.schema)
        content = fill_template(prompt.text, {"problem": problem, "format": form})
        messages = (
            *request.messages,
            {"role": "assistant", "content": response_text},
            {"role": "user", "content": content},
        )
        slot = request.slot + "/repair"
        return ChatRequest(
            key=self.request_key(messages, request.schema, slot),
            slot=slot,
            messages=messages,
            schema=request.schema,
        )

    def prompt(
        self, name: str, placeholders: Collection[str], *, text: str | None = None
    ) -> PromptTemplate:
        """The prompt NAME.md of the library, or `text` where a job carries its own prompt.

        Raises InputError where it names other placeholders than these and {format}.
        """
        if text is None:
            text = self.library.template(name, placeholders)
        else:
            check_template(name, text, placeholders)
        return PromptTemplate(text, text_validation.prompt_phrases(text))

    def task_of(self, row: InputRow) -> str:
        """The task of an example in words: its prompt without what the template put around it."""
        return self.prompt_template.task(row.text("prompt")) or DEFAULT_TASK

    def language(self, code: str | None) -> Language | None:
        """The language of a BCP 47 code (`pt-BR` is `pt`), where the table has it."""
        short = (code or "").split("-")[0].lower()
        return next((entry for entry in self.all_languages if entry.code == short), None)
