"""The paths of a run: what it publishes in DIR, and what it keeps beside it in DIR.tune."""

from __future__ import annotations

import os
from dataclasses import dataclass

from fletching.errors import InputError

VERDICT = "verdict.json"


@dataclass(frozen=True)
class WorkFolder:
    """Paths beside the output folder DIR: everything but the result is in `DIR.tune`."""

    output: str

    @property
    def path(self) -> str:
        """The work folder."""
        return self.output.rstrip("/") + ".tune"

    def file(self, *names: str) -> str:
        """The path of something in the work folder."""
        return os.path.join(self.path, *names)

    def split(self, name: str) -> str:
        """The examples of a split: train, dev or test."""
        return self.file("pairs", f"{name}.parquet")

    @property
    def documents(self) -> str:
        """The documents of the whole table, as `texts`."""
        return self.file("documents.parquet")

    @property
    def texts(self) -> str:
        """With --documents: all their texts, as they are searched by people."""
        return self.file("texts.parquet")

    @property
    def searched(self) -> str:
        """With --documents: their texts as generated queries search them, without titles."""
        return self.file("searched.parquet")

    @property
    def document_vectors(self) -> str:
        """The base's vectors of the documents of hybrid lists."""
        return self.file("hybrid-vectors.parquet")

    @property
    def journal(self) -> str:
        """The responses of the LLM."""
        return self.file("llm-journal")

    @property
    def cache(self) -> str:
        """Vectors of the base that steps share."""
        return self.file("vectors")

    def model(self, name: str) -> str:
        """The folder of a candidate."""
        return self.file("models", name)

    def summary(self, name: str) -> str:
        """The --json-summary of a step."""
        return self.file("summaries", f"{name}.json")


def check_output(output: str) -> None:
    """Raise InputError where DIR is there and no earlier result of this program."""
    if "{" in output or "}" in output:
        raise InputError(f"-o {output} has a brace", "name another folder")
    if os.path.isfile(output):
        raise InputError(f"-o {output} is a file", "name a folder")
    parent = os.path.dirname(os.path.abspath(output.rstrip("/")))
    if not os.path.isdir(parent):
        raise InputError(f"the folder of -o {output} does not exist", f"mkdir -p {parent}")
    if not os.path.isdir(output) or not os.listdir(output):
        return
    if not os.path.isfile(os.path.join(output, VERDICT)):
        raise InputError(
            f"-o {output} exists already, and holds no {VERDICT}",
            "name another folder, or remove it",
        )
