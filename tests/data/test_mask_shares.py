"""What masks show is counted and said, and those that teach nothing are refused."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from shared import context, open_faces, refused, sspl
from sspl.data.mask_shares import (
    LOOKED_AT,
    counted,
    mask_lines,
    mask_summary,
    never_there,
    nothing_to_learn,
    oddities,
    require_two_classes,
)
from sspl.domain.parts import SMALL_PARTS
from sspl.domain.taxonomy import UNKNOWN, Taxonomy, built_in_taxonomy
from sspl.errors import DataError
from sspl.parsing.parser_settings import ParserSettings
from sspl.parsing.report import parser_figures
from sspl.parsing.training import known_cross_entropy, parser_loss
from sspl.settings import build
from sspl.tasks.base import Views
from sspl.tasks.pct import PatchClassification, PCTSettings
from sspl.tasks.pst import PatchSegmentation, PSTSettings

NET = built_in_taxonomy("celebamask19")
SMALL = Taxonomy("small", ("background", "skin", "nose", "l_eye", "r_eye", "u_lip"))
FACE = np.zeros((10, 20), np.uint8)
FACE[2:, 5:15] = 1
FACE[5, 8:12], FACE[4, 7], FACE[4, 12], FACE[8, 9:11] = 2, 3, 4, 5
FACE[0, :10] = UNKNOWN


def test_shares_by_hand() -> None:
    summary = mask_summary(counted([FACE, np.zeros((10, 10), np.uint8)]), SMALL)
    assert summary["masks"] == 2
    assert summary["classes"]["nose"] == {"pixel_share": round(4 / 300, 6), "masks_with_it": 0.5}
    assert summary["classes"]["skin"]["pixel_share"] == pytest.approx(72 / 300)
    assert summary["classes"]["background"] == {"pixel_share": 0.7, "masks_with_it": 1.0}
    assert summary["unknown"] == {"pixel_share": round(10 / 300, 6), "masks_with_it": 0.5}
    shares = [row["pixel_share"] for row in [*summary["classes"].values(), summary["unknown"]]]
    assert sum(shares) == pytest.approx(1, abs=1e-5)
    assert summary["remarks"] == []
    lines = mask_lines(summary)
    assert lines[0] == "2 masks, classes of small"
    assert lines[2].split() == ["background", "70.00%", "100.0%"]
    assert lines[-1].split() == ["unknown", "(255)", "3.33%", "50.0%"]


def test_masks_of_one_class_or_none_teach_nothing() -> None:
    zeros = np.zeros((4, 4), np.uint8)
    binary = zeros.copy()
    binary[1:3] = 255
    alone = nothing_to_learn(counted([zeros, zeros]), SMALL)
    assert alone == (
        "the masks hold one class alone, 'background' (id 0), so that nothing can be learnt from "
        "them"
    )
    said = nothing_to_learn(counted([zeros, binary]), SMALL)
    assert said is not None
    assert said.startswith(alone)
    assert "255, which means unknown" in said
    unknown = nothing_to_learn(counted([zeros + np.uint8(255)]), SMALL)
    assert unknown is not None
    assert unknown.startswith("not one pixel of the masks has a known class")
    assert nothing_to_learn(counted([zeros, zeros + np.uint8(1)]), SMALL) is None
    assert oddities(counted([binary]), SMALL) == [said]


def test_parts_that_never_occur_or_cover_too_much_are_told() -> None:
    without = FACE.copy()
    without[without >= 2] = 1
    (told,) = oddities(counted([without]), SMALL)
    assert told.startswith("eyes, nose and mouth never occur in the masks; are the ids in another")
    assert never_there(counted([without]), SMALL) == ["nose", "l_eye", "r_eye", "u_lip"]
    one_eye = FACE.copy()
    one_eye[one_eye == 4] = 1
    assert oddities(counted([one_eye]), SMALL) == []
    large = FACE.copy()
    large[6:] = 5
    (told,) = oddities(counted([large]), SMALL)
    assert told.startswith("'u_lip' covers 42% of the masks")  # 80 of 190 known pixels
    (told,) = oddities(counted([FACE, FACE * 0 + 30]), SMALL)
    assert told == "the masks hold ids that are no class of small: 30"


def test_annotations_read_in_the_order_of_networks_are_told() -> None:
    """CelebAMask-HQ's annotation has hair at 13, where networks have the lower lip."""
    hair, rest = np.full((10, 10), 13, np.uint8), np.zeros((20, 10), np.uint8)
    rest[:19] = np.arange(19)[:, None]
    (told,) = oddities(counted([np.concatenate([hair, rest])]), NET)
    assert "'l_lip' covers" in told
    assert "CelebAMask-HQ's annotation" in told


@pytest.mark.parametrize(
    ("part", "names", "others"),
    [
        ("eyes", "l_eye RIGHT_EYE leftEye eyes le leye EyeL iris",
         "eye_g eyeglasses eyebrow l_brow left_eyebrow glasses eyeg lb"),
        ("nose", "nose Nose nose_bridge", "skin"),
        ("mouth", "mouth u_lip llip imouth MOUTH_INTERIOR lower_lip upperlip", "hair_clip eyelid"),
    ],
)  # fmt: skip
def test_parts_are_told_by_names(part: str, names: str, others: str) -> None:
    assert all(SMALL_PARTS[part](name) for name in names.split())
    assert not any(SMALL_PARTS[part](name) for name in others.split())


def write_set(folder: Path, masks: list[np.ndarray]) -> str:
    """Write pictures and masks; return them as data."""
    for kind in ("i", "m"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
    for number, ids in enumerate(masks):
        Image.new("RGB", ids.shape[::-1]).save(folder / "i" / f"{number:03}.jpg")
        Image.fromarray(ids.astype(np.uint8)).save(folder / "m" / f"{number:03}.png")
    return f"folder:{folder / 'i'},masks={folder / 'm'}"


BINARY = np.where(FACE == 1, 255, 0).astype(np.uint8)[:, 5:15]
SQUARE = FACE[:, 5:15]


def test_masks_beyond_those_looked_at_first_count(tmp_path: Path) -> None:
    masks = [BINARY] * (LOOKED_AT + 20)
    write_set(tmp_path, masks)
    faces = open_faces("folder", tmp_path / "i").with_masks(tmp_path / "m")
    with pytest.raises(DataError, match=r"i: the masks hold one class alone"):
        require_two_classes(faces, SMALL)
    first = np.unique(np.linspace(0, len(masks) - 1, LOOKED_AT, dtype=int))
    other = min(set(range(len(masks))) - set(first.tolist()))
    Image.fromarray(SQUARE).save(tmp_path / "m" / f"{other:03}.png")
    require_two_classes(faces, SMALL)


def test_data_check_says_the_share_of_each_class(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    spec = write_set(tmp_path, [SQUARE] * 4)
    result = sspl("data", "check", spec)
    assert "4 masks, classes of celebamask19" in result.output
    assert "nose and mouth never occur" in caplog.text  # ids 4 and 5 are eyes there
    classes = tmp_path / "classes.txt"
    classes.write_text("".join(f"{i} {name}\n" for i, name in enumerate(SMALL.classes)))
    caplog.clear()
    found = json.loads(sspl("data", "check", spec, "--taxonomy", classes, "--json").stdout)
    assert not caplog.text
    assert found["masks"]["classes"]["nose"] == {"pixel_share": 0.04, "masks_with_it": 1.0}
    assert found["masks"]["remarks"] == []
    write_set(tmp_path, [BINARY] * 4)
    found = json.loads(sspl("data", "check", spec, "--json", "--on-error", "fail").stdout)
    assert "255, which means unknown" in found["masks"]["remarks"][0]
    assert "255, which means unknown" in caplog.text


def test_data_check_of_a_pack_knows_its_classes(tmp_path: Path) -> None:
    spec = write_set(tmp_path, [SQUARE] * 3)
    classes = tmp_path / "classes.txt"
    classes.write_text("".join(f"{i} {name}\n" for i, name in enumerate(SMALL.classes)))
    sspl("data", "pack", spec, "--out", tmp_path / "pack", "--taxonomy", classes)
    found = json.loads(sspl("data", "check", f"packed:{tmp_path / 'pack'}", "--json").stdout)
    assert list(found["masks"]["classes"]) == list(SMALL.classes)


def test_training_on_masks_that_teach_nothing_is_refused(tmp_path: Path) -> None:
    spec = write_set(tmp_path, [BINARY] * 12)
    out = tmp_path / "out"
    said = refused("parser", "train", tmp_path / "i", tmp_path / "m", "--out", out)
    assert "the masks hold one class alone, 'background'" in said
    assert "255, which means unknown" in said
    for task in ("pst", "pct"):
        said = refused(
            "pretrain", "--preset", "demo", "--data", spec, "--out", out, f"tasks=[{task}]"
        )
        assert "the masks hold one class alone, 'background'" in said
    assert not out.exists()
    write_set(tmp_path, [np.full((10, 10), 255)] * 12)
    said = refused("parser", "train", tmp_path / "i", tmp_path / "m", "--out", out)
    assert "means unknown" in said
    split = tmp_path / "split.csv"
    rows = [f"{i:03},{'test' if i < 3 else 'train'}\n" for i in range(12)]
    split.write_text("name,split\n" + "".join(rows))
    write_set(tmp_path, [np.full((10, 10), 255)] * 3 + [SQUARE] * 9)
    said = refused(
        "parser", "train", tmp_path / "i", tmp_path / "m", "--out", out, "--split-file", split
    )
    assert "not one pixel of the test masks has a known class" in said
    assert not out.exists()


def test_a_batch_without_known_pixels_has_no_part_in_the_parsers_loss() -> None:
    torch.manual_seed(0)
    outputs = [torch.randn(2, 6, 8, 8, requires_grad=True) for _ in range(3)]
    weights = torch.linspace(0.5, 2, 6)
    settings = build(ParserSettings, {}, ())
    unknown = torch.full((2, 32, 32), UNKNOWN)
    loss = parser_loss(outputs, unknown, weights, settings)
    loss.backward()
    assert loss.item() == 0
    assert all(o.grad is not None and not o.grad.any() for o in outputs)
    some = unknown.clone()
    some[0, 4, 6] = 3
    logits = torch.randn(2, 6, 32, 32)
    by_hand = F.cross_entropy(logits[0, :, 4, 6][None], torch.tensor([3]))
    torch.testing.assert_close(known_cross_entropy(logits, some, weights), by_hand)
    assert torch.isfinite(parser_loss(outputs, some, weights, settings))


def views_of(masks: torch.Tensor) -> Views:
    crop = torch.zeros(len(masks), 3, 8, 8)
    return Views(crop.to(torch.uint8), masks, crop, masks, torch.Generator())


def test_crops_without_known_pixels_have_no_part_in_pst_and_pct() -> None:
    torch.manual_seed(0)
    maps = [torch.randn(3, 5, 4, 4, requires_grad=True)]
    masks = torch.full((3, 8, 8), UNKNOWN, dtype=torch.uint8)
    pct = PatchClassification(PCTSettings(), context(5, taxonomy=SMALL))
    pst = PatchSegmentation(PSTSettings(), context(5, taxonomy=SMALL))
    backbone = None
    for task in (pct, pst):
        result = task(backbone, views_of(masks), maps)  # type: ignore[arg-type]
        result.loss.backward()
        assert result.loss.item() == 0
        assert maps[0].grad is not None
        assert not maps[0].grad.any()
    masks[1, :4] = 1
    whole = pct(backbone, views_of(masks), maps)  # type: ignore[arg-type]
    alone = pct(backbone, views_of(masks[1:2]), [maps[0][1:2]])  # type: ignore[arg-type]
    torch.testing.assert_close(whole.loss, alone.loss)
    assert whole.tallies["accuracy"] == alone.tallies["accuracy"]
    known = torch.randint(0, 6, (3, 8, 8), dtype=torch.uint8)
    target = torch.ones(3, 6)
    plain = F.binary_cross_entropy_with_logits(pct.head(maps[0].mean((2, 3))), target)
    assert torch.equal(pct(backbone, views_of(known), maps).loss, plain)  # type: ignore[arg-type]


def test_figures_of_a_class_alone_are_numbers() -> None:
    confusion = torch.zeros(6, 6, dtype=torch.int64)
    confusion[1, 1] = 4
    assert json.dumps(parser_figures(confusion, SMALL), allow_nan=False)
