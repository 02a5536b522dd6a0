"""Which classes are of the eyes, the nose and the mouth, by their names."""

import re
from collections.abc import Callable, Mapping
from typing import Final

_EYE: Final = re.compile(
    r"(?<![a-z])(?:left|right|l|r)?eyes?(?:left|right|l|r)?(?![a-z])|pupil|iris"
)
_NOSE: Final = re.compile(r"nose|nostril")
_MOUTH: Final = re.compile(
    r"mouth|teeth|tongue|(?<![a-z])(?:u|l|upper|lower|top|bottom)?lips?(?![a-z])"
)
_SHORT_EYES: Final = frozenset({"le", "re"})
_GLASSES: Final = re.compile(r"glass|(?<![a-z])eye_?g(?![a-z])")


def _plain(name: str) -> str:
    """Return a name in small letters, its words apart: `left_eye` of `LeftEye`."""
    return re.sub(r"[\W_]+", "_", re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name)).lower()


def _is_eye(name: str) -> bool:
    plain = _plain(name)
    return not _GLASSES.search(plain) and (plain in _SHORT_EYES or bool(_EYE.search(plain)))


SMALL_PARTS: Final[Mapping[str, Callable[[str], bool]]] = {
    "eyes": _is_eye,
    "nose": lambda name: bool(_NOSE.search(_plain(name))),
    "mouth": lambda name: bool(_MOUTH.search(_plain(name))),
}
"""Parts that every face shows and that are small: whether a class of this name is of it."""
