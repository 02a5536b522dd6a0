"""Mask files: formats told by content, and class ids as they are stored."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image, features

from sspl.data.images import read_image, read_mask
from sspl.data.mask_files import grey_levels, read_ids
from sspl.errors import DataError

IDS = np.array([[0, 1, 2, 3, 18], [4, 5, 6, 7, 255], [10, 12, 13, 17, 0]], np.uint8)


def png(rows: np.ndarray, bits: int, colour: int, **chunks: bytes) -> bytes:
    """Write a PNG by hand: packed rows of samples (h, bytes), `colour` as in the standard."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + body))
        return struct.pack(">I", len(body)) + kind + body + check

    samples = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour]
    width = rows.shape[1] * 8 // (bits * samples)
    head = struct.pack(">IIBBBBB", width, len(rows), bits, colour, 0, 0, 0)
    body = b"".join(b"\0" + row.tobytes() for row in rows)
    inner = b"".join(chunk(name.encode(), value) for name, value in chunks.items())
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + inner
        + chunk(b"IDAT", zlib.compress(body))
        + chunk(b"IEND", b"")
    )


def packed(ids: np.ndarray, bits: int) -> np.ndarray:
    """Pack ids (h, w) into bytes, the first in the highest bits."""
    spread = np.unpackbits(ids[..., None], axis=-1)[..., 8 - bits :]
    return np.packbits(spread.reshape(len(ids), -1), axis=1)


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize("colour", [0, 3])
def test_samples_of_any_depth_are_the_ids(tmp_path: Path, bits: int, colour: int) -> None:
    """Pillow would make 255 of a grey sample 1 of one bit, and 17 of one of four."""
    ids = np.arange(16, dtype=np.uint8).reshape(2, 8) % (1 << min(bits, 4))
    palette = {"PLTE": bytes(range(255, 255 - 3 << bits, -1))[: 3 << bits]} if colour == 3 else {}
    if colour == 3:
        palette = {"PLTE": bytes(3 << bits)}
    path = tmp_path / "mask.png"
    path.write_bytes(png(packed(ids, bits), bits, colour, **palette))
    assert np.array_equal(read_ids(path), ids)
    assert np.array_equal(np.asarray(read_mask(path, (8, 2), 19)), ids)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ""])
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("PNG", {}), ("BMP", {}), ("TIFF", {}), *(
            ("TIFF", {"compression": c})
            for c in ("tiff_lzw", "tiff_deflate", "packbits", "lzma", "zstd")
        ),
    ],
)  # fmt: skip
def test_lossless_formats_are_read_whatever_their_name(
    tmp_path: Path, kind: str, options: dict[str, str], suffix: str
) -> None:
    path = tmp_path / f"mask{suffix}"
    Image.fromarray(IDS).save(path, kind, **options)
    assert np.array_equal(read_ids(path), IDS)
    coloured = Image.fromarray(IDS)
    coloured.putpalette([(7 * i + c) % 256 for i in range(256) for c in range(3)])
    coloured.save(path, kind, **options)
    assert np.array_equal(read_ids(path), IDS)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "I;16", "I"])
def test_grey_values_in_any_mode_are_ids(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "mask"
    if mode.startswith("I"):
        image = Image.fromarray(IDS.astype(np.uint16 if mode == "I;16" else np.int32))
    else:
        image = Image.fromarray(IDS).convert(mode)
    assert image.mode == mode
    image.save(path, "TIFF")
    assert np.array_equal(read_ids(path), IDS)
    if mode != "I":
        image.save(path, "PNG")
        assert np.array_equal(read_ids(path), IDS)


LOSSY = [("JPEG", {}), ("WEBP", {}), ("JPEG2000", {})] + [("AVIF", {})] * features.check("avif")


@pytest.mark.parametrize(("kind", "options"), LOSSY)
@pytest.mark.parametrize("name", ["mask.png", "mask.bmp", "mask.jpg"])
def test_lossy_formats_are_refused_by_content(
    tmp_path: Path, kind: str, options: dict[str, int], name: str
) -> None:
    path = tmp_path / name
    Image.fromarray(np.kron(IDS % 19, np.ones((8, 8), np.uint8))).save(path, kind, **options)
    with pytest.raises(DataError, match=r"holds \S.*, which is lossy and changes class ids; save"):
        read_mask(path, None, 19)


def test_heic_is_refused_by_its_first_bytes(tmp_path: Path) -> None:
    path = tmp_path / "mask.png"
    path.write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100))
    with pytest.raises(DataError, match="holds HEIC, which is lossy"):
        read_ids(path)


@pytest.mark.parametrize(
    ("kind", "options", "reason"),
    [
        ("WEBP", {"lossless": True}, "holds WebP, which stores colours"),
        ("GIF", {}, "holds GIF, which renumbers"),
        ("TIFF", {"compression": "jpeg"}, "its TIFF compression 'jpeg' may change class ids"),
        ("TIFF", {"save_all": True, "append_images": [Image.new("L", (5, 3))]}, "several pictures"),
        ("PNG", {"save_all": True, "append_images": [Image.new("L", (5, 3))]}, "several pictures"),
        ("TIFF", {"tiffinfo": {262: 0}}, "upside down"),
    ],
)
def test_other_files_are_refused_by_name(
    tmp_path: Path, kind: str, options: dict[str, object], reason: str
) -> None:
    path = tmp_path / "mask.png"
    Image.fromarray(IDS).save(path, kind, **options)
    with pytest.raises(DataError, match=reason) as caught:
        read_ids(path)
    assert str(caught.value).startswith(f"{path}: ")


COLOUR = np.dstack([IDS, IDS, np.where(IDS == 12, 13, IDS)]).astype(np.uint8)


@pytest.mark.parametrize(
    ("pixels", "reason"),
    [
        (COLOUR, r"holds colours such as \(12, 12, 13\)"),
        (np.dstack([IDS, IDS, IDS, np.where(IDS == 12, 254, 255)]), "has transparent pixels"),
        (IDS.astype(np.uint16) * 257, r"holds the value 257, and class ids end at 254"),
        (IDS.astype(np.int32) - 1, "holds the value -1"),
        (IDS.astype(np.float32), "of mode F"),
    ],
)
def test_pixels_that_are_no_ids_are_refused(
    tmp_path: Path, pixels: np.ndarray, reason: str
) -> None:
    path = tmp_path / "mask.tif"
    pixels = pixels.astype(np.uint8) if pixels.ndim == 3 else pixels
    Image.fromarray(pixels).save(path)
    with pytest.raises(DataError, match=reason):
        read_ids(path)


def test_colours_of_16_bits_are_refused(tmp_path: Path) -> None:
    """Pillow keeps the upper half of each sample, which is 0 of every id."""
    samples = np.repeat(IDS.astype(">u2"), 3, axis=1).view(np.uint8)
    path = tmp_path / "mask.png"
    path.write_bytes(png(samples, 16, 2))
    with pytest.raises(DataError, match="colours of 16 bits"):
        read_ids(path)
    greys = np.dstack([IDS.astype(">u2"), np.full(IDS.shape, 65535, ">u2")])
    path.write_bytes(png(greys.reshape(len(IDS), -1).view(np.uint8), 16, 4))
    with pytest.raises(DataError, match="colours of 16 bits"):
        read_ids(path)


def test_bmp_with_more_bits_than_its_greys_need_is_refused(tmp_path: Path) -> None:
    """Pillow takes a palette of black and white for one bit a pixel, whatever the file says."""
    ids = np.arange(64, dtype=np.uint8).reshape(4, 16) % 2
    image = Image.fromarray(ids)
    image.putpalette([0, 0, 0, 255, 255, 255])
    buffer = io.BytesIO()
    image.save(buffer, "BMP")
    path = tmp_path / "mask.bmp"
    path.write_bytes(buffer.getvalue())
    with Image.open(path) as opened:
        wrong = opened.mode == "1" and not np.array_equal(np.asarray(opened), ids)
    if wrong:
        with pytest.raises(DataError, match="a BMP of a kind that is not read"):
            read_ids(path)
    else:
        assert np.array_equal(read_ids(path), ids)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
@pytest.mark.parametrize("turn", range(1, 9))
def test_a_mask_is_turned_as_its_picture_is(tmp_path: Path, kind: str, turn: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = turn
    ids = np.arange(15, dtype=np.uint8).reshape(3, 5)
    picture, mask = tmp_path / "picture.png", tmp_path / "mask.png"
    Image.fromarray(ids).save(mask, kind, exif=exif)
    Image.fromarray(ids).convert("RGB").save(picture, kind, exif=exif)
    upright = np.asarray(read_image(picture))
    found = read_mask(mask, upright.shape[1::-1], 19)
    assert np.array_equal(np.asarray(found), upright[..., 0])
    if turn == 6:  # the right-hand column was the first row
        assert np.array_equal(np.asarray(found)[:, -1], ids[0])
    assert np.array_equal(grey_levels(mask), upright[..., 0])


@given(
    ids=hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=2, max_side=12)),
    kind=st.sampled_from(["PNG", "TIFF", "BMP"]),
    mode=st.sampled_from(["L", "P", "RGB"]),
)
@settings(max_examples=60, deadline=None)
def test_what_was_saved_is_read(
    tmp_path_factory: pytest.TempPathFactory, ids: np.ndarray, kind: str, mode: str
) -> None:
    path = tmp_path_factory.mktemp("masks") / "mask"
    image = Image.fromarray(ids)
    if mode == "P":
        image.putpalette([(3 * i + c) % 256 for i in range(256) for c in range(3)])
    elif mode == "RGB":
        image = image.convert("RGB")
    image.save(path, kind)
    assert np.array_equal(read_ids(path), ids)
