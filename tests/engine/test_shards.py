"""fletching shard, status and join: what xargs or Slurm run, what is missing, and what does not fit."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from engine_runs import LINE, ended, start

from fletching import cli
from fletching.options import describe
from fletching.parsing import parse
from fletching.shards.commands import TOOLS
from fletching.shards.words import command_words, shard_of

pytestmark = pytest.mark.slow  # as a whole: each test starts several commands
RECIPES = Path(__file__).parents[2] / "examples" / "cluster"


@pytest.fixture(scope="session")
def shared_shards(shared_inputs: Path) -> Path:
    """Shards that the recipe for xargs ran, and joined."""
    recipe = ["bash", str(RECIPES / "shell/xargs.sh"), "corpus.jsonl", "vectors.parquet", "3", "2"]
    code, out, err = ended(recipe, shared_inputs, OPTIONS="--vectors v.jsonl -q")
    assert code == 0, err
    assert "3 done, 0 running, 0 failed, 0 missing" in out
    return shared_inputs / "vectors.parquet.shards"


@pytest.fixture
def shards(shared_shards: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "shards"
    folder.mkdir()
    for path in shared_shards.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


@pytest.fixture
def call(invoke: Any) -> Any:
    """call("status", folder): `fletching status` in this process."""

    def call(name: str, *words: Any) -> Any:
        return invoke(lambda argv: cli.main(TOOLS[name], argv), *words)

    return call


def state_of(call: Any, folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(call("status", folder, "--json").out)
    return content


def test_shards_that_xargs_ran_are_joined_to_the_bytes_of_one_run(
    call: Any, shards: Path, shared_inputs: Path
) -> None:
    done = call("status", shards)
    assert done.rc == 0
    assert "3 shards of texts2vectors: 3 done, 0 running, 0 failed, 0 missing" in done.text
    whole = (shared_inputs / "whole.parquet").read_bytes()
    assert (shared_inputs / "vectors.parquet").read_bytes() == whole


def test_outputs_that_the_tool_itself_wrote_need_no_record(
    call: Any, shards: Path, shared_inputs: Path
) -> None:
    for path in shards.iterdir():
        if path.suffix != ".parquet":
            path.unlink()
    (shards / "00001-of-00003.parquet").rename(shards / "second.parquet")
    assert call("status", shards).rc == 0
    assert call("join", shards, "-o", shards.parent / "o.parquet").rc == 0
    whole = (shared_inputs / "whole.parquet").read_bytes()
    assert (shards.parent / "o.parquet").read_bytes() == whole


def test_a_missing_shard_is_named_by_status_and_by_join(call: Any, shards: Path) -> None:
    for path in shards.glob("00001*"):
        path.unlink()
    content = state_of(call, shards)
    assert [entry["state"] for entry in content["shards"]] == ["done", "missing", "done"]
    assert content["complete"] is False and content["missing"] == 1
    refused = call("join", shards, "-o", shards.parent / "o.parquet")
    assert refused.rc == 1 and not (shards.parent / "o.parquet").exists()
    assert "of 3 shards in" in refused.err and "1 are not done: 1/3" in refused.err


def test_a_marker_without_its_file_is_refused(call: Any, shards: Path) -> None:
    (shards / "00001-of-00003.parquet").unlink()
    assert call("status", shards).rc == 1
    refused = call("join", shards, "-o", shards.parent / "o.parquet")
    assert refused.rc == 1
    assert "00001-of-00003.json says done, but" in refused.err
    assert "00001-of-00003.parquet is not there" in refused.err


def other_shard(folder: Path, *options: str, shard: str = "1/3") -> None:
    """Shard 1 anew, made by hand with other options."""
    for path in folder.glob("00001*"):
        path.unlink()
    out = folder / "other.parquet"
    line = [*LINE, *options, "-q", "--shard", shard, "-o", str(out)]
    code, _, err = ended(line, folder.parent)
    assert code == 0, err


@pytest.mark.parametrize(
    ("options", "shard", "reason"),
    [
        (("--vector-type", "float16"), "1/3", "has --vector-type float16, otherwise than float32"),
        (("--limit", "8999"), "1/3", "has --limit 8999, otherwise than absent of"),
        ((), "1/4", "is shard 1/4, and others are of 3"),
        ((), "2/3", "are both shard 2/3"),
    ],
)
def test_shards_of_other_options_are_refused_by_name(
    call: Any, shards: Path, inputs: Path, options: tuple[str, ...], shard: str, reason: str
) -> None:
    other_shard(shards, *options, shard=shard)
    shown = call("status", shards)
    assert shown.rc == 1 and reason in shown.text and "other.parquet" in shown.text
    refused = call("join", shards, "-o", inputs / "o.parquet")
    assert refused.rc == 1 and reason in refused.err


def test_a_shard_of_another_model_and_one_of_another_input_are_refused(
    call: Any, shards: Path, inputs: Path
) -> None:
    import pyarrow.parquet as pq

    from fletching import lineage

    path = shards / "00001-of-00003.parquet"
    table, end = pq.read_table(path), pq.ParquetFile(path).metadata.metadata[lineage.END_KEY]
    for name, change in {
        "--model": lambda node: node["options"].update(model="another"),
        "inputs": lambda node: node.update({"from": [{"tool": "csv2pairs"}]}),
    }.items():
        stamp = lineage.read(table.schema.metadata)
        change(stamp["step"])
        changed = table.replace_schema_metadata({lineage.KEY: lineage.dump(stamp)})
        with pq.ParquetWriter(path, changed.schema, write_page_checksum=True) as out:
            out.write_table(changed)
            out.add_key_value_metadata({lineage.END_KEY: end})
        refused = call("join", shards, "-o", inputs / "o.parquet")
        assert refused.rc == 1 and f"has {name} " in refused.err


def test_files_that_are_cut_or_no_shards_are_refused(call: Any, shards: Path, inputs: Path) -> None:
    path = shards / "00001-of-00003.parquet"
    content = path.read_bytes()
    path.write_bytes(content[:-50])
    assert "00001-of-00003.parquet is cut" in call("join", shards, "-o", inputs / "o.parquet").err
    path.write_bytes(content)
    (shards / "whole.parquet").write_bytes((inputs / "whole.parquet").read_bytes())
    refused = call("join", shards, "-o", inputs / "o.parquet")
    assert "whole.parquet is no shard" in refused.err
    (inputs / "empty").mkdir()
    assert "holds no shards" in call("status", inputs / "empty").err
    assert "is no folder" in call("status", inputs / "none").err


def test_a_failed_and_a_killed_shard_are_told_with_their_logs_and_run_again(
    call: Any, shards: Path, inputs: Path
) -> None:
    for path in shards.iterdir():
        path.unlink()
    words = [*LINE, "--shard", "0/3"]
    line = ["fletching", "shard", "shards", "--", *words]
    code, _, _ = ended([*line[:-2], "--vector-type", "float16", "--dimensions", "99", *words[-2:]],
                       inputs)  # fmt: skip
    assert code == 2
    shown = call("status", shards)
    assert shown.rc == 1
    assert "attempt 1, exit 2, texts2vectors: --dimensions 99 is above the 4" in shown.text
    for path in shards.iterdir():
        path.unlink()
    process = start(line, inputs)
    record = shards / "00000-of-00003.json"
    while not record.exists():
        time.sleep(0.01)
    assert state_of(call, shards)["running"] == 1
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=30) == 143
    entry = state_of(call, shards)["shards"][0]
    assert entry["state"] == "failed" and entry["log"] == str(shards / "00000-of-00003.log")
    assert ended(line, inputs)[0] == 0
    assert state_of(call, shards)["done"] == 1


def test_a_shard_whose_machine_is_gone_is_lost(call: Any, shards: Path) -> None:
    import os

    for path in shards.glob("00001*"):
        if path.suffix != ".json" or "summary" in path.name:
            path.unlink()
    path = shards / "00001-of-00003.json"
    record = json.loads(path.read_text()) | {"state": "running", "host": "elsewhere"}
    path.write_text(json.dumps(record))
    assert state_of(call, shards)["running"] == 1
    os.utime(path, (time.time() - 600, time.time() - 600))
    entry = state_of(call, shards)["shards"][1]
    assert entry["state"] == "failed" and "lost: process" in entry["detail"]


def test_a_shard_that_is_done_is_not_run_again_by_the_recipe_for_slurm(
    call: Any, shards: Path, inputs: Path
) -> None:
    path = shards / "00000-of-00003.parquet"
    record = json.loads((shards / "00000-of-00003.json").read_text())
    from fletching.shards.record import input_states

    for name in record["inputs"]:
        record["inputs"][name] = input_states(["", str(inputs / name)])[str(inputs / name)]
    (shards / "00000-of-00003.json").write_text(json.dumps(record))
    before = path.stat().st_mtime_ns
    shards.rename(inputs / "vectors.parquet.shards")
    path = inputs / "vectors.parquet.shards" / path.name
    recipe = ["bash", str(RECIPES / "slurm/array.sbatch"), "corpus.jsonl", "vectors.parquet"]
    slurm = {
        "SLURM_ARRAY_TASK_ID": "0",
        "SLURM_ARRAY_TASK_COUNT": "3",
        "OPTIONS": "--vectors v.jsonl -q",
    }
    code, _, err = ended(recipe, inputs, **slurm)
    assert code == 0, err
    assert path.stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["d"], "there is no command to run"),
        (["d", "--", "texts2vectors", "x"], "has no --shard I/N and no --pool-shard"),
        (["d", "--", "texts2vectors", "x", "--shard", "4/4"], "--shard 4/4 is no part of a whole"),
        (["d", "--", "texts2vectors", "--shard=0/2", "-o", "x"], "-o names an output"),
        (["d", "--", "no-such-tool", "--shard", "0/2"], "'no-such-tool' is no program"),
    ],
)
def test_commands_that_are_no_shard_are_refused(
    call: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], reason: str
) -> None:
    monkeypatch.chdir(tmp_path)
    ran = call("shard", *words)
    assert ran.rc == 2 and reason in ran.err


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--shard", "1/4"], "is of 3 shards, and this is one of 4"),
        (["--limit", "5", "--shard", "1/3"], "is of another command"),
    ],
)
def test_a_shard_of_another_run_is_refused_before_it_is_made(
    call: Any, shards: Path, words: list[str], reason: str
) -> None:
    for path in shards.glob("00001*"):
        path.unlink()
    refused = call("shard", shards, "--", *LINE, *words)
    assert refused.rc == 1 and reason in refused.err and "name another folder" in refused.err


def test_candidates_are_merged_by_hnmine(call: Any, tmp_path: Path, inputs: Path) -> None:
    from hnmine import cli as hnmine

    texts = [json.loads(line)["text"] for line in (inputs / "corpus.jsonl").open()]
    rows = [{"query": texts[0], "pos": [texts[1]]}, {"query": texts[2], "pos": [texts[3]]}]
    source = tmp_path / "rows.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "parts").mkdir()
    for index in range(2):
        out = tmp_path / "parts" / f"{index}.parquet"
        line = [source, "--vectors", inputs / "v.jsonl", "--range", "1-9", "-q", "-o", out]
        assert hnmine.main([*map(str, line), "--pool-shard", f"{index}/2"]) == 0
    assert call("status", tmp_path / "parts").rc == 0
    refused = call("join", tmp_path / "parts", "-o", tmp_path / "o.parquet")
    assert refused.rc == 1 and "hnmine … --merge" in refused.err


def test_a_command_line_made_of_options_parses_to_them() -> None:
    from hnmine.options import Options

    options = Options(
        inputs=("a,b.jsonl", "-x.jsonl"),
        merge=("a,b", "c", "-d"),
        min_score=-0.25,
        keep_neg=True,
        doc_prompt="",
        query_prompt="-- two words",
        max_ratio=0.0,
    )
    words = command_words("hnmine", options, leave_out=(), replaced={"shard": "1/2"})
    again = parse(Options, words[1:])
    for name in describe(Options):
        assert getattr(again, name) == ("1/2" if name == "shard" else getattr(options, name)), name
    assert shard_of(words)[0].count == 2
