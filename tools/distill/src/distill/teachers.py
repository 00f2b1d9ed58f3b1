"""The teachers that the options name, those of --teacher first."""

from __future__ import annotations

import os

from distill.model_teacher import ModelTeacher
from distill.options import Options
from distill.teacher import Teacher
from distill.text_dataset import DatasetSummary
from distill.vector_files import ArrayTeacher, VectorFilesTeacher
from fletching.options import EncodingOptions
from fletching.report import Report

VECTORS_ENDINGS = (".parquet", ".arrow", ".arrows", ".jsonl", ".jsonl.gz", ".jsonl.zst")


def load_teachers(
    options: Options, report: Report, *, texts: DatasetSummary, cache: str | None
) -> list[Teacher]:
    """Raises InputError or UsageError for a teacher that cannot be had, or is of other texts."""
    teachers = [named_teacher(name, options, report, cache=cache) for name in options.teacher]
    return teachers + [vectors_teacher(path, options, texts) for path in options.vectors]


def named_teacher(name: str, options: Options, report: Report, *, cache: str | None) -> Teacher:
    """A model behind --base-url, else one that is run locally."""
    if options.base_url is None:
        return ModelTeacher(name, encoding_options(name, options, cache), report)
    from distill.embedding_server import ServerTeacher

    return ServerTeacher(
        name,
        base_url=options.base_url,
        api_key_env=options.api_key_env,
        prompts=prompts_of(options),
        cache=cache,
    )


def vectors_teacher(path: str, options: Options, texts: DatasetSummary) -> Teacher:
    """`vectors` by the ending or as a folder, else an array."""
    if os.path.isdir(path) or path.endswith(VECTORS_ENDINGS):
        return VectorFilesTeacher(path, prompts_of(options), allow_extra=options.allow_extra)
    return ArrayTeacher(
        path, options.teacher_dim, rows=texts.rows, is_row_aligned=texts.is_row_aligned
    )


def prompts_of(options: Options) -> dict[str, str]:
    """The prompts of teachers that bring none."""
    return {
        "query": options.teacher_query_prompt or "",
        "document": options.teacher_doc_prompt or "",
    }


def encoding_options(name: str, options: Options, cache: str | None) -> EncodingOptions:
    """The options of a teacher that is run locally."""
    return EncodingOptions(
        model=name,
        query_prompt=options.teacher_query_prompt,
        doc_prompt=options.teacher_doc_prompt,
        query_length=options.teacher_length,
        doc_length=options.teacher_length,
        batch_tokens=options.batch_tokens,
        device=options.device,
        dtype=options.dtype,
        trust_remote_code=options.trust_remote_code,
        cache=cache,
    )
