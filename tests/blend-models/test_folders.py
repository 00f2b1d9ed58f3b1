"""blend-models over real folders: what comes out, what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import build_model
from safetensors.torch import load_file, save_file

from blend_models import cli
from fletching import training_index
from fletching.training_index import TrainingIndex

pytestmark = pytest.mark.slow  # as a whole: builds and loads models

WEIGHTS = "model.safetensors"


@pytest.fixture
def models(model: str, tmp_path: Path) -> list[Path]:
    """Two models of one architecture with other weights."""
    first, second = tmp_path / "first", tmp_path / "second"
    shutil.copytree(model, first)
    shutil.copytree(model, second)
    tensors = load_file(second / WEIGHTS)
    save_file({name: tensor + 0.25 for name, tensor in tensors.items()}, second / WEIGHTS)
    return [first, second]


@pytest.fixture
def blend(invoke: Any, tmp_path: Path) -> Any:
    def blend(*argv: Any, out: str = "soup") -> Any:
        return invoke(cli.main, *argv, "-o", tmp_path / out)

    return blend


def test_the_mean_of_two_models_is_a_model(blend: Any, models: list[Path], tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer

    done = blend(*models)
    assert done.rc == 0, done.err
    assert "mean of 0.5 first, 0.5 second" in done.err
    one, two, soup = (load_file(path / WEIGHTS) for path in (*models, tmp_path / "soup"))
    assert all((soup[name] == one[name] * 0.5 + two[name] * 0.5).all() for name in one)
    loaded = SentenceTransformer(str(tmp_path / "soup"), device="cpu")
    assert np.linalg.norm(loaded.encode("an owl")) == pytest.approx(1, abs=1e-5)
    card = (tmp_path / "soup/README.md").read_text()
    assert "| `first` | 0.5 |" in card and "Wortsman" in card
    step = json.loads((tmp_path / "soup/fletching.json").read_text())["step"]
    assert step["tool"] == "blend-models" and step["options"]["weights"] == [1.0, 1.0]
    assert len(set(step["options"]["models"])) == 2
    assert str(tmp_path) not in json.dumps(step)
    again = blend(*models, out="again")
    assert again.rc == 0
    for name in (WEIGHTS, "fletching.json", "config.json"):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "soup" / name).read_bytes()


@pytest.mark.parametrize("how", ["mean", "slerp"])
def test_all_weight_on_one_model_gives_its_tensors(
    blend: Any, models: list[Path], tmp_path: Path, how: str
) -> None:
    assert blend(*models, "--weights", "1,0", "--how", how).rc == 0
    one, soup = (load_file(path / WEIGHTS) for path in (models[0], tmp_path / "soup"))
    assert one.keys() == soup.keys() and all((one[name] == soup[name]).all() for name in one)


def test_lineage_and_what_was_trained_on_are_those_of_all(
    blend: Any, models: list[Path], tmp_path: Path
) -> None:
    import pyarrow as pa

    for number, path in enumerate(models):
        node = {"tool": "contrast-train", "version": "0.1.0", "options": {"seed": number}}
        (path / "fletching.json").write_text(
            json.dumps({"step": node, "end": {"trained": {"pooling": "mean"}}})
        )
        index = TrainingIndex()
        index.add(pa.array([f"text {number}"]))
        index.save(str(path))
        (path / "measures.parquet").write_text("of this model alone")
    assert blend(*models).rc == 0
    document = json.loads((tmp_path / "soup/fletching.json").read_text())
    assert [step["options"]["seed"] for step in document["step"]["from"]] == [0, 1]
    assert document["end"] == {"trained": {"pooling": "mean"}}
    card = (tmp_path / "soup/README.md").read_text()
    assert card.count("| contrast-train |") == 2 and "| blend-models |" in card
    merged = training_index.load(str(tmp_path / "soup"))
    assert merged is not None and len(merged.whole) == 2
    assert not (tmp_path / "soup/measures.parquet").exists()


def change(path: Path, file: str, **values: Any) -> None:
    content = json.loads((path / file).read_text())
    (path / file).write_text(json.dumps(content | values))


@pytest.mark.parametrize(
    ("file", "values", "said"),
    [
        ("1_Pooling/config.json", {"pooling_mode": "cls"}, "module 1 (Pooling): `pooling_mode"),
        ("tokenizer.json", None, "tokenizer: `model.vocab.bees` is "),
        (
            "config.json",
            {"hidden_act": "relu", "transformers_version": "0"},
            'config: `hidden_act` is "gelu" in the first and "relu" in the second',
        ),
        (
            "config_sentence_transformers.json",
            {"similarity_fn_name": "dot"},
            'similarity is "cosine" in the first and "dot" in the second',
        ),
    ],
)
def test_other_settings_are_refused_by_the_key_that_differs(
    blend: Any,
    models: list[Path],
    tmp_path: Path,
    file: str,
    values: dict[str, Any] | None,
    said: str,
) -> None:
    content = json.loads((models[1] / file).read_text())
    if values is None:
        vocabulary = content["model"]["vocab"]
        vocabulary["owl"], vocabulary["bees"] = vocabulary["bees"], vocabulary["owl"]
    (models[1] / file).write_text(json.dumps(content | (values or {})))
    done = blend(*models)
    assert done.rc == 1 and said in done.err, done.err
    assert "are no blend" in done.err and not (tmp_path / "soup").exists()


def test_folders_that_other_versions_wrote_are_one_architecture(
    blend: Any, models: list[Path], tmp_path: Path
) -> None:
    """sentence-transformers 2 to 5 name modules and poolings in other words."""
    kinds = ("Transformer", "Pooling", "Normalize")
    for position, kind in enumerate(kinds):
        modules = json.loads((models[0] / "modules.json").read_text())
        modules[position]["type"] = f"sentence_transformers.models.{kind}"
        (models[0] / "modules.json").write_text(json.dumps(modules))
    config = json.loads((models[0] / "config.json").read_text())
    del config["layer_norm_eps"]  # its default
    (models[0] / "config.json").write_text(json.dumps(config))
    done = blend(*models)
    assert done.rc == 0, done.err


def test_another_architecture_is_refused(blend: Any, models: list[Path], tmp_path: Path) -> None:
    wide = build_model(tmp_path / "wide", hidden_size=64)
    done = blend(models[0], wide)
    assert done.rc == 1
    assert "`hidden_size` is 32 in the first and 64 in the second" in done.err


def test_prompts_of_the_first_model_are_taken_and_it_is_said(
    blend: Any, models: list[Path], tmp_path: Path
) -> None:
    change(models[1], "config_sentence_transformers.json", prompts={"query": "find: "})
    done = blend(*models)
    assert done.rc == 0, done.err
    assert "in the first model, which is taken" in done.err and "find: " in done.err


@pytest.mark.parametrize(
    ("argv", "code", "message"),
    [
        ("first", 2, "1 models leave nothing to blend"),
        ("first second --weights 1", 2, "--weights has 1 numbers for 2 models"),
        ("first second --weights 0,0", 2, "--weights are all zero"),
        ("first nowhere", 1, "is no folder"),
        ("first empty", 1, "holds no model"),
        ("first adapter", 1, "holds an adapter"),
        ("first bare", 1, "the model"),
        ("first cut", 1, "the model"),
        ("first diverged", 1, "is not finite"),
    ],
)
def test_what_cannot_be_blended_is_refused(
    blend: Any, models: list[Path], tmp_path: Path, argv: str, code: int, message: str
) -> None:
    (tmp_path / "empty").mkdir()
    for name in ("adapter", "bare", "cut", "diverged"):
        if name in argv:
            shutil.copytree(models[1], tmp_path / name)
    if "adapter" in argv:
        (tmp_path / "adapter/adapter_config.json").write_text("{}")
    if "bare" in argv:
        (tmp_path / "bare" / WEIGHTS).unlink()
    if "cut" in argv:
        path = tmp_path / "cut" / WEIGHTS
        path.write_bytes(path.read_bytes()[:40])
    if "diverged" in argv:
        tensors = load_file(models[1] / WEIGHTS)
        tensors["embeddings.LayerNorm.bias"][0] = float("nan")
        save_file(tensors, tmp_path / "diverged" / WEIGHTS)
    words = [tmp_path / word if word[0].isalpha() else word for word in argv.split()]
    done = blend(*words)
    assert done.rc == code, done.err
    assert message in done.err
    assert not (tmp_path / "soup").exists()


CODE = """
from sentence_transformers.sentence_transformer.modules import Normalize

class Loud(Normalize):
    def __init__(self, **settings):
        super().__init__(**settings)
        print("code of the model ran")
"""


def test_code_of_a_model_runs_on_demand_alone_and_is_in_the_blend(
    blend: Any, models: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules")
    )
    for path in models:
        (path / "loud.py").write_text(CODE)
        modules = json.loads((path / "modules.json").read_text())
        modules[-1]["type"] = "loud.Loud"
        (path / "modules.json").write_text(json.dumps(modules))
    refused = blend(*models)
    assert refused.rc == 1 and "--trust-remote-code" in refused.err
    assert b"code of the model ran" not in refused.out
    done = blend(*models, "--trust-remote-code")
    assert done.rc == 0, done.err
    assert (tmp_path / "soup/loud.py").read_text() == CODE


def test_a_folder_that_is_there_is_left_alone(
    blend: Any, models: list[Path], tmp_path: Path
) -> None:
    (tmp_path / "soup").mkdir()
    (tmp_path / "soup/mine").write_text("x")
    done = blend(*models)
    assert done.rc == 1 and "exists already" in done.err
    assert (tmp_path / "soup/mine").read_text() == "x"
