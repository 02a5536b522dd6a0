"""No person is in two parts of a split."""

import csv
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from shared import open_faces, refused, sspl
from sspl.data.person_splits import person_splits
from sspl.data.records import FaceSet
from sspl.domain.attributes import AttributeSchema
from sspl.errors import DataError


def faces_of(people: list[str]) -> FaceSet:
    names = tuple(f"{i}.jpg" for i in range(len(people)))
    nothing = (None,) * len(people)
    labels = np.empty((len(people), 0), np.int8)
    groups = {"identity": tuple(people)}
    paths = tuple(map(Path, names))
    return FaceSet("faces", AttributeSchema((), ()), names, paths, nothing, nothing, labels, groups)


@settings(max_examples=60, deadline=None)
@given(
    people=st.lists(st.sampled_from("abcdefghijkl"), min_size=12, max_size=80),
    test=st.floats(0.1, 0.5),
    val=st.floats(0, 0.4),
    seed=st.integers(0, 5),
)
def test_people_are_apart_and_shares_are_near(
    people: list[str], test: float, val: float, seed: int
) -> None:
    faces, shares = faces_of(people), {"test": test, "val": val}
    try:
        splits = person_splits(faces, shares, seed)
    except DataError as error:
        assume("none comes to split" not in str(error))
        raise
    where: dict[str, set[str]] = {}
    for person, split in zip(people, splits, strict=True):
        where.setdefault(person, set()).add(split)
    assert {len(parts) for parts in where.values()} == {1}
    most = max(Counter(people).values())
    for split, share in shares.items():
        assert abs(splits.count(split) - share * len(people)) <= most
    # Who is where does not depend on the order of the faces.
    again = person_splits(faces_of(people[::-1]), shares, seed)
    assert again == splits[::-1]


def test_the_seed_decides_who_goes_where() -> None:
    people = [str(i // 2) for i in range(40)]
    first, same, other = (person_splits(faces_of(people), {"test": 0.25}, s) for s in (0, 0, 1))
    assert first == same
    assert first != other
    assert Counter(first) == {"test": 10, "train": 30}


def test_unknown_people_and_empty_parts_are_refused() -> None:
    with pytest.raises(DataError, match="of 1 faces it is not known who they are"):
        person_splits(faces_of(["a", "", "b"]), {"test": 0.5}, 0)
    with pytest.raises(DataError, match="of its 1 people none comes to split train"):
        person_splits(faces_of(["a", "a"]), {"test": 0.9}, 0)
    with pytest.raises(DataError, match="of its 3 people none comes to split test"):
        person_splits(faces_of(["a", "b", "c"]), {"test": 0.01}, 0)


def test_the_command_writes_what_maad_reads(tmp_path: Path) -> None:
    rows = [f"n{p}/{i}.jpg,{p},1,-1" for p in range(10) for i in range(3)]
    for row in rows:
        image = tmp_path / row.split(",")[0]
        image.parent.mkdir(exist_ok=True)
        image.touch()
    (tmp_path / "MAAD_Face.csv").write_text("\n".join(["Filename,Identity,Male,Bald", *rows]))
    out, command = tmp_path / "split.csv", ("data", "split", f"maad:{tmp_path}", "--seed", 3)
    said = json.loads(sspl(*command, "--val", 0.1, "--out", out, "--json").output)
    assert said["splits"] == {
        "test": {"faces": 6, "people": 2},
        "train": {"faces": 21, "people": 7},
        "val": {"faces": 3, "people": 1},
    }
    faces = open_faces("maad", tmp_path, split_file=out)
    assert Counter(faces.splits) == {"train": 21, "test": 6, "val": 3}
    parts = {
        s: {p for p, q in zip(faces.groups["identity"], faces.splits, strict=True) if q == s}
        for s in ("train", "val", "test")
    }
    assert not parts["train"] & (parts["val"] | parts["test"])
    with out.open() as file:
        assert next(csv.reader(file)) == ["name", "split"]
    sentence = refused(*command, "--test", 0.7, "--val", 0.3, "--out", tmp_path / "no.csv")
    assert "must leave faces to learn from" in sentence
    assert not (tmp_path / "no.csv").exists()


def test_a_set_that_does_not_say_who_is_in_a_picture_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").touch()
    (tmp_path / "labels.csv").write_text("image,Bald\na.jpg,1\n")
    sentence = refused("data", "split", f"csv:{tmp_path / 'labels.csv'}", "--out", tmp_path / "s")
    assert "does not say who is in a picture" in sentence
