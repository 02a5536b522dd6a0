"""Every way from a file to pixels shows the same square of the same upright picture."""

import io
import struct
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageOps, features

from sspl.apps.labelling.app import picture as labelling_picture
from sspl.apps.serving.reader import open_picture
from sspl.data.adapters.folder import read_folder
from sspl.data.decoding import upright_rgb
from sspl.data.images import Box, fit_pair, image_canvas, read_canvas, read_image
from sspl.data.packs.read import read_pack
from sspl.data.packs.write import make_pack
from sspl.data.pictures import Content
from sspl.data.skipping import Skipped, usable
from sspl.data.streams import stream_canvases
from sspl.domain.taxonomy import built_in_taxonomy
from sspl.errors import DataError
from sspl.faces.photographs import DetectSettings, detect_folder
from sspl.inference.api import Predictor
from sspl.inference.crops import whole_picture
from sspl.inference.predict import Looker, PredictSettings
from sspl.inference.sources import Shot, Stills
from sspl.models.decisions import Decisions
from sspl.parsing.masks import make_masks
from sspl.parsing.pairs import MaskPairs, load_pairs

heif = pytest.importorskip("pillow_heif")
Pixels = NDArray[np.uint8]

ORIENTATION, CANVAS = 0x0112, 24
TAXONOMY = built_in_taxonomy("celebamask19")
SETTINGS = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def exif_of(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return exif.tobytes()


def picture_of(height: int, width: int, seed: int) -> Image.Image:
    """Return smooth colours without any symmetry, and a corner that says where it is."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (4, 5, 3), np.uint8))
    image = small.resize((width, height), Image.Resampling.BICUBIC)
    image.paste((255, 255, 255), (0, 0, max(1, width // 4), max(1, height // 4)))
    return image


def sixteen(image: Image.Image) -> Image.Image:
    return Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)


def big_endian(image: Image.Image) -> Image.Image:
    grey = np.asarray(image.convert("L")).astype(">u2") * 257
    return Image.frombytes("I;16B", image.size, grey.astype(">u2").tobytes())


def with_alpha(image: Image.Image) -> Image.Image:
    image = image.convert("RGBA")
    # Fully transparent here, half there: the colours below stay what they are.
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    return image


def transparent_palette(image: Image.Image) -> Image.Image:
    image = image.quantize(16)
    image.info["transparency"] = 3
    return image


SAVED: dict[str, tuple[str, Callable[[Image.Image], Image.Image], dict[str, Any]]] = {
    "jpeg": ("JPEG", lambda i: i, {"quality": 95}),
    "grey jpeg": ("JPEG", lambda i: i.convert("L"), {}),
    "cmyk jpeg": ("JPEG", lambda i: i.convert("CMYK"), {"quality": 95}),
    "mpo": ("MPO", lambda i: i, {"save_all": True, "append_images": [Image.new("RGB", (9, 9))]}),
    "png": ("PNG", lambda i: i, {}),
    "palette png": ("PNG", transparent_palette, {}),
    "alpha png": ("PNG", with_alpha, {}),
    "grey alpha png": ("PNG", lambda i: with_alpha(i).convert("LA"), {}),
    "one bit png": ("PNG", lambda i: i.convert("1"), {}),
    "16 bit png": ("PNG", sixteen, {}),
    "webp": ("WEBP", lambda i: i, {"lossless": True}),
    "alpha webp": ("WEBP", with_alpha, {"lossless": True, "exact": True}),
    "moving webp": (
        "WEBP", lambda i: i,
        {"lossless": True, "save_all": True, "append_images": [Image.new("RGB", (1, 1))]},
    ),
    "bmp": ("BMP", lambda i: i, {}),
    "tiff": ("TIFF", lambda i: i, {}),
    "grey tiff": ("TIFF", lambda i: i.convert("L"), {}),
    "alpha tiff": ("TIFF", with_alpha, {}),
    "lzw tiff": ("TIFF", lambda i: i, {"compression": "tiff_lzw"}),
    "pages of tiff": (
        "TIFF", lambda i: i, {"save_all": True, "append_images": [Image.new("L", (7, 3))]},
    ),
    "cmyk tiff": ("TIFF", lambda i: i.convert("CMYK"), {}),
    "palette tiff": ("TIFF", lambda i: i.quantize(16), {}),
    "16 bit tiff": ("TIFF", sixteen, {}),
    "16 bit lzw tiff": ("TIFF", sixteen, {"compression": "tiff_lzw"}),
    "big endian tiff": ("TIFF", big_endian, {}),
    "avif": ("AVIF", lambda i: i, {}),
    "heic": ("HEIF", lambda i: i, {}),
}  # fmt: skip
if not features.check("avif"):
    del SAVED["avif"]
heif.register_heif_opener()


def written(kind: str, image: Image.Image, orientation: int) -> bytes:
    format_, change, options = SAVED[kind]
    file = io.BytesIO()
    if "append_images" in options and format_ == "WEBP":
        options = options | {"append_images": [Image.new("RGB", image.size)]}
    given = {} if format_ == "BMP" else {"exif": exif_of(orientation)}
    change(image).save(file, format_, **options, **given)
    return file.getvalue()


def as_pillow_turns_it(content: bytes) -> Image.Image:
    """Return what Pillow makes of a file: its own transpose, then 8-bit RGB."""
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(content)))
    if upright.mode.startswith("I"):
        return Image.fromarray((np.asarray(upright) // 257).astype(np.uint8)).convert("RGB")
    return upright.convert("RGB")


class Scorer:
    """Keeps the canvases that it is shown."""

    attributes = ("Smiling",)
    pictures = None
    decisions = Decisions(thresholds={"Smiling": 0.5})

    def __init__(self, box: Box) -> None:
        self.box, self.canvas = box, CANVAS
        self.seen: list[Pixels] = []

    def probabilities(self, images: Pixels) -> NDArray[np.float64]:
        self.seen += list(images)
        return np.zeros((len(images), 1))


class Watcher:
    """A detector and a parser that keep what they are shown."""

    taxonomy = TAXONOMY

    def __init__(self) -> None:
        self.seen: list[Pixels] = []

    def detect(self, image: Pixels) -> list[Any]:
        self.seen.append(np.array(image))
        return []

    def fingerprint(self) -> str:
        return "watcher"

    def looks_at(self, size: tuple[int, int]) -> tuple[int, int]:
        return size

    def parse(self, images: Sequence[Pixels]) -> list[Pixels]:
        self.seen += [np.array(image) for image in images]
        return [np.zeros(image.shape[:2], np.uint8) for image in images]


def every_picture(path: Path, out: Path) -> dict[str, Pixels]:
    """Return the whole upright picture by each part that looks at whole pictures."""
    content = path.read_bytes()
    faces, detector, parser = read_folder(path.parent), Watcher(), Watcher()
    detect_folder(path.parent, out / "crops", DetectSettings(), detector=detector)
    make_masks(parser, faces, out / "masks", 1)
    with Image.open(path) as opened:
        python = upright_rgb(opened, "it")
    found = {
        "training": read_image(path),
        "prediction": Shot("", path.name, path).read(),
        "serving": open_picture(content, 10**6),
        "python": python,
        "memory": read_image(Content(content, "it")),
    }
    arrays = {name: np.asarray(image) for name, image in found.items()}
    return arrays | {"detector": detector.seen[0], "parser": parser.seen[0]}


def every_canvas(path: Path, box: Box, out: Path) -> dict[str, Pixels]:
    """Return the square of a crop by each part that looks at squares."""
    content, faces = path.read_bytes(), read_folder(path.parent)
    scorer = Scorer(box)
    with Image.open(path) as opened, path.open("rb") as file:
        Predictor(scorer).predict([path, content, file, opened, np.asarray(read_image(path))])
    names = ("path", "bytes", "file", "pillow", "array")
    found = {f"api, {name}": seen for name, seen in zip(names, scorer.seen, strict=True)}
    make_pack(faces, box, out / "squares", "it", CANVAS, lossless=True)
    make_pack(faces, box, out / "files", "it")
    squares, files = read_pack(out / "squares"), read_pack(out / "files")
    looker = Looker(scorer, PredictSettings(), Watcher, keeps=False)
    (shot,) = Stills.of(faces).shots()
    return found | {
        "training": read_canvas(path, box, CANVAS)[0],
        "streaming": next(iter(stream_canvases(faces, box, CANVAS, 1)))[0],
        "packed squares": next(iter(stream_canvases(squares, box, CANVAS, 1)))[0],
        "packed files": next(iter(stream_canvases(files, box, CANVAS, 1)))[0],
        "prediction": looker.look(shot).faces[0].canvas,
        "serving": whole_picture(open_picture(content, 10**6), box, CANVAS).canvas,
    }


@pytest.mark.parametrize("kind", SAVED)
def test_every_format_is_brought_upright_from_every_orientation(tmp_path: Path, kind: str) -> None:
    path, box = tmp_path / "face.jpg", (0.05, 0.05, 0.45, 0.45)
    for orientation in range(1, 9):
        content = written(kind, picture_of(40, 64, orientation), orientation)
        path.write_bytes(content)
        upright = as_pillow_turns_it(content)
        assert upright.size == ((64, 40) if orientation < 5 or kind == "bmp" else (40, 64))
        np.testing.assert_array_equal(np.asarray(read_image(path)), np.asarray(upright))
        pixels, size = read_canvas(path, box, CANVAS)
        assert size == upright.size
        np.testing.assert_array_equal(pixels, image_canvas(upright, box, CANVAS))


@given(
    kind=st.sampled_from(sorted(SAVED)),
    orientation=st.integers(1, 8),
    size=st.tuples(st.integers(40, 240), st.integers(40, 240)),
    crop=st.sampled_from([(0, 0, 1, 1), (0.05, 0.05, 0.45, 0.45), (0.5, 0.1, 1, 0.7)]),
    seed=st.integers(0, 99),
)
@SETTINGS
def test_every_part_sees_the_same_square_of_the_same_upright_picture(
    tmp_path_factory: pytest.TempPathFactory,
    kind: str,
    orientation: int,
    size: tuple[int, int],
    crop: Box,
    seed: int,
) -> None:
    folder = tmp_path_factory.mktemp("pictures")
    path, out = folder / "in" / "face.jpg", folder / "out"
    path.parent.mkdir()
    content = written(kind, picture_of(*size, seed), orientation)
    path.write_bytes(content)
    upright = as_pillow_turns_it(content)
    for part, pixels in every_picture(path, out).items():
        np.testing.assert_array_equal(pixels, np.asarray(upright), err_msg=part)

    square = image_canvas(upright, crop, CANVAS).astype(int)
    reduced = Image.open(path).format in {"JPEG", "MPO"}
    for part, pixels in every_canvas(path, crop, out).items():
        if reduced:
            assert np.abs(pixels - square).mean() < 4, part
        else:
            np.testing.assert_array_equal(pixels, square, err_msg=part)
    _sizes_agree(path, upright, out)

    desk: Any = SimpleNamespace(faces=read_folder(path.parent))
    shown = Image.open(io.BytesIO(labelling_picture(desk, 0, 120)))
    wanted = upright.copy()
    wanted.thumbnail((120, 120), Image.Resampling.BICUBIC)
    assert shown.size == wanted.size
    assert np.abs(np.asarray(shown).astype(int) - np.asarray(wanted)).mean() < 12


def _sizes_agree(path: Path, upright: Image.Image, out: Path) -> None:
    """A mask of the upright size is taken by checking and by parser training."""
    ids = np.arange(upright.width * upright.height, dtype=np.uint32).reshape(upright.size[::-1])
    mask = out / "pairs" / "face.png"
    mask.parent.mkdir()
    Image.fromarray((ids % 19).astype(np.uint8)).save(mask)
    assert len(usable(read_folder(path.parent).with_masks(mask.parent), 19, Skipped("fail"))) == 1
    pairs = MaskPairs(("face",), (path,), (mask,), ("train",))
    images, masks = load_pairs(pairs, TAXONOMY, TAXONOMY, 32, "pairs")
    pixels, wanted = fit_pair(upright, Image.open(mask), 32)
    np.testing.assert_array_equal(images[0].permute(1, 2, 0).numpy(), pixels)
    np.testing.assert_array_equal(masks[0].numpy(), wanted)


def tiff_of(
    samples: NDArray[Any],
    end: str,
    photometric: int,
    sample_format: int = 1,
    planar: int = 1,
    extra: tuple[int, ...] = (),
    more: Sequence[tuple[int, int]] = (),
) -> bytes:
    """Return a raw TIFF of (h, w, c) by hand: Pillow writes few of the kinds there are.

    `more` are further tags with one long each.
    """
    height, width, bands = samples.shape
    stored = samples.transpose(2, 0, 1) if planar == 2 else samples
    blob = stored.astype(samples.dtype.newbyteorder(end)).tobytes()
    strips = bands if planar == 2 else 1
    bits = samples.dtype.itemsize * 8
    tags: dict[int, tuple[str, list[int]]] = (
        {
            256: ("I", [width]),
            257: ("I", [height]),
            258: ("H", [bits] * bands),
            259: ("H", [1]),
            262: ("H", [photometric]),
            273: ("I", [0] * strips),
            277: ("H", [bands]),
            278: ("I", [height]),
            279: ("I", [len(blob) // strips] * strips),
            284: ("H", [planar]),
            339: ("H", [sample_format] * bands),
        }
        | ({338: ("H", list(extra))} if extra else {})
        | {t: ("I", [v]) for t, v in more}
    )
    place = 8 + 2 + 12 * len(tags) + 4
    sizes = [struct.calcsize(f"{len(v)}{k}") for k, v in tags.values()]
    data = place + sum(size for size in sizes if size > 4)
    tags[273] = ("I", [data + i * len(blob) // strips for i in range(strips)])
    table, apart = b"", b""
    for tag, (kind, values) in sorted(tags.items()):
        raw = struct.pack(f"{end}{len(values)}{kind}", *values)
        table += struct.pack(f"{end}HHI", tag, {"H": 3, "I": 4}[kind], len(values))
        if len(raw) > 4:
            table += struct.pack(f"{end}I", place + len(apart))
            apart += raw
        else:
            table += raw.ljust(4, b"\0")
    head = (b"II*\0" if end == "<" else b"MM\0*") + struct.pack(f"{end}IH", 8, len(tags))
    return head + table + bytes(4) + apart + blob


LEVELS = np.arange(256, dtype=np.uint16).reshape(16, 16, 1)
COLOURS = np.concatenate([LEVELS, LEVELS[::-1], LEVELS.transpose(1, 0, 2)], axis=2)
OPAQUE = np.full_like(LEVELS, 65535)


@pytest.mark.parametrize("end", "<>")
@pytest.mark.parametrize(
    ("samples", "options", "wanted"),
    [
        (LEVELS * 257, {"photometric": 1}, LEVELS),
        (COLOURS * 257, {"photometric": 2}, COLOURS),
        (65535 - np.dstack([COLOURS * 257, OPAQUE]), {"photometric": 5}, COLOURS),
        (np.dstack([COLOURS * 257, LEVELS * 257]), {"photometric": 2, "extra": (2,)}, COLOURS),
        (COLOURS.astype(np.uint8), {"photometric": 2, "planar": 2}, COLOURS),
        (np.dstack([LEVELS, LEVELS * 0 + 255]).astype(np.uint8), {"photometric": 1, "extra": (1,)},
         LEVELS),
        (LEVELS.astype(np.uint8), {"photometric": 0}, 255 - LEVELS),
    ],
)  # fmt: skip
def test_more_than_eight_bits_are_scaled(
    samples: NDArray[Any], options: dict[str, Any], wanted: NDArray[Any], end: str
) -> None:
    image = np.asarray(read_image(Content(tiff_of(samples, end, **options), "it")))
    np.testing.assert_array_equal(image, np.broadcast_to(wanted, (16, 16, 3)))


def test_white_may_be_zero_and_end_with_twelve_bits() -> None:
    dark_first = tiff_of(65535 - LEVELS * 257, "<", 0)
    twelve = np.repeat((LEVELS.astype(np.uint32) * 4095 // 255).reshape(-1, 2), 1, axis=0)
    packed = b"".join(bytes([a >> 4, (a & 15) << 4 | b >> 8, b & 255]) for a, b in twelve.tolist())
    whole = tiff_of(np.zeros((16, 16, 1), np.uint8), "<", 1)[:-256] + packed
    # The tag of 12 bits, and the bytes of the only strip.
    whole = whole.replace(struct.pack("<HHII", 258, 3, 1, 8), struct.pack("<HHII", 258, 3, 1, 12))
    whole = whole.replace(
        struct.pack("<HHII", 279, 4, 1, 256), struct.pack("<HHII", 279, 4, 1, 384)
    )
    for content in (dark_first, whole):
        found = np.asarray(read_image(Content(content, "it")))[..., :1].astype(int)
        assert np.abs(found - LEVELS).max() <= 1


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (tiff_of(LEVELS.astype(np.int16), "<", 1, 2), "integers of 32 bits or with a sign"),
        (tiff_of(LEVELS.astype(np.int8), ">", 1, 2), "integers of 32 bits or with a sign"),
        (tiff_of(LEVELS.astype(np.uint32), "<", 1), "integers of 32 bits or with a sign"),
        (tiff_of(LEVELS.astype(np.float32), ">", 1, 3), "fractions"),
        (tiff_of(LEVELS, ">", 1), "not one pixel uses the upper 4"),
        (tiff_of(COLOURS * 16, "<", 2), "not one pixel uses the upper 4"),
        (tiff_of(np.dstack([COLOURS, OPAQUE]), "<", 2, extra=(2,)), "not one pixel uses the upper"),
        (tiff_of(COLOURS * 257, "<", 2, planar=2), "separate planes"),
        (tiff_of(LEVELS * 257, ">", 0), "begins as TIFF"),
    ],
)
def test_pixels_whose_white_nobody_knows_are_refused(content: bytes, sentence: str) -> None:
    """Read as they are they would be black, white or inverted."""
    with pytest.raises(DataError, match=f"^it: .*{sentence}"):
        read_image(Content(content, "it"))


def png_of(pixels: NDArray[np.uint16]) -> bytes:
    """Return a PNG of 16-bit RGB, which Pillow does not write."""
    height, width, _ = pixels.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(rows)),
        (b"IEND", b""),
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in chunks
    )


def test_png_of_sixteen_bits_in_colour() -> None:
    found = read_image(Content(png_of(COLOURS * 257), "it"))
    np.testing.assert_array_equal(np.asarray(found), COLOURS)
    with pytest.raises(DataError, match="it: it is stored with 16 bits"):
        read_image(Content(png_of(COLOURS), "it"))


def test_heic_of_ten_bits() -> None:
    file = io.BytesIO()
    heif.from_bytes("RGB;16", (16, 16), (COLOURS * 257).tobytes()).save(
        file, quality=-1, chroma=444
    )
    found = np.asarray(read_image(Content(file.getvalue(), "it"))).astype(int)
    assert np.abs(found - COLOURS).max() <= 4


def test_heic_without_the_extra_names_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "IMG_1.jpg"
    path.write_bytes(written("heic", picture_of(40, 40, 0), 1))
    monkeypatch.setitem(__import__("sys").modules, "pillow_heif", None)
    with pytest.raises(DataError, match=r"IMG_1\.jpg: a HEIC .* pip install '.\[heif\]'"):
        read_image(path)


RATIONAL_OF_NO_NUMBER = (
    b"Exif\0\0II*\0\x08\0\0\0\2\0"
    + struct.pack("<HHII", ORIENTATION, 3, 1, 6)
    + struct.pack("<HHII", 0x11A, 10, 1, 38)
    + bytes(4)
    + struct.pack("<ii", -1, 0)
)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "MPO"])
def test_exif_that_cannot_be_rewritten_still_tells_the_orientation(kind: str) -> None:
    file, options = io.BytesIO(), {"lossless": True} if kind == "WEBP" else {}
    picture_of(30, 50, 0).save(file, kind, exif=RATIONAL_OF_NO_NUMBER, **options)
    assert read_image(Content(file.getvalue(), "it")).size == (30, 50)


@pytest.mark.filterwarnings("ignore::UserWarning")
@given(noise=st.lists(st.tuples(st.integers(0, 49), st.integers(0, 255)), min_size=1))
@settings(max_examples=60, deadline=None)
def test_damaged_exif_costs_no_picture(noise: list[tuple[int, int]]) -> None:
    exif = bytearray(RATIONAL_OF_NO_NUMBER)
    for place, value in noise:
        exif[6 + place % (len(exif) - 6)] = value
    for kind in ("JPEG", "PNG"):
        file = io.BytesIO()
        picture_of(30, 50, 0).save(file, kind)
        content = file.getvalue()
        if kind == "JPEG":
            head = b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif
            content = content[:2] + head + content[2:]
        else:
            body = b"eXIf" + exif[6:]
            chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
            content = content[:33] + chunk + content[33:]
        assert sorted(read_image(Content(content, "it")).size) == [30, 50]


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("tag", [700, 0x8769, 0x8825])
@pytest.mark.parametrize("value", [0, 5, 2**32 - 1])
def test_tags_that_lead_nowhere_cost_no_tiff(tag: int, value: int) -> None:
    more = ((ORIENTATION, 6), (tag, value))
    content = tiff_of(np.zeros((30, 50, 1), np.uint8), ">", 1, more=more)
    assert read_image(Content(content, "it")).size == (30, 50)


def test_orientation_in_xmp_alone_counts() -> None:
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><a tiff:Orientation="6"/></x:xmpmeta>'
    file = io.BytesIO()
    picture_of(30, 50, 0).save(file, "JPEG", xmp=xmp)
    assert read_image(Content(file.getvalue(), "it")).size == (30, 50)


def test_what_is_read_is_not_turned_again(tmp_path: Path) -> None:
    path = tmp_path / "face.png"
    path.write_bytes(written("png", picture_of(30, 50, 0), 6))
    image = read_image(path)
    assert upright_rgb(image, "it").size == image.size == (30, 50)


def test_python_takes_folders_bytes_files_grey_and_every_mode(tmp_path: Path) -> None:
    image = picture_of(40, 40, 1)
    for name in ("b/2.png", "a/1.png", "c.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        image.save(tmp_path / name)
    scorer = Scorer((0, 0, 1, 1))
    found = Predictor(scorer).predict(tmp_path)
    assert found.names == tuple(str(tmp_path / n) for n in ("a/1.png", "b/2.png", "c.png"))
    found = Predictor(scorer).predict([tmp_path / "a", tmp_path / "c.png", image])
    assert found.names == (str(tmp_path / "a/1.png"), str(tmp_path / "c.png"), "picture 2")

    scorer.seen.clear()
    grey = np.asarray(image.convert("L"))
    content = (tmp_path / "c.png").read_bytes()
    for one in (content, bytearray(content), memoryview(content), io.BytesIO(content)):
        Predictor(scorer).predict(one)
    for seen in scorer.seen:
        np.testing.assert_array_equal(seen, image_canvas(image, (0, 0, 1, 1), CANVAS))
    scorer.seen.clear()
    for one in (
        grey,
        grey[..., None],
        torch.from_numpy(grey.copy()),
        image.convert("L"),
        torch.from_numpy(grey.copy())[None] / 255,
    ):
        Predictor(scorer).predict(one)
    for seen in scorer.seen:
        wanted = image_canvas(image.convert("L").convert("RGB"), (0, 0, 1, 1), CANVAS)
        np.testing.assert_array_equal(seen, wanted)
    for mode in ("1", "P", "LA", "PA", "La", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "HSV"):
        base = {"PA": "P", "La": "LA", "RGBa": "RGBA"}.get(mode, mode)
        assert len(Predictor(scorer).predict(image.convert(base).convert(mode))) == 1


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (None, "not NoneType"),
        ({"a": 1}, "not dict"),
        ([None], "picture 0: give a path, bytes, .*, not NoneType"),
        (io.StringIO("face"), "picture 0: a file opened as text; open it with mode 'rb'"),
        (b"no picture", "picture 0: not a picture that can be read"),
        (io.BytesIO(b""), "picture 0: not a picture that can be read"),
        (np.zeros((5, 9, 9), np.uint8), r"picture 0: an array must be .* of shape \(5, 9, 9\)"),
        (Image.new("F", (4, 4)), "picture 0: its pixels are fractions"),
        (Image.new("I", (4, 4)), "picture 0: its pixels are integers of 32 bits"),
        (Image.new("RGB", (0, 4)), "picture 0: has no pixels; it is 0 x 4 px"),
    ],
)
def test_what_python_gives_that_is_no_picture_is_named(given: Any, sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        Predictor(Scorer((0, 0, 1, 1))).predict(given)
