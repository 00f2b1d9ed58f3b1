"""What the card of a base model says of it: its name on the hub, licence and languages.

A card is data of others: its YAML is read within limits, and what is no name is no name.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml
from huggingface_hub.repocard import REGEX_YAML_BLOCK

from fletching import yaml_text

CARD = "README.md"
HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
SNAPSHOT = re.compile(r"models--([\w.-]+?)--([\w.-]+)/snapshots/[0-9a-f]+/?$")  # of the hub's cache
LOADED_NAME = re.compile(r"""(?:SentenceTransformer|from_pretrained)\(\s*["']([^"']+)["']""")
HUB_SECONDS = 5.0  # to wait for the card of a model on the hub
# Licences that let a model be used, changed and sold, with conditions such as naming its authors.
FREE = (
    "afl-3.0", "apache-2.0", "artistic-2.0", "bsd", "bsd-2-clause", "bsd-3-clause", "bsl-1.0",
    "cc-by-2.0", "cc-by-3.0", "cc-by-4.0", "cc-by-sa-3.0", "cc-by-sa-4.0", "cc0-1.0",
    "cdla-permissive-2.0", "ecl-2.0", "isc", "mit", "mpl-2.0", "odc-by", "openmdw-1.0",
    "postgresql", "unlicense", "wtfpl", "zlib",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class BaseCard:
    """What is known of a base model.

    name: on the hub, "" where nothing says it. license: its identifier, "" where none is stated.
    link: of a licence that the hub has no identifier for. languages: their codes. text: the card.
    """

    name: str = ""
    license: str = ""
    license_name: str = ""
    link: str = ""
    languages: tuple[str, ...] = ()
    text: str = ""

    @property
    def restriction(self) -> str:
        """What a user of the licence must know, in a sentence; "" where it is a free one."""
        if not self.license:
            return ""
        identifier = self.license.lower()
        if identifier in FREE:
            return ""
        shown = self.license_name or self.license
        if "-nc" in identifier or "noncommercial" in identifier or "-nc" in shown.lower():
            return f"The base's licence, {shown}, forbids commercial use; so does this model's."
        if "-nd" in identifier:
            return f"The base's licence, {shown}, forbids sharing changed versions of it."
        if identifier == "unknown":
            return "The base's card says that its licence is unknown: ask its authors before use."
        return (
            f"The base's licence, {shown}, has conditions of its own: read it before this model "
            "is used or shared."
        )


def read_base_card(model: str) -> BaseCard:
    """What the files of a model say: of a folder, or of a hub name by its card there.

    A folder's own name is no name on the hub; that in its card or config is.
    """
    is_folder = os.path.isdir(model)
    text = _card_of_folder(model) if is_folder else _card_on_hub(model)
    metadata = _metadata(text)
    return BaseCard(
        name=_name_of_folder(model, text, metadata) if is_folder else hub_name(model),
        license=_text(metadata.get("license")),
        license_name=_text(metadata.get("license_name")),
        link=_text(metadata.get("license_link")),
        languages=_texts(metadata.get("language")),
        text=text,
    )


def hub_name(model: object) -> str:
    """The text where it is the name of a model on the hub, else ""."""
    is_name = isinstance(model, str) and HUB_NAME.fullmatch(model) and not os.path.isdir(model)
    return str(model) if is_name else ""


def _name_of_folder(folder: str, text: str, metadata: Mapping[str, Any]) -> str:
    """The hub's cache names its folders; a card loads its model, or names its base."""
    snapshot = SNAPSHOT.search(os.path.realpath(folder))
    if snapshot:
        return f"{snapshot[1]}/{snapshot[2]}"
    names = [*LOADED_NAME.findall(text), *_texts(metadata.get("base_model"))]
    if not text:
        names.append(_config_name(folder))
    return next((name for name in map(hub_name, names) if name), "")


def _config_name(folder: str) -> str:
    """Where the weights of a folder came from, as its config.json says."""
    try:
        with open(os.path.join(folder, "config.json"), encoding="utf-8") as file:
            content = json.load(file)
    except (OSError, ValueError, RecursionError):
        return ""
    return _text(content.get("_name_or_path")) if isinstance(content, dict) else ""


def _card_of_folder(folder: str) -> str:
    try:
        with open(os.path.join(folder, CARD), encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def _card_on_hub(model: str) -> str:
    """The card from the hub or its cache; "" where neither has it."""
    if not hub_name(model):
        return ""
    from huggingface_hub import hf_hub_download

    try:
        path = hf_hub_download(model, CARD, etag_timeout=HUB_SECONDS)
    except Exception:  # no network, no card, no access: each has its exceptions
        return ""
    return _card_of_folder(os.path.dirname(path))


def _metadata(text: str) -> Mapping[str, Any]:
    """The front matter of a card; {} where it has none that can be read."""
    try:
        block = REGEX_YAML_BLOCK.search(text)
        content = yaml_text.parse(block[2].encode(), keys_may_repeat=True) if block else None
    except (ValueError, RecursionError, yaml.YAMLError):
        return {}
    return content if isinstance(content, dict) else {}


def _text(value: object) -> str:
    """One value of front matter as a line; lists give their first."""
    if isinstance(value, Sequence) and not isinstance(value, str):
        value = value[0] if value else ""
    return value.strip() if isinstance(value, str) and value.isprintable() else ""


def _texts(value: object) -> tuple[str, ...]:
    values = value if isinstance(value, list) else [value]
    return tuple(filter(None, map(_text, values)))
