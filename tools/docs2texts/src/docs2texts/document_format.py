"""The registry of formats: which parser takes which files."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from docs2texts.blocks import Document, TextBlock
from fletching.registry import Registry

Parser = Callable[[Document], Iterable[TextBlock]]


@dataclass(frozen=True, kw_only=True)
class DocumentFormat:
    """One format.

    extensions: of its files, lower case, with the dot. is_text: is it decoded before it is parsed?
    is_code: is it source code? extra: of this package, whose library it needs. fallback: the format
    that takes what its parser refuses.
    """

    name: str
    extensions: tuple[str, ...]
    parse: Parser
    is_text: bool = True
    is_code: bool = False
    extra: str = ""
    fallback: str = ""


FORMATS = Registry[DocumentFormat]("format", package="docs2texts.formats")


def register(document_format: DocumentFormat) -> None:
    """Add a format."""
    FORMATS.register(document_format.name, document_format)


def format_of(source: str) -> DocumentFormat | None:
    """The format of a file by its name; text where it has no extension (README); None: unknown."""
    stem, extension = os.path.splitext(os.path.basename(source).lower())
    if not extension:
        return FORMATS["text"] if stem else None
    return _by_extension().get(extension)


@functools.cache
def _by_extension() -> Mapping[str, DocumentFormat]:
    return {extension: each for each in FORMATS.values() for extension in each.extensions}
