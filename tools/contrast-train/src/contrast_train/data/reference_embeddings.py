"""Vectors of the data set's texts that are not trained: a teacher's, or fixed ones of documents.

Each distinct (prompt, text) is looked up or encoded once, before the first step.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple, NoReturn

import numpy as np
import numpy.typing as npt
from torch import Tensor

from contrast_train.data.dataset import Prompts, TrainingDataset
from contrast_train.data.distinct_texts import WINDOW, VectorsByText
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


class ReferenceFile:
    """`vectors` of any program, joined by the hash of prompt and text, else by that of the text.

    Vectors of texts that the data set does not have in these roles are read over. prompts: those
    that the student has before texts without one of their own. option: names it.
    """

    def __init__(
        self,
        path: str,
        dataset: TrainingDataset,
        report: Report,
        *,
        roles: Sequence[Role],
        prompts: Mapping[Role, str],
        option: str,
    ) -> None:
        self.path = path
        self.option = option
        self.prompts = prompts
        self.embeddings = PrecomputedEmbeddings(
            [path], report, wanted=lambda _: self._wanted(dataset, roles)
        )
        self.dimension = self.embeddings.dimension

    def _wanted(self, dataset: TrainingDataset, roles: Sequence[Role]) -> Iterator[list[str]]:
        """What may be looked up: each text with its prompt, and without."""
        for role in roles:
            texts = role_texts(dataset, role)
            while window := [*itertools.islice(texts, WINDOW)]:
                wanted = {text.text for text in window}
                wanted |= {self._prompt(text, role) + text.text for text in window}
                yield list(wanted)

    def _prompt(self, text: RoleText, role: Role) -> str:
        return self.prompts[role] if text.prompt is None else text.prompt

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
            f"{self.option} {self.path} has {lack} for the {role} {text.text[:60]!r} of row "
            f"{text.row}",
            "add it (text_hash of prompt + text, or of the text), or name the model",
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
        prompts = [self._prompt(text, role) for text in texts]
        return self.embeddings.encode([text.text for text in texts], role, prompts)


class ReferenceModel:
    """A model that encodes each text with the prompt of its row or task, else its own."""

    def __init__(self, encoder: Encoder) -> None:
        self.encoder = encoder
        self.dimension = encoder.dimension

    def encode(self, texts: list[RoleText], role: Role, progress: Progress) -> Vectors:
        """Their vectors, from the encoder's cache after a stop."""
        prompts = [text.prompt for text in texts]
        return self.encoder.encode([text.text for text in texts], role, prompts, progress=progress)


Reference = ReferenceFile | ReferenceModel


class RoleEmbeddings:
    """(prompt, text) -> a reference's unit vectors (n, E), for all texts of the data set in a role.

    prompts: those of the student, for texts without one of their own.
    """

    def __init__(
        self, dataset: TrainingDataset, role: Role, *, dimension: int, prompts: Mapping[Role, str]
    ) -> None:
        self.dataset = dataset
        self.role = role
        self.prompt = prompts[role]
        self.vectors = VectorsByText(map(self._key, role_texts(dataset, role)), dimension)

    def __len__(self) -> int:
        return len(self.vectors)

    def _key(self, text: RoleText) -> str:
        return (self.prompt if text.prompt is None else text.prompt) + text.text

    def fill(self, reference: Reference, progress: Progress) -> None:
        """Look up or encode each distinct text."""
        self.vectors.fill(
            role_texts(self.dataset, self.role),
            key=self._key,
            encode=lambda window: reference.encode(window, self.role, progress),
        )

    def __call__(self, texts: list[PromptedText]) -> Tensor:
        """The vectors of texts with the prompts that the student reads."""
        return self.vectors.take([prompt + text for prompt, text in texts])


class TeacherEmbeddings:
    """(queries, documents), each (prompt, text) -> the teacher's unit vectors (Q, E) and (N, E).

    roles: queries alone where documents are a second view of them (SimCSE) and have their vectors.
    """

    def __init__(
        self,
        dataset: TrainingDataset,
        teacher: Reference,
        report: Report,
        *,
        prompts: Mapping[Role, str],
        roles: Sequence[Role],
    ) -> None:
        self.dimension = teacher.dimension
        of_roles = [
            RoleEmbeddings(dataset, role, dimension=teacher.dimension, prompts=prompts)
            for role in roles
        ]
        self.queries, self.documents = of_roles[0], of_roles[-1]
        with report.progress("teacher", sum(map(len, of_roles)), "texts") as progress:
            for embeddings in of_roles:
                embeddings.fill(teacher, progress)

    def __call__(
        self, queries: list[PromptedText], documents: list[PromptedText]
    ) -> tuple[Tensor, Tensor]:
        """The vectors of texts with the prompts that the student reads."""
        return self.queries(queries), self.documents(documents)


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
