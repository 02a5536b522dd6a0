"""Pictures decoded by threads."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sspl.data.adapters.folder import read_folder
from sspl.data.images import WHOLE_FRAME, image_canvas, read_image
from sspl.data.records import FaceSet
from sspl.data.streams import stream_canvases
from sspl.errors import DataError


@pytest.fixture
def pictures(tmp_path: Path) -> FaceSet:
    """Eleven flat pictures, each of a grey of its own."""
    for i in range(11):
        Image.new("RGB", (40, 50), (20 * i,) * 3).save(tmp_path / f"{i:02}.png")
    return read_folder(tmp_path)


@pytest.mark.parametrize("batch_size", [1, 4, 11, 100])
def test_every_picture_once_and_in_order(pictures: FaceSet, batch_size: int) -> None:
    batches = list(stream_canvases(pictures, WHOLE_FRAME, 8, batch_size, threads=3))
    assert [len(b) for b in batches[:-1]] == [batch_size] * (len(batches) - 1)
    assert np.concatenate(batches)[:, 3, 3, 0].tolist() == [20 * i for i in range(11)]


def test_canvases_are_those_of_the_decoder(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    path = tmp_path / "noise.png"
    Image.fromarray(noise).save(path)
    box = (0.1, 0.2, 0.9, 1.0)
    (batch,) = stream_canvases(read_folder(tmp_path), box, 16, 8)
    np.testing.assert_array_equal(batch[0], image_canvas(read_image(path), box, 16))


def test_damaged_picture_is_named_after_the_batches_before_it(
    pictures: FaceSet, tmp_path: Path
) -> None:
    (tmp_path / "05.png").write_bytes(b"no picture")
    stream = stream_canvases(pictures, WHOLE_FRAME, 8, 4, threads=2)
    assert len(next(stream)) == 4
    with pytest.raises(DataError, match=r"05\.png"):
        next(stream)


def test_no_pictures_no_batches(pictures: FaceSet) -> None:
    assert list(stream_canvases(pictures.select([]), WHOLE_FRAME, 8, 4)) == []
