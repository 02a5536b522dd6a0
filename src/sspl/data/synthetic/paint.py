"""What all ways of painting a drawn face share: colours, shares of pixels, beard, glass."""

from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sspl.data.synthetic.face import OVERSAMPLING, Canvas, Part, Pose, class_table
from sspl.data.synthetic.traits import Traits
from sspl.domain.taxonomy import built_in_taxonomy

Plane = NDArray[np.float32]

_SKIN_STOPS: Final = np.array(
    [(250, 226, 214), (236, 196, 172), (214, 164, 134), (176, 122, 90), (120, 78, 56), (78, 50, 38)]
)


def semantic_mask(canvas: Canvas) -> NDArray[np.uint8]:
    """Read the class at every pixel's centre."""
    middle = slice(OVERSAMPLING // 2, None, OVERSAMPLING)
    parts = np.asarray(canvas.parts)[middle, middle]
    glass = np.asarray(canvas.lenses)[middle, middle] > 0
    # A hat's brim is the only thing in front of glasses.
    glass &= ~np.isin(parts, (Part.HAT, Part.HAT_BAND))
    mask: NDArray[np.uint8] = class_table()[parts]
    mask[glass] = built_in_taxonomy("celebamask19").index("eye_g")
    return mask


def skin_colour(traits: Traits, rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw the RGB of a face's skin, from pale to dark."""
    pale = traits.strength["Pale_Skin"]
    darker = 0.5 * rng.exponential()
    tone = 0.6 - 0.4 * pale if pale > 0 else 0.9 + 0.5 * (-pale - 0.3) + darker
    tone = float(np.clip(tone, 0.0, 4.8))
    rgb = [np.interp(tone, np.arange(6), _SKIN_STOPS[:, c]) for c in range(3)]
    return np.clip(np.array(rgb) + rng.normal(0, 4, 3), 0, 255)


def dye(rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw the RGB of cloth or of a wall: any brightness, seldom a loud colour."""
    return np.clip(rng.uniform(20, 235) + rng.normal(0, 38, 3), 5, 250)


def flat_colours(traits: Traits, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return uint8 (256, 3): the flat colour of each part."""
    skin, hair = skin_colour(traits, rng), np.array(traits.hair)
    paint = float(np.clip(0.4 + 0.3 * traits.strength["Wearing_Lipstick"], 0.0, 0.95))
    stick = np.array([rng.uniform(140, 215), rng.uniform(15, 80), rng.uniform(40, 110)])
    lips = (1 - paint) * skin * (0.86, 0.66, 0.64) + paint * stick
    iris = np.array([(70, 45, 30), (95, 65, 40), (85, 110, 140), (90, 115, 80)])[rng.integers(4)]
    white = np.array([236.0, 232, 228])
    metal = np.array([(225, 190, 90), (215, 215, 222), (235, 232, 225), (160, 40, 60)])
    cloth, hat = dye(rng), dye(rng)
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


def share_of(canvas: Canvas, parts: frozenset[Part]) -> Plane:
    """Return float32 (size, size): how much of each pixel the parts cover, 0 to 1."""
    table = np.zeros(256, dtype=np.uint8)
    table[list(parts)] = 255
    covered = Image.fromarray(table[np.asarray(canvas.parts)])
    return np.asarray(covered.reduce(OVERSAMPLING), dtype=np.float32) / np.float32(255)


def face_axes(pose: Pose, size: int) -> tuple[Plane, Plane]:
    """Return face coordinates x, y of every pixel centre, each float32 (size, size)."""
    along = (np.arange(size, dtype=np.float32) + 0.5) / size
    x, y = along[None, :] - np.float32(pose.x), along[:, None] - np.float32(pose.y)
    cos, sin = np.float32(np.cos(pose.roll)), np.float32(np.sin(pose.roll))
    unit = np.float32(1.0 / pose.scale)
    across = np.asarray((cos * x + sin * y) * unit, dtype=np.float32)
    return across, np.asarray((cos * y - sin * x) * unit, dtype=np.float32)


def spot(x: Plane, y: Plane, at: tuple[float, float], wide: float, high: float) -> Plane:
    """Return a soft spot, 1 at its middle."""
    spot: Plane = np.exp(
        -(((x - np.float32(at[0])) / np.float32(wide)) ** 2)
        - ((y - np.float32(at[1])) / np.float32(high)) ** 2
    )
    return spot


def both_sides(x: Plane, y: Plane, at: tuple[float, float], wide: float, high: float) -> Plane:
    """Return a spot and its mirror image across the middle of the face."""
    across, down = at
    return spot(x, y, at, wide, high) + spot(x, y, (-across, down), wide, high)


def on_face(pose: Pose, x: Plane, y: Plane) -> tuple[Plane, Plane]:
    """Return coordinates that follow the face as it turns."""
    turn, nod = float(np.sin(pose.yaw)), float(-np.sin(pose.pitch))
    return x - np.float32(0.62 * turn), y - np.float32(0.62 * nod)


def looked_up(table: Plane, place: Plane) -> Plane:
    """Return the values of an endless table (n,) at places of 0 to n, between entries too."""
    whole = place.astype(np.int32)
    along = place - whole
    n = len(table)
    found: Plane = table[whole % n] * (1 - along) + table[(whole + 1) % n] * along
    return found


def painted(canvas: Canvas, colours: NDArray[np.uint8], behind: Image.Image, size: int) -> Plane:
    """Return float32 (size, size, 3): flat colours before a backdrop, edges smoothed."""
    indexed = canvas.parts.copy()
    indexed.putpalette(colours.tobytes())
    flat = np.asarray(indexed.convert("RGB").reduce(OVERSAMPLING), dtype=np.float32)
    empty = share_of(canvas, frozenset({Part.BACKGROUND}))[..., None]
    scene = np.asarray(behind.resize((size, size), Image.Resampling.BICUBIC), dtype=np.float32)
    picture: Plane = flat + empty * scene
    return picture


def grow_beard(picture: Plane, canvas: Canvas, traits: Traits, rng: np.random.Generator) -> Plane:
    """Lay the beard over a picture, as dense as it grows."""
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


def glaze(picture: Plane, canvas: Canvas, x: Plane, y: Plane, rng: np.random.Generator) -> Plane:
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
