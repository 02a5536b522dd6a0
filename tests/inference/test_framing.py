"""The warning on pictures that are not framed as those a model learnt from."""

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import sspl
from shared import sspl as command
from sspl.data.adapters.folder import read_folder
from sspl.data.data_settings import CELEBA_BOX
from sspl.data.framing import Unlike, is_unlike, size_by_box, usual_size
from sspl.data.images import WHOLE_FRAME
from sspl.data.packs.read import read_pack
from sspl.data.packs.write import make_pack
from sspl.models.bundle import AttributeModel, load_model, save_model


def folder_of(root: Path, *sizes: tuple[int, int]) -> Path:
    root.mkdir()
    for i, size in enumerate(sizes):
        Image.new("RGB", size, (9, 90, 200)).save(root / f"{i:03}.png")
    return root


@pytest.mark.parametrize(
    ("size", "unlike"),
    [
        ((178, 218), False),
        ((89, 109), False),
        ((356, 436), False),
        ((176, 220), False),  # a fiftieth wider or narrower is a matter of rounding
        ((250, 250), True),
        ((218, 178), True),
        ((534, 654), True),
        ((3000, 4000), True),
    ],
)
def test_other_shapes_and_much_larger_pictures_are_unlike(
    size: tuple[int, int], unlike: bool
) -> None:
    assert is_unlike(size, (178, 218)) is unlike
    assert not is_unlike(size, None)


def test_usual_size_is_known_where_pictures_share_a_shape(tmp_path: Path) -> None:
    alike = read_folder(folder_of(tmp_path / "alike", (40, 50), (80, 100), (41, 50)))
    assert usual_size(alike, WHOLE_FRAME) == (80, 100)
    mixed = read_folder(folder_of(tmp_path / "mixed", (40, 50), (50, 50)))
    assert usual_size(mixed, WHOLE_FRAME) is None
    make_pack(mixed, CELEBA_BOX, tmp_path / "pack", "it", 16)
    assert usual_size(read_pack(tmp_path / "pack"), CELEBA_BOX) == (178, 218)
    assert usual_size(read_pack(tmp_path / "pack"), WHOLE_FRAME) is None


def test_a_crop_named_celeba_says_enough_of_older_models() -> None:
    rounded = tuple(float(np.float32(side)) for side in CELEBA_BOX)
    assert size_by_box(rounded) == (178, 218)  # type: ignore[arg-type]
    assert size_by_box(WHOLE_FRAME) is None


def test_one_line_counts_them(caplog: pytest.LogCaptureFixture) -> None:
    unlike = Unlike((178, 218))
    unlike.note(None)
    unlike.warn("go")
    assert not caplog.records
    for size in ((250, 250), (640, 480)):
        unlike.note(size)
    with caplog.at_level(logging.WARNING):
        unlike.warn("give --detect")
    assert caplog.messages == [
        "2 of 3 pictures differ in shape or size from those that the model learnt from (one is "
        "250 x 250 px, those were 178 x 218); unless they show the face cut in the same way, "
        "give --detect."
    ]


def test_every_way_of_looking_warns_and_none_at_the_models_own_kind(
    model: AttributeModel, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run, out = tmp_path / "run", tmp_path / "out"
    save_model(run, replace(model, pictures=(40, 50)))
    assert load_model(run).pictures == (40, 50)
    own = folder_of(tmp_path / "own", (40, 50), (20, 25), (80, 100))
    photographs = folder_of(tmp_path / "photographs", (60, 60), (40, 50), (400, 500))
    for faces, count in ((own, 0), (photographs, 2)):
        caplog.clear()
        command("predict", run, faces, "--out", out / f"{count}.csv")
        command("explain", run, faces, "--out", out / f"{count}", "--top", "1")
        sspl.load(run, "cpu").predict(faces)
        assert len(caplog.messages) == (3 if count else 0)
        ways = ("--detect", "--detect", "faces detect")
        for message, way in zip(caplog.messages, ways, strict=False):
            assert message.startswith("2 of 3 pictures differ in shape or size")
            assert way in message


def test_training_notes_the_size_of_its_pictures(tmp_path: Path) -> None:
    folder_of(tmp_path / "faces", *[(40, 50)] * 8)
    rows = "".join(f"faces/{i:03}.png,{'val' if i > 5 else 'train'},{i % 2}\n" for i in range(8))
    (tmp_path / "l.csv").write_text(f"image,split,Smiling\n{rows}")
    command(
        "finetune",
        "--preset",
        "demo",
        "--from",
        "none",
        "--data",
        f"csv:{tmp_path / 'l.csv'}",
        "--out",
        tmp_path / "run",
        "optim.epochs=1",
        "canvas=32",
        "input_size=32",
    )
    assert load_model(tmp_path / "run").pictures == (40, 50)
