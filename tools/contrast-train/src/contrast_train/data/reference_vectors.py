"""The vectors of other models that a run learns from: of a guide and of a teacher."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

from contrast_train.data import teacher_source
from contrast_train.data.collator import GuideVectors, TeacherVectors
from contrast_train.data.dataset import TrainingDataset
from contrast_train.options import Options
from fletching.encode import model as models
from fletching.options import EncodingOptions
from fletching.protocols import Role
from fletching.report import Report
from fletching.train.distributed import process_group

if TYPE_CHECKING:
    from fletching.protocols import Lineage

DTYPE: Literal["auto"] = "auto"


class ReferenceVectors(NamedTuple):
    """What the collator adds to a batch; None where an option is absent."""

    guide: GuideVectors | None = None
    teacher: TeacherVectors | None = None


@dataclass(frozen=True, kw_only=True)
class StudentSettings:
    """What a teacher must know of the model that is trained.

    is_teacher: is its own base the teacher? prompts, lengths: by role. views: each text is encoded
    twice (SimCSE).
    """

    is_teacher: bool
    prompts: dict[Role, str]
    lengths: dict[Role, int]
    dimension: int
    views: bool


def identify(options: Options) -> dict[str, Lineage | None]:
    """What decides the vectors, for the manifest, by model."""
    teacher: Lineage | None = None
    if options.teacher_vectors and teacher_source.names_vectors(options.teacher_vectors):
        from contrast_train.data.teacher_embeddings import digest_of_files

        teacher = {"vectors": digest_of_files(options.teacher_vectors)}
    elif options.teacher_vectors:
        teacher = _identify_model(options.teacher_vectors, options, "--teacher-vectors")
    guide = _identify_model(options.guide, options, "--guide") if options.guide else None
    return {"guide": guide, "teacher": teacher}


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


def load(
    options: Options,
    dataset: TrainingDataset,
    report: Report,
    *,
    cache: str,
    student: StudentSettings,
) -> ReferenceVectors:
    """The vectors of all texts, from `cache` after a stop. Every process must call it.

    The first process fills the cache, the others read it. Raises InputError where a file of
    vectors lacks a text.
    """
    if not options.guide and not options.teacher_vectors:
        return ReferenceVectors()
    if not process_group.is_main():
        process_group.barrier()
    guide = teacher = None
    if options.guide:
        from contrast_train.data.guide_embeddings import GuideEmbeddings

        encoding = _encoding_options(options.guide, options, cache)
        guide = GuideEmbeddings(dataset, encoding, report)
    if options.teacher_vectors:
        teacher = _teacher(options, dataset, report, cache=cache, student=student)
    if process_group.is_main():
        process_group.barrier()
    return ReferenceVectors(guide, teacher)


def _teacher(
    options: Options,
    dataset: TrainingDataset,
    report: Report,
    *,
    cache: str,
    student: StudentSettings,
) -> TeacherVectors:
    from contrast_train.data.teacher_embeddings import TeacherEmbeddings, TeacherFile, TeacherModel
    from fletching.encode import Encoder

    def _collect(teacher: TeacherFile | TeacherModel) -> TeacherEmbeddings:
        return TeacherEmbeddings(
            dataset, teacher, report, prompts=student.prompts, views=student.views
        )

    name = options.teacher_vectors or ""
    if teacher_source.names_vectors(name):
        vectors = _collect(TeacherFile(name, student.prompts, report))
    else:
        with Encoder(_teacher_options(name, options, cache, student=student), report) as encoder:
            vectors = _collect(TeacherModel(encoder))
    if vectors.dimension != student.dimension:
        report.note(
            f"the teacher's vectors have {vectors.dimension} dimensions and the model's "
            f"{student.dimension}: their similarities are learned, and not their directions"
        )
    return vectors


def _teacher_options(
    name: str, options: Options, cache: str, *, student: StudentSettings
) -> EncodingOptions:
    """The base as its own teacher reads what the student reads; another model has its own ways."""
    encoding = _encoding_options(name, options, cache)
    if not student.is_teacher:
        return encoding
    return dataclasses.replace(
        encoding,
        query_prompt=student.prompts["query"],
        doc_prompt=student.prompts["document"],
        query_length=student.lengths["query"],
        doc_length=student.lengths["document"],
    )


def _encoding_options(model: str, options: Options, cache: str) -> EncodingOptions:
    return EncodingOptions(
        model=model,
        cache=cache,
        device=options.device,
        dtype=DTYPE,
        batch_tokens=options.batch_tokens,
        trust_remote_code=options.trust_remote_code,
    )
