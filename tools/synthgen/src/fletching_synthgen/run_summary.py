"""What a run took and gave, for the summary line, the user and --ledger."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from fletching.report import Report
from fletching_synthgen import columns
from fletching_synthgen.llm.budget import Budget
from fletching_synthgen.options import Options
from fletching_synthgen.output import OutputAssembler

UNITS = {
    "cost": "USD",
    "prompt_tokens": "tokens",
    "completion_tokens": "tokens",
    "cached_tokens": "tokens",
}


def spent(budget: Budget) -> str:
    """Tokens and money that this run has spent so far, for people."""
    cost = f", ${budget.new_cost:.2f}" if budget.price else ""
    return f"{budget.new_tokens:,} tokens{cost}"


def _account(budget: Budget) -> str:
    """What this run asked and spent, and what it replayed from the journal of an earlier one."""
    new, replayed = budget.counts["asked_now"], budget.counts["from_journal"]
    if not replayed:
        return f"{new:,} requests, {spent(budget)}"
    if not new:
        return f"{replayed:,} requests replayed, nothing spent"
    return f"{new:,} requests, {spent(budget)}; {replayed:,} requests replayed, nothing spent"


def summarise(
    report: Report, output: OutputAssembler, budget: Budget, *, journal: str, wanted_tasks: int
) -> int:
    """Add measures and notes to the report. The exit code: 1 if no paid response was usable.

    journal: its folder. wanted_tasks: of a brainstorm, else 0.
    """
    totals = budget.totals()
    report.measures |= {
        "ledger": totals,
        "this_run": budget.this_run(),
        "rejected": dict(sorted(output.rejected.items())),
        "diversity": _diversity(output),
    }
    if totals["requests"]:
        report.note(f"{_account(budget)}; journal: {journal}")
    if totals["estimated_usage"]:
        report.note(
            f"the tokens of {totals['estimated_usage']:,} replies are not known: the server sent "
            "no usable usage, so they are estimated from the texts"
        )
    if budget.reached:
        report.note(
            f"stopped at {budget.reached}; run again with a higher cap, and it resumes from there"
        )
    if output.rejected and not output.job.adds_rows:
        reasons = [f"{count:,} {reason}" for reason, count in sorted(output.rejected.items())]
        report.note(f"rows left as they were, in full or in part: {', '.join(reasons)}")
    if report.rows_out < wanted_tasks:
        report.note(
            f"asked for {wanted_tasks:,} tasks, got {report.rows_out:,}: "
            "run again with another --seed and concatenate both files"
        )
    if output.rejected and not output.accepted:
        report.note(_nothing_usable(output))
        return 1
    return 0


def _nothing_usable(output: OutputAssembler) -> str:
    reason = max(output.rejected, key=lambda name: (output.rejected[name], name))
    detail = output.details.get(reason)
    shown = f" ({detail})" if detail else ""
    return f"no reply was usable: {reason}{shown}; --rejects FILE shows them all"


def _diversity(output: OutputAssembler) -> dict[str, dict[str, float]]:
    """{task: figures}, in order of the tasks."""
    return {task: diversity.figures() for task, diversity in sorted(output.diversity.items())}


def ledger_rows(options: Options, output: OutputAssembler, budget: Budget) -> pa.RecordBatch:
    """The rows of --ledger: tokens, money, rejects and diversity as measures."""
    rows: list[dict[str, Any]] = []
    for name, value in budget.totals().items():
        rows.append({"name": name, "value": float(value), "unit": UNITS.get(name)})
    for reason, count in sorted(output.rejected.items()):
        rows.append({"name": "rejected", "split": reason, "value": float(count)})
    for task, figures in _diversity(output).items():
        for name, value in figures.items():
            rows.append({"task": task, "name": name, "value": float(value)})
    rows = [{"run": options.model, **row} for row in rows]
    schema = columns.measures()
    arrays = [pa.array([row.get(field.name) for row in rows], field.type) for field in schema]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)
