"""Where faces come from, as settings and as one word on the command line."""

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from pathlib import Path
from typing import Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from sspl.data.adapters import ADAPTERS, FORMATS, OPTIONS, Adapter, adapter_of, format_fault
from sspl.data.adapters.folder import remark_on_rest
from sspl.data.adapters.source import OnMissing
from sspl.data.adapters.table import UnknownValue
from sspl.data.images import WHOLE_FRAME, Box
from sspl.data.records import Faces, FaceSet
from sspl.errors import SettingsError
from sspl.io.user_code import absolute, is_user_code

CELEBA_BOX: Final[Box] = (4 / 178, 28 / 218, 174 / 178, 198 / 218)
"""The face of an aligned CelebA image, framed nearly as in CelebAMask-HQ."""

_NAMED_BOXES: Final = {"none": WHOLE_FRAME, "celeba": CELEBA_BOX}
_LIST_SEPARATOR: Final = ":"
_LISTS: Final = ("ignore_columns", "group_columns")
_OWN: Final = re.compile(r"(.+?\.py:[^\W\d]\w*):(.*)", re.DOTALL)
"""FILE.py:NAME:ROOT; the drive of a Windows path before FILE or in ROOT is no part of NAME."""


class DataSettings(BaseModel):
    """One source of faces.

    Examples:
        >>> faces = DataSettings(format="celeba", root="faces", crop="celeba").open()
        >>> len(faces), faces.names[0]
        (10, '000001.jpg')
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    format: str = Field(
        description="one of the formats of data sets, or FILE.py:NAME for an adapter of one's own"
    )
    root: Path = Field(description="folder or file to read")
    images: Path | None = Field(
        None, description="folder of the images, where it is not the format's own"
    )
    masks: Path | None = Field(
        None, description="folder of semantic masks, one PNG for each face name"
    )
    schema_file: Path | None = Field(None, description="attributes and their face regions")
    split_file: Path | None = Field(
        None, description="which face is in which split, where the format takes one"
    )
    ignore_columns: tuple[str, ...] = Field(
        (), description="columns of a CSV file that are no attributes"
    )
    group_columns: tuple[str, ...] = Field(
        (), description="columns of a CSV file that say what a face belongs to, such as identity"
    )
    unknown: UnknownValue | None = Field(
        None,
        description="which of 0 and -1 means unknown in a CSV file with both; none: both mean no",
    )
    crop: Literal["none", "celeba"] | Box = Field(
        "none",
        description="none, celeba, or left, top, right, bottom as fractions of width and height",
    )
    on_missing: OnMissing = Field(
        "fail", description="what to do with faces whose image is not there"
    )

    @field_validator("format")
    @classmethod
    def _from_any_folder(cls, name: str) -> str:
        fault = format_fault(name)
        if fault is not None:
            raise ValueError(fault)
        return absolute(name) if is_user_code(name) else name

    @field_validator("unknown", mode="before")
    @classmethod
    def _number_as_text(cls, value: object) -> object:
        """Take the numbers that YAML reads for what they are written as."""
        return str(value) if isinstance(value, int) and not isinstance(value, bool) else value

    @model_validator(mode="after")
    def _box_in_image(self) -> Self:
        left, top, right, bottom = self.box()
        if not (0 <= left < right <= 1 and 0 <= top < bottom <= 1):
            raise ValueError(
                "crop needs left < right and top < bottom, as fractions from 0 to 1 of the image"
            )
        return self

    def absolute(self) -> Self:
        """Return the same with absolute paths, which mean the same from any folder."""
        paths = {k: v.absolute() for k, v in dict(self).items() if isinstance(v, Path)}
        return self.model_copy(update=paths)

    def box(self) -> Box:
        """Return the crop as left, top, right, bottom fractions of width and height."""
        return _NAMED_BOXES[self.crop] if isinstance(self.crop, str) else self.crop

    def box_of(self, faces: Faces) -> Box:
        """Return the crop of the original pictures that is used of these faces of the source.

        Faces that were cut when they were packed have theirs; raises `SettingsError` for another.
        """
        if faces.cut is None:
            return self.box()
        if self.crop != "none":
            raise SettingsError(
                f"crop: the faces of {faces.source} were cut when they were packed; leave crop out."
            )
        return faces.cut.box

    def require_box(self, box: Box, whose: str) -> None:
        """Raise `SettingsError` where a crop was given that is not this one, which is in use."""
        if "crop" in self.model_fields_set and self.box() != tuple(box):
            raise SettingsError(
                f"crop: {whose} has crop={crop_text(box)}, not {crop_text(self.box())}; "
                "leave crop out here."
            )

    def stream(self, splits: Sequence[str]) -> Faces:
        """Open faces to be learnt from without labels: these splits, where the set has any.

        What is held of a pack does not grow with its faces. Raises as `open`, and
        `SettingsError` when a set has splits, but none of these.
        """
        adapter = self._adapter()
        if adapter.stream is not None:
            return adapter.stream(self.root, splits)
        faces = self.open()
        if all(split is None for split in faces.splits):
            return faces
        chosen = [i for i, split in enumerate(faces.splits) if split in splits]
        if not chosen:
            raise SettingsError(f"splits: {faces.source} has no face in {tuple(splits)}.")
        return faces.select(chosen)

    def open(self) -> FaceSet:
        """Read the faces as `read` does; the log says what a folder holds that is not read.

        Within `read_once` what was read before is returned again.
        """
        kept = _kept.get()
        if kept is None:
            return remark_on_rest(self.read())
        key = self.model_dump_json()
        if key not in kept:
            kept[key] = remark_on_rest(self.read())
        return kept[key]

    def read(self) -> FaceSet:
        """Read the faces, with their masks where `masks` is set.

        Raises `DataError` for files that do not fit, `SettingsError` for an option that the
        format does not take.
        """
        fields = type(self).model_fields
        given = {name: value for name, value in dict(self).items() if name in OPTIONS}
        changed = {name: v for name, v in given.items() if v != fields[name].default}
        faces = self._adapter().open(self.root, changed, self.masks)
        if is_user_code(self.format):
            faces = replace(faces, code=Path(self.format.rpartition(":")[0]))
        return faces.with_masks(self.masks) if self.masks else faces

    def _adapter(self) -> Adapter:
        adapter = adapter_of(self.format)
        if adapter.brings_masks and self.masks is not None:
            raise SettingsError(
                f"data format '{adapter.name}' takes no 'masks'; they come with its faces."
            )
        return adapter


_kept: ContextVar[dict[str, FaceSet] | None] = ContextVar("kept", default=None)


@contextmanager
def read_once() -> Iterator[None]:
    """Read each set of faces once for as long as the block runs, however often it is opened.

    A label file of millions of rows takes long to read. What changes on disk meanwhile is not seen.
    """
    before = _kept.set({})
    try:
        yield
    finally:
        _kept.reset(before)


def parse_data_spec(text: str) -> DataSettings:
    """Parse `[FORMAT:]ROOT[,key=value...]`, such as `celeba:faces,masks=masks,crop=celeba`.

    Keys are the fields of `DataSettings`; lists take `:` between their items, as in
    `crop=0.1:0.1:0.9:0.9` or `ignore_columns=identity:age`. A comma or bracket in a path is part of
    it where a file or folder of that very name exists. FORMAT is one of `FORMATS`, or FILE.py:NAME
    for an adapter of one's own; left out, it is the first of `ADAPTERS` that fits.

    Raises `SettingsError` naming the field and what it may be.

    Examples:
        >>> settings = parse_data_spec("celeba:faces,masks=faces/masks")
        >>> settings.format, settings.open().has_masks
        ('celeba', True)
    """
    place, options = split_spec(text)
    kind, root = _format_and_root(place)
    values: dict[str, object] = {"format": kind, "root": root}
    for option in options:
        key, value = _option(text, option)
        if key in values:
            raise SettingsError(f"data '{text}': '{key}' is given twice; give it once.")
        values[key] = value
    try:
        return DataSettings.model_validate(values)
    except ValidationError as error:
        raise SettingsError(f"data '{text}': {_first_problem(error)}.") from None


def name_of_box(box: Box) -> str | Box:
    """Return a crop as settings have it: by its name where it has one.

    Examples:
        >>> name_of_box(CELEBA_BOX), name_of_box((0.1, 0.1, 0.9, 0.9))
        ('celeba', (0.1, 0.1, 0.9, 0.9))
    """
    return next((name for name, named in _NAMED_BOXES.items() if named == tuple(box)), box)


def crop_text(box: Box) -> str:
    """Return a crop as a data set on the command line has it."""
    name = name_of_box(box)
    return name if isinstance(name, str) else _LIST_SEPARATOR.join(str(edge) for edge in box)


def split_spec(text: str) -> tuple[str, list[str]]:
    """Split a data set into `[FORMAT:]ROOT` and its options, `key=value` each.

    Raises `SettingsError` for a piece that is neither an option nor part of a path that exists.
    """
    if os.path.exists(_without_format(text)):  # noqa: PTH110 - no error for what is no path
        return text, []
    first, *rest = text.split(",")
    pieces = [first]
    pending: list[str] = []
    for piece in [*rest, None]:
        if piece is not None and piece.partition("=")[0] not in _keys():
            pending.append(piece)
            continue
        if pending:
            pieces[-1] = _with_commas(text, pieces[-1], pending, is_root=len(pieces) == 1)
            pending = []
        if piece is not None:
            pieces.append(piece)
    return pieces[0], pieces[1:]


def names_data(text: str) -> bool:
    """Tell whether a text is a data set for certain: it names a format, an option or a file."""
    try:
        place, options = split_spec(text)
    except SettingsError:
        return False
    kind, _ = _parted(place)
    named = kind is not None and format_fault(kind) is None
    return bool(options or named or os.path.exists(place))  # noqa: PTH110


def _with_commas(text: str, before: str, pieces: Sequence[str], *, is_root: bool) -> str:
    """Return a path that holds commas; raise `SettingsError` where it does not exist."""
    whole = ",".join([before, *pieces])
    key, _, value = whole.partition("=")
    if os.path.exists(_without_format(whole) if is_root else value):  # noqa: PTH110
        return whole
    if not is_root and key in _LISTS:
        raise SettingsError(
            f"data '{text}': write {_LIST_SEPARATOR} between the columns of {key}, as in "
            f"{key}=a{_LIST_SEPARATOR}b."
        )
    _option(text, pieces[0])
    raise AssertionError("a piece that is an option is none of these")


def _parted(place: str) -> tuple[str | None, str]:
    """Return format and root as they are written; None where no format is."""
    kind, colon, root = place.partition(":")
    own = None if kind in FORMATS else _OWN.fullmatch(place)
    if own is not None:
        return own[1], own[2]
    return (kind, root) if colon else (None, place)


def _without_format(place: str) -> str:
    kind, root = _parted(place)
    named = kind is not None and format_fault(kind) is None
    return root if root and named and not os.path.exists(place) else place  # noqa: PTH110


def _format_and_root(place: str) -> tuple[str, str]:
    kind, root = _parted(place)
    if kind is None or os.path.exists(place):  # noqa: PTH110
        kind, root = _guess(Path(place)), place
    fault = format_fault(kind)
    if fault is not None:
        raise SettingsError(f"{fault}.")
    if not root:
        raise SettingsError("root: a data set needs a folder or file, as in celeba:FOLDER.")
    return kind, root


def _guess(root: Path) -> str:
    return next(a.name for a in ADAPTERS if a.fits is not None and a.fits(root))


def _keys() -> list[str]:
    return [key for key in DataSettings.model_fields if key not in ("format", "root")]


def _option(text: str, option: str) -> tuple[str, object]:
    key, equals, value = option.partition("=")
    if not equals or key not in _keys():
        raise SettingsError(
            f"data '{text}': '{option}' is not key=value with a key of {', '.join(_keys())}."
        )
    if not value:
        raise SettingsError(f"data '{text}': '{key}' has no value; give one or leave it out.")
    if key in _LISTS or (key == "crop" and value not in _NAMED_BOXES):
        return key, tuple(value.split(_LIST_SEPARATOR))
    return key, value


def _first_problem(error: ValidationError) -> str:
    problem = error.errors()[0]
    if problem["loc"][:1] == ("crop",):
        return "crop is none, celeba or four fractions left:top:right:bottom"
    field = ".".join(str(part) for part in problem["loc"])
    message = problem["msg"].removeprefix("Value error, ")
    return f"{field}: {message}" if field else message
