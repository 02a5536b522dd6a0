"""A model from Python, and as a folder that travels."""

import errno
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open

import sspl
from shared import CANVAS, SCHEMA, drawn, make_model, refused
from shared import sspl as command
from sspl.data.canvases import Canvases
from sspl.data.data_settings import parse_data_spec
from sspl.data.records import FaceSource
from sspl.data.synthetic.render import render_face
from sspl.errors import DataError
from sspl.inference import pack
from sspl.inference.api import Answer, Predictor
from sspl.io.files import holds_nothing
from sspl.io.weights import save_tensors
from sspl.models.bundle import AttributeModel, load_model, model_metadata, save_model
from sspl.models.decisions import Decisions
from sspl.models.network_settings import Architecture
from sspl.models.scoring import face_probabilities

GUIDE = Path(__file__).parents[2] / "docs" / "guide-engineer.md"
DECISIONS = Decisions(thresholds={"Eyeglasses": 0.7}, unsure={"Smiling": (0.4, 0.6)})


@pytest.fixture(scope="module")
def model() -> AttributeModel:
    return replace(make_model("sspl", flip_average=True), decisions=DECISIONS)


@pytest.fixture(scope="module")
def predictor(run: Path) -> Predictor:
    return sspl.load(run, "cpu", "fp32")


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nine synthetic faces, not square, without loss."""
    folder = tmp_path_factory.mktemp("faces")
    for i in range(9):
        picture = Image.fromarray(render_face(4, i, 64).image).crop((0, 0, 56, 64))
        picture.save(folder / f"{i}.png")
    return folder


@pytest.mark.parametrize("batch_size", [1, 4, 64])
def test_probabilities_are_those_of_the_plain_way(
    model: AttributeModel, predictor: Predictor, faces: Path, batch_size: int
) -> None:
    data = parse_data_spec(f"folder:{faces}").open()
    canvases = Canvases([FaceSource(data, model.box)], model.canvas, None)
    wanted = face_probabilities(model, canvases, torch.device("cpu"), "fp32")
    found = predictor.predict(sorted(faces.iterdir()), batch_size=batch_size)
    assert found.attributes == SCHEMA.names
    assert wanted.std() > 0.05
    np.testing.assert_allclose(found.probabilities, wanted, rtol=0, atol=1e-6)


def test_every_kind_of_picture_is_the_same_picture(predictor: Predictor, faces: Path) -> None:
    paths = sorted(faces.iterdir())[:3]
    opened = [Image.open(path) for path in paths]
    arrays = np.stack([np.asarray(image) for image in opened])
    tensors = torch.from_numpy(arrays).permute(0, 3, 1, 2)
    wanted = predictor.predict(paths).probabilities
    kinds: list[Any] = [
        [str(path) for path in paths], opened, list(arrays), arrays, list(tensors), tensors,
        tensors / 255, (image for image in opened),
        [paths[0], opened[1], tensors[2].double() / 255],
    ]  # fmt: skip
    for kind in kinds:
        np.testing.assert_array_equal(predictor.predict(kind).probabilities, wanted)
    for single in (paths[0], str(paths[0]), opened[0], arrays[0], tensors[0]):
        alone = predictor.predict(single).probabilities
        np.testing.assert_allclose(alone, wanted[:1], rtol=0, atol=1e-6)
    assert predictor.predict([]).probabilities.shape == (0, 3)


def test_grey_and_transparent_and_turned_pictures_are_made_upright_rgb(
    predictor: Predictor, faces: Path
) -> None:
    image = Image.open(faces / "0.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = image.transpose(Image.Transpose.ROTATE_90)
    turned.info["exif"] = exif.tobytes()
    turned.getexif()[0x0112] = 6
    for one, other in ((image.convert("L"), image.convert("L").convert("RGB")), (turned, image)):
        found, wanted = predictor.predict([one]), predictor.predict([other])
        np.testing.assert_array_equal(found.probabilities, wanted.probabilities)


def test_true_batches(model: AttributeModel) -> None:
    sizes = []

    class Counting:
        attributes, decisions, box, canvas = SCHEMA.names, DECISIONS, model.box, CANVAS
        pictures = None

        def probabilities(self, images: np.ndarray) -> np.ndarray:
            sizes.append(len(images))
            return np.zeros((len(images), 3))

    assert len(Predictor(Counting()).predict(drawn(10), batch_size=4)) == 10
    assert sizes == [4, 4, 2]


def test_decisions_by_hand() -> None:
    """Thresholds include their own value; the ends of a band are sure."""
    probabilities = np.array([[0.4, 0.7, 0.5], [0.41, 0.69, 0.49], [0.6, 0.0, 0.5]])
    present, unsure = DECISIONS.decide(SCHEMA.names, probabilities)
    assert present.tolist() == [[False, True, True], [False, False, False], [True, False, True]]
    assert unsure.tolist() == [[False] * 3, [True, False, False], [False] * 3]


def test_answers_by_name(predictor: Predictor) -> None:
    found = predictor.predict(drawn(4))
    for i, face in enumerate(found):
        assert face == found[i]
        assert list(face) == list(SCHEMA.names)
        answer = face["Eyeglasses"]
        assert answer == Answer(
            float(found.probabilities[i, 1]), bool(found.probabilities[i, 1] >= 0.7), True
        )
        assert face["Smiling"].sure == (not 0.4 < face["Smiling"].probability < 0.6)


@pytest.mark.parametrize(
    ("picture", "message"),
    [
        (np.zeros((4, 4), np.uint16), "picture 1: an array must be uint8 of shape"),
        (np.zeros((4, 4, 5), np.uint8), "picture 1: an array must be uint8 of shape"),
        (np.zeros((0, 4), np.uint8), "picture 1: has no pixels"),
        (np.zeros((4, 4, 3)), "picture 1: an array must be uint8 of shape"),
        (torch.zeros(4, 4, 3), "picture 1: a tensor must be uint8 or floating point of shape"),
        (torch.zeros(3, 4, 4, dtype=torch.int64), "picture 1: a tensor must be uint8"),
        (torch.full((3, 4, 4), 200.0), "picture 1: a floating point tensor must hold values"),
        (torch.full((3, 4, 4), torch.nan), "picture 1: a floating point tensor must hold values"),
        (7, "picture 1: give a path, bytes, .* or a tensor, not int"),
        ("nowhere.png", "nowhere.png: no such image"),
    ],
)
def test_what_is_no_picture_is_named(predictor: Predictor, picture: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        predictor.predict([drawn(1)[0], picture])


def test_damaged_pil_picture_is_named(predictor: Predictor, faces: Path, tmp_path: Path) -> None:
    file = tmp_path / "cut.png"
    file.write_bytes((faces / "0.png").read_bytes()[:2000])
    with pytest.raises(DataError, match="picture 0: damaged picture"):
        predictor.predict(Image.open(file))


@pytest.mark.parametrize("architecture", ["sspl", "splnet"])
def test_packed_model_predicts_what_the_run_does(
    architecture: Architecture, tmp_path: Path
) -> None:
    made = replace(make_model(architecture, flip_average=False), decisions=DECISIONS)
    save_model(tmp_path / "run", made)
    command("model", "pack", tmp_path / "run", "--out", tmp_path / "packed")
    names = sorted(path.name for path in (tmp_path / "packed").iterdir())
    assert names == ["MODEL_CARD.md", "config.json", "model.safetensors"]
    shutil.move(tmp_path / "packed", tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "README.md").write_text("a card of another name")
    wanted = sspl.load(tmp_path / "run", "cpu", "fp32").predict(drawn(5))
    for place in ("elsewhere", "elsewhere/model.safetensors"):
        found = sspl.load(tmp_path / place, "cpu", "fp32").predict(drawn(5))
        for field in ("probabilities", "present", "unsure"):
            np.testing.assert_array_equal(getattr(found, field), getattr(wanted, field))


def test_metadata_stand_in_json_alone(run: Path, model: AttributeModel, tmp_path: Path) -> None:
    """So that nobody has to wonder which of two copies counts; edited ones take effect."""
    out = tmp_path / "packed"
    command("model", "pack", run, "--out", out, "--licence", "mine", "--name", "Faces")
    with safe_open(out / "model.safetensors", framework="pt") as file:
        assert file.metadata().keys() == {"format", "sspl_sha256"}
    config = json.loads((out / "config.json").read_text())
    assert config["attributes"] == dict(zip(SCHEMA.names, SCHEMA.regions, strict=True))
    assert config["normalisation"] == {"mean": 127.5, "std": 127.5}
    assert (config["licence"], config["name"]) == ("mine", "Faces")
    assert config["versions"]["torch"] == torch.__version__
    config["thresholds"]["Smiling"] = 0.9
    config["model_type"] = "a key of another program"
    (out / "config.json").write_text(json.dumps(config))
    assert load_model(out).decisions.thresholds == {"Eyeglasses": 0.7, "Smiling": 0.9}
    np.testing.assert_array_equal(load_model(out).temperatures, model.temperatures)


def test_packing_twice_keeps_the_metadata(run: Path, tmp_path: Path) -> None:
    command(
        "model",
        "pack",
        run,
        "--out",
        tmp_path / "a",
        "--licence",
        "l",
        "--name",
        "n",
        "--data-description",
        "d",
    )
    command("model", "pack", tmp_path / "a", "--out", tmp_path / "b")
    one, other = (json.loads((tmp_path / x / "config.json").read_text()) for x in "ab")
    assert one == other


def test_run_folders_of_early_versions_load(tmp_path: Path) -> None:
    """Their metadata end with the temperatures: no thresholds, no bands, no normalisation."""
    made = make_model("sspl", flip_average=True)
    metadata = model_metadata(made)
    early = {
        key: metadata[key]
        for key in (
            "kind",
            "architecture",
            "backbone",
            "head",
            "segmentation",
            "classes",
            "attributes",
            "box",
            "canvas",
            "input_size",
            "flip_average",
            "training_rates",
            "temperatures",
        )
    }
    save_tensors(tmp_path / "model.safetensors", made.network.state_dict(), early)
    loaded = load_model(tmp_path)
    assert loaded.decisions == Decisions()
    found = sspl.load(tmp_path, "cpu", "fp32").predict(drawn(3))
    save_model(tmp_path / "today", made)
    wanted = sspl.load(tmp_path / "today", "cpu", "fp32").predict(drawn(3))
    np.testing.assert_array_equal(found.probabilities, wanted.probabilities)
    assert (found.present == (found.probabilities >= 0.5)).all()
    assert not found.unsure.any()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "parser"}, "holds no fine-tuned model but 'parser'"),
        ({"canvas": None}, "config.json: canvas: input should be a valid integer"),
        ({"temperatures": [1.0]}, "temperatures needs one number for each attribute"),
        ({"thresholds": {"Smiling": 2}}, "the threshold of Smiling must be from 0 to 1"),
        ({"thresholds": {"Smilling": 0.5}}, "'Smilling' has a threshold or band but is no"),
        ({"unsure": {"Smiling": [0.6, 0.4]}}, "the band of Smiling must be low, high"),
        ({"normalisation": {"mean": 0.5, "std": 127.5}}, "normalisation.mean: input should be"),
        (
            {"backbone": {"width": -1}},
            "config.json: backbone.width: input should be greater than 0",
        ),
    ],
)
def test_config_that_does_not_fit_is_named(
    run: Path, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    command("model", "pack", run, "--out", tmp_path / "m")
    config = json.loads((tmp_path / "m" / "config.json").read_text()) | change
    (tmp_path / "m" / "config.json").write_text(json.dumps(config))
    with pytest.raises(DataError, match=message):
        load_model(tmp_path / "m")
    for key in ("box", "head"):
        (tmp_path / "m" / "config.json").write_text(
            json.dumps({k: v for k, v in (config | {"kind": "attributes"}).items() if k != key})
        )
        if not change.keys() - {"kind"}:
            with pytest.raises(DataError, match=f"{key}.* is missing"):
                load_model(tmp_path / "m")


def test_folders_that_hold_no_model_are_named(run: Path, tmp_path: Path) -> None:
    command("model", "pack", run, "--out", tmp_path / "m")
    (tmp_path / "m" / "config.json").write_text("{")
    with pytest.raises(DataError, match=r"config\.json: not JSON"):
        load_model(tmp_path / "m")
    (tmp_path / "m" / "config.json").unlink()
    with pytest.raises(DataError, match=r"no config\.json beside it"):
        load_model(tmp_path / "m")
    with pytest.raises(DataError, match="no such model file"):
        load_model(tmp_path)
    assert "not empty" in refused("model", "pack", run, "--out", tmp_path / "m")


def test_a_pack_that_breaks_off_can_be_made_again(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(pack, "write_json", full)
    assert "No space left" in refused("model", "pack", run, "--out", tmp_path / "m")
    assert holds_nothing(tmp_path / "m")
    monkeypatch.undo()
    command("model", "pack", run, "--out", tmp_path / "m")
    assert load_model(tmp_path / "m").schema == load_model(run).schema


def test_a_log_of_another_shape_is_taken_for_none(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "run")
    for number, text in enumerate(("[]", '{"best": 5, "label_counts": []}')):
        (tmp_path / "run" / "metrics.json").write_text(text)
        command("model", "pack", tmp_path / "run", "--out", tmp_path / f"{number}")
        assert "epoch" not in (tmp_path / f"{number}" / "MODEL_CARD.md").read_text().lower()


RUN_FILES: dict[str, dict[str, Any]] = {
    "metrics.json": {
        "finished": True,
        "labelled": 1275,
        "validation": 300,
        "selected_by": "accuracy",
        "best": {"epoch": 7},
        "transfer": "...",
        "label_counts": {"Smiling": {"yes": 640, "no": 635}},
    },
    "evaluation-test.json": {
        "faces": 900,
        "source": "/home/me/secret/labels.csv",
        "flip_average": True,
        "mean": {
            "accuracy": 0.81,
            "balanced_accuracy": 0.7,
            "f1": 0.5,
            "average_precision": 0.66,
            "auc": 0.9,
            "calibration_error": 0.031,
            "majority_accuracy": 0.755,
        },
        "attributes": {
            name: {
                "positives": positives,
                "negatives": 900 - positives,
                "accuracy": accuracy,
                "balanced_accuracy": 0.7,
                "f1": 0.5,
                "average_precision": None,
                "auc": 0.9,
                "calibration_error": 0.02,
                "majority_accuracy": 0.8,
            }
            for name, positives, accuracy in (
                ("Smiling", 400, 0.9),
                ("Eyeglasses", 11, 0.85),
                ("Big_Nose", 200, 0.8),
            )
        },
        "intervals": {
            "level": 0.95,
            "resamples": 500,
            "drawn": "people",
            "units": 321,
            "mean": {
                "accuracy": [0.8, 0.82],
                "balanced_accuracy": [0.69, 0.715],
                "average_precision": None,
            },
            "attributes": {
                "Smiling": {"accuracy": [0.88, 0.92], "balanced_accuracy": [0.64, 0.76]},
                "Eyeglasses": {"accuracy": [0.8, 0.9], "balanced_accuracy": [0.66, 0.74]},
                "Big_Nose": {"accuracy": [0.79, 0.81], "balanced_accuracy": None},
            },
        },
        "subgroups": [
            {
                "by": "Male",
                "groups": {"Male": 1300, "not Male": 600},
                "mean": {
                    "balanced_accuracy": {
                        "groups": {"Male": 0.7, "not Male": 0.64},
                        "attributes": ["a", "b"],
                        "gap": {"gap": 0.06, "interval": [0.02, 0.1]},
                    }
                },
                "attributes": {
                    name: {"gaps": {"balanced_accuracy": found}}
                    for name, found in {
                        "a": {"gap": 0.05, "interval": [0.01, 0.09], "low": "Male"},
                        "b": {"gap": 0.125, "interval": [0.01, 0.2], "low": "not Male"},
                        "c": {"gap": 0.3, "interval": [-0.01, 0.6], "low": "Male"},
                        "d": None,
                    }.items()
                },
            },
            {
                "by": "Young",
                "groups": {"Young": 7},
                "attributes": {},
                "mean": {"balanced_accuracy": {"gap": None}},
            },
        ],
        "decisions": {
            "Smiling": {
                "threshold": 0.5,
                "band": [0.4, 0.6],
                "accuracy": 0.9,
                "balanced_accuracy": 0.8,
                "unsure": 0.25,
                "sure_accuracy": 0.95,
            }
        },
    },
    "run.json": {"kind": "finetune", "versions": {"sspl": "0.1.0", "torch": "2.13.0"}},
}
SETTINGS = """\
data: {format: celeba, root: /home/me/secret, crop: celeba}
pretrained: /home/me/secret/pre
labels: {rule: seeded, subset_seed: 3}
optim: {epochs: 20}
"""


def test_card_says_what_the_run_recorded(run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "fine"
    shutil.copytree(run, folder)
    for name, content in RUN_FILES.items():
        (folder / name).write_text(json.dumps(content))
    (folder / "settings.yaml").write_text(SETTINGS)
    command("model", "pack", folder, "--out", tmp_path / "m", "--licence", "Research only")
    card = (tmp_path / "m" / "MODEL_CARD.md").read_text()
    config = (tmp_path / "m" / "config.json").read_text()
    assert card.startswith("---\nlibrary_name: sspl\n")
    assert "license_name: 'Research only'" in card
    for line in (
        "Predicts 3 attributes of a face in a picture, learnt from 1,275 labelled faces",
        "- 1,275 labelled faces, and 300 more to select on (by accuracy).",
        "drawn with seed 3",
        "The weights of epoch 7 of 20 were kept.",
        "Pre-trained on unlabelled faces; the settings of that run are not at hand.",
        "| Eyeglasses | upper | - | - | 50.0 | 0.700 | - |",
        "| Smiling | whole | 640 | 635 | 50.0 | 0.500 | 0.400 to 0.600 |",
        "- by Male (Male 1,300 faces, not Male 600 faces): Male 70.0, not Male 64.0; gap "
        "6.0 [2.0, 10.0], mean of 2 attributes. "
        "More than chance on b 12.5 (not Male lower), a 5.0 (Male lower).",
        "- by Young (Young 7 faces): too few faces of each kind to say.",
        "| Smiling | 0.500 | 90.0 | 80.0 | 25.0 | 95.0 |",
        "Split `test`, 900 faces, decided at probability 0.5, in percent; in brackets 95 % "
        "intervals from 500 resamples of 321 people.",
        "| Smiling | 400 | 500 | 90.0 [88.0, 92.0] | 80.0 | 70.0 [64.0, 76.0] | - | 2.0 |",
        "| Big_Nose | 200 | 700 | 80.0 [79.0, 81.0] | 80.0 | 70.0 | - | 2.0 |",
        "| **mean** |  |  | 81.0 [80.0, 82.0] | 75.5 | 70.0 [69.0, 71.5] | 66.0 | 3.1 |",
        "known to within 10 points at best: Smiling.",
        "| **mean** |  | 90.0 | 80.0 | 25.0 | 95.0 |",
        "no better than the commoner answer for: Big_Nose.",
        "fewer than 20 faces of one kind for: Eyeglasses.",
        "- Big_Nose is relative to a norm",
        "- torch 2.13.0",
    ):
        assert line in card, line
    assert "Smiling is" not in card
    assert json.loads(config)["data"] == {
        "description": "faces in the format 'celeba'",
        "labelled_faces": 1275,
        "validation_faces": 300,
        "label_counts": RUN_FILES["metrics.json"]["label_counts"],
    }
    assert "secret" not in card + config


def test_card_of_a_bare_model_admits_that_nothing_is_known(run: Path, tmp_path: Path) -> None:
    command("model", "pack", run / "model.safetensors", "--out", tmp_path / "m")
    card = (tmp_path / "m" / "MODEL_CARD.md").read_text()
    assert "It was not evaluated" in card
    assert "Data: not recorded." in card
    assert "Licence of the weights: not stated" in card


def test_the_guides_snippet_runs(
    run: Path,
    faces: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    snippets = re.findall(r"```python\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    (snippet,) = (text for text in snippets if "sspl.load" in text)
    shutil.copytree(run, tmp_path / "fine")
    for i, name in enumerate("ab"):
        Image.open(faces / f"{i}.png").save(tmp_path / f"{name}.jpg")
    monkeypatch.chdir(tmp_path)
    exec(snippet, {})
    assert capsys.readouterr().out.splitlines()[-1] in ("True", "False")
