"""Runs go on with the work that they began with, and say what is not as it was."""

import csv
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from shared import TINIER, refused
from shared import sspl as command
from sspl.data.adapters.folder import read_folder
from sspl.data.data_settings import parse_data_spec
from sspl.data.inputs import INPUTS_FILE, Stamp, changes, of_faces, require_same_inputs
from sspl.data.synthetic import write_synthetic
from sspl.domain.taxonomy import built_in_taxonomy
from sspl.errors import DataError, SettingsError
from sspl.io.resuming import require_same_settings
from sspl.parsing.masks import MADE_FILE, make_masks
from sspl.settings import build, dump_yaml, read_settings
from sspl.training.stage_settings import FinetuneSettings

TINY = (*TINIER, "optim.epochs=1")
STEPS = "optim.schedule.steps=[[2,1.0],[9,0.1]]"


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drawn") / "faces"
    write_synthetic(folder, 30, 5, 40)
    return folder


@pytest.fixture
def faces(drawn: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(drawn, tmp_path / "faces"))


def pretraining(faces: Path, out: Path) -> tuple[Any, ...]:
    data = f"celeba:{faces},masks={faces / 'masks'}"
    return ("pretrain", "--preset", "demo", "--data", data, *TINY, "tasks=[pct]", "--out", out)


def finetuning(faces: Path, out: Path) -> tuple[Any, ...]:
    return (
        "finetune",
        "--preset",
        "demo",
        "--from",
        "none",
        "head.pooling=average",
        "--data",
        f"celeba:{faces}",
        *TINY,
        "evaluate_every=1",
        "--out",
        out,
    )


def parser_training(faces: Path, out: Path) -> tuple[Any, ...]:
    return (
        "parser",
        "train",
        faces / "img_align_celeba",
        faces / "masks",
        "--pairs",
        6,
        "size=64",
        "view=64",
        "steps=1",
        "batch_size=2",
        "model.width=0.125",
        "--out",
        out,
    )


def packing(faces: Path, out: Path) -> tuple[Any, ...]:
    data = f"celeba:{faces},masks={faces / 'masks'}"
    return ("data", "pack", data, "--shard-faces", 8, "--out", out)


COMMANDS: dict[str, Callable[[Path, Path], tuple[Any, ...]]] = {
    "pretrain": pretraining,
    "finetune": finetuning,
    "parser train": parser_training,
    "pack": packing,
}


@pytest.mark.parametrize("name", COMMANDS)
def test_changed_inputs_are_named_and_refused_and_removing_the_list_accepts_them(
    faces: Path, tmp_path: Path, name: str
) -> None:
    out, make = tmp_path / "out", COMMANDS[name]
    again = () if name == "pack" else ("--resume",)
    command(*make(faces, out))
    command(*make(faces, out), *again)
    picture = faces / "img_align_celeba" / "000003.jpg"
    changed = faces / "masks" / "000003.png" if name in ("pretrain", "parser train") else picture
    os.utime(changed, (1, 1))
    sentence = refused(*make(faces, out), *again)
    assert "000003" in sentence
    assert "has changed since the work in" in sentence
    assert f"remove {out / INPUTS_FILE}" in sentence
    (out / INPUTS_FILE).unlink()
    command(*make(faces, out), *again)
    assert (out / INPUTS_FILE).is_file(), "they are what it is of from now on"


def test_a_folder_that_moved_with_its_times_is_gone_on_with(faces: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command(*finetuning(faces, out))
    moved = faces.rename(tmp_path / "moved")
    command(*finetuning(moved, out), "--resume")
    assert read_settings(out / "settings.yaml")["data"]["root"] == str(moved)


def test_a_label_that_changed_is_an_input_that_changed(faces: Path, tmp_path: Path) -> None:
    out, table = tmp_path / "out", faces / "list_attr_celeba.txt"
    command(*finetuning(faces, out))
    lines = table.read_text().splitlines()
    values = lines[7].split()
    values[1] = "-1" if values[1] == "1" else "1"
    lines[7] = " ".join(values)
    table.write_text("\n".join(lines) + "\n")
    assert f"{values[0]} has changed" in refused(*finetuning(faces, out), "--resume")


def test_the_setting_that_differs_is_named(faces: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command(*finetuning(faces, out))
    before = (out / "settings.yaml").read_bytes()
    sentence = refused(*finetuning(faces, out), "--resume", "optim.lr=0.5", "head.dropout=0.3")
    assert "optim.lr was " in sentence
    assert ", now 0.5; " in sentence or ", now 0.5)" in sentence
    assert "head.dropout was " in sentence
    assert (out / "settings.yaml").read_bytes() == before
    command(*finetuning(faces, out), "--resume", "runtime.workers=1", "runtime.cache_gb=0")
    assert read_settings(out / "settings.yaml")["runtime"]["workers"] == 1


def test_a_place_may_move_but_none_may_join_or_go(tmp_path: Path) -> None:
    def settings(*teachers: str) -> FinetuneSettings:
        return build(FinetuneSettings, {"distillation": {"teachers": teachers}})

    file = tmp_path / "settings.yaml"
    file.write_text(dump_yaml(settings("a/fine")))
    assert require_same_settings(file, settings("b/fine")) == ("distillation.teachers",)
    for other in (settings(), settings("a/fine", "b/fine")):
        with pytest.raises(SettingsError, match=r"distillation\.teachers was \['a/fine'\], now"):
            require_same_settings(file, other)


def test_more_epochs_where_the_schedule_is_by_epoch_end_as_a_longer_run(
    faces: Path, tmp_path: Path
) -> None:
    for name in ("finetune", "pretrain"):
        out, whole, make = tmp_path / name, tmp_path / f"whole-{name}", COMMANDS[name]
        command(*make(faces, out), STEPS)
        command(name, "--out", out, "--resume", "optim.epochs=3")
        command(*make(faces, whole), STEPS, "optim.epochs=3")
        with (out / "metrics.csv").open() as one, (whole / "metrics.csv").open() as other:
            assert list(csv.DictReader(one)) == list(csv.DictReader(other))
        assert read_settings(out / "settings.yaml")["optim"]["epochs"] == 3
        sentence = refused(*make(faces, out), STEPS, "--resume", "optim.epochs=2")
        assert "less than the 3" in sentence


@pytest.mark.parametrize(
    ("name", "more", "instead"),
    [
        ("pretrain", "optim.epochs=2", "backbone_weights="),
        ("finetune", "optim.epochs=2", "finetune --from"),
        ("parser train", "steps=2", "another --out"),
    ],
)
def test_a_schedule_over_the_whole_run_cannot_be_made_longer(
    faces: Path, tmp_path: Path, name: str, more: str, instead: str
) -> None:
    out, make = tmp_path / "out", COMMANDS[name]
    command(*make(faces, out))
    sentence = refused(*make(faces, out), "--resume", more)
    assert f"{more.partition('=')[0]} was 1, now 2" in sentence
    assert "curve over all" in sentence
    assert instead in sentence


def test_a_key_that_an_older_run_lacks_takes_its_default(tmp_path: Path) -> None:
    file, now = tmp_path / "settings.yaml", build(FinetuneSettings, {})
    text = dump_yaml(now).replace("sure_accuracy: null\n", "").replace("  clip: 5.0\n", "")
    file.write_text(text)
    assert require_same_settings(file, now) == ()
    with pytest.raises(SettingsError, match=r"sure_accuracy was none, now 0.9"):
        require_same_settings(file, build(FinetuneSettings, {"sure_accuracy": 0.9}))


def test_keys_that_this_version_does_not_know_are_named(tmp_path: Path) -> None:
    file, now = tmp_path / "settings.yaml", build(FinetuneSettings, {})
    file.write_text(dump_yaml(now).replace("optim:\n", "magic: 3\noptim:\n  wand: 1\n"))
    with pytest.raises(SettingsError, match=r"does not know \(magic, optim.wand\)"):
        require_same_settings(file, now)


def test_a_stamp_fits_what_was_touched_or_copied_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"abc")
    stamp = Stamp.parsed(json.loads(json.dumps(Stamp.of(path).as_json())))
    assert stamp is not None
    os.utime(path, (1, 1))
    assert stamp.fits(path)
    for other in (b"abd", b"abcd", b""):
        path.write_bytes(other)
        os.utime(path, (2, 2))
        assert not stamp.fits(path)
    path.unlink()
    assert not stamp.fits(path)
    assert Stamp.parsed([1, 2]) is Stamp.parsed("abc") is Stamp.parsed([1, 2, 0.5]) is None


def test_changes_are_told_in_words() -> None:
    before = [("a", "1"), ("b", "1"), ("c", "1")]
    assert changes(before, [("a", "2"), ("b", "2"), ("c", "1")]) == "a and 1 more have changed"
    assert changes(before, [("a", "1"), ("c", "1"), ("d", "1")]) == "b is gone; d is new"
    assert changes(before, before[::-1]) == "the order of the faces has changed"


def test_a_pack_is_known_by_its_checksums(faces: Path, tmp_path: Path) -> None:
    """Copying a pack changes nothing, other pictures in it do."""
    pack = tmp_path / "pack"
    command(*packing(faces, pack))
    spec = parse_data_spec(f"packed:{pack}")
    stream, whole = of_faces(spec.stream(("train",))), of_faces(spec.open(), labelled=True)
    for file in pack.iterdir():
        os.utime(file, (1, 1))
    assert of_faces(spec.stream(("train",))) == stream
    assert of_faces(spec.open(), labelled=True) == whole
    picture = faces / "img_align_celeba" / "000001.jpg"
    Image.fromarray(np.zeros((40, 40, 3), np.uint8)).save(picture)
    other = tmp_path / "other"
    command(*packing(faces, other))
    there = of_faces(parse_data_spec(f"packed:{other}").stream(("train",)))
    assert [a != b for a, b in zip(stream, there, strict=True)].count(True) == 1


def test_a_damaged_list_of_inputs_is_named(tmp_path: Path) -> None:
    require_same_inputs(tmp_path, [("a", "1")], resumed=False)
    require_same_inputs(tmp_path, [("a", "1")], resumed=True)
    for content in (b"", b"no gzip"):
        (tmp_path / INPUTS_FILE).write_bytes(content)
        with pytest.raises(DataError, match="damaged; remove it"):
            require_same_inputs(tmp_path, [("a", "1")], resumed=True)


class Grey:
    """A parser whose masks say how bright a picture is; it remembers how many it looked at."""

    taxonomy = built_in_taxonomy("celebamask19")
    canvas = 8

    def __init__(self) -> None:
        self.looked = 0

    def fingerprint(self) -> str:
        return "grey"

    def looks_at(self, size: tuple[int, int]) -> tuple[int, int]:
        return size

    def parse(self, images: list[Any]) -> list[Any]:
        self.looked += len(images)
        return [(image[..., 0] // 32).astype(np.uint8) for image in images]


def test_masks_of_changed_pictures_are_made_anew(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    for i in range(4):
        Image.new("RGB", (16, 16), (40 * i, 0, 0)).save(folder / f"{i}.bmp")

    def looked() -> int:
        parser = Grey()
        make_masks(parser, read_folder(folder), out, 2)
        return parser.looked

    assert (looked(), looked()) == (4, 0)
    os.utime(folder / "2.bmp", (1, 1))
    assert looked() == 0
    # The same number of bytes.
    Image.new("RGB", (16, 16), (200, 0, 0)).save(folder / "2.bmp")
    assert (looked(), looked()) == (1, 0)
    assert "2.bmp and 0 more pictures" in caplog.text
    assert np.asarray(Image.open(out / "2.png"))[0, 0] == 200 // 32
    # What an older version made has no notes.
    (out / MADE_FILE).unlink()
    assert (looked(), looked()) == (0, 0)
    (out / MADE_FILE).unlink()
    os.utime(folder / "3.bmp", (2**32, 2**32))
    assert looked() == 1
