"""Vectors that a run learns from and does not train: of a guide, a teacher, and documents."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from contrast_train.data.collator import DocumentVectors, GuideVectors, TeacherVectors
from contrast_train.data.dataset import TrainingDataset
from contrast_train.data.reference_identity import (
    DTYPE,
    Identities,
    ReferenceIdentity,
    is_same_path,
)
from contrast_train.data.reference_source import flag_of
from contrast_train.options import Options
from fletching.errors import InputError
from fletching.options import EncodingOptions
from fletching.protocols import Role
from fletching.report import Report
from fletching.train.distributed import process_group

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

    from contrast_train.data.reference_embeddings import Reference


class ReferenceVectors(NamedTuple):
    """What the collator adds to a batch; None where an option is absent."""

    guide: GuideVectors | None = None
    teacher: TeacherVectors | None = None
    documents: DocumentVectors | None = None


@dataclass(frozen=True, kw_only=True)
class StudentSettings:
    """What a reference must know of the model that is trained, before its first step.

    fingerprint: of what gives its documents their vectors; loaded_fingerprint: of its base as any
    other tool loads it. prompts, lengths: by role. roles: whose texts it encodes; queries alone
    where each is encoded twice (SimCSE). load: it, on the CPU, without adapters.
    """

    fingerprint: str
    loaded_fingerprint: str
    prompts: dict[Role, str]
    lengths: dict[Role, int]
    dimension: int
    roles: Sequence[Role]
    load: Callable[[], SentenceTransformer]


def for_forecast(options: Options, dimension: int) -> ReferenceVectors:
    """Zeros for the documents of --document-vectors, whose values change neither plan nor time."""
    if not options.document_vectors:
        return ReferenceVectors()
    import torch

    return ReferenceVectors(documents=lambda texts: torch.zeros(len(texts), dimension))


@dataclass(frozen=True, kw_only=True)
class ReferenceLoader:
    """Looks up or encodes the vectors of all texts."""

    options: Options
    dataset: TrainingDataset
    report: Report
    student: StudentSettings
    identities: Identities

    def check_documents(self) -> None:
        """Check --document-vectors against the model that is trained, before anything is encoded.

        Raises InputError for another dimension than the queries', and where --eval would rank
        other vectors of documents than those that are trained against.
        """
        documents = self.identities.get("document_vectors")
        if documents is None or self._is_base("document_vectors"):
            return
        self._check_dimension(documents)
        name = f"--document-vectors {self.options.document_vectors}"
        judged = "--eval ranks the vectors that --model gives the documents"
        if documents.fingerprint is None:
            if self.options.eval:
                self.report.note(f"{name} does not say which model made it; {judged}")
            return
        difference = self._difference(documents)
        if not difference:
            return
        if self.options.eval:
            raise InputError(
                f"{name} has {difference}, and {judged}",
                f"leave --eval out, or pass --document-vectors {self.options.model}",
            )
        self.report.note(f"{name} has {difference}: queries are trained for those vectors alone")

    def has_documents_of_base(self) -> bool:
        """Are the documents' vectors those that the model itself gives before its first step?"""
        documents = self.identities.get("document_vectors")
        if documents is None:
            return False
        is_stated = documents.fingerprint is not None
        return self._is_base("document_vectors") or (is_stated and not self._difference(documents))

    def _check_dimension(self, documents: ReferenceIdentity) -> None:
        dimension = self.student.dimension
        if documents.dimension in (0, dimension):  # 0: an empty file, which is refused when read
            return
        fix = f"pass --document-vectors {self.options.model}, or a file of that model's vectors"
        if self.options.matryoshka_layer:
            fix = (
                "leave --matryoshka-layer out, or name the model: "
                f"--document-vectors {self.options.model}"
            )
        raise InputError(
            f"--document-vectors {self.options.document_vectors} has {documents.dimension} "
            f"dimensions, and the model's queries {dimension}",
            fix,
        )

    def _difference(self, documents: ReferenceIdentity) -> str:
        """From the vectors that the model gives documents before the first step; "" for none."""
        student, prompt = self.student, self.student.prompts["document"]
        if documents.fingerprint != student.fingerprint:
            if documents.fingerprint == student.loaded_fingerprint:
                return "vectors of --model with another pooling"
            return "vectors of another model than --model"
        if documents.doc_prompt not in (None, prompt):
            return f"vectors for the prompt {documents.doc_prompt!r}, and not for {prompt!r}"
        return ""

    def _is_base(self, field: str) -> bool:
        """Does the option name the base of the model that is trained?"""
        identity, student = self.identities[field], self.student
        if not identity.is_model:
            return False
        if is_same_path(getattr(self.options, field), self.options.model):
            return True
        return identity.fingerprint in (student.loaded_fingerprint, student.fingerprint)

    def load(self, cache: str) -> ReferenceVectors:
        """The vectors. Every process must call it: the first one fills the cache.

        cache: the folder from which a stopped run has them again. Raises InputError where a file
        of vectors lacks a text.
        """
        if not process_group.is_main():
            process_group.barrier()
        vectors = ReferenceVectors(
            guide=self._guide(cache),
            teacher=self._teacher(cache),
            documents=self._documents(cache),
        )
        if process_group.is_main():
            process_group.barrier()
        return vectors

    def _guide(self, cache: str) -> GuideVectors | None:
        if not self.options.guide:
            return None
        from contrast_train.data.guide_embeddings import GuideEmbeddings

        encoding = self._encoding(self.options.guide, cache)
        return GuideEmbeddings(self.dataset, encoding, self.report)

    def _teacher(self, cache: str) -> TeacherVectors | None:
        student = self.student
        if not self.options.teacher_vectors:
            return None
        from contrast_train.data.reference_embeddings import TeacherEmbeddings

        with self._opened("teacher_vectors", cache, roles=student.roles) as teacher:
            vectors = TeacherEmbeddings(
                self.dataset, teacher, self.report, prompts=student.prompts, roles=student.roles
            )
        if vectors.dimension != student.dimension:
            self.report.note(
                f"the teacher's vectors have {vectors.dimension} dimensions and the model's "
                f"{student.dimension}: their similarities are learned, and not their directions"
            )
        return vectors

    def _documents(self, cache: str) -> DocumentVectors | None:
        student = self.student
        if not self.options.document_vectors:
            return None
        from contrast_train.data.reference_embeddings import RoleEmbeddings

        with self._opened("document_vectors", cache, roles=["document"]) as reference:
            vectors = RoleEmbeddings(
                self.dataset, "document", dimension=reference.dimension, prompts=student.prompts
            )
            with self.report.progress("documents", len(vectors), "texts") as progress:
                vectors.fill(reference, progress)
        return vectors

    @contextmanager
    def _opened(self, field: str, cache: str, *, roles: Sequence[Role]) -> Iterator[Reference]:
        """What has or gives the vectors: files, or a model that is loaded meanwhile.

        roles: of the texts that are looked up.
        """
        from contrast_train.data.reference_embeddings import ReferenceFile, ReferenceModel
        from fletching.encode import Encoder

        name = getattr(self.options, field)
        if not self.identities[field].is_model:
            yield ReferenceFile(
                name,
                self.dataset,
                self.report,
                roles=roles,
                prompts=self.student.prompts,
                option=flag_of(field),
            )
            return
        encoding = self._encoding(name, cache)
        model = None
        if self._is_base(field):  # it has the pooling and head of the student, and its prompts
            encoding, model = self._as_student(encoding), self.student.load()
        with Encoder(encoding, self.report, model=model) as encoder:
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

    def _encoding(self, model: str, cache: str) -> EncodingOptions:
        return EncodingOptions(
            model=model,
            cache=cache,
            device=self.options.device,
            dtype=DTYPE,
            batch_tokens=self.options.batch_tokens,
            trust_remote_code=self.options.trust_remote_code,
        )
