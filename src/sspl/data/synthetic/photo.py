"""Drawn faces that a network can learn photographs from.

Outlines are those of the plain drawing at the proportions of photographs; surfaces have texture,
the head has depth and is lit by two lamps, things stand in the way, and the camera is a worse one.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from sspl.data.synthetic.face import Canvas, Part, Points, draw_face, grow_stubble, smooth_open
from sspl.data.synthetic.likeness import draw_likeness, draw_likeness_pose, grown_up
from sspl.data.synthetic.paint import (
    Plane,
    both_sides,
    face_axes,
    flat_colours,
    glaze,
    grow_beard,
    looked_up,
    on_face,
    painted,
    share_of,
    spot,
)
from sspl.data.synthetic.textures import cloth, clouds, loud, scene
from sspl.data.synthetic.traits import Traits, draw_traits

_BARE: Final = frozenset({Part.SKIN, Part.NOSE, Part.CREASE})
_HAIR: Final = frozenset({Part.HAIR, Part.HAIR_BACK, Part.L_BROW, Part.R_BROW})
_BROWS: Final = frozenset({Part.L_BROW, Part.R_BROW})
_CLOTH: Final = frozenset({Part.CLOTH, Part.COLLAR, Part.HAT, Part.HAT_BAND})
_LIT_AS_HEAD: Final = frozenset(
    {p for p in Part if Part.SKIN <= p <= Part.LIP_LINE} | {Part.FRAME, Part.L_EAR, Part.R_EAR}
)
_LIT_AS_HAIR: Final = frozenset({Part.HAIR, Part.HAIR_BACK, Part.HAT, Part.HAT_BAND})
_CROWN: Final = -1.3


def photograph(rng: np.random.Generator, size: int) -> tuple[Plane, Canvas, Traits]:
    """Return float32 (size, size, 3) of one face, its map of parts, and what it is."""
    traits = grown_up(draw_traits(rng), rng)
    build = draw_likeness(traits, rng)
    head, body = draw_likeness_pose(rng)
    canvas = Canvas(size, head, body)
    draw_face(canvas, traits, build, rng)
    _unshaved(canvas, traits, build.length, rng)
    if not (traits.labels["Bald"] or traits.labels["Wearing_Hat"]):
        _locks(canvas, build.hair_end, rng)
        if build.hair_end > 1.0 and rng.random() < 0.7:
            _over_shoulders(canvas, build.hair_end, rng)
    if rng.random() < 0.12:
        _thing_in_front(canvas, rng)
    x, y = face_axes(head, size)
    assert head.warp is not None
    y = head.warp.drawn_height(y).astype(np.float32)
    picture = _surfaces(canvas, traits, x, y, size, rng)
    picture = _lit(picture, canvas, traits, x, y, size, rng)
    picture = glaze(picture, canvas, x, y, rng)
    return _camera(picture, traits, rng), canvas, traits


def _unshaved(canvas: Canvas, traits: Traits, long: float, rng: np.random.Generator) -> None:
    """Grow stubble on jaw and lip, and sideburns before the ears."""
    if traits.labels["5_o_Clock_Shadow"]:
        grow_stubble(canvas, long, 0.3 + 0.1 * min(2.0, traits.strength["5_o_Clock_Shadow"]))
    if traits.labels["Sideburns"]:
        low = rng.uniform(0.25, 0.7)
        for side in (1.0, -1.0):
            line = np.array([(side * 0.97, -0.35), (side * 0.94, 0.1), (side * 0.9, low)])
            canvas.stroke(Part.HAIR, smooth_open(line), rng.uniform(0.06, 0.14), 0.2)


def _locks(canvas: Canvas, end: float, rng: np.random.Generator) -> None:
    """Let locks fall over the forehead and cheeks, and out of the outline."""
    for _ in range(int(rng.integers(0, 8))):
        side = float(rng.choice([-1.0, 1.0]))
        low = rng.uniform(-0.7, max(-0.3, min(end, 1.8)))
        out = rng.uniform(0.72, 1.35)
        line = np.array(
            [
                (side * rng.uniform(0.0, 0.8), rng.uniform(-1.3, -0.75)),
                (side * (out - rng.uniform(0.0, 0.25)), 0.5 * (low - 0.7)),
                (side * out, low),
            ]
        )
        canvas.stroke(Part.HAIR, smooth_open(line), rng.uniform(0.01, 0.12), 0.3)


def _over_shoulders(canvas: Canvas, end: float, rng: np.random.Generator) -> None:
    """Let long hair fall in front of the shoulders and the clothes."""
    for side in (1.0, -1.0):
        for _ in range(int(rng.integers(0, 4))):
            out = rng.uniform(0.95, 1.2)
            line = np.array(
                [
                    (side * 1.0, rng.uniform(-0.3, 0.5)),
                    (side * out, 1.1),
                    (side * rng.uniform(0.75, 1.7), end + rng.uniform(0.0, 1.0)),
                ]
            )
            canvas.stroke(Part.HAIR, smooth_open(line), rng.uniform(0.1, 0.4), 0.0)


def _thing_in_front(canvas: Canvas, rng: np.random.Generator) -> None:
    """Put something between face and camera: a hand, a microphone, an arm."""
    reach, turn = rng.uniform(0.12, 0.5), rng.uniform(0, 2 * np.pi)
    middle = np.array([rng.normal(0, 0.9), rng.uniform(0.2, 1.7)])
    angle = np.sort(rng.uniform(0, 2 * np.pi, 8))
    radius = reach * rng.uniform(0.5, 1.4, 8)
    blot: Points = middle + np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
    canvas.fill(Part.THING, blot, 0.0)
    away = middle + 4 * np.array([np.cos(turn), abs(np.sin(turn))])
    canvas.stroke(Part.THING, np.stack([middle, away]), reach * rng.uniform(0.3, 1.2), 0.0)


def _surfaces(
    canvas: Canvas, traits: Traits, x: Plane, y: Plane, size: int, rng: np.random.Generator
) -> Plane:
    """Return the picture under even light: dyes, textures, beard and what stands behind."""
    colours = flat_colours(traits, rng)
    skin, hair = colours[Part.SKIN].astype(np.float64), colours[Part.HAIR].astype(np.float64)
    colours[Part.THING] = (skin if rng.random() < 0.5 else loud(rng)).astype(np.uint8)
    for part in (Part.CLOTH, Part.HAT):
        colours[part] = loud(rng).astype(np.uint8)
    # Eyes lie in shadow; white ones would be the brightest thing in the picture.
    for part in (Part.L_EYE, Part.R_EYE):
        colours[part] = (0.35 * skin + 0.55 * colours[part]).astype(np.uint8)
    behind = scene(rng, np.stack([skin, hair]))
    picture = painted(canvas, colours, behind, size)
    faint = np.float32(rng.uniform(0.0, 0.8)) * share_of(canvas, _BROWS)[..., None]
    picture = picture + faint * (skin.astype(np.float32) - picture)
    picture = _made_up(picture, canvas, traits, x, y, rng)
    picture = grow_beard(picture, canvas, traits, rng)
    worn = share_of(canvas, _CLOTH)[..., None]
    picture = picture * (1 + worn * (cloth(rng, size) - 1))
    rough = np.float32(rng.uniform(0.0, 0.05)) * clouds(rng, size, 12)
    picture = picture * (1 + share_of(canvas, _BARE) * rough)[..., None]
    strands: Plane = (
        picture * (1 + share_of(canvas, _HAIR) * _strands(x, y, traits, rng))[..., None]
    )
    return strands


def _made_up(
    picture: Plane, canvas: Canvas, traits: Traits, x: Plane, y: Plane, rng: np.random.Generator
) -> Plane:
    """Redden cheeks, shade lids, and crease the skin of the old."""
    skin = share_of(canvas, _BARE)
    fx, fy = on_face(canvas.head, x, y)
    makeup = traits.strength["Heavy_Makeup"]
    rosy = traits.strength["Rosy_Cheeks"] + 0.3 * max(0.0, makeup)
    blush = np.float32(max(0.0, 0.12 + 0.16 * rosy))
    cheeks = both_sides(fx, fy, (0.58, 0.4), 0.27, 0.2)
    lids = both_sides(fx, fy, (0.43, -0.08), 0.24, 0.12)
    painted = rng.uniform(0.4, 0.9) if makeup > 0 else rng.uniform(0.0, 0.25)
    shadow = np.array(rng.uniform(20, 130, 3), dtype=np.float32)
    bags = np.float32(max(0.0, 0.12 + 0.12 * traits.strength["Bags_Under_Eyes"]))
    under = both_sides(fx, fy, (0.43, 0.17), 0.2, 0.07)
    lines = np.sin(fy * np.float32(rng.uniform(28, 45)) + np.float32(rng.uniform(0, 6)))
    brow = spot(fx, fy, (0.0, -0.6), 0.5, 0.16)
    old = np.float32(0.10 * max(0.0, traits.age - 0.4))
    tint = (skin * cheeks * blush)[..., None]
    picture = picture * (1 - tint) + tint * np.array([210, 90, 92], dtype=np.float32)
    tint = (skin * lids * np.float32(painted))[..., None]
    picture = picture * (1 - tint) + tint * shadow
    made_up: Plane = picture * (1 - skin * (bags * under + old * lines * brow))[..., None]
    return made_up


def _strands(x: Plane, y: Plane, traits: Traits, rng: np.random.Generator) -> Plane:
    """Return relative brightness of hair: strands and locks that run down from the crown."""
    size = len(x)
    part = np.float32(rng.normal(0, 0.3))
    across, down = x - part, y - np.float32(_CROWN)
    bend = max(0.0, 0.5 + 0.5 * traits.strength["Wavy_Hair"])
    radius = np.hypot(across, down)
    angle = np.arctan2(across, down) + np.float32(0.06 * bend) * clouds(rng, size, 4, 3)
    sway = np.float32(0.12 * bend) * np.sin(radius * np.float32(rng.uniform(4, 9)))
    strands = np.zeros_like(x)
    for count, strength in ((rng.uniform(5, 14), 0.5), (rng.uniform(20, 50), 0.8)):
        table = rng.standard_normal(512).astype(np.float32)
        place = ((angle + sway) * np.float32(count)) % 512
        strands += np.float32(strength) * looked_up(table, place)
    gloss_at, gloss = rng.uniform(-1.2, -0.6), rng.uniform(0.0, 0.5)
    shine = np.float32(gloss) * np.exp(-(((y - np.float32(gloss_at)) / np.float32(0.22)) ** 2))
    deep = np.float32(rng.uniform(0.05, 0.3))
    rough: Plane = deep * strands + shine + np.float32(0.08) * clouds(rng, size, 10, 3)
    return np.clip(rough, -0.7, 1.2)


def _lit(
    picture: Plane,
    canvas: Canvas,
    traits: Traits,
    x: Plane,
    y: Plane,
    size: int,
    rng: np.random.Generator,
) -> Plane:
    """Light everything from two sides; what is nearer the crown of a ball faces the camera."""
    unit = np.float32(canvas.head.scale * size)
    face = _normals(_depth(canvas, traits, x, y, rng), unit)
    hair = _normals(_ball(x, y, 1.45, 1.9, 1.0), unit)
    sky = rng.uniform(0.25, 0.75)
    level = {
        "face": np.zeros((*x.shape, 3), dtype=np.float32),
        "hair": np.zeros((*x.shape, 3), dtype=np.float32),
    }
    gleam = np.zeros_like(x)
    for strength in (1.0, rng.uniform(0.0, 0.7)):
        lamp = np.array([rng.normal(0, 0.8), rng.normal(-0.45, 0.5), rng.uniform(0.35, 1.3)])
        lamp = (lamp / np.linalg.norm(lamp)).astype(np.float32)
        tone = (strength * (1 + rng.normal(0, 0.07, 3))).astype(np.float32)
        level["face"] += np.maximum(face @ lamp, 0)[..., None] * tone
        level["hair"] += np.maximum(hair @ lamp, 0)[..., None] * tone
        half = lamp + np.array([0, 0, 1], dtype=np.float32)
        half /= np.linalg.norm(half)
        gleam += np.float32(strength) * np.maximum(face @ half, 0) ** np.float32(24)
    bright = rng.uniform(0.75, 1.2)
    parts = {"face": share_of(canvas, _LIT_AS_HEAD), "hair": share_of(canvas, _LIT_AS_HAIR)}
    whole = np.ones((*x.shape, 3), dtype=np.float32)
    for name, covered in parts.items():
        lit = np.float32(sky) + np.float32(1 - sky) * level[name]
        mean = float((lit.mean(2) * covered).sum() / max(1.0, float(covered.sum())))
        whole += covered[..., None] * (lit * np.float32(bright / max(0.2, mean)) - 1)
    shiny = np.float32(rng.uniform(0, 70)) * gleam * share_of(canvas, _BARE)
    lit_up: Plane = picture * whole + shiny[..., None]
    return lit_up


def _ball(x: Plane, y: Plane, wide: float, high: float, deep: float) -> Plane:
    inside = 1 - (x / np.float32(wide)) ** 2 - ((y - np.float32(0.1)) / np.float32(high)) ** 2
    ball: Plane = np.float32(deep) * np.sqrt(np.maximum(inside, np.float32(0.02)))
    return ball


def _depth(canvas: Canvas, traits: Traits, x: Plane, y: Plane, rng: np.random.Generator) -> Plane:
    """Return how far the head stands out towards the camera, in half widths of the face."""
    fx, fy = on_face(canvas.head, x, y)
    depth = _ball(x, y, 1.15, 1.6, 0.85)
    flat = rng.uniform(0.6, 1.4, 7)
    flat[6] *= max(0.2, 1.0 + 0.6 * traits.strength["High_Cheekbones"])
    for gain, at, wide, high in (
        (0.26 * flat[0], (0.0, 0.44), 0.15, 0.17),  # tip of the nose
        (0.16 * flat[1], (0.0, 0.1), 0.10, 0.33),  # its bridge
        (0.05 * flat[2], (0.0, -0.3), 0.70, 0.10),  # brow
        (0.07 * flat[3], (0.0, 0.8), 0.30, 0.14),  # lips
        (0.08 * flat[4], (0.0, 1.12), 0.24, 0.15),  # chin
        *((-0.11 * flat[5], (s * 0.43, -0.02), 0.24, 0.13) for s in (1.0, -1.0)),  # eye sockets
        *((0.07 * flat[6], (s * 0.55, 0.36), 0.25, 0.22) for s in (1.0, -1.0)),  # cheeks
    ):
        depth += np.float32(gain) * spot(fx, fy, at, wide, high)
    return depth


def _normals(depth: Plane, unit: np.float32) -> NDArray[np.float32]:
    """Return unit normals float32 (size, size, 3) of a surface; `unit` is pixels a half width."""
    down, right = np.gradient(depth * unit)
    normals = np.stack([-right, -down, np.ones_like(depth)], axis=2)
    found: NDArray[np.float32] = normals / np.linalg.norm(normals, axis=2, keepdims=True)
    return found


def _camera(picture: Plane, traits: Traits, rng: np.random.Generator) -> Plane:
    """Expose, tint, blur, sample coarsely and add noise, as old and cheap cameras do."""
    size = picture.shape[0]
    gain = (rng.uniform(0.65, 1.35) * (1 + rng.normal(0, 0.07, 3))).astype(np.float32)
    picture = np.clip(picture * gain, 0, 330) / np.float32(255)
    picture = np.float32(255) * picture ** np.float32(np.exp(rng.normal(0, 0.18)))
    picture = (picture - 110) * np.float32(rng.uniform(0.75, 1.25)) + 110
    grey = picture @ np.array([0.299, 0.587, 0.114], dtype=np.float32)
    vivid = 0.0 if rng.random() < 0.06 else rng.uniform(0.55, 1.25)
    picture = grey[..., None] + np.float32(vivid) * (picture - grey[..., None])
    seen = Image.fromarray(np.clip(picture, 0, 255).astype(np.uint8))
    blurry = max(0.0, traits.strength["Blurry"]) if traits.labels["Blurry"] else 0.0
    blur = size * (rng.uniform(0.0, 0.006) + 0.009 * min(blurry, 2.0))
    if blur > 0.2:
        seen = seen.filter(ImageFilter.GaussianBlur(blur))
    if rng.random() < 0.25:
        side = max(16, round(size * rng.uniform(0.4, 0.9)))
        seen = seen.resize((side, side), Image.Resampling.BILINEAR)
        seen = seen.resize((size, size), Image.Resampling.BICUBIC)
    grain = np.float32(rng.uniform(0, 7)) * rng.standard_normal(picture.shape, dtype=np.float32)
    return np.asarray(seen, dtype=np.float32) + grain
