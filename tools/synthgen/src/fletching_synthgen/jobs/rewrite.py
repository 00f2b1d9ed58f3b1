"""Examples → the same rows and new ones with paraphrased or translated queries."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from fletching.errors import InputError
from fletching.text import content_id, normalise
from fletching_synthgen import columns, language_check, text_validation
from fletching_synthgen.jobs.registry import GeneratedRow, RowOrRejection, RowwiseJob, register_job
from fletching_synthgen.llm.response_parsing import RejectedResponseError, object_schema
from fletching_synthgen.prompts.library import Language, quote
from fletching_synthgen.request_plan import InputRow, PlannedRequest

if TYPE_CHECKING:
    import pyarrow as pa

    from fletching_synthgen.options import Options
    from fletching_synthgen.request_plan import RequestSettings

# The scores of a row are those of its old query.
SCORE_COLUMNS = ("pos_scores", "neg_scores", "pos_score_kind", "neg_score_kind")
PARAPHRASE_SCHEMA = object_schema(queries=["string"])
TRANSLATION_SCHEMA = object_schema(translation="string")


@register_job
class ParaphraseJob(RowwiseJob):
    """Adds rows with `per_row` other queries of the same meaning."""

    name = "paraphrase"
    adds_rows = True
    keeps_input_rows = True

    def __init__(self, settings: RequestSettings, options: Options) -> None:
        super().__init__(settings, options)
        self.prompt = settings.prompt("paraphrase", {"query", "positive", "count"})

    def columns(self, source: pa.Schema | None) -> pa.Schema:
        """The columns read."""
        assert source is not None
        return columns.enriched_examples(source)

    def requests(self, row: InputRow) -> list[PlannedRequest]:
        """One request for all paraphrases of a query."""
        count = self.settings.per_row
        query = row.text("query")
        values = {
            "query": quote(query),
            "positive": quote(row.texts("pos")[0]),
            "count": count,
        }
        request = self.settings.request(
            f"paraphrase/{row.text('id')}",
            self.prompt,
            values,
            schema=PARAPHRASE_SCHEMA,
            expected_words=round(text_validation.count_words(query) + 4) * count,
            requested_attributes=[{}] * count,
            row=row,
        )
        return [request]

    def rows(self, request: PlannedRequest, content: dict[str, Any]) -> list[RowOrRejection]:
        """The row read, and one for each new query."""
        row = request.input_row
        known = {normalise(text) for text in [row.text("query"), *row.texts("pos")]}
        queries = content["queries"][: self.settings.per_row]
        rows: list[RowOrRejection] = [{}]
        for text in queries:
            try:
                query = text_validation.clean_text(text, "query")
                text_validation.check_no_leak(
                    query, request.prompt_phrases, reply_fields=("queries",), field="query"
                )
                if normalise(query) in known:
                    shown = query[: text_validation.SHOWN_CHARACTERS]
                    raise RejectedResponseError("the same query again", shown)
            except RejectedResponseError as rejection:
                rows.append(rejection)
            else:
                known.add(normalise(query))
                rows.append(_with_query(request, query))
        missing = self.settings.per_row - len(queries)
        return rows + [RejectedResponseError("fewer than asked for")] * missing


@register_job
class TranslationJob(RowwiseJob):
    """Adds rows with each query in each of --languages.

    The documents stay as they are, so that the new rows are cross-lingual.
    """

    name = "translate"
    adds_rows = True
    keeps_input_rows = True

    def __init__(self, settings: RequestSettings, options: Options) -> None:
        super().__init__(settings, options)
        if options.languages == ("en",):
            raise InputError(
                "--job translate has no language to translate into", "pass --languages de,fr"
            )
        self.prompt = settings.prompt("translate", {"query", "language"})

    def columns(self, source: pa.Schema | None) -> pa.Schema:
        """The columns read, and the language of the query."""
        assert source is not None
        enriched = columns.enriched_examples(source)
        return columns.with_texts(enriched, ["synth_language"])

    def requests(self, row: InputRow) -> Iterator[PlannedRequest]:
        """A request for each language."""
        query = row.text("query")
        expected_words = round(text_validation.count_words(query) + 4)
        for number, language in enumerate(self.settings.languages):
            yield self.settings.request(
                f"translate/{row.text('id')}/{language.code}",
                self.prompt,
                {"query": quote(query), "language": language.name},
                schema=TRANSLATION_SCHEMA,
                expected_words=expected_words,
                requested_attributes=[{"language": language, "is_first": number == 0}],
                row=row,
            )

    def rows_without_response(self, request: PlannedRequest) -> list[GeneratedRow]:
        """The row read, once: with the request for the first language."""
        [requested] = request.requested_attributes
        return [{}] if requested["is_first"] else []

    def rows(self, request: PlannedRequest, content: dict[str, Any]) -> list[RowOrRejection]:
        """The row read, with the first language, and the one with the translated query."""
        [requested] = request.requested_attributes
        language: Language = requested["language"]
        kept = self.rows_without_response(request)
        try:
            text = text_validation.clean_text(content["translation"], "translation")
            text_validation.check_no_leak(
                text, request.prompt_phrases, reply_fields=("translation",), field="translation"
            )
            query = request.input_row.text("query")
            text_validation.check_different(text, query, "the same query again")
            if self.settings.check_language:
                language_check.check_language(text, language, "translation")
        except RejectedResponseError as rejection:
            return [*kept, rejection]
        translated = _with_query(request, text)
        translated["synth_language"] = language.code
        return [*kept, translated]


def _with_query(request: PlannedRequest, query: str) -> GeneratedRow:
    """The columns that change with the query: it, the id and the scores."""
    row = request.input_row
    changed: GeneratedRow = {"id": content_id(request.key, query), "query": query}
    changed |= {name: None for name in SCORE_COLUMNS if row.has_column(name)}
    return changed
