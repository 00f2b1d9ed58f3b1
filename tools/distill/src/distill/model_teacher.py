"""A teacher that is a sentence-transformers model, run locally."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from distill.teacher import VectorBatches
from distill.text_dataset import StudentText, TextDataset
from fletching.encode import Encoder
from fletching.errors import InputError
from fletching.options import EncodingOptions
from fletching.protocols import Lineage, Role
from fletching.report import Progress, Report

ROLES: tuple[Role, ...] = ("query", "document")


class ModelTeacher:
    """The model `name`; its vectors are kept as float16 shards until the run is done.

    Raises InputError or UsageError, with the options of teachers, where it cannot be loaded.
    """

    def __init__(self, name: str, options: EncodingOptions, report: Report) -> None:
        self.name = name
        try:
            self.encoder = Encoder(options, report, half_cache=True)
        except InputError as error:  # the encoder names the options of other tools
            raise type(error)(teacher_option(error.what), teacher_option(error.fix)) from error
        self.dimension: int = self.encoder.dimension

    @property
    def identity(self) -> Lineage:
        """The settings of the encoder."""
        return self.encoder.settings

    def vectors(self, texts: TextDataset, report: Report) -> VectorBatches:
        """Encode all texts, those in the cache excepted."""
        with self.encoder, report.progress("encoding", len(texts), "texts") as progress:
            start = 0
            for part in texts.parts():
                for role in ROLES:
                    positions = [i for i, text in enumerate(part) if text.role == role]
                    if positions:
                        selected = [part[i] for i in positions]
                        yield start + np.array(positions), self._encode(selected, role, progress)
                start += len(part)

    def _encode(
        self, texts: Sequence[StudentText], role: Role, progress: Progress
    ) -> npt.NDArray[np.float16]:
        """Rounded as the cache rounds them, so that a resumed run sees the same vectors."""
        vectors = self.encoder.encode(
            [text.text for text in texts],
            role,
            prompts=[text.prompt for text in texts],
            progress=progress,
        )
        return vectors.astype(np.float16)


def teacher_option(message: str) -> str:
    """A message with the options of teachers in place of those of a model.

    >>> teacher_option("pass at most 512: --doc-length 600")
    'pass at most 512: --teacher-length 600'
    """
    message = re.sub(r"--(query|doc)-length", "--teacher-length", message)
    return message.replace("--model ", "--teacher ")
