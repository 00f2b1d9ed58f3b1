"""Our collator, losses and batch plan in anybody's SentenceTransformerTrainer, without our command and files.

  trainer = SentenceTransformerTrainer(model=model, args=args, train_dataset=dataset,
                                       loss=loss_for(model), data_collator=collator_for(model))

The dataset has the columns of `examples` (query, pos, neg, prompt …, lists of any length) or those of
sentence-transformers (anchor, positive, negative, negative_1 …). For one process: across several, each
rank of that trainer sees other rows, and the gradient would be another one.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from contrast_train import losses
from contrast_train.data.batch_sampler import Plan, plan
from contrast_train.data.collator import Collator
from contrast_train.data.dataset import Drawn, text_key
from contrast_train.model.backbone import Backbone
from contrast_train.training.objective import Loss, Objective
from fletching.encode import model as models
from fletching.errors import InputError

QUERY, POSITIVE, NEGATIVE = (
    ("query", "anchor", "question"),
    ("pos", "positive"),
    ("neg", "negative"),
)


def loss_for(
    model: Any, loss: Loss = losses.infonce, *, batch_tokens: int = 4096, **settings: Any
) -> Objective:
    """`loss` over whole batches: the trainer's batch size is that of the negatives, batch_tokens bounds the memory.

    settings: those of `Objective`, e.g. learned_temperature=0.05. Raises InputError under torchrun.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise InputError(
            "contrast_train.api are for one process", "run contrast-train under torchrun instead"
        )
    tokenizer = model[0].tokenizer
    padding = {
        "pad_id": tokenizer.pad_token_id or 0,
        "left_padding": tokenizer.padding_side == "left",
    }
    return Objective(model, loss, batch_tokens=batch_tokens, **padding | settings)


def collator_for(
    model: Any, *, negatives: int | None = None, all_positives: bool = False, **settings: Any
) -> ExamplesCollator:
    """Rows as dictionaries to batches; prompts and lengths are the model's. negatives: so many drawn of each row's.

    settings: those of `Collator`, e.g. query_prompt, doc_length.
    """

    roles = ("query", "document")
    prompts = {role: models.role_prompt(model, role, None) for role in roles}
    lengths = {role: models.role_length(model, role, None) for role in roles}
    backbone = Backbone(model, "", torch.device("cpu"), None, prompts, lengths)
    return ExamplesCollator(
        dataclasses.replace(backbone.collator(), **settings), negatives, all_positives
    )


class ExamplesCollator:
    """A data_collator. What answers a query is known from the rows of the batch; drawing follows torch's seed."""

    valid_label_columns: tuple[str, ...] = ()  # the trainer asks for them

    def __init__(self, collate: Collator, negatives: int | None, all_positives: bool) -> None:
        self.collate, self.negatives, self.all_positives = collate, negatives, all_positives

    def __call__(self, rows: Sequence[dict[str, Any]]) -> dict[str, Tensor]:
        texts = [(_first(row, QUERY), _texts(row, POSITIVE), _texts(row, NEGATIVE)) for row in rows]
        known: dict[int, set[int]] = {}
        for query, positives, _ in texts:
            key = text_key(query)
            known.setdefault(key, {key}).update(map(text_key, positives))
        return self.collate(
            [self._drawn(number, row, known, *texts[number]) for number, row in enumerate(rows)]
        )

    def _drawn(
        self,
        number: int,
        row: dict[str, Any],
        known: dict[int, set[int]],
        query: str,
        positives: list[str],
        negatives: list[str],
    ) -> Drawn:
        answers = known[text_key(query)]
        chosen = list(
            {
                text_key(text): text
                for text in _shuffled(negatives)
                if text_key(text) not in answers
            }.values()
        )
        kept = positives if self.all_positives else _shuffled(positives)[:1]
        scores = dict(zip(positives, row.get("pos_scores") or [])) | dict(
            zip(negatives, row.get("neg_scores") or [])
        )
        chosen = chosen[: self.negatives]
        ids = {
            text: name
            for role in ("pos", "neg")
            for text, name in zip(row.get(role) or [], row.get(f"{role}_ids") or [])
            if name
        }
        in_list = {
            text: score for text, score in scores.items() if text in positives or text in chosen
        }
        named = frozenset(row.get("pos_ids") or [])
        return Drawn(
            number,
            query,
            row.get("prompt"),
            tuple(kept),
            tuple(chosen),
            ids,
            frozenset(answers),
            named,
            in_list,
        )


def _first(row: dict[str, Any], names: Sequence[str]) -> Any:
    for name in names:
        if row.get(name) is not None:
            return row[name]
    raise InputError(
        f"a row has none of the columns {', '.join(names)}",
        f"rename its column to {names[0]}: dataset.rename_column(…)",
    )


def _texts(row: dict[str, Any], names: Sequence[str]) -> list[str]:
    """A text, a list, or numbered columns, as a list; negatives may be missing."""
    found: list[str] = []
    for name, value in row.items():
        if name in names or (name.rsplit("_", 1)[0] in names and name.rsplit("_", 1)[-1].isdigit()):
            found += [value] if isinstance(value, str) else value or []
    if not found and names is POSITIVE:
        _first({}, names)
    return [text for text in found if text.strip()]


def _shuffled(items: list[str]) -> list[str]:
    return [items[place] for place in torch.randperm(len(items)).tolist()]


class PlannedBatches:
    """The plan as a batch sampler: `args.batch_sampler = PlannedBatches.by("task")` keeps batches homogeneous."""

    def __init__(self, planned: Plan) -> None:
        self.plan, self.current = planned, 0

    @classmethod
    def by(cls, column: str | None = None, **settings: Any) -> Any:
        """A sampler of whole epochs for any dataset. settings: those of `plan`, e.g. mixed, sizes."""

        def make(
            dataset: Any, batch_size: int, drop_last: bool = False, seed: int = 0, **ignored: Any
        ) -> PlannedBatches:
            tasks = dataset[column] if column else [None] * len(dataset)
            return cls(
                plan(
                    list(tasks),
                    batch=batch_size,
                    seed=seed,
                    epochs=1,
                    steps=None,
                    drop_last=drop_last,
                    **settings,
                )
            )

        return make

    def set_epoch(self, epoch: int) -> None:
        self.current = epoch

    def __iter__(self) -> Iterator[list[int]]:
        yield from (np.asarray(batch).tolist() for batch in self.plan.epoch(self.current))

    def __len__(self) -> int:
        return self.plan.epoch_steps
