"""Faces that the labelling page holds out for the test: random ones, never the suggested."""

import csv
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from shared import open_faces
from sspl.apps.labelling.desk import ROUND, Desk
from sspl.apps.labelling.faces import held_out
from sspl.apps.labelling.label_journal import LabelJournal
from sspl.data.adapters.folder import read_folder
from sspl.data.records import FaceSet

ASKED = ("Smiling",)
FACES = 200


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> FaceSet:
    folder = tmp_path_factory.mktemp("held_out")
    for number in range(FACES):
        Image.new("RGB", (4, 4), (number, 0, 0)).save(folder / f"{number:03}.png")
    return read_folder(folder)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "labels.csv"


def opened(out: Path, pictures: FaceSet, dealt: bool = True) -> LabelJournal:
    root = pictures.images[0].parent  # type: ignore[union-attr]
    return LabelJournal(out, ASKED, lambda: root, dealt=dealt)


@pytest.fixture
def journal(out: Path, pictures: FaceSet) -> Iterator[LabelJournal]:
    with closing(opened(out, pictures)) as found:
        yield found


def splits(out: Path) -> dict[str, str]:
    with out.open(newline="") as file:
        return {row["image"]: row["split"] for row in csv.DictReader(file)}


def test_about_the_share_is_drawn_and_more_faces_change_nothing(pictures: FaceSet) -> None:
    drawn = held_out(pictures, 0.2, seed=0)
    assert 25 <= len(drawn) <= 55
    assert held_out(pictures, 0.0, seed=0) == []
    few = pictures.select(np.arange(50))
    names = {pictures.names[i] for i in drawn}
    assert {few.names[i] for i in held_out(few, 0.2, seed=0)} == names & set(few.names)
    assert held_out(pictures, 0.2, seed=1) != drawn


def test_a_round_has_its_share_and_suggestions_have_none(
    journal: LabelJournal, pictures: FaceSet
) -> None:
    drawn = held_out(pictures, 0.2, seed=0)
    desk = Desk(pictures, journal, ASKED, range(FACES), held_out=drawn)
    desk.suggested = [i for i in range(FACES) if i not in drawn][::-1]
    faces = desk.round("t")
    wanted = round(ROUND * len(drawn) / FACES)
    assert [face for face in faces if face in drawn] == drawn[:wanted]
    assert [face for face in faces if face not in drawn] == desk.suggested[: ROUND - wanted]
    assert faces[0] == drawn[0]
    assert len(set(faces)) == ROUND
    # What a model may suggest or learn from is none of them.
    assert desk.labels()[1][drawn].all()
    desk.answer("t", drawn[0], {"Smiling": 1})
    assert (desk.labels()[0][drawn[0]] == -1).all()


def test_what_it_writes_has_both_splits_and_opens_again(
    out: Path, pictures: FaceSet, journal: LabelJournal
) -> None:
    drawn = held_out(pictures, 0.2, seed=0)
    desk = Desk(pictures, journal, ASKED, range(FACES), held_out=drawn)
    for face in desk.round("t"):
        desk.answer("t", face, {"Smiling": face % 2})
    journal.close()
    found = splits(out)
    assert {name for name, split in found.items() if split == "test"} == {
        pictures.names[i] for i in drawn[: list(found.values()).count("test")]
    }
    root = pictures.images[0].parent  # type: ignore[union-attr]
    faces = open_faces("csv", out, images=root)
    assert len(faces.split("train")) + len(faces.split("test")) == ROUND
    with closing(opened(out, pictures)) as again:
        assert again.splits() == {n: s for n, s in found.items() if s == "test"}


def test_answers_of_before_stay_to_be_learnt_from(out: Path, pictures: FaceSet) -> None:
    drawn = held_out(pictures, 0.2, seed=0)
    with closing(opened(out, pictures, dealt=False)) as journal:
        Desk(pictures, journal, ASKED, range(FACES)).answer("t", drawn[0], {"Smiling": 1})
    assert "split" not in out.read_text().splitlines()[0]
    with closing(opened(out, pictures)) as journal:
        desk = Desk(pictures, journal, ASKED, range(FACES), held_out=drawn)
        assert drawn[0] not in desk.held_out
        desk.answer("t", drawn[1], {"Smiling": 0})
    assert splits(out) == {pictures.names[drawn[0]]: "train", pictures.names[drawn[1]]: "test"}
    opened(out, pictures).close()


def test_an_answer_taken_back_takes_its_split_along(
    out: Path, pictures: FaceSet, journal: LabelJournal
) -> None:
    drawn = held_out(pictures, 0.2, seed=0)
    desk = Desk(pictures, journal, ASKED, range(FACES), held_out=drawn)
    number = desk.answer("t", drawn[0], {"Smiling": 1})
    desk.undo("t", number)
    assert splits(out) == {}
    desk.answer("t", drawn[0], {"Smiling": 0})
    assert splits(out) == {pictures.names[drawn[0]]: "test"}
