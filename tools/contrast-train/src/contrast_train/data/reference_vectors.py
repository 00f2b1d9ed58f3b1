"""Vectors that a run learns from and does not train: of a guide, a teacher, and documents."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

from contrast_train.data import reference_source
from contrast_train.data.collator import DocumentVectors, GuideVectors, TeacherVectors
from contrast_train.data.dataset import TrainingDataset
from contrast_train.options import Options
from fletching.encode import model as models
from fletching.errors import InputError
from fletching.options import EncodingOptions
from fletching.protocols import Role
from fletching.report import Report
from fletching.train.distributed import process_group

if TYPE_CHECKING:
    from contrast_train.data.reference_embeddings import Reference
    from fletching.protocols import Lineage

DTYPE: Literal["auto"] = "auto"


class ReferenceVectors(NamedTuple):
    """What the collator adds to a batch; None where an option is absent."""

    guide: GuideVectors | None = None
    teacher: TeacherVectors | None = None
    documents: DocumentVectors | None = None


@dataclass(frozen=True, kw_only=True)
class StudentSettings:
    """What a reference must know of the model that is trained.

    fingerprint: of its base. prompts, lengths: by role. views: each text is encoded twice (SimCSE).
    """

    fingerprint: str
    prompts: dict[Role, str]
    lengths: dict[Role, int]
    dimension: int
    views: bool


def identify(options: Options) -> dict[str, Lineage | None]:
    """What decides the vectors, for the manifest, by model."""
    guide = _identify_model(options.guide, options, "--guide") if options.guide else None
    teacher = _identify(options.teacher_vectors, options, "--teacher-vectors")
    documents = _identify(options.document_vectors, options, "--document-vectors")
    return {"guide": guide, "teacher": teacher, "documents": documents}


def _identify(name: str | None, options: Options, option: str) -> Lineage | None:
    """Of a file of vectors or a model; None where the option is absent."""
    if name is None:
        return None
    if not reference_source.names_vectors(name):
        return _identify_model(name, options, option)
    from contrast_train.data.reference_embeddings import digest_of_files

    return {"vectors": digest_of_files(name)}


def identify_on_machines(options: Options) -> dict[str, Lineage | None]:
    """As `identify`, by one process of each machine; the others take the first one's answer.

    Every process must call it.
    """
    is_first = process_group.local_rank() == 0
    identities = identify(options) if is_first else {}
    everyone = process_group.all_gather(identities)
    return identities or everyone[0]


def _identify_model(name: str, options: Options, option: str) -> Lineage:
    model = models.load(name, trust_remote_code=options.trust_remote_code, option=option)
    dtype = models.resolve_dtype(DTYPE, models.resolve_devices(options.device)[0])
    return {"fingerprint": models.fingerprint(model), "dtype": models.dtype_name(dtype)}


def for_forecast(options: Options, dimension: int) -> ReferenceVectors:
    """Zeros for the documents of --document-vectors, whose values change neither plan nor time."""
    if not options.document_vectors:
        return ReferenceVectors()
    import torch

    return ReferenceVectors(documents=lambda texts: torch.zeros(len(texts), dimension))


@dataclass(frozen=True, kw_only=True)
class ReferenceLoader:
    """Looks up or encodes the vectors of all texts.

    identities: of `identify`. cache: the folder from which a stopped run has them again.
    """

    options: Options
    dataset: TrainingDataset
    report: Report
    student: StudentSettings
    identities: Mapping[str, Lineage | None]
    cache: str

    def load(self) -> ReferenceVectors:
        """The vectors. Every process must call it: the first one fills the cache.

        Raises InputError where a file of vectors lacks a text, and for documents' vectors of
        another dimension than the queries'.
        """
        if not any(self.identities.values()):
            return ReferenceVectors()
        if not process_group.is_main():
            process_group.barrier()
        vectors = ReferenceVectors(self._guide(), self._teacher(), self._documents())
        if process_group.is_main():
            process_group.barrier()
        return vectors

    def _guide(self) -> GuideVectors | None:
        if not self.options.guide:
            return None
        from contrast_train.data.guide_embeddings import GuideEmbeddings

        return GuideEmbeddings(self.dataset, self._encoding(self.options.guide), self.report)

    def _teacher(self) -> TeacherVectors | None:
        name, student = self.options.teacher_vectors, self.student
        if not name:
            return None
        from contrast_train.data.reference_embeddings import TeacherEmbeddings

        with self._opened(name, "teacher", option="--teacher-vectors") as teacher:
            vectors = TeacherEmbeddings(
                self.dataset, teacher, self.report, prompts=student.prompts, views=student.views
            )
        if vectors.dimension != student.dimension:
            self.report.note(
                f"the teacher's vectors have {vectors.dimension} dimensions and the model's "
                f"{student.dimension}: their similarities are learned, and not their directions"
            )
        return vectors

    def _documents(self) -> DocumentVectors | None:
        name, student = self.options.document_vectors, self.student
        if not name:
            return None
        from contrast_train.data.reference_embeddings import RoleEmbeddings

        with self._opened(name, "documents", option="--document-vectors") as reference:
            if reference.dimension != student.dimension:
                raise InputError(
                    f"--document-vectors {name} has {reference.dimension} dimensions, and the "
                    f"model's queries {student.dimension}",
                    "name the vectors that the model gives these documents, or the model itself",
                )
            vectors = RoleEmbeddings(
                self.dataset, "document", dimension=student.dimension, prompts=student.prompts
            )
            with self.report.progress("documents", len(vectors), "texts") as progress:
                vectors.fill(reference, progress)
        return vectors

    @contextmanager
    def _opened(self, name: str, reference: str, *, option: str) -> Iterator[Reference]:
        """What has or gives the vectors: a file, or a model that is loaded meanwhile."""
        from contrast_train.data.reference_embeddings import ReferenceFile, ReferenceModel
        from fletching.encode import Encoder

        if reference_source.names_vectors(name):
            yield ReferenceFile(name, self.student.prompts, self.report, option=option)
            return
        encoding, identity = self._encoding(name), self.identities[reference] or {}
        if identity.get("fingerprint") == self.student.fingerprint:
            encoding = self._as_student(encoding)
        with Encoder(encoding, self.report) as encoder:
            yield ReferenceModel(encoder)

    def _as_student(self, encoding: EncodingOptions) -> EncodingOptions:
        """The base as reference reads what the student reads; another model has its own ways."""
        student = self.student
        return dataclasses.replace(
            encoding,
            query_prompt=student.prompts["query"],
            doc_prompt=student.prompts["document"],
            query_length=student.lengths["query"],
            doc_length=student.lengths["document"],
        )

    def _encoding(self, model: str) -> EncodingOptions:
        return EncodingOptions(
            model=model,
            cache=self.cache,
            device=self.options.device,
            dtype=DTYPE,
            batch_tokens=self.options.batch_tokens,
            trust_remote_code=self.options.trust_remote_code,
        )
