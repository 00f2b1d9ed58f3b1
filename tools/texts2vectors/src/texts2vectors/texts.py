"""The texts of a batch by role: those of `texts`, or the queries and documents of `examples`."""

from __future__ import annotations

from dataclasses import dataclass, field

import pyarrow as pa

from fletching import schema
from fletching.protocols import Role
from fletching.titled_texts import titled_texts


@dataclass(kw_only=True)
class RoleTexts:
    """Texts of one role in their order, each with its id and the prompt of its row, if any."""

    role: Role
    texts: list[str] = field(default_factory=list)
    ids: list[str | None] = field(default_factory=list)
    prompts: list[str | None] = field(default_factory=list)

    def select(self, rows: list[int]) -> RoleTexts:
        """These of the texts."""
        return RoleTexts(
            role=self.role,
            texts=[self.texts[row] for row in rows],
            ids=[self.ids[row] for row in rows],
            prompts=[self.prompts[row] for row in rows],
        )


def texts_by_role(
    batch: pa.RecordBatch, role: Role | None, *, is_examples: bool
) -> list[RoleTexts]:
    """The texts of a batch. role: of --role; None for documents, of examples for both."""
    if not is_examples:
        return [_of_texts(batch, role or "document")]
    return [each for each in (_queries(batch), _documents(batch)) if role in (None, each.role)]


def _strings(batch: pa.RecordBatch, name: str) -> list[str | None]:
    values: list[str | None] = schema.column(batch, name, pa.string()).to_pylist()
    return values


def _of_texts(batch: pa.RecordBatch, role: Role) -> RoleTexts:
    return RoleTexts(
        role=role,
        texts=titled_texts(batch).to_pylist(),
        ids=_strings(batch, "id"),
        prompts=_strings(batch, "prompt"),
    )


def _queries(batch: pa.RecordBatch) -> RoleTexts:
    return RoleTexts(
        role="query",
        texts=batch["query"].to_pylist(),
        ids=_strings(batch, "id"),
        prompts=_strings(batch, "prompt"),
    )


def _documents(batch: pa.RecordBatch) -> RoleTexts:
    """Positives and negatives row by row, with the ids that the row has for them."""
    documents = RoleTexts(role="document")
    sides = [
        schema.column(batch, name, pa.list_(pa.string())).to_pylist()
        for name in ("pos", "pos_ids", "neg", "neg_ids")
    ]
    for positives, positive_ids, negatives, negative_ids in zip(*sides):
        for texts, ids in ((positives, positive_ids), (negatives, negative_ids)):
            documents.texts += texts or []
            documents.ids += ids or [None] * len(texts or [])
    documents.prompts = [None] * len(documents.texts)
    return documents
