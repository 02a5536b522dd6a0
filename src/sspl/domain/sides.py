"""Which classes of a list are each other's left and right, by their names."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final

_WORD: Final = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+|[^\W\d_]+")
"""A word of a name: `LEFT`, `left`, `Left` of `LeftEye`, `L` of `LEye`."""

_OTHER: Final = {"left": "right", "right": "left", "l": "r", "r": "l"}
_FOREIGN: Final = {
    "lt": "rt", "lf": "rt", "lft": "rgt", "links": "rechts", "linke": "rechte", "linkes": "rechtes",
    "linker": "rechter", "gauche": "droite", "izquierdo": "derecho", "izquierda": "derecha",
    "sinistra": "destra", "sinistro": "destro",
}  # fmt: skip
"""Other words for left and right."""
_LONG: Final = ("left", "right")

_DOUBLE: Final = frozenset({
    "b", "br", "brow", "brows", "eb", "eyebrow", "eyebrows", "e", "ey", "eye", "eyes", "eyelid",
    "r", "ea", "ear", "ears", "earring", "c", "cheek", "cheeks", "i", "iris", "p", "pupil",
})  # fmt: skip
"""What a face has twice, as one letter may stand right before it: `lb`, `leye`, `lr`."""

_LIPS: Final = frozenset({"lip", "lips"})
"""Before these `l` is for lower, as in CelebAMask-HQ's l_lip."""

_NO_SIDE: Final = frozenset({("neck", "l"), ("ear", "r")})
"""CelebAMask-HQ's necklace and earring."""

_Words = tuple[str, ...]


def side_pairs(classes: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Return the pairs (left, right) of classes, in the order of the left ones.

    Sides may be written left and right, before or after, apart or not (`left_eye`, `EyeLeft`,
    `LEFT EYE`, `lefteye`), as a letter apart (`l-eye`, `eye_l`), or as a letter right before a part
    that a face has twice (`leye`, `lb`). `l_lip` is the lower lip and has no counterpart.
    """
    there: dict[_Words, str | None] = {}
    for name in classes:
        words = _words(name)
        there[words] = None if words in there else name  # two of one spelling pair with none
    pairs = []
    for name in classes:
        for right in _of_other_side(_words(name), "left", "l"):
            other = there.get(right)
            if other is not None and there[_words(name)] == name:
                pairs.append((name, other))
                break
    return tuple(pairs)


def unpaired_sides(classes: Sequence[str], pairs: Iterable[tuple[str, str]]) -> tuple[str, ...]:
    """Return the classes whose names seem to speak of a side, but that are in none of the pairs.

    So do two that differ by an l and an r alone, or by a figure, where a face has two of the part.
    """
    paired = {name for pair in pairs for name in pair}
    alone = [c for c in classes if c not in paired]
    spelt = {c: "".join(_words(c)) for c in alone}
    stems = Counter(map(_without_figures, spelt.values()))

    def has_a_twin(text: str) -> bool:
        stem = _without_figures(text)
        numbered = stem != text and stem in _DOUBLE and stems[stem] > 1
        return numbered or any(twin in spelt.values() for twin in _mirrored(text))

    return tuple(c for c in alone if _speaks_of_a_side(_words(c)) or has_a_twin(spelt[c]))


def _without_figures(text: str) -> str:
    return re.sub(r"\d+", "", text)


def _mirrored(text: str) -> list[str]:
    """Return a name of four letters or more with l for r, or r for l, at either end."""
    ends = {0, len(text) - 1} if len(text) > 3 else set[int]()
    return [text[:i] + _OTHER[text[i]] + text[i + 1 :] for i in ends if text[i] in ("l", "r")]


def _words(name: str) -> _Words:
    return tuple(word.casefold() for word in _WORD.findall(name))


def _of_other_side(words: _Words, long: str, letter: str) -> list[_Words]:
    """Return how the counterpart of a name of the side `long` (or `letter`) would be spelt."""
    found = []
    if any(long in word for word in words):
        found.append(tuple(word.replace(long, _OTHER[long]) for word in words))
    if letter in words and not _LIPS & set(words) and len(words) > 1:
        found.append(tuple(_OTHER[word] if word == letter else word for word in words))
    for i, word in enumerate(words):
        if word[:1] == letter and word[1:] in _DOUBLE:
            found.append((*words[:i], _OTHER[letter] + word[1:], *words[i + 1 :]))
        if word[-1:] == letter and len(word) > 3 and word[:-1] in _DOUBLE:
            found.append((*words[:i], word[:-1] + _OTHER[letter], *words[i + 1 :]))
        if word in _FOREIGN:
            found.append((*words[:i], _FOREIGN[word], *words[i + 1 :]))
    return found


def _speaks_of_a_side(words: _Words) -> bool:
    if words in _NO_SIDE:
        return False
    letters = {"l", "r"} & set(words) if len(words) > 1 else set[str]()
    if _LIPS & set(words):
        letters -= {"l"}
    return bool(letters) or any(map(_holds_a_side, words))


def _holds_a_side(word: str) -> bool:
    """Tell it of one word; two or three letters that pair with none may mean anything."""
    if word.startswith(_LONG):
        return True
    rests = [word.removesuffix(side) for side in _LONG if word.endswith(side)]
    rests += [word[1:]] if word[:1] in ("l", "r") else []
    return any(len(rest) > 2 and rest in _DOUBLE for rest in rests)
