"""Batches of canvases: the same by every way of reading, and clear about what went wrong."""

import os
import pickle
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sspl.data import kept
from sspl.data.adapters.folder import read_folder
from sspl.data.canvases import Canvases, Chunks, _as_it_is, _WorkersView, own_side
from sspl.data.images import WHOLE_FRAME, square_side
from sspl.data.records import FaceSource
from sspl.device import generator_for
from sspl.errors import DataError, SsplError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Thirteen flat pictures with masks, each of a grey and a class of its own."""
    for i in range(13):
        Image.new("RGB", (20, 20), (10 * i,) * 3).save(tmp_path / f"{i:02}.png")
        (tmp_path / "masks").mkdir(exist_ok=True)
        Image.new("L", (20, 20), i).save(tmp_path / "masks" / f"{i:02}.png")
    return tmp_path


def source_of(folder: Path) -> FaceSource:
    faces = read_folder(folder, folder / "masks")
    return FaceSource(faces.with_masks(folder / "masks"), WHOLE_FRAME)


def canvases(
    folder: Path, cache_gb: float = 0.0, workers: int = 0, cache_folder: Path | None = None
) -> Canvases:
    source = source_of(folder)
    return Canvases([source], 8, 19, cache_gb, workers, cache_folder=cache_folder)


@pytest.mark.parametrize(("cache_gb", "workers"), [(1.0, 0), (0.0, 0), (0.0, 1), (0.0, 2)])
def test_every_way_of_reading_gives_the_same_batches(
    folder: Path, cache_gb: float, workers: int
) -> None:
    order = torch.randperm(13, generator=torch.Generator().manual_seed(4)).tolist()
    before = torch.get_rng_state()
    batches = list(canvases(folder, cache_gb, workers).batches(order, 4))
    assert torch.equal(torch.get_rng_state(), before)
    assert [b.index.tolist() for b in batches] == [order[i : i + 4] for i in (0, 4, 8, 12)]
    assert torch.cat([b.images[:, 0, 0, 0] for b in batches]).tolist() == [10 * i for i in order]
    masks = [b.masks for b in batches if b.masks is not None]
    assert torch.cat(masks)[:, 0, 0].tolist() == order
    assert batches[0].images.shape == (4, 3, 8, 8)


def test_all_that_workers_need_goes_to_processes_that_are_started_anew(folder: Path) -> None:
    """So they are on Windows and macOS, where nothing is inherited: it must bear pickling."""
    faces = canvases(folder)
    view, as_it_is = pickle.loads(pickle.dumps((_WorkersView(faces), _as_it_is)))
    images, masks = as_it_is(view.__getitems__([7, 2]))
    assert images[:, 0, 0, 0].tolist() == [70, 20]
    assert masks[:, 0, 0].tolist() == [7, 2]


def test_workers_stay_from_one_order_to_the_next(folder: Path) -> None:
    faces = canvases(folder, workers=2)
    first = faces.batches(range(13), 4)
    assert next(first).index.tolist() == [0, 1, 2, 3]
    assert faces._loader is not None
    pids = [worker.pid for worker in faces._loader._iterator._workers]
    # The first order was left before its end; the next one begins anew.
    for order in ([12, 3, 5, 7, 0], [1, 2]):
        batches = list(faces.batches(order, 2))
        assert torch.cat([b.images[:, 0, 0, 0] for b in batches]).tolist() == [
            10 * i for i in order
        ]
    assert [worker.pid for worker in faces._loader._iterator._workers] == pids


def test_workers_end_with_the_canvases_they_read_for(folder: Path) -> None:
    """At once, and not when the garbage collector comes, which makes each wait for 5 s."""
    faces = canvases(folder, workers=2)
    assert len(list(faces.batches(range(13), 4))) == 4
    assert faces._loader is not None
    workers = list(faces._loader._iterator._workers)
    assert all(worker.is_alive() for worker in workers)
    del faces
    assert not any(worker.is_alive() for worker in workers)


def test_a_file_of_canvases_is_made_once_and_read_by_all(
    folder: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path_factory.mktemp("cache") / "new"
    made = canvases(folder, 1.0, cache_folder=cache)
    (file,) = cache.iterdir()
    assert file.stat().st_size == 13 * 4 * 8 * 8
    plain = list(canvases(folder, 1.0).batches(range(13), 5))

    def decoded_again(self: Canvases, index: int) -> object:
        raise AssertionError

    with monkeypatch.context() as patch:
        patch.setattr(Canvases, "decode", decoded_again)
        again = canvases(folder, 1.0, cache_folder=cache)
    for faces in (made, again):
        for batch, other in zip(faces.batches(range(13), 5), plain, strict=True):
            assert torch.equal(batch.images, other.images)
            assert batch.masks is not None
            assert other.masks is not None
            assert torch.equal(batch.masks, other.masks)
    # A picture that has changed is another set, whose canvases are made anew.
    Image.new("RGB", (20, 20), (255,) * 3).save(folder / "03.png")
    os.utime(folder / "03.png", (1, 1))
    (batch,) = canvases(folder, 1.0, cache_folder=cache).batches([3], 1)
    assert int(batch.images[0, 0, 0, 0]) == 255
    assert len(list(cache.iterdir())) == 2


def test_a_full_disk_leaves_no_file_of_canvases(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, size: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(kept, "_reserve", full)
    with pytest.raises(SsplError, match="No space left on device; free some space"):
        canvases(folder, 1.0, cache_folder=tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


@pytest.mark.parametrize(("canvas", "side"), [(512, 40), (40, 40), (39, 39), (16, 16)])
def test_a_canvas_is_no_larger_than_the_largest_picture(
    tmp_path: Path, canvas: int, side: int
) -> None:
    for i, size in enumerate([(34, 60), (50, 40), (36, 36)]):
        Image.new("RGB", size, (i,) * 3).save(tmp_path / f"{i}.png")
    sources = [FaceSource(read_folder(tmp_path), WHOLE_FRAME)]
    assert own_side(sources, canvas) == side
    faces = Canvases(sources, canvas, None, 0.0, enlarge=False)
    (batch,) = faces.batches([0, 1, 2], 3)
    assert batch.images.shape == (3, 3, side, side)
    (batch,) = Canvases(sources, canvas, None, 0.0).batches([0], 1)
    assert batch.images.shape == (1, 3, canvas, canvas)


def test_the_size_of_a_square_is_that_of_its_canvas(tmp_path: Path) -> None:
    celeba = (4 / 178, 28 / 218, 174 / 178, 198 / 218)
    picture = Image.new("RGB", (178, 218))
    picture.save(tmp_path / "a.jpg")
    assert square_side(tmp_path / "a.jpg", celeba) == 170
    turned = Image.Exif()
    turned[0x0112] = 6  # stored lying: 178 wide and 218 high to the eye
    Image.new("RGB", (218, 178)).save(tmp_path / "b.jpg", exif=turned)
    assert square_side(tmp_path / "b.jpg", celeba) == 170


def test_few_pictures_are_smaller_than_what_canvases_take_at_least(tmp_path: Path) -> None:
    Image.new("RGB", (5, 5)).save(tmp_path / "a.png")
    assert own_side([FaceSource(read_folder(tmp_path), WHOLE_FRAME)], 64) == 32


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_before_the_first_are_not_read(folder: Path, workers: int) -> None:
    faces = canvases(folder, workers=workers)
    (folder / "00.png").write_bytes(b"no picture")
    batches = list(faces.batches(range(13), 4, first=1, steps=3))
    assert [b.index.tolist() for b in batches] == [[4, 5, 6, 7], [8, 9, 10, 11]]


def test_chunks_read_no_more_of_the_order_than_they_yield() -> None:
    class Watched(list[int]):
        seen = 0

        def __getitem__(self, key: slice) -> list[int]:  # type: ignore[override]
            Watched.seen = max(Watched.seen, key.stop)
            return super().__getitem__(key)

    chunks = iter(Chunks(Watched(range(100)), 10))
    assert next(chunks) == list(range(10))
    assert Watched.seen == 10


@pytest.mark.parametrize("workers", [0, 2])
def test_damaged_picture_is_named_in_one_line(folder: Path, workers: int) -> None:
    (folder / "05.png").write_bytes(b"no picture")
    batches = canvases(folder, workers=workers).batches(range(13), 4)
    assert len(next(batches).images) == 4
    with pytest.raises(DataError, match=r"05\.png: not a picture") as caught:
        next(batches)
    assert "\n" not in str(caught.value)


def test_a_worker_that_dies_is_one_sentence(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parent = os.getpid()
    decode = Canvases.decode

    def killed(self: Canvases, index: int) -> object:
        if index == 6:
            assert os.getpid() != parent
            os.kill(os.getpid(), signal.SIGKILL)
        return decode(self, index)

    monkeypatch.setattr(Canvases, "decode", killed)
    before = signal.getsignal(signal.SIGCHLD)
    with pytest.raises(DataError, match=r"data workers died.*runtime\.workers") as caught:
        list(canvases(folder, workers=2).batches(range(13), 4))
    assert "\n" not in str(caught.value)
    assert signal.getsignal(signal.SIGCHLD) == before


def test_other_errors_of_a_worker_stay_what_they_are(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(self: Canvases, index: int) -> object:
        raise RuntimeError("a bug")

    monkeypatch.setattr(Canvases, "decode", wrong)
    with pytest.raises(RuntimeError, match="a bug"):
        list(canvases(folder, workers=1).batches(range(3), 4))


def test_orders_are_a_function_of_the_generator_alone(folder: Path) -> None:
    def order(seed: int, cache_gb: float = 0.0) -> list[int]:
        return list(canvases(folder, cache_gb).random_order(generator_for(seed, 2)))

    assert order(1) == order(1, 1.0)
    assert order(1) != order(0)
    assert sorted(order(1)) == list(range(13))


def test_read_pixels_are_those_of_the_file(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "a.png")
    source = FaceSource(read_folder(tmp_path), WHOLE_FRAME)
    (batch,) = Canvases([source], 8, None, 0.0).batches([0], 1)
    np.testing.assert_array_equal(batch.images[0].permute(1, 2, 0).numpy(), noise)
    assert batch.masks is None
