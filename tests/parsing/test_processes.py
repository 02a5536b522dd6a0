"""`sspl parser run --processes`: the masks, notes and summary of one process."""

import shutil
from pathlib import Path

import pytest
import torch

from shared import draw_faces, refused, sspl
from sspl.device import spread
from sspl.domain.taxonomy import load_taxonomy
from sspl.parsing.masks import MADE_FILE, SUMMARY_FILE
from sspl.parsing.model import ParserModel, save_parser
from sspl.parsing.network import ParserNetwork
from sspl.parsing.parser_settings import ParserModelSettings

FACES = 7


@pytest.fixture(scope="module")
def parser(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("parser")
    torch.manual_seed(0)
    taxonomy, small = load_taxonomy("celebamask19"), ParserModelSettings(width=0.25)
    network = ParserNetwork(len(taxonomy), small).eval()
    save_parser(folder, ParserModel(network, taxonomy, 32), small)
    return folder


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    return draw_faces(tmp_path, FACES, seed=2) / "img_align_celeba"


def masks(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in out.glob("0*.png")}


def test_two_processes_make_the_masks_of_one(parser: Path, pictures: Path, tmp_path: Path) -> None:
    (pictures / "000003.jpg").write_bytes(b"no picture")
    one, two = tmp_path / "one", tmp_path / "two"
    run = ("parser", "run", parser, pictures, "--batch-size", 2, "--on-error", "skip")
    sspl(*run, "--out", one)
    # One mask is there already, of an earlier run.
    shutil.copytree(one, two)
    for path in [*sorted(two.glob("0*.png"))[1:], two / SUMMARY_FILE]:
        path.unlink()
    said = sspl(*run, "--out", two, "--processes", 2).output
    assert f"{FACES - 1} masks in {two}" in said
    assert masks(two) == masks(one)
    assert len(masks(two)) == FACES - 1
    for name in (SUMMARY_FILE, MADE_FILE, "skipped.csv", "suspicious.csv", "contact_sheet.png"):
        assert (two / name).read_bytes() == (one / name).read_bytes(), name
    broken = refused(*run[:-1], "fail", "--out", tmp_path / "three", "--processes", 2)
    assert "000003.jpg" in broken


def test_processes_have_the_accelerators_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    assert spread("auto", 2) == ["auto", "auto"]
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device("cuda"))
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: 2)
    assert spread("auto", 3) == ["cuda:0", "cuda:1", "cuda:0"]
    assert spread("cuda:1", 2) == ["cuda:1", "cuda:1"]
    assert spread("cpu", 2) == ["cpu", "cpu"]
