"""The documentation: its links on the repository's own pages, and the site made of it."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
FENCE = re.compile(r"^ *```.*?^ *```", re.M | re.S)
LINK = re.compile(r"\]\(([^)\s]+)\)")


def prose(page: Path) -> str:
    return FENCE.sub("", page.read_text(encoding="utf-8"))


def anchors(page: Path) -> set[str]:
    """Anchors of the headings as code hosts make them: lower case, words joined by hyphens."""
    titles = re.findall(r"^#+ (.+)$", prose(page), re.M)
    plain = [re.sub(r"[^\w\- ]", "", title.lower()) for title in titles]
    return {title.strip().replace(" ", "-") for title in plain}


def broken_links(page: Path) -> list[str]:
    wrong = []
    for link in LINK.findall(prose(page)):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.is_file() or (anchor and anchor not in anchors(target)):
            wrong.append(link)
    return wrong


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    assert broken_links(page) == []


def test_broken_links_would_be_seen(tmp_path: Path) -> None:
    (tmp_path / "other.md").write_text("# Two words, `code`\n")
    page = tmp_path / "page.md"
    page.write_text(
        "# Here\n[a](other.md#two-words-code) [b](other.md#words) [c](gone.md) [d](#here)\n"
        "[e](#there) [f](https://example.org/gone)\n```\n[g](gone.md)\n```\n"
    )
    assert broken_links(page) == ["other.md#words", "gone.md", "#there"]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("mkdocs")
    pytest.importorskip("mkdocstrings_handlers.python")
    out = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", out]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return out


def test_every_page_is_on_the_site_and_loads_nothing_from_elsewhere(site: Path) -> None:
    shown = {page.stem for page in site.glob("*.html")}
    assert shown >= {page.stem for page in (ROOT / "docs").glob("*.md")}
    for file in [*site.rglob("*.html"), *site.rglob("*.css")]:
        loaded = re.findall(
            r"(?:src=|<link[^>]+href=|url\(|@import\s)[\"']?((?:https?:)?//[^\"'\s)>]+)",
            file.read_text(encoding="utf-8"),
        )
        assert loaded == [], file


def test_links_between_pages_work_without_a_server(site: Path) -> None:
    for page in site.glob("*.html"):
        links = re.findall(r'href="?([^"\s>]+)', page.read_text(encoding="utf-8"))
        paths = {
            link.partition("#")[0] for link in links if not link.startswith(("#", "/", "http"))
        }
        assert page.name == "404.html" or "guide-engineer.html" in paths
        assert all((site / path).is_file() for path in paths - {""}), page
