"""What an adapter is: one value that says how a data set is read, and how it looks on disk."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from sspl.data.records import Faces, FaceSet
from sspl.domain.attributes import load_schema
from sspl.errors import SettingsError

OPTIONS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "images": "images",
        "split_file": "split_file",
        "schema_file": "schema",
        "ignore_columns": "ignore",
        "group_columns": "groups",
        "unknown": "unknown",
        "on_missing": "missing",
    }
)
"""Settings of a data set that an adapter may take, and the argument of `read` that each becomes.

`schema` is the `AttributeSchema` in the file, all others are as in `DataSettings`.
"""


@dataclass(frozen=True, kw_only=True)
class Adapter:
    """One data set.

    Args:
        name: its format in `FORMAT:ROOT`.
        read: reads the faces of a root, `read(root)`; each of `options` is given by the name of
            its argument in `OPTIONS` where it is set, and left out where it is not.
        options: the settings that it takes, of `OPTIONS`.
        root: what its root is, `folder` say.
        labels, splits: where they come from, in words.
        layout: how the files lie, as a tree in text.
        fits: tells whether a root that is given without a format is one of these.
        stream: opens the faces of some splits without holding them all, for a set too large.
        brings_masks: masks come with the faces, so that the setting `masks` is refused.
        lists_a_folder: `read` takes `masks`, a folder whose files are no faces.

    Raises:
        SettingsError: for an option that is none of `OPTIONS`, or that `read` does not take.

    Examples:
        >>> mine = Adapter(name="mine", read=lambda root: parse_data_spec(f"celeba:{root}").open())
        >>> len(mine.open(Path("faces"), {}))
        10
    """

    name: str
    read: Callable[..., FaceSet]
    options: tuple[str, ...] = ()
    root: str = "folder"
    labels: str = "none"
    splits: str = "none"
    layout: str = ""
    fits: Callable[[Path], bool] | None = None
    stream: Callable[[Path, Sequence[str]], Faces] | None = None
    brings_masks: bool = False
    lists_a_folder: bool = False

    def __post_init__(self) -> None:
        unknown = [option for option in self.options if option not in OPTIONS]
        if unknown:
            raise SettingsError(
                f"data set '{self.name}': no option '{unknown[0]}'; use {', '.join(OPTIONS)}."
            )
        arguments = {OPTIONS[option]: None for option in self.options}
        signature = inspect.signature(self.read)
        try:
            signature.bind(Path())
            signature.bind(Path(), **arguments)
        except TypeError as error:
            raise SettingsError(
                f"data set '{self.name}': its reader does not fit its options ({error}); it must "
                f"take {', '.join(['the root', *arguments])}, and the root alone."
            ) from None

    def open(self, root: Path, options: Mapping[str, Any], masks: Path | None = None) -> FaceSet:
        """Read the faces; `options` are those that are set, by their names in `OPTIONS`.

        What lies in the folder of `masks` is no face.

        Raises `SettingsError` for an option that this set does not take, and as `read`.
        """
        for option in options:
            if option not in self.options:
                raise SettingsError(f"data format '{self.name}' takes no '{option}'; leave it out.")
        given = {OPTIONS[option]: value for option, value in options.items()}
        if "schema" in given:
            given["schema"] = load_schema(given["schema"])
        if self.lists_a_folder and masks is not None:
            given["masks"] = masks
        faces = self.read(root, **given)
        if not isinstance(faces, FaceSet):
            raise SettingsError(
                f"data set '{self.name}': its reader returns {type(faces).__name__}, no FaceSet."
            )
        return faces
