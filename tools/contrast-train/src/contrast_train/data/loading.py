"""From options to spooled rows and the plan over them."""

from __future__ import annotations

from typing import Any

from contrast_train.data import batch_sampler, dataset, task_mixing
from contrast_train.data.task_folders import Inputs
from contrast_train.data.task_mixing import Task
from contrast_train.losses import registry
from contrast_train.losses.requirements import Needs
from fletching.report import Report


def spooled(options: Any, report: Report, path: str) -> tuple[Inputs, str, str]:
    """(what was read, digest of its rows, the loss that they are trained with); the rows stand in `path`."""
    inputs = Inputs(report, options.inputs, options.limit)
    needs = Needs("simcse" if inputs.schema.name == "texts" else options.loss, options.min_score)
    digest, census = dataset.spool(inputs, path, report, needs, options.prompt_template)
    loss, why = registry.choose(options.loss, inputs.schema.name, census)
    report.note(f"loss {loss}: {why}")
    return inputs, digest, loss


def opened(options: Any, path: str, loss: str, given: dict[str, Task]) -> dataset.Rows:
    """The spooled rows, drawn from as the loss and the options want it."""
    return dataset.open_rows(
        path,
        seed=options.seed,
        negatives=options.negatives,
        all_positives=options.positives == "all" or loss in ("margin-mse", "kl", "cosent"),
        lists=loss in registry.OVER_LISTS,
        min_score=options.min_score if loss in registry.BELONGS["min_score"] else None,
        prompts={name: (task.query_prompt, task.doc_prompt) for name, task in given.items()},
    )


def planned(
    options: Any, report: Report, opened: dataset.Rows, given: dict[str, Task]
) -> batch_sampler.Plan:
    """The batches of the run. Raises InputError where --tasks names a task that no row has."""
    of_rows = list(opened.column("task"))
    names, _, counts = batch_sampler.numbered(of_rows)
    if missing := task_mixing.check(given, names, options.tasks or ""):
        report.note(f"tasks of {options.tasks} without a row: {', '.join(missing)}")
    if without := [name for name in names if given and name not in given]:
        report.note(
            f"tasks that {options.tasks} does not name, so of weight 1: {', '.join(without)}"
        )
    weights = [given.get(name, Task()).weight for name in names]
    return batch_sampler.plan(
        of_rows,
        batch=options.batch,
        seed=options.seed,
        epochs=options.epochs,
        steps=options.steps,
        sizes=task_mixing.sizes(counts, weights, options.task_temperature, options.task_cap),
        mixed=options.mix_tasks,
        drop_last=options.drop_last,
    )
