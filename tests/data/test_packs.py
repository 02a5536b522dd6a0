"""Packs: what goes in comes out, in any order, once an epoch; what is damaged is named."""

import hashlib
import io
import json
import tarfile
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from shared import TINY, draw_faces, learn, refused, sspl
from sspl.data.canvases import Canvases, Chunks
from sspl.data.data_settings import CELEBA_BOX, parse_data_spec
from sspl.data.images import WHOLE_FRAME
from sspl.data.orders import WindowedOrder
from sspl.data.packs import write
from sspl.data.packs.layout import read_index
from sspl.data.packs.read import PackedFaces, read_pack
from sspl.data.packs.write import make_pack
from sspl.data.records import FaceSource, box_in
from sspl.device import generator_for
from sspl.distributed.sampler import MicroBatches, RankSampler
from sspl.domain.taxonomy import built_in_taxonomy
from sspl.errors import DataError, SettingsError
from sspl.models.bundle import load_model

CLASSES = len(built_in_taxonomy("celebamask19"))


@pytest.fixture(scope="session")
def celeba(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fifty drawn faces of 48 px: 35 train, 5 val, 10 test."""
    return draw_faces(tmp_path_factory.mktemp("faces"), 50, seed=1)


@pytest.fixture(scope="session")
def spec(celeba: Path) -> str:
    return f"celeba:{celeba},masks={celeba / 'masks'},crop=0:0.1:0.9:1"


def pack(spec: str, out: Path, *more: object) -> Path:
    sspl("data", "pack", spec, "--out", out, "--shard-faces", 8, *more)
    return out


@pytest.fixture(scope="session")
def packed(spec: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same faces cut to 40 px without loss, in shards of 8: 5 train, 1 val, 2 test."""
    return pack(spec, tmp_path_factory.mktemp("packs") / "pack", "--canvas", 40, "--lossless")


@pytest.fixture
def copy(packed: Path, tmp_path: Path) -> Path:
    """A copy of `packed` that a test may damage."""
    out = tmp_path / "copy"
    out.mkdir()
    for file in packed.iterdir():
        (out / file.name).write_bytes(file.read_bytes())
    return out


def all_canvases(spec: str, canvas: int) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    data = parse_data_spec(spec)
    faces = data.open()
    canvases = Canvases([FaceSource(faces, data.box_of(faces))], canvas, CLASSES)
    (batch,) = canvases.batches(range(len(faces)), len(faces))
    assert batch.masks is not None
    pairs = zip(batch.images.numpy(), batch.masks.numpy(), strict=True)
    return dict(zip(faces.names, pairs, strict=True))


def test_a_lossless_pack_gives_the_very_same_canvases(spec: str, packed: Path) -> None:
    straight, through = all_canvases(spec, 40), all_canvases(f"packed:{packed}", 40)
    assert straight.keys() == through.keys()
    for name, (image, mask) in straight.items():
        np.testing.assert_array_equal(through[name][0], image)
        np.testing.assert_array_equal(through[name][1], mask)


def test_labels_splits_and_schema_come_out_as_they_went_in(spec: str, packed: Path) -> None:
    before, after = parse_data_spec(spec).open(), parse_data_spec(str(packed)).open()
    assert after.schema == before.schema
    expected = {f.name: (f.split, f.labels.tolist()) for f in before}
    assert {f.name: (f.split, f.labels.tolist()) for f in after} == expected
    order = ["train"] * 35 + ["val"] * 5 + ["test"] * 10
    assert list(after.splits) == order
    # In each split the order stays: `every_kth` subsets are those of the set that was packed.
    assert after.split("train").names == before.split("train").names


def test_groups_and_missing_labels_are_kept(tmp_path: Path) -> None:
    for name in "ab":
        Image.new("RGB", (9, 7)).save(tmp_path / f"{name}.png")
    (tmp_path / "t.csv").write_text("image,who,Male,Bald\na.png,x,1,\nb.png,,0,1\n")
    out = tmp_path / "pack"
    sspl("data", "pack", f"csv:{tmp_path / 't.csv'},group_columns=who", "--out", out)
    faces = read_pack(out)
    assert faces.groups == {"who": ("x", "")}
    assert faces.labels.tolist() == [[1, -1], [0, 1]]
    assert faces.splits == (None, None)
    assert faces.masks == (None, None)


def test_files_are_packed_as_they_are_without_a_canvas(celeba: Path, tmp_path: Path) -> None:
    out = pack(f"{celeba},masks={celeba / 'masks'}", tmp_path / "pack")
    for face in read_pack(out):
        assert face.image.read() == (celeba / "img_align_celeba" / face.name).read_bytes()  # type: ignore[union-attr]
    # Such a pack takes any crop, as the files do.
    straight = all_canvases(f"{celeba},masks={celeba / 'masks'},crop=celeba", 32)
    through = all_canvases(f"packed:{out},crop=celeba", 32)
    for name, (image, _) in straight.items():
        np.testing.assert_array_equal(through[name][0], image)


def test_shards_are_tar_files_whose_samples_share_a_key(packed: Path) -> None:
    shards = sorted(path.name for path in packed.glob("*.tar"))
    assert shards == [
        "test-000000.tar",
        "test-000001.tar",
        *(f"train-00000{i}.tar" for i in range(5)),
        "val-000000.tar",
    ]
    with tarfile.open(packed / "train-000004.tar") as tar:
        names = tar.getnames()
        assert names == [
            f"train-000004-00000{i}.{end}" for i in range(3) for end in ("webp", "mask.png", "json")
        ]
        sample = json.load(tar.extractfile(names[2]))  # type: ignore[arg-type]
        picture = Image.open(io.BytesIO(tar.extractfile(names[0]).read()))  # type: ignore[union-attr]
        assert picture.size == (40, 40)
    face = read_pack(packed)[32]
    assert sample == {"name": face.name, "labels": face.labels.tolist()}


def test_the_index_counts_and_checks(packed: Path) -> None:
    index = read_index(packed)
    assert index.faces == 50
    assert index.plan.splits == {"train": 35, "val": 5, "test": 10}
    assert [s.faces for s in index.shards] == [8, 8, 8, 8, 3, 5, 8, 2]
    for shard in index.shards:
        content = (packed / f"{shard.name}.tar").read_bytes()
        assert shard.bytes == len(content)
        assert shard.sha256 == hashlib.sha256(content).hexdigest()


def test_an_interrupted_pack_goes_on(
    spec: str, packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "pack"
    original, made = write.write_shard, list[str]()

    def stopped(out: Path, name: str, *arguments: object) -> object:
        made.append(name)
        if len(made) == 4:
            (out / ".train-000003.tar.abc.tmp").touch()  # what a killed run leaves
            raise KeyboardInterrupt
        return original(out, name, *arguments)  # type: ignore[arg-type]

    faces = parse_data_spec(spec).open()
    taxonomy = built_in_taxonomy("celebamask19")
    arguments = (faces, parse_data_spec(spec).box(), out, spec, 40, True, taxonomy, 8)
    monkeypatch.setattr(write, "write_shard", stopped)
    with pytest.raises(KeyboardInterrupt):
        make_pack(*arguments)
    with pytest.raises(DataError, match="unfinished pack; give the same 'sspl data pack' again"):
        read_pack(out)
    make_pack(*arguments)
    assert made[3:] == [
        "train-000003",
        "train-000003",
        "train-000004",
        "val-000000",
        "test-000000",
        "test-000001",
    ]
    assert {f.name: f.read_bytes() for f in out.iterdir()} == {
        f.name: f.read_bytes() for f in packed.iterdir()
    }


def test_a_finished_pack_is_repaired_and_otherwise_left_alone(spec: str, copy: Path) -> None:
    before = {f.name: (f.stat().st_mtime_ns, f.read_bytes()) for f in copy.glob("*.tar")}
    (copy / "train-000001.tar").unlink()
    (copy / "val-000000.npz").unlink()
    pack(spec, copy, "--canvas", 40, "--lossless")
    after = {f.name: (f.stat().st_mtime_ns, f.read_bytes()) for f in copy.glob("*.tar")}
    assert {n: c for n, (_, c) in after.items()} == {n: c for n, (_, c) in before.items()}
    renewed = {n for n, (time, _) in after.items() if time != before[n][0]}
    assert renewed == {"train-000001.tar", "val-000000.tar"}


def test_a_pack_of_something_else_is_not_gone_on_with(spec: str, copy: Path) -> None:
    arguments = ("data", "pack", spec, "--out", copy, "--shard-faces", 8, "--canvas")
    assert "with other options" in refused(*arguments, 32)
    (copy / "pack.json").unlink()
    assert "something else than a pack" in refused(*arguments, 40)


def test_faces_that_cannot_be_read_are_left_out_and_listed(tmp_path: Path) -> None:
    for name in "abc":
        Image.new("RGB", (9, 7)).save(tmp_path / f"{name}.png")
    (tmp_path / "b.png").write_bytes(b"no picture")
    out = tmp_path / "packs" / "pack"
    assert "b.png: not a picture" in refused("data", "pack", tmp_path, "--out", out)
    sspl("data", "pack", tmp_path, "--out", tmp_path / "packs" / "other", "--on-error", "skip")
    assert read_pack(tmp_path / "packs" / "other").names == ("a.png", "c.png")
    listed = (tmp_path / "packs" / "other-skipped.csv").read_text().splitlines()
    assert listed[0] == "source,image,reason"
    assert listed[1].split(",")[1] == "b.png"


def test_packs_refuse_what_cannot_be(spec: str, packed: Path, tmp_path: Path) -> None:
    out = tmp_path / "x"
    assert "--canvas: give the side" in refused("data", "pack", spec, "--out", out)
    assert "takes no 'masks'" in refused("data", "check", f"packed:{packed},masks=m")
    assert "no pack: there is no pack.json" in refused("data", "check", f"packed:{tmp_path}")
    assert "leave crop out" in refused(
        "pretrain", "--data", f"packed:{packed},crop=celeba", "--out", out
    )
    assert "classes" in refused("pretrain", "--data", packed, "--out", out, "taxonomy=lapa11")
    assert "set canvas=40 or less" in refused("pretrain", "--data", packed, "--out", out)
    with pytest.raises(SettingsError, match="no face in"):
        PackedFaces(packed, ("valid",))
    assert not out.exists()


def test_faces_cut_to_another_crop_are_refused(packed: Path) -> None:
    faces = read_pack(packed)
    assert box_in(faces, (0.0, 0.1, 0.9, 1.0), 40) == WHOLE_FRAME
    with pytest.raises(DataError, match=r"cut to 0:0\.1:0\.9:1, but 0\.02247:0\.1284"):
        box_in(faces, CELEBA_BOX, 40)


def flip_a_byte(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 0x10
    path.write_bytes(content)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_damaged_shard_is_named(copy: Path, workers: int) -> None:
    victim = read_pack(copy)[11]
    flip_a_byte(copy / "train-000001.tar", victim.image.at + victim.image.size // 2)  # type: ignore[union-attr]
    source = FaceSource(PackedFaces(copy, ("train",)), (0.0, 0.1, 0.9, 1.0))
    batches = Canvases([source], 40, CLASSES, 0.0, workers).batches(range(35), 11)
    next(batches)
    with pytest.raises(DataError, match=rf"train-000001\.tar is damaged at face '{victim.name}'"):
        next(batches)


def forget(pack: Path, what: str, name: str) -> None:
    """Take an attribute out of a pack's index."""
    index = json.loads((pack / "pack.json").read_text())
    del index["plan"][what][name]
    (pack / "pack.json").write_text(json.dumps(index))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda p: (p / "train-000002.tar").unlink(), r"train-000002\.tar: this part .* missing"),
        (lambda p: (p / "train-000002.npz").unlink(), r"train-000002\.npz: this part .* missing"),
        (
            lambda p: (p / "train-000002.tar").write_bytes(
                (p / "train-000002.tar").read_bytes()[:-512]
            ),
            r"train-000002\.tar has [\d,]+ bytes and not",
        ),
        (
            lambda p: flip_a_byte(
                p / "train-000002.npz", (p / "train-000002.npz").read_bytes().find(b"places") + 300
            ),
            r"train-000002\.npz: damaged table",
        ),
        (lambda p: (p / "train-000002.npz").write_bytes(b""), r"train-000002\.npz: damaged table"),
        (lambda p: forget(p, "attributes", "Smiling"), r"npz: not the labels and groups that"),
        (lambda p: (p / "pack.json").write_text("{"), r"pack\.json: no index of a pack"),
        (lambda p: (p / "pack.json").write_text('{"plan": {"version": 2}}'), "layout 2 and not 1"),
    ],
)
def test_damage_is_named_when_a_pack_is_opened(
    copy: Path, damage: Callable[[Path], object], message: str
) -> None:
    damage(copy)
    with pytest.raises(DataError, match=message) as caught:
        read_pack(copy)
    assert "\n" not in str(caught.value)


@given(
    sizes=st.lists(st.integers(1, 9), min_size=1, max_size=12),
    window=st.integers(1, 60),
    seed=st.integers(0, 5),
    cut=st.integers(0, 100),
)
@settings(max_examples=200, deadline=None)
def test_an_order_has_every_place_once_and_can_be_entered_anywhere(
    sizes: list[int], window: int, seed: int, cut: int
) -> None:
    starts = np.cumsum([0, *sizes])
    order = WindowedOrder(starts, window, generator_for(seed))
    places = order[:]
    assert sorted(places) == list(range(sum(sizes)))
    assert [order[i] for i in range(len(order))] == places
    again = WindowedOrder(starts, window, generator_for(seed))
    assert again[cut:] == places[cut:]
    # A window holds whole blocks: inside it, no block is left for another window.
    block = [int(np.searchsorted(starts, p, side="right")) - 1 for p in places]
    reach = max(
        max(i for i, b in enumerate(block) if b == k) - block.index(k) for k in range(len(sizes))
    )
    assert reach < 2 * window + max(sizes)


def test_an_order_shuffles_blocks_and_places() -> None:
    starts = np.arange(0, 1001, 10)
    order = WindowedOrder(starts, 100, generator_for(0))
    first = np.array(order[:100])
    assert len(set(first // 10)) == 10
    assert not np.array_equal(np.sort(first // 10), first // 10)
    other = WindowedOrder(starts, 100, generator_for(1))
    assert set(other[:100]) != set(first)
    # One block alone: its places are shuffled by the seed too, and differently in each window.
    one = np.array([0, 50])
    assert WindowedOrder(one, 9, generator_for(0))[:] != WindowedOrder(one, 9, generator_for(1))[:]
    half = [p % 100 for p in WindowedOrder(np.array([0, 100, 200]), 100, generator_for(0))]
    assert half[:100] != half[100:]
    # Where all fits into one window, every place can come anywhere.
    assert max(WindowedOrder(starts, 1000, generator_for(0))[:500]) >= 950


@given(seed=st.integers(0, 3), first=st.integers(0, 4), workers=st.sampled_from([0, 2]))
@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_an_epoch_of_a_pack_shows_every_training_face_once_and_can_be_entered(
    packed: Path, seed: int, first: int, workers: int
) -> None:
    faces = PackedFaces(packed, ("train",))
    source = FaceSource(faces, (0.0, 0.1, 0.9, 1.0))

    def batches(workers: int, first: int) -> list[tuple[list[int], torch.Tensor]]:
        canvases = Canvases([source], 40, CLASSES, 0.0, workers)
        order = canvases.random_order(generator_for(seed, 7))
        assert isinstance(order, WindowedOrder)
        return [(b.index.tolist(), b.images) for b in canvases.batches(order, 8, first)]

    whole, rest = batches(0, 0), batches(workers, first)
    assert sorted(i for index, _ in whole for i in index) == list(range(35))
    assert [index for index, _ in rest] == [index for index, _ in whole[first:]]
    for (_, images), (_, again) in zip(whole[first:], rest, strict=True):
        assert torch.equal(images, again)


def test_a_stream_holds_the_records_of_its_splits(packed: Path) -> None:
    faces, whole = PackedFaces(packed, ("val", "train")), read_pack(packed)
    assert len(faces) == 40
    assert faces.has_masks
    for i in (0, 7, 8, 34, 35, 39):
        one, other = faces[i], whole[i]
        assert (one.name, one.image, one.mask, one.split) == (
            other.name,
            other.image,
            other.mask,
            other.split,
        )
        np.testing.assert_array_equal(one.labels, other.labels)


def test_two_processes_share_the_batches_of_one(packed: Path) -> None:
    source = FaceSource(PackedFaces(packed, ("train",)), (0.0, 0.1, 0.9, 1.0))
    order = Canvases([source], 40, None, 0.0).random_order(generator_for(5))
    dealt = [RankSampler(order, MicroBatches(8, rank=rank, processes=2)) for rank in range(2)]
    for k in range(4):
        shares = [list(own[4 * k : 4 * k + 4]) for own in dealt]
        assert shares[0] + shares[1] == order[8 * k : 8 * k + 8]


def test_packs_and_folders_are_shuffled_together(packed: Path, celeba: Path) -> None:
    folder = parse_data_spec(f"folder:{celeba / 'img_align_celeba'}")
    box = (0.0, 0.1, 0.9, 1.0)
    sources = [FaceSource(folder.open(), box), FaceSource(PackedFaces(packed, ("train",)), box)]
    canvases = Canvases(sources, 40, None, 0.0)
    order = list(canvases.random_order(generator_for(0)))
    assert sorted(order) == list(range(85))
    assert {i >= 50 for i in order[:10]} == {True, False}


def test_memory_does_not_grow_with_faces(packed: Path, copy: Path) -> None:
    """The same shards listed many times; what Python holds of a stream is measured, not guessed."""
    content = json.loads((packed / "pack.json").read_text())

    def held(times: int) -> tuple[int, int]:
        shards = [s for s in content["shards"] if s["faces"] == 8] * times
        (copy / "pack.json").write_text(json.dumps(content | {"shards": shards}))
        tracemalloc.start()
        canvases = Canvases(
            [FaceSource(PackedFaces(copy, ("train",)), (0.0, 0.1, 0.9, 1.0))], 40, None, 0.0
        )
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        order = canvases.random_order(generator_for(0))
        for chunk, _ in zip(Chunks(order, 64), range(3), strict=False):
            assert all(canvases.sources[0].faces[i].split == "train" for i in chunk)
        peak = tracemalloc.get_traced_memory()[1] - before
        tracemalloc.stop()
        return len(canvases), peak

    held(10)
    (few, little), (many, more) = held(1_000), held(2_500)
    assert (few, many) == (32_000, 80_000)
    # A whole order of 48,000 more faces would take 0.4 MB as an array and 1.7 MB as a list.
    assert more - little < 300_000


def test_every_command_takes_a_pack(packed: Path, celeba: Path, tmp_path: Path) -> None:
    """Both stages, evaluation and prediction; the model keeps the crop that was packed."""
    tiny = (*TINY, "canvas=40", "optim.epochs=1")
    pre, fine = tmp_path / "pre", tmp_path / "fine"
    learn("pretrain", packed, pre, *tiny, "task.prt.patch_size=32")
    learn("finetune", packed, fine, "--from", pre, "--labels", 20, *tiny)
    sspl("evaluate", fine)
    report = json.loads((fine / "evaluation-test.json").read_text())
    assert report["faces"] == 10
    assert load_model(fine).box == (0.0, 0.1, 0.9, 1.0)
    # The same model on the files themselves, cut while reading: the same predictions.
    sspl("predict", fine, packed, "--out", tmp_path / "p.csv")
    sspl("predict", fine, celeba, "--out", tmp_path / "files.csv")
    rows = [sorted((tmp_path / n).read_text().splitlines()) for n in ("p.csv", "files.csv")]
    assert rows[0] == rows[1]
    assert len((tmp_path / "p.csv").read_text().splitlines()) == 51
