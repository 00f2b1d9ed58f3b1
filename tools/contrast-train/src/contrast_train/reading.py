"""From options to spooled rows and the plan over them."""

from __future__ import annotations

from typing import Any

from contrast_train import choice, plan, rows, tasks
from contrast_train.carried import Needs
from contrast_train.inputs import Inputs
from contrast_train.tasks import Task
from fletching.report import Report


def spooled(options: Any, report: Report, path: str) -> tuple[Inputs, str, str]:
    """(what was read, digest of its rows, the loss that they are trained with); the rows stand in `path`."""
    inputs = Inputs(report, options.inputs, options.limit)
    needs = Needs("simcse" if inputs.schema.name == "texts" else options.loss, options.min_score)
    digest, census = rows.spool(inputs, path, report, needs, options.prompt_template)
    loss, why = choice.choose(options.loss, inputs.schema.name, census)
    report.note(f"loss {loss}: {why}")
    return inputs, digest, loss


def opened(options: Any, path: str, loss: str, given: dict[str, Task]) -> rows.Rows:
    """The spooled rows, drawn from as the loss and the options want it."""
    return rows.open_rows(
        path,
        seed=options.seed,
        negatives=options.negatives,
        all_positives=options.positives == "all" or loss in ("margin-mse", "kl", "cosent"),
        lists=loss in choice.OVER_LISTS,
        min_score=options.min_score if loss in choice.BELONGS["min_score"] else None,
        prompts={name: (task.query_prompt, task.doc_prompt) for name, task in given.items()},
    )


def planned(options: Any, report: Report, opened: rows.Rows, given: dict[str, Task]) -> plan.Plan:
    """The batches of the run. Raises Refused where --tasks names a task that no row has."""
    of_rows = list(opened.column("task"))
    names, _, counts = plan.numbered(of_rows)
    if missing := tasks.check(given, names, options.tasks or ""):
        report.note(f"tasks of {options.tasks} without a row: {', '.join(missing)}")
    if without := [name for name in names if given and name not in given]:
        report.note(f"tasks that {options.tasks} does not name, so of weight 1: {', '.join(without)}")
    weights = [given.get(name, Task()).weight for name in names]
    return plan.plan(
        of_rows,
        batch=options.batch,
        seed=options.seed,
        epochs=options.epochs,
        steps=options.steps,
        sizes=tasks.sizes(counts, weights, options.task_temperature, options.task_cap),
        mixed=options.mix_tasks,
        drop_last=options.drop_last,
    )
