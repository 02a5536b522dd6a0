"""Pixels of a synthetic face: colour, light, texture and a camera's faults."""

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from sspl.data.synthetic.face import (
    Canvas,
    Part,
    draw_build,
    draw_face,
    draw_pose,
)
from sspl.data.synthetic.paint import (
    Plane,
    both_sides,
    dye,
    face_axes,
    flat_colours,
    glaze,
    grow_beard,
    looked_up,
    on_face,
    painted,
    semantic_mask,
    share_of,
    spot,
)
from sspl.data.synthetic.photo import photograph
from sspl.data.synthetic.traits import Traits, draw_traits

Style = Literal["plain", "photo"]

_CROWN: Final = np.float32(1.35)
_HEAD_PARTS: Final = frozenset(
    p for p in Part if p in (Part.HAIR, Part.FRAME) or Part.L_EAR <= p <= Part.LIP_LINE
) | {Part.HAT, Part.HAT_BAND, Part.L_EAR_INNER, Part.R_EAR_INNER}


@dataclass(frozen=True)
class SyntheticFace:
    """One face.

    Args:
        image: uint8 (size, size, 3), RGB.
        mask: uint8 (size, size), class ids of `celebamask19`.
        labels: every name in `SYNTHETIC_ATTRIBUTES` to its truth.
    """

    image: NDArray[np.uint8]
    mask: NDArray[np.uint8]
    labels: dict[str, bool]


def render_face(seed: int, index: int, size: int, style: Style = "plain") -> SyntheticFace:
    """Draw face `index` of the set `seed`, `size` pixels square.

    The result depends on nothing else; the labels do not depend on `size`.

    Examples:
        >>> face = render_face(seed=0, index=0, size=64)
        >>> face.image.shape, face.mask.shape
        ((64, 64, 3), (64, 64))
    """
    rng = np.random.default_rng([seed, index])
    picture, canvas, traits = photograph(rng, size) if style == "photo" else _plain(rng, size)
    image = np.clip(picture + 0.5, 0, 255).astype(np.uint8)
    return SyntheticFace(image, semantic_mask(canvas), traits.labels)


def _plain(
    rng: np.random.Generator, size: int, faults: bool = True
) -> tuple[Plane, Canvas, Traits]:
    """Draw one face; without `faults` there is no blur, noise or colour cast."""
    traits = draw_traits(rng)
    build = draw_build(traits, rng)
    head, body = draw_pose(rng, build.length)
    canvas = Canvas(size, head, body)
    draw_face(canvas, traits, build, rng)
    colours = flat_colours(traits, rng)
    flat = painted(canvas, colours, _background(traits, rng), size)
    picture = _shade(flat, canvas, traits, size, rng)
    return _camera(picture, traits, rng) if faults else picture, canvas, traits


def _background(traits: Traits, rng: np.random.Generator) -> Image.Image:
    """Return a 64-pixel RGB backdrop: plain, gradient, cloudy or full of blurred things."""
    base = dye(rng)
    if rng.random() < 0.15:
        base = np.array(traits.hair) + rng.normal(0, 12, 3)
    other = np.clip(base + rng.normal(0, 60, 3), 0, 255)
    kind = rng.integers(4)
    plain = Image.new("RGB", (64, 64), tuple(int(c) for c in np.clip(base, 0, 255)))
    if kind == 0:
        return plain
    if kind == 1:
        angle = rng.uniform(0, 6.3)
        y, x = np.mgrid[0:64, 0:64] / 63.0 - 0.5
        t = np.clip(0.5 + x * np.cos(angle) + y * np.sin(angle), 0, 1)[..., None]
        return Image.fromarray(np.clip(base * (1 - t) + other * t, 0, 255).astype(np.uint8))
    if kind == 2:
        cells = int(rng.integers(4, 22))
        cloud = rng.normal(0, 28, (cells, cells, 1)) + rng.normal(0, 8, (cells, cells, 3)) + base
        small = Image.fromarray(np.clip(cloud, 0, 255).astype(np.uint8))
        return small.resize((64, 64), Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(plain)
    for _ in range(int(rng.integers(4, 14))):
        x, y, wide, high = rng.uniform((-8, -8, 6, 6), (64, 64, 34, 34))
        shade = tuple(int(c) for c in np.clip(base + rng.normal(0, 75, 3), 0, 255))
        (draw.ellipse if rng.random() < 0.6 else draw.rectangle)(
            (x, y, x + wide, y + high), fill=shade
        )
    return plain.filter(ImageFilter.GaussianBlur(float(rng.uniform(0.3, 4))))


def _shade(
    picture: Plane, canvas: Canvas, traits: Traits, size: int, rng: np.random.Generator
) -> Plane:
    """Add beard, blush, hair strands, glass and light."""
    pose = canvas.head
    x, y = face_axes(pose, size)
    fx, fy = on_face(pose, x, y)
    skin = share_of(canvas, frozenset({Part.SKIN, Part.NOSE, Part.CREASE}))
    relief = _relief(fx, fy, traits, rng)
    blush = np.float32(max(0.0, 0.15 + 0.19 * traits.strength["Rosy_Cheeks"]))
    cheeks = both_sides(fx, fy, (0.58, 0.4), 0.27, 0.2)
    tint = (skin * cheeks * blush)[..., None]
    picture = picture * (1 - tint) + tint * np.array([222, 84, 92], dtype=np.float32)
    picture = grow_beard(picture, canvas, traits, rng)
    picture = picture * (1 + (skin * relief)[..., None])
    picture = picture * (1 + _strands(canvas, x, y, traits, rng))[..., None]
    picture = _light(picture, canvas, x, y, rng)
    return glaze(picture, canvas, x, y, rng)


def _relief(x: Plane, y: Plane, traits: Traits, rng: np.random.Generator) -> Plane:
    """Return the light and dark of the skin's own shape, about -0.4 to 0.3."""
    side = 0.17 * float(rng.choice([-1.0, 1.0]))
    smile = max(0.0, 0.5 + 0.4 * traits.strength["Smiling"])
    bags = max(0.0, 0.12 + 0.12 * traits.strength["Bags_Under_Eyes"])
    fold = 0.05 * min(smile, 1.5) + 0.06 * traits.age
    relief = np.zeros_like(x)
    for gain, at, wide, high in (
        (0.13, (0.0, 0.36), 0.09, 0.14),  # tip of the nose
        (-0.14, (side, 0.2), 0.10, 0.28),  # its far side
        (0.08, (0.0, -0.65), 0.50, 0.30),  # forehead
        (-0.12, (0.0, 1.02), 0.26, 0.07),  # below the lip
    ):
        relief += np.float32(gain) * spot(x, y, at, wide, high)
    for s in (1.0, -1.0):
        for gain, at, wide, high in (
            (0.06, (s * 0.55, 0.34), 0.25, 0.18),  # cheek
            (-0.10, (s * 0.42, -0.13), 0.26, 0.10),  # eye socket
            (-bags, (s * 0.42, 0.17), 0.20, 0.07),
        ):
            relief += np.float32(gain) * spot(x, y, at, wide, high)
        slanted = x - np.float32(s * 0.5) * y
        relief -= np.float32(fold) * spot(slanted, y, (s * 0.06, 0.62), 0.06, 0.17)
    return relief


def _strands(canvas: Canvas, x: Plane, y: Plane, traits: Traits, rng: np.random.Generator) -> Plane:
    """Return relative brightness of hair: streaks that run down from the crown."""
    streaks = rng.normal(0, 0.13, 512).astype(np.float32)
    streaks = streaks + np.roll(streaks, 1) + np.roll(streaks, 2)
    count = rng.uniform(18, 60)
    bend = max(0.0, 0.25 + 0.22 * traits.strength["Wavy_Hair"])
    gloss, gloss_at = rng.uniform(0.0, 0.25), rng.uniform(-1.1, -0.8)
    hair = share_of(canvas, frozenset({Part.HAIR, Part.HAIR_BACK}))
    if not hair.any():
        return hair
    from_crown = np.arctan2(x, y + _CROWN)
    radius = np.hypot(x, y + _CROWN)
    phase = from_crown * np.float32(count) + np.float32(6 * bend) * np.sin(radius * np.float32(7))
    place = (phase % 512).astype(np.float32)
    streak = looked_up(streaks, place)
    shine = np.float32(gloss) * np.exp(-(((y - np.float32(gloss_at)) / np.float32(0.18)) ** 2))
    brightness: Plane = hair * (streak + shine)
    return brightness


def _light(picture: Plane, canvas: Canvas, x: Plane, y: Plane, rng: np.random.Generator) -> Plane:
    """Light the head as a ball and the rest as a wall, from one direction."""
    angle, side = rng.uniform(0, 2 * np.pi), rng.uniform(0.0, 0.85)
    ambient = rng.uniform(0.45, 0.85)
    lx, ly = float(np.cos(angle)) * side, float(np.sin(angle)) * side * 0.7 - 0.2
    lz = max(0.1, 1 - lx**2 - ly**2) ** 0.5
    nx, ny = np.clip(x / 1.2, -1, 1), np.clip((y - 0.05) / 1.55, -1, 1)
    nz = np.sqrt(np.clip(1 - nx**2 - ny**2, 0, 1))
    ball = ambient + (1.12 - ambient) * np.clip(nx * lx + ny * ly + nz * lz, 0, 1) / lz**0.5
    wall = 0.9 + 0.12 * (nx * lx + ny * ly)
    head = share_of(canvas, _HEAD_PARTS)
    level: Plane = (wall + head * (ball - wall)).astype(np.float32)
    return picture * level[..., None]


def _camera(picture: Plane, traits: Traits, rng: np.random.Generator) -> Plane:
    """Expose, tint, blur and add noise, as a careless camera would."""
    size = picture.shape[0]
    gain = (rng.uniform(0.68, 1.22) * (1 + rng.normal(0, 0.05, 3))).astype(np.float32)
    contrast = np.float32(rng.uniform(0.72, 1.12))
    picture = (picture * gain - 110) * contrast + 110
    blur = max(0.0, 0.0075 + 0.0045 * traits.strength["Blurry"] + 0.002 * rng.random())
    seen = Image.fromarray(np.clip(picture, 0, 255).astype(np.uint8))
    if blur * size > 0.2:
        seen = seen.filter(ImageFilter.GaussianBlur(blur * size))
    level = np.float32(rng.uniform(1.0, 11.0))
    grain = rng.standard_normal(picture.shape, dtype=np.float32)
    return np.asarray(seen, dtype=np.float32) + level * grain
