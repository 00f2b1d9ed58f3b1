"""From options to the training rows on disk, the data set over them and the plan of its
batches.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from contrast_train.data import batch_sampler, examples_table, task_mixing
from contrast_train.data.batch_sampler import BatchPlan
from contrast_train.data.dataset import TrainingDataset
from contrast_train.data.task_folders import TrainingInputs
from contrast_train.data.task_mixing import TaskSettings
from contrast_train.data.training_data import TrainingData
from contrast_train.losses import selection
from contrast_train.losses.registry import LOSSES
from contrast_train.options import Options
from fletching.prompts import QueryPrompts
from fletching.report import Report
from fletching.train.distributed import process_group


def load(
    options: Options, report: Report, path: str, *, tasks: Mapping[str, TaskSettings]
) -> TrainingData:
    """The data of a run, copied to `path` by the first process. Every process must call it."""
    inputs, digest, loss = None, "", ""
    if process_group.is_main():
        inputs, digest, loss = write_rows(options, report, path)
    digest, loss = process_group.broadcast((digest, loss))
    selection.check(options, loss)
    dataset = TrainingDataset.open(path, **sampling(options, loss=loss, tasks=tasks))
    plan = plan_batches(options, report, dataset, tasks=tasks)
    return TrainingData(inputs=inputs, digest=digest, loss=loss, dataset=dataset, plan=plan)


def write_rows(options: Options, report: Report, path: str) -> tuple[TrainingInputs, str, str]:
    """(what was read, digest of its rows, the loss they are trained with); the rows are in
    `path`.
    """
    inputs = TrainingInputs(report, options.inputs, options.limit)
    schema = inputs.schema.name
    requirements = selection.requirements(options.loss, schema, options.min_pos_score)
    digest, stats = examples_table.write(
        inputs,
        path,
        report,
        requirements=requirements,
        prompts=QueryPrompts(options.prompt_template, report),
        locate=inputs.locate,
    )
    loss, reason = selection.choose(options.loss, schema, stats)
    selection.check_labels(options, loss, stats)
    report.note(f"loss {loss}: {reason}")
    return inputs, digest, loss


def sampling(options: Options, *, loss: str, tasks: Mapping[str, TaskSettings]) -> dict[str, Any]:
    """The settings of a data set: what of its rows the loss and the options want."""
    chosen = LOSSES[loss]
    reads_minimum = "min_pos_score" in chosen.read_options
    return {
        "seed": options.seed,
        "negatives": options.negatives,
        "all_positives": "all" in (options.positives, chosen.positives),
        "with_scores": chosen.needs.reads_scores,
        "min_pos_score": options.min_pos_score if reads_minimum else None,
        "task_prompts": {
            name: (task.query_prompt, task.doc_prompt) for name, task in tasks.items()
        },
    }


def plan_batches(
    options: Options,
    report: Report,
    dataset: TrainingDataset,
    *,
    tasks: Mapping[str, TaskSettings],
) -> BatchPlan:
    """The batches of the run. Raises InputError where --tasks names a task that no row has."""
    task_of_row = list(dataset.column("task"))
    names, _, counts = batch_sampler.number_tasks(task_of_row)
    if unused := task_mixing.check(tasks, names, options.tasks or ""):
        report.note(f"tasks of {options.tasks} without a row: {', '.join(unused)}")
    unnamed = [name for name in names if tasks and name not in tasks]
    if unnamed:
        report.note(
            f"tasks that {options.tasks} does not name, so of weight 1: {', '.join(unnamed)}"
        )
    weights = [tasks[name].weight if name in tasks else 1.0 for name in names]
    sizes = task_mixing.sizes(
        counts, weights, temperature=options.task_temperature, cap=options.task_cap
    )
    settings = batch_sampler.PlanSettings(
        batch=options.batch,
        seed=options.seed,
        mixed=options.mix_tasks,
        drop_last=options.drop_last,
    )
    return batch_sampler.plan(
        task_of_row, settings, epochs=options.epochs, steps=options.steps, sizes=sizes
    )
