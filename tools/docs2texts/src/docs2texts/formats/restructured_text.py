"""reStructuredText, by docutils; directives and roles of Sphinx keep their text."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from docs2texts.blocks import Document, Form, Headings, LineIndex, TextBlock
from docs2texts.document_format import DocumentFormat, register

if TYPE_CHECKING:
    from docutils import nodes

ROLES = re.compile(r":((?:[a-z][\w+-]*:)?[a-z][\w+-]*):`")
DIRECTIVES = re.compile(r"^[ \t]*\.\. ((?:[a-z][\w-]*:)?[a-z][\w-]*)::", re.MULTILINE)
# Directives whose lines are options, names of files or code, not text.
LITERAL = {
    "code-block", "sourcecode", "doctest", "testcode", "testoutput", "productionlist", "highlight",
}  # fmt: skip
SILENT = {"toctree", "index", "module", "currentmodule", "tabularcolumns"}
CONDITIONS = {"only", "ifconfig"}
SETTINGS = {
    "file_insertion_enabled": False,  # a document cannot read other files
    "raw_enabled": False,
    "report_level": 5,
    "halt_level": 5,
    "_disable_config": True,
    "smart_quotes": False,
    "doctitle_xform": False,
}


def parse(document: Document) -> Iterator[TextBlock]:
    """The paragraphs, lists, tables and literal blocks under their headings."""
    from docutils.core import publish_doctree

    _register_unknown_names(document.text)
    tree = publish_doctree(document.text, settings_overrides=SETTINGS)
    lines = LineIndex(document.text)
    waiting = [*_blocks(tree, Headings(), depth=1)]
    previous = 0
    for node, headings, section in waiting:
        text = _text_of(node)
        if not text.strip():
            continue
        first = max((_line_of(node) or previous + 1) - 1, previous)
        stop = min(first + text.count("\n") + 1, len(lines))
        previous = first
        form: Form = "code" if node.tagname in ("literal_block", "doctest_block") else "prose"
        span = lines.lines_span(first, stop)
        yield TextBlock(text=text, headings=headings, section=section, span=span, form=form)


def _blocks(
    parent: nodes.Element, headings: Headings, *, depth: int
) -> Iterator[tuple[nodes.Element, tuple[str, ...], int]]:
    """(block, headings above it, number of its section); sections are entered."""
    from docutils import nodes

    for node in parent.children:
        if isinstance(node, nodes.section):
            yield from _blocks(node, headings, depth=depth + 1)
            headings.section += 1
        elif isinstance(node, nodes.title):
            headings.enter(depth, " ".join(node.astext().split()))
        elif isinstance(node, (nodes.comment, nodes.substitution_definition, nodes.target)):
            continue
        elif isinstance(node, nodes.Element):
            yield node, headings.path, headings.section


def _text_of(node: nodes.Element) -> str:
    """The text of a block: a line for each paragraph, list item, row and line of code."""
    from docutils import nodes

    if isinstance(node, (nodes.system_message, nodes.comment)):
        return ""
    if isinstance(node, (nodes.TextElement, nodes.literal_block)):
        return str(node.astext())
    if isinstance(node, nodes.row):
        return " | ".join(" ".join(_text_of(cell).split()) for cell in node.children)
    parts = [_text_of(child) for child in node.children if isinstance(child, nodes.Element)]
    mark = "- " if isinstance(node, nodes.list_item) else ""
    return mark + "\n".join(part for part in parts if part.strip())


def _line_of(node: nodes.Element) -> int | None:
    """The first line that a block or something in it states."""
    from docutils import nodes

    lines = (each.line for each in node.findall(nodes.Element) if each.line)
    return next(lines, None)


def _register_unknown_names(text: str) -> None:
    """Let docutils take roles and directives that it does not know, as Sphinx's, for their text."""
    from docutils.parsers.rst import directives, languages, roles

    english = languages.get_language("en")
    for name in sorted(set(ROLES.findall(text))):
        if name not in english.roles and name not in roles._roles:
            roles.register_local_role(name, _text_role)
    for name in sorted({*DIRECTIVES.findall(text), *LITERAL, *SILENT, *CONDITIONS}):
        if name not in english.directives and name not in directives._directives:
            directives.register_directive(name, _directive_class(name))


def _text_role(
    name: str, rawtext: str, text: str, *more: object, **options: object
) -> tuple[list[nodes.Node], list[nodes.Node]]:
    """A role of Sphinx: its target as code, or the words before `<target>`."""
    from docutils import nodes

    shown = re.sub(r"\s*<[^<>]*>$", "", text, count=1) or text
    return [nodes.literal(rawtext, shown.lstrip("~!").replace("\x00", ""))], []


class EveryOption(dict[str, Callable[[str], str]]):
    """The options of a directive that takes all of them."""

    def __bool__(self) -> bool:
        return True

    def __getitem__(self, key: str) -> Callable[[str], str]:
        return str


def _directive_class(name: str) -> type:
    """A directive that keeps its argument and its content, parsed; or its content as code."""
    from docutils import nodes
    from docutils.parsers.rst import Directive

    short = name.rpartition(":")[2]

    class KeptDirective(Directive):  # type: ignore[misc]
        """What Sphinx would format: only its text counts."""

        optional_arguments = 100
        final_argument_whitespace = True
        has_content = True
        option_spec = EveryOption()

        def run(self) -> list[nodes.Node]:
            """The nodes that replace the directive."""
            if short in SILENT:
                return []
            text = "\n".join(self.content)
            if short in LITERAL:
                return [nodes.literal_block(text, text)] if text.strip() else []
            container = nodes.container()
            container.line = self.lineno
            if self.arguments and short not in CONDITIONS:
                argument = " ".join(self.arguments)
                container += nodes.paragraph(argument, argument)
            self.state.nested_parse(self.content, self.content_offset, container)
            return [container]

    return KeptDirective


register(DocumentFormat(name="rst", extensions=(".rst", ".rest"), parse=parse, fallback="text"))
