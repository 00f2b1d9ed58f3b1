"""The evaluator of a run: its held-out rows, and the texts of --eval-corpus."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from torch import Tensor

from contrast_train.data.dataset import Prompts
from contrast_train.model.backbone import Backbone
from contrast_train.options import Options
from contrast_train.training import evaluation_corpus
from contrast_train.training.objective import ContrastObjective
from contrast_train.training.retrieval_evaluator import (
    EvaluationPrompts,
    PromptedText,
    RetrievalEvaluator,
)
from fletching.io import Reader
from fletching.prompts import InstructionTemplate
from fletching.report import Report
from fletching.train.distributed import process_group

if TYPE_CHECKING:
    from fletching.protocols import Role


def open_evaluator(
    options: Options, report: Report, backbone: Backbone, *, task_prompts: Mapping[str, Prompts]
) -> RetrievalEvaluator:
    """The evaluator over the rows of --eval, prompted as the training rows are."""
    path = options.eval or ""
    reader = Reader(report, [path], "examples", count=False, trains=True)
    prompts = EvaluationPrompts(
        query=backbone.prompts["query"],
        document=backbone.prompts["document"],
        of_task=task_prompts,
        template=InstructionTemplate.parse(options.prompt_template),
    )
    return RetrievalEvaluator(reader, path, prompts)


def add_corpus(
    evaluator: RetrievalEvaluator, options: Options, report: Report, *, path: str, prompt: str
) -> str:
    """Rank the held-out queries in the texts of --eval-corpus too; the digest of these.

    path: where the first process writes them. prompt: before each. Every process must call it.
    """
    digest = ""
    if process_group.is_main():
        stats = evaluation_corpus.write(
            Reader(report, options.eval_corpus, "texts", count=False),
            path,
            own_texts=(text for _, text in evaluator.documents),
            own_ids=evaluator.ids,
        )
        report.note(stats.describe(len(evaluator.queries), len(evaluator.documents)))
        digest = stats.digest
    digest = process_group.broadcast(digest)
    evaluator.corpus = evaluation_corpus.EvaluationCorpus(path, prompt)
    return digest


def embed(
    objective: ContrastObjective, backbone: Backbone, texts: list[PromptedText], role: Role
) -> Tensor:
    """Vectors (n, D) of prompted texts, by the model as it is now."""
    prompted = [prompt + text for prompt, text in texts]
    tokens = backbone.tokenize(prompted, backbone.lengths[role])
    prompt_tokens = None if backbone.pools_prompts else backbone.prompt_tokens(texts)
    return objective.embed_all(tokens, backbone.device, prompt_tokens)
