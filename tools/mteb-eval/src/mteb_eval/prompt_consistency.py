"""Is a model used as it was trained? Prompts, lengths and pooling against its folder and its lineage.

A model that is measured under another prompt or length than it was trained with is misjudged, and says so
nowhere; so a difference is an error, unless --allow-clash asks for it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from typing import Any

from fletching.encode import Encoder
from fletching.encode.model import role_prompt
from fletching.errors import InputError
from fletching.report import Report
from fletching.training_index import pooling

FLAGS = {("query", "prompt"): "--query-prompt", ("document", "prompt"): "--doc-prompt"}
FLAGS |= {("query", "length"): "--query-length", ("document", "length"): "--doc-length"}
ALLOW = "pass --allow-clash to measure it all the same"


def check(
    options: Any, name: str, encoder: Encoder, of_data: Iterable[str], report: Report
) -> None:
    """Raises InputError at the first difference. of_data: the prompts that the test queries bring."""
    if options.allow_clash:
        return
    manner = trained_manner(encoder.options.model or "")
    found = [*_saved(options, name, encoder)]
    if manner:
        found += [
            *_prompts(options, name, encoder, manner["prompts"], set(of_data)),
            *_lengths(options, name, encoder, manner["lengths"]),
        ]
        if (now := pooling(encoder.model)) != manner["pooling"]:
            found.append(
                (
                    f"{name} was trained with {manner['pooling']} pooling, its folder now has {now}",
                    f"copy the model again, or {ALLOW}",
                )
            )
    if found:
        raise InputError(*found[0])
    for role, trained in (manner or {}).get("lengths", {}).items():
        if encoder.lengths[role] > trained:
            report.note(
                f"{name} was trained on {role} texts of {trained} tokens and reads {encoder.lengths[role]} here, as its folder says"
            )


def trained_manner(folder: str) -> dict[str, Any] | None:
    """How the model of a folder was trained, or None where no lineage tells it."""
    path = os.path.join(folder, "fletching.json")
    if not os.path.isfile(path):
        return None
    try:
        with open(path, encoding="utf-8") as file:
            manner = json.load(file)["end"].get("trained")
        if manner is None:  # written before it was told
            return None
        roles = ("query", "document")
        return {
            "prompts": {
                role: [str(prompt) for prompt in manner["prompts"][role]] for role in roles
            },
            "lengths": {role: int(manner["lengths"][role]) for role in roles},
            "pooling": manner["pooling"],
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{path} is damaged ({type(error).__name__}: {error})",
            "copy the model again, or delete the file",
        ) from None


def _saved(options: Any, name: str, encoder: Encoder) -> Iterator[tuple[str, str]]:
    """A model that was saved with a prompt was trained with it."""
    for role, given in (("query", options.query_prompt), ("document", options.doc_prompt)):
        own, flag = role_prompt(encoder.model, role, None), FLAGS[role, "prompt"]
        if given is not None and own and given != own:
            yield (
                f"{name} was saved with the {role} prompt {own!r}, {flag} asks for {given!r}",
                f"leave {flag} out: it is read from the model",
            )


def _prompts(
    options: Any, name: str, encoder: Encoder, trained: dict[str, list[str]], of_data: set[str]
) -> Iterator[tuple[str, str]]:
    """Only where one prompt stood before all training texts: a model of many instructions may meet new ones."""
    for role, given in (("query", options.query_prompt), ("document", options.doc_prompt)):
        if len(trained[role]) != 1:
            continue
        (right,), now = trained[role], encoder.prompts[role]
        told = (
            f"{name} was trained with the {role} prompt {right!r}"
            if right
            else f"{name} was trained without a {role} prompt"
        )
        if now != right and given is not None:
            yield (
                f"{told}, {FLAGS[role, 'prompt']} asks for {given!r}",
                f"leave {FLAGS[role, 'prompt']} out, or {ALLOW}",
            )
        elif now != right:
            yield f"{told}, its folder now has {now!r}", f"copy the model again, or {ALLOW}"
        other = next((prompt for prompt in sorted(of_data) if prompt != right), None)
        if role == "query" and other is not None:
            yield (
                f"{told}, the test data ask for {other!r}",
                f"drop the column `prompt` of the test data, or {ALLOW}",
            )


def _lengths(
    options: Any, name: str, encoder: Encoder, trained: dict[str, int]
) -> Iterator[tuple[str, str]]:
    for role, given in (("query", options.query_length), ("document", options.doc_length)):
        told, flag = (
            f"{name} was trained on {role} texts of {trained[role]} tokens",
            FLAGS[role, "length"],
        )
        if given is not None and given != trained[role]:
            yield (
                f"{told}, {flag} asks for {given}",
                f"leave {flag} out or pass {trained[role]}; or {ALLOW}",
            )
        elif encoder.lengths[role] < trained[role]:
            yield (
                f"{told}, its folder now cuts them after {encoder.lengths[role]}",
                f"copy the model again, or {ALLOW}",
            )
