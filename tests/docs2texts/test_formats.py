"""What each format becomes: headings as titles, spans that are true, nothing lost."""

from __future__ import annotations

import io
import itertools
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from docs2texts.blocks import Document
from docs2texts.chunking import Chunker
from docs2texts.document_format import FORMATS, format_of
from docs2texts.tokens import estimate_tokens


def texts(name: str, text: str, *, max_tokens: int = 256, overlap: int = 0):
    """(title, text) of a document."""
    blocks = list(FORMATS[name].parse(Document(source="a.txt", text=text)))
    chunker = Chunker(estimate_tokens, max_tokens=max_tokens, overlap=overlap)
    return [(chunk.title, chunk.text) for chunk in chunker.chunks(blocks)]


def test_markdown_keeps_headings_lists_tables_and_code_without_marks():
    text = (
        "---\ntitle: Manual\n---\nIntro with a [link](http://x) and `code`.\n\n"
        "# One\n\n- first **item**\n- second\n\n## Two\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n"
        "```sh\nmake  install\n```\n\n# Three\n\n<p>An <b>HTML</b> block</p>\n"
    )
    assert texts("markdown", text) == [
        ("Manual", "Intro with a link and code."),
        ("Manual > One", "- first item\n- second"),
        ("Manual > One > Two", "a | b\n1 | 2\n\nmake  install"),
        ("Manual > Three", "An HTML block"),
    ]


def test_one_first_heading_is_the_root_and_no_front_matter_is_put_above_it():
    text = "---\ntitle: Other\n---\n# Guide\n\na b\n\n## Install\n\nc d\n"
    assert [title for title, _ in texts("markdown", text)] == ["Guide", "Guide > Install"]


def test_html_by_events():
    text = (
        "<!doctype html><title>Shop</title><style>p{}</style><nav>Home</nav>"
        "<h1>Goods ¶</h1><p>One &amp; <b>two</b><br>lines\nof text<script>if (a < b) {}</script>"
        "<h2>Prices</h2><table><tr><th>a<th>b<tr><td>1<td>2</table><ul><li>x<li>y</ul>"
        "<pre>  code\n   here</pre><footer>Imprint</footer>"
    )
    blocks = list(FORMATS["html"].parse(Document(source="a.html", text=text)))
    assert [block.text for block in blocks if block.form == "navigation"] == ["Home", "Imprint"]
    kept = [(block.headings, block.text) for block in blocks if block.form != "navigation"]
    assert kept == [
        (("Goods",), "One & two\nlines of text"),
        (("Goods", "Prices"), "a | b"),
        (("Goods", "Prices"), "1 | 2"),
        (("Goods", "Prices"), "- x"),
        (("Goods", "Prices"), "- y"),
        (("Goods", "Prices"), "  code\n   here"),
    ]


def test_a_page_of_very_deep_elements_or_huge_attributes_is_read():
    deep = "<div>" * 100_000 + "deep" + "</div>" * 100_000 + "<p>after</p>"
    assert [text for _, text in texts("html", deep)] == ["deep\n\nafter"]
    wide = f"<p title='{'x' * 5_000_000}'>wide</p>"
    assert [text for _, text in texts("html", wide)] == ["wide"]


def test_restructured_text_keeps_what_directives_and_roles_of_sphinx_say():
    text = (
        "Title\n=====\n\nSee :func:`os.path.join` and :ref:`that page <label>`.\n\n"
        ".. note:: Careful\n\n   Inner text.\n\n.. toctree::\n\n   other\n\n"
        "Sub\n---\n\n.. py:function:: spam(x)\n   :module: m\n\n   Does it.\n\n"
        ".. code-block:: python\n\n   x = 1\n\n* one\n* two\n"
    )
    [first, second] = texts("rst", text)
    assert first[0] == "Title"
    assert "See os.path.join and that page." in first[1]
    assert "Careful" in first[1] and "Inner text." in first[1]
    assert second[0] == "Title > Sub"
    for part in ("spam(x)", "Does it.", "x = 1", "- one\n- two"):
        assert part in second[1]


def test_restructured_text_reads_no_other_file(tmp_path: Path):
    secret = tmp_path / "secret.txt"
    secret.write_text("a secret")
    text = f"a b\n\n.. include:: {secret}\n\n.. raw:: html\n   :file: {secret}\n"
    assert "secret\n" not in " ".join(text for _, text in texts("rst", text)).replace(
        str(secret), ""
    )


def test_python_gives_a_text_for_each_function_with_its_decorators():
    text = (
        '"""A module."""\n\nimport os\n\n\n@cache\ndef f(x):\n    return x\n\n\n'
        "class A(B):\n    y = 1\n\n    def g(self):\n        return 2\n\n    z = 3\n"
    )
    assert texts("python", text) == [
        ("a.txt", '"""A module."""\n\nimport os'),
        ("a.txt > f", "@cache\ndef f(x):\n    return x"),
        ("a.txt > A", "class A(B):\n    y = 1"),
        ("a.txt > A > g", "    def g(self):\n        return 2"),
        ("a.txt > A", "    z = 3"),
    ]


def test_other_source_is_cut_where_something_begins_at_the_margin():
    text = "// one\nint f() {\n\n  return 1;\n}\n\nint g() {\n  return 2;\n}\n"
    found = texts("c", text)
    assert [text for _, text in found] == [
        "// one\nint f() {\n\n  return 1;\n}",
        "int g() {\n  return 2;\n}",
    ]


def test_files_are_taken_by_their_names():
    names = {"README": "text", "a.MD": "markdown", "b.tar.py": "python", "c.htm": "html"}
    assert {name: format_of(name).name for name in names} == names
    assert format_of("x.png") is None


words = st.text(st.characters(codec="utf-8", exclude_characters="\r"), max_size=200)


@settings(max_examples=40, deadline=None)
@given(text=words, size=st.integers(16, 60), overlap=st.integers(0, 8))
def test_plain_text_is_cut_without_loss_and_spans_are_true(text: str, size: int, overlap: int):
    document = Document(source="a", text=text)
    blocks = list(FORMATS["text"].parse(document))
    chunks = list(Chunker(estimate_tokens, max_tokens=size, overlap=overlap).chunks(blocks))
    for chunk in chunks:
        assert estimate_tokens(chunk.text) <= size
        inside = text[chunk.span.start : chunk.span.end]
        assert "".join(inside.split()) == "".join(chunk.text.split())
    if not overlap:
        whole = "".join("".join(chunk.text.split()) for chunk in chunks)
        assert whole == "".join(text.split())


def test_sections_are_cut_evenly_between_sentences_and_overlap_repeats_them():
    text = " ".join(f"This is sentence number {n} of many." for n in range(12))
    plain = [part for _, part in texts("text", text, max_tokens=40)]
    assert all(part.endswith(".") for part in plain)
    assert max(map(len, plain)) < 2 * min(map(len, plain))
    lapped = [part for _, part in texts("text", text, max_tokens=40, overlap=10)]
    for before, after in itertools.pairwise(lapped):
        assert after.startswith("This" + before.rsplit("This", 1)[1])


def test_a_word_longer_than_a_text_is_cut():
    parts = [part for _, part in texts("text", "x" * 1000, max_tokens=16)]
    assert "".join(parts) == "x" * 1000
    assert all(estimate_tokens(part) <= 16 for part in parts)


def docx_file() -> bytes:
    docx = pytest.importorskip("docx")
    document = docx.Document()
    document.add_heading("Manual", 0)
    document.add_paragraph("The first words.")
    document.add_heading("Use", 1)
    table = document.add_table(1, 2)
    table.cell(0, 0).text, table.cell(0, 1).text = "a", "b"
    out = io.BytesIO()
    document.save(out)
    return out.getvalue()


def test_word_documents_keep_headings_and_tables():
    blocks = list(FORMATS["docx"].parse(Document(source="a.docx", content=docx_file())))
    assert [(block.headings, block.text) for block in blocks] == [
        (("Manual",), "The first words."),
        (("Manual", "Use"), "a | b"),
    ]


def pdf_file(text: str) -> bytes:
    """A PDF of one page, by hand: the smallest that has a font and a line."""
    stream = f"BT /F1 12 Tf 72 720 Td ({text}) Tj ET".encode()
    objects = [
        b"<</Type/Catalog/Pages 2 0 R>>",
        b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
        b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 612 792]/Contents 4 0 R"
        b"/Resources<</Font<</F1 5 0 R>>>>>>",
        b"<</Length %d>>stream\n%s\nendstream" % (len(stream), stream),
        b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>",
    ]
    out = b"%PDF-1.4\n"
    offsets = []
    for number, content in enumerate(objects, 1):
        offsets.append(len(out))
        out += b"%d 0 obj%s\nendobj\n" % (number, content)
    table = b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    start = len(out)
    out += b"xref\n0 6\n0000000000 65535 f \n" + table
    return out + b"trailer<</Size 6/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF" % start


def test_a_page_of_a_pdf():
    pytest.importorskip("pypdf")
    [block] = FORMATS["pdf"].parse(Document(source="a.pdf", content=pdf_file("Some words")))
    assert (block.text, block.span.page) == ("Some words", 1)
