"""Sphinx' configuration: the site of docs/, readable without a network."""

from __future__ import annotations

import sys
from pathlib import Path

from sphinx.application import Sphinx

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import tvm_eff  # noqa: E402  (the checkout's own, whatever is installed)

project = "tvm_eff"
author = "the tvm_eff authors"
version = release = tvm_eff.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["examples"]
myst_heading_anchors = 3
myst_links_external_new_tab = False

autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
napoleon_google_docstring = False

html_theme = "furo"
html_title = f"tvm_eff {release}"
html_show_sourcelink = False
html_copy_source = False

# Pages that are part of the site and of the checkout alike, which GitHub shows where they lie.
MOVED = {
    "../README.md": "index.md",
    "../CONTRIBUTING.md": "contributing.md",
    "../CHANGELOG.md": "changelog.md",
    "../benchmarks/README.md": "benchmarks.md",
    "../docs/": "",
    "](docs/": "](",
    "](CONTRIBUTING.md": "](contributing.md",
}


def follow(_: Sphinx, __: str, source: list[str]) -> None:
    """Let links between files of the checkout lead to the site's pages."""
    for link, page in MOVED.items():
        source[0] = source[0].replace(link, page)


def include_of_the_checkout(_: Sphinx, name: str, source: list[str]) -> None:
    """Fill in a page that is a file of the checkout."""
    files = {
        "benchmarks": "benchmarks/README.md",
        "changelog": "CHANGELOG.md",
        "contributing": "CONTRIBUTING.md",
    }
    if name in files:
        source[0] = (HERE.parent / files[name]).read_text(encoding="utf-8")


def setup(app: Sphinx) -> None:
    """Connect what is done to a page before it is parsed."""
    app.connect("source-read", include_of_the_checkout)
    app.connect("source-read", follow)
