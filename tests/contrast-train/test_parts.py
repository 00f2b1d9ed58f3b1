"""Our parts in a foreign training script: two lines, and the same update as by hand."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from contrast_train import losses
from contrast_train.api import PlannedBatches, collator_for, loss_for
from contrast_train.losses import PairStructure
from fletching.errors import InputError

pytestmark = pytest.mark.slow  # as a whole: each test loads models or starts many commands

SCRIPT = """
import sys
from datasets import load_dataset
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from contrast_train.api import PlannedBatches, collator_for, loss_for

folder, out, *files = sys.argv[1:]
for data in files:
    model = SentenceTransformer(folder, device="cpu")
    dataset = load_dataset("json", data_files=data, split="train", cache_dir=out + "-cache")
    args = SentenceTransformerTrainingArguments(
        output_dir=out, per_device_train_batch_size=4, num_train_epochs=8, learning_rate=2e-3, report_to=[], use_cpu=True,
        save_strategy="no", logging_steps=1, batch_sampler=PlannedBatches.by("task"),
    )
    trainer = SentenceTransformerTrainer(model=model, args=args, train_dataset=dataset,
                                         loss=loss_for(model, batch_tokens=64), data_collator=collator_for(model, negatives=1))
    trainer.train()
    logs = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert len(logs) == 8 * 4, logs
    print("losses", sum(logs[:4]), sum(logs[-4:]))
model.save_pretrained(out)
"""


@pytest.mark.slow
def test_a_foreign_script_trains_with_our_parts(
    run: Any, tmp_path: Path, write: Any, model: str, examples: list[dict[str, Any]]
) -> None:
    """With the columns of `examples`, lists of any length, and with those of sentence-transformers."""
    ours, theirs = [], []
    for i, row in enumerate(examples):
        others = [examples[i - 1]["pos"][0], examples[i - 2]["pos"][0]]
        task = "a" if i < 5 else "b"
        ours.append(
            {"query": row["query"], "pos": row["pos"], "neg": others[: i % 3], "task": task}
        )
        theirs.append(
            {
                "anchor": row["query"],
                "positive": row["pos"][0],
                "negative_1": others[0],
                "negative_2": others[1],
                "task": task,
            }
        )
    (tmp_path / "script.py").write_text(SCRIPT)
    files = [write(tmp_path / "ours.jsonl", ours), write(tmp_path / "theirs.jsonl", theirs)]
    done = run([sys.executable, tmp_path / "script.py", model, tmp_path / "tuned", *files])
    assert done.rc == 0, done.err
    printed = [line.split()[1:] for line in done.text.splitlines() if line.startswith("losses ")]
    assert len(printed) == 2
    for before, after in printed:
        assert float(after) < 0.8 * float(before)
    assert (tmp_path / "tuned/model.safetensors").exists()


def test_the_update_is_the_one_written_out_by_hand(
    model: str, examples: list[dict[str, Any]]
) -> None:
    from sentence_transformers import SentenceTransformer

    ours = SentenceTransformer(model, device="cpu")
    rows = [{"query": row["query"], "pos": row["pos"]} for row in examples[:6]]
    batch = {name.removeprefix("texts_"): value for name, value in collator_for(ours)(rows).items()}
    ours.eval()
    loss = loss_for(ours, batch_tokens=48)([batch])
    loss.backward()
    gradient = torch.cat([p.grad.flatten() for p in ours.parameters() if p.grad is not None])
    ours.zero_grad()
    vectors = [
        torch.stack([ours({**ours.preprocess([text])})["sentence_embedding"][0] for text in texts])
        for texts in ([row["query"] for row in rows], [row["pos"][0] for row in rows])
    ]
    by_hand = torch.nn.functional.cross_entropy(vectors[0] @ vectors[1].T / 0.05, torch.arange(6))
    by_hand.backward()
    wanted = torch.cat([p.grad.flatten() for p in ours.parameters() if p.grad is not None])
    assert loss.item() == pytest.approx(by_hand.item(), rel=1e-5)
    assert (gradient - wanted).norm() <= 1e-4 * wanted.norm()


def test_batches_know_what_answers_a_query_and_carry_scores(model: str) -> None:
    from sentence_transformers import SentenceTransformer

    collate = collator_for(SentenceTransformer(model, device="cpu"), all_positives=True)
    rows = [
        {
            "query": "a",
            "pos": ["p", "q"],
            "pos_scores": [2.0, 1.0],
            "neg": ["n", "P"],
            "neg_scores": [0.0, 9.0],
        },
        {"anchor": "A", "positive": "r", "negative": "x"},
    ]
    batch = {name.removeprefix("texts_"): value for name, value in collate(rows).items()}
    structure = PairStructure.from_tensors(batch)
    assert structure.positive_pairs.tolist() == [[0, 0], [0, 1], [1, 3]]
    assert len(structure.hard_negative_pairs) == 2, "P is a positive in other letters"
    assert sorted(structure.scores.tolist()) == [0.0, 1.0, 2.0]
    assert (0, 3) in set(map(tuple, structure.masked_pairs.tolist())), "a and A are one query"
    assert losses.kl(torch.randn(2, 4), torch.randn(5, 4), structure).value > 0


def test_batches_follow_the_plan_of_each_epoch() -> None:
    import datasets

    batches = PlannedBatches.by("task")(
        datasets.Dataset.from_dict({"task": ["a"] * 6 + ["b"] * 6}), batch_size=4, drop_last=False
    )
    first = list(batches)
    batches.set_epoch(1)
    assert len(batches) == len(first) == 4
    assert sorted(row for batch in first for row in batch) == list(range(12))
    assert all(len({row < 6 for row in batch}) == 1 for batch in first)
    assert first != list(batches)


def test_several_processes_and_unknown_columns_are_refused(
    model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sentence_transformers import SentenceTransformer

    loaded = SentenceTransformer(model, device="cpu")
    with pytest.raises(InputError, match="none of the columns query"):
        collator_for(loaded)([{"text": "a"}])
    with pytest.raises(InputError, match="none of the columns pos"):
        collator_for(loaded)([{"query": "a"}])
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InputError, match="one process"):
        loss_for(loaded)


def test_losses_need_torch_alone_and_the_batch_no_sentence_transformers(run: Any) -> None:
    script = (
        "import sys; sys.modules['sentence_transformers'] = sys.modules['transformers'] = None\n"
    )
    script += "import contrast_train.losses, contrast_train.training.gradcache\nassert 'pyarrow' not in sys.modules\n"
    script += "import contrast_train.data.batch_sampler, contrast_train.data.collator, contrast_train.training.objective"
    done = run([sys.executable, "-c", script])
    assert done.rc == 0, done.err
