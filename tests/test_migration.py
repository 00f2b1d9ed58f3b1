"""docs/migration.md tells the truth: each command of its tables runs, on inputs like those of the other project."""

from __future__ import annotations

import importlib
import json
import re
import shlex
from pathlib import Path
from typing import Any

import bare_models
import pytest
from conftest import SUBJECTS, build_model
from suite import COMMANDS

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs/migration.md").read_text("utf-8")
TRAINERS = ("contrast-train", "mntp", "distill")
ENCODERS = (
    *("BAAI/bge-base-zh-v1.5", "BAAI/bge-base-en-v1.5", "FremyCompany/BioLORD-2023"),
    *("mntp-codegemma", "D", "tuned", "checkpoint"),
)
DECODERS = {
    "google/codegemma-2b": "gemma",
    "google/embeddinggemma-300m": "gemma3",
    "mistralai/Mistral-7B-v0.1": "mistral",
}


def rows_of_tables() -> list[tuple[str, str]]:
    """(section, command) of each row whose right cell is a command."""
    rows, section = [], ""
    for line in PAGE.splitlines():
        if line.startswith("## "):
            section = line[3:]
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        command = re.fullmatch(r"`([^`]+)`", cells[-1])
        if line.startswith("|") and command and command[1].split()[0] in COMMANDS:
            rows.append((section, command[1]))
    return rows


def jsonl(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `examples/`, tiny models under the names of the page, and the other projects' inputs."""
    folder = tmp_path_factory.mktemp("clone")
    (folder / "examples").symlink_to(ROOT / "examples")
    tiny = folder / "tiny"
    build_model(tiny, max_position_embeddings=512)
    for name in ENCODERS:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).symlink_to(tiny)
    for name, kind in DECODERS.items():
        (folder / name).parent.mkdir(exist_ok=True)
        bare_models.build(folder / name, kind, head=kind != "gemma3", max_position_embeddings=512)
    write_inputs(folder)
    write_configs(folder)
    return folder


def write_inputs(folder: Path) -> None:
    import numpy as np

    queries, answers = zip(*SUBJECTS.values())
    others = [*answers[1:], answers[0]]
    triples = list(zip(queries, answers, others))
    texts = [{"id": str(i), "text": text} for i, text in enumerate(answers)]
    pairs = [{"query": q, "pos": [p]} for q, p, _ in triples]
    hard = [{"query": q, "pos": [p], "neg": [n]} for q, p, n in triples]
    single = [{"query": q, "positive": p, "negative": n} for q, p, n in triples]
    (folder / "wikitext_train.txt").write_text("\n".join(answers), "utf-8")
    jsonl(folder / "texts.jsonl", texts)
    jsonl(folder / "pool.jsonl", texts)
    jsonl(folder / "test.jsonl", pairs)
    numbered = [{"query": f"query {i}", "pos": [f"def f{i}(): pass"]} for i in range(1000)]
    jsonl(folder / "csn_test.jsonl", numbered)
    jsonl(folder / "CodeSearchNet/go/train/0.jsonl", single)
    jsonl(folder / "echo-data/nq.jsonl", single)
    jsonl(folder / "training_data/demo/nq.jsonl", [
        {"query": q, "positive": [p], "negative": [n]} for q, p, n in triples
    ])  # fmt: skip
    jsonl(folder / "t2rank_100.jsonl", hard)
    jsonl(folder / "supervised.jsonl", hard)
    jsonl(folder / "toy_finetune_data.jsonl", hard)
    jsonl(folder / "lmsft.jsonl", [
        {"query": q, "pos": [p, n], "scores": [0.8, 0.2]} for q, p, n in triples
    ])  # fmt: skip
    jsonl(folder / "scored.jsonl", [
        row | {"pos_scores": [9.5], "neg_scores": [2.5]} for row in hard
    ])  # fmt: skip
    jsonl(folder / "t2rank_distill.jsonl", [{"query": q} for q in queries])
    np.random.default_rng(0).random((len(queries), 16), "f4").tofile(folder / "teacher.mmap")
    jsonl(folder / "pubmed/0.jsonl", [{"title": q, "abstract": p} for q, p, _ in triples])
    # The row before writes it too, but the rows may run in two processes.
    jsonl(folder / "pairs.jsonl", [{"query": q, "pos": [p]} for q, p, _ in triples])
    table = ["설명,분류,대분류,중분류,분야"]
    table += [f"설명 {i},분류 {i % 3},대 {i % 4},중 {i},분야 {i % 2}" for i in range(40)]
    (folder / "table.csv").write_text("\n".join(table) + "\n", "cp949")
    graded = [f'"{q}","{p}",{i / 12:.2f}' for i, (q, p, _) in enumerate(triples)]
    (folder / "graded.csv").write_text("\n".join(["sentence1,sentence2,score", *graded]), "utf-8")
    jsonl(folder / "tasks.jsonl", [
        {"id": "t", "text": "Given a question, find its answer.", "type": "short-long"}
    ])  # fmt: skip
    biosses = folder / "mteb-data/BIOSSES"
    biosses.mkdir(parents=True)
    (biosses / "test.csv").write_text((folder / "graded.csv").read_text("utf-8"), "utf-8")
    beir = folder / "beir/arguana"
    jsonl(beir / "corpus.jsonl", [{"_id": row["id"], "text": row["text"]} for row in texts])
    jsonl(beir / "queries.jsonl", [{"_id": f"q{i}", "text": q} for i, q in enumerate(queries)])
    (beir / "qrels").mkdir()
    judged = [f"q{i}\t{i}\t1" for i in range(len(queries))]
    (beir / "qrels/test.tsv").write_text("\n".join(["query-id\tcorpus-id\tscore", *judged]))


def write_configs(folder: Path) -> None:
    common = {"model_name_or_path": "org/m", "learning_rate": 2e-4, "max_seq_length": 512}
    (folder / "MNTP_codegemma.json").write_text(json.dumps(common | {"mlm_probability": 0.2}))
    (folder / "csn_config.json").write_text(json.dumps(common | {"stop_after_n_steps": 1000}))
    (folder / "training_embedding.yaml").write_text("lr: 2e-5\nneg_nums: 15\n")
    (folder / "finetune.sh").write_text("python -m finetune.run --train_group_size 2\n")
    script = "torchrun --nproc_per_node=2 train.py --temperature 100 --n_hard_negative 1\n"
    (folder / "train_eval_llm_retriever.sh").write_text(script)


def small(words: list[str]) -> list[str]:
    """What makes the command quick without changing what it means."""
    if "--translate" in words:
        return []
    if words[0] in TRAINERS:
        lengths = ["--query-length", "64", "--doc-length", "64"]
        is_long = words[0] == "contrast-train"
        return ["--batch", "4", "--dry-run", *(lengths if is_long else [])]
    return ["--dry-run"] if words[0] == "synthgen" else []


@pytest.mark.parametrize(("section", "command"), rows_of_tables())
def test_a_row_of_the_page_runs(
    section: str, command: str, clone: Path, invoke: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(clone)
    words = shlex.split(command)
    main = importlib.import_module(f"{COMMANDS[words[0]].module}.cli").main
    ran = invoke(main, *words[1:], *small(words))
    assert ran.rc == 0, f"{section}: {ran.err}"
    assert "Traceback" not in ran.err


def test_the_page_has_rows_for_each_of_the_five_projects() -> None:
    sections = [section for section, _ in rows_of_tables()]
    assert len(set(sections)) == 5
    assert min(sections.count(section) for section in set(sections)) >= 5


# --- recipes of models -----------------------------------------------------------------------------


def test_a_decoder_is_trained_by_both_recipes_of_codegemma(
    clone: Path, tmp_path: Path, invoke: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from contrast_train import cli as contrast
    from mntp import cli as mntp

    monkeypatch.chdir(clone)
    recipe = "examples/recipes/mntp-codegemma-2b.json"
    short = ("--steps", "1", "--batch", "4")
    out = tmp_path / "encoder"
    ran = invoke(
        *(mntp.main, "wikitext_train.txt", "--lines", "--config", recipe, "-o", out, *short),
        *("--length", "64"),
    )
    assert ran.rc == 0, ran.err
    recipe = "examples/recipes/codegemma-2b.json"
    ran = invoke(
        *(contrast.main, "CodeSearchNet/", "--model", out, "--config", recipe, *short),
        *("--query-length", "64", "--doc-length", "64", "-o", tmp_path / "tuned"),
    )
    assert ran.rc == 0, ran.err
    prompts = json.loads((tmp_path / "tuned/config_sentence_transformers.json").read_text())
    assert prompts["prompts"]["query"] == "Find the function that does this: "


@pytest.mark.parametrize(
    ("kind", "rows", "loss"),
    [
        ("triplet", "supervised.jsonl", "triplet over cosines (triplet margin 0.7)"),
        ("infonce", "supervised.jsonl", "infonce over cosines (temperature 0.0333333)"),
        ("angle", "graded.csv", "angle over cosines (temperature 0.0333333)"),
    ],
)
def test_a_bidirectional_gemma_is_trained_by_the_recipes_of_embeddinggemma(
    kind: str, rows: str, loss: str, clone: Path, tmp_path: Path, invoke: Any, monkeypatch: Any
) -> None:
    from contrast_train import cli

    monkeypatch.chdir(clone)
    queries, answers = zip(*SUBJECTS.values())
    jsonl(clone / "supervised.jsonl", [
        {"query": q, "pos": [p], "neg": [answers[i - 1]]}
        for i, (q, p) in enumerate(zip(queries, answers))
    ])  # fmt: skip
    ran = invoke(
        *(cli.main, rows, "--config", f"examples/recipes/embeddinggemma-{kind}.json"),
        *("--steps", "1", "--batch", "4", "--query-length", "64", "--doc-length", "64"),
        *("-o", tmp_path / "gemma"),
    )
    assert ran.rc == 0, ran.err
    saved = json.loads((tmp_path / "gemma/config_sentence_transformers.json").read_text())
    assert saved["prompts"]["query"] == "task: search result | query: "
    assert saved["prompts"]["document"] == "title: none | text: "
    assert loss in (tmp_path / "gemma/README.md").read_text("utf-8")
