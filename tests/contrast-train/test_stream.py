"""--stream: rows read from row groups while training, as if they had been copied; in bounded memory."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contrast_train import cli
from contrast_train.data import batch_sampler
from contrast_train.data.batch_sampler import PlanSettings
from contrast_train.data.examples_table import RowSelector
from contrast_train.data.stream_plan import StreamPlan, plan_stream
from contrast_train.data.streamed_dataset import PromptCounts, RowGroupSource, StreamedDataset
from contrast_train.losses.requirements import LossRequirements
from fletching.errors import InputError
from fletching.io.row_groups import RowGroupReader
from fletching.prompts import QueryPrompts
from fletching.report import Report

group_sizes = st.lists(st.integers(0, 12), min_size=1, max_size=9).filter(
    lambda each: sum(each) > 0
)
COLUMNS = pa.schema(
    [
        ("query", pa.string()),
        ("pos", pa.list_(pa.string())),
        ("neg", pa.list_(pa.string())),
        ("prompt", pa.string()),
        ("task", pa.string()),
    ]
)


def write_groups(path: Path, rows: list[dict[str, Any]], rows_of_group: int) -> str:
    pq.write_table(pa.Table.from_pylist(rows, COLUMNS), path, row_group_size=rows_of_group)
    return str(path)


def numbered_rows(count: int) -> list[dict[str, Any]]:
    return [{"query": f"q{n}", "pos": [f"p{n}"], "neg": [f"n{n}"]} for n in range(count)]


# --- the plan --------------------------------------------------------------------------------------


def rows_of(plan: StreamPlan) -> list[list[int]]:
    return [[row for _, row in batch] for batch in plan]


@given(group_sizes, st.integers(2, 6), st.integers(6, 40), st.integers(0, 3))
def test_every_row_is_in_an_epoch_once_and_a_batch_in_one_window(
    sizes: list[int], batch: int, window: int, seed: int
) -> None:
    plan = plan_stream(tuple(sizes), PlanSettings(batch=batch, seed=seed), window=window, epochs=2)
    batches = rows_of(plan)
    assert len(batches) == len(plan)
    assert Counter(row for rows in batches for row in rows) == dict.fromkeys(range(sum(sizes)), 2)
    assert max(map(len, batches)) <= batch
    starts = np.cumsum([0, *sizes])
    for epoch in (0, 1):
        windows = [{*window.rows.tolist()} for window in plan.windows(epoch)]
        assert all(windows), "a window of empty row groups alone would decide the loss"
        largest = max(map(len, windows))
        assert largest <= max(plan.most_rows, max(sizes) + batch)
        for rows in batches[: plan.epoch_steps] if epoch == 0 else []:
            assert any(each >= {*rows} for each in windows)
            groups = np.searchsorted(starts, rows, side="right")
            assert groups.tolist() == sorted(groups), "the rows of a group are neighbours"


@given(group_sizes, st.integers(2, 6), st.integers(0, 3), st.booleans())
def test_a_window_over_all_rows_gives_the_batches_of_a_run_without_stream(
    sizes: list[int], batch: int, seed: int, drop_last: bool
) -> None:
    how = PlanSettings(batch=batch, seed=seed, drop_last=drop_last)
    rows = sum(sizes)
    if drop_last and rows < batch:
        return
    plan = plan_stream(tuple(sizes), how, window=rows + batch, epochs=2.5)
    whole = batch_sampler.plan([None] * rows, how, epochs=2.5)
    assert [*map(sorted, rows_of(plan))] == [sorted(row for _, row in rows) for rows in whole]
    if len(sizes) == 1:
        assert list(plan) == list(whole)
    for steps in (1, len(plan) // 2, len(plan)):
        assert plan.is_reached(steps).tolist() == whole.is_reached(steps).tolist()


@given(group_sizes, st.integers(2, 5), st.integers(1, 4))
def test_the_shares_of_all_ranks_in_turn_are_the_batch(
    sizes: list[int], batch: int, ranks: int
) -> None:
    how = PlanSettings(batch=batch, seed=1)
    plan = plan_stream(tuple(sizes), how, window=12, steps=7)
    shares = [dataclasses.replace(plan, rank=rank, ranks=ranks) for rank in range(ranks)]
    for whole, *parts in zip(plan, *shares):
        assert [key for part in parts for key in part] == whole
    group_of = np.repeat(np.arange(len(sizes)), sizes)
    groups = [
        {int(group_of[row]) for rows in rows_of(share)[: plan.epoch_steps] for row in rows}
        for share in shares
    ]
    assert sum(map(len, groups)) == len(set().union(*groups)), "no group is read by two ranks"


def test_what_cannot_be_planned_is_refused() -> None:
    with pytest.raises(InputError, match="no row to train on"):
        plan_stream((0,), PlanSettings(batch=4), window=10)
    with pytest.raises(InputError, match="fill a batch of 20"):
        plan_stream((9,), PlanSettings(batch=20, drop_last=True), window=40)


# --- the rows --------------------------------------------------------------------------------------


@pytest.fixture
def streamed(tmp_path: Path) -> Any:
    """streamed(rows, 5, most_rows=10): a data set over row groups of 5; .read: those that were read, in order."""

    def streamed(rows: list[dict[str, Any]], of_group: int, most_rows: int = 10**6) -> Any:
        path = write_groups(tmp_path / "rows.parquet", rows, of_group)
        report = Report("test", quiet=True)
        reader = RowGroupReader(report, [path], "examples")
        selector = RowSelector(requirements=LossRequirements(), prompts=QueryPrompts(None, report))
        source = RowGroupSource(reader, selector, mixes_tasks=False)
        dataset = StreamedDataset(
            source, most_rows=most_rows, prompts_seen=PromptCounts({("", None): 1}), sampling={}
        )
        load, dataset.read = source.load, []  # type: ignore[attr-defined]

        def counted(number: int) -> Any:
            dataset.read.append(number)  # type: ignore[attr-defined]
            return load(number)

        source.load = counted  # type: ignore[method-assign]
        return dataset

    return streamed


@settings(max_examples=25, deadline=None)
@given(st.integers(5, 60), st.integers(1, 9), st.integers(4, 20), st.integers(1, 3))
def test_memory_is_bounded_by_the_window_and_each_group_is_read_once_an_epoch(
    tmp_path_factory: Any, rows: int, of_group: int, window: int, epochs: int
) -> None:
    make = streamed.__wrapped__(tmp_path_factory.mktemp("stream"))  # type: ignore[attr-defined]
    sizes = tuple(min(of_group, rows - start) for start in range(0, rows, of_group))
    plan = plan_stream(sizes, PlanSettings(batch=4), window=window, epochs=epochs)
    dataset = make(numbered_rows(rows), of_group, plan.most_rows)
    for batch in plan:
        examples = dataset.examples(batch)
        assert [example.row for example in examples] == [row for _, row in batch]
        assert [example.query for example in examples] == [f"q{row}" for _, row in batch]
        held = sum(sizes[group] for group in dataset.groups)
        assert held <= max(plan.most_rows, of_group)
        ahead = {group for each in plan.windows(batch[0][0]) for group in each.groups.tolist()}
        assert {*dataset.groups} <= ahead
    assert len(dataset.read) <= epochs * len(sizes)
    assert len(plan.group_rows) == len({*dataset.read})


def test_no_group_is_read_before_a_batch_needs_it(streamed: Any) -> None:
    dataset = streamed(numbered_rows(20), 5)
    assert dataset.read == []
    dataset.examples([(0, 7), (0, 9)])
    dataset.examples([(0, 5), (1, 19)])
    assert dataset.read == [1, 3]


def test_rows_that_cannot_be_trained_are_left_out_and_counted(streamed: Any) -> None:
    rows = numbered_rows(6)
    rows[1]["query"], rows[4]["pos"] = " ", [" "]
    dataset = streamed(rows, 3)
    examples = dataset.examples([(0, row) for row in range(6)])
    assert [example.row for example in examples] == [0, 2, 3, 5]
    assert [example.query for example in examples] == ["q0", "q2", "q3", "q5"]
    batches = list(dataset.numbered_batches(np.ones(6, bool)))
    assert [batch.numbers.tolist() for batch in batches] == [[0, 2], [3, 5]]
    assert dataset.drops == {"with a blank query": 1, "without a positive": 1}
    first = [batch.rows["id"].to_pylist() for batch in batches]
    assert dataset.row_ids([0, 2, 3]) == [*first[0], first[1][0]]
    dataset.read.clear()
    is_needed = np.arange(6) == 5
    assert [batch.numbers.tolist() for batch in dataset.numbered_batches(is_needed)] == [[3, 5]]
    assert dataset.read == [1] and dataset.trainable_rows == 5, "what nobody needs is not read"


@pytest.mark.slow  # imports torch
def test_known_answers_are_those_of_a_row_group_and_of_a_batch(streamed: Any) -> None:
    from arranged import arrange

    rows = [
        {"query": "q", "pos": ["a"], "neg": ["b", "c"]},
        {"query": "q", "pos": ["b"], "neg": ["n"]},
        {"query": "q", "pos": ["c"], "neg": ["n"]},
    ]
    first, second, third = streamed(rows, 2).examples([(0, 0), (0, 1), (0, 2)])
    assert first.negatives == ("c",), "b answers q in the same row group, c in another one"
    queries, documents, pairs = arrange([first, second, third], "")
    assert len(queries) == 1
    answers = {documents[document][1] for _, document in pairs.masked_pairs.tolist()}
    assert answers == {"a", "b", "c"}, "in a batch, the answers of all of its rows are known"


def test_tasks_and_later_prompts_are_refused(streamed: Any) -> None:
    rows = numbered_rows(4)
    rows[3]["prompt"] = "find: "
    dataset = streamed(rows, 2)
    assert len(dataset.examples([(0, 0)])) == 1
    with pytest.raises(InputError, match="query prompt of some rows is 'find: '"):
        dataset.examples([(0, 2)])
    dataset = streamed([row | {"task": "nq"} for row in numbered_rows(2)], 2)
    with pytest.raises(InputError, match="rows of task 'nq'"):
        dataset.examples([(0, 0)])


def test_a_file_that_changes_is_refused(streamed: Any, tmp_path: Path) -> None:
    dataset = streamed(numbered_rows(6), 2)
    reader = dataset.source.reader
    digest = reader.digest
    reader._open_files.clear()
    path = write_groups(
        tmp_path / "rows.parquet", [*numbered_rows(5), {"query": "x", "pos": ["p"]}], 2
    )
    with pytest.raises(InputError, match="has changed since the run started"):
        dataset.examples([(0, 0)])
    assert RowGroupReader(Report("test", quiet=True), [path], "examples").digest != digest


# --- runs ------------------------------------------------------------------------------------------

FAST = ("--batch", 4, "--lr", "1e-3", "--dtype", "float32", "--activations", 0)  # fmt: skip


@pytest.fixture
def train(invoke: Any, model: str, tmp_path: Path, examples: list[dict[str, Any]]) -> Any:
    """train("out", 4, "--stream"): a run on the subjects in row groups of 4 rows."""

    def train(out: str, of_group: int, *argv: Any, rows: Any = None) -> Any:
        mined = [row | {"neg": [examples[i - 1]["pos"][0]]} for i, row in enumerate(examples)]
        path = tmp_path / f"{of_group}.parquet"
        if rows is not None or not path.exists():
            write_groups(path, rows or mined, of_group)
        return invoke(cli.main, path, "--model", model, "-o", tmp_path / out, *FAST, *argv)

    return train


def weights(folder: Path) -> bytes:
    return (folder / "model.safetensors").read_bytes()


@pytest.mark.slow
def test_one_row_group_in_one_window_gives_the_weights_of_a_run_without_stream(
    train: Any, tmp_path: Path
) -> None:
    assert train("plain", 100, "--epochs", 1.5).rc == 0
    done = train("streamed", 100, "--epochs", 1.5, "--stream")
    assert done.rc == 0, done.err
    assert weights(tmp_path / "plain") == weights(tmp_path / "streamed")
    assert "12 rows streamed from 1 row groups, without a copy" in done.err
    assert "12 in, 12 out" in done.err
    assert "streamed from 1 row groups" in (tmp_path / "streamed/README.md").read_text()
    kept = [pq.read_table(tmp_path / out / "trained-on.parquet") for out in ("plain", "streamed")]
    assert kept[0].equals(kept[1])


@pytest.mark.slow
def test_rows_are_accounted_for_and_copied_nowhere(
    train: Any, tmp_path: Path, examples: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    from fletching.train.run_dir import RunDir

    seen: list[str] = []
    publish = RunDir.publish

    def watched(self: RunDir, built: str) -> None:
        seen.extend(path.name for path in Path(self.path).rglob("*.arrow"))
        publish(self, built)

    monkeypatch.setattr(RunDir, "publish", watched)
    rows = [*examples, {"query": " ", "pos": ["p"]}, {"query": "q", "pos": [""]}]
    argv = ("--stream", "--stream-window", 6, "--json-summary", tmp_path / "summary.json")
    done = train("tuned", 3, *argv, rows=rows)
    assert done.rc == 0, done.err
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert (summary["rows_in"], summary["rows_out"]) == (14, 12)
    assert summary["dropped"] == {"with a blank query": 1, "without a positive": 1}
    assert seen == []


@pytest.mark.slow
@pytest.mark.parametrize("argv", [(), ("--accumulate", 2)])
def test_a_batch_without_a_row_that_can_be_trained_adds_nothing(
    train: Any, tmp_path: Path, examples: list[dict[str, Any]], argv: tuple[Any, ...]
) -> None:
    rows = [*examples[:8], *({"query": " ", "pos": ["p"]} for _ in range(4))]
    stream = ("--stream", "--stream-window", 4, "--dropout", 0, *argv)
    done = train("tuned", 4, *stream, "--json-summary", tmp_path / "summary.json", rows=rows)
    assert done.rc == 0, done.err
    assert "no row of a batch can be trained: it adds nothing to its update" in done.err
    assert "3 batches looked at: 0.0% of the texts are repeated" in done.err
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert (summary["rows_in"], summary["rows_out"]) == (12, 8)
    assert summary["dropped"] == {"with a blank query": 4}


@pytest.mark.slow
def test_a_first_window_without_a_row_that_can_be_trained_is_refused(train: Any) -> None:
    rows = [{"query": " ", "pos": ["p"]}, {"query": "q", "pos": [""]}]
    done = train("tuned", 4, "--stream", rows=rows)
    assert done.rc == 1
    what = "no row of the first window can be trained (1 with a blank query, 1 without a positive)"
    assert what in done.err


@pytest.mark.slow
def test_a_stream_with_few_rows_that_can_be_trained_is_described_by_those(
    train: Any, examples: list[dict[str, Any]]
) -> None:
    plan = plan_stream((4, 4, 4), PlanSettings(batch=4, seed=0), window=4, epochs=1)
    [first] = next(plan.windows(0)).groups.tolist()
    rows = [{"query": " ", "pos": ["p"]} for _ in range(12)]
    rows[4 * first : 4 * first + 4] = examples[:4]
    done = train("tuned", 4, "--stream", "--stream-window", 4, rows=rows)
    assert done.rc == 0, done.err
    assert "3 batches looked at: 0.0% of the texts are repeated" in done.err
    assert "12 in, 4 out (8 with a blank query)" in done.err


def kill_after(tmp_path: Path, step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Copy the run folder right after a checkpoint, as a kill would leave it."""
    from fletching.train.run_dir import RunDir

    save = RunDir.save

    def copied(self: RunDir, at: int, *arguments: Any, **options: Any) -> None:
        save(self, at, *arguments, **options)
        if at == step and self.output.endswith("whole"):
            shutil.copytree(self.path, tmp_path / "again.run")

    monkeypatch.setattr(RunDir, "save", copied)


@pytest.mark.slow
def test_a_stopped_run_ends_in_the_same_weights_and_reads_on_where_it_stopped(
    train: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kill_after(tmp_path, 4, monkeypatch)
    argv = ("--stream", "--stream-window", 6, "--epochs", 2, "--save-every", 2, "--dropout", 0.2)
    whole = train("whole", 3, *argv)
    again = train("again", 3, *argv)
    assert whole.rc == again.rc == 0, whole.err + again.err
    assert "resuming from step 4 of 8" in again.err
    assert weights(tmp_path / "whole") == weights(tmp_path / "again")


@pytest.mark.slow
def test_a_run_is_not_resumed_on_other_files(
    train: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, examples: list[dict[str, Any]]
) -> None:
    kill_after(tmp_path, 2, monkeypatch)
    argv = ("--stream", "--stream-window", 6, "--save-every", 2)
    assert train("whole", 3, *argv).rc == 0
    done = train("again", 3, *argv, rows=[*examples[1:], {"query": "new", "pos": ["row"]}])
    assert done.rc == 1
    assert "holds a run of other data or options: data was" in done.err


@pytest.mark.slow
@pytest.mark.parametrize(("of_group", "window", "blank"), [(2, 8, 0), (4, 4, 4)])
def test_two_ranks_read_their_own_row_groups_and_end_in_the_weights_of_one(
    forked: Any, tmp_path: Path, data: str, of_group: int, window: int, blank: int
) -> None:
    from safetensors.torch import load_file

    table = pq.read_table(data)
    rows = [*table.to_pylist(), *({"query": " ", "pos": ["p"]} for _ in range(blank))]
    pq.write_table(pa.Table.from_pylist(rows, table.schema), data, row_group_size=of_group)
    argv = ("--stream", "--stream-window", window, "--batch", 4, "--dropout", 0)
    runs = [forked(ranks, f"of{ranks}", *argv) for ranks in (1, 2)]
    assert [run.rc for run in runs] == [0, 0], runs[0].err + runs[1].err
    one, two = (load_file(tmp_path / f"of{ranks}/model.safetensors") for ranks in (1, 2))
    assert max(float((one[name] - two[name]).abs().max()) for name in one) < 1e-5


@pytest.mark.parametrize(
    ("argv", "what"),
    [
        (("--guide", "m"), "--guide needs the vectors of all texts"),
        (("--teacher-vectors", "m"), "--teacher-vectors needs the vectors of all texts"),
        (("--tasks", "t.json"), "--tasks needs the rows of each task"),
        (("--task-cap", 3), "--task-cap needs the rows of each task"),
        (("--stream-window", 3), "--stream-window 3 is below --batch 4"),
    ],
)
def test_options_over_all_rows_are_refused_at_once(
    invoke: Any, tmp_path: Path, argv: Any, what: str
) -> None:
    path = write_groups(tmp_path / "rows.parquet", numbered_rows(3), 3)
    done = invoke(cli.main, path, "--model", "m", "-o", tmp_path / "t", *FAST, "--stream", *argv)
    assert done.rc == 2
    assert what in done.err and "fix:" in done.err


def test_what_has_no_row_groups_is_refused_at_once(invoke: Any, tmp_path: Path, write: Any) -> None:
    path = write(tmp_path / "rows.jsonl", numbered_rows(3))
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "config.json").write_text("{}")
    argv = ("--model", tmp_path / "m", "-o", tmp_path / "tuned")
    for name, more, what in (
        (path, ["--stream"], "is no Parquet file, so it has no row groups"),
        ("-", ["--stream"], "--stream reads files at random, and stdin is a pipe"),
        (path, ["--stream-window", 9], "--stream-window has no stream"),
    ):
        done = invoke(cli.main, name, *argv, *more)
        assert done.rc in (1, 2)
        assert what in done.err and "fix:" in done.err


def test_a_cut_file_is_named_at_once(invoke: Any, tmp_path: Path) -> None:
    path = tmp_path / "cut.parquet"
    write_groups(path, numbered_rows(50), 10)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2] + b"\xff" * 8)  # no length of 4 GB is believed
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "config.json").write_text("{}")
    done = invoke(cli.main, path, "--model", tmp_path / "m", "-o", tmp_path / "t", "--stream")
    assert done.rc == 1
    assert "cut.parquet" in done.err and "fix:" in done.err
