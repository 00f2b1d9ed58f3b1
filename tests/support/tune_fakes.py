"""A run whose heavy programs are replaced: csv2pairs and arrowcat are real, in this process; the others write what they would."""

from __future__ import annotations

import csv
import io
import itertools
import json
import shutil
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import arrowcat.cli
import csv2pairs.cli
import docs2texts.cli
import texts2pairs.cli
from fletching.report import Report
from fletching_tune import cli
from fletching_tune.options import Options
from fletching_tune.run import TuningRun
from fletching_tune.steps import launch
from fletching_tune.steps.step import Step

IN_PROCESS = {
    "csv2pairs": csv2pairs.cli.main,
    "arrowcat": arrowcat.cli.main,
    "texts2pairs": texts2pairs.cli.main,
}
LEARNED = {"anchored": 0.08, "infonce": 0.06, "hard-negatives": 0.02, "gentle": 0.01}


class Killed(BaseException):
    """Stands for a kill -9: nothing of ours is cleaned up after it."""


@dataclass
class FakePrograms:
    """What the programs would leave. learned: the gain that each recipe brings; killed_at: a step that dies half done."""

    learned: dict[str, float] = field(default_factory=lambda: dict(LEARNED))
    killed_at: str | None = None
    failing_seeds: tuple[int, ...] = ()  # whose training finds nothing better than the base
    row_seconds: float = 0.001
    vectors: str = "of the documents"
    started: list[str] = field(default_factory=list)
    after: Callable[[Step], None] = lambda step: None  # called when a step is done

    def launch(self, step: Step, log: str, *, keep_open: int) -> None:
        self.started.append(step.name)
        if step.name == self.killed_at:
            for path in (*step.outputs, *step.leftovers):
                Path(path).parent.mkdir(parents=True, exist_ok=True)
                Path(path).write_text("half")
            raise Killed
        if step.program in IN_PROCESS:
            assert IN_PROCESS[step.program](list(step.argv[1:])) == 0
        else:
            getattr(self, step.program.replace("-", "_"))(step, Words(step.argv))
        for path in step.leftovers:
            shutil.rmtree(path, ignore_errors=True)
        self.after(step)

    def contrast_train(self, step: Step, words: Words) -> None:
        if "--dry-run" in step.argv:
            batch, steps = int(words["--batch"]), int(words["--steps"])
            measures = {
                "estimated_seconds": self.row_seconds * batch * steps,
                "tokens_per_step": 20 * batch,
                "document_tokens_mean": 10.0,
            }
        else:
            name, _, seed = Path(words["-o"]).name.partition("-seed")
            recipe = name.rpartition("-")[0].removeprefix("curve-")
            fails = seed and int(seed) in self.failing_seeds
            gain = -0.01 if fails else self.learned.get(recipe, -0.01)
            model_folder(words["-o"], gain)
            evaluated = {
                "base_metric": 0.5,
                "trained_metric": 0.5 + gain,
                "best_step": int(gain > 0) * int(words["--steps"]),
            }
            measures = evaluated if "--eval" in step.argv else {}
        Path(words["--json-summary"]).write_text(json.dumps({"measures": measures}))

    def simfilter(self, step: Step, words: Words) -> None:
        shutil.copy(step.argv[1], words["-o"])
        shutil.copy(step.argv[1], words["--rejects"])
        rows = pq.read_metadata(words["-o"]).num_rows
        account = {"rows_in": rows, "rows_out": rows, "added": {}, "dropped": {"below": 0}}
        Path(words["--json-summary"]).write_text(json.dumps(account))

    def docs2texts(self, step: Step, words: Words) -> None:
        """The real one; the base of these tests has no tokenizer."""
        argv = [word for word in step.argv[1:] if word not in ("--model", words["--model"])]
        assert docs2texts.cli.main(argv) == 0

    def synthgen(self, step: Step, words: Words) -> None:
        """Two queries for each text, as an LLM that the journal remembers."""
        texts = pq.read_table(step.argv[1]).to_pylist()
        journal = Path(words["--journal"])
        journal.mkdir(exist_ok=True)
        (journal / "responses").write_text(str(len(texts)))
        rows = [
            {
                "id": f"{text['id']}-{number}",
                "query": f"what about {text['id']} number {number}",
                "pos": [text["text"]],
                "pos_ids": [text["id"]],
                "prompt": "Instruct: find it",
                "source": text["source"],
            }
            for text in texts
            for number in range(2)
        ]
        pq.write_table(pa.Table.from_pylist(rows), words["-o"])
        Path(words["--json-summary"]).write_text(json.dumps({"rows_out": len(rows)}))

    def hnmine(self, step: Step, words: Words) -> None:
        shutil.copy(step.argv[1], words["-o"])
        Path(words["--json-summary"]).write_text(json.dumps({"dropped": {}}))

    def texts2vectors(self, step: Step, words: Words) -> None:
        Path(words["-o"]).write_text(self.vectors)

    def blend_models(self, step: Step, words: Words) -> None:
        gains = [gain_of(path) for path in step.models]
        shares = [float(share) for share in words["--weights"].split(",")]
        model_folder(words["-o"], sum(gain * share for gain, share in zip(gains, shares)))

    def mteb_eval(self, step: Step, words: Words) -> None:
        rows = pq.read_table(step.inputs[0])["query"].to_pylist()
        models = [word.partition("=")[::2] for word in step.argv[1:] if word.partition("=")[1]]
        models = [(name, gain_of(path)) for name, path in models if name not in ("dev", "test")]
        out = []
        guards = ["guard"] if "--guard" in step.argv else []
        for run, gain in [*models, ("BM25", -0.2)]:
            noise = np.random.default_rng(zlib.crc32(run.encode())).normal(0, 0.05, len(rows))
            out += [
                {
                    "run": run,
                    "task": task,
                    "name": "ndcg_at_10",
                    "query_id": f"{n:06}",
                    "value": 0.5 + gain + x,
                    "query": f"query {n}",
                    "rank": 1 + (x < 0),
                    "relevant_ids": [f"{n:06}"],
                    "relevant_texts": [f"answer {n}"],
                    "top_ids": [f"{n:06}", "other"],
                    "top_texts": [f"answer {n}", "another text"],
                }
                for task in [words["--examples"].partition("=")[0], *guards]
                for n, x in enumerate(noise)
            ]
            kept = {"task": "guard", "name": "recall_at_10", "value": 1 - 5 * gain}
            out += [row | kept for row in out[-len(rows) :] if guards]
        for flag in ("--per-query", "-o"):
            pq.write_table(pa.Table.from_pylist(out), words[flag])
        Path(words["--html"]).write_text("<html></html>")
        Path(step.stdout or "").write_text("the table\n")


class Words(dict[str, str]):
    """The value after each flag."""

    def __init__(self, argv: tuple[str, ...]) -> None:
        super().__init__(itertools.pairwise(argv))


def model_folder(path: str, gain: float) -> None:
    folder = Path(path)
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"gain": round(gain, 6)}))
    (folder / "README.md").write_text("# card\n")


def gain_of(path: str) -> float:
    return float(json.loads(Path(path, "config.json").read_text())["gain"])


@dataclass
class Tuned:
    """A finished run: its steps that were run, what it printed, its exit code."""

    executed: list[str]
    out: str
    code: int
    verdict: dict[str, Any]
    notes: list[str]


@pytest.fixture
def programs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakePrograms:
    fake = FakePrograms()
    monkeypatch.setattr(launch, "launch", fake.launch)
    monkeypatch.chdir(tmp_path)
    return fake


@pytest.fixture
def tune(programs: FakePrograms) -> Callable[..., Tuned]:
    """tune(query="question", …): a run with these options on faq.csv."""
    return start


def start(**options: Any) -> Tuned:
    settings = {
        "inputs": ("faq.csv",),
        "model": "base",
        "output": "tuned",
        "query": "question",
        "pos": ("answer",),
    }
    parsed = Options(**settings | options)
    cli.check(parsed)
    report, out = Report("fletching-tune", quiet=True), io.StringIO()
    run = TuningRun(parsed, report, out=out)
    code = run.run()
    path = Path("tuned/verdict.json")
    verdict = json.loads(path.read_text()) if path.exists() else {}
    return Tuned(run.runner.executed, out.getvalue(), code, verdict, report.notes)


@pytest.fixture(scope="module")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run on `faq` that came to its end."""
    folder = tmp_path_factory.mktemp("finished")
    model_folder(str(folder / "base"), 0.0)
    write_table(folder / "faq.csv")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(launch, "launch", FakePrograms().launch)
        patch.chdir(folder)
        start()
    return folder


@pytest.fixture
def finished(finished_run: Path, tmp_path: Path) -> Path:
    """The table of a run that came to its end in this folder."""
    shutil.copytree(finished_run, tmp_path, dirs_exist_ok=True)
    return tmp_path / "faq.csv"


@pytest.fixture
def faq(tmp_path: Path) -> Path:
    """300 rows with a topic; the folder `base` is the model."""
    model_folder(str(tmp_path / "base"), 0.0)
    path = tmp_path / "faq.csv"
    write_table(path)
    return path


def write_table(path: Path, rows: int = 300, encoding: str = "utf-8") -> None:
    with open(path, "w", encoding=encoding, newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["question", "answer", "topic", "détail"])
        for number in range(rows):
            writer.writerow(
                [f"question {number}", f"answer {number}", f"topic {number % 7}", f"é {number}"]
            )
