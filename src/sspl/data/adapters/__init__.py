"""Faces of public data sets and of the user's own, as `sspl.data.records.FaceSet`."""

from pathlib import Path
from typing import Final, Literal, get_args

from sspl.data.adapters.celeba import read_celeba
from sspl.data.adapters.folder import read_folder
from sspl.data.adapters.lfwa import read_lfwa
from sspl.data.adapters.maad import read_maad
from sspl.data.adapters.source import OnMissing
from sspl.data.adapters.table import UnknownValue, read_table
from sspl.data.adapters.utkface import read_utkface
from sspl.data.packs.read import read_pack
from sspl.data.records import FaceSet
from sspl.domain.attributes import load_schema
from sspl.errors import SettingsError

Format = Literal["celeba", "lfwa", "maad", "utkface", "folder", "csv", "packed"]
FORMATS: Final[tuple[str, ...]] = get_args(Format)

_OPTIONS: Final = {
    "celeba": {"images", "schema", "split_file"},
    "lfwa": {"images", "schema", "split_file"},
    "maad": {"images", "schema", "split_file"},
    "utkface": {"split_file"},
    "folder": set[str](),
    "csv": {"images", "schema", "ignore", "groups", "unknown"},
    "packed": set[str](),
}


def open_faces(
    kind: str,
    root: Path,
    *,
    images: Path | None = None,
    schema: Path | None = None,
    split_file: Path | None = None,
    ignore: tuple[str, ...] = (),
    groups: tuple[str, ...] = (),
    unknown: UnknownValue | None = None,
    missing: OnMissing = "fail",
) -> FaceSet:
    """Read a set of faces.

    Args:
        kind: one of `FORMATS`.
        root: folder of the data set; for `csv` the file, for `lfwa` and `maad` either.
        images: folder of the images, where it is not the format's own.
        schema: file of attributes and regions, see `sspl.domain.attributes.load_schema`.
        split_file: for `celeba` the partition, for `lfwa` the indices or a `name,split`
            CSV, for `maad` and `utkface` a `name,split` CSV.
        ignore: columns of a `csv` that are no attributes.
        groups: columns of a `csv` that are groups of faces.
        unknown: which of 0 and -1 means unknown, in a `csv` with both.
        missing: `fail` or `skip` the faces whose image is not there; skipped faces are
            counted in the log.

    Raises:
        SettingsError: for an unknown kind, or an option that the kind has not.
        DataError: when a file does not fit, naming file and line.
    """
    _check(
        kind,
        images=images,
        schema=schema,
        split_file=split_file,
        ignore=ignore,
        groups=groups,
        unknown=unknown,
    )
    if missing not in get_args(OnMissing):
        raise SettingsError(f"unknown value '{missing}' for missing images; use fail or skip.")
    attributes = load_schema(schema) if schema else None
    match kind:
        case "celeba":
            return read_celeba(
                root, images, partition=split_file, schema=attributes, missing=missing
            )
        case "lfwa":
            return read_lfwa(root, images, split_file, schema=attributes, missing=missing)
        case "maad":
            return read_maad(
                root, images, split_file=split_file, schema=attributes, missing=missing
            )
        case "utkface":
            return read_utkface(root, split_file)
        case "csv":
            return read_table(
                root,
                images,
                attributes,
                ignore=ignore,
                groups=groups,
                unknown=unknown,
                missing=missing,
            )
        case "packed":
            return read_pack(root)
        case _:
            return read_folder(root)


def _check(kind: str, **options: object) -> None:
    if kind not in FORMATS:
        raise SettingsError(f"unknown data format '{kind}'; use {', '.join(FORMATS)}.")
    for name, value in options.items():
        if value and name not in _OPTIONS[kind]:
            raise SettingsError(f"data format '{kind}' takes no '{name}'; leave it out.")
