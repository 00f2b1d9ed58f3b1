"""Tasks → examples, in the six groups and with the values of Wang et al. 2024 (arXiv 2401.00368).

Each task is asked `per_row` times; every time the attributes and the language are sampled anew.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fletching.errors import InputError
from fletching.prompts import InstructionTemplate
from fletching.text import content_id
from fletching_synthgen import columns, language_check, text_validation
from fletching_synthgen.jobs.registry import GeneratedRow, RowOrRejection, RowwiseJob, register_job
from fletching_synthgen.llm.response_parsing import RejectedResponseError, object_schema
from fletching_synthgen.prompts import attributes
from fletching_synthgen.prompts.library import Language
from fletching_synthgen.request_plan import Attributes, InputRow, PlannedRequest

if TYPE_CHECKING:
    import pyarrow as pa

    from fletching_synthgen.options import Options
    from fletching_synthgen.request_plan import RequestSettings

# Of the similarity that STS and bitext ask for; scores are written as a fraction of it.
TOP_SCORE = 5
JSON_WORDS = 25  # of a response, besides its texts
KNOWN_COLUMNS = (
    "id",
    "query",
    "pos",
    "neg",
    "pos_scores",
    "neg_scores",
    "pos_score_kind",
    "neg_score_kind",
    "prompt",
    "task",
)
FIXED_PLACEHOLDERS = {"task", "language", "target_language"}


@dataclass(frozen=True, kw_only=True)
class ExampleGroup:
    """The fields of a group's response, and which one is what.

    words: of the response, where no attribute says it.
    query_length, document_length: the attributes that say how long these are.
    """

    query: str
    positive: str
    negative: str | None = None
    words: int
    query_length: str | None = None
    document_length: str | None = None

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields of the response, in order."""
        fields = (self.query, self.positive, self.negative)
        return tuple(name for name in fields if name)


GROUPS = {
    "short-long": ExampleGroup(
        query="user_query",
        positive="positive_document",
        negative="hard_negative_document",
        words=500,
        query_length="query_length",
        document_length="num_words",
    ),
    "long-short": ExampleGroup(
        query="input_text",
        positive="label",
        negative="misleading_label",
        words=120,
        query_length="num_words",
    ),
    "short-short": ExampleGroup(query="input", positive="positive_document", words=30),
    "long-long": ExampleGroup(
        query="input",
        positive="positive_document",
        words=700,
        query_length="num_words",
        document_length="num_words",
    ),
    "sts": ExampleGroup(query="S1", positive="S2", negative="S3", words=60),
    "bitext": ExampleGroup(query="S1", positive="S2", negative="S3", words=60),
}


@register_job
class ExamplesJob(RowwiseJob):
    """Makes examples of tasks: a query, its positive and in most groups a hard negative."""

    name = "examples"
    reads = "tasks"
    adds_rows = True
    keeps_input_rows = False

    def __init__(self, settings: RequestSettings, options: Options) -> None:
        super().__init__(settings, options)
        library = settings.library
        self.attributes = {group: library.attributes.get(group, {}) for group in GROUPS}
        self.prompts = {
            group: settings.prompt(f"example.{group}", FIXED_PLACEHOLDERS | set(values))
            for group, values in self.attributes.items()
        }

    def columns(self, source: pa.Schema | None) -> pa.Schema:
        """Examples, a column for each attribute, and columns that `tasks` does not know."""
        names: dict[str, None] = {}  # in order, each once
        for group in self.attributes.values():
            names |= dict.fromkeys(group)
        sampled = [*names, "language", "target_language", "model", "request"]
        generated = ["task_id", *(f"synth_{name}" for name in sampled)]
        return columns.new_examples(KNOWN_COLUMNS, generated, source, source_schema="tasks")

    def requests(self, row: InputRow) -> Iterator[PlannedRequest]:
        """`per_row` requests about a task."""
        for number in range(self.settings.per_row):
            yield self._request(row, number)

    def _request(self, row: InputRow, number: int) -> PlannedRequest:
        settings = self.settings
        group = row.text("type")
        slot = f"{group}/{row.text('id')}/{number}"
        query_language, document_language = self._languages(row, slot)
        sampled = attributes.sample_attributes(self.attributes[group], settings.seed, slot)
        values = {
            **sampled,
            "task": row.text("text"),
            "language": query_language.name,
            "target_language": document_language.name,
        }
        requested: Attributes = {
            **sampled,
            "language": query_language,
            "target_language": document_language,
        }
        return settings.request(
            slot,
            self.prompts[group],
            values,
            schema=object_schema(**dict.fromkeys(GROUPS[group].fields, "string")),
            expected_words=_expected_words(group, sampled),
            requested_attributes=[requested],
            row=row,
        )

    def _languages(self, row: InputRow, slot: str) -> tuple[Language, Language]:
        """Of query and document: those of the task, else sampled."""
        settings = self.settings
        task = row.text("id")
        of_query = self._named_language(row.optional_text("language"), task)
        of_document = self._named_language(row.optional_text("target_language"), task)
        if row.text("type") == "bitext" and not (of_query and of_document):
            return attributes.sample_language_pair(settings.bitext_languages, settings.seed, slot)
        if of_query is None:
            of_query = attributes.sample_language(settings.languages, settings.seed, slot)
        return of_query, of_document or of_query

    def _named_language(self, code: str | None, task: str) -> Language | None:
        language = self.settings.language(code)
        if code and not language:
            raise InputError(
                f"task {task} is in the language {code!r}, which languages.tsv does not know",
                "add a line to languages.tsv in --prompts DIR",
            )
        return language

    def rows(self, request: PlannedRequest, content: dict[str, Any]) -> list[RowOrRejection]:
        """The example of a response."""
        name = request.input_row.text("type")
        group = GROUPS[name]
        [requested] = request.requested_attributes
        try:
            texts = {
                field: text_validation.clean_text(content[field], field) for field in group.fields
            }
            for field, text in texts.items():
                text_validation.check_no_leak(
                    text, request.prompt_phrases, reply_fields=group.fields, field=field
                )
                is_label = name == "long-short" and field != group.query
                if self.settings.check_language and not is_label:  # a label may be a code
                    self._check_language(text, field, group=group, requested=requested)
                self._check_length(text, field, group=group, requested=requested)
            _check_all_different(texts, group)
        except RejectedResponseError as rejection:
            return [rejection]
        return [_example(request, group, texts, template=self.settings.prompt_template)]

    def _check_language(
        self, text: str, field: str, *, group: ExampleGroup, requested: Attributes
    ) -> None:
        attribute = "language" if field == group.query else "target_language"
        language_check.check_language(text, requested[attribute], field)

    def _check_length(
        self, text: str, field: str, *, group: ExampleGroup, requested: Attributes
    ) -> None:
        attribute = group.query_length if field == group.query else group.document_length
        if attribute in requested:
            text_validation.check_length(
                text,
                requested[attribute],
                slack=self.settings.length_slack,
                field=field,
            )


def _expected_words(group: str, sampled: dict[str, str]) -> int:
    """Words of a response, for the estimate of a dry run."""
    bounds = attributes.parse_word_range(sampled.get("num_words", ""))
    if bounds is None:
        return GROUPS[group].words
    fewest, _ = bounds
    documents = 1 if group == "long-short" else 2
    return fewest * documents + JSON_WORDS


def _check_all_different(texts: dict[str, str], group: ExampleGroup) -> None:
    query = texts[group.query]
    positive = texts[group.positive]
    text_validation.check_different(query, positive, "positive equals query")
    if group.negative:
        negative = texts[group.negative]
        text_validation.check_different(query, negative, "negative equals query")
        text_validation.check_different(positive, negative, "negative equals positive")


def _example(
    request: PlannedRequest,
    group: ExampleGroup,
    texts: dict[str, str],
    *,
    template: InstructionTemplate,
) -> GeneratedRow:
    """The row of an example, with what was sampled for it."""
    task = request.input_row
    [requested] = request.requested_attributes
    query = texts[group.query]
    positive = texts[group.positive]
    row: GeneratedRow = {
        "id": content_id(request.key, query, positive),
        "query": query,
        "pos": [positive],
        "neg": [texts[group.negative]] if group.negative else None,
        "prompt": template.complete(task.text("text")),
        "task": f"synthetic/{task.text('type')}",
        "task_id": task.text("id"),
    }
    if "high_score" in requested and "low_score" in requested:
        row |= {
            "pos_scores": [float(requested["high_score"]) / TOP_SCORE],
            "neg_scores": [float(requested["low_score"]) / TOP_SCORE],
            "pos_score_kind": "label",
            "neg_score_kind": "label",
        }
    for attribute, value in requested.items():
        row[f"synth_{attribute}"] = value.code if isinstance(value, Language) else value
    return row
