"""Names of attributes and classes as people read them."""

from typing import Final

ABBREVIATED: Final = {
    "5_o_Clock_Shadow": "5 o'clock shadow",
    "l_brow": "left brow",
    "r_brow": "right brow",
    "l_eye": "left eye",
    "r_eye": "right eye",
    "eye_g": "glasses",
    "l_ear": "left ear",
    "r_ear": "right ear",
    "ear_r": "earring",
    "u_lip": "upper lip",
    "l_lip": "lower lip",
    "neck_l": "necklace",
    "cloth": "clothes",
}
"""Names of CelebA's attributes and CelebAMask-HQ's classes that say too little by themselves."""


def in_words(name: str) -> str:
    """Return a name with spaces, and large letters at its beginning alone.

    Examples:
        >>> in_words("Wearing_Lipstick"), in_words("HDR_Light"), in_words("eye_g")
        ('Wearing lipstick', 'HDR light', 'glasses')
    """
    if name in ABBREVIATED:
        return ABBREVIATED[name]
    first, *rest = name.split("_")
    return " ".join([first, *(w.lower() if len(w) > 1 and w.istitle() else w for w in rest)])
