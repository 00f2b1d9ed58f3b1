"""The teachers that the options name, those of --teacher first."""

from __future__ import annotations

import os

from fletching.options import EncodingOptions
from fletching.report import Report
from fletching_distill.model_teacher import ModelTeacher
from fletching_distill.options import Options
from fletching_distill.teacher import Teacher
from fletching_distill.text_dataset import DatasetSummary
from fletching_distill.vector_files import ArrayTeacher, VectorFilesTeacher

VECTORS_ENDINGS = (".parquet", ".arrow", ".arrows", ".jsonl", ".jsonl.gz", ".jsonl.zst")


def load_teachers(
    options: Options, report: Report, *, texts: DatasetSummary, cache: str | None
) -> list[Teacher]:
    """Raises InputError or UsageError for a teacher that cannot be had, or is of other texts."""
    teachers: list[Teacher] = [
        ModelTeacher(name, encoding_options(name, options, cache), report)
        for name in options.teacher
    ]
    return teachers + [vectors_teacher(path, options, texts) for path in options.vectors]


def vectors_teacher(path: str, options: Options, texts: DatasetSummary) -> Teacher:
    """`vectors` by the ending or as a folder, else an array."""
    if os.path.isdir(path) or path.endswith(VECTORS_ENDINGS):
        return VectorFilesTeacher(path, passed_prompts(options), allow_extra=options.allow_extra)
    return ArrayTeacher(
        path, options.teacher_dim, rows=texts.rows, is_row_aligned=texts.is_row_aligned
    )


def passed_prompts(options: Options) -> dict[str, str]:
    """The prompts of the options, by role, where they are passed."""
    prompts = {"query": options.teacher_query_prompt, "document": options.teacher_doc_prompt}
    return {role: prompt for role, prompt in prompts.items() if prompt is not None}


def encoding_options(name: str, options: Options, cache: str | None) -> EncodingOptions:
    """The options of a teacher that is a model, run here or by --base-url."""
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
        base_url=options.base_url,
        api_key_env=options.api_key_env,
        concurrency=options.concurrency,
        batch_texts=options.batch_texts,
    )
