"""Where the bytes of a picture lie: in a file of its own, in a shard of a pack, or in memory."""

import io
import zlib
from dataclasses import dataclass
from pathlib import Path

from sspl.errors import DataError


@dataclass(frozen=True, slots=True)
class Member:
    """A picture or mask inside a shard.

    Args:
        shard: the tar file.
        name: the face it belongs to.
        at: its first byte in the shard.
        size: its length in bytes.
        crc: CRC-32 of these bytes.
    """

    shard: Path
    name: str
    at: int
    size: int
    crc: int

    def __str__(self) -> str:
        return f"{self.shard}, face '{self.name}'"

    def read(self) -> bytes:
        """Return the bytes; raise `DataError` naming the shard when they are not those packed."""
        try:
            with self.shard.open("rb", buffering=0) as file:
                file.seek(self.at)
                content = file.read(self.size)
        except FileNotFoundError:
            raise DataError(f"{self.shard}: no such shard; {REMEDY}.") from None
        except OSError as error:
            raise DataError(
                f"{self.shard}: cannot be read ({error.strerror or error}); {REMEDY}."
            ) from error
        if len(content) < self.size or zlib.crc32(content) != self.crc:
            raise DataError(f"{self.shard} is damaged at face '{self.name}'; {REMEDY}.")
        return content


REMEDY = "remove it and give the same 'sspl data pack' again, which makes only what is missing"


@dataclass(frozen=True, slots=True)
class Content:
    """A picture whose bytes are at hand; `name` is what messages call it."""

    content: bytes
    name: str

    def __str__(self) -> str:
        return self.name

    def read(self) -> bytes:
        """Return the bytes."""
        return self.content


Picture = Path | Member | Content


def content(picture: Picture) -> Path | io.BytesIO:
    """Return what a picture can be opened from."""
    return picture if isinstance(picture, Path) else io.BytesIO(picture.read())


def bytes_of(picture: Picture) -> bytes:
    """Return the bytes of a picture as they are stored."""
    return picture.read_bytes() if isinstance(picture, Path) else picture.read()
