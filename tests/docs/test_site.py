"""The site builds without a warning, and can be read without a network."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
MAX_README_LINES = 220

LOADED = {
    "audio": ("src",),
    "embed": ("src",),
    "iframe": ("src",),
    "image": ("href", "xlink:href"),
    "img": ("src", "srcset"),
    "link": ("href",),
    "object": ("data",),
    "script": ("src",),
    "source": ("src", "srcset"),
    "use": ("href", "xlink:href"),
    "video": ("src", "poster"),
}
"""What a browser loads by itself to show a page. Links that a reader follows are not of it."""
REMOTE = re.compile(r"(?:https?:)?//\w", re.IGNORECASE)
REMOTE_IN_CSS = re.compile(
    r"""(?:url\(\s*|@import\s+)['"]?(?P<address>(?:https?:)?//[^'")\s]+)""", re.IGNORECASE
)


class Resources(HTMLParser):
    """Collects what a page loads from elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.remote: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in LOADED.get(tag, ()) and REMOTE.match(value or ""):
                self.remote.append(f"<{tag} {name}={value}>")
            if name == "style":
                self.handle_data(value or "")

    def handle_data(self, data: str) -> None:
        self.remote += [match["address"] for match in REMOTE_IN_CSS.finditer(data)]


def remote_in(text: str) -> list[str]:
    """Return what a page, or a picture, loads from elsewhere."""
    parser = Resources()
    parser.feed(text)
    return parser.remote


@pytest.mark.parametrize(
    "text",
    [
        '<link rel="stylesheet" href="https://fonts.googleapis.com/css?family=Lato">',
        '<script src="//cdn.jsdelivr.net/npm/mathjax@3/es5/tex-mml-chtml.js"></script>',
        '<img src="http://img.shields.io/badge.svg">',
        "<style>@import 'https://example.org/a.css';</style>",
        '<p style="background: url(https://example.org/a.png)"></p>',
    ],
)
def test_what_needs_a_network_is_found(text: str) -> None:
    assert len(remote_in(text)) == 1


def test_a_link_needs_none() -> None:
    assert remote_in('<a href="https://example.org">x</a><img src="a.svg">') == []


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the site as CONTRIBUTING.md says, where no proxy answers."""
    output = tmp_path_factory.mktemp("site")
    nowhere = dict.fromkeys(("http_proxy", "https_proxy", "all_proxy"), "http://127.0.0.1:9")
    command = ["-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html", str(DOCS), str(output)]
    done = subprocess.run(
        [sys.executable, *command],
        cwd=ROOT,
        env={**os.environ, **nowhere},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return output


def test_every_source_is_a_page_of_the_site(site: Path) -> None:
    sources = [path.relative_to(DOCS) for path in DOCS.rglob("*.md")]
    assert len(sources) > 15
    pages = [source.with_suffix(".html") for source in sources]
    assert [str(page) for page in pages if not (site / page).is_file()] == []


def test_nothing_is_loaded_from_elsewhere(site: Path) -> None:
    pages = [*site.rglob("*.html"), *site.rglob("*.svg")]
    found = {str(page): remote_in(page.read_text(encoding="utf-8")) for page in pages}
    for sheet in site.rglob("*.css"):
        text = sheet.read_text(encoding="utf-8")
        found[str(sheet)] = [match["address"] for match in REMOTE_IN_CSS.finditer(text)]
    assert {page: remote for page, remote in found.items() if remote} == {}


def test_search_works_offline(site: Path) -> None:
    index = (site / "searchindex.js").read_text(encoding="utf-8")
    assert "strassen" in index
    assert "searchtools.js" in (site / "search.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("page", "words"),
    [
        # Docstrings are looked up lazily; parameters and errors are there.
        ("api.html", ["tvm_eff.compile", "until_roofline", "BundleError", "differences"]),
        # Included from code, and from files beside docs/.
        ("passes.html", ["fold_weights", "chain_depthwise", "relax_pointer_alignment"]),
        ("contributing.html", ["PASSES_VERSION"]),
        ("changelog.html", ["winners.json"]),
        ("benchmarks.html", ["peers.py"]),
        ("how-to/board.html", ["cortex-a57"]),
        ("architecture.html", ["architecture.svg"]),
    ],
)
def test_pages_hold_what_they_include(site: Path, page: str, words: list[str]) -> None:
    text = re.sub(r"</?span[^>]*>", "", (site / page).read_text(encoding="utf-8"))
    assert [word for word in words if word not in text] == []


def test_the_picture_is_that_of_the_contract() -> None:
    spec = importlib.util.spec_from_file_location("draw", DOCS / "draw_architecture.py")
    assert spec is not None
    assert spec.loader is not None
    draw = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(draw)
    drawn = draw.PICTURE.read_text(encoding="utf-8")
    assert drawn == draw.picture(), "run python docs/draw_architecture.py"


def written() -> list[Path]:
    """Return what people read: the README, the guide, the pages."""
    return [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md"))]


def paths_in(page: Path) -> Iterator[str]:
    """Return the paths of the checkout that a page names, as code or as a link."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    rooms = "benchmarks|docs|runtime|scripts|study|targets|tests|tvm_eff"
    yield from re.findall(rf"`((?:{rooms})/[\w./-]*)`", text)


@pytest.mark.parametrize("page", written(), ids=lambda page: str(page.relative_to(ROOT)))
def test_paths_that_are_named_exist(page: Path) -> None:
    gone = [path for path in paths_in(page) if not (ROOT / path).exists()]
    assert gone == []


@pytest.mark.parametrize("page", [ROOT / "README.md", ROOT / "CONTRIBUTING.md"], ids=str)
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    local = [link for link in links if not link.startswith("http")]
    assert len(local) > 3
    assert [link for link in local if not (page.parent / link).exists()] == []


def test_the_readme_stays_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= MAX_README_LINES
