"""Readers of settings: --config, --translate, --tasks, prices, prompts, judgements, the journal of answers."""

from __future__ import annotations

import dataclasses
import json
import math
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from conftest import SUBJECTS
from fuzz_reader import FuzzedReader, Unreadable
from fuzz_rows import ROWS_OUT, examples, rows_read, write_lines

from fletching import cli
from fletching.errors import InputError
from fletching.options import StandardOptions
from fletching.options.fields import describe, positional
from fletching.report import Report


@dataclass(frozen=True, kw_only=True)
class OneFile(StandardOptions):
    """A file that a part of a tool reads."""

    inputs: tuple[str, ...] = positional("the file", "FILE")


def reading(name: str, read: Callable[[str], Any]) -> Callable[[list[str]], int]:
    """A command that reads a file by a part of a tool, and writes what it holds."""

    def run(options: OneFile, report: Report) -> None:
        content = read(options.inputs[0])
        Path(ROWS_OUT).write_text(json.dumps(content, default=repr), "utf-8")

    tool = cli.Tool(name=name, options=OneFile, run=run, doc="Read a file.", usage="FILE")
    return lambda argv: cli.main(tool, argv)


def part(name: str, read: Callable[[str], Any], **settings: Any) -> FuzzedReader:
    """A reader that is a part of a tool. The file is the only one that is mutated."""
    file = next(iter(settings["files"]))
    return FuzzedReader(
        name=name, line=f"read {file}", program=reading("read", read), output=rows_read,
        outputs=(ROWS_OUT,), **settings,
    )  # fmt: skip


# --- --config ----------------------------------------------------------------------------------------

CONFIG: dict[str, Any] = {
    "seed": 5,
    "lr": 2e-5,
    "batch": 64,
    "loss": "infonce",
    "symmetric": True,
    "matryoshka": [8, 16],
    "model": "base model",
    "query-prompt": "question: ",
    "temperature": 0.05,
    "quiet": False,
}


def _write_config(folder: Path, suffix: str) -> None:
    import yaml

    if suffix == "json":
        text = json.dumps(CONFIG, indent=1)
    elif suffix == "yaml":
        text = yaml.safe_dump(CONFIG, sort_keys=False)
    else:
        text = "".join(f"{name} = {json.dumps(value)}\n" for name, value in CONFIG.items())
    (folder / f"in.{suffix}").write_text(text)


def _options(path: str) -> dict[str, Any]:
    """The options that contrast-train takes from a config."""
    from contrast_train.options import Options
    from fletching.parsing import parse

    return dataclasses.asdict(parse(Options, ["rows.jsonl", "-o", "out", "--config", path]))


def parsed(path: Path) -> dict[str, Any]:
    """A file of settings, by its format's parser. Raises Unreadable."""
    import tomllib

    import yaml

    try:
        data = path.read_bytes()
        if path.suffix == ".json":
            content = json.loads(data)
        elif path.suffix == ".toml":
            content = tomllib.loads(data.decode())
        else:
            content = yaml.safe_load(data)
    except Exception as error:
        raise Unreadable(repr(error)) from None
    if not isinstance(content, dict):
        raise Unreadable("no object")
    return content


def _config_holds(folder: Path, got: Any) -> str:
    """Each key of the file has its value in the options; all other options have their default."""
    from contrast_train.options import Options

    [path] = folder.glob("in.*")
    options = describe(Options)
    written = {str(name).replace("-", "_"): value for name, value in parsed(path).items()}
    for name, value in got.items():
        if name in ("inputs", "output", "config"):
            continue
        expected = written[name] if name in written else options[name].default
        if name not in written and name == "model":
            continue
        if not _same(value, expected):
            return f"{name} is {value!r}, and {expected!r} is written"
    return ""


def _same(value: Any, written: Any) -> bool:
    if isinstance(value, list):
        items = written if isinstance(written, list | tuple) else str(written).split(",")
        return [str(item).strip() for item in value] == [
            str(item).strip() for item in items
        ] or all(_same(one, two) for one, two in zip(value, items, strict=False))
    if isinstance(value, float) or (isinstance(value, int) and not isinstance(value, bool)):
        try:
            return math.isclose(float(value), float(str(written).replace("_", "")), rel_tol=1e-12)
        except ValueError:
            return str(value) == str(written)
    return bool(value == written) or str(value) == str(written)


def _config_reader(suffix: str) -> FuzzedReader:
    return part(
        f"--config, {suffix.upper()}", _options, files={f"in.{suffix}": (suffix, 1)}, weight=25,
        fill=lambda folder: _write_config(folder, suffix), holds=_config_holds,
    )  # fmt: skip


# --- --translate -------------------------------------------------------------------------------------

FOREIGN = {
    "per_device_train_batch_size": 32,
    "learning_rate": 1e-5,
    "num_train_epochs": 2,
    "model_name_or_path": "base",
    "temperature": 0.02,
    "fp16": True,
    "output_dir": "out",
    "query_instruction_for_retrieval": "Represent: ",
    "lora_r": 16,
    "note": "two\nlines: # of {text}",
}


def _write_script(folder: Path) -> None:
    words = " \\\n".join(f"  --{name} {shlex.quote(str(value))}" for name, value in FOREIGN.items())
    (folder / "in.sh").write_text(f"#!/bin/bash\nexport A=1\ntorchrun train.py \\\n{words}\n")


def _translation(folder: Path) -> Any:
    return (folder.parent / "stdout").read_text("utf-8")


def _translation_holds(folder: Path, got: Any) -> str:
    """What is printed is a config that the command takes; nothing of the file leaves its comment."""
    import yaml

    from contrast_train.options import Options
    from fletching.config import load

    if any(ord(c) < 32 and c not in "\n\t" for c in got):
        return f"control characters: {got!r}"
    try:
        content = yaml.safe_load(got)
    except yaml.YAMLError as error:
        return f"no YAML: {error}"
    path = folder.parent / "translated.yaml"
    path.write_text(got)
    try:
        load(str(path), describe(Options)) if content is not None else None
    except InputError as error:
        return f"a config that is refused: {error.what}"
    return ""


def _translate_reader(file: str, kind: str, fill: Any) -> FuzzedReader:
    return FuzzedReader(
        name=f"--translate, {file[3:]}", line=f"contrast-train --translate {file}", fill=fill,
        files={file: (kind, 1)}, output=_translation, holds=_translation_holds, weight=15,
    )  # fmt: skip


# --- parts of tools ----------------------------------------------------------------------------------


def _task_file(path: str) -> Any:
    from contrast_train.data import task_mixing

    return {name: dataclasses.asdict(task) for name, task in task_mixing.read(path).items()}


def _weights_are_numbers(folder: Path, got: Any) -> str:
    odd = [task for task in got.values() if not 0 <= task["weight"] < math.inf]
    return f"{odd[0]}" if odd else ""


TASK_FILE = {
    "nq": {"weight": 2, "query-prompt": "question: ", "doc-prompt": "passage: "},
    "faq": {"weight": 0.5},
}


def _judgements(path: str) -> Any:
    from fletching.qrels import read_qrels

    return read_qrels(path)


def _write_qrels(folder: Path) -> None:
    lines = [f"q-{name}\t{name}\t{number % 3}" for number, name in enumerate(SUBJECTS)]
    (folder / "in.tsv").write_text("query-id\tcorpus-id\tscore\n" + "\n".join(lines) + "\n")


def _prices(path: str) -> Any:
    from fletching_synthgen.prompts.library import PromptLibrary

    return PromptLibrary().prices(path)


def _prices_hold(folder: Path, got: Any) -> str:
    for model, prices in got.items():
        for name, price in prices.items():
            if (
                isinstance(price, bool)
                or not isinstance(price, int | float)
                or not 0 <= price < math.inf
            ):
                return f"{name} of {model} costs {price!r}"
    return ""


def _journal(path: str) -> Any:
    from fletching_synthgen.llm.journal import Journal

    journal = Journal(str(Path(path).parent))
    answers = {key.hex(): journal.get(key.hex()) for key in sorted(journal.line_starts)}
    journal.close()
    return {
        "answers": {key: dataclasses.asdict(answer) for key, answer in answers.items() if answer},
        "notes": journal.notes,
    }


def _write_journal(folder: Path) -> None:
    entries: list[Any] = [{"note": {"probe": "m", "mode": "json_schema"}}]
    for number, (_, text) in enumerate(SUBJECTS.values()):
        answer = {
            "text": json.dumps({"negatives": [text]}), "finish": "stop", "model": "m",
            "prompt_tokens": 11, "completion_tokens": number, "cached_tokens": 0, "estimated": False,
        }  # fmt: skip
        entries.append({"key": f"{number:032x}", "answer": answer})
    write_lines(folder / "journal/answers.jsonl", entries)


def _journal_holds(folder: Path, got: Any) -> str:
    """Each answer is one of the file, with the types that the program counts on."""
    lines = (folder / "journal/answers.jsonl").read_text("utf-8", "replace")
    for key, answer in got["answers"].items():
        if key not in lines.lower():
            return f"{key} does not stand in the journal"
        if not isinstance(answer["text"], str | None) or not isinstance(
            answer["finish"], str | None
        ):
            return f"a text of another type: {answer}"
        for name in ("prompt_tokens", "completion_tokens", "cached_tokens"):
            if not isinstance(answer[name], int):
                return f"{name} is {answer[name]!r}"
    return ""


def _prompt_library(path: str) -> Any:
    from fletching_synthgen.prompts.library import PromptLibrary

    library = PromptLibrary(str(Path(path).parent))
    return {"attributes": library.attributes, "languages": list(map(repr, library.languages()))}


def _write_prompts(folder: Path) -> None:
    from fletching_synthgen.prompts.library import PromptLibrary

    PromptLibrary().export(str(folder / "prompts"))


def _write(name: str, content: Any) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_text(json.dumps(content, indent=1)) and None


SETTINGS_READERS = [
    _config_reader("json"),
    _config_reader("yaml"),
    _config_reader("toml"),
    _translate_reader("in.sh", "text", _write_script),
    _translate_reader("in.json", "json", _write("in.json", FOREIGN)),
    part(
        "--tasks", _task_file, fill=_write("in.json", TASK_FILE), files={"in.json": ("json", 1)},
        holds=_weights_are_numbers, weight=20,
    ),
    part("qrels", _judgements, fill=_write_qrels, files={"in.tsv": ("text", 1)}, weight=15),
    part(
        "--prices", _prices, fill=_write("in.json", {"m": {"input": 0.5, "output": 2, "cached": 0.1}}),
        files={"in.json": ("json", 1)}, holds=_prices_hold, weight=10,
    ),
    part(
        "journal of answers", _journal, fill=_write_journal, holds=_journal_holds, weight=35,
        files={"journal/answers.jsonl": ("jsonl", 1)},
    ),
    part(
        "--prompts", _prompt_library, fill=_write_prompts, weight=10,
        files={"prompts/axes.json": ("json", 2), "prompts/languages.tsv": ("text", 1)},
    ),
]  # fmt: skip
__all__ = ["SETTINGS_READERS", "examples", "part"]
