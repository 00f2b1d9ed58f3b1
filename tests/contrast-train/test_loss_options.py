"""Which loss a run takes, what its options do, what the saved model carries of them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from contrast_train import cli
from contrast_train.losses import PairStructure, selection
from contrast_train.losses.requirements import DatasetStats
from fletching.cli import parse

pytestmark = pytest.mark.slow  # as a whole: each test loads models or starts many commands

FAST = (
    "--batch",
    "4",
    "--batch-tokens",
    "64",
    "--lr",
    "1e-3",
    "--dtype",
    "float32",
    "--activations",
    "0",
    "--steps",
    "2",
)


@pytest.fixture
def rows(examples: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Every row with two negatives, and a reranker's scores of all three documents."""
    return [
        row
        | {
            "neg": [examples[i - 1]["pos"][0], examples[i - 5]["pos"][0]],
            "pos_scores": [4.0 + i],
            "neg_scores": [i / 2, -1.0],
        }
        | {"pos_score_kind": "reranker", "neg_score_kind": "reranker"}
        for i, row in enumerate(examples)
    ]


@pytest.fixture
def train(invoke: Any, model: str, tmp_path: Path, write: Any) -> Any:
    def train(rows: list[dict[str, Any]], *argv: Any, out: str = "tuned", base: str = model) -> Any:
        path = write(tmp_path / "train.parquet", rows)
        return invoke(cli.main, path, "--model", base, "-o", tmp_path / out, *FAST, *argv)

    return train


def scored_batch(seed: int) -> tuple[Tensor, Tensor, PairStructure]:
    """Three queries, eight documents: scored positives, hard negatives and a query that is answered twice."""
    gen = torch.Generator().manual_seed(seed)
    q, d = (torch.randn(n, 5, generator=gen, dtype=torch.float64) for n in (4, 8))
    terms = torch.tensor([[0, 0], [1, 3], [2, 5], [3, 7]])
    lists = torch.tensor([[0, 0, 0], [0, 0, 1], [0, 0, 2], [1, 1, 3], [1, 1, 4]])
    hard = torch.tensor([[0, 1], [0, 2], [1, 4]])
    return (
        q,
        d,
        PairStructure(
            positive_pairs=terms,
            weights=torch.full((4,), 0.25),
            hard_negative_pairs=hard,
            masked_pairs=terms,
            scored_pairs=lists,
            scores=torch.randn(5, generator=gen),
        ),
    )


def weights(folder: Path) -> bytes:
    return (folder / "model.safetensors").read_bytes()


def stats_of(*rows: dict[str, Any]) -> DatasetStats:
    stats = DatasetStats()
    empty = dict.fromkeys(["neg", "pos_scores", "neg_scores", "pos_score_kind", "neg_score_kind"])
    for row in rows:
        stats.count(empty | {"query": "q", "pos": ["p"]} | row)
    return stats


LABEL = {"pos_scores": [0.3], "pos_score_kind": "label"}
RANKED = {
    "pos_scores": [9.0],
    "neg": ["n"],
    "neg_scores": [1.0],
    "pos_score_kind": "reranker",
    "neg_score_kind": "reranker",
}


@pytest.mark.parametrize(
    ("stats", "loss"),
    [
        (stats_of({}), "infonce"),
        (stats_of({"neg": ["n"]}), "infonce"),
        (stats_of(LABEL, LABEL), "cosent"),
        (stats_of(LABEL, {}), "infonce"),
        (stats_of(RANKED, RANKED | {"pos_score_kind": "judge", "neg_score_kind": "judge"}), "kl"),
        (stats_of(RANKED | {"pos_score_kind": "cosine", "neg_score_kind": "cosine"}), "infonce"),
        (stats_of(RANKED | {"pos_score_kind": None, "neg_score_kind": None}), "infonce"),
        (stats_of({"pos_scores": [9.0], "pos_score_kind": "reranker"}), "infonce"),
    ],
)
def test_the_loss_follows_from_what_every_row_carries(stats: DatasetStats, loss: str) -> None:
    assert selection.choose(None, "examples", stats)[0] == loss


def test_scores_that_are_not_used_are_told() -> None:
    _, reason = selection.choose(None, "examples", stats_of(LABEL, {}))
    assert "the scores of 1 rows are not used" in reason
    cosines = RANKED | {"pos_score_kind": "cosine", "neg_score_kind": "cosine"}
    _, reason = selection.choose(None, "examples", stats_of(cosines))
    assert "not used" not in reason


def test_scores_of_different_kinds_stand_in_no_list_together() -> None:
    row = {"query": "q", "pos": ["p"]} | RANKED | {"neg_score_kind": "cosine"}
    kl = selection.requirements("kl", "examples", None)
    assert kl.missing(row) == "without two scored documents for --loss kl"
    assert kl.missing(row | {"neg_score_kind": "reranker"}) == ""


@pytest.mark.parametrize("loss", ["kl", "margin-mse", "infonce+kl"])
@pytest.mark.parametrize(
    ("positive", "negative", "said"),
    [
        ("cosine", None, "`pos_scores` are of kind cosine, `neg_scores` are of no named kind"),
        (None, "reranker", "`pos_scores` are of no named kind, `neg_scores` are of kind reranker"),
        (
            "reranker",
            "cosine",
            "`pos_scores` are of kind reranker, `neg_scores` are of kind cosine",
        ),
    ],
)
def test_scores_of_two_kinds_are_refused_by_losses_that_compare_them(
    train: Any, rows: list[dict[str, Any]], loss: str, positive: Any, negative: Any, said: str
) -> None:
    rows[2] |= {"pos_score_kind": positive, "neg_score_kind": negative}
    done = train(rows, "--loss", loss)
    assert done.rc == 1
    assert f", row 3 (id {rows[2]['id']}): {said}, and --loss {loss} compares them" in done.err
    assert "hnmine --score-all" in done.err
    assert "another --loss" in done.err


def test_scores_without_a_kind_on_both_sides_are_a_teachers(
    train: Any, rows: list[dict[str, Any]]
) -> None:
    rows = [row | {"pos_score_kind": None, "neg_score_kind": None} for row in rows]
    done = train(rows, "--loss", "kl")
    assert done.rc == 0, done.err


def test_a_column_that_may_say_what_is_a_positive_is_refused(
    train: Any, examples: list[dict[str, Any]]
) -> None:
    rated = [row | {"teacher_score": 0.2} for row in examples]
    done = train(rated)
    assert done.rc == 1
    assert "column `teacher_score` may say which texts are positives" in done.err


def test_a_reranker_teaches_by_kl(train: Any, rows: list[dict[str, Any]], tmp_path: Path) -> None:
    done = train(rows)
    assert done.rc == 0, done.err
    assert "loss kl: every row carries scores of a reranker or judge" in done.err
    assert (
        "Loss: kl over cosines (temperature 0.05)" in (tmp_path / "tuned" / "README.md").read_text()
    )
    assert "--loss `kl`" in (tmp_path / "tuned" / "README.md").read_text()


def test_rows_without_the_scores_that_a_loss_needs_are_counted(
    train: Any, rows: list[dict[str, Any]]
) -> None:
    rows[0] |= {"neg_scores": None, "neg": None}
    rows[1] |= {"pos_scores": None, "pos_score_kind": None}
    done = train(rows, "--loss", "margin-mse")
    assert done.rc == 0, done.err
    assert "2 without a scored positive and hard negative for --loss margin-mse" in done.err


def test_labels_train_cosent_and_low_ones_are_no_positives(
    train: Any, examples: list[dict[str, Any]]
) -> None:
    rows = [
        row | {"pos_scores": [i / 11], "pos_score_kind": "label"} for i, row in enumerate(examples)
    ]
    assert "loss cosent: every row carries labels" in train(rows).err
    done = train(rows, "--loss", "infonce", "--min-pos-score", "0.5", out="floor")
    assert "6 without a positive of --min-pos-score" in done.err
    empty = dict.fromkeys(["neg", "neg_scores", "neg_score_kind"])
    infonce = selection.requirements("infonce", "examples", 0.5)
    assert infonce.missing(empty | rows[0] | {"pos_score_kind": "cosine"}) == ""
    assert selection.requirements("cosent", "examples", 0.5).missing(empty | rows[0]) == ""


OPTIONS = """
--loss triplet | --loss triplet --triplet-margin 0.5
--loss infonce | --loss infonce+kl
--loss infonce+kl | --loss infonce+kl --kl-weight 3
--loss infonce+kl | --loss infonce+kl --teacher-temperature 3
--loss infonce+kl | --loss infonce+kl --guide m --guide-margin 0.3
--loss kl | --loss kl --teacher-temperature 9
--loss kl | --loss kl --temperature 1
--loss kl | --loss margin-mse
--loss margin-mse | --loss margin-mse --teacher-temperature 2
--loss margin-mse | --loss cosent
--loss infonce | --loss simcse --temperature 0.1
--loss infonce | --loss infonce --query-negatives
--loss infonce | --loss infonce --candidates hard
--loss infonce | --loss infonce --candidates own
--loss infonce | --loss infonce --symmetric
--loss infonce | --loss infonce --guide m --guide-margin 0.3
--loss infonce --guide m --guide-margin 0.3 | --loss infonce --guide m --guide-margin 0.3 --guide-relative
--loss infonce | --loss infonce --matryoshka 3,5
--loss infonce --matryoshka 3,5 | --loss infonce --matryoshka 3,5 --matryoshka-weights 3,1
"""


@pytest.mark.parametrize("line", OPTIONS.strip().splitlines())
def test_each_option_reaches_the_loss(line: str) -> None:
    q, d, structure = scored_batch(3)
    guides = [
        torch.nn.functional.normalize(
            torch.randn(n, 3, generator=torch.Generator().manual_seed(7)), dim=1
        )
        for n in (4, 8)
    ]
    structure = replace(
        structure, guide_queries=guides[0].double(), guide_documents=guides[1].double()
    )
    values = []
    for argv in line.split(" | "):
        options = parse(cli.Options, ["--model", "m", "-o", "x", *argv.split()])
        configured = selection.configure(options, options.loss, "cosine")
        values.append(configured(q, d, structure).value.item())
        cli.check(options)
    assert values[0] != pytest.approx(values[1], rel=1e-6)
    loss = options.loss
    by_dot = selection.configure(options, loss, "dot")(q, d, structure)
    assert by_dot.value.item() != pytest.approx(values[1], rel=1e-6)


def test_dot_products_and_margins_start_at_a_temperature_of_one() -> None:
    options = parse(cli.Options, ["--model", "m"])
    assert [
        selection.temperature(options, loss, by)
        for loss, by in (("kl", "cosine"), ("kl", "dot"), ("margin-mse", "cosine"))
    ] == [
        0.05,
        1,
        1,
    ]


def test_a_guide_masks_and_its_texts_are_encoded_once(
    train: Any, rows: list[dict[str, Any]], model: str, tmp_path: Path
) -> None:
    tuned = {}
    # The model guides itself. A margin of -2 masks nothing, one of 2 all but the positive.
    for name, argv in {"none": ("-2",), "all": ("2",), "no-guide": ()}.items():
        done = train(
            rows,
            "--loss",
            "infonce",
            *(["--guide", model, "--guide-margin", *argv] if argv else []),
            out=name,
        )
        assert done.rc == 0, done.err
        tuned[name] = weights(tmp_path / name)
    assert tuned["none"] == tuned["no-guide"] != tuned["all"]


def test_the_learned_temperature_stands_in_the_card(
    train: Any, rows: list[dict[str, Any]], tmp_path: Path
) -> None:
    assert (
        train(
            rows, "--loss", "infonce", "--learn-temperature", "--temperature", "0.3", "--lr", "1e-2"
        ).rc
        == 0
    )
    card = (tmp_path / "tuned" / "README.md").read_text()
    final = float(card.split("0.3 at the start, ")[1].split(" at the end")[0])
    assert 0.01 <= final != 0.3


def test_a_matryoshka_layer_is_saved_and_starts_from_the_base_model(
    train: Any, rows: list[dict[str, Any]], tmp_path: Path, model: str
) -> None:
    from sentence_transformers import SentenceTransformer

    done = train(rows, "--matryoshka", "8,48", "--matryoshka-layer", "--lr", "1e-9")
    assert done.rc == 0, done.err
    tuned = SentenceTransformer(str(tmp_path / "tuned"), device="cpu")
    assert [type(module).__name__ for module in tuned] == [
        "Transformer",
        "Pooling",
        "Dense",
        "Normalize",
    ]
    assert tuned.get_embedding_dimension() == 48
    before = SentenceTransformer(model, device="cpu").encode(
        ["owl", "bread"], convert_to_tensor=True
    )
    after = tuned.encode(["owl", "bread"], convert_to_tensor=True)
    assert torch.allclose(before, torch.nn.functional.normalize(after[:, :32], dim=1), atol=1e-4)
    moved = train(rows, "--matryoshka", "8,48", "--matryoshka-layer", out="moved")
    assert moved.rc == 0
    layers = [
        load_file(next((tmp_path / out).glob("*_Dense/model.safetensors")))["linear.weight"]
        for out in ("tuned", "moved")
    ]
    assert (layers[0][32:] - layers[1][32:]).abs().max() > 1e-4, (
        "the numbers beyond the base model's learn too"
    )


def test_dot_products_are_of_vectors_as_they_are(
    train: Any, rows: list[dict[str, Any]], tmp_path: Path, write: Any
) -> None:
    from sentence_transformers import SentenceTransformer

    dev = write(
        tmp_path / "dev.jsonl", [{"query": row["query"], "pos": row["pos"]} for row in rows]
    )
    done = train(
        rows,
        "--loss",
        "infonce",
        "--similarity",
        "dot",
        "--eval",
        dev,
        "--json-summary",
        tmp_path / "summary.json",
    )
    assert done.rc == 0, done.err
    assert "normalising module is left out" in done.err
    tuned = SentenceTransformer(str(tmp_path / "tuned"), device="cpu")
    assert tuned.similarity_fn_name == "dot"
    queries, documents = (
        tuned.encode(texts)
        for texts in ([row["query"] for row in rows], [row["pos"][0] for row in rows])
    )
    assert (queries**2).sum(1).max() > 1.5
    scores = queries @ documents.T
    rank = (scores > scores.diagonal()[:, None]).sum(1) + 1
    summary = json.loads((tmp_path / "summary.json").read_text())["measures"]
    assert summary["mrr_at_10"] == pytest.approx((1 / rank * (rank <= 10)).mean(), abs=0.03)


# --- texts ---------------------------------------------------------------------------------------


def test_texts_train_simcse(train: Any, corpus: list[dict[str, Any]], tmp_path: Path) -> None:
    done = train(corpus, out="one")
    assert done.rc == 0, done.err
    assert "loss simcse: texts are given" in done.err
    assert "12 in, 8 out (4 not reached by --steps)" in done.err
    assert train(corpus, "--dropout", "0.4", out="two").rc == 0
    assert weights(tmp_path / "one") != weights(tmp_path / "two")


def test_two_views_are_two_texts_in_the_batch() -> None:
    from contrast_train.data.collator import ContrastCollator
    from contrast_train.data.dataset import TrainingExample, text_key

    rows = [
        TrainingExample(
            row=i,
            query=text,
            ids={},
            known_texts=frozenset({text_key(text)}),
            known_ids=frozenset(),
        )
        for i, text in enumerate(["a", "b", "A"])
    ]
    collate = ContrastCollator(
        tokenize=lambda texts, length: [[ord(text[0])] for text in texts], views=True
    )
    batch = collate(rows)
    assert batch["texts_input_ids"].tolist() == [97, 98, 65, 97, 98, 65]
    assert batch["texts_positive_pairs"].tolist() == [[0, 0], [1, 1], [2, 2]]
    assert sorted(map(tuple, batch["texts_masked_pairs"].tolist())) == [
        (0, 0),
        (0, 2),
        (1, 1),
        (2, 0),
        (2, 2),
    ]


def test_views_need_dropout(train: Any, corpus: list[dict[str, Any]], tmp_path: Path) -> None:
    from conftest import build_model

    assert "--dropout 0 makes the two views" in train(corpus, "--dropout", "0").err
    dry = build_model(tmp_path / "dry", hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    assert "drops no activations" in train(corpus, base=dry).err


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ("--loss simcse", "simcse was given examples"),
        ("--loss kl --symmetric", "--symmetric has no meaning with --loss kl"),
        ("--loss triplet --learn-temperature", "--learn-temperature has no meaning"),
        ("--loss triplet --temperature 1", "--temperature has no meaning"),
        ("--triplet-margin 0.4", "--triplet-margin has no meaning with --loss kl"),
        ("--guide-margin 0.1", "pass --guide MODEL"),
        ("--matryoshka-layer", "pass --matryoshka"),
        ("--matryoshka 8,64", "add --matryoshka-layer"),
        ("--matryoshka 8,16 --matryoshka-weights 1", "has 1 numbers for 2 dimensions"),
    ],
)
def test_options_that_a_loss_does_not_read_are_refused(
    train: Any, rows: list[dict[str, Any]], argv: str, message: str
) -> None:
    done = train(rows, *argv.split())
    assert done.rc == 2
    assert message in done.err


# --- prompts in pooling --------------------------------------------------------------------------


def test_prompt_tokens_out_of_pooling_train_the_vectors_that_are_used(
    train: Any, rows: list[dict[str, Any]], tmp_path: Path
) -> None:
    from sentence_transformers import SentenceTransformer

    prompts = ("--query-prompt", "how is bread made: ", "--doc-prompt", "iron: ")
    assert train(rows, *prompts, "--lr", "0", out="in").rc == 0
    done = train(
        rows,
        *prompts,
        "--prompt-pooling",
        "exclude",
        "--json-summary",
        tmp_path / "s.json",
        out="out",
    )
    assert done.rc == 0, done.err
    assert weights(tmp_path / "in") != weights(tmp_path / "out")
    tuned = SentenceTransformer(str(tmp_path / "out"), device="cpu")
    assert tuned[1].include_prompt is False
    dev = [{"query": row["query"], "pos": row["pos"]} for row in rows]
    again = train(
        dev,
        "--eval",
        tmp_path / "train.parquet",
        "--lr",
        "0",
        "--json-summary",
        tmp_path / "s.json",
        out="more",
        base=str(tmp_path / "out"),
    )
    assert again.rc == 0, again.err
    queries, documents = (
        tuned.encode_query([row["query"] for row in rows]),
        tuned.encode_document([row["pos"][0] for row in rows]),
    )
    scores = queries @ documents.T
    rank = (scores > scores.diagonal()[:, None]).sum(1) + 1
    mrr = json.loads((tmp_path / "s.json").read_text())["measures"]["mrr_at_10_before"]
    assert mrr == pytest.approx((1 / rank * (rank <= 10)).mean(), abs=0.03)


def test_the_objective_gives_the_vectors_of_a_model_that_leaves_prompts_out(model: str) -> None:
    from contrast_train.data.collator import ContrastCollator
    from contrast_train.model import backbone
    from contrast_train.model.head import set_prompt_pooling
    from contrast_train.training.objective import ContrastObjective

    argv = [
        "--model",
        model,
        "-o",
        "x",
        "--dtype",
        "float32",
        "--query-prompt",
        "how is it: ",
        "--doc-prompt",
        "iron ",
    ]
    loaded = backbone.load(parse(cli.Options, argv))
    set_prompt_pooling(loaded.model, "exclude")
    collate: ContrastCollator = loaded.collator()
    assert collate.prompt_tokens is not None
    tokens = loaded.tokenize(["how is it: owl bread", "iron chess"], 64)
    vectors = ContrastObjective(loaded.model, lambda *arguments: None).embed_all(
        tokens,
        torch.device("cpu"),
        loaded.prompt_tokens([("how is it: ", "owl bread"), ("iron ", "chess")]),
    )
    wanted = [
        loaded.model.encode(text, prompt=prompt, convert_to_tensor=True)
        for text, prompt in (("owl bread", "how is it: "), ("chess", "iron "))
    ]
    assert torch.allclose(vectors, torch.stack(wanted), atol=1e-6)
    assert not torch.allclose(
        vectors[0], loaded.model.encode("how is it: owl bread", convert_to_tensor=True), atol=1e-2
    )
