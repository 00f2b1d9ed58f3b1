"""What every HTML page of a tool must have: a name for all that is drawn or tabled, and nothing from outside."""

from __future__ import annotations

import re


def check_page(page: str) -> None:
    """Fail where a reader in the dark, on paper, on a phone or without sight would miss something."""
    for words in ("prefers-color-scheme: dark", "@media print", "width=device-width", 'lang="en"'):
        assert words in page, words
    assert "default-src 'none'" in page and "<script" not in page
    assert not re.search(r'(?:src|href)="(?!#)', page), "a page loads and leads nowhere"
    for table in re.findall(r"<table.*?</table>", page, re.S):
        assert "<caption>" in table, table[:200]
        for cell in re.findall(r"<th\b[^>]*>", table):
            assert 'scope="' in cell, cell
    for drawing in re.findall(r"<svg[^>]*>", page):
        is_named = 'role="img"' in drawing and re.search(r'aria-label(?:ledby)?="[^"]', drawing)
        assert is_named or 'aria-hidden="true"' in drawing, drawing
    for region in re.findall(r'<div class="wide"[^>]*>', page):
        assert 'tabindex="0"' in region and 'aria-label="' in region, region
