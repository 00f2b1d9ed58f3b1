"""Texts → examples: queries that a passage answers, of several kinds, personas and languages.

One request asks for all queries of a passage, so that the passage is paid for once. Each query
comes with a quotation that must be in the passage; otherwise the passage cannot answer it. The
kinds are those of kinds.tsv: several kinds a passage make a retriever that does not expect one
form of query (Promptagator, arXiv 2209.11755, has a prompt a task for the same reason). Where one
query is asked for at a time, as of a small LLM, passages with their queries come first as turns of
the conversation: few-shot, as in Promptagator and InPars (arXiv 2202.05144).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fletching.errors import UsageError
from fletching.text import content_id
from fletching_synthgen import columns, language_check, text_validation
from fletching_synthgen.jobs.registry import GeneratedRow, RowOrRejection, RowwiseJob, register_job
from fletching_synthgen.llm.response_parsing import RejectedResponseError, object_schema
from fletching_synthgen.prompts import attributes
from fletching_synthgen.prompts.library import QueryForm, quote
from fletching_synthgen.request_plan import (
    Attributes,
    InputRow,
    PlannedRequest,
    PromptTemplate,
)

if TYPE_CHECKING:
    import pyarrow as pa

    from fletching_synthgen.llm.chat_request import Message
    from fletching_synthgen.options import Options
    from fletching_synthgen.request_plan import RequestSettings

SCHEMA = object_schema(queries=[{"query": "string", "evidence": "string"}])
SCHEMA_WITHOUT_EVIDENCE = object_schema(queries=[{"query": "string"}])
SHORT_SCHEMA = object_schema(query="string")  # as flat as a small LLM needs it
TASK_PROMPT = "Given a search query, retrieve passages that answer or serve it."
# A query must make sense to someone who does not see the passage.
MENTIONS = (
    "the passage",
    "this passage",
    "this text",
    "the text above",
    "according to the text",
    "the author",
)
EXPECTED_WORDS = 35  # of a query and its evidence
KNOWN_COLUMNS = ("id", "query", "pos", "pos_ids", "prompt", "task", "domain")


@register_job
class QueriesJob(RowwiseJob):
    """Makes `per_row` queries of each passage, which is their positive."""

    name = "queries"
    reads = "texts"
    adds_rows = True
    keeps_input_rows = False

    def __init__(self, settings: RequestSettings, options: Options) -> None:
        super().__init__(settings, options)
        self.attributes = settings.library.attributes.get("queries", {})
        self.kinds = _selected_kinds(options.query_kinds, settings.library.query_kinds)
        self.query_count = options.queries_per_text or settings.per_row
        placeholders = {"passage", "count", "wishes", "language"}
        if options.evidence:
            name, self.schema = "queries", SCHEMA
        elif options.queries_per_request == 1:
            name, self.schema = "query.short", SHORT_SCHEMA
        else:
            name, self.schema = "queries.no-evidence", SCHEMA_WITHOUT_EVIDENCE
        self.prompt = settings.prompt(name, placeholders)
        self.prompts: dict[str, PromptTemplate] = {}  # by kind, after demonstrations
        self.shown: list[str] = []  # texts of the demonstrations, which no query may repeat
        if self.schema is SHORT_SCHEMA:
            for each in settings.library.demonstrations:
                self.shown += [each.passage, *each.queries.values()]
            self.prompts = {kind.name: self._demonstrated(kind) for kind in self.kinds}

    def columns(self, source: pa.Schema | None) -> pa.Schema:
        """Examples, a column for each attribute, and columns that `texts` does not know."""
        sampled = ["kind", *self.attributes, "language", "evidence", "model", "request"]
        generated = [f"synth_{name}" for name in dict.fromkeys(sampled)]
        return columns.new_examples(KNOWN_COLUMNS, generated, source, source_schema="texts")

    def requests(self, row: InputRow) -> Iterator[PlannedRequest]:
        """One request for all queries of a passage, or for every --queries-per-request of them."""
        slot = f"queries/{row.text('id')}"
        seed = self.settings.seed
        language = attributes.sample_language(self.settings.languages, seed, slot)
        kinds = attributes.balanced_kinds(self.kinds, seed, slot, count=self.query_count)
        requested: list[Attributes] = []
        for number, kind in enumerate(kinds):
            sampled = attributes.sample_attributes(self.attributes, seed, f"{slot}/{number}")
            requested.append({**sampled, "kind": kind.name, "language": language})
        size = self.options.queries_per_request
        if size is None:
            yield self._request(row, slot, requested)
            return
        for start in range(0, len(requested), size):
            yield self._request(row, f"{slot}/from {start}", requested[start : start + size])

    def _request(self, row: InputRow, slot: str, requested: list[Attributes]) -> PlannedRequest:
        title = row.text("title")
        passage = f"{title}\n{row.text('text')}" if title else row.text("text")
        values = {
            "passage": quote(passage),
            "count": len(requested),
            "wishes": self._wishes(requested),  # the placeholder's name in users' prompts
            "language": requested[0]["language"].name,
        }
        return self.settings.request(
            slot,
            self.prompts.get(requested[0]["kind"], self.prompt),
            values,
            schema=self.schema,
            expected_words=EXPECTED_WORDS * len(requested),
            requested_attributes=requested,
            row=row,
        )

    def _demonstrated(self, kind: QueryForm) -> PromptTemplate:
        """The prompt after its demonstrations for a kind."""
        shown = map(text_validation.prompt_phrases, self.shown)
        phrases = self.prompt.phrases.union(*shown)
        return PromptTemplate(self.prompt.text, phrases, tuple(self._turns(kind)))

    def _turns(self, kind: QueryForm) -> Iterator[Message]:
        """The demonstrations that have a query of this kind, asked and answered."""
        for demonstration in self.settings.library.demonstrations:
            if kind.name not in demonstration.queries:
                continue
            values = {
                "passage": quote(demonstration.passage),
                "count": 1,
                "wishes": self._wishes([{"kind": kind.name}]),
                "language": "English",
            }
            yield self.settings.question(self.prompt, values, self.schema)
            reply = json.dumps({"query": demonstration.queries[kind.name]}, ensure_ascii=False)
            yield {"role": "assistant", "content": reply}

    def _wishes(self, requested: list[Attributes]) -> str:
        """What each query has to be, as a line of the prompt; numbered where there are several."""
        lines = [self._wish(one) for one in requested]
        if self.schema is SHORT_SCHEMA:
            return f"Kind of query: {lines[0]}."
        return "\n".join(f"{number}. {line}" for number, line in enumerate(lines, 1))

    def _wish(self, requested: Attributes) -> str:
        kind = self._kind(requested)
        parts = [kind.description]
        if "query_length" not in requested:
            parts.append(kind.length)
        parts += [
            f"{name.replace('_', ' ')}: {requested[name]}"
            for name in self.attributes
            if name in requested
        ]
        return f"{kind.name}: {'; '.join(parts)}"

    def _kind(self, requested: Attributes) -> QueryForm:
        return self.settings.library.query_kinds[requested["kind"]]

    def rows(self, request: PlannedRequest, content: dict[str, Any]) -> list[RowOrRejection]:
        """The queries of a response."""
        requested = request.requested_attributes
        is_short = self.schema is SHORT_SCHEMA
        items = [content] if is_short else content["queries"][: len(requested)]
        rows: list[RowOrRejection] = [
            self._row(request, one, item) for one, item in zip(requested, items)
        ]
        missing = len(requested) - len(items)
        return rows + [RejectedResponseError("fewer than asked for")] * missing

    def _row(
        self, request: PlannedRequest, requested: Attributes, item: dict[str, str]
    ) -> RowOrRejection:
        passage = request.input_row
        try:
            query = self._checked_query(item["query"], request, requested)
            evidence = _checked_evidence(item, passage) if self.options.evidence else None
        except RejectedResponseError as rejection:
            return rejection
        row: GeneratedRow = {
            "id": content_id(request.key, query),
            "query": query,
            "pos": [passage.text("text")],
            "pos_ids": [passage.text("id")],
            "prompt": self.settings.prompt_template.complete(TASK_PROMPT),
            "task": "synthetic/queries",
            "domain": passage.optional_text("domain"),
        }
        row |= {f"synth_{attribute}": value for attribute, value in requested.items()}
        row |= {"synth_language": requested["language"].code, "synth_evidence": evidence}
        return row

    def _checked_query(self, text: str, request: PlannedRequest, requested: Attributes) -> str:
        """The cleaned query. Raises RejectedResponseError."""
        kind = self._kind(requested)
        query = text_validation.clean_text(text, "query")
        if query.lower().startswith(f"{kind.name}:"):  # the label of its line in the prompt
            query = text_validation.clean_text(query[len(kind.name) + 1 :], "query")
        described = text_validation.prompt_phrases(kind.description)
        phrases = request.prompt_phrases | described
        text_validation.check_no_leak(query, phrases, reply_fields=("evidence",), field="query")
        for text in self.shown:
            text_validation.check_different(query, text, "repeats a demonstration")
        if any(mention in query.lower() for mention in MENTIONS):
            shown = query[: text_validation.SHOWN_CHARACTERS]
            raise RejectedResponseError("speaks of the passage", shown)
        text_validation.check_length(
            query,
            requested.get("query_length", kind.length),
            slack=self.settings.length_slack,
            field="query",
        )
        if self.settings.check_language:
            language_check.check_language(query, requested["language"], "query")
        passage = request.input_row.text("text")
        text_validation.check_different(query, passage, "positive equals query")
        return query


def _checked_evidence(item: dict[str, str], passage: InputRow) -> str:
    """The quotation that proves the query. Raises RejectedResponseError."""
    evidence = text_validation.clean_text(item["evidence"], "evidence")
    full_text = f"{passage.text('title')}\n{passage.text('text')}"
    if not text_validation.contains_quote(full_text, evidence):
        shown = evidence[: text_validation.SHOWN_CHARACTERS]
        raise RejectedResponseError("evidence not in the passage", shown)
    return evidence


def _selected_kinds(names: Sequence[str], kinds: Mapping[str, QueryForm]) -> list[QueryForm]:
    """The kinds of --query-kinds, all of them without it. Raises UsageError."""
    unknown = [name for name in names if name not in kinds]
    if unknown:
        raise UsageError(
            f"--query-kinds {unknown[0]} is not in kinds.tsv", "pass some of " + ", ".join(kinds)
        )
    return [kinds[name] for name in dict.fromkeys(names)] or list(kinds.values())
