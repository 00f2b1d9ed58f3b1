"""A streamed run: its rows stay in the Parquet files that hold them.

What a run without --stream learns from all rows (the loss, the prompts) is learnt from the first
window; what it knows of the data before the first step are the footers.
"""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

from contrast_train.data import loading, stream_plan
from contrast_train.data.batch_sampler import PlanSettings
from contrast_train.data.examples_table import RowSelector
from contrast_train.data.stream_plan import StreamPlan
from contrast_train.data.streamed_dataset import PromptCounts, RowGroupSource, StreamedDataset
from contrast_train.data.training_data import StreamedInputs, TrainingData
from contrast_train.losses import selection
from contrast_train.losses.requirements import DatasetStats
from contrast_train.options import Options
from fletching.errors import InputError
from fletching.prompts import QueryPrompts
from fletching.report import Report
from fletching.train.distributed import process_group

WINDOW = 100_000  # rows


class FirstWindow(NamedTuple):
    """What the rows of the first window decide: the loss, why, and the prompts of the model."""

    loss: str
    reason: str
    prompts: PromptCounts


def load(options: Options, report: Report) -> TrainingData:
    """The data of a streamed run. Every process must call it; the first one looks at the rows.

    Raises InputError where an input cannot be streamed.
    """
    inputs = StreamedInputs(options, report)
    source = _source(options, report, inputs, loss=options.loss)
    report.rows_in += sum(source.group_rows)
    plan = stream_plan.plan_stream(
        source.group_rows,
        PlanSettings(batch=options.batch, seed=options.seed, drop_last=options.drop_last),
        window=options.stream_window or WINDOW,
        epochs=options.epochs,
        steps=options.steps,
    )
    first = process_group.broadcast(
        _look_at_first_window(options, source, plan) if process_group.is_main() else None
    )
    assert first
    selection.check(options, first.loss)
    report.note(f"loss {first.loss}: {first.reason}")
    dataset = StreamedDataset(
        _source(options, report, inputs, loss=first.loss),
        most_rows=plan.most_rows,
        prompts_seen=first.prompts,
        sampling=loading.sampling(options, loss=first.loss, tasks={}),
    )
    return TrainingData(
        inputs=inputs, digest=inputs.reader.digest, loss=first.loss, dataset=dataset, plan=plan
    )


def _source(
    options: Options, report: Report, inputs: StreamedInputs, *, loss: str | None
) -> RowGroupSource:
    """loss: None where it is yet to be chosen."""
    requirements = selection.requirements(loss, inputs.schema.name, options.min_pos_score)
    prompts = QueryPrompts(options.prompt_template, report)
    selector = RowSelector(requirements=requirements, prompts=prompts)
    return RowGroupSource(inputs.reader, selector, mixes_tasks=options.mix_tasks)


def _look_at_first_window(
    options: Options, source: RowGroupSource, plan: StreamPlan
) -> FirstWindow:
    """Raises InputError where no row of it can be trained with the loss."""
    stats, prompts, drops = DatasetStats(), PromptCounts(), Counter[str]()
    for number in next(plan.windows(0)).groups.tolist():
        group = source.load(number)
        stats.add(group.stats)
        prompts += group.prompts
        drops += group.drops
    if not stats.rows:
        reasons = ", ".join(f"{rows:,} {reason}" for reason, rows in drops.items())
        raise InputError(
            f"no row of the first window can be trained ({reasons})",
            "look at what made these rows, or pass a larger --stream-window",
        )
    loss, reason = selection.choose(options.loss, source.reader.schema.name, stats)
    selection.check_labels(options, loss, stats)
    if not options.loss:
        reason += " (of the first window)"
    return FirstWindow(loss, reason, prompts)
