"""Our collator, losses and batch plan in anybody's SentenceTransformerTrainer, without our
command.

  trainer = SentenceTransformerTrainer(model=model, args=args, train_dataset=dataset,
                                       loss=loss_for(model), data_collator=collator_for(model))

The dataset has the columns of `examples` (query, pos, neg, prompt …, lists of any length) or
those of sentence-transformers (anchor, positive, negative, negative_1 …). For one process:
across several, each rank of that trainer sees other rows, and the gradient would be another
one.
"""

from __future__ import annotations

import itertools
import os
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

from contrast_train import losses
from contrast_train.data.batch_sampler import BatchPlan, PlanSettings, plan
from contrast_train.data.collator import ContrastCollator
from contrast_train.data.dataset import TrainingExample, document_ids, text_key
from contrast_train.losses.requirements import Row
from contrast_train.losses.selection import LossFunction
from contrast_train.model.backbone import Backbone
from contrast_train.training.objective import ContrastObjective, EmbeddingSettings
from fletching.encode import model as models
from fletching.errors import InputError

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

QUERY = ("query", "anchor", "question")
POSITIVE = ("pos", "positive")
NEGATIVE = ("neg", "negative")


def loss_for(
    model: SentenceTransformer,
    loss: LossFunction = losses.infonce,
    *,
    batch_tokens: int = 4096,
    keep_tokens: int = 0,
    learned_temperature: float | None = None,
) -> ContrastObjective:
    """`loss` over whole batches: the trainer's batch size is that of the negatives.

    batch_tokens bounds the memory: tokens of a micro-batch. keep_tokens, learned_temperature:
    as in `EmbeddingSettings` and `ContrastObjective`. Raises InputError under torchrun.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise InputError(
            "contrast_train.api is for one process", "run contrast-train under torchrun instead"
        )
    tokenizer = _backbone(model).tokenizer
    settings = EmbeddingSettings(
        batch_tokens=batch_tokens,
        keep_tokens=keep_tokens,
        pad_id=tokenizer.pad_token_id or 0,
        left_padding=tokenizer.padding_side == "left",
    )
    return ContrastObjective(model, loss, settings, learned_temperature=learned_temperature)


def collator_for(
    model: SentenceTransformer, *, negatives: int | None = None, all_positives: bool = False
) -> ExamplesCollator:
    """Rows as dictionaries to batches; prompts and lengths are the model's.

    negatives: so many are sampled of each row's; None: all.
    """
    return ExamplesCollator(
        _backbone(model).collator(), negatives=negatives, all_positives=all_positives
    )


def _backbone(model: SentenceTransformer) -> Backbone:
    roles = ("query", "document")
    return Backbone(
        model=model,
        fingerprint="",
        device=torch.device("cpu"),
        autocast=None,
        prompts={role: models.role_prompt(model, role, None) for role in roles},
        lengths={role: models.role_length(model, role, None) for role in roles},
    )


class ExamplesCollator:
    """A data_collator. Known answers are those of the rows of the batch; sampling follows
    torch's seed.
    """

    valid_label_columns: tuple[str, ...] = ()  # the trainer asks for them

    def __init__(
        self,
        collate: ContrastCollator,
        *,
        negatives: int | None = None,
        all_positives: bool = False,
    ) -> None:
        self.collate = collate
        self.negatives = negatives
        self.all_positives = all_positives

    def __call__(self, rows: Sequence[dict[str, Any]]) -> dict[str, Tensor]:
        """One batch of rows as tensors."""
        examples = [_as_example(row) for row in rows]
        answers: dict[int, set[int]] = defaultdict(set)  # keys of texts by key of the query
        for example in examples:
            key = text_key(example["query"])
            answers[key].update({key, *map(text_key, example["pos"])})
        return self.collate(
            [
                self._sample(number, example, frozenset(answers[text_key(example["query"])]))
                for number, example in enumerate(examples)
            ]
        )

    def _sample(self, number: int, row: Row, known_texts: frozenset[int]) -> TrainingExample:
        by_key = {text_key(text): text for text in _shuffled(row["neg"])}
        distinct = [text for key, text in by_key.items() if key not in known_texts]
        negatives = tuple(distinct[: self.negatives])
        positives = row["pos"] if self.all_positives else _shuffled(row["pos"])[:1]
        scores = dict(zip(row["pos"], row["pos_scores"])) | dict(zip(row["neg"], row["neg_scores"]))
        listed = {*row["pos"], *negatives}
        return TrainingExample(
            row=number,
            query=row["query"],
            prompt=row["prompt"],
            positives=tuple(positives),
            negatives=negatives,
            ids={text: name for text, name in document_ids(row).items() if name},
            known_texts=known_texts,
            known_ids=frozenset(row["pos_ids"]),
            scores={text: score for text, score in scores.items() if text in listed},
        )


def _as_example(row: dict[str, Any]) -> Row:
    """The row with the columns of `examples`, without blank texts; lists that are missing are
    empty.
    """
    example: dict[str, Any] = {"query": _first_value(row, QUERY), "prompt": row.get("prompt")}
    for role, names in (("pos", POSITIVE), ("neg", NEGATIVE)):
        texts = _collect_texts(row, names)
        is_kept = [bool(text.strip()) for text in texts]
        example[role] = list(itertools.compress(texts, is_kept))
        for name in (f"{role}_scores", f"{role}_ids"):
            example[name] = list(itertools.compress(row.get(name) or [], is_kept))
    return example


def _first_value(row: dict[str, Any], names: Sequence[str]) -> str:
    for name in names:
        if row.get(name) is not None:
            return str(row[name])
    raise InputError(
        f"a row has none of the columns {', '.join(names)}",
        f"rename its column to {names[0]}: dataset.rename_column(…)",
    )


def _collect_texts(row: dict[str, Any], names: Sequence[str]) -> list[str]:
    """A text, a list, or numbered columns, as a list; negatives may be missing."""
    texts: list[str] = []
    for column, value in row.items():
        stem, _, number = column.rpartition("_")
        if column in names or (stem in names and number.isdigit()):
            texts += [value] if isinstance(value, str) else value or []
    if not texts and names is POSITIVE:
        _first_value({}, names)
    return texts


def _shuffled(texts: list[str]) -> list[str]:
    return [texts[position] for position in torch.randperm(len(texts)).tolist()]


class ColumnDataset(Protocol):
    """What is needed of a datasets.Dataset."""

    def __len__(self) -> int: ...

    def __getitem__(self, column: str) -> Sequence[str | None]: ...


class PlannedBatches:
    """The plan as a batch sampler: `args.batch_sampler = PlannedBatches.by("task")` keeps one
    task a batch.
    """

    def __init__(self, plan: BatchPlan) -> None:
        self.plan = plan
        self.current_epoch = 0

    @classmethod
    def by(
        cls, column: str | None = None, *, mixed: bool = False, sizes: Sequence[int] | None = None
    ) -> Callable[..., PlannedBatches]:
        """A sampler of whole epochs for any dataset. mixed, sizes: as in `plan`."""

        def _make_sampler(
            dataset: ColumnDataset,
            batch_size: int,
            drop_last: bool = False,
            seed: int = 0,
            **ignored: object,
        ) -> PlannedBatches:
            tasks = list(dataset[column]) if column else [None] * len(dataset)
            settings = PlanSettings(batch=batch_size, seed=seed, mixed=mixed, drop_last=drop_last)
            return cls(plan(tasks, settings, epochs=1, sizes=sizes))

        return _make_sampler

    def set_epoch(self, epoch: int) -> None:
        """The epoch that is iterated next; the trainer calls it."""
        self.current_epoch = epoch

    def __iter__(self) -> Iterator[list[int]]:
        for batch in self.plan.epoch(self.current_epoch):
            yield batch.tolist()

    def __len__(self) -> int:
        return self.plan.epoch_steps
