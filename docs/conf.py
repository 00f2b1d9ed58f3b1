"""Sphinx settings: `make docs-site` builds without a network; command pages are generated."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "scripts"))

import build_docs  # noqa: E402

if TYPE_CHECKING:
    from sphinx.application import Sphinx

project = "Fletching"
author = "The Fletching authors"
copyright = "The Fletching authors, Apache-2.0"
version = release = build_docs.version()

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.viewcode"]
myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = "Fletching"
html_static_path: list[str] = []
autodoc_member_order = "bysource"
autodoc_typehints = "description"
# Pages are read where they lie in the repository; their links to its files lead out of the site.
suppress_warnings = ["myst.xref_missing", "myst.header", "misc.highlighting_failure"]
nitpicky = False


def setup(app: Sphinx) -> None:
    """Write the generated pages before Sphinx looks for pages."""
    build_docs.write_site_pages(Path(__file__).parent)
