"""Semantic class lists of face-parsing data sets, and the way from one to another by name."""

import logging
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, Final

import numpy as np
import yaml

from sspl.domain.regions import REGIONS, WHOLE
from sspl.domain.sides import side_pairs, unpaired_sides
from sspl.errors import DataError
from sspl.io.files import read_text
from sspl.settings.yaml_files import read_yaml

log = logging.getLogger(__name__)

BUILT_IN: Final = ("celebamask19", "lapa11", "fasseg6")
BACKGROUND: Final = "background"
MAX_CLASSES: Final = 255
UNKNOWN: Final = 255
"""Mask value that means "no class known here"; never a class id."""

FORMS: Final = {
    "classes": "[background, skin, ...]",
    "mirror": "[[l_eye, r_eye], ...]",
    "regions": "{upper: [hair, ...], ...}",
    "from": "{celebamask19: {l_eye: eyes, ...}, ...}",
}


def called(name: str, classes: Collection[str]) -> str | None:
    """Return the class of this name, else the only one that differs by case; None without one.

    Examples:
        >>> called("background", ["Background", "Skin"])
        'Background'
    """
    if name in classes:
        return name
    alike = [other for other in classes if other.casefold() == name.casefold()]
    return alike[0] if len(alike) == 1 else None


@dataclass(frozen=True)
class Taxonomy:
    """An ordered list of semantic classes; a class's id is its place in it.

    Args:
        name: short name, such as `celebamask19`.
        classes: class names in id order; one of them is `background`. Case does not count where
            one is looked for, unless two differ by nothing else.
        mirror: pairs of classes that trade places when a picture is flipped left to right
            (`side_pairs` finds them by name where a file gives none).
        regions: face region to the class names it holds, for region-wise PCT; no class twice.
        sources: other taxonomy's name to {its class: our class}, for classes named otherwise.

    Examples:
        >>> classes, sides = ("background", "left", "right"), (("left", "right"),)
        >>> taxonomy = Taxonomy("halves", classes, mirror=sides)
        >>> taxonomy.mirror_table()[:3].tolist()
        [0, 2, 1]
    """

    name: str
    classes: tuple[str, ...]
    mirror: tuple[tuple[str, str], ...] = ()
    regions: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    sources: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if len(set(self.classes)) != len(self.classes):
            raise DataError(f"taxonomy {self.name}: a class is listed twice; give each once.")
        if not 2 <= len(self.classes) <= MAX_CLASSES:
            raise DataError(f"taxonomy {self.name}: needs 2 to {MAX_CLASSES} classes.")
        named = [c for pair in self.mirror for c in pair]
        named += [c for region in self.regions.values() for c in region]
        named += [c for source in self.sources.values() for c in source.values()]
        for class_name in [BACKGROUND, *named]:
            self.index(class_name)
        paired = Counter(self._own(c) for pair in self.mirror for c in pair)
        for class_name, times in paired.items():
            if times > 1:
                raise DataError(
                    f"taxonomy {self.name}: class '{class_name}' is listed twice under mirror; "
                    "a class trades places with one other."
                )
        for region in self.regions:
            if region not in REGIONS:
                raise DataError(
                    f"taxonomy {self.name}: unknown region '{region}'; use {', '.join(REGIONS)}."
                )
        placed = Counter(self._own(c) for r in self.regions.values() for c in r)
        for class_name, times in placed.items():
            if times > 1:
                raise DataError(
                    f"taxonomy {self.name}: class '{class_name}' is listed twice under regions; "
                    "give each class one region."
                )

    def __len__(self) -> int:
        return len(self.classes)

    def index(self, class_name: str) -> int:
        """Return the id of a class; raise `DataError` when there is none of that name."""
        own = called(class_name, self.classes)
        if own is None:
            raise DataError(
                f"taxonomy {self.name} has no class '{class_name}'; "
                f"it has {', '.join(self.classes)}."
            )
        return self.classes.index(own)

    def _own(self, class_name: str) -> str:
        return self.classes[self.index(class_name)]

    @property
    def background(self) -> int:
        """Id of the background class."""
        return self.index(BACKGROUND)

    def group(self, region: str) -> tuple[int, ...]:
        """Return the ids of the classes of one region; classes without a region are whole."""
        placed = {self._own(c): r for r, names in self.regions.items() for c in names}
        return tuple(i for i, c in enumerate(self.classes) if placed.get(c, WHOLE) == region)

    def mirror_table(self) -> np.ndarray:
        """Return uint8 (256,): class id before a left-right flip to the id after it."""
        table = np.arange(256, dtype=np.uint8)
        for left, right in self.mirror:
            table[self.index(left)], table[self.index(right)] = self.index(right), self.index(left)
        return table

    def remap_table(self, source: "Taxonomy") -> np.ndarray:
        """Return uint8 (256,): id in `source` to id here, by class name.

        Ids that `source` does not have map to `UNKNOWN`. Raises `DataError` naming the first
        class of `source` for which neither an equal name nor a rule in `sources` is found.
        """
        table = np.full(256, UNKNOWN, dtype=np.uint8)
        rules = {called(c, source.classes): t for c, t in self.sources.get(source.name, {}).items()}
        for source_id, class_name in enumerate(source.classes):
            target = rules.get(class_name, class_name)
            if called(target, self.classes) is None:
                raise DataError(
                    f"class '{class_name}' of {source.name} has no counterpart in {self.name}; "
                    f"add it under 'from: {source.name}:' in the taxonomy's file."
                )
            table[source_id] = self.index(target)
        return table


def parse_taxonomy(content: Any, where: str) -> Taxonomy:
    """Build a taxonomy from the parsed YAML of a taxonomy file named `where`."""
    allowed = {"name", "classes", "mirror", "regions", "from"}
    if not isinstance(content, dict) or not {"name", "classes"} <= content.keys() <= allowed:
        raise DataError(
            f"{where}: a taxonomy file has the keys name and classes, and may have "
            f"mirror, regions and from."
        )
    mirror, regions = content.get("mirror") or [], content.get("regions") or {}
    sources = content.get("from") or {}
    for key, fits in (
        ("classes", isinstance(content["classes"], list)),
        ("mirror", isinstance(mirror, list) and all(_is_pair(pair) for pair in mirror)),
        (
            "regions",
            isinstance(regions, dict) and all(isinstance(v, list) for v in regions.values()),
        ),
        ("from", isinstance(sources, dict) and all(isinstance(v, dict) for v in sources.values())),
    ):
        if not fits:
            raise DataError(f"{where}: '{key}' has another form than {FORMS[key]}.")
    classes = tuple(str(c) for c in content["classes"])
    taxonomy = Taxonomy(
        name=str(content["name"]),
        classes=classes,
        mirror=side_pairs(classes)
        if content.get("mirror") is None
        else tuple((str(a), str(b)) for a, b in mirror),
        regions={r: tuple(cs) for r, cs in regions.items()},
        sources=sources,
    )
    _warn_of_lone_sides(taxonomy, where)
    return taxonomy


def _warn_of_lone_sides(taxonomy: Taxonomy, where: str) -> None:
    alone = unpaired_sides(taxonomy.classes, taxonomy.mirror)
    if alone:
        log.warning(
            "%s: %s: named after one side of the face, but no class of the other side was found, "
            "so a flipped picture keeps it; name both sides alike, such as l_eye and r_eye, or "
            "list the pairs under 'mirror:' of a .yaml file.",
            where,
            ", ".join(alone),
        )


def _is_pair(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2


@cache
def built_in_taxonomy(name: str) -> Taxonomy:
    """Return one of `BUILT_IN`."""
    file = resources.files("sspl.domain") / "taxonomies" / f"{name}.yaml"
    return parse_taxonomy(yaml.safe_load(file.read_text(encoding="utf-8")), name)


def read_classes_file(path: Path) -> Taxonomy:
    """Read a `classes.txt`: one `id name` pair a line, ids 0, 1, 2, ... in order.

    A name may hold blanks, but no number of its own. Sides are paired by name (`side_pairs`), and
    a warning tells those that have no counterpart.

    Raises `DataError` with the line number when a line reads otherwise.
    """
    classes: list[str] = []
    for number, line in enumerate(read_text(path).splitlines(), 1):
        if not line.strip():
            continue
        parts = line.split(maxsplit=1)
        two_in_one = any(word.isdecimal() for word in line.split()[1:])
        if len(parts) != 2 or parts[0] != str(len(classes)) or two_in_one:
            raise DataError(
                f"{path}, line {number}: expected '{len(classes)} <class name>', found '{line}'."
            )
        classes.append(parts[1].strip())
    taxonomy = Taxonomy(path.absolute().parent.name, tuple(classes), mirror=side_pairs(classes))
    _warn_of_lone_sides(taxonomy, str(path))
    return taxonomy


def load_taxonomy(name_or_path: str) -> Taxonomy:
    """Return a built-in taxonomy by name, or read a `.yaml` or `classes.txt` file.

    Raises `DataError` when it is neither.

    Examples:
        >>> taxonomy = load_taxonomy("celebamask19")
        >>> len(taxonomy), taxonomy.classes[taxonomy.background]
        (19, 'background')
    """
    if name_or_path in BUILT_IN:
        return built_in_taxonomy(name_or_path)
    path = Path(name_or_path)
    if not path.is_file():
        raise DataError(
            f"taxonomy '{name_or_path}' is neither built in ({', '.join(BUILT_IN)}) nor a file."
        )
    if path.suffix in {".yaml", ".yml"}:
        return parse_taxonomy(read_yaml(path), str(path))
    return read_classes_file(path)
