"""Rubbish in: pictures and names as folders really hold them."""

import csv
import io
import struct
import time
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.shared import refused, sspl

from sspl.data.adapters.folder import read_folder
from sspl.data.adapters.table import read_table
from sspl.data.images import MAX_PIXELS, WHOLE_FRAME, image_canvas, read_image, read_mask
from sspl.data.records import FaceSet
from sspl.domain.attributes import AttributeSchema
from sspl.domain.taxonomy import built_in_taxonomy
from sspl.errors import DataError, SsplError
from sspl.parsing.model import ParserModel, save_parser
from sspl.parsing.network import ParserNetwork
from sspl.parsing.parser_settings import ParserModelSettings
from sspl.settings import build, read_settings
from sspl.training.stage_settings import FinetuneSettings

RED, BLUE = (250, 10, 10), (10, 10, 250)


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)  # type: ignore[arg-type]
    return file.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "BMP", "TIFF"])
def test_the_content_counts_and_not_the_name(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "really.jpg"
    path.write_bytes(encoded(Image.new("RGB", (8, 8), RED), kind))
    (pixel,) = {tuple(p) for p in np.asarray(read_image(path)).reshape(-1, 3).tolist()}
    assert np.abs(np.subtract(pixel, RED)).max() < 12


@pytest.mark.parametrize("kind", ["GIF", "PPM", "EPS", "PDF", "ICO", "TGA"])
def test_other_formats_are_refused_by_any_name(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "face.png"
    path.write_bytes(encoded(Image.new("RGB", (16, 16), RED), kind))
    with pytest.raises(DataError, match=r"face\.png: not a picture that can be read"):
        read_image(path)


def test_no_other_program_is_run_for_a_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pillow hands EPS to Ghostscript."""
    monkeypatch.setattr("subprocess.Popen", lambda *_, **__: pytest.fail("a program was run"))
    path = tmp_path / "face.jpg"
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\n")
    with pytest.raises(DataError):
        read_image(path)


def png_that_says(width: int, height: int) -> bytes:
    """Return a PNG whose header promises a size and whose few bytes do not hold it."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + body))
        return struct.pack(">I", len(body)) + kind + body + check

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = zlib.compress(bytes(1000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


@pytest.mark.parametrize("size", [(40_000, 40_000), (MAX_PIXELS + 1, 1), (10_000, 9_000)])
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_gigantic_picture_is_refused_before_it_is_decoded(
    tmp_path: Path, size: tuple[int, int]
) -> None:
    path = tmp_path / "bomb.png"
    path.write_bytes(png_that_says(*size))
    tracemalloc.start()
    try:
        for read in (read_image, lambda p: read_mask(p, None, 19)):
            with pytest.raises(DataError, match=r"bomb\.png"):
                read(path)
        assert tracemalloc.get_traced_memory()[1] < 2**22
    finally:
        tracemalloc.stop()


def test_a_compressed_text_that_swells_is_refused(tmp_path: Path) -> None:
    """Ten kilobytes that would be ten megabytes of comment."""
    swelling = zlib.compress(bytes(10**7))
    whole = encoded(Image.new("RGB", (8, 8), RED), "PNG")
    body = b"Comment\0\0" + swelling
    chunk = struct.pack(">I", len(body)) + b"zTXt" + body
    chunk += struct.pack(">I", zlib.crc32(b"zTXt" + body))
    path = tmp_path / "comment.png"
    path.write_bytes(whole[:33] + chunk + whole[33:])
    with pytest.raises(DataError, match=r"comment\.png"):
        read_image(path)


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
def test_of_an_animation_the_first_picture_is_read(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "moving.png"
    frames = [Image.new("RGB", (8, 8), colour) for colour in (RED, BLUE)]
    options = {"save_all": True, "append_images": frames[1:]}
    path.write_bytes(encoded(frames[0], kind, **options))
    assert getattr(Image.open(path), "n_frames", 1) == 2
    assert np.asarray(read_image(path))[0, 0, 0] > 200


def test_one_pixel_is_a_picture(tmp_path: Path) -> None:
    Image.new("RGB", (1, 1), RED).save(tmp_path / "one.png")
    canvas = image_canvas(read_image(tmp_path / "one.png"), WHOLE_FRAME, 8)
    assert canvas.shape == (8, 8, 3)
    assert (canvas == RED).all()


def test_a_palette_with_transparent_colours_keeps_them(tmp_path: Path) -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([*RED, *BLUE])
    image.putpixel((1, 0), 1)
    image.save(tmp_path / "p.png", transparency=1)
    assert np.asarray(read_image(tmp_path / "p.png"))[0].tolist() == [list(RED), list(BLUE)]


def test_pixels_that_are_fractions_are_refused(tmp_path: Path) -> None:
    Image.fromarray(np.full((4, 4), 0.5, np.float32)).save(tmp_path / "f.tif")
    with pytest.raises(DataError, match=r"f\.tif: .*fractions"):
        read_image(tmp_path / "f.tif")


def test_a_sliver_is_refused_by_the_parser(tmp_path: Path) -> None:
    """Brought to 32 px on its short side it would have 96,000 on the other."""
    taxonomy, size = built_in_taxonomy("celebamask19"), ParserModelSettings(width=0.125)
    network = ParserNetwork(len(taxonomy), size).eval()
    save_parser(tmp_path / "parser", ParserModel(network, taxonomy, 64), size)
    Image.new("RGB", (3000, 1)).save(tmp_path / "sliver.png")
    sentence = refused("parser", "run", tmp_path / "parser", tmp_path, "--out", tmp_path / "m")
    assert "sliver.png: 3000 x 1 px" in sentence


NAMES = (
    "Zoë.png", "Zoe\u0308 2.png", "张伟.png", "محمد.png", "नमस्ते.png", "🙂.png", "a b.png",
    "a,b.png", 'say "hi".png', "tab\there.png", "-rf.png", "%41.png", "a;b&c.png",
    "..png", "a.b.c.png",
)  # fmt: skip


def test_names_in_any_script_are_joined_with_their_labels(tmp_path: Path) -> None:
    folder = tmp_path / "Ünïcödé 文件夹"
    folder.mkdir()
    names = [name for name in NAMES if name != "..png"]
    for name in names:
        Image.new("RGB", (8, 8), RED).save(folder / name)
    with (folder / "labels.csv").open("w", encoding="utf-8", newline="") as file:
        rows = [("image", "Lächeln"), *((name, i % 2) for i, name in enumerate(names))]
        csv.writer(file).writerows(rows)
    faces = read_table(folder / "labels.csv")
    assert faces.schema.names == ("Lächeln",)
    labels = dict(zip(faces.names, faces.labels[:, 0].tolist(), strict=True))
    assert labels == {name: i % 2 for i, name in enumerate(names)}
    assert set(read_folder(folder).names) == set(names)
    assert (
        f"{len(names)} can be used"
        in sspl("data", "check", f"folder:{folder}", "--on-error", "skip").output
    )


def test_a_circle_of_links_is_walked_once(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    (tmp_path / "round").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "self.png").symlink_to(tmp_path / "self.png")
    (tmp_path / "nowhere.png").symlink_to(tmp_path / "gone.png")
    assert read_folder(tmp_path).names == ("a.png",)


def within(seconds: float, function: Callable[[], object]) -> None:
    """Run a function that must raise an error of this software within so much CPU time."""
    begun = time.process_time()
    with pytest.raises(SsplError) as caught:
        function()
    assert time.process_time() - begun < seconds
    assert len(str(caught.value)) < 5000


def test_a_yaml_file_that_swells_is_refused_quickly(tmp_path: Path) -> None:
    """Thirty lists of nine references to the one before: 10 ** 28 values, in a kilobyte."""
    lines = ["a0: &a0 [x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 30)]
    (tmp_path / "x.yaml").write_text("\n".join(lines) + "\nseed: *a29\n")
    content = read_settings(tmp_path / "x.yaml")
    within(5, lambda: build(FinetuneSettings, {"seed": content["seed"]}))


def test_a_yaml_file_that_is_nested_without_end_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text("[" * 2000)
    within(5, lambda: read_settings(tmp_path / "x.yaml"))


def test_very_many_names_are_looked_at_once(tmp_path: Path) -> None:
    """Compared each with each, 100,000 names would take minutes."""
    names = tuple(str(i) for i in range(100_000))
    within(5, lambda: AttributeSchema((*names, "99999"), ("whole",) * 100_001))
    blank = (None,) * 100_000
    faces = FaceSet(
        "here",
        AttributeSchema((), ()),
        (*(f"{i}.jpg" for i in range(99_999)), "99998.png"),
        (tmp_path,) * 100_000,
        blank,
        blank,
        np.empty((100_000, 0), np.int8),
    )
    within(10, lambda: faces.with_masks(tmp_path))
