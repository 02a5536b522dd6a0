"""Attribute names and the face region of each."""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, Final

import yaml

from sspl.domain.regions import REGIONS, WHOLE
from sspl.errors import DataError
from sspl.settings.yaml_files import read_yaml

TAKEN: Final = frozenset(
    {
        "image", "split", "source", "frame", "seconds", "face", "left", "top", "right", "bottom",
        "score", "rotation", "scale",
    }
)  # fmt: skip
"""Columns that tables of faces have besides their attributes."""

PROBABILITY: Final = "_probability"
"""What the column of an attribute's probability ends in."""

_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")

_BLANK: Final = re.compile(r"[\u00a0\u2000-\u200a\u202f\u205f\u3000]")
"""Blanks that look like the one of the space bar."""

_UNSEEN: Final = re.compile("[\u00ad\u200b\u2060\ufeff]")
"""Signs without width: a soft hyphen, zero-width blanks, byte order marks."""

_JOINERS: Final = re.compile("[\u200c-\u200f]")
"""Signs without width that some scripts are written with."""

_REPEATED: Final = re.compile(r"\.[1-9]\d*$")


def attribute_fault(names: Sequence[str]) -> str | None:
    """Return why names cannot be those of attributes, None where they can.

    Each is a column of tables, beside one for its probability: it may not be called as another
    column, nor begin as a spreadsheet's formula.
    """
    for name, times in Counter(names).items():
        if times > 1:
            return f"attribute '{name}' is listed twice; give each once"
        if not name.strip() or _CONTROL.search(name):
            return f"{name!r} cannot be the name of an attribute; use letters that are seen"
        if name[0] in "=+-@":
            return f"attribute '{name}' begins like a formula of a spreadsheet; rename it"
        if name.casefold() in TAKEN:
            return (
                f"'{name}' cannot be the name of an attribute, for result tables have a column of "
                "that name; rename it"
            )
    for name in set(names) & {f"{other}{PROBABILITY}" for other in names}:
        return f"attribute '{name}' is called as the probability of another would be; rename it"
    return None


def likeness_fault(names: Sequence[str]) -> str | None:
    """Return which two names are hardly those of two attributes, None where all may be.

    They differ by case or by signs that are not seen, or are what pandas makes of a column that
    is there twice, such as `Male.1` beside `Male`.
    """
    seen: dict[str, str] = {}
    for name in names:
        other = seen.setdefault(_as_seen(name).casefold(), name)
        if other != name:
            same = _as_seen(name) == _as_seen(other)
            what = "signs that are not seen" if same else "capital and small letters"
            return f"attributes {other!r} and {name!r} differ by {what} alone; rename one"
    for name in names:
        first = _REPEATED.sub("", name)
        if first != name and first in names:
            return f"attribute '{name}' is what pandas calls a second '{first}'; rename one"
    return None


def plain_name(text: str) -> str:
    """Return a name as it looks: plain blanks, none at its ends, all signs seen."""
    return _UNSEEN.sub("", _BLANK.sub(" ", text)).strip()


def _as_seen(name: str) -> str:
    plain = unicodedata.normalize("NFC", _JOINERS.sub("", plain_name(name)))
    return " ".join(plain.split())


@dataclass(frozen=True)
class AttributeSchema:
    """An ordered list of binary attributes and the face region where each shows.

    Args:
        names: attribute names, unique, in the order of every label and score array.
        regions: for each attribute one of `sspl.domain.regions.REGIONS`.

    Examples:
        >>> schema = AttributeSchema(("Smiling", "Bangs"), ("lower", "upper"))
        >>> schema.index("Bangs"), schema.group("lower")
        (1, (0,))
    """

    names: tuple[str, ...]
    regions: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(self.names) != len(self.regions):
            raise DataError("an attribute schema needs one region for each name.")
        fault = attribute_fault(self.names)
        if fault:
            raise DataError(f"{fault}.")
        for name, region in zip(self.names, self.regions, strict=True):
            if region not in REGIONS:
                raise DataError(
                    f"attribute '{name}' has region '{region}'; use {', '.join(REGIONS)}."
                )

    def __len__(self) -> int:
        return len(self.names)

    def index(self, name: str) -> int:
        """Return the place of an attribute; raise `DataError` when it is unknown."""
        try:
            return self.names.index(name)
        except ValueError:
            raise DataError(
                f"unknown attribute '{name}'; known are {', '.join(self.names)}."
            ) from None

    def group(self, region: str) -> tuple[int, ...]:
        """Return the places of the attributes of one region, in schema order."""
        return tuple(i for i, r in enumerate(self.regions) if r == region)


def parse_schema(content: Any, where: str) -> AttributeSchema:
    """Build a schema from parsed YAML: `attributes: {name: region}` or a list of names."""
    attributes = content.get("attributes") if isinstance(content, dict) else None
    if isinstance(attributes, list | dict):
        names = tuple(str(name) for name in attributes)
        if fault := likeness_fault(names):
            raise DataError(f"{where}: {fault}.")
    if isinstance(attributes, list):
        return AttributeSchema(names, (WHOLE,) * len(names))
    if not isinstance(attributes, dict) or not attributes:
        raise DataError(f"{where}: expected 'attributes:' with one 'name: region' a line.")
    return AttributeSchema(names, tuple(str(r or WHOLE) for r in attributes.values()))


def _packaged(name: str) -> AttributeSchema:
    file = resources.files("sspl.domain") / "schemas" / f"{name}.yaml"
    return parse_schema(yaml.safe_load(file.read_text(encoding="utf-8")), name)


@cache
def celeba_schema() -> AttributeSchema:
    """CelebA's 40 attributes in official order (docs/method.md#attribute-regions).

    Examples:
        >>> len(celeba_schema()), celeba_schema().names[0]
        (40, '5_o_Clock_Shadow')
    """
    return _packaged("celeba")


@cache
def maad_schema() -> AttributeSchema:
    """MAAD-Face's 47 attributes (docs/method.md#attribute-regions).

    Examples:
        >>> schema = maad_schema()
        >>> len(schema), schema.regions[schema.index("Mouth_Closed")]
        (47, 'lower')
    """
    return _packaged("maad")


@cache
def attribute_hints() -> dict[str, str]:
    """Return where to look for each of CelebA's attributes: hints of ours, not definitions.

    Examples:
        >>> attribute_hints()["Bangs"]
        'hair across the forehead'
    """
    file = resources.files("sspl.domain") / "schemas" / "hints.yaml"
    return dict(yaml.safe_load(file.read_text(encoding="utf-8")))


def load_schema(path: Path) -> AttributeSchema:
    """Read a user's schema file; raises `DataError` when it is missing or malformed.

    Examples:
        >>> _ = Path("schema.yaml").write_text("attributes: {Smiling: lower, Mole: }")
        >>> load_schema(Path("schema.yaml")).regions
        ('lower', 'whole')
    """
    if not path.is_file():
        raise DataError(f"{path}: no such schema file.")
    return parse_schema(read_yaml(path), str(path))


def schema_for(names: Iterable[str]) -> AttributeSchema:
    """Return a schema for names in their order: CelebA's and MAAD-Face's regions, else whole."""
    known: dict[str, str] = {}
    for schema in (maad_schema(), celeba_schema()):
        known |= dict(zip(schema.names, schema.regions, strict=True))
    names = tuple(names)
    return AttributeSchema(names, tuple(known.get(n, WHOLE) for n in names))
