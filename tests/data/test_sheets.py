"""Sheets to look at: every tile in its place, every word in the picture."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from PIL import ImageFont

from sspl.data.palette import palette
from sspl.data.sheets import GAP, LEAST_WIDTH, SEAM, TEXT_SIZE, Tile, _broken, key_of, sheet

RED, BLUE = (255, 0, 0), (0, 0, 255)
SMALL = ImageFont.load_default(TEXT_SIZE)


def flat(colour: tuple[int, int, int], height: int = 50, width: int = 50) -> np.ndarray:
    return np.full((height, width, 3), colour, np.uint8)


def test_tiles_stand_in_rows_with_their_pictures_side_by_side() -> None:
    tiles = [Tile([flat(RED), flat(BLUE)], lines=[("a.png", None)]) for _ in range(3)]
    made = np.asarray(sheet(tiles, 2, 50))
    cell = 2 * 50 + SEAM
    assert made.shape[1] == LEAST_WIDTH
    for x in (GAP, 2 * GAP + cell):
        assert (made[GAP : GAP + 50, x : x + 50] == RED).all()
        assert (made[GAP : GAP + 50, x + 50 + SEAM : x + cell] == BLUE).all()
    # The third stands in the second row, below the line of the first.
    below = np.argwhere((made[GAP + 51 :, GAP] == RED).all(-1))
    assert len(below) == 50
    assert below[0, 0] > 10


def test_a_picture_keeps_its_shape() -> None:
    made = np.asarray(sheet([Tile([flat(RED, 100, 60)])], 1, 50))
    there = np.argwhere((made == RED).all(-1))
    assert tuple(np.ptp(there, axis=0) + 1) == (50, 30)


def test_the_key_names_all_classes_but_background_in_their_colours() -> None:
    classes = ("background", "u_lip", "hair")
    key = key_of(classes, range(3))
    assert [name for name, _ in key] == ["upper lip", "hair"]
    assert [colour for _, colour in key] == [tuple(c) for c in palette(3)[1:].tolist()]
    made = np.asarray(sheet([Tile([flat(RED)])], 1, 50, key=key))
    for _, colour in key:
        assert (made == colour).all(-1).sum() > 60


@given(st.text(st.characters(codec="latin-1", categories=["L", "N", "Zs"]), max_size=80))
def test_no_part_of_a_text_is_wider_than_its_place(words: str) -> None:
    parts = list(_broken(words, SMALL, 90))
    assert all(SMALL.getlength(part) <= 90 for part in parts)
    assert "".join("".join(parts).split()) == "".join(words.split())


def test_what_is_far_too_long_is_cut_at_its_end() -> None:
    assert list(_broken("Mouth slightly open", SMALL, 90)) == ["Mouth slightly", "open"]
    assert list(_broken("Abdul_Majeed_Shobokshi", SMALL, 90)) == ["Abdul_Majeed_", "Shobokshi"]
    first, second = _broken("x" * 200, SMALL, 90, 2)
    assert second == "x" * (len(first) - 2) + "…"


def test_words_below_stay_inside() -> None:
    made = sheet([Tile([flat(RED)])], 1, 50, ["word " * 60])
    canvas = np.asarray(made).min(-1) < 200
    assert canvas[80:].any()
    assert not canvas[:, -GAP // 2 :].any()
    assert not canvas[-GAP // 2 :].any()
