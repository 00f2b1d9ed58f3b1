"""Markdown, by markdown-it: paragraphs, lists, tables and code under their headings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from docs2texts.blocks import Document, Form, Headings, LineIndex, TextBlock, is_first_level
from docs2texts.document_format import DocumentFormat, register
from docs2texts.formats.html import text_of_html

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.token import Token

DEEPEST = 100  # quotes and lists within each other
CODE = ("fence", "code_block")


def parse(document: Document) -> Iterator[TextBlock]:
    """The blocks of the outermost level, their text without marks."""
    tokens = _parser().parse(document.text)
    lines = LineIndex(document.text)
    headings = Headings(_root(tokens))
    for group in _groups(tokens):
        first = group[0]
        if first.type == "heading_open":
            headings.enter(int(first.tag[1:]), " ".join(_inline_text(group[1]).split()))
            continue
        text = render(group)
        if not text.strip() or first.map is None:
            continue
        form: Form = "code" if first.type in CODE else "prose"
        span = lines.lines_span(*first.map)
        yield TextBlock(
            text=text, headings=headings.path, section=headings.section, span=span, form=form
        )


def _parser() -> MarkdownIt:
    from markdown_it import MarkdownIt
    from mdit_py_plugins.front_matter import front_matter_plugin

    parser = MarkdownIt("commonmark", {"maxNesting": DEEPEST})
    return parser.enable(["table", "strikethrough"]).use(front_matter_plugin)


def _root(tokens: Sequence[Token]) -> tuple[str, ...]:
    """The title of the front matter, where no single heading is the title of all."""
    levels = [(int(token.tag[1:]), "") for token in tokens if token.type == "heading_open"]
    if is_first_level(levels) or not tokens or tokens[0].type != "front_matter":
        return ()
    import yaml

    from fletching import yaml_text

    try:
        content = yaml_text.parse(tokens[0].content.encode())
    except (ValueError, yaml.YAMLError):
        return ()
    title = content.get("title") if isinstance(content, dict) else None
    return (" ".join(title.split()),) if isinstance(title, str) and title.strip() else ()


def _groups(tokens: Sequence[Token]) -> Iterator[Sequence[Token]]:
    """The tokens of each block of the outermost level."""
    start = depth = 0
    for number, token in enumerate(tokens):
        depth += token.nesting
        if depth == 0:
            group = tokens[start : number + 1]
            start = number + 1
            if group[0].type not in ("front_matter", "hr"):
                yield group


def render(tokens: Sequence[Token]) -> str:
    """The text of a block: a line for each paragraph, list item, table row."""
    lines: list[str] = []
    cells: list[str] | None = None
    mark = ""
    for token in tokens:
        if token.type == "list_item_open":
            mark = "- "
        elif token.type == "tr_open":
            cells = []
        elif token.type == "tr_close" and cells is not None:
            lines.append(" | ".join(cells))
            cells = None
        elif token.type == "inline" and cells is not None:
            cells.append(_inline_text(token))
        elif token.type in ("inline", "html_block", *CODE):
            lines.append(mark + _leaf_text(token))
            mark = ""
    return "\n".join(line for line in lines if line.strip())


def _leaf_text(token: Token) -> str:
    if token.type == "inline":
        return _inline_text(token)
    if token.type == "html_block":
        return text_of_html(token.content)
    return token.content.rstrip()


def _inline_text(token: Token) -> str:
    """The text of a line without marks; of images their description."""
    parts: list[str] = []
    for child in token.children or ():
        if child.type in ("softbreak", "hardbreak"):
            parts.append("\n")
        elif child.type == "image":
            parts.append(_inline_text(child))
        elif child.type in ("text", "code_inline", "text_special"):
            parts.append(child.content)
    return "".join(parts).strip()


register(
    DocumentFormat(
        name="markdown",
        extensions=(".md", ".markdown", ".mkd", ".mdx"),
        parse=parse,
        fallback="text",
    )
)
