"""What the code cites of the method, and the places of the page that its readers find by it."""

import re
from pathlib import Path

import pytest

from test_docs import anchors

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "method.md"
FOLDERS = ("src", "tests", "benchmarks", "examples")
CITATION = re.compile(r"docs/method\.md#([\w-]+)")


def cited(folder: Path) -> list[tuple[Path, str]]:
    """Every file below a folder that cites a place of the page, with the anchor."""
    files = sorted(f for kind in ("*.py", "*.yaml", "*.html") for f in folder.rglob(kind))
    texts = ((f, f.read_text(encoding="utf-8")) for f in files if f != Path(__file__).resolve())
    return [(f, anchor) for f, text in texts for anchor in CITATION.findall(text)]


def places(page: Path) -> set[str]:
    """Anchors of the headings of a page, and those that it sets itself."""
    return anchors(page) | set(re.findall(r'<a id="([^"]+)">', page.read_text(encoding="utf-8")))


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_citation_leads_to_a_place_of_the_page(folder: str) -> None:
    known = places(PAGE)
    assert [c for c in cited(ROOT / folder) if c[1] not in known] == []


def test_the_method_is_cited_all_over_and_by_one_name() -> None:
    found = {anchor for folder in FOLDERS for _, anchor in cited(ROOT / folder)}
    assert len(found) >= 15
    old = "METHOD" + ".md"
    texts = [f for folder in (*FOLDERS, "docs") for f in (ROOT / folder).rglob("*.*")]
    written = [f for f in texts if f.suffix in {".py", ".yaml", ".md", ".html"}]
    assert [f for f in written if old in f.read_text(encoding="utf-8")] == []


def test_citations_that_lead_nowhere_would_be_seen(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text('# One, `two`\n\n| <a id="rule-1"></a>1 |\n')
    (tmp_path / "code.py").write_text('"""docs/method.md#one-two. (docs/method.md#rule-1)."""\n')
    (tmp_path / "more.yaml").write_text("# docs/method.md: as docs/method.md#rule-2, says\n")
    assert places(page) == {"one-two", "rule-1"}
    assert [anchor for _, anchor in cited(tmp_path)] == ["one-two", "rule-1", "rule-2"]


def test_fifteen_faults_are_numbered_in_order() -> None:
    numbers = re.findall(r'<a id="do-not-repeat-(\d+)"></a>(\d+) \|', PAGE.read_text("utf-8"))
    assert numbers == [(str(n), str(n)) for n in range(1, 16)]
