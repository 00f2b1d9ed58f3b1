"""The LLM judge: examples → the same examples with scores. No row is added or dropped.

Another judge is a subclass with its own name, prompt and scale, registered beside it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from fletching_synthgen import columns
from fletching_synthgen.jobs.registry import GeneratedRow, RowOrRejection, RowwiseJob, register_job
from fletching_synthgen.llm.response_parsing import RejectedResponseError, object_schema
from fletching_synthgen.prompts.library import quote
from fletching_synthgen.request_plan import InputRow, PlannedRequest
from fletching_synthgen.text_validation import SHOWN_CHARACTERS

if TYPE_CHECKING:
    import pyarrow as pa

    from fletching_synthgen.options import Options
    from fletching_synthgen.request_plan import RequestSettings

SCHEMA = object_schema(scores=["integer"])
PLACEHOLDERS = {"task", "query", "count", "documents"}
SIDES = ("pos", "neg")
SCORE_KIND = "judge"


@register_job
class JudgeJob(RowwiseJob):
    """Scores the positives and negatives of each example by the model, 0 to 1.

    prompt_text: None for the prompt NAME.md of the library.
    top_score: of the scale of the prompt; scores are written as a fraction of it.
    """

    name = "judge"
    adds_rows = False
    keeps_input_rows = True
    writes_scores = True
    prompt_text: ClassVar[str | None] = None
    top_score: ClassVar[int] = 10

    def __init__(self, settings: RequestSettings, options: Options) -> None:
        super().__init__(settings, options)
        self.prompt = settings.prompt(self.name, PLACEHOLDERS, text=self.prompt_text)

    def columns(self, source: pa.Schema | None) -> pa.Schema:
        """The columns read, and scores."""
        assert source is not None
        sides = [side for side in SIDES if side in source.names]
        names: list[str] = []
        for side in sides:
            names += [f"{side}_scores", f"{side}_score_kind"]
        return columns.enriched_examples(source, names)

    def _judged_texts(self, row: InputRow) -> dict[str, list[str]]:
        """{side: texts to score}, without sides whose scores are protected."""
        judged: dict[str, list[str]] = {}
        for side in SIDES:
            texts = row.texts(side)
            if texts and (self.options.replace_scores or self._may_write_scores(row, side)):
                judged[side] = texts
        return judged

    def _may_write_scores(self, row: InputRow, side: str) -> bool:
        """Cosines alone are overwritten, and no side gets scores beside ones of another kind."""
        is_protected = self._kind_of_scores(row, side) != "cosine"
        kinds = {self._kind_of_scores(row, each) for each in SIDES}
        return not is_protected and kinds <= {"cosine", SCORE_KIND}

    @staticmethod
    def _kind_of_scores(row: InputRow, side: str) -> str:
        """The kind of the scores of a side, "" where they name none; "cosine" without scores."""
        if row.is_null(f"{side}_scores"):
            return "cosine"
        return row.optional_text(f"{side}_score_kind") or ""

    def requests(self, row: InputRow) -> list[PlannedRequest]:
        """One request for all scores of an example; an empty one where none may be written."""
        slot = f"{self.name}/{row.text('id')}"
        texts = [text for side in self._judged_texts(row).values() for text in side]
        if not texts:
            return [PlannedRequest(key="", slot=slot, messages=(), schema={}, row=row)]
        numbered = [f"Text {number}: {quote(text)}" for number, text in enumerate(texts, 1)]
        values = {
            "task": quote(self.settings.task_of(row)),
            "query": quote(row.text("query")),
            "count": len(texts),
            "documents": "\n".join(numbered),
        }
        request = self.settings.request(
            slot,
            self.prompt,
            values,
            schema=SCHEMA,
            expected_words=2 * len(texts) + 4,
            requested_attributes=[{}],
            row=row,
        )
        return [request]

    def rows(self, request: PlannedRequest, content: dict[str, Any]) -> list[RowOrRejection]:
        """The example with its scores; without them, why."""
        judged = self._judged_texts(request.input_row)
        scores: list[int] = content["scores"]
        expected = sum(len(texts) for texts in judged.values())
        if len(scores) != expected:
            detail = f"{len(scores)} for {expected} texts"
            return [{}, RejectedResponseError("wrong number of scores", detail)]
        if not all(0 <= score <= self.top_score for score in scores):
            detail = str(scores)[:SHOWN_CHARACTERS]
            return [{}, RejectedResponseError("score off the scale", detail)]
        remaining = [score / self.top_score for score in scores]
        changed: GeneratedRow = {}
        for side, texts in judged.items():
            changed[f"{side}_scores"] = remaining[: len(texts)]
            changed[f"{side}_score_kind"] = SCORE_KIND
            remaining = remaining[len(texts) :]
        return [changed]
