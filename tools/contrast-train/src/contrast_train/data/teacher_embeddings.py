"""The teacher's vector of every text of the data set, from a `vectors` file or a model.

Each distinct (prompt, text) is looked up or encoded once, before the first step.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple, NoReturn

import numpy as np
import numpy.typing as npt
import xxhash
from torch import Tensor

from contrast_train.data import teacher_source
from contrast_train.data.dataset import Prompts, TrainingDataset
from contrast_train.data.distinct_texts import VectorsByText
from fletching.encode.encoder import Encoder
from fletching.encode.precomputed import PrecomputedEmbeddings
from fletching.errors import InputError
from fletching.protocols import Role
from fletching.report import Progress, Report

Vectors = npt.NDArray[np.float32]  # (n, E)
PromptedText = tuple[str, str]  # prompt, text


class RoleText(NamedTuple):
    """A text of a row. prompt: the row's or its task's; None where it has none."""

    prompt: str | None
    text: str
    row: str  # its id, for errors


class TeacherFile:
    """`vectors` of any program, joined by the hash of prompt and text, else by that of the text.

    prompts: those that the student has before texts without one of their own.
    """

    def __init__(self, path: str, prompts: Mapping[Role, str], report: Report) -> None:
        self.path = path
        self.prompts = prompts
        self.embeddings = PrecomputedEmbeddings([path], report)
        self.dimension = self.embeddings.dimension

    def encode(self, texts: list[RoleText], role: Role, progress: Progress) -> Vectors:
        """Their vectors. Raises InputError, with the row, where a text has none or a zero one."""
        vectors = self._look_up_either(texts, role)
        if vectors is None:
            vectors = np.concatenate([self._look_up_one(text, role) for text in texts])
        is_zero = ~vectors.any(axis=1)
        if is_zero.any():
            self._refuse("a vector of zeros", texts[int(is_zero.argmax())], role)
        progress.advance(len(texts))
        return vectors

    def _look_up_one(self, text: RoleText, role: Role) -> Vectors:
        vector = self._look_up_either([text], role)
        if vector is None:
            self._refuse("no vector", text, role)
        return vector

    def _refuse(self, lack: str, text: RoleText, role: Role) -> NoReturn:
        raise InputError(
            f"--teacher-vectors {self.path} has {lack} for the {role} {text.text[:60]!r} of row "
            f"{text.row}",
            "add it (text_hash of prompt + text, or of the text), or name the teacher's model",
        )

    def _look_up_either(self, texts: list[RoleText], role: Role) -> Vectors | None:
        """By prompt and text, else by the texts; None where one of them is missing in both ways."""
        for candidates in (texts, [text._replace(prompt="") for text in texts]):
            try:
                return self._look_up(candidates, role)
            except InputError:
                continue
        return None

    def _look_up(self, texts: list[RoleText], role: Role) -> Vectors:
        default = self.prompts[role]
        prompts = [default if text.prompt is None else text.prompt for text in texts]
        return self.embeddings.encode([text.text for text in texts], role, prompts)


class TeacherModel:
    """A model that encodes each text with the prompt of its row or task, else its own."""

    def __init__(self, encoder: Encoder) -> None:
        self.encoder = encoder
        self.dimension = encoder.dimension

    def encode(self, texts: list[RoleText], role: Role, progress: Progress) -> Vectors:
        """Their vectors, from the encoder's cache after a stop."""
        prompts = [text.prompt for text in texts]
        return self.encoder.encode([text.text for text in texts], role, prompts, progress=progress)


class TeacherEmbeddings:
    """(queries, documents), each (prompt, text) -> the teacher's unit vectors (Q, E) and (N, E).

    prompts: those of the student, for texts without one of their own. views: documents are a second
    view of the queries (SimCSE), and have their vectors.
    """

    def __init__(
        self,
        dataset: TrainingDataset,
        teacher: TeacherFile | TeacherModel,
        report: Report,
        *,
        prompts: Mapping[Role, str],
        views: bool = False,
    ) -> None:
        self.dimension = teacher.dimension
        self.document_role: Role = "query" if views else "document"
        roles: list[Role] = ["query"] if views else ["query", "document"]

        def _key(text: RoleText, role: Role) -> str:
            return (prompts[role] if text.prompt is None else text.prompt) + text.text

        self.vectors = {
            role: VectorsByText(
                (_key(text, role) for text in role_texts(dataset, role)), teacher.dimension
            )
            for role in roles
        }
        total = sum(map(len, self.vectors.values()))
        with report.progress("teacher", total, "texts") as progress:
            for role in roles:
                self.vectors[role].fill(
                    role_texts(dataset, role),
                    key=lambda text, role=role: _key(text, role),  # type: ignore[misc]
                    encode=lambda window, role=role: teacher.encode(  # type: ignore[misc]
                        window, role, progress
                    ),
                )

    def __call__(
        self, queries: list[PromptedText], documents: list[PromptedText]
    ) -> tuple[Tensor, Tensor]:
        """The vectors of texts with the prompts that the student reads."""
        return (
            self.vectors["query"].take([prompt + text for prompt, text in queries]),
            self.vectors[self.document_role].take([prompt + text for prompt, text in documents]),
        )


def role_texts(dataset: TrainingDataset, role: Role) -> Iterator[RoleText]:
    """Every query of the data set, or every positive and negative, with repetitions."""
    for batch in dataset.table.batches:
        for row in batch.to_pylist():
            prompts: Prompts = dataset.prompts_of(row)
            if role == "query":
                yield RoleText(prompts[0], row["query"], row["id"])
                continue
            for text in [*row["pos"], *(row["neg"] or ())]:
                if text.strip():
                    yield RoleText(prompts[1], text, row["id"])


def digest_of_files(name: str) -> str:
    """xxh3-128 of a `vectors` file, or of all files of a folder."""
    digest = xxhash.xxh3_128()
    for path in teacher_source.list_files(name):
        with open(path, "rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()
