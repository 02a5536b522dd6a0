"""The page of licences: every pinned package in its version, with a licence."""

from pathlib import Path

import pytest
from tests.shared import import_file

ROOT = Path(__file__).resolve().parents[1]

licences = import_file(ROOT / "tools" / "licences.py")
LISTED = licences.lines((ROOT / "docs" / "licences.md").read_text(encoding="utf-8"))
PINS = licences.pins((ROOT / "constraints.txt").read_text(encoding="utf-8"))


def test_the_page_lists_what_is_pinned_and_nothing_else() -> None:
    listed = {(name, version) for name, version in LISTED if name not in ("Package", "---")}
    assert listed == set(PINS.items()), "run: python tools/licences.py"


def test_none_is_under_a_licence_that_this_software_must_not_depend_on() -> None:
    for (name, _), licence in LISTED.items():
        assert not any(word in licence for word in ("AGPL", "GPL-3", "Non-Commercial")), name


def test_pins_are_read_without_comments() -> None:
    assert licences.pins("# a\nx==1.0\n\ny_z==2 # why\n") == {"x": "1.0", "y_z": "2"}


@pytest.mark.parametrize(
    ("facts", "named"),
    [
        ({"License-Expression": "MIT", "License": "x"}, "MIT"),
        ({"License": "BSD"}, "BSD"),
        ({"License": "Copyright\nlong text"}, "see its LICENSE file"),
        ({}, "see its LICENSE file"),
    ],
)
def test_licence_by_metadata(
    facts: dict[str, str], named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from email.message import Message

    message = Message()
    for key, value in facts.items():
        message[key] = value
    monkeypatch.setattr(licences.metadata, "metadata", lambda _: message)
    assert licences.licence("x") == named


def test_hashes_become_requirements() -> None:
    hashes = import_file(ROOT / "tools" / "hashes.py")
    printed = [
        "wheels/a_b-1.0.1-py3-none-any.whl:", "--hash=sha256:11",
        "wheels/c-2.0.post1-cp311-cp311-linux_x86_64.whl:", "--hash=sha256:22",
        "wheels/c-2.0.post1.tar.gz:", "--hash=sha256:20",
    ]  # fmt: skip
    assert hashes.requirements(printed) == [
        "a_b==1.0.1 --hash=sha256:11",
        "c==2.0.post1 --hash=sha256:20 --hash=sha256:22",
    ]
    with pytest.raises(ValueError, match=r"x\.txt is no wheel"):
        hashes.requirements(["x.txt:"])
