"""Texts → examples: queries that a passage answers, with sampled style, persona and length.

One request asks for all queries of a passage, so that the passage is paid for once. Each query
comes with a quotation that must be in the passage; otherwise the passage cannot answer it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fletching.text import content_id
from fletching_synthgen import columns, language_check, text_validation
from fletching_synthgen.jobs.registry import GeneratedRow, RowOrRejection, RowwiseJob, register_job
from fletching_synthgen.llm.response_parsing import RejectedResponseError, object_schema
from fletching_synthgen.prompts import attributes
from fletching_synthgen.prompts.library import quote
from fletching_synthgen.request_plan import Attributes, InputRow, PlannedRequest

if TYPE_CHECKING:
    import pyarrow as pa

    from fletching_synthgen.options import Options
    from fletching_synthgen.request_plan import RequestSettings

SCHEMA = object_schema(queries=[{"query": "string", "evidence": "string"}])
TASK_PROMPT = "Given a search query, retrieve passages that answer or serve it."
# A query must make sense to someone who does not see the passage.
MENTIONS = ("the passage", "this passage", "the text above", "according to the text", "the author")
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
        placeholders = {"passage", "count", "wishes", "language"}
        self.prompt = settings.prompt("queries", placeholders)

    def columns(self, source: pa.Schema | None) -> pa.Schema:
        """Examples, a column for each attribute, and columns that `texts` does not know."""
        sampled = [*self.attributes, "language", "evidence", "model", "request"]
        generated = [f"synth_{name}" for name in sampled]
        return columns.new_examples(KNOWN_COLUMNS, generated, source, source_schema="texts")

    def requests(self, row: InputRow) -> list[PlannedRequest]:
        """One request for all queries of a passage."""
        settings = self.settings
        slot = f"queries/{row.text('id')}"
        sampled = [
            attributes.sample_attributes(self.attributes, settings.seed, f"{slot}/{number}")
            for number in range(settings.per_row)
        ]
        language = attributes.sample_language(settings.languages, settings.seed, slot)
        title = row.text("title")
        passage = f"{title}\n{row.text('text')}" if title else row.text("text")
        values = {
            "passage": quote(passage),
            "count": len(sampled),
            "wishes": _numbered(sampled),  # the name of the placeholder in users' prompts
            "language": language.name,
        }
        request = settings.request(
            slot,
            self.prompt,
            values,
            schema=SCHEMA,
            expected_words=EXPECTED_WORDS * len(sampled),
            requested_attributes=[{**one, "language": language} for one in sampled],
            row=row,
        )
        return [request]

    def rows(self, request: PlannedRequest, content: dict[str, Any]) -> list[RowOrRejection]:
        """The queries of a response."""
        requested = request.requested_attributes
        items = content["queries"][: len(requested)]
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
            evidence = text_validation.clean_text(item["evidence"], "evidence")
            full_text = f"{passage.text('title')}\n{passage.text('text')}"
            if not text_validation.contains_quote(full_text, evidence):
                shown = evidence[: text_validation.SHOWN_CHARACTERS]
                raise RejectedResponseError("evidence not in the passage", shown)
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
        query = text_validation.clean_text(text, "query")
        text_validation.check_no_leak(
            query, request.prompt_phrases, reply_fields=("evidence",), field="query"
        )
        if any(mention in query.lower() for mention in MENTIONS):
            shown = query[: text_validation.SHOWN_CHARACTERS]
            raise RejectedResponseError("speaks of the passage", shown)
        if "query_length" in requested:
            text_validation.check_length(
                query,
                requested["query_length"],
                slack=self.settings.length_slack,
                field="query",
            )
        if self.settings.check_language:
            language_check.check_language(query, requested["language"], "query")
        passage = request.input_row.text("text")
        text_validation.check_different(query, passage, "positive equals query")
        return query


def _numbered(sampled: list[dict[str, str]]) -> str:
    """The attributes of each query as a line of the prompt."""
    lines: list[str] = []
    for number, one in enumerate(sampled, 1):
        parts = [f"{name.replace('_', ' ')}: {value}" for name, value in one.items()]
        lines.append(f"{number}. {'; '.join(parts)}")
    return "\n".join(lines)
