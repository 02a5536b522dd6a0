"""Label Studio's exports and tasks: read, written, read again."""

import json
import logging
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sspl.cli.main import cli
from sspl.data.adapters.label_studio import Export
from sspl.data.convert import local_prefix, write_label_table, write_tasks
from sspl.data.data_settings import parse_data_spec
from sspl.data.records import FaceSet
from sspl.domain.attributes import AttributeSchema
from sspl.errors import DataError

NAMES = ("a.jpg", "sub/b c+d&e.jpg", "sub/50%20é.png", "f#?.jpg")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in NAMES:
        (tmp_path / "faces" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "faces" / name).touch()
    return tmp_path / "faces"


def labelled(
    folder: Path, labels: list[list[int]], attributes: tuple[str, ...], splits: list[str | None]
) -> FaceSet:
    names = NAMES[: len(labels)]
    return FaceSet(
        "mine",
        AttributeSchema(attributes, ("whole",) * len(attributes)),
        names,
        tuple(folder / name for name in names),
        (None,) * len(names),
        tuple(splits),
        np.array(labels, dtype=np.int8).reshape(len(names), len(attributes)),
    )


def choice(name: str, *choices: str) -> dict[str, Any]:
    value = {"choices": list(choices)}
    return {"from_name": name, "to_name": "image", "type": "choices", "value": value}


def annotation(*result: dict[str, Any], by: Any = 1, **more: Any) -> dict[str, Any]:
    return {"id": 70, "completed_by": by, "result": list(result), "was_cancelled": False, **more}


def task(number: int, image: str, *annotations: dict[str, Any], **data: Any) -> dict[str, Any]:
    return {"id": number, "data": {"image": image, **data}, "annotations": list(annotations)}


def minimal(tasks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same in JSON-MIN, as Label Studio writes it: one choice is a text, several an object."""
    return [
        task["data"]
        | {"id": task["id"], "annotator": found.get("completed_by", 1), "annotation_id": 9}
        | {
            item["from_name"]: item["value"]["choices"][0]
            if len(item["value"]["choices"]) == 1
            else item["value"]
            for item in found["result"]
        }
        for task in tasks
        for found in task["annotations"]
    ]


def written(folder: Path, content: Any) -> Path:
    file = folder.parent / "export.json"
    file.write_text(json.dumps(content), encoding="utf-8")
    return file


def opened(folder: Path, content: Any) -> FaceSet:
    return parse_data_spec(f"{written(folder, content)},images={folder}").open()


def test_an_export_worked_out_by_hand(folder: Path) -> None:
    content = [
        task(7, "/data/local-files/?d=faces/a.jpg", annotation(choice("Smiling", "Yes"))),
        task(
            9,
            "https://host.example/x/sub/b%20c%2Bd%26e.jpg?token=1",
            annotation(choice("Smiling", "no"), choice("Bald", "not sure")),
            split="test",
        ),
        task(12, "/data/upload/3/0a1b2c3d-f#?.jpg", annotation(choice("Bald", "true"))),
    ]
    content[0]["annotations"][0]["result"].append({"type": "rectanglelabels", "value": {}})
    content[2]["annotations"].append(annotation(choice("Bald", "no"), was_cancelled=True))
    faces = opened(folder, content)
    assert faces.names == (NAMES[0], NAMES[1], NAMES[3])
    assert faces.schema.names == ("Smiling", "Bald")
    assert faces.labels.tolist() == [[1, -1], [0, -1], [-1, 1]]
    assert faces.splits == (None, "test", None)


def test_ticked_names_are_attributes_and_the_others_are_not_there(folder: Path) -> None:
    content = [
        task(1, "a.jpg", annotation(choice("seen", "Smiling", "Bald"))),
        task(2, "sub/b c+d&e.jpg", annotation(choice("seen", "Hat"))),
        task(3, "f#?.jpg", annotation()),
    ]
    expected = [[1, 1, 0], [0, 0, 1], [0, 0, 0]]
    for version in (content, minimal(content)):
        faces = opened(folder, version)
        assert faces.schema.names == ("Smiling", "Bald", "Hat")
        assert faces.labels.tolist() == expected


def test_columns_of_the_data_are_no_questions_in_json_min(folder: Path) -> None:
    content = [task(1, "a.jpg", annotation(choice("Bald", "yes")), caption="no idea", site="7")]
    assert opened(folder, minimal(content)).schema.names == ("Bald",)


def test_what_is_not_read_of_json_min_is_said(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    hair = ("Blond", "Brown", "Brown")
    content = [
        {"id": i, "image": name, "A": "Present", "partition": "0", "Hair": hair[i]}
        for i, name in enumerate(NAMES[:3])
    ]
    faces = opened(folder, content)
    assert faces.schema.names == ("A",)
    assert faces.labels.tolist() == [[1], [1], [1]]
    said = [r.getMessage() for r in caplog.records]
    assert any("'partition' seems to hold a split and is not read" in text for text in said)
    assert any("'Hair' is not read" in text and "(Blond, Brown)" in text for text in said)


def test_folders_before_a_name_may_be_written_with_backslashes(folder: Path) -> None:
    name = "/data/local-files/?d=faces%5Ca.jpg"
    assert opened(folder, [{"id": 1, "image": name, "A": "yes"}]).names == ("a.jpg",)


def test_answers_that_differ_are_unknown(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    both = (choice("Smiling", "yes"), choice("Bald", "no"))
    content = [
        task(
            1,
            "a.jpg",
            annotation(*both, by={"email": "ann@x"}),
            annotation(choice("Smiling", "no"), choice("Bald", "no"), by=2),
        ),
        task(2, NAMES[3], annotation(choice("Bald", "not sure"), by=2)),
    ]
    for version in (content, minimal(content)):
        with caplog.at_level(logging.WARNING):
            assert opened(folder, version).labels.tolist() == [[-1, 0], [-1, -1]]
        assert "1 answers differ between annotators" in caplog.text
    export = Export(written(folder, content))
    assert export.annotators == ("ann@x", "2")
    assert export.table(who="ann@x").labels.tolist() == [[1, 0]]
    assert export.table(who="2").labels.tolist() == [[0, 0], [-1, -1]]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ({"a": 1}, "expected a list of tasks"),
        ([], "expected a list of tasks"),
        ([3], "entry 1: is no task"),
        ([task(4, "a.jpg"), {"id": 5, "image": "b"}], "task 5: is no task as the others"),
        ([{"id": 4, "data": []}], "task 4: 'data' must be an object"),
        ([{"id": 4, "data": {}, "annotations": [1]}], "task 4: an annotation has no list"),
        ([task(4, "a.jpg", annotation([]))], "task 4: an item of 'result' is no object"),
        ([task(4, "a.jpg", annotation(choice(3, "yes")))], "task 4: choices need a 'from_name'"),
        (
            [task(4, "a.jpg", annotation({"type": "choices", "from_name": "B", "value": {}}))],
            "task 4: choices need",
        ),
        (
            [
                task(3, "a.jpg", annotation(choice("B", "yes"))),
                task(4, "b.jpg", annotation(choice("B", "Hat"))),
            ],
            "task 4: 'B' is answered 'Hat', but elsewhere 'yes'",
        ),
        (
            [task(4, "a.jpg", annotation(choice("B", "yes"), choice("B", "no")))],
            "task 4: 'B' is answered yes and no",
        ),
        ([task(4, "", annotation(choice("B", "yes")))], "task 4: 'image' does not say"),
        ([{"id": 4, "data": {}, "annotations": [annotation(choice("B", "no"))]}], "4: 'image'"),
        (
            [task(4, "a.jpg", annotation(choice("B", "no"))), task(8, "a.jpg")],
            "task 8: image 'a.jpg' was given before, in task 4",
        ),
        ([task(4, "a.jpg", annotation(choice("B", "no")), split="x")], "task 4: unknown split 'x'"),
        ([task(4, "../x.jpg", annotation(choice("B", "no")))], "task 4: '../x.jpg' is no image"),
        ([task(4, "no.jpg", annotation(choice("B", "no")))], "the first is 'no.jpg' (task 4)"),
        ([task(4, "a.jpg", annotation(choice("face", "no")))], "cannot be the name of an att"),
        ([task(4, "a.jpg")], "no task has an answer by choices"),
        (
            [
                task(4, "a.jpg", annotation(choice("A", "Round"), choice("B", "Long"))),
                task(5, "b.jpg", annotation(choice("A", "Long"), choice("B", "Round"))),
            ],
            "'Long' can be chosen for 'A' and for 'B'",
        ),
        (
            [task(4, "a.jpg", annotation(choice("A", "-1"), choice("B", "0")))],
            "'A' is answered -1 and 'B' is answered 0",
        ),
        (
            [{"id": 1, "image": "a.jpg", "A": "Yes"}, {"id": 2, "image": "b.jpg", "A": "Maybe"}],
            "task 2: 'A' is answered 'Maybe', but elsewhere 'Yes'",
        ),
    ],
)  # fmt: skip
def test_what_is_refused(folder: Path, content: Any, sentence: str) -> None:
    with pytest.raises(DataError) as refusal:
        opened(folder, content)
    assert sentence in str(refusal.value)
    assert str(refusal.value).startswith((str(folder.parent / "export.json"), "1 of "))


LABELS = st.lists(st.lists(st.sampled_from([-1, 0, 1]), min_size=2, max_size=2), max_size=4)


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    LABELS.filter(lambda rows: all((np.array(rows) >= 0).any(0)) and len(rows) > 0),
    st.lists(st.sampled_from([None, "train", "test"]), min_size=4, max_size=4),
    st.sampled_from([("Smiling", "5_o_Clock_Shadow"), ('a"&<b', "né, oui")]),
    st.booleans(),
)
def test_there_and_back(
    folder: Path,
    labels: list[list[int]],
    splits: list[str | None],
    attributes: tuple[str, str],
    flat: bool,
) -> None:
    faces = labelled(folder, labels, attributes, splits[: len(labels)])
    out, table = folder.parent / "tasks.json", folder.parent / "labels.csv"
    interface = ET.parse(write_tasks(out, faces, local_prefix(faces))).getroot()
    assert tuple(tag.get("name") for tag in interface.iter("Choices")) == attributes
    content = json.loads(out.read_text(encoding="utf-8"))
    if flat:  # It has annotated tasks alone.
        content = minimal(content)
        faces = faces.select(np.flatnonzero((faces.labels >= 0).any(1)))
    found = opened(folder, content)
    order = [found.schema.index(name) for name in attributes]
    assert (found.names, found.splits) == (faces.names, faces.splits)
    assert found.labels[:, order].tolist() == faces.labels.tolist()
    write_label_table(table, found)
    again = parse_data_spec(f"csv:{table},images={folder}").open()
    assert again.names == found.names
    assert (again.splits, again.schema.names) == (found.splits, found.schema.names)
    assert again.labels.tolist() == found.labels.tolist()


def test_a_name_that_was_written_here_is_taken_at_its_word(folder: Path) -> None:
    """The address is that of `faces/a.jpg`, and below `faces` there is one of that name, too."""
    (folder / "faces").mkdir()
    (folder / "faces" / "a.jpg").touch()
    faces = labelled(folder, [[1]], ("Bald",), [None])
    write_tasks(folder.parent / "tasks.json", faces, local_prefix(faces))
    content = json.loads((folder.parent / "tasks.json").read_text())
    assert content[0]["data"]["image"] == "/data/local-files/?d=faces/a.jpg"
    assert opened(folder, content).names == ("a.jpg",)


def run(*arguments: object) -> Any:
    return CliRunner().invoke(cli, ["data", "convert", *map(str, arguments)])


def test_the_command_goes_both_ways(folder: Path, tmp_path: Path) -> None:
    table = tmp_path / "labels.csv"
    table.write_text("image,split,identity,Bald\na.jpg,train,Ann,1\nf#?.jpg,test,Ben,\n")
    spec = f"csv:{table},images={folder},group_columns=identity"
    result = run(spec, "--out", tmp_path / "tasks.json")
    assert result.output == (
        f"2 faces in {tmp_path}/tasks.json, and the labelling interface that asks for them in "
        f"{tmp_path}/tasks.xml\n"
    )
    assert [t["data"]["image"] for t in json.loads((tmp_path / "tasks.json").read_text())] == [
        "/data/local-files/?d=faces/a.jpg",
        "/data/local-files/?d=faces/f%23%3F.jpg",
    ]
    run(spec, "--out", tmp_path / "there.json", "--prefix", "https://host.example/")
    back = run(f"labelstudio:{tmp_path}/there.json,images={folder}", "--out", tmp_path / "b.csv")
    assert back.exit_code == 0
    assert (tmp_path / "b.csv").read_text() == "image,split,Bald\na.jpg,train,1\nf#?.jpg,test,\n"
    assert run(spec, "--out", tmp_path / "c.csv").exit_code == 0
    assert (tmp_path / "c.csv").read_text() == table.read_text()
    assert "is what is read" in str(run(spec, "--out", table).exception)
    assert "--prefix" in str(run(spec, "--out", tmp_path / "d.csv", "--prefix", "x").exception)
