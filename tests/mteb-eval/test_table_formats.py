"""--format: the same figures as markdown, CSV, LaTeX and JSON, whatever names hold."""

from __future__ import annotations

import csv
import io
import json
import re

import pyarrow as pa
import pytest

from mteb_eval.report.sections import TaskSection
from mteb_eval.report.table_formats import TABLE_FORMATS
from mteb_eval.scoring.comparison import Figure, Interval, Move
from mteb_eval.scoring.task_result import TaskResult


def section_of(
    base: str, other: str, task: str, *, flag: str = "2 queries are in the training data"
):
    results = {
        run: TaskResult(
            task=task,
            kind="Retrieval",
            split="test",
            subset="default",
            main_metric="ndcg_at_10",
            scores={"ndcg_at_10": 0.5},
            observed=pa.table({"id": ["q1", "q2"], "rank": [1, 2]}),
            effort={"documents": 3},
        )
        for run in (base, other)
    }
    common = {"task": task, "split": "test", "count": 2}
    before, after = Interval(0.5, 0.4, 0.6), Interval(0.625, 0.5, 0.75)
    change = Interval(0.125, 0.0625, 0.1875)
    figures = [
        Figure(run=base, metric="ndcg_at_10", value=before, **common),
        Figure(run=other, metric="ndcg_at_10", value=after, change=change, p=0.0125, **common),
        Figure(run=base, metric="accuracy", value=Interval(0.25), **common),
        Figure(run=other, metric="accuracy", value=Interval(0.25), change=Interval(0.0), **common),
    ]
    moves = {other: ([Move("rose", 2, 1)], [Move("fell", 1, 0)])}
    return TaskSection(results=results, figures=figures, flags=[flag], moves=moves, worst=[])


MARKDOWN = """\
### faq, 2 queries, 3 documents

> 2 queries are in the training data

| metric | model | value | change from base |
|---|---|---|---|
| nDCG@10 | base | 0.500 [0.400, 0.600] |  |
| nDCG@10 | tuned | 0.625 [0.500, 0.750] | +0.125 [+0.062, +0.188] better, p = 0.013 |
| accuracy | base | 0.250 |  |
| accuracy | tuned | 0.250 | +0.000 |
"""

CSV = """\
task,split,run,metric,value,low,high,change,change_low,change_high,p,verdict,queries
faq,test,base,ndcg_at_10,0.5,0.4,0.6,,,,,,2
faq,test,tuned,ndcg_at_10,0.625,0.5,0.75,0.125,0.0625,0.1875,0.0125,better,2
faq,test,base,accuracy,0.25,,,,,,,,2
faq,test,tuned,accuracy,0.25,,,0.0,,,,,2
"""

LATEX = r"""% \usepackage{booktabs}

\begin{table}
\centering
\begin{tabular}{lrr}
\toprule
model & nDCG@10 & accuracy \\
\midrule
base & 0.500 $\pm$ 0.100 & \textbf{0.250} \\
tuned & \textbf{0.625} $\pm$ 0.125$^*$ & \textbf{0.250} \\
\bottomrule
\end{tabular}
\caption{faq, 2 queries, 3 documents. $\pm$: half of the 95\,\% interval; $*$: $p < 0.05$ against base.}
\end{table}
"""


@pytest.mark.parametrize(
    ("how", "expected"), [("markdown", MARKDOWN), ("csv", CSV), ("latex", LATEX)]
)
def test_a_comparison_as(how, expected):
    assert TABLE_FORMATS[how]([section_of("base", "tuned", "faq")], "base") == expected


def test_json_holds_the_figures_in_full_with_flags_and_moves():
    content = json.loads(TABLE_FORMATS["json"]([section_of("base", "tuned", "faq")], "base"))
    assert content["baseline"] == "base"
    [task] = content["tasks"]
    assert task["task"] == "faq" and task["count"] == 2 and task["documents"] == 3
    assert task["figures"][1] == {
        "run": "tuned",
        "name": "ndcg_at_10",
        "value": 0.625,
        "low": 0.5,
        "high": 0.75,
        "change": {"value": 0.125, "low": 0.0625, "high": 0.1875, "p": 0.0125},
        "verdict": "better",
    }
    assert task["figures"][0]["change"] is None
    assert task["flags"] == ["2 queries are in the training data"]
    assert task["moved"]["tuned"]["fell"] == [{"query": "fell", "before": 1, "after": 0}]


def test_signs_that_a_format_obeys_are_written_as_letters():
    hostile = 'a|b_c*d\\e,f"g\n<i>&%${}#~^\x1b[2J'
    sections = [section_of("base", hostile, "t", flag=hostile)]
    markdown = TABLE_FORMATS["markdown"](sections, "base")
    row = next(line for line in markdown.splitlines() if line.startswith("| nDCG@10 | a"))
    assert len(re.findall(r"(?<!\\)\|", row)) == 5
    assert "<i>" not in markdown.replace("\\<i\\>", "")
    records = list(csv.DictReader(io.StringIO(TABLE_FORMATS["csv"](sections, "base"))))
    assert records[1]["run"] == hostile and len(records) == 4
    latex = TABLE_FORMATS["latex"](sections, "base")
    assert r"a|b\_c*d\textbackslash{}e" in latex
    assert r"\&\%\$\{\}\#\textasciitilde{}\textasciicircum{}" in latex
    assert "\x1b" not in latex + markdown
    assert (
        json.loads(TABLE_FORMATS["json"](sections, "base"))["tasks"][0]["figures"][1]["run"]
        == hostile
    )


@pytest.mark.slow
def test_the_command_prints_the_figures_of_the_measures(
    model, destroyed, evaluate, measures, examples, write
):
    command = [f"m={model}", f"w={destroyed}", "--examples", write("t.jsonl", examples)]
    command += ["--results", "r", "-o", "out.jsonl"]
    ran = evaluate(*command, "--format", "json")
    assert ran.rc == 0, ran.err
    by_key = measures("out.jsonl")
    [task] = json.loads(ran.text)["tasks"]
    assert len(task["figures"]) == 6
    for figure in task["figures"]:
        row = by_key[figure["run"], "t", figure["name"]]
        assert {name: row[name] for name in ("value", "low", "high")} == {
            name: figure[name] for name in ("value", "low", "high")
        }
        if figure["change"]:
            row = by_key[figure["run"], "t", f"{figure['name']}_change"]
            assert figure["change"] == {name: row[name] for name in ("value", "low", "high", "p")}
    assert evaluate(*command, "--format", "markdown").text.startswith("### t, 12 queries")
    records = list(csv.DictReader(io.StringIO(evaluate(*command, "--format", "csv").text)))
    assert [float(record["value"]) for record in records] == [
        figure["value"] for figure in task["figures"]
    ]
    assert "\\toprule" in evaluate(*command, "--format", "latex").text
    refused = evaluate(*command, "--format", "xml")
    assert refused.rc == 2


@pytest.mark.slow
def test_per_query_rows_give_the_mean_and_say_what_was_retrieved(
    model, destroyed, evaluate, measures, examples, write
):
    import pyarrow.parquet as pq

    command = [f"m={model}", f"w={destroyed}", "--examples", write("t.jsonl", examples)]
    ran = evaluate(*command, "-o", "out.jsonl", "--per-query", "q.parquet")
    assert ran.rc == 0, ran.err
    rows = pq.read_table("q.parquet").to_pylist()
    assert len(rows) == 2 * 12 * 3
    answers = {row["query"]: row["pos"] for row in examples}
    for run in ("m", "w"):
        values = [row["value"] for row in rows if (row["run"], row["name"]) == (run, "ndcg_at_10")]
        figure = measures("out.jsonl")[run, "t", "ndcg_at_10"]
        assert sum(values) / 12 == pytest.approx(figure["value"], abs=1e-4)
    for row in rows:
        assert row["relevant_texts"] == answers[row["query"]]
        assert len(row["top_ids"]) == 10 and len(row["top_texts"]) == 3
        if 0 < row["rank"] <= 3:
            assert row["top_ids"][row["rank"] - 1] in row["relevant_ids"]
            assert row["top_texts"][row["rank"] - 1] in row["relevant_texts"]
    alone = evaluate(*command, "--per-query", "alone.jsonl")
    assert alone.rc == 0 and len(open("alone.jsonl").readlines()) == len(rows)
    for path, what in [
        ("-", "--per-query - would mix"),
        ("q.txt", "--per-query q.txt has no known extension"),
        ("no/q.parquet", "the folder of --per-query no/q.parquet does not exist"),
        ("out.jsonl", "-o and --per-query both name out.jsonl"),
    ]:
        refused = evaluate(*command, "-o", "out.jsonl", "--per-query", path)
        assert refused.rc == 2 and what in refused.err, refused.err
