"""Pixels of a synthetic face: colour, light, texture and a camera's faults."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from sspl.data.synthetic.face import (
    OVERSAMPLING,
    Canvas,
    Part,
    Pose,
    class_table,
    draw_build,
    draw_face,
    draw_pose,
)
from sspl.data.synthetic.traits import Traits, draw_traits
from sspl.domain.taxonomy import built_in_taxonomy

Plane = NDArray[np.float32]

_CROWN: Final = np.float32(1.35)
_SKIN_STOPS: Final = np.array(
    [(250, 226, 214), (236, 196, 172), (214, 164, 134), (176, 122, 90), (120, 78, 56), (78, 50, 38)]
)
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


def render_face(seed: int, index: int, size: int) -> SyntheticFace:
    """Draw face `index` of the set `seed`, `size` pixels square.

    The result depends on nothing else; the labels do not depend on `size`.

    Examples:
        >>> face = render_face(seed=0, index=0, size=64)
        >>> face.image.shape, face.mask.shape
        ((64, 64, 3), (64, 64))
    """
    return _render(seed, index, size, faults=True)


def _render(seed: int, index: int, size: int, faults: bool) -> SyntheticFace:
    """Draw one face; without `faults` there is no blur, noise or colour cast."""
    rng = np.random.default_rng([seed, index])
    traits = draw_traits(rng)
    build = draw_build(traits, rng)
    head, body = draw_pose(rng, build.length)
    canvas = Canvas(size, head, body)
    draw_face(canvas, traits, build, rng)
    colours = _colours(traits, rng)
    picture = _shade(_paint(canvas, colours, traits, size, rng), canvas, traits, size, rng)
    if faults:
        picture = _camera(picture, traits, rng)
    image = np.clip(picture + 0.5, 0, 255).astype(np.uint8)
    return SyntheticFace(image, _mask(canvas), traits.labels)


def _mask(canvas: Canvas) -> NDArray[np.uint8]:
    """Read the class at every pixel's centre."""
    middle = slice(OVERSAMPLING // 2, None, OVERSAMPLING)
    parts = np.asarray(canvas.parts)[middle, middle]
    glass = np.asarray(canvas.lenses)[middle, middle] > 0
    # A hat's brim is the only thing in front of glasses.
    glass &= ~np.isin(parts, (Part.HAT, Part.HAT_BAND))
    mask: NDArray[np.uint8] = class_table()[parts]
    mask[glass] = built_in_taxonomy("celebamask19").index("eye_g")
    return mask


def _skin_colour(traits: Traits, rng: np.random.Generator) -> NDArray[np.float64]:
    pale = traits.strength["Pale_Skin"]
    darker = 0.5 * rng.exponential()
    tone = 0.6 - 0.4 * pale if pale > 0 else 0.9 + 0.5 * (-pale - 0.3) + darker
    tone = float(np.clip(tone, 0.0, 4.8))
    rgb = [np.interp(tone, np.arange(6), _SKIN_STOPS[:, c]) for c in range(3)]
    return np.clip(np.array(rgb) + rng.normal(0, 4, 3), 0, 255)


def _dye(rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw the RGB of cloth or of a wall: any brightness, seldom a loud colour."""
    return np.clip(rng.uniform(20, 235) + rng.normal(0, 38, 3), 5, 250)


def _colours(traits: Traits, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return uint8 (256, 3): the flat colour of each part."""
    skin, hair = _skin_colour(traits, rng), np.array(traits.hair)
    paint = float(np.clip(0.4 + 0.3 * traits.strength["Wearing_Lipstick"], 0.0, 0.95))
    stick = np.array([rng.uniform(140, 215), rng.uniform(15, 80), rng.uniform(40, 110)])
    lips = (1 - paint) * skin * (0.86, 0.66, 0.64) + paint * stick
    iris = np.array([(70, 45, 30), (95, 65, 40), (85, 110, 140), (90, 115, 80)])[rng.integers(4)]
    white = np.array([236.0, 232, 228])
    metal = np.array([(225, 190, 90), (215, 215, 222), (235, 232, 225), (160, 40, 60)])
    cloth, hat = _dye(rng), _dye(rng)
    brow = 0.65 * np.minimum(hair, 150) + 0.08 * skin
    flat: dict[Part, NDArray[np.float64]] = {
        Part.HAIR_BACK: 0.72 * hair,
        Part.HAIR: hair,
        Part.NECK: 0.92 * skin,
        Part.NECK_SHADOW: 0.74 * skin,
        Part.CLOTH: cloth,
        Part.COLLAR: 0.7 * cloth + 0.3 * rng.uniform(0, 255, 3),
        Part.NECKLACE: metal[rng.integers(3)],
        Part.EARRING: metal[rng.integers(4)],
        Part.L_EAR: skin * (0.95, 0.9, 0.88),
        Part.R_EAR: skin * (0.95, 0.9, 0.88),
        Part.L_EAR_INNER: skin * (0.8, 0.7, 0.67),
        Part.R_EAR_INNER: skin * (0.8, 0.7, 0.67),
        Part.SKIN: skin,
        Part.NOSE: skin * (0.975, 0.92, 0.90),
        Part.NOSTRIL: skin * (0.45, 0.35, 0.32),
        Part.CREASE: skin * (0.78, 0.7, 0.68),
        Part.L_BROW: brow,
        Part.R_BROW: brow,
        Part.MOUTH: np.array([70.0, 22, 26]),
        Part.TEETH: np.array([240.0, 236, 226]),
        Part.TONGUE: np.array([185.0, 85, 88]),
        Part.U_LIP: 0.9 * lips,
        Part.L_LIP: lips,
        Part.LIP_LINE: 0.5 * lips,
        Part.FRAME: rng.uniform(10, 110, 3) if rng.random() < 0.75 else metal[rng.integers(2)],
        Part.HAT: hat,
        Part.HAT_BAND: 0.4 * hat + 0.6 * rng.uniform(0, 255, 3),
    }
    for side in ("L", "R"):
        flat[Part[f"{side}_EYE"]] = white
        flat[Part[f"{side}_IRIS"]] = iris
        flat[Part[f"{side}_PUPIL"]] = np.array([14.0, 12, 12])
        flat[Part[f"{side}_GLINT"]] = np.array([250.0, 250, 250])
        flat[Part[f"{side}_LASH"]] = np.array([38.0, 26, 24])
    table = np.zeros((256, 3), dtype=np.uint8)
    for part, colour in flat.items():
        table[part] = np.clip(colour, 0, 255)
    return table


def _share(canvas: Canvas, parts: frozenset[Part]) -> Plane:
    """Return float32 (size, size): how much of each pixel the parts cover, 0 to 1."""
    table = np.zeros(256, dtype=np.uint8)
    table[list(parts)] = 255
    covered = Image.fromarray(table[np.asarray(canvas.parts)])
    return np.asarray(covered.reduce(OVERSAMPLING), dtype=np.float32) / np.float32(255)


def _paint(
    canvas: Canvas,
    colours: NDArray[np.uint8],
    traits: Traits,
    size: int,
    rng: np.random.Generator,
) -> Plane:
    """Return float32 (size, size, 3): flat colours before light, edges smoothed."""
    behind = _background(traits, rng)
    indexed = canvas.parts.copy()
    indexed.putpalette(colours.tobytes())
    flat = np.asarray(indexed.convert("RGB").reduce(OVERSAMPLING), dtype=np.float32)
    empty = _share(canvas, frozenset({Part.BACKGROUND}))[..., None]
    scene = np.asarray(behind.resize((size, size), Image.Resampling.BICUBIC), dtype=np.float32)
    picture: Plane = flat + empty * scene
    return picture


def _background(traits: Traits, rng: np.random.Generator) -> Image.Image:
    """Return a 64-pixel RGB backdrop: plain, gradient, cloudy or full of blurred things."""
    base = _dye(rng)
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


def _face_axes(pose: Pose, size: int) -> tuple[Plane, Plane]:
    """Return face coordinates x, y of every pixel centre, each float32 (size, size)."""
    along = (np.arange(size, dtype=np.float32) + 0.5) / size
    x, y = along[None, :] - np.float32(pose.x), along[:, None] - np.float32(pose.y)
    cos, sin = np.float32(np.cos(pose.roll)), np.float32(np.sin(pose.roll))
    unit = np.float32(1.0 / pose.scale)
    across = np.asarray((cos * x + sin * y) * unit, dtype=np.float32)
    return across, np.asarray((cos * y - sin * x) * unit, dtype=np.float32)


def _spot(x: Plane, y: Plane, at: tuple[float, float], wide: float, high: float) -> Plane:
    """Return a soft spot, 1 at its middle."""
    spot: Plane = np.exp(
        -(((x - np.float32(at[0])) / np.float32(wide)) ** 2)
        - ((y - np.float32(at[1])) / np.float32(high)) ** 2
    )
    return spot


def _shade(
    picture: Plane, canvas: Canvas, traits: Traits, size: int, rng: np.random.Generator
) -> Plane:
    """Add beard, blush, hair strands, glass and light."""
    pose = canvas.head
    x, y = _face_axes(pose, size)
    turn, nod = float(np.sin(pose.yaw)), float(-np.sin(pose.pitch))
    fx, fy = x - np.float32(0.62 * turn), y - np.float32(0.62 * nod)
    skin = _share(canvas, frozenset({Part.SKIN, Part.NOSE, Part.CREASE}))
    relief = _relief(fx, fy, traits, rng)
    blush = np.float32(max(0.0, 0.15 + 0.19 * traits.strength["Rosy_Cheeks"]))
    cheeks = _spot(fx, fy, (0.58, 0.4), 0.27, 0.2) + _spot(fx, fy, (-0.58, 0.4), 0.27, 0.2)
    tint = (skin * cheeks * blush)[..., None]
    picture = picture * (1 - tint) + tint * np.array([222, 84, 92], dtype=np.float32)
    picture = _grow_beard(picture, canvas, traits, rng)
    picture = picture * (1 + (skin * relief)[..., None])
    picture = picture * (1 + _strands(canvas, x, y, traits, rng))[..., None]
    picture = _light(picture, canvas, x, y, rng)
    return _glaze(picture, canvas, x, y, rng)


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
        relief += np.float32(gain) * _spot(x, y, at, wide, high)
    for s in (1.0, -1.0):
        for gain, at, wide, high in (
            (0.06, (s * 0.55, 0.34), 0.25, 0.18),  # cheek
            (-0.10, (s * 0.42, -0.13), 0.26, 0.10),  # eye socket
            (-bags, (s * 0.42, 0.17), 0.20, 0.07),
        ):
            relief += np.float32(gain) * _spot(x, y, at, wide, high)
        slanted = x - np.float32(s * 0.5) * y
        relief -= np.float32(fold) * _spot(slanted, y, (s * 0.06, 0.62), 0.06, 0.17)
    return relief


def _grow_beard(picture: Plane, canvas: Canvas, traits: Traits, rng: np.random.Generator) -> Plane:
    if canvas.beard.getextrema()[1] == 0:
        return picture
    bare = np.zeros(256, dtype=np.uint8)
    bare[[Part.SKIN, Part.CREASE]] = 255
    bare = bare[np.asarray(canvas.parts)]
    density = Image.fromarray(np.minimum(np.asarray(canvas.beard), bare)).reduce(OVERSAMPLING)
    thin = np.asarray(density, dtype=np.float32) / 255
    thin = thin * rng.uniform(0.75, 1.1, thin.shape).astype(np.float32)
    colour = 0.8 * np.array(traits.hair, dtype=np.float32)
    grown: Plane = picture + thin[..., None] * (colour - picture)
    return grown


def _strands(canvas: Canvas, x: Plane, y: Plane, traits: Traits, rng: np.random.Generator) -> Plane:
    """Return relative brightness of hair: streaks that run down from the crown."""
    streaks = rng.normal(0, 0.13, 512).astype(np.float32)
    streaks = streaks + np.roll(streaks, 1) + np.roll(streaks, 2)
    count = rng.uniform(18, 60)
    bend = max(0.0, 0.25 + 0.22 * traits.strength["Wavy_Hair"])
    gloss, gloss_at = rng.uniform(0.0, 0.25), rng.uniform(-1.1, -0.8)
    hair = _share(canvas, frozenset({Part.HAIR, Part.HAIR_BACK}))
    if not hair.any():
        return hair
    from_crown = np.arctan2(x, y + _CROWN)
    radius = np.hypot(x, y + _CROWN)
    phase = from_crown * np.float32(count) + np.float32(6 * bend) * np.sin(radius * np.float32(7))
    place = (phase % 512).astype(np.float32)
    whole = place.astype(np.int32)
    part = place - whole
    streak = streaks[whole % 512] * (1 - part) + streaks[(whole + 1) % 512] * part
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
    head = _share(canvas, _HEAD_PARTS)
    level: Plane = (wall + head * (ball - wall)).astype(np.float32)
    return picture * level[..., None]


def _glaze(picture: Plane, canvas: Canvas, x: Plane, y: Plane, rng: np.random.Generator) -> Plane:
    """Tint the lenses and put a reflection on them."""
    tone, slant, gleam = rng.uniform(10, 70, 3), rng.uniform(-1, 1), rng.uniform(0, 0.3)
    if canvas.lenses.getextrema()[1] == 0:
        return picture
    frame = np.zeros(256, dtype=bool)
    frame[[Part.FRAME, Part.HAT, Part.HAT_BAND]] = True
    glass = np.where(frame[np.asarray(canvas.parts)], 0, np.asarray(canvas.lenses))
    tint = Image.fromarray(glass.astype(np.uint8)).reduce(OVERSAMPLING)
    amount = (np.asarray(tint, dtype=np.float32) / 255)[..., None]
    picture = picture + amount * (tone.astype(np.float32) - picture)
    streak = np.float32(gleam) * (np.sin((x + np.float32(slant) * y) * 9) > 0.75)
    glazed: Plane = picture + (streak * (amount[..., 0] > 0) * 120)[..., None]
    return glazed


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
