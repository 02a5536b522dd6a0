"""Reading pictures and masks: orientation, modes, damage and squares."""

import io
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from sspl.data import images
from sspl.data.images import (
    WHOLE_FRAME,
    fit_pair,
    image_canvas,
    mask_canvas,
    pad_to_square,
    read_canvas,
    read_image,
    read_mask,
    square_box,
)
from sspl.domain.taxonomy import UNKNOWN
from sspl.errors import DataError

ORIENTATION = 0x0112
# How an upright picture is stored under each EXIF orientation (TIFF 6.0): row 0 is the visual
# top (1, 2), bottom (3, 4), left (5, 8) or right (6, 7); column 0 likewise.
STORED = {
    1: lambda x: x,
    2: lambda x: x[:, ::-1],
    3: lambda x: x[::-1, ::-1],
    4: lambda x: x[::-1],
    5: lambda x: x.transpose(1, 0, 2),
    6: lambda x: x.transpose(1, 0, 2)[::-1],
    7: lambda x: x.transpose(1, 0, 2)[::-1, ::-1],
    8: lambda x: x.transpose(1, 0, 2)[:, ::-1],
}
SETTINGS = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def noise(height: int = 6, width: int = 9) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_picture_is_brought_upright(tmp_path: Path, orientation: int) -> None:
    upright = noise()
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    path = tmp_path / "face.png"
    Image.fromarray(np.ascontiguousarray(STORED[orientation](upright))).save(path, exif=exif)
    assert np.array_equal(np.asarray(read_image(path)), upright)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "L", "LA", "1"])
def test_every_mode_becomes_rgb(tmp_path: Path, mode: str) -> None:
    picture = Image.fromarray(noise())
    stored = picture.convert(mode)
    stored.save(tmp_path / "face.png")
    pixels = np.asarray(read_image(tmp_path / "face.png"))
    expected = {
        "RGB": noise(),
        "RGBA": noise(),
        "P": np.asarray(stored.convert("RGB")),
        "L": np.repeat(np.asarray(picture.convert("L"))[..., None], 3, 2),
        "LA": np.repeat(np.asarray(picture.convert("L"))[..., None], 3, 2),
        "1": np.repeat(np.asarray(stored)[..., None], 3, 2) * np.uint8(255),
    }[mode]
    assert np.array_equal(pixels, expected)


def test_cmyk_becomes_rgb(tmp_path: Path) -> None:
    # No ink is white; full magenta and yellow is red.
    ink = np.zeros((16, 32, 4), np.uint8)
    ink[:, 16:, 1:3] = 255
    Image.fromarray(ink, "CMYK").save(tmp_path / "face.jpg", quality=100, subsampling=0)
    pixels = np.asarray(read_image(tmp_path / "face.jpg")).astype(int)
    assert np.abs(pixels[:, :16] - 255).max() <= 3
    assert np.abs(pixels[:, 16:] - [255, 0, 0]).max() <= 3


def test_sixteen_bit_grey_keeps_its_shades(tmp_path: Path) -> None:
    grey = (np.arange(256, dtype=np.uint16) * 257).reshape(16, 16)
    Image.fromarray(grey).save(tmp_path / "face.png")
    pixels = np.asarray(read_image(tmp_path / "face.png"))
    expected = np.arange(256).reshape(16, 16, 1).repeat(3, 2)
    assert np.abs(pixels.astype(int) - expected).max() <= 1


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("text.jpg", b"this is no picture", "not a picture"),
        ("empty.png", b"", "not a picture"),
        ("missing.jpg", None, "no such image"),
    ],
)
def test_what_is_no_picture_is_named(
    tmp_path: Path, name: str, content: bytes | None, reason: str
) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=reason) as caught:
        read_image(path)
    assert str(path) in str(caught.value)


def test_folder_in_place_of_a_picture(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=tmp_path.name):
        read_image(tmp_path)


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_truncated_picture_is_named(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "cut.img"
    buffer = io.BytesIO()
    Image.fromarray(noise(64, 64)).save(buffer, kind)
    path.write_bytes(buffer.getvalue()[: len(buffer.getvalue()) // 2])
    with pytest.raises(DataError, match="damaged picture") as caught:
        read_image(path)
    assert str(path) in str(caught.value)


@given(
    kind=st.sampled_from(["JPEG", "PNG", "BMP", "TIFF", "WEBP"]),
    cut=st.floats(0, 1),
    place=st.floats(0, 0.999),
    value=st.integers(0, 255),
)
@SETTINGS
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_damage_never_ends_in_another_error(
    tmp_path: Path, kind: str, cut: float, place: float, value: int
) -> None:
    buffer = io.BytesIO()
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    Image.fromarray(noise()).save(buffer, kind, **({} if kind == "BMP" else {"exif": exif}))
    content = bytearray(buffer.getvalue())
    content[int(place * len(content))] = value
    path = tmp_path / "face.img"
    path.write_bytes(content[: int(len(content) * (0.5 + cut))])
    # DataError alone may come; anything else fails the test.
    with suppress(DataError):
        assert read_image(path).mode == "RGB"


def test_mask_ids_are_read_as_they_are(tmp_path: Path) -> None:
    ids = np.array([[0, 18, 7], [UNKNOWN, 1, 3]], np.uint8)
    grey, coloured = tmp_path / "grey.png", tmp_path / "coloured.png"
    Image.fromarray(ids).save(grey)
    image = Image.fromarray(ids)
    image.putpalette(list(range(255, -1, -1)) * 3)
    image.save(coloured)
    assert Image.open(coloured).mode == "P"
    for path in (grey, coloured):
        mask = read_mask(path, (3, 2), 19)
        assert mask.mode == "L"
        assert np.array_equal(np.asarray(mask), ids)


def test_mask_of_another_size_names_both(tmp_path: Path) -> None:
    path = tmp_path / "mask.png"
    Image.fromarray(np.zeros((4, 7), np.uint8)).save(path)
    with pytest.raises(DataError, match=r"mask is 7 x 4 but its picture is 4 x 7") as caught:
        read_mask(path, (4, 7), 19)
    assert str(path) in str(caught.value)
    assert read_mask(path, None, 19).size == (7, 4)


@pytest.mark.parametrize("wrong", [19, 254])
def test_mask_with_an_unknown_class_is_named(tmp_path: Path, wrong: int) -> None:
    path = tmp_path / "mask.png"
    ids = np.zeros((4, 4), np.uint8)
    ids[2, 1] = wrong
    Image.fromarray(ids).save(path)
    with pytest.raises(DataError, match=f"class id {wrong}, but there are 19 classes") as caught:
        read_mask(path, (4, 4), 19)
    assert str(path) in str(caught.value)


def test_missing_and_damaged_masks_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone\.png: no such mask"):
        read_mask(tmp_path / "gone.png", None, 19)
    buffer = io.BytesIO()
    Image.fromarray(noise(64, 64)[..., 0]).save(buffer, "PNG")
    (tmp_path / "cut.png").write_bytes(buffer.getvalue()[:900])
    with pytest.raises(DataError, match=r"cut\.png: damaged mask"):
        read_mask(tmp_path / "cut.png", None, 19)


def test_gigantic_picture_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.fromarray(noise()).save(tmp_path / "huge.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    with pytest.raises(DataError, match=r"huge\.png"):
        read_image(tmp_path / "huge.png")


def test_gigantic_mask_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.fromarray(noise()[..., 0]).save(tmp_path / "huge.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    with pytest.raises(DataError, match=r"huge\.png"):
        read_mask(tmp_path / "huge.png", None, 19)


BOXES = st.tuples(st.floats(0, 0.45), st.floats(0, 0.45), st.floats(0.55, 1), st.floats(0.55, 1))


@given(width=st.integers(1, 400), height=st.integers(1, 400), box=BOXES)
@settings(max_examples=100, deadline=None)
def test_square_is_the_largest_centred_one(
    width: int, height: int, box: tuple[float, float, float, float]
) -> None:
    left, top, right, bottom = square_box((width, height), box)
    outer = (box[0] * width, box[1] * height, box[2] * width, box[3] * height)
    side = min(outer[2] - outer[0], outer[3] - outer[1])
    assert right - left == pytest.approx(side)
    assert bottom - top == pytest.approx(side)
    assert (left + right) / 2 == pytest.approx((outer[0] + outer[2]) / 2)
    assert (top + bottom) / 2 == pytest.approx((outer[1] + outer[3]) / 2)


@given(width=st.integers(3, 60), height=st.integers(3, 60), box=BOXES, canvas=st.integers(4, 24))
@settings(max_examples=60, deadline=None)
def test_canvas_can_be_cut_from_any_box(
    width: int, height: int, box: tuple[float, float, float, float], canvas: int
) -> None:
    flat = np.full((height, width, 3), (10, 200, 30), np.uint8)
    assert (image_canvas(Image.fromarray(flat), box, canvas) == (10, 200, 30)).all()
    mask = Image.fromarray(np.full((height, width), 7, np.uint8))
    assert (mask_canvas(mask, box, canvas) == 7).all()


def test_celeba_box_is_the_square_of_170_px() -> None:
    # 4..174 of 178 wide, 28..198 of 218 high.
    box = (4 / 178, 28 / 218, 174 / 178, 198 / 218)
    assert square_box((178, 218), box) == pytest.approx((4, 28, 174, 198))


def test_picture_and_mask_canvas_show_the_same_square() -> None:
    ids = np.zeros((20, 40), np.uint8)
    ids[5:15, 15:25] = 1
    mask = Image.fromarray(ids)
    picture = Image.fromarray(np.repeat(ids[..., None] * np.uint8(255), 3, 2))
    assert np.array_equal(mask_canvas(mask, WHOLE_FRAME, 20), ids[:, 10:30])
    assert np.array_equal(image_canvas(picture, WHOLE_FRAME, 20)[..., 0] // 255, ids[:, 10:30])


@pytest.mark.parametrize(("width", "height"), [(40, 20), (20, 40)])
def test_pair_is_scaled_whole_and_padded(width: int, height: int) -> None:
    picture = Image.new("RGB", (width, height), (50, 60, 70))
    mask = Image.fromarray(np.full((height, width), 3, np.uint8))
    pixels, ids = fit_pair(picture, mask, 10)
    expected = np.full((10, 10), UNKNOWN, np.uint8)
    if width > height:
        expected[2:7] = 3  # 5 rows, the odd one of padding below
    else:
        expected[:, 2:7] = 3
    assert np.array_equal(ids, expected)
    assert (pixels == (50, 60, 70)).all()


def test_padding_by_hand() -> None:
    pixels = np.array([[1, 2, 3]], np.uint8)
    assert pad_to_square(pixels, 3, 9).tolist() == [[9, 9, 9], [1, 2, 3], [9, 9, 9]]
    assert pad_to_square(pixels, 3, None).tolist() == [[1, 2, 3]] * 3


@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize(("canvas", "decoded"), [(40, 2), (20, 4), (160, 1), (81, 1)])
def test_large_jpegs_are_decoded_no_larger_than_twice_the_canvas(
    tmp_path: Path, canvas: int, decoded: int, orientation: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The middle 160 of 200 px: at a canvas of 40 half of them are left, at 20 a quarter."""
    rows, columns = np.mgrid[:200, :300]
    wave = 127 + 60 * np.sin(rows / 17) + 60 * np.cos(columns / 23)
    picture = Image.fromarray(np.stack([wave, wave[::-1], wave[:, ::-1]], 2).astype(np.uint8))
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    path = tmp_path / "face.jpg"
    picture.save(path, quality=95, exif=exif)
    box = (0.1, 0.1, 0.9, 0.9)
    whole = image_canvas(read_image(path), box, canvas)
    sizes = []
    original = images.own_upright_rgb

    def watched(opened: Image.Image) -> Image.Image:
        sizes.append(opened.size)
        return original(opened)

    monkeypatch.setattr(images, "own_upright_rgb", watched)
    pixels, size = read_canvas(path, box, canvas)
    assert size == ((300, 200) if orientation == 1 else (200, 300))
    assert sizes == [(300 // decoded, 200 // decoded)]
    difference = np.abs(pixels.astype(int) - whole)
    assert difference.max() <= (3 if decoded > 1 else 0)


@pytest.mark.parametrize("orientation", STORED)
def test_sizes_that_do_not_divide_are_decoded_in_place(tmp_path: Path, orientation: int) -> None:
    """A quarter of 250 x 246 px is decoded as 63 x 62, the last half pixel of it filled up."""
    rows, columns = np.mgrid[:246, :250]
    ramp = np.stack([rows, columns, 250 - columns], axis=2).astype(np.uint8)
    path = tmp_path / "face.jpg"
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    stored = Image.fromarray(np.ascontiguousarray(STORED[orientation](ramp)))
    stored.save(path, quality=95, exif=exif)
    for box in (WHOLE_FRAME, (0.02, 0.0, 1.0, 0.99)):
        pixels, size = read_canvas(path, box, 30)
        assert size == (250, 246)
        whole = image_canvas(Image.fromarray(ramp), box, 30).astype(int)
        # Steps are 8 grey levels; half a pixel of 63 would be 2 of them.
        assert np.abs(pixels - whole).mean() < 0.5


@pytest.mark.real
@pytest.mark.parametrize(("folder", "canvas"), [("lfw/full_250", 31), ("celebamask/images", 64)])
def test_real_faces_decoded_at_reduced_size(real_data: Path, folder: str, canvas: int) -> None:
    for path in sorted((real_data / folder).iterdir())[:40]:
        whole = image_canvas(read_image(path), WHOLE_FRAME, canvas).astype(int)
        difference = np.abs(read_canvas(path, WHOLE_FRAME, canvas)[0] - whole)
        assert difference.mean() < 0.6


def test_a_canvas_of_a_damaged_picture_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "face.jpg"
    Image.fromarray(noise(200, 200)).save(path)
    path.write_bytes(path.read_bytes()[:-3000])
    with pytest.raises(DataError, match=r"face\.jpg: damaged picture"):
        read_canvas(path, WHOLE_FRAME, 20)


def test_a_corner_as_large_as_the_canvas_is_cut_out() -> None:
    """Where the whole picture is the canvas nothing is resized; a part of that size is not that."""
    noise = np.random.default_rng(0).integers(0, 256, (20, 20, 3), dtype=np.uint8)
    picture, mask = Image.fromarray(noise), Image.fromarray(noise[:, :, 0])
    corner = (0.0, 0.0, 0.5, 0.5)
    assert np.array_equal(image_canvas(picture, corner, 10), noise[:10, :10])
    assert np.array_equal(mask_canvas(mask, corner, 10), noise[:10, :10, 0])
    assert np.array_equal(image_canvas(picture, WHOLE_FRAME, 20), noise)
    assert np.array_equal(mask_canvas(mask, WHOLE_FRAME, 20), noise[:, :, 0])


@pytest.mark.parametrize("mode", ["L", "P", "RGB", "RGBA", "CMYK"])
@pytest.mark.parametrize("turn", range(1, 9))
def test_a_raw_tiff_is_turned_from_its_file_too(tmp_path: Path, mode: str, turn: int) -> None:
    """Pillow maps such files into memory by their upright size, which garbles sideways ones."""
    stored = Image.fromarray(np.arange(15, dtype=np.uint8).reshape(3, 5)).convert(mode)
    exif = Image.Exif()
    exif[ORIENTATION] = turn
    stored.save(tmp_path / "mapped.tif", exif=exif)
    stored.save(tmp_path / "packed.tif", exif=exif, compression="tiff_lzw")
    mapped, decoded = (np.asarray(read_image(tmp_path / f"{n}.tif")) for n in ("mapped", "packed"))
    assert mapped.shape == ((5, 3, 3) if turn >= 5 else (3, 5, 3))
    assert np.array_equal(mapped, decoded)
    if mode == "L" and turn == 6:
        assert mapped[:, -1, 0].tolist() == [0, 1, 2, 3, 4]
