"""The LLM2Vec example: what the decoder may read, and that it is a causal language model which loses no text."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from conftest import SUBJECTS

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = ROOT / "examples"


@pytest.fixture(scope="module")
def read(run: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict[str, str]]]:
    folder = tmp_path_factory.mktemp("sources")
    done = run(["python", EXAMPLES / "code-search" / "sources.py", folder])
    assert done.rc == 0, done.err
    return {
        name: [json.loads(line) for line in (folder / f"{name}.jsonl").open()]
        for name in ("train", "heldout")
    }


def test_the_decoder_reads_no_module_of_the_test_split(
    read: dict[str, list[dict[str, str]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLES / "code-search"))
    from harvest import split_of

    for name, split in (("train", "train"), ("heldout", "dev")):
        assert {split_of(row["id"].split(".")[0]) for row in read[name]} == {split}
    assert len(read["train"]) > 300 and len(read["heldout"]) > 20


def test_the_decoder_reads_no_function_of_the_test_split(
    read: dict[str, list[dict[str, str]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLES / "code-search"))
    import sysconfig

    from harvest import harvest, split_of

    from fletching.text import normalise

    rows = list(harvest(Path(sysconfig.get_paths()["stdlib"])))
    asked = {normalise(row.function) for row in rows if split_of(row.module) == "test"}
    kept = {row["id"] for texts in read.values() for row in texts}
    assert not [
        row.id
        for row in rows
        if row.id.rpartition(":")[0] in kept and normalise(row.function) in asked
    ]


def test_a_decoder_is_pre_trained_and_pooled_as_it_is(run: Any, tmp_path: Path) -> None:
    import torch
    import transformers
    from sentence_transformers import SentenceTransformer

    text = "def owl(night):\n    if night:\n\treturn '猫'\n\n\n"
    with open(tmp_path / "texts.jsonl", "w", encoding="utf-8") as file:
        for name, (question, answer) in SUBJECTS.items():
            file.write(
                json.dumps({"id": name, "text": (f"# {question}\n{text}{answer}") * 20}) + "\n"
            )
    done = run(
        [
            "python",
            EXAMPLES / "llm2vec" / "pretrain.py",
            tmp_path / "texts.jsonl",
            tmp_path / "decoder",
            "2",
        ]
    )
    assert done.rc == 0, done.err
    assert not (tmp_path / "decoder.run").exists()
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "decoder")
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    ids = torch.tensor([[5, 6, 7, 8], [5, 6, 7, 9]])
    states = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "decoder")(
        input_ids=ids
    ).logits
    assert torch.equal(states[0, :3], states[1, :3]) and not torch.equal(states[0, 3], states[1, 3])
    done = run(
        [
            "python",
            EXAMPLES / "llm2vec" / "causal.py",
            tmp_path / "decoder",
            tmp_path / "causal",
        ]
    )
    assert done.rc == 0, done.err
    pooled = SentenceTransformer(str(tmp_path / "causal"), device="cpu")
    assert pooled[1].pooling_mode == "mean" and pooled.max_seq_length == 128
