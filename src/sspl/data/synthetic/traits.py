"""What a synthetic face is: attribute strengths and the labels that follow from them.

Every attribute has a signed strength; the label is `strength > 0` and the drawing code turns
the strength into a width, a curve or a colour. Rules where attributes touch each other:

- `No_Beard` is exactly "neither `Mustache` nor `Goatee`"; faint stubble counts as no beard.
- At most one hair colour is 1, none on a bald head; some colours (reds) have no name.
- `Bald` means that no hair is drawn, under a hat too, so a hat does not change it.
- A hat covers the forehead: `Wearing_Hat` implies not `Bangs`. Hair colour and wave stay
  as they are, since hair shows below the hat.
- Earrings are drawn on the side turned to the viewer, outside the hair: always in sight.
- A necklace is hung high enough to be in the frame.
"""

from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import Final

import numpy as np

from sspl.domain.attributes import celeba_schema

HAIR_COLOURS: Final = ("Black_Hair", "Blond_Hair", "Brown_Hair", "Gray_Hair")

# Name: (rate of feminine faces, rate of masculine faces, gap kept around the threshold).
_RATES: Final = {
    "Arched_Eyebrows": (0.42, 0.08, 0.25),
    "Bags_Under_Eyes": (0.14, 0.30, 0.3),
    "Big_Lips": (0.32, 0.14, 0.25),
    "Big_Nose": (0.12, 0.40, 0.25),
    "Blurry": (0.07, 0.07, 0.2),
    "Bushy_Eyebrows": (0.06, 0.30, 0.25),
    "Eyeglasses": (0.07, 0.18, 0.0),
    "Narrow_Eyes": (0.14, 0.15, 0.3),
    "Oval_Face": (0.36, 0.20, 0.25),
    "Pale_Skin": (0.10, 0.05, 0.3),
    "Rosy_Cheeks": (0.16, 0.02, 0.3),
    "Smiling": (0.55, 0.40, 0.25),
    "Wavy_Hair": (0.44, 0.15, 0.25),
    "Wearing_Earrings": (0.34, 0.03, 0.0),
    "Wearing_Hat": (0.05, 0.12, 0.0),
    "Wearing_Lipstick": (0.78, 0.02, 0.25),
    "Wearing_Necklace": (0.22, 0.03, 0.0),
}
_RULED: Final = ("Bald", "Bangs", "Goatee", "Mouth_Slightly_Open", "Mustache", "No_Beard")

SYNTHETIC_ATTRIBUTES: Final = tuple(
    name for name in celeba_schema().names if name in {*_RATES, *_RULED, *HAIR_COLOURS}
)
"""Attribute names, a subset of CelebA's, in CelebA's order."""


@dataclass(frozen=True)
class Traits:
    """The attributes of one face before it is drawn.

    Args:
        strength: attribute to signed strength, in standard deviations from its threshold.
        masculine: 0.0 or 1.0; drives rates and shape, and is not a label.
        age: 0 to 1.
        hair: RGB of the hair, 0 to 255.
        labels: every name in `SYNTHETIC_ATTRIBUTES` to its truth.
    """

    strength: dict[str, float]
    masculine: float
    age: float
    hair: tuple[float, float, float]
    labels: dict[str, bool]


def chance(rng: np.random.Generator, rate: float, gap: float) -> float:
    """Draw a strength that is above 0 at a rate of 0 to 1, and `gap` or more away from 0."""
    value = rng.normal() - NormalDist().inv_cdf(1.0 - min(max(rate, 0.002), 0.998))
    return float(value + (gap if value > 0 else -gap))


def _hair_colour(
    rng: np.random.Generator, age: float
) -> tuple[str | None, tuple[float, float, float]]:
    """Draw a colour name (None: no CelebA name) and an RGB near that name's middle."""
    gray = 0.3 * max(0.0, age - 0.55) / 0.45
    names = ("Black_Hair", "Brown_Hair", "Blond_Hair", "Gray_Hair", None)
    share = np.array([0.30, 0.26, 0.18, gray, 0.16])
    name = names[rng.choice(5, p=share / share.sum())]
    middle, spread = {
        "Black_Hair": ((34, 29, 30), 9),
        "Brown_Hair": ((98, 64, 42), 15),
        "Blond_Hair": ((203, 164, 98), 18),
        "Gray_Hair": ((152, 150, 150), 20),
        None: ((138, 62, 34), 18),
    }[name]
    level = rng.normal(0, spread)
    red, green, blue = (float(np.clip(c + level + rng.normal(0, 5), 8, 240)) for c in middle)
    return name, (red, green, blue)


def draw_traits(rng: np.random.Generator) -> Traits:
    """Draw the attributes of one face; the same generator state gives the same face."""
    masculine = float(rng.random() < 0.45)
    age = float(rng.random())
    s = {
        name: chance(rng, masculine * male + (1 - masculine) * female, gap)
        for name, (female, male, gap) in _RATES.items()
    }
    smiling = s["Smiling"] > 0
    s["Mouth_Slightly_Open"] = chance(rng, 0.66 if smiling else 0.28, 0.25)
    s["Bald"] = chance(rng, masculine * (0.04 + 0.2 * age), 0.0)
    s["Bangs"] = chance(rng, 0.12 if masculine else 0.27, 0.25)
    s["Mustache"] = chance(rng, masculine * 0.24, 0.2)
    s["Goatee"] = chance(rng, masculine * (0.5 if s["Mustache"] > 0 else 0.12), 0.2)
    colour, hair = _hair_colour(rng, age)
    labels = {name: value > 0 for name, value in s.items()}
    labels["Bangs"] &= not (labels["Wearing_Hat"] or labels["Bald"])
    labels["Wavy_Hair"] &= not labels["Bald"]
    labels["No_Beard"] = not (labels["Mustache"] or labels["Goatee"])
    labels |= {name: name == colour and not labels["Bald"] for name in HAIR_COLOURS}
    return Traits(s, masculine, age, hair, {name: labels[name] for name in SYNTHETIC_ATTRIBUTES})


def with_more(traits: Traits, strength: dict[str, float]) -> Traits:
    """Return the face with further attributes, its labels in CelebA's order."""
    labels = traits.labels | {name: value > 0 for name, value in strength.items()}
    ordered = {name: labels[name] for name in celeba_schema().names if name in labels}
    return replace(traits, strength=traits.strength | strength, labels=ordered)
