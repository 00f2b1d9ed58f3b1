"""What a run leaves in DIR: the model, its card, the report, the verdict and the commands."""

from __future__ import annotations

import json
import os
import shlex
import shutil
from collections.abc import Sequence
from typing import Any

from fletching.table import atomic
from fletching_tune.steps.step import Step
from fletching_tune.winner_card import TrialFigures, comparison_section, winner_card
from fletching_tune.work_folder import VERDICT, WorkFolder

CARD = "README.md"
FOLDERS = ("pairs", "summaries", "models")


def publish(
    work: WorkFolder,
    *,
    model: str | None,
    verdict: dict[str, Any],
    table: str,
    page: str,
    steps: Sequence[Step],
    figures: TrialFigures | None = None,
) -> bool:
    """Write DIR unless it holds the same result; did it change?

    model: the folder of the winner; None: the base is kept and no model is written. table: the
    held-out comparison as text. page: the report. figures: of the winner, for its card.
    """
    text = json.dumps(verdict, indent=2, ensure_ascii=False) + "\n"
    if _read(os.path.join(work.output, VERDICT)) == text:
        return False
    atomic.remove(work.output)
    with atomic.new_folder(work.output) as folder:
        if model is not None:
            shutil.copytree(model, folder, copy_function=_link, dirs_exist_ok=True)
            atomic.remove(os.path.join(folder, CARD))  # a link to that of the candidate
            card = winner_card(
                _read(os.path.join(model, CARD)) or "# Tuned model\n",
                name=os.path.basename(work.output.rstrip("/")),
                folder=os.path.basename(model.rstrip("/")),
                figures=figures,
                section=comparison_section(verdict, table),
            )
            _write(folder, CARD, card)
        shutil.copyfile(page, os.path.join(folder, "report.html"))
        _write(folder, "commands.sh", commands_script(work, steps))
        _write(folder, VERDICT, text)
    return True


def commands_script(work: WorkFolder, steps: Sequence[Step]) -> str:
    """Every command in order, as a script for the shell."""
    folders = " ".join(shlex.quote(work.file(name)) for name in FOLDERS)
    lines = ["#!/bin/sh", "set -e", f"mkdir -p {folders}"]
    return "\n".join([*lines, *(step.line for step in steps)]) + "\n"


def _link(source: str, target: str) -> str:
    """A hard link where the file system has them, else a copy."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
    return target


def _read(path: str) -> str | None:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except OSError:
        return None


def _write(folder: str, name: str, text: str) -> None:
    with open(os.path.join(folder, name), "w", encoding="utf-8") as file:
        file.write(text)
