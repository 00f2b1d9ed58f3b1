"""HTML, by lxml's event parser: no tree is built, so that no nesting is too deep."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from docs2texts.blocks import Document, Form, Headings, Span, TextBlock, is_first_level
from docs2texts.document_format import DocumentFormat, register

PARAGRAPHS = frozenset(
    "address article aside blockquote body caption center dd details dialog div dl dt fieldset "
    "figcaption figure form hr legend li main ol option p section summary table tbody tfoot thead "
    "tr ul html head title nav footer header pre h1 h2 h3 h4 h5 h6".split()
)
HEADINGS = {f"h{level}": level for level in range(1, 7)}
INVISIBLE = frozenset("script style template noscript svg math select button iframe object".split())
NAVIGATION = frozenset(("nav", "footer"))
NAVIGATION_ROLES = frozenset(("navigation", "contentinfo", "search"))
VOID = frozenset("area base br col embed hr img input link meta source track wbr".split())
PERMALINKS = "¶#🔗"  # behind headings of generated pages
FED_AT_ONCE = 1 << 20  # characters


class PageReader:
    """Takes the parser's events and collects blocks: (level of a heading or "", text, form)."""

    def __init__(self) -> None:
        self.blocks: list[tuple[int | str, str, Form]] = []
        self.parts: list[str] = []
        self.open: list[tuple[str, bool]] = []  # tags, and is each of them navigation?
        self.title = ""
        self.invisible = 0
        self.navigation = 0
        self.preformatted = 0
        self.mark = ""

    def start(self, tag: str, attributes: Mapping[str, str]) -> None:
        """An opening tag."""
        if tag == "br":
            self.parts.append("\n")
        if tag in VOID:
            return
        is_navigation = tag in NAVIGATION or attributes.get("role") in NAVIGATION_ROLES
        if tag in PARAGRAPHS or is_navigation:
            self._close_block()
        elif tag in ("td", "th") and "".join(self.parts).strip():
            self.parts.append(" | ")
        if tag == "li":
            self.mark = "- "
        self.open.append((tag, is_navigation))
        self.invisible += tag in INVISIBLE
        self.navigation += is_navigation
        self.preformatted += tag == "pre"

    def end(self, tag: str) -> None:
        """A closing tag; the parser adds those that a page leaves out."""
        if tag in VOID:
            return
        if tag in PARAGRAPHS or (self.open and self.open[-1][1]):
            self._close_block(tag)
        if not self.open or self.open[-1][0] != tag:
            return
        _, is_navigation = self.open.pop()
        self.invisible -= tag in INVISIBLE
        self.navigation -= is_navigation
        self.preformatted -= tag == "pre"

    def data(self, text: str) -> None:
        """Text between tags."""
        if not self.invisible:
            # Line ends of the source are blanks; those of <br> are line ends.
            self.parts.append(text if self.preformatted else text.replace("\n", " "))

    def close(self) -> PageReader:
        """The end of the page."""
        self._close_block()
        return self

    def _close_block(self, tag: str = "") -> None:
        text = "".join(self.parts)
        self.parts = []
        if self.preformatted:
            text = text.strip("\n").rstrip()
        else:
            lines = (" ".join(line.split()) for line in text.split("\n"))
            text = "\n".join(line for line in lines if line)
        if not text.strip():
            return
        if tag == "title" and not self.title:
            self.title = text
        elif tag in HEADINGS and not self.navigation:
            self.blocks.append((HEADINGS[tag], text.strip(PERMALINKS + " \n"), "prose"))
        elif tag != "title":
            form: Form = "code" if self.preformatted else "prose"
            self.blocks.append(("", self.mark + text, "navigation" if self.navigation else form))
            self.mark = ""


def read_page(text: str) -> PageReader:
    """The blocks of a page."""
    from lxml import etree

    parser = etree.HTMLParser(target=PageReader(), huge_tree=True)
    for start in range(0, len(text), FED_AT_ONCE):
        parser.feed(text[start : start + FED_AT_ONCE])
    reader: PageReader = parser.close()
    return reader


def parse(document: Document) -> Iterator[TextBlock]:
    """The paragraphs, list items, table rows of a page under their headings."""
    page = read_page(document.text)
    levels = [(level, "") for level, _, _ in page.blocks if isinstance(level, int)]
    has_root = is_first_level(levels) or not page.title
    headings = Headings(() if has_root else (" ".join(page.title.split()),))
    offset = 0
    for level, text, form in page.blocks:
        end = offset + len(text)
        if isinstance(level, int):
            headings.enter(level, " ".join(text.split()))
        else:
            yield TextBlock(
                text=text,
                headings=headings.path,
                section=headings.section,
                span=Span(start=offset, end=end),
                form=form,
            )
        offset = end + 2


def text_of_html(text: str) -> str:
    """The text of a piece of HTML within another format.

    >>> text_of_html("<p align=center>A <b>bold</b> word</p><!-- none -->")
    'A bold word'
    """
    return "\n".join(text for _, text, _ in read_page(text).blocks) if text.strip() else ""


register(DocumentFormat(name="html", extensions=(".html", ".htm", ".xhtml"), parse=parse))
