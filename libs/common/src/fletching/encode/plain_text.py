"""Transformers that read texts as they are, and not through the chat template of their tokenizer.

sentence-transformers 6 renders every text through the template where it opens a bare transformer
whose tokenizer has one, as those of instruct models have. LLM2Vec, E5 and their like embed the text
alone, and a vector would depend on the template's date and system prompt. A folder that
sentence-transformers has saved says for itself what it reads.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from fletching.errors import InputError

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

TEXT, MESSAGE = "text", "message"
MODULES = "modules.json"  # of a folder that sentence-transformers has saved


def without_chat_template(model: SentenceTransformer, name: str) -> SentenceTransformer:
    """The model, in place: a bare transformer, by its folder or hub name, reads plain text."""
    if not is_saved(name):
        leave_out_chat_template(model)
    return model


def has_chat_template(model: SentenceTransformer) -> bool:
    """Does it render texts through a chat template?"""
    return MESSAGE in getattr(model[0], "modality_config", {})


def leave_out_chat_template(model: SentenceTransformer) -> None:
    """Texts are the one modality, in place; the template stays in the tokenizer."""
    if has_chat_template(model):
        transformer: Any = model[0]
        transformer.modality_config = {TEXT: transformer.modality_config[TEXT]}
        transformer.input_formatter.supported_modalities = [TEXT]


def refuse_chat_template(model: SentenceTransformer, name: str) -> None:
    """Raise InputError where the model was saved to render texts through a chat template."""
    if has_chat_template(model):
        raise InputError(
            f"--model {name} reads its texts through a chat template, which cannot be trained yet",
            f"remove `message` from modality_config in {name}/sentence_bert_config.json, so that "
            "it reads the texts alone",
        )


def is_saved(name: str) -> bool:
    """Is it a sentence-transformers folder, or such a model of the hub that was fetched?"""
    if os.path.isdir(name):
        return os.path.isfile(os.path.join(name, MODULES))
    from huggingface_hub import try_to_load_from_cache

    return isinstance(try_to_load_from_cache(name, MODULES), str)
