"""Proportions of photographed faces, for the drawn ones that networks learn from.

The means are those of photographs as CelebA aligns and crops them, over hundreds of faces: no
single face is in them. Spread is wider than in life, so that a network must look.
"""

from typing import Final

import numpy as np

from sspl.data.synthetic.face import Build, Neckline, Pose, Proportions, Warp
from sspl.data.synthetic.traits import Traits, chance, with_more

_DRAWN: Final = (-1.47, -0.80, -0.30, 0.0, 0.55, 0.80, 1.28)
_SEEN: Final = (-1.75, -0.99, -0.18, 0.0, 0.67, 0.95, 1.58)
"""Heights of crown, hairline, brow, eyes, end of the nose, mouth and chin; eyes are 0.86 apart."""
_STEP: Final = 0.05
_FAR: Final = 8.0
_SWINGS: Final = 5
_BELOW: Final = 0.6
"""How much nearer shoulders are to the chin than in the drawing."""


def draw_warp(rng: np.random.Generator) -> Warp:
    """Draw how one face departs from the drawing."""
    gaps = np.diff(_SEEN) * np.exp(rng.normal(0, 0.10, len(_SEEN) - 1))
    seen = np.concatenate([[0.0], np.cumsum(gaps)])
    seen = (seen - seen[_DRAWN.index(0.0)]) * np.exp(rng.normal(0, _STEP))
    drawn = np.array([_DRAWN[0] - _FAR, *_DRAWN, _DRAWN[-1] + _FAR])
    heights = np.stack([drawn, [seen[0] - _FAR, *seen, seen[-1] + _BELOW * _FAR]], axis=1)
    swings = [rng.normal(0, 2.2, (_SWINGS, 2)), rng.uniform(0, 2 * np.pi, (_SWINGS, 1))]
    return Warp(heights, np.concatenate([*swings, rng.normal(0, 0.022, (_SWINGS, 2))], axis=1))


def draw_likeness_pose(rng: np.random.Generator) -> tuple[Pose, Pose]:
    """Draw the poses of head and body of a face that was aligned by its eyes."""
    warp = draw_warp(rng)
    scale = 0.28 * float(np.exp(rng.normal(0, 0.09)))
    yaw = float(np.clip(rng.normal(0, 0.35), -0.75, 0.75))
    pitch = float(np.clip(rng.normal(0, 0.14), -0.35, 0.35))
    roll = float(np.clip(rng.normal(0, 0.07), -0.25, 0.25))
    # Alignment keeps the eyes in their place, however the head is turned.
    x = 0.5 + rng.normal(0, 0.015) - 0.6 * scale * np.sin(yaw)
    y = 0.48 + rng.normal(0, 0.015) + 0.6 * scale * np.sin(pitch)
    head = Pose(scale, float(x), float(y), roll, yaw, pitch, warp)
    lean = rng.normal(0, 0.15)
    return head, Pose(scale, float(x + 0.1 * lean), float(y), roll * 0.4 + 0.3 * lean, 0, 0, warp)


def grown_up(traits: Traits, rng: np.random.Generator) -> Traits:
    """Draw what the plain drawing does not show: hairline, stubble, sideburns, make-up, cheeks."""
    man, age, s = traits.masculine, traits.age, traits.strength
    more = {
        "Receding_Hairline": chance(rng, man * (0.05 + 0.45 * age), 0.25),
        "5_o_Clock_Shadow": chance(rng, 0.25 * man, 0.3),
        "Sideburns": chance(rng, 0.2 * man, 0.0),
        "Heavy_Makeup": chance(rng, 0.8 if s["Wearing_Lipstick"] > 0 else 0.06, 0.3),
        "High_Cheekbones": chance(rng, 0.75 if s["Smiling"] > 0 else 0.25, 0.3),
        "Chubby": chance(rng, 0.12, 0.3),
        "Young": 6 * (0.6 - age),
        "Straight_Hair": -0.9 - s["Wavy_Hair"],
    }
    grown = with_more(traits, more)
    hairless = grown.labels["Bald"] | grown.labels["Wearing_Hat"] | grown.labels["Bangs"]
    grown.labels["Receding_Hairline"] &= not hairless
    for name in ("Straight_Hair", "Sideburns"):
        grown.labels[name] &= not grown.labels["Bald"]
    return grown


def draw_neckline(rng: np.random.Generator) -> Neckline:
    """Draw clothes from a collar at the jaw to a bare shoulder."""
    top = float(rng.uniform(-0.4, 0.3) if rng.random() < 0.35 else rng.uniform(0.1, 1.5))
    return Neckline(top, top + float(1.1 * rng.random() ** 2), float(rng.uniform(0.2, 1.7)))


def draw_likeness(traits: Traits, rng: np.random.Generator) -> Build:
    """Draw the shared measures of one face."""

    def about(mean: float, spread: float = 0.12) -> float:
        return float(mean * np.exp(rng.normal(0, spread)))

    man = traits.masculine
    long_hair = rng.normal(0.3, 0.4) if man else rng.normal(1.8, 0.8)
    return Build(
        length=1.0 + 0.03 * traits.strength["Oval_Face"] + rng.normal(0, 0.02),
        jaw=0.70
        + 0.05 * man
        - 0.04 * traits.strength["Oval_Face"]
        + 0.06 * max(0.0, traits.strength["Chubby"])
        + rng.normal(0, 0.05),
        hair_end=float(np.clip(long_hair, -0.1, 3.4)),
        volume=float(np.clip(rng.normal(0.36, 0.17), 0.03, 0.9)),
        wave=max(0.0, 0.035 + 0.030 * traits.strength["Wavy_Hair"]),
        wave_phase=rng.uniform(0, 6),
        parts=Proportions(
            eye=about(0.77),
            brow=about(1.7, 0.25),
            nose=about(1.2),
            mouth=about(1.1),
            lips=about(1.2, 0.18),
            ear=about(1.55, 0.15),
            neck=about(1.3, 0.15),
            earring=about(1.6, 0.4),
        ),
        neckline=draw_neckline(rng),
        receding=0.1 + 0.06 * traits.strength["Receding_Hairline"]
        if traits.labels["Receding_Hairline"]
        else 0.0,
    )
