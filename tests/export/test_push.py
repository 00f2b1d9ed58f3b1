"""Uploads to a stand-in of the hub: models, exports and rows; what is refused, and what a dry run sends."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hub_uploads import TOKEN, HubUploads
from huggingface_hub import DatasetCard, constants

from fletching_export import cli

pytestmark = pytest.mark.slow  # as a whole: builds a model


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The stand-in, where this process's hub client finds it: it reads the environment once."""
    with HubUploads() as hub:
        monkeypatch.setattr(constants, "ENDPOINT", hub.url)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield hub


@pytest.fixture
def push(invoke: Any) -> Any:
    return lambda *argv: invoke(cli.main, *argv)


@pytest.fixture
def tuned(model: str, tmp_path: Path) -> Path:
    folder = tmp_path / "tuned"
    shutil.copytree(model, folder)
    (folder / "README.md").write_text('---\nlicense: mit\n---\n\nSentenceTransformer("tuned")\n')
    for name in ("report.html", "verdict.json", ".hidden"):
        (folder / name).write_text("rows and paths")
    return folder


def test_a_model_goes_to_a_private_repository(
    hub: Any, push: Any, tuned: Path, tmp_path: Path
) -> None:
    line = [tuned, "--push", "me/faq", "--json-summary", tmp_path / "s.json"]
    done = push(*line)
    assert done.rc == 0, done.err
    files = hub.repositories["model", "me/faq"]
    assert files["model.safetensors"] == (tuned / "model.safetensors").read_bytes()
    assert files["1_Pooling/config.json"]
    assert not {"report.html", "verdict.json", ".hidden"} & set(files)
    assert "left out, since they quote rows or name paths: report.html, verdict.json" in done.err
    assert b'SentenceTransformer("me/faq")' in files["README.md"]
    assert '("tuned")' in (tuned / "README.md").read_text(), "the folder stays as it was"
    assert hub.private["model", "me/faq"]
    assert json.loads((tmp_path / "s.json").read_text())["measures"]["commit"].startswith(hub.url)
    again = push(*line[:3], "--public")
    assert again.rc == 0 and hub.private["model", "me/faq"], "a repository stays what it is"


def test_rows_become_a_data_set_with_a_card(
    hub: Any, push: Any, tmp_path: Path, write: Any, examples: Any
) -> None:
    rows = write(tmp_path / "faq.jsonl", examples)
    line = [rows, "--push", "me/faq", "--license", "cc-by-4.0", "--public"]
    done = push(*line)
    assert done.rc == 0, done.err
    assert not hub.private["dataset", "me/faq"]
    files = hub.repositories["dataset", "me/faq"]
    table = pq.read_table(io.BytesIO(files["data/faq.parquet"]))
    assert table["query"].to_pylist() == [row["query"] for row in examples]
    card = DatasetCard(files["README.md"].decode())
    assert card.data.license == "cc-by-4.0"
    assert card.data.size_categories == ["n<1K"]
    [config] = card.data.to_dict()["configs"]
    assert config["data_files"] == [{"split": "train", "path": "data/faq.parquet"}]
    assert f"{len(examples)} rows" in card.text and "| query | `string` |" in card.text


def test_a_dry_run_sends_nothing_and_needs_no_token(
    hub: Any, push: Any, tuned: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "")
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tuned / "no-token"))
    done = push(tuned, "--push", "me/faq", "--dry-run")
    assert done.rc == 0, done.err
    assert hub.requests == []
    text = done.out.decode()
    assert "model me/faq" in text and "model.safetensors" in text and "license: mit" in text
    size = (tuned / "model.safetensors").stat().st_size
    assert f"{size:,}  model.safetensors" in text
    refused = push(tuned, "--push", "me/faq")
    assert refused.rc == 1 and "no token of the hub" in refused.err and hub.requests == []


def test_a_refused_token_and_foreign_rows_are_one_error(
    hub: Any, push: Any, tuned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_other")
    done = push(tuned, "--push", "me/faq")
    assert done.rc == 1 and "refuses to write to me/faq (401)" in done.err
    assert "hf_other" not in done.err
    (tmp_path / "other.jsonl").write_text('{"a": 1}\n')
    line = [tmp_path / "other.jsonl", "--push", "me/faq", "--dry-run"]
    done = push(*line)
    assert done.rc == 1 and "fix:" in done.err
