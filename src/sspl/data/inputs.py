"""What a work was of: its input files by size, time and, where that tells too little, content.

Works that note what they have done face by face keep a `Stamp` beside each, so that a copied or
touched file counts as the same, and a changed one is looked at again. Works that learn from all
of their inputs keep the whole list beside the run (`INPUTS_FILE`), made without reading a picture.
"""

import gzip
import hashlib
import json
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sspl.data.pictures import Content, Member, Picture
from sspl.data.records import Faces, FaceSet
from sspl.errors import DataError
from sspl.io.files import ARCHIVE_DAMAGES, write_bytes

INPUTS_FILE: Final = "inputs.json.gz"
PIECE: Final = 1 << 20

Entry = tuple[str, str]
"""Name of an input, and what tells it from another one under that name."""


@dataclass(frozen=True)
class Stamp:
    """What tells a file from another one of its name.

    Args:
        bytes: its size.
        mtime_ns: when it was last written, since 1970.
        crc: CRC-32 of its content.
    """

    bytes: int
    mtime_ns: int
    crc: int

    @classmethod
    def of(cls, picture: Picture) -> "Stamp":
        """Read a picture's file; raise `DataError` naming one that cannot be read."""
        if not isinstance(picture, Path):
            return cls(*_held(picture))
        size, time = _status(picture)
        return cls(size, time, checksum(picture))

    @classmethod
    def parsed(cls, content: Any) -> "Stamp | None":
        """Return the stamp that `as_json` gave; None for anything else."""
        if not (isinstance(content, list) and len(content) == 3):
            return None
        return cls(*content) if all(type(value) is int for value in content) else None

    def as_json(self) -> list[int]:
        """Return it as JSON values."""
        return [self.bytes, self.mtime_ns, self.crc]

    def fits(self, picture: Picture) -> bool:
        """Tell whether it is the stamp of a picture; the content is read only if its time differs.

        False where there is no such file.
        """
        if not isinstance(picture, Path):
            return self == Stamp(*_held(picture))
        try:
            size, time = _status(picture)
            return size == self.bytes and (time == self.mtime_ns or checksum(picture) == self.crc)
        except DataError:
            return False


def _status(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error}).") from None
    return status.st_size, status.st_mtime_ns


def _held(picture: Member | Content) -> tuple[int, int, int]:
    if isinstance(picture, Member):
        return picture.size, 0, picture.crc
    return len(picture.content), 0, zlib.crc32(picture.content)


def checksum(path: Path) -> int:
    """Return the CRC-32 of a file; raise `DataError` naming one that cannot be read."""
    crc = 0
    try:
        with path.open("rb") as file:
            while piece := file.read(PIECE):
                crc = zlib.crc32(piece, crc)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error}).") from None
    return crc


def of_file(what: str, path: Path) -> Entry:
    """Return the entry of a file that is small enough to be read: `what` it is, and its content."""
    try:
        with path.open("rb") as file:
            return what, hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error}).") from None


def of_values(what: str, values: Any) -> Entry:
    """Return the entry of JSON values, such as a list of classes."""
    return what, hashlib.sha256(json.dumps(values).encode()).hexdigest()


def of_paths(name: str, paths: Iterable[Path], *about: str) -> Entry:
    """Return the entry of files that belong together, none of them read, and what is said of it."""
    return name, " ".join([*(str(part) for path in paths for part in _status(path)), *about])


def of_faces(faces: Faces, labelled: bool = False) -> list[Entry]:
    """Return the entries of faces, without reading a picture.

    Pictures and masks count by name, size and time; with `labelled` splits, labels and groups,
    too. Those of a pack count by the checksums in its index and tables. The file of an adapter of
    the user's own counts by its content.
    """
    if not isinstance(faces, FaceSet):
        return [(f"{s.name} of the pack", s.sha256) for s in getattr(faces, "shards", ())]
    columns = tuple(faces.groups.values())
    entries = [] if faces.code is None else [of_file(f"data adapter {faces.code}", faces.code)]
    for i, (name, image, mask) in enumerate(
        zip(faces.names, faces.images, faces.masks, strict=True)
    ):
        about: list[Any] = [*_place(image)]
        if mask is not None:
            about += _place(mask)
        if labelled:
            about += [faces.splits[i], faces.labels[i].tobytes().hex(), *(c[i] for c in columns)]
        entries.append((name, " ".join(map(str, about))))
    if labelled:
        entries.append(of_values("the list of attributes", [faces.schema.names, [*faces.groups]]))
    return entries


def _place(picture: Picture) -> tuple[int, int]:
    if isinstance(picture, Path):
        return _status(picture)
    size, _, crc = _held(picture)
    return size, crc


def require_same_inputs(folder: Path, entries: Iterable[Entry], resumed: bool) -> None:
    """Note what a work in this folder is of; where it goes on, refuse to mix it with other inputs.

    What an older version began has no list; then the inputs are noted as they are now. Raises
    `DataError` naming the first input that changed, how many did, and what to do.
    """
    file, now = folder / INPUTS_FILE, list(entries)
    content = json.dumps(now, ensure_ascii=False, separators=(",", ":")).encode()
    if resumed and file.exists():
        noted = _noted(file)
        if noted == content:
            return
        try:
            before = [(str(name), str(about)) for name, about in json.loads(noted)]
        except (ValueError, TypeError):
            raise DataError(_damaged(file)) from None
        raise DataError(
            f"{changes(before, now)} since the work in {folder} began; put back what it began "
            f"with, or choose another --out. If the content is the same, after copying the files "
            f"say, remove {file} and repeat the command."
        )
    write_bytes(file, gzip.compress(content, compresslevel=1, mtime=0))


def _noted(file: Path) -> bytes:
    try:
        return gzip.decompress(file.read_bytes())
    except ARCHIVE_DAMAGES:
        raise DataError(_damaged(file)) from None


def _damaged(file: Path) -> str:
    return f"{file}: damaged; remove it to go on with the inputs as they are now."


def changes(before: Sequence[Entry], now: Sequence[Entry]) -> str:
    """Return in words which inputs changed, the first one by name; the two lists must differ."""
    then, new = dict(before), dict(now)
    kinds: tuple[tuple[str, Callable[[], list[str]]], ...] = (
        ("changed", lambda: [n for n in new if n in then and then[n] != new[n]]),
        ("gone", lambda: [n for n in then if n not in new]),
        ("new", lambda: [n for n in new if n not in then]),
    )
    said = []
    for word, find in kinds:
        found = find()
        if found:
            more = f" and {len(found) - 1:,} more" if len(found) > 1 else ""
            verb = ("have" if more else "has") if word == "changed" else "are" if more else "is"
            said.append(f"{found[0]}{more} {verb} {word}")
    return "; ".join(said) or "the order of the faces has changed"
