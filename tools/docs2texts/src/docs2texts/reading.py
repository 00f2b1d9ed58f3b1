"""Files to blocks: decoded, parsed, and named with the reason where that is not possible."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from docs2texts.blocks import Document, TextBlock
from docs2texts.decoding import UndecodableError, decode
from docs2texts.document_format import FORMATS, DocumentFormat, format_of
from docs2texts.files import ListedFile
from docs2texts.options import Options

LONG_LINE = 200  # characters, on average


class UnreadableDocumentError(Exception):
    """A document gives no text. Its message is the reason for the account."""


@dataclass(kw_only=True)
class ReadDocument:
    """The blocks of a file.

    encoding: "" of formats that are not text. fallback: the format that took it, where its parser
    refused.
    """

    source: str
    format: str
    blocks: Sequence[TextBlock]
    encoding: str = ""
    fallback: str = field(default="")


def read_document(file: ListedFile, options: Options) -> ReadDocument:
    """The blocks of a file. Raises UnreadableDocumentError."""
    if file.reason:
        raise UnreadableDocumentError(file.reason)
    document_format = format_of(file.source)
    if document_format is None:
        raise UnreadableDocumentError("of another format")
    content = _content(file)
    if not document_format.is_text:
        document = Document(source=file.source, content=content)
        return _parsed(document, document_format)
    try:
        text, encoding = decode(
            content, format_name=document_format.name, encoding=options.encoding
        )
    except UndecodableError as error:
        raise UnreadableDocumentError(str(error)) from None
    if document_format.is_code and is_minified(text):
        raise UnreadableDocumentError("minified or generated")
    parsed = _parsed(Document(source=file.source, text=text), document_format)
    return replace(parsed, encoding=encoding)


def is_minified(text: str) -> bool:
    """Are the lines of source code so long that nobody wrote them?

    Search indexes and packed scripts of generated sites would else be most of their texts.
    """
    return len(text) > LONG_LINE * (text.count("\n") + 1)


def _content(file: ListedFile) -> bytes:
    """The bytes of a file, no more than it had when it was listed."""
    try:
        with open(file.path, "rb") as opened:
            return opened.read(file.size)
    except OSError as error:
        reason = (error.strerror or "error").lower()
        raise UnreadableDocumentError(f"not readable: {reason}") from None


def _parsed(document: Document, document_format: DocumentFormat) -> ReadDocument:
    fallback = ""
    try:
        blocks = [*document_format.parse(document)]
    except ImportError:
        extra = document_format.extra
        raise UnreadableDocumentError(
            f"needing pip install 'fletching-docs2texts[{extra}]'"
        ) from None
    except Exception:  # parsers of others raise what they like for a broken document
        fallback = document_format.fallback
        if not fallback:
            raise UnreadableDocumentError(f"broken {document_format.name.upper()}") from None
        blocks = [*FORMATS[fallback].parse(document)]
    if not any(block.text.strip() for block in blocks):
        raise UnreadableDocumentError("without text")
    return ReadDocument(
        source=document.source, format=document_format.name, blocks=blocks, fallback=fallback
    )
