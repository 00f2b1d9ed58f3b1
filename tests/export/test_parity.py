"""The graphs of tiny models beside torch: every pooling, head and padding to 1e-4; the command as a user runs it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnxscript")
pytest.importorskip("onnxruntime")
pytest.importorskip("openvino")
pytest.importorskip("nncf")

from suite import call

TEXTS = [
    "The owl hunts at night.",
    "iron",
    "Where do owls live and what do they eat? " * 9,
    "",
    "a b",
]
pytestmark = pytest.mark.slow  # as a whole: torch's exporter takes seconds a model


def torch_vectors(folder: str, texts: list[str], **settings: Any) -> Any:
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(folder, device="cpu").encode(texts, prompt="", **settings)


def traced_vectors(source: str, folder: Path, texts: list[str], cut: int | None = None) -> Any:
    """By ONNX Runtime alone, from the files of an export, one by one and in one padded batch."""
    from fletching_export import graph, tokenization
    from fletching_export.runtimes.onnx_format import OnnxFormat

    model = graph.load_exportable(source)
    traced = graph.trace(model, source, cut)
    OnnxFormat().write(traced, str(folder), "float32")
    tokenization.portable_tokenizer(model, source).save(str(folder / "tokenizer.json"))
    tokenize = tokenization.TokenizerFile(str(folder), traced.names)
    session = OnnxFormat().open(str(folder), 1)
    batch = session(tokenize(texts))
    single = np.concatenate([session(tokenize([text])) for text in texts])
    assert np.allclose(batch, single, atol=1e-5), "padding changes no vector"
    return batch


def test_the_first_token_a_dense_head_and_a_cut(pipeline: Any, tmp_path: Path) -> None:
    from sentence_transformers.sentence_transformer.modules import Dense, Normalize

    source = pipeline("modernbert", "cls", Dense(32, 24), Normalize())
    texts = TEXTS[:3]
    got = traced_vectors(source, tmp_path, texts, cut=8)
    expected = torch_vectors(source, texts, truncate_dim=8, normalize_embeddings=True)
    assert got.shape == (3, 8)
    assert np.abs(got - expected).max() < 1e-4
    assert np.allclose(np.linalg.norm(got, axis=1), 1, atol=1e-5)


def test_the_last_token_of_a_decoder_that_pads_on_the_left(pipeline: Any, tmp_path: Path) -> None:
    source = pipeline("qwen3", "lasttoken", side="left")
    texts = TEXTS[:3]
    got = traced_vectors(source, tmp_path, texts)
    assert np.abs(got - torch_vectors(source, texts)).max() < 1e-4


def test_static_embeddings_leave_special_tokens_and_padding_out(
    static_model: str, tmp_path: Path
) -> None:
    got = traced_vectors(static_model, tmp_path, TEXTS)
    assert np.abs(got - torch_vectors(static_model, TEXTS)).max() < 1e-4
    assert not got[TEXTS.index("")].any()


# --- the command ---------------------------------------------------------------------------------


def test_an_export_is_loaded_by_its_own_card(
    model: str, tmp_path: Path, write: Any, examples: Any
) -> None:
    """float16 and int8 by the same command; what the card shows is run as it stands."""
    rows = write(tmp_path / "held-out.parquet", examples)
    out = tmp_path / "out"
    line = ["fletching-export", model, "--to", "onnx", "--examples", f"own={rows}", "-o", out]
    done = call([*line, "--min-cosine", "0.9999", "--json-summary", tmp_path / "s.json"])
    assert done.rc == 0, done.err
    settings = json.loads((out / "fletching_export.json").read_text())
    summary = json.loads((tmp_path / "s.json").read_text())
    assert settings["parity"] == summary["measures"]
    [task] = settings["parity"]["retrieval"]
    assert task["task"] == "own" and task["queries"] == len(examples)
    assert task["low"] <= task["change"] <= task["high"] and abs(task["change"]) < 1e-6
    text = (out / "README.md").read_text()
    assert "own (" in text and "95 % interval" in text and "own (" in done.out.decode()
    code = text.split("```python\n")[1].split("```")[0]
    namespace: dict[str, Any] = {}
    before = os.getcwd()
    os.chdir(out)
    try:
        exec(compile(code, "card", "exec"), namespace)
    finally:
        os.chdir(before)
    expected = torch_vectors(model, ["How do I reset my password?"])
    assert np.abs(namespace["vectors"] - expected).max() < 1e-4
    assert not list(out.rglob("*.safetensors")) and (out / "1_Pooling/config.json").exists()
    assert json.loads((out / "fletching.json").read_text())["step"]["options"]["to"] == "onnx"


@pytest.fixture(scope="module")
def traced(model: str) -> Any:
    from fletching_export import graph

    loaded = graph.load_exportable(model)
    return loaded, graph.trace(loaded, model, None)


@pytest.mark.parametrize("format", ["onnx", "openvino"])
@pytest.mark.parametrize(
    ("dtype", "least"), [("float32", 1 - 1e-6), ("float16", 0.9999), ("int8", 0.97)]
)
def test_number_types_lose_what_they_may(
    traced: Any, tmp_path: Path, model: str, format: str, dtype: str, least: float
) -> None:
    from fletching_export import tokenization
    from fletching_export.runtimes.registry import load_format

    loaded, program = traced
    writer = load_format(format)
    writer.write(program, str(tmp_path), dtype)
    tokenization.portable_tokenizer(loaded, model).save(str(tmp_path / "tokenizer.json"))
    tokens = tokenization.TokenizerFile(str(tmp_path), program.names)(TEXTS)
    got = writer.open(str(tmp_path), 1)(tokens)
    cosines = (got * torch_vectors(model, TEXTS)).sum(1) / np.linalg.norm(got, axis=1)
    assert cosines.min() >= least
    left = sorted(path.suffix for path in (tmp_path / format).iterdir())
    assert left == ([".onnx"] if format == "onnx" else [".bin", ".xml"])


def test_a_gate_that_is_missed_leaves_the_folder_and_exit_code_1(
    traced: Any, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, invoke: Any
) -> None:
    from fletching_export import cli, graph, speed

    monkeypatch.setattr(graph, "trace", lambda *words: traced[1])
    monkeypatch.setattr(speed, "SECONDS", 0.01)
    line = [model, "--to", "onnx", "--dtype", "int8", "--min-cosine", "1", "--push", "me/it"]
    monkeypatch.setenv("HF_TOKEN", "none")
    done = invoke(cli.main, *line, "-o", tmp_path / "out")
    assert done.rc == 1
    assert "is below --min-cosine 1: " in done.err
    assert "int8 loses precision" in (tmp_path / "out/README.md").read_text()


def test_what_cannot_be_exported_is_one_error(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    from fletching.errors import InputError
    from fletching_export import graph

    loaded = graph.load_exportable(model)

    def stop(*words: Any, **settings: Any) -> None:
        raise RuntimeError("no line") from ValueError("odd attention\nand more")

    monkeypatch.setattr(torch.onnx, "export", stop)
    with pytest.raises(InputError, match=r"\(bert\) cannot be exported: .* ValueError: odd att"):
        graph.trace(loaded, "tuned", None)
    settings = tmp_path / "model"
    loaded.save(str(settings), create_model_card=False)
    pooling = settings / "1_Pooling/config.json"
    pooling.write_text(json.dumps(json.loads(pooling.read_text()) | {"include_prompt": False}))
    config = settings / "config_sentence_transformers.json"
    prompts = json.loads(config.read_text()) | {"prompts": {"query": "query: "}}
    config.write_text(json.dumps(prompts))
    with pytest.raises(InputError, match="leaves the tokens of its prompts out of pooling"):
        graph.load_exportable(str(settings))
