"""Random views: one geometry for picture and mask, and colour that can be turned off."""

import colorsys
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sspl.data import transforms
from sspl.data.transforms import (
    Geometry,
    _in_sight,
    cut_squares,
    draw_geometry,
    identity_geometry,
    jitter_colour,
    normalise,
    warp_images,
    warp_masks,
    within_edges,
)
from sspl.data.view_settings import ColourSettings, GeometrySettings
from sspl.domain.taxonomy import UNKNOWN, built_in_taxonomy
from sspl.errors import SettingsError
from sspl.settings import build

TAXONOMY = built_in_taxonomy("celebamask19")
MIRROR = torch.from_numpy(TAXONOMY.mirror_table())
L_EYE, R_EYE, SKIN, NOSE = 4, 5, 1, 10
NO_COLOUR = ColourSettings(brightness=0, contrast=0, saturation=0, cast=0, grey=0)


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def blobs(seed: int, side: int) -> Tensor:
    """A mask uint8 (1, side, side) of overlapping rectangles of random classes."""
    rng = np.random.default_rng(seed)
    mask = np.zeros((side, side), np.uint8)
    for _ in range(8):
        top, left = rng.integers(0, side - 6, 2)
        height, width = rng.integers(6, side // 2, 2)
        mask[top : top + height, left : left + width] = rng.integers(0, 19)
    return torch.from_numpy(mask)[None]


def as_picture(mask: Tensor) -> Tensor:
    """A picture whose colour tells the class; no mix of two classes looks like a third."""
    ids = mask[:, None].float()
    # Points of a parabola: a mix of two lies off it.
    return torch.cat([ids, ids * ids / 4, 100 - ids], dim=1)


@given(
    seed=st.integers(0, 10_000),
    low=st.floats(0.2, 1.0),
    spread=st.floats(1.0, 1.6),
    shift=st.floats(0, 1),
    rotation=st.floats(0, 180),
    flip=st.sampled_from([0.0, 0.5, 1.0]),
    side=st.sampled_from([31, 40]),
    size=st.sampled_from([24, 40, 57]),
)
@settings(max_examples=60, deadline=None)
def test_picture_and_mask_never_drift_apart(
    seed: int,
    low: float,
    spread: float,
    shift: float,
    rotation: float,
    flip: float,
    side: int,
    size: int,
) -> None:
    mask = blobs(seed, side)
    chosen = GeometrySettings(scale=(low, low * spread), shift=shift, rotation=rotation, flip=flip)
    geometry = draw_geometry(1, chosen, generator(seed))
    picture = warp_images(as_picture(mask), geometry, size)[0]
    ids = warp_masks(mask, geometry, size, MIRROR)[0].long()
    seen = picture[0].round()
    pure = (picture - torch.stack([seen, seen * seen / 4, 100 - seen])).abs().amax(0) < 1e-3
    inside = ids != UNKNOWN
    shown = seen.long()
    expected = MIRROR.long()[shown] if bool(geometry.flipped[0]) else shown
    compared = pure & inside
    assert torch.equal(ids[compared], expected[compared])
    # Where colours mix, the mask still is one of the classes, and most places do not mix.
    assert bool((ids[inside] < 19).all())
    assert int(compared.sum()) > 0.3 * int(inside.sum())


@pytest.mark.parametrize(("size", "side"), [(8, 8), (16, 16)])
def test_identity_changes_nothing(size: int, side: int) -> None:
    pixels = torch.randint(256, (2, 3, side, side), generator=generator(0)).to(torch.uint8)
    mask = blobs(1, 16)[:, :side, :side].repeat(2, 1, 1)
    geometry = identity_geometry(2)
    assert geometry.flipped.dtype == torch.bool
    torch.testing.assert_close(
        warp_images(pixels, geometry, size), pixels.float(), atol=1e-3, rtol=0
    )
    assert torch.equal(warp_masks(mask, geometry, size, MIRROR), mask)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_cut_squares_equals_slicing(layout: torch.memory_format) -> None:
    pictures = torch.arange(2 * 3 * 10 * 12).view(2, 3, 10, 12).contiguous(memory_format=layout)
    top = torch.tensor([[0, 6, 3], [1, 2, 5]])
    left = torch.tensor([[8, 0, 4], [7, 3, 2]])
    cut = cut_squares(pictures, top, left, 4)
    assert cut.shape == (2, 3, 3, 4, 4)
    for face in range(2):
        for place in range(3):
            t, x = int(top[face, place]), int(left[face, place])
            assert torch.equal(cut[face, place], pictures[face, :, t : t + 4, x : x + 4])


@given(
    seed=st.integers(0, 10_000), scale=st.floats(0.05, 0.6), spread=st.floats(1, 1.5),
    rotation=st.sampled_from([0, 20, 180]), shift=st.sampled_from([0, 1, 1.5]),
    side=st.sampled_from([40, 61, 128]), size=st.sampled_from([16, 33]),
)  # fmt: skip
@settings(max_examples=100, deadline=None)
def test_small_views_are_those_of_the_whole_picture(
    seed: int, scale: float, spread: float, rotation: float, shift: float, side: int, size: int
) -> None:
    """What is cut off first is what no view sees, over the edge or not."""
    chosen = GeometrySettings(scale=(scale, scale * spread), rotation=rotation, shift=1)
    geometry = draw_geometry(3, chosen, generator(seed))
    geometry.theta[:, :, 2] *= shift  # with 1.5 some views go over the edge
    pixels = torch.randint(256, (3, 3, side, side), generator=generator(seed)).to(torch.uint8)
    wanted = F.grid_sample(
        pixels.float(), geometry.grid(size), "bilinear", "border", align_corners=False
    )
    torch.testing.assert_close(warp_images(pixels, geometry, size), wanted, atol=0.02, rtol=0)
    grid = geometry.grid(size)
    # Halfway between two pixels, and on the edge, either side may be right.
    clear = ((grid + 1) * side / 2).frac().abs()
    clear = ((clear > 1e-3) & (clear < 1 - 1e-3)).all(3)
    inside = (grid.abs() < 1).all(3)
    ids = warp_masks(pixels[:, 0] % 19, geometry, size, torch.arange(256, dtype=torch.uint8))
    sampled = (pixels[:, :1] % 19).float()
    nearest = F.grid_sample(sampled, grid, "nearest", "border", align_corners=False)[:, 0]
    expected = nearest.where(inside, UNKNOWN).to(torch.uint8)
    assert torch.equal(ids[clear], expected[clear])


def view_of(side: float, middle: float = 32) -> Geometry:
    """A square of some px of a picture of 64 px, around a px across and down."""
    scale, centre = side / 64, middle / 32 - 1
    theta = torch.tensor([[[scale, 0, centre], [0, scale, centre]]])
    return Geometry(theta, torch.tensor([False]))


@pytest.mark.parametrize(
    ("seen", "middle", "start", "kept"),
    [
        (16, 32, 23, 18),  # px 24 to 39, and one more on either side
        (16, 40, 31, 18),
        (16, 8, 0, 18),  # px 0 to 15, and as elsewhere
        (16, 56, 46, 18),
        (15.5, 32, 23, 18),
        (43, 32, 10, 45),  # 2 * 45 * 45 < 64 * 64; px 10.5 to 53.5
        (44, 32, 0, 64),  # 2 * 46 * 46 > 64 * 64: not worth it
        (64, 32, 0, 64),
    ],
)
def test_less_than_half_of_a_picture_is_cut_out_first(
    seen: float, middle: float, start: int, kept: int
) -> None:
    pictures = torch.randint(256, (1, 3, 64, 64), generator=generator(0)).to(torch.uint8)
    cut, geometry = _in_sight(pictures, view_of(seen, middle))
    end = start + kept
    assert torch.equal(cut, pictures[:, :, start:end, start:end])
    # The same middle in a square of `kept` px.
    scale, centre = seen / kept, (2 * middle - start - end) / kept
    expected = torch.tensor([[[scale, 0, centre], [0, scale, centre]]])
    torch.testing.assert_close(geometry.theta, expected)


def test_views_are_made_where_the_pictures_are() -> None:
    """The meta device computes nothing, but refuses what lies elsewhere, as a GPU does."""
    pictures = torch.zeros(1, 3, 64, 64, dtype=torch.uint8, device="meta")
    geometry = view_of(16).to(torch.device("meta"))
    assert (geometry.theta.device.type, geometry.flipped.device.type) == ("meta", "cpu")
    whole, _ = _in_sight(pictures, geometry)
    assert whole is pictures  # to look for what is seen would be to wait for the device
    offsets = torch.zeros(1, 2, dtype=torch.int64, device="meta")
    assert cut_squares(pictures, offsets, offsets, 5).shape == (1, 2, 3, 5, 5)
    colours = jitter_colour(warp_images(pictures, geometry, 8), ColourSettings(), generator(0))
    assert (colours.shape, colours.device.type) == ((1, 3, 8, 8), "meta")


def test_small_views_of_oblong_pictures_are_right_too() -> None:
    pixels = torch.randint(256, (3, 3, 60, 90), generator=generator(0)).to(torch.uint8)
    geometry = draw_geometry(3, GeometrySettings(scale=(0.2, 0.3)), generator(1))
    wanted = F.grid_sample(
        pixels.float(), geometry.grid(16), "bilinear", "border", align_corners=False
    )
    torch.testing.assert_close(warp_images(pixels, geometry, 16), wanted)


def test_flip_mirrors_pixels_and_swaps_sides() -> None:
    chosen = GeometrySettings(scale=(1, 1), shift=0, rotation=0, flip=1)
    geometry = draw_geometry(1, chosen, generator(0))
    pixels = torch.randint(256, (1, 3, 4, 4), generator=generator(0)).to(torch.uint8)
    mask = torch.tensor(
        [[[L_EYE, SKIN, NOSE, R_EYE], [2, 3, 7, 8], [0, 9, 13, 14], [UNKNOWN, 18, 17, 16]]],
        dtype=torch.uint8,
    )
    torch.testing.assert_close(
        warp_images(pixels, geometry, 4), pixels.flip(3).float(), atol=1e-3, rtol=0
    )
    # Mirrored row by row; then l_ and r_ trade names, while l_lip (13) and ear_r (9) do not.
    assert warp_masks(mask, geometry, 4, MIRROR)[0].tolist() == [
        [L_EYE, NOSE, SKIN, R_EYE],
        [7, 8, 2, 3],
        [14, 13, 9, 0],
        [16, 17, 18, UNKNOWN],
    ]


def test_half_scale_in_a_corner_is_that_quarter_of_the_canvas() -> None:
    mask = blobs(3, 16)
    pixels = torch.randint(256, (1, 3, 16, 16), generator=generator(0)).to(torch.uint8)
    theta = torch.tensor([[[0.5, 0.0, 0.5], [0.0, 0.5, -0.5]]])  # right, top
    geometry = Geometry(theta, torch.tensor([False]))
    torch.testing.assert_close(
        warp_images(pixels, geometry, 8), pixels[:, :, :8, 8:].float(), atol=1e-3, rtol=0
    )
    assert torch.equal(warp_masks(mask, geometry, 8, MIRROR), mask[:, :8, 8:])


def test_outside_the_canvas_is_unknown_and_repeats_the_edge() -> None:
    theta = torch.tensor([[[2.0, 0.0, 0.0], [0.0, 2.0, 0.0]]])
    geometry = Geometry(theta, torch.tensor([False]))
    mask = torch.full((1, 8, 8), SKIN, dtype=torch.uint8)
    expected = torch.full((16, 16), UNKNOWN, dtype=torch.uint8)
    expected[4:12, 4:12] = SKIN
    assert torch.equal(warp_masks(mask, geometry, 16, MIRROR)[0], expected)
    pixels = torch.arange(64.0).view(1, 1, 8, 8)
    view = warp_images(pixels, geometry, 16)[0, 0]
    padded = np.pad(np.arange(64.0).reshape(8, 8), 4, mode="edge")
    np.testing.assert_allclose(view.numpy(), padded, atol=1e-3)


def test_unknown_stays_unknown_after_a_flip() -> None:
    mask = torch.full((1, 4, 4), UNKNOWN, dtype=torch.uint8)
    flip = GeometrySettings(scale=(1, 1), flip=1)
    assert torch.equal(warp_masks(mask, draw_geometry(1, flip, generator(0)), 4, MIRROR), mask)


@given(
    seed=st.integers(0, 10_000), scale=st.floats(0.1, 1.0), side=st.integers(8, 200),
    size=st.integers(8, 96),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_crops_without_rotation_stay_on_the_canvas(
    seed: int, scale: float, side: int, size: int
) -> None:
    chosen = GeometrySettings(scale=(scale, 1.0), shift=1, rotation=0)
    geometry = draw_geometry(4, chosen, generator(seed))
    mask = torch.full((4, side, side), SKIN, dtype=torch.uint8)
    assert torch.equal(
        warp_masks(mask, geometry, size, MIRROR), torch.full((4, size, size), SKIN).to(torch.uint8)
    )


def test_crops_touch_every_edge_of_the_canvas() -> None:
    chosen = GeometrySettings(scale=(0.5, 0.5), shift=1, flip=0)
    centres = draw_geometry(2000, chosen, generator(0)).theta[:, :, 2]
    # Centres fill [-0.5, 0.5]: the crop's half side is 0.5.
    assert float(centres.abs().max()) <= 0.5
    for axis in range(2):
        assert float(centres[:, axis].min()) < -0.49
        assert float(centres[:, axis].max()) > 0.49


def test_scale_is_log_uniform_and_within_bounds() -> None:
    chosen = GeometrySettings(scale=(0.25, 1.0), rotation=180, flip=0.5)
    theta = draw_geometry(4000, chosen, generator(0)).theta[:, :, :2]
    scales = torch.linalg.det(theta).abs().sqrt()
    assert float(scales.min()) >= 0.25 - 1e-6
    assert float(scales.max()) <= 1 + 1e-6
    # Half of a log-uniform draw lies below the geometric mean, 0.5.
    assert float((scales < 0.5).float().mean()) == pytest.approx(0.5, abs=0.03)


def test_rotation_is_bounded_and_keeps_angles_and_aspect() -> None:
    chosen = GeometrySettings(scale=(0.7, 0.7), rotation=10, flip=0)
    theta = draw_geometry(2000, chosen, generator(0)).theta[:, :, :2] / 0.7
    torch.testing.assert_close(
        theta @ theta.transpose(1, 2), torch.eye(2).repeat(2000, 1, 1), atol=1e-5, rtol=0
    )
    degrees = torch.atan2(theta[:, 1, 0], theta[:, 0, 0]) * 180 / math.pi
    assert float(degrees.min()) == pytest.approx(-10, abs=0.1)
    assert float(degrees.max()) == pytest.approx(10, abs=0.1)


def test_draws_are_scale_angle_centre_and_flip() -> None:
    """So that a seed shows the same views for ever; views over the edge among them."""
    chosen = GeometrySettings(scale=(0.5, 2.0), shift=0.8, rotation=30, flip=0.5)
    geometry = draw_geometry(6, chosen, generator(4))
    draw = generator(4)
    scales, angles = (torch.rand(6, generator=draw).tolist() for _ in range(2))
    centres, flips = torch.rand((6, 2), generator=draw).tolist(), torch.rand(6, generator=draw)
    assert geometry.flipped.tolist() == [f < 0.5 for f in flips.tolist()]
    for i, theta in enumerate(geometry.theta.tolist()):
        scale = 0.5 * 4 ** scales[i]
        angle = math.radians(30 * (2 * angles[i] - 1))
        cos, sin = scale * math.cos(angle), scale * math.sin(angle)
        x, y = ((2 * c - 1) * abs(1 - scale) * 0.8 for c in centres[i])
        mirror = -1 if flips[i] < 0.5 else 1
        assert theta[0] == pytest.approx([cos * mirror, -sin, x], abs=1e-5)
        assert theta[1] == pytest.approx([sin * mirror, cos, y], abs=1e-5)


def test_what_has_no_chance_never_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transforms, "rand", lambda shape, generator: torch.zeros(shape))
    assert not draw_geometry(3, GeometrySettings(flip=0), generator(0)).flipped.any()
    pixels = torch.rand(2, 3, 4, 4, generator=generator(0)) * 255
    coloured = jitter_colour(pixels, NO_COLOUR, generator(0))
    torch.testing.assert_close(coloured, pixels, atol=1e-3, rtol=0)


def test_flips_come_as_often_as_asked() -> None:
    for chance in (0.0, 0.3, 1.0):
        drawn = draw_geometry(3000, GeometrySettings(flip=chance), generator(0)).flipped
        assert float(drawn.float().mean()) == pytest.approx(chance, abs=0.03)


def test_generator_alone_decides() -> None:
    chosen = GeometrySettings(scale=(0.5, 1), rotation=20)
    first, again, other = (draw_geometry(5, chosen, generator(s)) for s in (1, 1, 2))
    assert torch.equal(first.theta, again.theta)
    assert torch.equal(first.flipped, again.flipped)
    assert not torch.equal(first.theta, other.theta)
    pixels = torch.rand(5, 3, 4, 4) * 255
    colours = [jitter_colour(pixels, ColourSettings(), generator(s)) for s in (1, 1, 2)]
    assert torch.equal(colours[0], colours[1])
    assert not torch.equal(colours[0], colours[2])


def test_no_colour_change_is_the_identity() -> None:
    pixels = torch.rand(3, 3, 6, 6, generator=generator(0)) * 255
    torch.testing.assert_close(
        jitter_colour(pixels, NO_COLOUR, generator(1)), pixels, atol=1e-3, rtol=0
    )


def test_grey_view_has_equal_channels_of_the_luma() -> None:
    pixels = torch.rand(3, 3, 6, 6, generator=generator(0)) * 255
    view = jitter_colour(pixels, NO_COLOUR.model_copy(update={"grey": 1.0}), generator(1))
    luma = 0.299 * pixels[:, 0] + 0.587 * pixels[:, 1] + 0.114 * pixels[:, 2]
    torch.testing.assert_close(view, luma[:, None].expand(-1, 3, -1, -1), atol=1e-3, rtol=0)


def test_brightness_multiplies_within_its_bound() -> None:
    pixels = torch.rand(500, 3, 2, 2, generator=generator(0)) * 100 + 20
    only = NO_COLOUR.model_copy(update={"brightness": 0.3})
    ratio = jitter_colour(pixels, only, generator(1)) / pixels
    assert float(ratio.flatten(1).std(1).max()) < 1e-4  # one factor for a whole picture
    assert float(ratio.min()) == pytest.approx(0.7, abs=0.01)
    assert float(ratio.max()) == pytest.approx(1.3, abs=0.01)


def test_contrast_keeps_the_mean_luma_and_scales_around_it() -> None:
    pixels = torch.rand(200, 3, 4, 4, generator=generator(0)) * 60 + 90
    only = NO_COLOUR.model_copy(update={"contrast": 0.4})
    view = jitter_colour(pixels, only, generator(1))
    weights = torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
    before, after = ((x * weights).sum(1).mean((1, 2)) for x in (pixels, view))
    torch.testing.assert_close(before, after, atol=1e-2, rtol=0)
    factor = view.flatten(1).std(1) / pixels.flatten(1).std(1)
    assert 0.6 <= float(factor.min()) < 0.65
    assert 1.35 < float(factor.max()) <= 1.4001


def test_saturation_scales_chroma_and_keeps_luma() -> None:
    pixels = torch.rand(200, 3, 2, 2, generator=generator(0)) * 60 + 90
    only = NO_COLOUR.model_copy(update={"saturation": 0.5})
    view = jitter_colour(pixels, only, generator(1))
    weights = torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
    torch.testing.assert_close(
        (view * weights).sum(1), (pixels * weights).sum(1), atol=1e-2, rtol=0
    )
    hues = [
        [colorsys.rgb_to_hsv(*(x[i, :, 0, 0] / 255).tolist())[0] for i in range(200)]
        for x in (pixels, view)
    ]
    assert hues[0] == pytest.approx(hues[1], abs=1e-3)
    factor = (view[:, 0] - view[:, 1]) / (pixels[:, 0] - pixels[:, 1])
    assert float(factor.min()) == pytest.approx(0.5, abs=0.02)
    assert float(factor.max()) == pytest.approx(1.5, abs=0.02)


def test_changes_of_colour_follow_one_another() -> None:
    """Brightness and cast, contrast around the mean luma, then saturation, with the same draws."""
    pixels = torch.rand(40, 3, 5, 5, generator=generator(0)) * 80 + 80
    chosen = ColourSettings(brightness=0.1, contrast=0.2, saturation=0.3, cast=0.05, grey=0.3)
    drawn, n = generator(3), 40
    brightness, cast, contrast, saturation = (
        torch.rand((n, channels, 1, 1), generator=drawn) * 2 * amount + 1 - amount
        for amount, channels in ((0.1, 1), (0.05, 3), (0.2, 1), (0.3, 1))
    )
    saturation[torch.rand((n, 1, 1, 1), generator=drawn) < 0.3] = 0
    weights = torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
    wanted = pixels * brightness * cast
    mean = (wanted * weights).sum(1, keepdim=True).mean((2, 3), keepdim=True)
    wanted = (wanted - mean) * contrast + mean
    grey = (wanted * weights).sum(1, keepdim=True)
    wanted = ((wanted - grey) * saturation + grey).clamp(0, 255)
    torch.testing.assert_close(
        jitter_colour(pixels, chosen, generator(3)), wanted, atol=1e-3, rtol=0
    )


def test_the_grid_is_that_of_torch() -> None:
    geometry = draw_geometry(6, GeometrySettings(scale=(0.3, 1.2), rotation=90), generator(0))
    for size in (1, 7, 64):
        wanted = F.affine_grid(geometry.theta, [6, 1, size, size], align_corners=False)
        torch.testing.assert_close(geometry.grid(size), wanted, atol=1e-6, rtol=0)


def test_colour_stays_in_range() -> None:
    pixels = torch.rand(50, 3, 4, 4, generator=generator(0)) * 255
    wild = ColourSettings(brightness=1, contrast=1, saturation=1, cast=1)
    view = jitter_colour(pixels, wild, generator(1))
    assert float(view.min()) == 0
    assert float(view.max()) == 255


def test_normalise_is_centred() -> None:
    assert normalise(torch.tensor([0.0, 127.5, 255.0])).tolist() == [-1, 0, 1]


@pytest.mark.parametrize("scale", [[0, 1], [1.0, 0.5], [-1, 1]])
def test_impossible_scales_are_refused(scale: list[float]) -> None:
    with pytest.raises(SettingsError, match="scale needs 0 < smallest <= largest"):
        build(GeometrySettings, {"scale": scale})


@given(st.integers(0, 1000), st.sampled_from([(7, 7), (5, 9), (1, 3)]))
@settings(max_examples=15, deadline=None)
def test_places_brought_within_the_edges_show_what_a_repeated_edge_does(
    seed: int, size: tuple[int, int]
) -> None:
    draw = torch.Generator().manual_seed(seed)
    pictures = torch.rand(2, 3, *size, generator=draw) * 255
    grid = torch.rand(2, 6, 6, 2, generator=draw) * 4 - 2
    repeated = F.grid_sample(pictures, grid, "bilinear", "border", align_corners=False)
    inside = within_edges(grid, size)
    found = F.grid_sample(pictures, inside, "bilinear", "zeros", align_corners=False)
    torch.testing.assert_close(found, repeated, rtol=0, atol=1e-3)
