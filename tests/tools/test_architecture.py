"""The picture of the packages: counted as by hand, and drawn of what is there."""

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tools import architecture

PACKAGE = architecture.ROOT / "src" / "sspl"
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """Four rooms on three floors, two of which import each other."""
    files = {
        "__init__.py": "",
        "errors.py": "",
        "left/__init__.py": "from pkg import errors\n",
        "left/one.py": "from pkg.right.two import x\n",
        "right/__init__.py": "",
        "right/two.py": "import os\n\ndef later():\n    from pkg.left import one\n",
        "top.py": "import pkg.left.one\nfrom pkg.errors import E\n",
    }
    for name, code in files.items():
        (tmp_path / "pkg" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "pkg" / name).write_text(code)
    return tmp_path / "pkg"


def test_rooms_arrows_and_floors_are_those_of_hand(package: Path) -> None:
    graph = architecture.house(package)
    assert set(graph.edges) == {
        ("left", "errors"), ("left", "right"), ("right", "left"), ("top", "left"),
        ("top", "errors"),
    }  # fmt: skip
    assert architecture.floors(graph) == [["errors"], ["left", "right"], ["top"]]
    assert architecture.circles(graph) == [["left", "right"]]
    # The way by `left` implies the arrow from top to errors.
    assert set(graph.edges) - architecture.straight(graph) == {("top", "errors")}
    assert architecture.figures(package).splitlines() == [
        "4 rooms (2 of them single modules), 5 arrows, 3 floors, 1 circles, 7 modules, 8 lines",
        "  3  top",
        "  2  left, right",
        "  1  errors",
        "circle: left, right",
    ]


def test_the_picture_has_every_room_once_above_what_it_imports() -> None:
    """Fails when a package comes or goes: `python -m tools.architecture` draws anew."""
    root = ElementTree.fromstring(architecture.PICTURE.read_text(encoding="utf-8"))
    graph = architecture.house(PACKAGE)
    assert sorted(t.text or "" for t in root.iter(f"{SVG}text")) == sorted(graph)
    paths = list(root.iter(f"{SVG}path"))
    assert len(paths) > 100
    for path in paths:
        (title,) = path
        importer, _, target = str(title.text).partition(" imports ")
        assert {importer, target} <= set(graph)
        top, bottom = re.match(r"M\S+ (\S+)C.* (\S+)$", path.attrib["d"]).groups()  # type: ignore[union-attr]
        assert float(top) < float(bottom)


def test_the_package_has_no_circle() -> None:
    assert architecture.circles(architecture.house(PACKAGE)) == []
