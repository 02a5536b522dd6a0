"""Left and right classes, told by their names."""

from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sspl.domain import taxonomy
from sspl.domain.sides import side_pairs, unpaired_sides
from sspl.domain.taxonomy import BUILT_IN, Taxonomy, built_in_taxonomy, load_taxonomy
from sspl.errors import DataError


@pytest.mark.parametrize(
    ("classes", "pairs"),
    [
        # The lists of public data sets and networks, in their own words.
        ("l_brow r_brow l_eye r_eye eye_g l_ear r_ear ear_r nose mouth u_lip l_lip neck neck_l",
         "l_brow r_brow l_eye r_eye l_ear r_ear"),
        ("SKIN NOSE RIGHT_EYE LEFT_EYE RIGHT_BROW LEFT_BROW RIGHT_EAR LEFT_EAR TOP_LIP",
         "LEFT_EYE RIGHT_EYE LEFT_BROW RIGHT_BROW LEFT_EAR RIGHT_EAR"),
        ("l-brow r-brow l-eye r-eye u-lip l-lip", "l-brow r-brow l-eye r-eye"),
        ("face rb lb re le nose ulip imouth llip hair", "lb rb le re"),
        ("neck face cloth rr lr rb lb re le nose imouth llip ulip hair eyeg hat earr neck_l",
         "lr rr lb rb le re"),
        ("lbrow rbrow leye reye ulip imouth llip", "lbrow rbrow leye reye"),
        ("left_eyebrow right_eyebrow lower_lip", "left_eyebrow right_eyebrow"),
        # Other spellings.
        ("leftEye rightEye", "leftEye rightEye"),
        ("EyeLeft EyeRight", "EyeLeft EyeRight"),
        ("LEye REye", "LEye REye"),
        ("lEye rEye", "lEye rEye"),
        ("eye_left eye_right", "eye_left eye_right"),
        ("eye_l eye_r", "eye_l eye_r"),
        ("eyeL eyeR", "eyeL eyeR"),
        ("LEFTEYE RIGHTEYE", "LEFTEYE RIGHTEYE"),
        ("eye.left.inner eye.right.inner", "eye.left.inner eye.right.inner"),
        ("Left_eye right-eye", "Left_eye right-eye"),
        ("L_eye r_eye", "L_eye r_eye"),
        ("LB RB", "LB RB"),
        ("left_ear_r right_ear_r", "left_ear_r right_ear_r"),
        ("ear_l ear_r", "ear_l ear_r"),
        ("left right", "left right"),
        ("eyel eyer", "eyel eyer"),
        ("lt_eye rt_eye", "lt_eye rt_eye"),
        ("lft_brow rgt_brow", "lft_brow rgt_brow"),
        ("linkesAuge rechtesAuge", "linkesAuge rechtesAuge"),
        # What only looks like sides.
        ("l_lip r_lip", ""),
        ("llip rlip", ""),
        ("lim rim", ""),
        ("lip rip", ""),
        ("lower rower", ""),
        ("cleft bright", ""),
        ("l_eye r_ear", ""),
        ("left_eye left-eye right_eye", ""),  # which of the two?
    ],
)  # fmt: skip
def test_pairs_are_found_by_name(classes: str, pairs: str) -> None:
    flat = [name for pair in side_pairs(classes.split()) for name in pair]
    assert flat == pairs.split()
    backwards = side_pairs(classes.split()[::-1])
    assert set(backwards) == set(zip(flat[::2], flat[1::2], strict=True))


def test_names_may_hold_spaces() -> None:
    assert side_pairs(["left eye", "Right Eye"]) == (("left eye", "Right Eye"),)


@pytest.mark.parametrize("name", BUILT_IN)
def test_pairs_of_the_built_in_lists_are_those_that_are_written_down(name: str) -> None:
    taxonomy = built_in_taxonomy(name)
    assert side_pairs(taxonomy.classes) == taxonomy.mirror
    assert unpaired_sides(taxonomy.classes, taxonomy.mirror) == ()


@pytest.mark.parametrize(
    ("classes", "unpaired"),
    [
        ("background left_eye right_ear nose", "left_eye right_ear"),
        ("l_eye r_brow l_lip u_lip neck_l ear_r", "l_eye r_brow"),
        ("eye_l leye LeftEye eyeleft RIGHT", "eye_l leye LeftEye eyeleft RIGHT"),
        ("r_lip", "r_lip"),
        ("skin lglass rglass", "lglass rglass"),
        ("lnostril rnostril nose", "lnostril rnostril"),
        ("eye_1 eye_2 nose", "eye_1 eye_2"),
        ("eye1 eye2 lip1 lip2", "eye1 eye2"),
        ("skin lower_lip lip rim lb hair bright cleft eye_g ulip llip earr upright", ""),
    ],
)
def test_names_of_one_side_alone_are_told(classes: str, unpaired: str) -> None:
    names = classes.split()
    assert unpaired_sides(names, side_pairs(names)) == tuple(unpaired.split())


@given(
    parts=st.lists(st.sampled_from(["eye", "brow", "ear", "cheek", "lens"]), unique=True),
    style=st.sampled_from(["{s}_{p}", "{p}_{s}", "{s}-{p}", "{s} {p}", "{p}.{s}", "x_{s}_{p}"]),
    sides=st.sampled_from([("left", "right"), ("l", "r"), ("LEFT", "RIGHT"), ("L", "R")]),
    seed=st.randoms(use_true_random=False),
)
def test_every_pair_of_one_style_is_found(
    parts: list[str], style: str, sides: tuple[str, str], seed: Random
) -> None:
    pairs = {tuple(style.format(s=side, p=part) for side in sides) for part in parts}
    names = [name for pair in pairs for name in pair]
    seed.shuffle(names)
    assert set(side_pairs([*names, "background", "l_lip", "nose"])) == pairs
    assert unpaired_sides(names, pairs) == ()


ALONE = (
    "named after one side of the face, but no class of the other side was found, so a flipped "
    "picture keeps it; name both sides alike, such as l_eye and r_eye, or list the pairs under "
    "'mirror:' of a .yaml file."
)


def test_files_of_classes_pair_sides_and_warn_of_those_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    monkeypatch.setattr(taxonomy.log, "warning", lambda text, *of: told.append(text % of))
    listed = tmp_path / "classes.txt"
    listed.write_text("0 background\n1 left eye\n2 right eye\n3 l-brow\n")
    classes = load_taxonomy(str(listed))
    assert classes.mirror == (("left eye", "right eye"),)
    assert classes.mirror_table()[:4].tolist() == [0, 2, 1, 3]
    assert told == [f"{listed}: l-brow: {ALONE}"]
    described = tmp_path / "mine.yaml"
    described.write_text("name: mine\nclasses: [background, LEFT_EYE, RIGHT_EYE]\n")
    assert load_taxonomy(str(described)).mirror == (("LEFT_EYE", "RIGHT_EYE"),)
    assert len(told) == 1
    described.write_text(described.read_text() + "mirror: []\n")  # what is written down counts
    assert load_taxonomy(str(described)).mirror == ()
    assert told[1:] == [f"{described}: LEFT_EYE, RIGHT_EYE: {ALONE}"]


def test_class_that_trades_places_with_two_is_refused() -> None:
    pairs = (("l_eye", "r_eye"), ("l_eye", "background"))
    with pytest.raises(DataError, match="'l_eye' is listed twice under mirror"):
        Taxonomy("mine", ("background", "l_eye", "r_eye"), mirror=pairs)
