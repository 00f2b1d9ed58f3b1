"""Model folders that carry code: nothing of it runs, and the command says what it will not load."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from suite import call

pytestmark = pytest.mark.slow  # as a whole: each test loads a model

# What the code of a folder would do: a file appears.
CODE = """\
import os
open(os.environ["MARK"], "w").close()
from transformers import BertConfig, BertModel, BertTokenizer
class Evil(BertModel): pass
class EvilConfig(BertConfig): model_type = "evil"
class EvilTokenizer(BertTokenizer): pass
class EvilModule:
    @classmethod
    def load(cls, *args, **kwargs): raise SystemExit(0)
"""


class Bomb:
    """Unpickled, it runs a command."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.system, ('touch "$MARK"',))


def edit(path: Path, **changes: Any) -> None:
    """Change keys of a JSON object."""
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def own_architecture(folder: Path) -> None:
    maps = {"AutoConfig": "evil.EvilConfig", "AutoModel": "evil.Evil"}
    edit(folder / "config.json", model_type="evil", auto_map=maps)


def own_tokenizer(folder: Path) -> None:
    maps = {"AutoTokenizer": ["evil.EvilTokenizer", None]}
    edit(folder / "tokenizer_config.json", tokenizer_class="EvilTokenizer", auto_map=maps)
    (folder / "tokenizer.json").unlink()


def own_module(folder: Path) -> None:
    modules = json.loads((folder / "modules.json").read_text())
    modules[1]["type"] = "evil.EvilModule"
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling" / "evil.py").write_text(CODE)


def a_function_as_module(folder: Path) -> None:
    modules = json.loads((folder / "modules.json").read_text())
    modules[1] |= {"type": "os.system", "path": 'touch "$MARK"'}
    (folder / "modules.json").write_text(json.dumps(modules))


def pickled_weights(folder: Path) -> None:
    import torch

    torch.save({"embeddings.word_embeddings.weight": Bomb()}, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def weights_elsewhere(folder: Path) -> None:
    """An index of shards that names a pickle."""
    pickled_weights(folder)
    shards = {
        "metadata": {},
        "weight_map": {"embeddings.word_embeddings.weight": "pytorch_model.bin"},
    }
    (folder / "model.safetensors.index.json").write_text(json.dumps(shards))


def a_module_that_is_pickled(folder: Path) -> None:
    """sentence-transformers reads pytorch_model.bin of a Dense module."""
    import torch

    modules = json.loads((folder / "modules.json").read_text())
    kind = "sentence_transformers.models.Dense"
    modules.append({"idx": 3, "name": "3", "path": "3_Dense", "type": kind})
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "3_Dense").mkdir()
    config = {"in_features": 32, "out_features": 8, "bias": True}
    (folder / "3_Dense" / "config.json").write_text(json.dumps(config))
    torch.save({"linear.weight": Bomb()}, folder / "3_Dense" / "pytorch_model.bin")


def prompts_that_are_no_texts(folder: Path) -> None:
    edit(folder / "config_sentence_transformers.json", prompts={"query": {"a": 1}})


HOSTILE: list[Callable[[Path], None]] = [
    own_architecture,
    own_tokenizer,
    own_module,
    a_function_as_module,
    pickled_weights,
    weights_elsewhere,
    a_module_that_is_pickled,
    prompts_that_are_no_texts,
]


def score(folder: Path, rows: str, *more: str) -> Any:
    """simfilter by the model; its code would make the file `ran` beside the folder."""
    out = folder.with_name("out.jsonl")
    line = ["simfilter", rows, "--model", str(folder), "--score-only", "-o", str(out), *more]
    return call(line, env={"MARK": str(folder.with_name("ran"))}, cwd=folder)


@pytest.mark.parametrize("change", HOSTILE, ids=lambda change: change.__name__)
def test_no_code_of_a_model_folder_runs(
    change: Callable[[Path], None], model: str, tmp_path: Path, examples: Any, write: Any
) -> None:
    folder = tmp_path / "hostile"
    shutil.copytree(model, folder)
    (folder / "evil.py").write_text(CODE)
    change(folder)
    done = score(folder, write(tmp_path / "in.jsonl", examples))
    assert not (tmp_path / "ran").exists()
    assert done.rc in (1, 2), done.err
    assert "Traceback" not in done.err
    assert "unexpected failure" not in done.err
    [what, fix] = done.err.splitlines()[-2:]
    assert what.startswith("simfilter: ")
    assert fix.startswith("  fix: ")
    assert not (tmp_path / "out.jsonl").exists()


def test_the_code_would_run_where_it_is_trusted(
    model: str, tmp_path: Path, examples: Any, write: Any
) -> None:
    """Without this, code that never runs would pass."""
    folder = tmp_path / "hostile"
    shutil.copytree(model, folder)
    (folder / "evil.py").write_text(CODE)
    own_architecture(folder)
    score(folder, write(tmp_path / "in.jsonl", examples), "--trust-remote-code")
    assert (tmp_path / "ran").exists()
