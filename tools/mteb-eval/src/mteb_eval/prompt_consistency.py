"""Is a model used as it was trained? Compares prompts, lengths and pooling with its folder.

A model that is measured under another prompt or length than it was trained with is misjudged, and
no figure shows it; so a difference is an error, unless --allow-prompt-mismatch is passed.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from fletching.encode import Encoder
from fletching.encode.model import role_prompt
from fletching.errors import InputError
from fletching.protocols import Role
from fletching.report import Report
from fletching.training_index import pooling_mode
from mteb_eval.options import Options

ROLES: tuple[Role, ...] = ("query", "document")
PROMPT_FLAGS: dict[Role, str] = {"query": "--query-prompt", "document": "--doc-prompt"}
LENGTH_FLAGS: dict[Role, str] = {"query": "--query-length", "document": "--doc-length"}
ALLOW = "pass --allow-prompt-mismatch to measure it all the same"
COPY = f"copy the model again, or {ALLOW}"

Mismatch = tuple[str, str]  # what differs, and the fix


@dataclass(frozen=True, kw_only=True)
class TrainingManner:
    """How a model was trained: all prompts and the tokens of a text by role, and the pooling."""

    prompts: dict[Role, list[str]]
    lengths: dict[Role, int]
    pooling: str | None


@dataclass(frozen=True, kw_only=True)
class ModelUse:
    """How a model is used now; the options are those of the command line, by role."""

    name: str
    encoder: Encoder
    prompt_options: dict[Role, str | None]
    length_options: dict[Role, int | None]

    @classmethod
    def of(cls, options: Options, name: str, encoder: Encoder) -> ModelUse:
        """The use of one model of a run."""
        return cls(
            name=name,
            encoder=encoder,
            prompt_options={"query": options.query_prompt, "document": options.doc_prompt},
            length_options={"query": options.query_length, "document": options.doc_length},
        )


def require_consistency(
    options: Options, name: str, encoder: Encoder, *, data_prompts: Iterable[str], report: Report
) -> None:
    """Raises InputError at the first difference. data_prompts: what the test queries bring."""
    if options.allow_prompt_mismatch:
        return
    use = ModelUse.of(options, name, encoder)
    manner = read_manner(encoder.options.model or "")
    complete = encoder.role_prompts.of_rows.template.complete
    mismatch = next(_mismatches(use, manner, set(map(complete, data_prompts))), None)
    if mismatch:
        raise InputError(*mismatch)
    if manner:
        _note_longer_texts(use, manner, report)


def _mismatches(
    use: ModelUse, manner: TrainingManner | None, data_prompts: set[str]
) -> Iterator[Mismatch]:
    yield from _saved_prompt_mismatches(use)
    if manner is None:
        return
    for role in ROLES:
        # A model of many instructions may meet new ones.
        if len(manner.prompts[role]) == 1:
            (prompt,) = manner.prompts[role]
            yield from _prompt_mismatches(use, role, trained=prompt, data_prompts=data_prompts)
    for role in ROLES:
        yield from _length_mismatches(use, role, manner.lengths[role])
    current = pooling_mode(use.encoder.model)
    if current != manner.pooling:
        trained = f"{use.name} was trained with {manner.pooling} pooling"
        yield f"{trained}, its folder now has {current}", COPY


def _saved_prompt_mismatches(use: ModelUse) -> Iterator[Mismatch]:
    """A model that was saved with a prompt was trained with it."""
    for role in ROLES:
        saved, option = role_prompt(use.encoder.model, role, None), use.prompt_options[role]
        if option is not None and saved and option != saved:
            flag = PROMPT_FLAGS[role]
            history = f"{use.name} was saved with the {role} prompt {saved!r}"
            fix = f"leave {flag} out: it is read from the model"
            yield f"{history}, {flag} asks for {option!r}", fix


def _prompt_mismatches(
    use: ModelUse, role: Role, *, trained: str, data_prompts: set[str]
) -> Iterator[Mismatch]:
    """Of a model that was trained with the same prompt, or none, before all texts of a role."""
    history = f"{use.name} was trained without a {role} prompt"
    if trained:
        history = f"{use.name} was trained with the {role} prompt {trained!r}"
    option, current = use.prompt_options[role], use.encoder.prompts[role]
    if current != trained and option is not None:
        flag = PROMPT_FLAGS[role]
        yield f"{history}, {flag} asks for {option!r}", f"leave {flag} out, or {ALLOW}"
    elif current != trained:
        yield f"{history}, its folder now has {current!r}", COPY
    others = sorted(data_prompts - {trained})
    if role == "query" and others:
        yield (
            f"{history}, the test data ask for {others[0]!r}",
            f"drop the column `prompt` of the test data, or {ALLOW}",
        )


def _length_mismatches(use: ModelUse, role: Role, trained: int) -> Iterator[Mismatch]:
    history = f"{use.name} was trained on {role} texts of {trained} tokens"
    option, current = use.length_options[role], use.encoder.lengths[role]
    if option is not None and option != trained:
        flag = LENGTH_FLAGS[role]
        fix = f"leave {flag} out or pass {trained}; or {ALLOW}"
        yield f"{history}, {flag} asks for {option}", fix
    elif current < trained:
        yield f"{history}, its folder now truncates them after {current}", COPY


def _note_longer_texts(use: ModelUse, manner: TrainingManner, report: Report) -> None:
    for role, trained in manner.lengths.items():
        current = use.encoder.lengths[role]
        if current > trained:
            report.note(
                f"{use.name} was trained on {role} texts of {trained} tokens "
                f"and reads {current} here, as its folder says"
            )


def read_manner(folder: str) -> TrainingManner | None:
    """How the model of a folder was trained; None where its lineage does not say.

    Raises InputError for a damaged lineage.
    """
    path = os.path.join(folder, "fletching.json")
    if not os.path.isfile(path):
        return None
    try:
        with open(path, encoding="utf-8") as file:
            content: dict[str, Any] | None = json.load(file)["end"].get("trained")
        if content is None:  # written by an older version
            return None
        return TrainingManner(
            prompts={role: list(map(str, content["prompts"][role])) for role in ROLES},
            lengths={role: int(content["lengths"][role]) for role in ROLES},
            pooling=content["pooling"],
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{path} is damaged ({type(error).__name__}: {error})",
            "copy the model again, or delete the file",
        ) from None
