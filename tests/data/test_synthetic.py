"""Synthetic faces: determinism, truth of the labels, and masks that fit the pictures."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from sspl.cli.main import cli
from sspl.data.synthetic import SYNTHETIC_ATTRIBUTES, render_face, write_synthetic
from sspl.data.synthetic.face import Canvas, Part, Pose, ellipse
from sspl.data.synthetic.likeness import draw_warp
from sspl.data.synthetic.paint import semantic_mask
from sspl.data.synthetic.photo import photograph
from sspl.data.synthetic.render import Style, SyntheticFace, _plain
from sspl.data.synthetic.traits import HAIR_COLOURS, draw_traits
from sspl.data.synthetic.write import PALETTE, partition
from sspl.domain.attributes import celeba_schema
from sspl.domain.taxonomy import built_in_taxonomy
from sspl.errors import SsplError

CLASSES = built_in_taxonomy("celebamask19").classes
REQUIRED = {
    "Eyeglasses", "Wearing_Hat", "Smiling", "Mouth_Slightly_Open", "Bald", "Bangs", "Black_Hair",
    "Blond_Hair", "Brown_Hair", "Gray_Hair", "Mustache", "Goatee", "No_Beard", "Bushy_Eyebrows",
    "Big_Nose", "Wearing_Earrings", "Wearing_Lipstick", "Narrow_Eyes", "Pale_Skin",
    "Wearing_Necklace", "Big_Lips", "Arched_Eyebrows",
}  # fmt: skip


@pytest.fixture(scope="module")
def faces() -> list[SyntheticFace]:
    return [render_face(3, index, 64) for index in range(150)]


def tree(root: Path) -> dict[str, str]:
    files = sorted(p for p in root.rglob("*") if p.is_file())
    return {str(p.relative_to(root)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def class_pixels(face: SyntheticFace, name: str) -> int:
    return int((face.mask == CLASSES.index(name)).sum())


def centre_x(face: SyntheticFace, name: str) -> float:
    return float(np.nonzero(face.mask == CLASSES.index(name))[1].mean())


def test_same_seed_gives_the_same_bytes_and_another_seed_does_not(tmp_path: Path) -> None:
    for name, seed in (("a", 5), ("b", 5), ("c", 6)):
        write_synthetic(tmp_path / name, 4, seed, 40)
    first, again, other = (tree(tmp_path / name) for name in "abc")
    assert first == again
    pictures = [name for name in first if name.endswith((".jpg", ".png"))]
    assert len(pictures) == 9
    assert all(first[name] != other[name] for name in pictures)


def test_a_longer_set_extends_a_shorter_one(tmp_path: Path) -> None:
    write_synthetic(tmp_path / "short", 3, 1, 40)
    write_synthetic(tmp_path / "long", 12, 1, 40)
    short, long = tree(tmp_path / "short"), tree(tmp_path / "long")
    pictures = [n for n in short if n.startswith(("img_align_celeba", "masks"))]
    assert len(pictures) == 6
    assert all(short[n] == long[n] for n in pictures)
    for name, heading in (("list_attr_celeba.txt", 2), ("list_eval_partition.txt", 0)):
        lines = (tmp_path / "short" / name).read_text().splitlines()[heading:]
        assert (tmp_path / "long" / name).read_text().splitlines()[heading:][:3] == lines


def test_label_file_agrees_with_the_renderer_and_masks_are_palette_pictures(tmp_path: Path) -> None:
    write_synthetic(tmp_path, 10, 2, 48)
    count, names, *rows = (tmp_path / "list_attr_celeba.txt").read_text().splitlines()
    assert (int(count), tuple(names.split())) == (10, SYNTHETIC_ATTRIBUTES)
    splits = dict(
        line.split() for line in (tmp_path / "list_eval_partition.txt").read_text().splitlines()
    )
    for index, row in enumerate(rows):
        file, *values = row.split()
        face = render_face(2, index, 48)
        assert [v == "1" for v in values] == [face.labels[n] for n in SYNTHETIC_ATTRIBUTES]
        assert set(values) <= {"1", "-1"}
        assert int(splits[file]) == partition(index)
        with Image.open(tmp_path / "masks" / file.replace("jpg", "png")) as mask:
            assert mask.mode == "P"
            assert np.array_equal(np.asarray(mask), face.mask)
            colours = mask.getpalette() or []
            assert colours[: 3 * 19] == PALETTE.ravel().tolist()
        with Image.open(tmp_path / "img_align_celeba" / file) as picture:
            difference = np.asarray(picture).astype(int) - face.image.astype(int)
        assert np.abs(difference).mean() < 12
    assert len(rows) == len(splits) == 10
    with Image.open(tmp_path / "contact_sheet.png") as sheet:
        assert sheet.size == (8 * 48, 2 * 2 * 48)


def test_photographs_have_more_labels_and_they_do_not_contradict_each_other(tmp_path: Path) -> None:
    write_synthetic(tmp_path, 3, 2, 48, "photo")
    _, names, *rows = (tmp_path / "list_attr_celeba.txt").read_text().splitlines()
    drawn = [render_face(2, i, 48, "photo").labels for i in range(60)]
    assert [row.split()[1:] for row in rows] == [
        ["1" if truth else "-1" for truth in labels.values()] for labels in drawn[:3]
    ]
    assert tuple(names.split()) == tuple(drawn[0])
    assert set(drawn[0]) > set(SYNTHETIC_ATTRIBUTES)
    assert [n for n in celeba_schema().names if n in drawn[0]] == list(drawn[0])
    for labels in drawn:
        assert not (labels["Straight_Hair"] and (labels["Wavy_Hair"] or labels["Bald"]))
        assert not (labels["Sideburns"] and labels["Bald"])
        covered = labels["Bald"] or labels["Wearing_Hat"] or labels["Bangs"]
        assert not (labels["Receding_Hairline"] and covered)


def test_partition_is_seventy_ten_twenty() -> None:
    assert np.bincount([partition(i) for i in range(1000)]).tolist() == [700, 100, 200]


def test_required_attributes_are_there_with_usable_rates() -> None:
    assert set(SYNTHETIC_ATTRIBUTES) >= REQUIRED
    drawn = [draw_traits(np.random.default_rng([0, i])).labels for i in range(3000)]
    assert all(tuple(labels) == SYNTHETIC_ATTRIBUTES for labels in drawn)
    rates = {n: np.mean([labels[n] for labels in drawn]) for n in SYNTHETIC_ATTRIBUTES}
    assert 0.8 < rates.pop("No_Beard") < 0.92
    assert all(0.04 < rate < 0.55 for rate in rates.values()), rates


def test_labels_do_not_contradict_each_other() -> None:
    for index in range(3000):
        labels = draw_traits(np.random.default_rng([1, index])).labels
        assert labels["No_Beard"] == (not labels["Mustache"] and not labels["Goatee"])
        hair = sum(labels[name] for name in HAIR_COLOURS)
        assert hair <= (0 if labels["Bald"] else 1)
        assert not (labels["Bangs"] and (labels["Wearing_Hat"] or labels["Bald"]))
        assert not (labels["Bald"] and labels["Wavy_Hair"])


@pytest.mark.parametrize(
    ("attribute", "class_name"),
    [
        ("Eyeglasses", "eye_g"),
        ("Wearing_Hat", "hat"),
        ("Wearing_Earrings", "ear_r"),
        ("Wearing_Necklace", "neck_l"),
    ],
)
def test_things_worn_are_in_the_mask_exactly_when_labelled(
    faces: list[SyntheticFace], attribute: str, class_name: str
) -> None:
    labels = [face.labels[attribute] for face in faces]
    assert 0 < sum(labels) < len(labels)
    assert [class_pixels(face, class_name) > 0 for face in faces] == labels


def test_bald_is_exactly_no_hair(faces: list[SyntheticFace]) -> None:
    labels = [face.labels["Bald"] for face in faces]
    assert any(labels)
    assert [class_pixels(face, "hair") == 0 for face in faces] == labels


def test_every_class_occurs_and_no_other(faces: list[SyntheticFace]) -> None:
    assert set(np.unique([face.mask for face in faces])) == set(range(19))


def test_open_mouths_show_more_inner_mouth(faces: list[SyntheticFace]) -> None:
    share = {
        truth: [class_pixels(f, "mouth") for f in faces if f.labels["Mouth_Slightly_Open"] is truth]
        for truth in (True, False)
    }
    assert np.percentile(share[True], 20) > np.percentile(share[False], 80)


def measured(faces: list[SyntheticFace], attribute: str, name: str, axis: int) -> list[float]:
    """Median extent of a class, relative to its picture's skin, without and with an attribute."""
    groups: dict[bool, list[float]] = {False: [], True: []}
    for face in faces:
        places = np.nonzero(face.mask == CLASSES.index(name))[axis]
        skin = np.nonzero(face.mask == CLASSES.index("skin"))[axis]
        if len(places):
            groups[face.labels[attribute]].append(float(np.ptp(places) / np.ptp(skin)))
    return [float(np.median(groups[truth])) for truth in (False, True)]


@pytest.mark.parametrize(
    ("attribute", "name", "axis", "ratio"),
    [
        ("Big_Nose", "nose", 1, 1.15),
        ("Big_Lips", "l_lip", 0, 1.1),
        ("Bushy_Eyebrows", "l_brow", 0, 1.1),
        ("Arched_Eyebrows", "r_brow", 0, 1.1),
        ("Narrow_Eyes", "l_eye", 0, 0.85),
    ],
)
def test_measures_follow_labels(
    faces: list[SyntheticFace], attribute: str, name: str, axis: int, ratio: float
) -> None:
    without, having = measured(faces, attribute, name, axis)
    assert having > ratio * without if ratio > 1 else having < ratio * without


def test_hair_and_lips_have_the_colour_of_their_labels(faces: list[SyntheticFace]) -> None:
    def colour(attribute: str, name: str, truth: bool = True) -> np.ndarray:
        id_ = CLASSES.index(name)
        chosen = [f.image[f.mask == id_].mean(0) for f in faces if f.labels[attribute] is truth]
        return np.nanmean([c for c in chosen if c.shape], axis=0)

    black, brown, blond, gray = (
        colour(f"{c}_Hair", "hair") for c in ("Black", "Brown", "Blond", "Gray")
    )
    assert black.mean() < brown.mean() < blond.mean()
    assert blond[0] - blond[2] > 40 > abs(gray[0] - gray[2])
    painted, plain = (colour("Wearing_Lipstick", "l_lip", truth) for truth in (True, False))
    assert painted[0] - painted[1] > 15 + plain[0] - plain[1]


def test_left_is_the_persons_own_left(faces: list[SyntheticFace]) -> None:
    compared = 0
    for face in faces:
        for part in ("eye", "brow", "ear"):
            if class_pixels(face, f"l_{part}") and class_pixels(face, f"r_{part}"):
                compared += 1
                assert centre_x(face, f"l_{part}") > centre_x(face, f"r_{part}")
    assert compared > 200


def edges(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    inside = mask[1:-1, 1:-1]
    return inside != mask[1:-1, 2:], inside != mask[2:, 1:-1]


def edge_contrast(image: np.ndarray, mask: np.ndarray) -> float:
    """Mean step of the picture across the mask's boundaries."""
    inside = image[1:-1, 1:-1]
    across, down = edges(mask)
    steps = np.concatenate(
        [
            np.abs(inside - image[1:-1, 2:]).mean(2)[across],
            np.abs(inside - image[2:, 1:-1]).mean(2)[down],
        ]
    )
    return float(steps.mean())


@pytest.mark.parametrize("index", range(8))
def test_mask_edges_lie_on_picture_edges(index: int) -> None:
    picture, canvas, _ = _plain(np.random.default_rng([9, index]), 96, faults=False)
    image, mask = np.clip(picture, 0, 255), semantic_mask(canvas)
    fitting = edge_contrast(image, mask)
    for shift, axis in ((1, 0), (-1, 0), (1, 1), (-1, 1)):
        assert fitting > 1.1 * edge_contrast(image, np.roll(mask, shift, axis))
    assert fitting > 1.8 * edge_contrast(image, np.roll(mask, 3, 1))


def test_photographs_have_their_edges_where_the_mask_has() -> None:
    pairs = []
    for index in range(12):
        face = render_face(9, index, 96, "photo")
        image = face.image.astype(float)
        pairs.append([edge_contrast(image, np.roll(face.mask, s, 1)) for s in (0, 3, -3)])
    fitting, *moved = np.mean(pairs, axis=0)
    assert fitting > 1.4 * max(moved)


def test_photographs_have_the_proportions_of_aligned_faces() -> None:
    """Means over 858 aligned faces: distance of the eyes, places of brow, nose and lips."""
    found = []
    for index in range(120):
        mask = render_face(2, index, 112, "photo").mask
        at = {
            n: np.argwhere(mask == CLASSES.index(n)).mean(0)
            for n in ("l_eye", "r_eye")
            if (mask == CLASSES.index(n)).any()
        }
        if len(at) < 2:
            continue
        apart = np.hypot(*(at["l_eye"] - at["r_eye"]))
        middle = (at["l_eye"] + at["r_eye"]) / 2
        parts = ("l_brow", "nose", "u_lip", "l_lip")
        rows = [np.argwhere(mask == CLASSES.index(n))[:, 0] for n in parts]
        heights = [(r.mean() - middle[0]) / apart if len(r) else np.nan for r in rows]
        found.append([apart / 112, middle[0] / 112, *heights])
    expected = (0.24, 0.48, -0.26, 0.41, 1.03, 1.20)
    assert np.nanmean(found, axis=0) == pytest.approx(expected, abs=0.05)


@pytest.mark.parametrize("seed", range(4))
def test_heights_of_a_warped_face_lead_back_to_the_drawing(seed: int) -> None:
    warp = draw_warp(np.random.default_rng(seed))
    drawn = np.linspace(-3.0, 3.0, 25)
    still = warp.__class__(warp.heights, warp.waves * (1, 1, 1, 0, 0))
    moved = still(np.stack([np.zeros(25), drawn], axis=1))
    assert (np.diff(moved[:, 1]) > 0).all()
    assert warp.drawn_height(moved[:, 1]) == pytest.approx(drawn)
    assert still(np.zeros((1, 2))) == pytest.approx(0.0)


def test_a_photograph_is_the_same_again_and_another_style_is_another_picture() -> None:
    first, again = (render_face(4, 7, 64, "photo") for _ in range(2))
    assert (first.image == again.image).all()
    assert (first.mask == again.mask).all()
    assert (first.image != render_face(4, 7, 64).image).mean() > 0.5


def test_something_in_front_of_a_face_is_background() -> None:
    shown = 0
    for index in range(60):
        _, canvas, _ = photograph(np.random.default_rng([1, index]), 32)
        thing = np.asarray(canvas.parts)[1::3, 1::3] == Part.THING
        shown += bool(thing.any())
        glass = semantic_mask(canvas)[thing] == CLASSES.index("eye_g")
        assert (semantic_mask(canvas)[thing][~glass] == 0).all()
    assert 2 < shown < 20


def test_labels_and_layout_do_not_depend_on_size() -> None:
    require_same_layout("plain", 0.97)
    # Single locks are thinner than a pixel of the small one.
    require_same_layout("photo", 0.95)


def require_same_layout(style: Style, alike: float) -> None:
    small, large = render_face(4, 7, 48, style), render_face(4, 7, 144, style)
    assert small.image.shape == (48, 48, 3)
    assert small.image.dtype == small.mask.dtype == np.uint8
    assert small.labels == large.labels
    assert np.mean(small.mask == large.mask[1::3, 1::3]) > alike


def test_masks_are_read_at_pixel_centres() -> None:
    straight = Pose(0.3, 0.5, 0.5, 0.0, 0.0, 0.0)
    canvas = Canvas(32, straight, straight)
    dots = np.zeros((96, 96), dtype=np.uint8)
    dots[1::3, 1::3] = Part.SKIN
    canvas.parts.paste(Image.fromarray(dots))
    assert (semantic_mask(canvas) == CLASSES.index("skin")).all()


def test_outlines_are_centred_on_the_pixel_grid() -> None:
    straight = Pose(0.3, 0.5, 0.5, 0.0, 0.0, 0.0)
    canvas = Canvas(64, straight, straight)
    canvas.fill(Part.SKIN, ellipse(0.0, 0.0, 1.0, 1.2, n=400), 0.0)
    filled = np.asarray(canvas.parts) > 0
    assert filled.sum() == pytest.approx(np.pi * 1.2 * (0.3 * 192) ** 2, rel=0.02)
    rows, columns = np.nonzero(filled)
    assert (rows.mean(), columns.mean()) == pytest.approx((95.5, 95.5), abs=0.1)


def test_a_smaller_set_replaces_a_larger_one_completely(tmp_path: Path) -> None:
    write_synthetic(tmp_path / "a", 6, 1, 32)
    write_synthetic(tmp_path / "a", 2, 8, 32)
    write_synthetic(tmp_path / "b", 2, 8, 32)
    assert tree(tmp_path / "a") == tree(tmp_path / "b")


def test_a_foreign_folder_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").write_bytes(b"mine")
    before = tree(tmp_path)
    with pytest.raises(SsplError, match="holds no synthetic set"):
        write_synthetic(tmp_path, 2, 0, 32)
    with pytest.raises(SsplError, match="is a file"):
        write_synthetic(tmp_path / "holiday.jpg", 2, 0, 32)
    assert tree(tmp_path) == before


def test_an_empty_folder_is_accepted_by_the_command(tmp_path: Path) -> None:
    arguments = ["data", "synthetic", str(tmp_path), "--count", "2", "--seed", "3", "--size", "32"]
    result = CliRunner().invoke(cli, arguments)
    assert result.exit_code == 0, result.output
    assert len(list((tmp_path / "img_align_celeba").iterdir())) == 2


@pytest.mark.parametrize(
    "bad", [("--count", "0"), ("--size", "31"), ("--size", "1025"), ("--seed", "-1")]
)
def test_bad_numbers_are_refused(tmp_path: Path, bad: tuple[str, str]) -> None:
    out = tmp_path / "out"
    result = CliRunner().invoke(cli, ["data", "synthetic", str(out), *bad])
    assert result.exit_code == 2
    assert bad[0] in result.output
    assert not out.exists()


@pytest.mark.parametrize(("count", "seed", "size"), [(0, 0, 32), (1, -1, 32), (1, 0, 2000)])
def test_bad_numbers_are_refused_by_the_function(
    tmp_path: Path, count: int, seed: int, size: int
) -> None:
    with pytest.raises(SsplError, match="give"):
        write_synthetic(tmp_path / "out", count, seed, size)
    assert not (tmp_path / "out").exists()
