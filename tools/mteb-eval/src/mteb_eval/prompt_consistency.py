"""Is a model used as it was trained? Compares prompts, lengths and pooling with its folder.

A model that is measured under another prompt or length than it was trained with is misjudged, and
no figure shows it; so a difference is an error, unless --allow-prompt-mismatch is passed.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from fletching.encode import Encoder
from fletching.encode.model import PromptSource, role_prompt
from fletching.errors import InputError
from fletching.prompts import InstructionTemplate
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

    def only_prompt(self, role: Role) -> str | None:
        """The prompt of all texts of a role; None for several: such a model may meet new ones."""
        prompts = self.prompts[role]
        return prompts[0] if len(prompts) == 1 else None


@dataclass(frozen=True, kw_only=True)
class SavedPrompts:
    """The prompts that a model's folder brings, as sentence-transformers names them."""

    prompts: dict[str, str]
    default_prompt_name: str | None = None


@dataclass(frozen=True, kw_only=True)
class ModelUse:
    """How a model is used now; the options are those of the command line, by role.

    manner: how it was trained; None where nobody knows.
    """

    name: str
    saved: PromptSource
    manner: TrainingManner | None
    prompt_options: dict[Role, str | None]
    length_options: dict[Role, int | None]
    data_prompts: set[str]

    @classmethod
    def of(
        cls, options: Options, name: str, path: str, *, saved: PromptSource, prompts: Iterable[str]
    ) -> ModelUse:
        """The use of one model of a run. prompts: what the test queries bring.

        Raises InputError for a damaged lineage.
        """
        template = InstructionTemplate.parse(options.prompt_template)
        return cls(
            name=name,
            saved=saved,
            manner=read_manner(path),
            prompt_options={"query": options.query_prompt, "document": options.doc_prompt},
            length_options={"query": options.query_length, "document": options.doc_length},
            data_prompts=set(map(template.complete, prompts)),
        )


def require_stated_consistency(
    options: Options, models: Mapping[str, str], data_prompts: Iterable[str]
) -> None:
    """Raises InputError where the options contradict what a folder states, for all models.

    It loads no model, so that the last one is refused before the first one is encoded. models:
    paths by name; what is no folder, such as a model of the hub, is looked at when it is loaded.
    """
    if options.allow_prompt_mismatch:
        return
    prompts = list(data_prompts)
    for name, path in models.items():
        saved = read_saved_prompts(path)
        use = ModelUse.of(options, name, path, saved=saved, prompts=prompts)
        _refuse_first(_stated_mismatches(use))


def require_consistency(
    options: Options, name: str, encoder: Encoder, *, data_prompts: Iterable[str], report: Report
) -> None:
    """Raises InputError at the first difference. data_prompts: what the test queries bring."""
    if options.allow_prompt_mismatch:
        return
    path = encoder.options.model or ""
    use = ModelUse.of(options, name, path, saved=encoder.model, prompts=data_prompts)
    _refuse_first(_stated_mismatches(use))
    if use.manner:
        _refuse_first(_folder_mismatches(use, use.manner, encoder))
        _note_longer_texts(use, use.manner, encoder=encoder, report=report)


def _refuse_first(mismatches: Iterator[Mismatch]) -> None:
    mismatch = next(mismatches, None)
    if mismatch:
        raise InputError(*mismatch)


def _stated_mismatches(use: ModelUse) -> Iterator[Mismatch]:
    """Of the options and the test data, with what the folder states."""
    yield from _saved_prompt_mismatches(use)
    if use.manner is None:
        return
    for role in ROLES:
        trained = use.manner.only_prompt(role)
        if trained is not None:
            yield from _prompt_mismatches(use, role, trained)
    for role in ROLES:
        yield from _length_mismatches(use, role, use.manner.lengths[role])


def _folder_mismatches(
    use: ModelUse, manner: TrainingManner, encoder: Encoder
) -> Iterator[Mismatch]:
    """Of what was changed in the folder since the training."""
    for role in ROLES:
        trained, current = manner.only_prompt(role), encoder.prompts[role]
        if trained is not None and current != trained:
            history = _prompt_history(use, role, trained)
            yield f"{history}, its folder now has {current!r}", COPY
    for role in ROLES:
        length, limit = manner.lengths[role], encoder.lengths[role]
        if limit < length:
            history = _length_history(use, role, length)
            yield f"{history}, its folder now truncates them after {limit}", COPY
    pooling = pooling_mode(encoder.model)
    if pooling != manner.pooling:
        history = f"{use.name} was trained with {manner.pooling} pooling"
        yield f"{history}, its folder now has {pooling}", COPY


def _saved_prompt_mismatches(use: ModelUse) -> Iterator[Mismatch]:
    """A model that was saved with a prompt was trained with it."""
    for role in ROLES:
        saved, option = role_prompt(use.saved, role, None), use.prompt_options[role]
        if option is not None and saved and option != saved:
            flag = PROMPT_FLAGS[role]
            history = f"{use.name} was saved with the {role} prompt {saved!r}"
            fix = f"leave {flag} out: it is read from the model"
            yield f"{history}, {flag} asks for {option!r}", fix


def _prompt_mismatches(use: ModelUse, role: Role, trained: str) -> Iterator[Mismatch]:
    """Of a model that was trained with the same prompt, or none, before all texts of a role."""
    history = _prompt_history(use, role, trained)
    option = use.prompt_options[role]
    if option is not None and option != trained:
        flag = PROMPT_FLAGS[role]
        yield f"{history}, {flag} asks for {option!r}", f"leave {flag} out, or {ALLOW}"
    others = sorted(use.data_prompts - {trained})
    if role == "query" and others:
        yield (
            f"{history}, the test data ask for {others[0]!r}",
            f"drop the column `prompt` of the test data, or {ALLOW}",
        )


def _prompt_history(use: ModelUse, role: Role, trained: str) -> str:
    if trained:
        return f"{use.name} was trained with the {role} prompt {trained!r}"
    return f"{use.name} was trained without a {role} prompt"


def _length_mismatches(use: ModelUse, role: Role, trained: int) -> Iterator[Mismatch]:
    option = use.length_options[role]
    if option is not None and option != trained:
        flag = LENGTH_FLAGS[role]
        fix = f"leave {flag} out or pass {trained}; or {ALLOW}"
        yield f"{_length_history(use, role, trained)}, {flag} asks for {option}", fix


def _length_history(use: ModelUse, role: Role, trained: int) -> str:
    return f"{use.name} was trained on {role} texts of {trained} tokens"


def _note_longer_texts(
    use: ModelUse, manner: TrainingManner, *, encoder: Encoder, report: Report
) -> None:
    for role, trained in manner.lengths.items():
        current = encoder.lengths[role]
        if current > trained:
            history = _length_history(use, role, trained)
            report.note(f"{history} and reads {current} here, as its folder says")


def read_saved_prompts(folder: str) -> SavedPrompts:
    """The prompts of a model's folder, without loading it; none where the file cannot be read.

    Loading says what is wrong with such a file.
    """
    path = os.path.join(folder, "config_sentence_transformers.json")
    try:
        with open(path, encoding="utf-8") as file:
            content: dict[str, Any] = json.load(file)
        prompts, default = dict(content.get("prompts") or {}), content.get("default_prompt_name")
        default = default if isinstance(default, str) else None
        return SavedPrompts(prompts=prompts, default_prompt_name=default)
    except (OSError, ValueError, TypeError, AttributeError):
        return SavedPrompts(prompts={})


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
