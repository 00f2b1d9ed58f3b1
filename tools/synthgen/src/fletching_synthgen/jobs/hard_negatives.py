"""Examples → the same examples with more hard negatives. No row is added or dropped."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fletching.text import content_id, normalise
from fletching_synthgen import columns, text_validation
from fletching_synthgen.jobs.registry import GeneratedRow, RowOrRejection, RowwiseJob, register_job
from fletching_synthgen.llm.response_parsing import RejectedResponseError, object_schema
from fletching_synthgen.prompts.library import quote
from fletching_synthgen.request_plan import InputRow, PlannedRequest

if TYPE_CHECKING:
    import pyarrow as pa

    from fletching_synthgen.options import Options
    from fletching_synthgen.request_plan import RequestSettings

SCHEMA = object_schema(negatives=["string"])


@register_job
class HardNegativesJob(RowwiseJob):
    """Writes `per_row` more hard negatives for each example."""

    name = "negatives"
    adds_rows = False
    keeps_input_rows = True

    def __init__(self, settings: RequestSettings, options: Options) -> None:
        super().__init__(settings, options)
        self.prompt = settings.prompt("negatives", {"task", "query", "positive", "count"})

    def columns(self, source: pa.Schema | None) -> pa.Schema:
        """The columns read, and `neg`."""
        assert source is not None
        return columns.enriched_examples(source, ["neg"])

    def requests(self, row: InputRow) -> list[PlannedRequest]:
        """One request for all new negatives of an example."""
        count = self.settings.per_row
        positive = row.texts("pos")[0]
        values = {
            "task": quote(self.settings.task_of(row)),
            "query": quote(row.text("query")),
            "positive": quote(positive),
            "count": count,
        }
        request = self.settings.request(
            f"negatives/{row.text('id')}",
            self.prompt,
            values,
            schema=SCHEMA,
            expected_words=round(text_validation.count_words(positive) + 2) * count,
            requested_attributes=[{}],
            row=row,
        )
        return [request]

    def rows(self, request: PlannedRequest, content: dict[str, Any]) -> list[RowOrRejection]:
        """The example with the new texts that are negatives, and why others are not."""
        row = request.input_row
        texts = [row.text("query"), *row.texts("pos"), *row.texts("neg")]
        known = {normalise(text) for text in texts}
        negatives: list[str] = []
        rejections: list[RowOrRejection] = []
        for text in content["negatives"][: self.settings.per_row]:
            try:
                negative = _checked_negative(text, request, known)
            except RejectedResponseError as rejection:
                rejections.append(rejection)
            else:
                known.add(normalise(negative))
                negatives.append(negative)
        if negatives:
            return [_with_negatives(row, negatives), *rejections]
        if not rejections:
            rejections = [RejectedResponseError("empty reply", "no negative in it")]
        return [{}, *rejections]


def _checked_negative(text: str, request: PlannedRequest, known: set[str]) -> str:
    """The cleaned text.

    Raises RejectedResponseError; known: normal forms that it may not equal.
    """
    text = text_validation.clean_text(text, "negative")
    text_validation.check_no_leak(
        text, request.prompt_phrases, reply_fields=("negatives",), field="negative"
    )
    if normalise(text) in known:
        shown = text[: text_validation.SHOWN_CHARACTERS]
        raise RejectedResponseError("negative equals another text", shown)
    return text


def _with_negatives(row: InputRow, negatives: list[str]) -> GeneratedRow:
    """The columns that change: lists beside `neg` stay aligned with it."""
    before = row.texts("neg")
    changed: GeneratedRow = {"neg": before + negatives}
    is_empty_list = not row.is_null("neg") and not before
    if not row.is_null("neg_ids") or (is_empty_list and row.has_column("neg_ids")):
        new_ids = [content_id(text) for text in negatives]
        changed["neg_ids"] = row.texts("neg_ids") + new_ids
    if not row.is_null("neg_scores"):  # the new ones have none
        changed |= {"neg_scores": None, "neg_score_kind": None}
    return changed
