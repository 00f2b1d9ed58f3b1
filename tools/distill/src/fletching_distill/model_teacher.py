"""A teacher that is a model, run here or by a server."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from fletching.encode.opening import open_encoder
from fletching.errors import InputError
from fletching.options import EncodingOptions
from fletching.protocols import Lineage, Role
from fletching.report import Progress, Report
from fletching_distill.teacher import VectorBatches
from fletching_distill.text_dataset import StudentText, TextDataset

ROLES: tuple[Role, ...] = ("query", "document")


class ModelTeacher:
    """The model `name`; its vectors are kept as float16 shards until the run is done.

    Raises InputError or UsageError, with the options of teachers, where it cannot be loaded or
    its server fails.
    """

    def __init__(self, name: str, options: EncodingOptions, report: Report) -> None:
        self.name = name
        with teacher_options_in_errors():
            self.encoder = open_encoder(options, (), report, half_cache=True)
        self.dimension: int = self.encoder.dimension

    @property
    def identity(self) -> Lineage:
        """The settings of the encoder."""
        return self.encoder.settings

    def vectors(self, texts: TextDataset, report: Report) -> VectorBatches:
        """Encode all texts, those in the cache excepted."""
        with contextlib.ExitStack() as stack:
            stack.enter_context(teacher_options_in_errors())
            stack.enter_context(self.encoder)
            progress = stack.enter_context(report.progress("encoding", len(texts), "texts"))
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


@contextlib.contextmanager
def teacher_options_in_errors() -> Iterator[None]:
    """Within the block, errors of the encoder, which names other tools' options, name teachers'."""
    try:
        yield
    except InputError as error:
        raise type(error)(teacher_option(error.what), teacher_option(error.fix)) from error


def teacher_option(message: str) -> str:
    """A message with the options of teachers in place of those of a model.

    >>> teacher_option("pass at most 512: --doc-length 600")
    'pass at most 512: --teacher-length 600'
    """
    message = re.sub(r"--(query|doc)-length", "--teacher-length", message)
    return message.replace("--model ", "--teacher ")
