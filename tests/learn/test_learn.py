"""`sspl learn` on drawn faces: its steps, what they leave, and that a second call adds nothing."""

import json
import shlex
from pathlib import Path

import pytest

import sspl.learn.plan as planning
from graphs import write_graph
from shared import open_faces, refused
from shared import sspl as command
from sspl.data.records import FaceSet
from sspl.data.synthetic import write_synthetic
from sspl.errors import DataError, SettingsError
from sspl.faces.face import Face, Pixels
from sspl.io.progress import spoken
from sspl.learn.labels import read_labels, write_labels
from sspl.learn.learn_settings import LearnSettings
from sspl.learn.plan import plan, plan_text, stage_1_epochs, taught_epochs
from sspl.learn.steps import learn
from sspl.models.bundle import load_model
from sspl.training import ready_heads

NAMES = ("Smiling", "Eyeglasses")
PHOTOGRAPHS = 60


class OneFace:
    """A detector that takes the middle of every photograph for a face."""

    calls = 0

    def detect(self, image: Pixels) -> list[Face]:
        self.calls += 1
        height, width = image.shape[:2]
        return [Face((0.1 * width, 0.1 * height, 0.9 * width, 0.9 * height), 1.0)]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with drawn photographs and their labels, two for each person."""
    folder = tmp_path_factory.mktemp("learn")
    write_synthetic(folder / "drawn", PHOTOGRAPHS, seed=3, size=64)
    faces = open_faces("celeba", folder / "drawn")
    (folder / "drawn" / "img_align_celeba").rename(folder / "photos")
    columns = [faces.schema.index(name) for name in NAMES]
    rows = [
        ",".join([name, f"p{i // 2}", *map(str, row)])
        for i, (name, row) in enumerate(zip(faces.names, faces.labels[:, columns], strict=True))
    ]
    (folder / "labels.csv").write_text("\n".join(["image,identity,Smiling,Eyeglasses", *rows]))
    return folder


def test_photographs_become_a_model_and_a_second_call_adds_nothing(
    place: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    out, detector = place / "out", OneFace()
    settings = LearnSettings(photographs=place / "photos", labels=place / "labels.csv")
    found = learn(settings, out, detector, ("optim.epochs=1",))
    assert detector.calls == PHOTOGRAPHS
    assert found.splits == {"train": 48, "test": 12}
    assert "labels: 12 faces held out for the test, 48 faces to learn from" in caplog.messages
    begins = [line.split(":")[0] for line in caplog.messages if line.startswith("Step ")]
    assert begins == [f"Step {number} of 5" for number in (2, 3, 4, 5)]
    assert "the weights in the package" in (out / "report.html").read_text()
    card = (out / "model" / "MODEL_CARD.md").read_text()
    assert "Started from the weights in the package" in card
    assert "Smiling: " in found.text()
    assert f"Next: sspl predict {out / 'model'} NEW_PHOTOGRAPHS" in found.text()
    assert (out / "report.html").is_file()
    assert (out / "model" / "config.json").is_file()
    steps = (out / "steps.txt").read_text()
    assert [line.split()[1] for line in steps.splitlines()] == [
        "faces", "finetune", "evaluate", "report", "model",
    ]  # fmt: skip
    assert steps.splitlines()[1].endswith(" optim.epochs=1")
    weights = (out / "fine" / "model.safetensors").read_bytes()
    again = learn(settings, out, detector, ("optim.epochs=1",))
    assert detector.calls == PHOTOGRAPHS
    assert (out / "fine" / "model.safetensors").read_bytes() == weights
    assert again.evaluation.summary["mean"] == found.evaluation.summary["mean"]
    # What is finished is not passed off as the answer to something else.
    with pytest.raises(SettingsError, match=r"optim\.epochs was 1, now 3"):
        learn(settings, out, detector, ("optim.epochs=3",))
    assert (out / "fine" / "model.safetensors").read_bytes() == weights
    with pytest.raises(SettingsError, match="holds the work of another 'sspl learn'"):
        learn(settings.model_copy(update={"seed": 1}), out, detector)


def test_many_faces_are_learnt_from_without_labels_and_heads_from_drawn_ones(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    for name in ("ENOUGH_FACES", "FEWEST_EPOCHS", "MOST_EPOCHS"):
        monkeypatch.setattr(planning, name, 1)
    monkeypatch.setattr(ready_heads, "DRAWN", 24)
    settings = LearnSettings(photographs=place / "photos", labels=place / "labels.csv")
    learn(settings, tmp_path / "out", OneFace(), ("optim.epochs=1",))
    steps = (tmp_path / "out" / "steps.txt").read_text()
    assert [line.split()[1] for line in steps.splitlines()] == [
        "faces", "parser", "pretrain", "heads", "finetune", "evaluate", "report", "model",
    ]  # fmt: skip
    assert any("heads kept: Smiling, Eyeglasses" in message for message in caplog.messages)


def test_networks_of_others_teach_a_model_that_does_without_them(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    lines = (place / "labels.csv").read_text().splitlines()
    few = tmp_path / "few.csv"
    few.write_text("\n".join(lines[:41]))
    graph = write_graph(tmp_path / "net.onnx", ["n", 3, 16, 16])
    settings = LearnSettings(photographs=place / "photos", labels=few, features=(str(graph),))
    overrides = ("optim.epochs=1",)
    wrong = settings.model_copy(update={"features": (str(tmp_path / "nosuch.onnx"),)})
    with pytest.raises(SettingsError, match=r"nosuch\.onnx: no such file"):
        learn(wrong, tmp_path / "beside", OneFace())
    with pytest.raises(SettingsError, match="nosuch"):
        learn(settings, tmp_path / "beside", OneFace(), ("nosuch=3",))
    assert not (tmp_path / "beside").exists()
    # Of 20 faces without labels there is nothing to learn that way: the networks stay.
    learn(settings, tmp_path / "beside", OneFace(), overrides)
    assert load_model(tmp_path / "beside" / "fine").network.metadata()["frozen"]
    monkeypatch.setattr(planning, "ENOUGH_TAUGHT", 20)
    out = tmp_path / "out"
    found = learn(settings, out, OneFace(), overrides)
    steps = (out / "steps.txt").read_text().splitlines()
    assert [line.split()[1] for line in steps] == [
        "faces", "finetune", "finetune", "evaluate", "report", "model",
    ]  # fmt: skip
    assert f"features=['{graph}']" in shlex.split(steps[1])
    assert f"--teacher {out / 'teacher'}" in steps[2]
    begins = [m for m in caplog.messages if m.startswith("Step ")][-5:]
    assert "learn the teacher's answers of 20 other faces, 40 epochs" in begins[1]
    asked, known = ((out / f"{n}.csv").read_text().splitlines() for n in ("unlabelled", "labels"))
    assert len(asked) == 1 + 20
    assert not set(asked[1:]) & {line.split(",")[0] for line in known}
    assert found.splits == {"train": 32, "test": 8}
    assert "(teacher) stood in for labels" in (out / "model" / "MODEL_CARD.md").read_text()
    assert not load_model(out / "model").network.metadata().get("frozen")


def test_a_taught_face_is_looked_at_as_often_as_time_allows() -> None:
    assert [taught_epochs(faces) for faces in (100, 1000, 2000, 5400, 50_000)] == [40, 27, 13, 5, 5]


def labelled(place: Path) -> FaceSet:
    return read_labels(place / "labels.csv", place / "photos")


def test_people_are_on_one_side_of_the_test(place: Path, tmp_path: Path) -> None:
    faces = labelled(place)
    crops = {name: f"{name}_0.jpg" for name in faces.names}
    counts = write_labels(faces, crops, NAMES[:1], 0.25, 0, tmp_path / "l.csv")
    rows = [line.split(",") for line in (tmp_path / "l.csv").read_text().splitlines()]
    assert rows[0] == ["image", "split", "Smiling"]
    sides = [row[1] for row in rows[1:]]
    assert sides[::2] == sides[1::2]
    assert counts == {side: sides.count(side) for side in ("train", "test")}
    assert 12 <= counts["test"] <= 18


def test_without_people_faces_are_drawn_whatever_their_order(place: Path, tmp_path: Path) -> None:
    lines = (place / "labels.csv").read_text().splitlines()
    plain = [",".join(line.split(",")[::2]) for line in lines]
    drawn = []
    for number, rows in enumerate((plain[1:], plain[:0:-1])):
        file = tmp_path / f"{number}.csv"
        file.write_text("\n".join([plain[0], *rows]))
        faces = read_labels(file, place / "photos")
        out = tmp_path / f"out{number}.csv"
        crops = {name: name for name in faces.names}
        assert write_labels(faces, crops, (), 0.2, 0, out)["test"] == 12
        drawn.append({line for line in out.read_text().splitlines() if ",test," in line})
    assert drawn[0] == drawn[1]


@pytest.mark.parametrize(
    ("content", "remedy"),
    [
        (
            "image,Smiling,fold\n{},1,0\n",
            "call it 'split', with train, val and test, or take it out",
        ),
        ("image,Smiling,url\n{},1,0\n", "seems to hold names of images, no attribute; take it out"),
        ("image,Smiling,note\n{},1,good\n", "take a column that is no attribute out of the file."),
        ("image,A,B\n{},0,-1\n", "leave unknown ones empty, and write every no as 0 or every no"),
        ("image,Smiling\ngone.jpg,1\n", "; give the folder of images."),
        ("image,Smiling\n/elsewhere/a.jpg,1\n", "give paths relative to the folder of images."),
    ],
)
def test_advice_on_labels_is_of_what_can_be_done_here(
    place: Path, tmp_path: Path, content: str, remedy: str
) -> None:
    file = tmp_path / "labels.csv"
    file.write_text(content.format(labelled(place).names[0]))
    with pytest.raises(DataError) as caught:
        read_labels(file, place / "photos")
    assert remedy in str(caught.value)
    options = (
        "ignore_columns",
        "group_columns",
        "unknown=",
        "images=",
        "schema_file",
        "on_missing",
    )
    assert not [option for option in options if option in str(caught.value)]
    inner = place.parent / "inner"
    (inner / "photos").mkdir(parents=True, exist_ok=True)
    (inner / "photos" / "b.jpg").touch()
    file.write_text("image,Smiling\nb.jpg,1\n")
    with pytest.raises(DataError, match=r"it is in .*photos: give that folder"):
        read_labels(file, inner)


def test_labels_that_do_not_do_are_refused(place: Path, tmp_path: Path) -> None:
    faces = labelled(place)
    crops = {name: name for name in faces.names[:10]}
    told = r"60 pictures have labels, in 10 of them a face was found, .* label at least 20 faces"
    with pytest.raises(DataError, match=told):
        write_labels(faces, crops, (), 0.2, 0, tmp_path / "l.csv")
    few, all_crops = faces.select(range(10)), {name: name for name in faces.names}
    with pytest.raises(DataError, match=r"10 pictures have labels, and a part is for the test"):
        write_labels(few, all_crops, (), 0.2, 0, tmp_path / "l.csv")
    with pytest.raises(DataError, match="unknown attribute 'Bald'"):
        write_labels(faces, crops, ("Bald",), 0.2, 0, tmp_path / "l.csv")
    crops = {name: name for name in faces.names}
    write_labels(faces, crops, (), 0.2, 0, tmp_path / "l.csv")
    before = (tmp_path / "l.csv").read_text()
    with pytest.raises(SettingsError, match="was made of other labels"):
        write_labels(faces, crops, (), 0.2, 1, tmp_path / "l.csv")
    assert (tmp_path / "l.csv").read_text() == before


def test_stage_1_has_the_epochs_that_its_minutes_pay_for(tmp_path: Path) -> None:
    """1,500 faces are parsed in 187.5 s; an epoch takes 10 s, heads from drawn faces 150 s."""
    assert stage_1_epochs(1500, minutes=16) == 60
    assert stage_1_epochs(1500, minutes=7.5) == 11
    assert stage_1_epochs(1500, minutes=6.5) == 0
    assert stage_1_epochs(999, minutes=1000) == 0
    settings = LearnSettings(photographs=tmp_path, attributes=("Smiling",), minutes=7.5)
    titles = [step.title.split(",")[0] for step in plan(settings, tmp_path, 1500, 100)]
    assert titles == [
        "find the faces", "label faces on a local page", "parse the faces", "stage 1 on the faces",
        "heads for the attributes of drawn faces",
        "stage 2 on the labels", "judge on the test faces", "write the report", "pack the model",
    ]  # fmt: skip


def test_what_is_done_is_not_counted_again(tmp_path: Path) -> None:
    settings = LearnSettings(photographs=tmp_path, labels=tmp_path / "l.csv")
    text = plan_text(plan(settings, tmp_path, faces=300, labelled=200), done=1).splitlines()
    assert text[0] == "1. find the faces: done"
    # 40 epochs of 200 faces at 150 a second, then 16 s; 30 s of finding are behind.
    assert text[-1] == "About 1 min on two cores, your own work apart."


def test_a_dry_run_says_the_steps_and_makes_nothing(place: Path) -> None:
    given = ("learn", place / "photos", "--out", place / "new", "--dry-run")
    said = command(*given, "--labels", place / "labels.csv").stdout
    assert said.startswith("1. find the faces (about 6 s)\n   sspl faces detect")
    assert said.rstrip().endswith("on two cores, your own work apart.")
    steps = json.loads(command(*given, "--attributes", "Smiling", "--json").stdout)["steps"]
    assert "--attributes Smiling" in steps[1]["command"]
    assert "give --labels FILE.csv, or --attributes" in refused(*given)
    assert not (place / "new").exists()


def test_times_as_people_say_them() -> None:
    assert [spoken(s) for s in (0.4, 59.4, 60, 3599, 3600, 9000)] == [
        "0 s", "59 s", "1 min", "1 h 0 min", "1 h 0 min", "2 h 30 min",
    ]  # fmt: skip
