"""Geometry of a synthetic face: smooth outlines drawn back to front into a map of parts.

Face coordinates: the origin lies between the eyes, x grows to the image's right, y grows
down, and half the face's width is 1.
"""

from dataclasses import dataclass
from enum import IntEnum
from functools import cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from sspl.data.synthetic.traits import Traits
from sspl.domain.taxonomy import built_in_taxonomy

Points = NDArray[np.float64]

OVERSAMPLING: Final = 3
"""Odd, so that a picture's pixel centre is the centre of a sub-pixel."""


class Part(IntEnum):
    """What is drawn; finer than the semantic classes."""

    BACKGROUND = 0
    HAIR_BACK = 1
    NECK = 2
    NECK_SHADOW = 3
    CLOTH = 4
    COLLAR = 5
    NECKLACE = 6
    L_EAR = 7
    R_EAR = 8
    SKIN = 9
    NOSE = 10
    NOSTRIL = 11
    L_BROW = 12
    R_BROW = 13
    L_EYE = 14
    R_EYE = 15
    L_IRIS = 16
    R_IRIS = 17
    L_PUPIL = 18
    R_PUPIL = 19
    L_LASH = 20
    R_LASH = 21
    L_GLINT = 22
    R_GLINT = 23
    CREASE = 24
    MOUTH = 25
    TEETH = 26
    TONGUE = 27
    U_LIP = 28
    L_LIP = 29
    LIP_LINE = 30
    HAIR = 31
    EARRING = 32
    FRAME = 33
    HAT = 34
    HAT_BAND = 35
    L_EAR_INNER = 36
    R_EAR_INNER = 37
    THING = 38


_CLASS_OF: Final = {
    "HAIR_BACK": "hair",
    "NECK_SHADOW": "neck",
    "COLLAR": "cloth",
    "NECKLACE": "neck_l",
    "NOSTRIL": "nose",
    "CREASE": "skin",
    "TEETH": "mouth",
    "TONGUE": "mouth",
    "LIP_LINE": "u_lip",
    "EARRING": "ear_r",
    "FRAME": "eye_g",
    "HAT_BAND": "hat",
    "THING": "background",
}
_EYE_PARTS: Final = ("IRIS", "PUPIL", "LASH", "GLINT")


@cache
def class_table() -> NDArray[np.uint8]:
    """Return uint8 (256,): part to class id in `celebamask19`."""
    taxonomy = built_in_taxonomy("celebamask19")
    table = np.zeros(256, dtype=np.uint8)
    for part in Part:
        side, _, rest = part.name.partition("_")
        name = _CLASS_OF.get(part.name, part.name.lower())
        if rest in _EYE_PARTS:
            name = f"{side.lower()}_eye"
        elif rest == "EAR_INNER":
            name = f"{side.lower()}_ear"
        table[part] = taxonomy.index(name)
    return table


@dataclass(frozen=True)
class Warp:
    """How a face departs from the drawing: heights moved, and everything a little out of true.

    Args:
        heights: (k, 2), increasing: y of the drawing, y of the face.
        waves: (m, 5): two frequencies and a phase (radians), how far x and y are pushed.
    """

    heights: Points
    waves: Points

    def __call__(self, points: Points) -> Points:
        """Move face coordinates (n, 2)."""
        swing = np.sin(points @ self.waves[:, :2].T + self.waves[:, 2])
        y = np.interp(points[:, 1], *self.heights.T)
        return np.stack([points[:, 0], y], axis=1) + swing @ self.waves[:, 3:]

    def drawn_height(self, y: NDArray[np.floating[Any]] | float) -> Points:
        """Return the drawing's y of heights of the face, the waves left out."""
        return np.asarray(np.interp(y, self.heights[:, 1], self.heights[:, 0]))


@dataclass(frozen=True)
class Pose:
    """Where the head is, in fractions of the frame, and how it is turned (radians)."""

    scale: float
    x: float
    y: float
    roll: float
    yaw: float
    pitch: float
    warp: Warp | None = None

    def project(self, points: Points, depth: float | Points = 0.0) -> Points:
        """Map face coordinates (n, 2) at `depth` towards the viewer to frame fractions (n, 2)."""
        points = points if self.warp is None else self.warp(points)
        x = points[:, 0] + np.sin(self.yaw) * depth
        y = points[:, 1] - np.sin(self.pitch) * depth
        cos, sin = np.cos(self.roll) * self.scale, np.sin(self.roll) * self.scale
        return np.stack([self.x + cos * x - sin * y, self.y + sin * x + cos * y], axis=1)

    def drawn_height(self, y: float) -> float:
        """Return the drawing's y of a height of the face."""
        return y if self.warp is None else float(self.warp.drawn_height(y))


def _surface(points: Points) -> Points:
    """Depth of the face's skin at points (n, 2), as of an ellipsoid."""
    square = (points[:, 0] / 1.05) ** 2 + ((points[:, 1] - 0.1) / 1.5) ** 2
    depth: Points = 0.75 * np.sqrt(np.clip(1.0 - square, 0.0, 1.0))
    return depth


@cache
def _basis(samples: int, tension: float = 0.5) -> Points:
    t = np.arange(samples)[:, None] / samples
    powers = np.concatenate([t**3, t**2, t, np.ones_like(t)], axis=1)
    s = tension
    matrix = np.array(
        [[-s, 2 - s, s - 2, s], [2 * s, s - 3, 3 - 2 * s, -s], [-s, 0, s, 0], [0, 1, 0, 0]]
    )
    basis: Points = powers @ matrix
    return basis


def smooth(controls: Points, samples: int = 8) -> Points:
    """Return the closed Catmull-Rom curve through controls (n, 2) as (n * samples, 2)."""
    n = len(controls)
    neighbours = controls[(np.arange(n)[:, None] + np.arange(-1, 3)) % n]
    curve: Points = np.einsum("sk,nkd->nsd", _basis(samples), neighbours).reshape(-1, 2)
    return curve


def smooth_open(controls: Points, samples: int = 8) -> Points:
    """Return the Catmull-Rom curve from the first to the last control."""
    before, after = 2 * controls[0] - controls[1], 2 * controls[-1] - controls[-2]
    padded = np.concatenate([[before], controls, [after]])
    closed = smooth(padded, samples)
    return closed[samples : samples * len(controls) + 1]


def mirrored(half: Points) -> Points:
    """Close a right half (n, 2), listed from top to bottom, with its mirror image.

    Points on the axis are kept once, since a double point makes a knot in a smooth curve.
    """
    other = half[half[:, 0] != 0.0][::-1] * (-1.0, 1.0)
    return np.concatenate([half, other])


def ellipse(x: float, y: float, rx: float, ry: float, power: float = 1.0, n: int = 28) -> Points:
    """Return an ellipse (n, 2); a power below 1 squares it."""
    angle = np.arange(n) * (2 * np.pi / n)
    cos, sin = np.cos(angle), np.sin(angle)
    return np.stack(
        [
            x + rx * np.sign(cos) * np.abs(cos) ** power,
            y + ry * np.sign(sin) * np.abs(sin) ** power,
        ],
        axis=1,
    )


class Canvas:
    """Three sub-sampled maps of one face: its parts, its beard and its lenses.

    Args:
        size: side of the picture in pixels; the maps have `OVERSAMPLING` times as many.
        head: pose of the head.
        body: pose of neck and shoulders.
    """

    def __init__(self, size: int, head: Pose, body: Pose) -> None:
        self.side = size * OVERSAMPLING
        self.head = head
        self.body = body
        shape = (self.side, self.side)
        self.parts = Image.new("L", shape)
        self.beard = Image.new("L", shape)
        self.lenses = Image.new("L", shape)
        self._parts = ImageDraw.Draw(self.parts)
        self._beard = ImageDraw.Draw(self.beard)
        self._lenses = ImageDraw.Draw(self.lenses)

    def _pixels(self, points: Points, depth: float | Points | None, pose: Pose) -> list[int]:
        """Return x, y, x, y, ... of the sub-pixels that hold the points.

        Whole numbers, since Pillow would cut fractions off towards zero.
        """
        depth = _surface(points) if depth is None else depth
        places = np.floor(pose.project(points, depth) * self.side).astype(np.int64)
        pixels: list[int] = places.ravel().tolist()
        return pixels

    def fill(self, part: Part, points: Points, depth: float | Points | None = None) -> None:
        """Fill an outline on the head; without a depth it lies on the skin."""
        self._parts.polygon(self._pixels(points, depth, self.head), fill=int(part))

    def fill_body(self, part: Part, points: Points) -> None:
        """Fill an outline that turns with the body."""
        self._parts.polygon(self._pixels(points, 0.0, self.body), fill=int(part))

    def stroke(self, part: Part, points: Points, width: float, depth: float | None = None) -> None:
        """Draw a line on the head, `width` in face units and at least one pixel."""
        self._line(part, self._pixels(points, depth, self.head), width)

    def stroke_body(self, part: Part, points: Points, width: float) -> None:
        """Draw a line that turns with the body."""
        self._line(part, self._pixels(points, 0.0, self.body), width)

    def _line(self, part: Part, pixels: list[int], width: float) -> None:
        wide = max(OVERSAMPLING, round(width * self.head.scale * self.side))
        self._parts.line(pixels, fill=int(part), width=wide, joint="curve")

    def grow_beard(self, points: Points, density: float) -> None:
        """Add hair of a density from 0 to 1 on the skin inside an outline."""
        level = round(255 * min(max(density, 0.0), 1.0))
        self._beard.polygon(self._pixels(points, None, self.head), fill=level)

    def lens(self, points: Points, depth: float, tint: float) -> None:
        """Cover an outline with glass; it is `eye_g` in the mask and tinted in the picture."""
        self._lenses.polygon(self._pixels(points, depth, self.head), fill=max(1, round(255 * tint)))


def draw_pose(rng: np.random.Generator, length: float) -> tuple[Pose, Pose]:
    """Draw the poses of head and body; the chin stays high enough to leave a neck in frame."""
    scale = rng.uniform(0.25, 0.355)
    yaw = float(np.clip(rng.normal(0, 0.3), -0.65, 0.65))
    pitch = float(np.clip(rng.normal(0, 0.12), -0.3, 0.3))
    roll = float(np.clip(rng.normal(0, 0.11), -0.3, 0.3))
    x = 0.5 + rng.uniform(-0.07, 0.07)
    y = min(0.45 + rng.uniform(-0.05, 0.06), 0.84 - scale * 1.28 * length)
    head = Pose(scale, x, y, roll, yaw, pitch)
    return head, Pose(scale, x, y, roll * 0.4, 0.0, 0.0)


@dataclass(frozen=True)
class Proportions:
    """Sizes of the parts relative to the drawing's own."""

    eye: float = 1.0
    brow: float = 1.0
    nose: float = 1.0
    mouth: float = 1.0
    lips: float = 1.0
    ear: float = 1.0
    neck: float = 1.0
    earring: float = 1.0


@dataclass(frozen=True)
class Neckline:
    """What clothes leave bare: heights below the chin, how steeply shoulders fall (1: drawn)."""

    top: float
    deep: float
    fall: float


@dataclass(frozen=True)
class Build:
    """Measures that several parts share: face length, lengths of the hair and its volume.

    Without a neckline the drawing chooses one, and no shoulder is bare.
    """

    length: float
    jaw: float
    hair_end: float
    volume: float
    wave: float
    wave_phase: float
    parts: Proportions = Proportions()
    neckline: Neckline | None = None
    receding: float = 0.0


def draw_build(traits: Traits, rng: np.random.Generator) -> Build:
    """Draw the shared measures of one face."""
    long_hair = rng.normal(0.35, 0.35) if traits.masculine else rng.normal(1.35, 0.55)
    return Build(
        length=1.0 + 0.045 * traits.strength["Oval_Face"] + rng.normal(0, 0.02),
        jaw=0.74
        + 0.06 * traits.masculine
        - 0.05 * traits.strength["Oval_Face"]
        + rng.normal(0, 0.035),
        hair_end=float(np.clip(long_hair, -0.05, 2.4)),
        volume=float(np.clip(rng.normal(0.17, 0.05), 0.07, 0.32)),
        wave=max(0.0, 0.030 + 0.026 * traits.strength["Wavy_Hair"]),
        wave_phase=rng.uniform(0, 6),
    )


def draw_face(canvas: Canvas, traits: Traits, build: Build, rng: np.random.Generator) -> None:
    """Draw every part of one face, back to front."""
    s, labels = traits.strength, traits.labels
    bald = labels["Bald"]
    if not bald:
        _hair_back(canvas, build)
    _body(canvas, traits, build, rng)
    _ears(canvas, build.parts.ear, rng)
    _head(canvas, build)
    _beard(canvas, s, traits.masculine, build, rng)
    mouth_y = 0.80 * build.length + rng.normal(0, 0.03)
    _nose(canvas, s, build.parts.nose, rng)
    _mouth(canvas, s, mouth_y, build.parts, rng)
    _eyes(canvas, s, build.parts.eye, rng)
    _brows(canvas, s, build.parts.brow, rng)
    if not bald:
        _hair_front(canvas, s["Bangs"] if labels["Bangs"] else None, build, traits, rng)
    if labels["Wearing_Earrings"]:
        _earrings(canvas, build.parts.earring, rng)
    if labels["Eyeglasses"]:
        _glasses(canvas, rng)
    if labels["Wearing_Hat"]:
        _hat(canvas, rng)


def _waved(points: Points, build: Build) -> Points:
    """Push an outline in and out along its length, as locks do."""
    turns = max(1, round(0.1 * len(points)))
    step = np.arange(len(points)) * (2 * np.pi * turns / len(points)) + build.wave_phase
    push = 1.0 + build.wave * 1.6 * np.sin(step)
    waved: Points = points * push[:, None]
    return waved


def _hair_back(canvas: Canvas, build: Build) -> None:
    wide, end = 1.0 + build.volume, build.hair_end
    flare = 0.1 * max(0.0, end - 0.4)
    half = np.array(
        [
            (0.0, -1.3 - build.volume),
            (0.72 * wide, -1.05),
            (wide, -0.35),
            (wide + flare, 0.35 * end),
            (0.96 * wide + flare, 0.8 * end),
            (0.72 * wide + flare, end + 0.1),
        ]
    )
    canvas.fill(Part.HAIR_BACK, _waved(smooth(mirrored(half)), build), 0.0)


def _body(canvas: Canvas, traits: Traits, build: Build, rng: np.random.Generator) -> None:
    thick = build.parts.neck * (0.50 + 0.12 * traits.masculine + rng.normal(0, 0.03))
    chin = 1.28 * build.length
    neck = [(thick, 0.4), (thick * 0.97, chin), (thick * 1.2, chin + 0.3)]
    if build.neckline is None:
        top = chin + rng.uniform(0.08, 0.26)
        deep, fall = top + rng.uniform(0.12, 0.75), 1.0
        chest = [(1.0, chin + 0.8), (1.0, 6.0)]
    else:
        top, deep, fall = (
            chin + build.neckline.top,
            chin + build.neckline.deep,
            build.neckline.fall,
        )
        bare = chin + 0.32
        chest = [(1.2, bare + 0.2 * fall), (2.3, bare + 0.5 * fall), (3.4, 2.8 + fall), (7.0, 7.0)]
    canvas.fill_body(Part.NECK, smooth(mirrored(np.array(neck + chest))))
    shade = ellipse(0.0, chin - 0.18, thick * 0.97, 0.34)
    canvas.fill_body(Part.NECK_SHADOW, shade)
    half = np.array(
        [
            (0.0, deep),
            (0.3, deep - 0.25 * (deep - top)),
            (thick * 1.12, top),
            (1.2, top + 0.2 * fall),
            (2.3, top + 0.55 * fall),
            (3.4, max(2.8, top + 1.2 * fall)),
            (7.0, 7.0),
        ]
    )
    canvas.fill_body(Part.CLOTH, smooth(mirrored(half)))
    if rng.random() < 0.5:
        edge = smooth_open(half[:3])
        canvas.stroke_body(Part.COLLAR, edge, 0.07)
        canvas.stroke_body(Part.COLLAR, edge * (-1.0, 1.0), 0.07)
    if traits.labels["Wearing_Necklace"]:
        _necklace(canvas, thick, chin, rng)


def _necklace(canvas: Canvas, thick: float, chin: float, rng: np.random.Generator) -> None:
    lowest = canvas.body.drawn_height((0.955 - canvas.body.y) / canvas.body.scale)
    drop = min(chin + rng.uniform(0.2, 0.5), lowest)
    t = np.linspace(-1, 1, 25)
    start = min(chin - 0.05, drop - 0.15)
    chain = np.stack([t * thick * 0.98, drop - (drop - start) * t**2], axis=1)
    canvas.stroke_body(Part.NECKLACE, chain, rng.uniform(0.045, 0.075))
    if rng.random() < 0.5:
        canvas.fill_body(Part.NECKLACE, ellipse(0.0, drop, 0.075, 0.085))


def _ears(canvas: Canvas, large: float, rng: np.random.Generator) -> None:
    yaw = canvas.head.yaw
    size = large * rng.uniform(0.88, 1.15)
    for side, ear, inner in (
        (1.0, Part.L_EAR, Part.L_EAR_INNER),
        (-1.0, Part.R_EAR, Part.R_EAR_INNER),
    ):
        x = side * (1.02 - 0.45 * max(0.0, yaw * side))
        half = ellipse(x, 0.12, 0.15 * size, 0.27 * size)
        half[:, 0] += side * 0.10 * (0.12 - half[:, 1])
        canvas.fill(ear, half, 0.0)
        canvas.fill(inner, ellipse(x + side * 0.05, 0.1, 0.055 * size, 0.16 * size), 0.0)


def _head(canvas: Canvas, build: Build) -> None:
    long, jaw = build.length, build.jaw
    half = np.array([(0.0, -1.22), (0.48, -1.13), (0.83, -0.8), (0.985, -0.3), (1.0, 0.12),
                     (0.93, 0.5 * long), (jaw, 0.93 * long), (0.42 * jaw / 0.74, 1.2 * long),
                     (0.0, 1.28 * long)])  # fmt: skip
    outline = mirrored(half)
    depth = 0.2 * np.clip(outline[:, 1], 0.0, 1.3)
    turned = outline + np.stack([np.sin(canvas.head.yaw) * depth, np.zeros_like(depth)], axis=1)
    canvas.fill(Part.SKIN, smooth(turned), 0.0)


def grow_stubble(canvas: Canvas, long: float, density: float) -> None:
    """Grow a beard of one density on lip, cheeks and jaw of a face of length `long`."""
    half = np.array([(0.0, 0.58), (0.5, 0.6), (1.0, 0.3), (0.95, 0.75), (0.5, 1.3), (0, 1.4)])
    canvas.grow_beard(smooth(mirrored(half * (1.0, long))), density)


def _beard(
    canvas: Canvas,
    s: dict[str, float],
    masculine: float,
    build: Build,
    rng: np.random.Generator,
) -> None:
    """Stubble on any man's jaw is nuisance; mustache and goatee are denser in a smaller place."""
    long = build.length
    if masculine and rng.random() < 0.5:
        grow_stubble(canvas, long, rng.uniform(0.05, 0.24))
    if s["Goatee"] > 0:
        wide = rng.uniform(0.2, 0.42)
        half = np.array(
            [(0.0, 0.98), (wide * 0.8, 1.0), (wide, 1.15), (wide * 0.7, 1.35), (0.0, 1.42)]
        )
        canvas.grow_beard(smooth(mirrored(half * (1.0, long))), 0.5 + 0.25 * s["Goatee"])
    if s["Mustache"] > 0:
        wide, y = rng.uniform(0.3, 0.46), 0.64 * long
        half = np.array(
            [
                (0.0, y - 0.08),
                (0.6 * wide, y - 0.06),
                (wide, y + 0.11),
                (0.55 * wide, y + 0.1),
                (0.0, y + 0.09),
            ]
        )
        canvas.grow_beard(smooth(mirrored(half)), 0.5 + 0.25 * s["Mustache"])


def _nose(canvas: Canvas, s: dict[str, float], large: float, rng: np.random.Generator) -> None:
    wide = large * max(0.13, 0.265 + 0.042 * s["Big_Nose"] + rng.normal(0, 0.008))
    end = 0.50 + 0.02 * s["Big_Nose"] + rng.normal(0, 0.035)
    half = np.array(
        [
            (0.075, -0.06),
            (0.085, 0.5 * end),
            (0.72 * wide, 0.74 * end),
            (wide, 0.9 * end),
            (0.75 * wide, 1.05 * end),
            (0.25 * wide, 1.1 * end),
        ]
    )
    points = smooth(mirrored(half))
    depth = _surface(points) + 0.25 * np.clip(points[:, 1] / end, 0, 1) ** 1.5
    canvas.fill(Part.NOSE, points, depth)
    for side in (1.0, -1.0):
        hole = ellipse(side * 0.48 * wide, 0.99 * end, 0.24 * wide, 0.032)
        canvas.fill(Part.NOSTRIL, hole, 0.92)


def _mouth(
    canvas: Canvas,
    s: dict[str, float],
    y: float,
    parts: Proportions,
    rng: np.random.Generator,
) -> None:
    smile, full = s["Smiling"], s["Big_Lips"]
    wide = parts.mouth * (0.36 + 0.025 * smile + rng.normal(0, 0.035))
    curve = 0.036 + 0.044 * smile + rng.normal(0, 0.010)
    gap = max(0.0, 0.055 + 0.05 * s["Mouth_Slightly_Open"])
    upper = parts.lips * max(0.03, 0.085 + 0.02 * full + rng.normal(0, 0.005))
    lower = parts.lips * max(0.04, 0.115 + 0.026 * full + rng.normal(0, 0.006))
    t = np.linspace(-1, 1, 25)
    bulge = np.clip(1 - t**2, 0, 1) ** 0.7
    middle = y - curve * (t**2 - 0.35)
    bow = 1 - 0.24 * np.exp(-((t / 0.16) ** 2))
    levels = [
        middle - gap / 2 * bulge - upper * bulge * bow,
        middle - gap / 2 * bulge,
        middle + gap / 2 * bulge,
        middle + (gap / 2 + lower) * bulge,
    ]

    def band(top: Points, bottom: Points) -> Points:
        line = np.stack([t * wide, top], axis=1)
        return np.concatenate([line, np.stack([t * wide, bottom], axis=1)[::-1]])

    canvas.fill(Part.U_LIP, band(levels[0], middle))
    canvas.fill(Part.L_LIP, band(middle, levels[3]))
    if gap < 0.02:
        canvas.stroke(Part.LIP_LINE, np.stack([t * wide * 0.97, middle], axis=1), 0.018)
        return
    canvas.fill(Part.MOUTH, band(levels[1], levels[2]))
    teeth = levels[1] + (levels[2] - levels[1]) * rng.uniform(0.2, 0.75)
    canvas.fill(Part.TEETH, band(levels[1], teeth) * (0.9, 1.0))
    if gap > 0.12:
        tongue = levels[2] - (levels[2] - levels[1]) * 0.22
        canvas.fill(Part.TONGUE, band(tongue, levels[2]) * (0.55, 1.0))


def _eyes(canvas: Canvas, s: dict[str, float], large: float, rng: np.random.Generator) -> None:
    wide = large * (0.21 + rng.normal(0, 0.012))
    squint = 0.008 * max(0.0, s["Smiling"])
    up = large * max(0.02, 0.064 - 0.023 * s["Narrow_Eyes"] - squint + rng.normal(0, 0.004))
    down = large * max(0.016, 0.040 - 0.010 * s["Narrow_Eyes"])
    tilt, gaze = rng.normal(0.012, 0.022), float(np.clip(rng.normal(0, 0.035), -0.08, 0.08))
    crease = rng.uniform(0.035, 0.065)
    for side in (1.0, -1.0):
        _eye(canvas, side, (wide, up, down, tilt, gaze), crease, large)


def _eye(
    canvas: Canvas, side: float, shape: tuple[float, ...], crease: float, large: float
) -> None:
    wide, up, down, tilt, gaze = shape
    letter = "L" if side > 0 else "R"
    white, lash, glint = Part[f"{letter}_EYE"], Part[f"{letter}_LASH"], Part[f"{letter}_GLINT"]
    x = side * 0.43

    def lid(across: Points, height: float) -> Points:
        rise = height * np.clip(1 - across**2, 0, 1) ** 0.75
        return np.asarray(rise - tilt * side * across)

    t = np.linspace(-1, 1, 17)
    upper = np.stack([x + wide * t, lid(t, -up)], axis=1)
    lower = np.stack([x + wide * t, lid(t, down)], axis=1)
    canvas.stroke(Part.CREASE, upper - (0.0, crease), 0.018)
    canvas.fill(white, np.concatenate([upper, lower[::-1]]))
    for part, radius in ((Part[f"{letter}_IRIS"], 0.1), (Part[f"{letter}_PUPIL"], 0.046)):
        disc = ellipse(x + gaze, -0.015, large * radius, large * radius)
        across = (disc[:, 0] - x) / wide
        # The lids cover the disc's top and bottom.
        disc[:, 1] = np.clip(disc[:, 1], lid(across, -up), lid(across, down))
        canvas.fill(part, disc)
    if up > 0.05 * large:
        canvas.fill(glint, ellipse(x + gaze + 0.03, -0.045, 0.02, 0.02))
    canvas.stroke(lash, upper, 0.028)


def _brows(canvas: Canvas, s: dict[str, float], large: float, rng: np.random.Generator) -> None:
    arch = max(0.0, 0.075 + 0.042 * s["Arched_Eyebrows"] + rng.normal(0, 0.008))
    thick = large * max(0.022, 0.078 + 0.022 * s["Bushy_Eyebrows"] + rng.normal(0, 0.004))
    height, slope = -0.30 + rng.normal(0, 0.035), rng.normal(0.02, 0.03)
    reach = rng.uniform(0.27, 0.33)
    t = np.linspace(-1, 1, 15)
    bend = np.where(t < 0.3, 1 - ((t - 0.3) / 1.3) ** 2, 1 - ((t - 0.3) / 0.7) ** 2)
    profile = thick * np.clip(np.minimum((t + 1.25) * 1.3, (1.06 - t) * 1.1), 0.05, 1)
    line = height - arch * bend + slope * t
    for side, part in ((1.0, Part.L_BROW), (-1.0, Part.R_BROW)):
        xs = side * (0.46 + reach * t)
        top = np.stack([xs, line - profile / 2], axis=1)
        bottom = np.stack([xs, line + profile / 2], axis=1)
        canvas.fill(part, np.concatenate([top, bottom[::-1]]))


def _hair_front(
    canvas: Canvas,
    bangs: float | None,
    build: Build,
    traits: Traits,
    rng: np.random.Generator,
) -> None:
    """Draw the cap of hair between its outer edge and the hairline, down over the ears if long."""
    wide, end = 1.0 + build.volume, float(np.clip(build.hair_end - 0.25, -0.15, 1.1))
    crown = -1.3 - build.volume
    line = -0.80 - 0.13 * traits.age * traits.masculine + rng.normal(0, 0.06)
    part = rng.uniform(-0.45, 0.45)
    outer = np.array(
        [
            (-wide * 1.0, end),
            (-wide, -0.3),
            (-0.78 * wide, -1.0),
            (0.0, crown),
            (0.78 * wide, -1.0),
            (wide, -0.3),
            (wide * 1.0, end),
        ]
    )
    near = 0.93 if end > 0.1 else 0.97
    sides = np.array([(near, end), (near, -0.15), (0.86, -0.52)])
    if bangs is None:
        top = np.array(
            [
                (0.5, line + 0.08 - 1.6 * build.receding),
                (part + 0.12, line - 0.05 - build.receding),
                (part - 0.12, line - 0.03 - build.receding),
                (-0.5, line + 0.08 - 1.6 * build.receding),
            ]
        )
    else:
        low = -0.60 + 0.07 * min(bangs, 2.0)
        xs = np.linspace(0.74, -0.74, 8)
        top = np.stack([xs, low + rng.normal(0, 0.04, 8) + 0.1 * part * xs], axis=1)
    inner = np.concatenate([sides, top, sides[::-1] * (-1.0, 1.0)])
    outline = _waved(smooth_open(outer), build)
    edge = smooth_open(inner)
    depth = np.concatenate([np.zeros(len(outline)), 0.7 * _surface(edge)])
    canvas.fill(Part.HAIR, np.concatenate([outline, edge]), depth)


def _earrings(canvas: Canvas, large: float, rng: np.random.Generator) -> None:
    yaw, hang = canvas.head.yaw, large * rng.uniform(0.04, 0.24)
    radius, hoop = large * rng.uniform(0.065, 0.1), rng.random() < 0.35
    for side in (1.0, -1.0):
        if yaw * side > 0.12:
            continue
        x, y = side * 1.06, 0.42
        if hoop:
            ring = ellipse(x, y + 0.12 * large, 0.12 * large, 0.15 * large)
            canvas.stroke(Part.EARRING, np.concatenate([ring, ring[:1]]), 0.05, 0.0)
            continue
        canvas.stroke(Part.EARRING, np.array([(x, y), (x, y + hang)]), 0.035, 0.0)
        canvas.fill(Part.EARRING, ellipse(x, y + hang, radius, radius * 1.15), 0.0)


def _glasses(canvas: Canvas, rng: np.random.Generator) -> None:
    depth = 0.72
    wide, high = rng.uniform(0.30, 0.37), rng.uniform(0.19, 0.28)
    power, thick = rng.uniform(0.5, 1.0), rng.uniform(0.03, 0.075)
    dark = rng.random() < 0.3
    tint = rng.uniform(0.65, 0.95) if dark else rng.uniform(0.05, 0.22)
    y = rng.uniform(0.0, 0.06)
    for side in (1.0, -1.0):
        rim = ellipse(side * 0.43, y, wide, high, power)
        canvas.lens(rim, depth, tint)
        canvas.stroke(Part.FRAME, np.concatenate([rim, rim[:2]]), thick, depth)
        if canvas.head.yaw * side < 0.35:
            arm = canvas.head.yaw * depth
            hinge = np.array([(side * (0.43 + wide), y - 0.03), (side * 1.0 - arm, y - 0.06)])
            canvas.stroke(Part.FRAME, hinge, thick, depth)
    inner = 0.43 - wide
    bridge = np.array([(-inner, y - 0.02), (0.0, y - 0.06), (inner, y - 0.02)])
    canvas.stroke(Part.FRAME, bridge, thick, depth)


def _hat(canvas: Canvas, rng: np.random.Generator) -> None:
    rim, high = rng.uniform(-0.72, -0.52), rng.uniform(1.5, 1.95)
    square = rng.uniform(0.6, 0.95)
    half = np.array(
        [
            (0.0, -high),
            (square * 0.8, -0.97 * high),
            (1.12, -1.15),
            (1.16, rim - 0.1),
            (0.75, rim + 0.04),
            (0.0, rim + 0.09),
        ]
    )
    canvas.fill(Part.HAT, smooth(mirrored(half)), 0.0)
    t = np.linspace(-1, 1, 21)
    if rng.random() < 0.6:
        low = rim - 0.08 + 0.1 * (1 - t**2)
        canvas.stroke(Part.HAT_BAND, np.stack([1.14 * t, low], axis=1), rng.uniform(0.1, 0.24), 0.0)
    style = rng.random()
    if style < 0.4:
        canvas.fill(
            Part.HAT, ellipse(0.0, rim, rng.uniform(1.45, 1.85), rng.uniform(0.1, 0.2)), 0.1
        )
    elif style < 0.75:
        canvas.fill(Part.HAT, ellipse(0.0, rim, 0.95, rng.uniform(0.12, 0.2)), 0.5)
