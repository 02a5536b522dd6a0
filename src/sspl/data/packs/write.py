"""Making a pack: shard by shard, each whole or not there, so that it can be gone on with."""

import hashlib
import io
import tarfile
import zlib
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import IO, Final, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sspl.data.images import Box, mask_canvas, read_canvas, read_format, read_mask
from sspl.data.inputs import of_faces, require_same_inputs
from sspl.data.packs.layout import (
    INDEX_FILE,
    PLAN_FILE,
    SPLIT_KEYS,
    Index,
    PackPlan,
    ShardMetadata,
    as_json,
    finished_shard,
    read_plan,
    shard_name,
    split_key,
    table_path,
    tar_path,
)
from sspl.data.palette import JPEG_QUALITY
from sspl.data.pictures import Content, bytes_of
from sspl.data.records import Cut, FaceRecord, FaceSet, box_in
from sspl.domain.taxonomy import Taxonomy
from sspl.errors import SettingsError
from sspl.io.cores import usable_cores
from sspl.io.files import atomic_path, holds_nothing, write_json
from sspl.io.locks import claimed
from sspl.io.names import require_clean
from sspl.io.progress import watched

Encoding = Literal["as is", "jpeg", "webp"]

SHARD_FACES: Final = 1024
BLOCK: Final = tarfile.BLOCKSIZE
NO_PLACE: Final = (0, 0, 0)
SUFFIXES: Final = {"JPEG": ".jpg", "jpeg": ".jpg", "webp": ".webp"}


@dataclass(frozen=True)
class Encoded:
    """A face as it is packed.

    Args:
        name: its name in the set.
        image: the bytes of its picture.
        suffix: of the picture, `.jpg` say.
        mask: the bytes of its mask, empty without one.
        labels: 1, 0 and `MISSING`, in the order of the schema.
        groups: as text, in the order of the plan.
    """

    name: str
    image: bytes
    suffix: str
    mask: bytes = b""
    labels: Sequence[int] = ()
    groups: Sequence[str] = ()


@dataclass(frozen=True)
class Encoder:
    """From a face to what is packed of it.

    Args:
        encoding: as in `PackPlan`.
        box: crop of the picture that is kept; whole files are when packed as they are.
        canvas: side of the square that it becomes.
        classes: number of classes of the masks.
    """

    encoding: Encoding
    box: Box
    canvas: int
    classes: int

    def __call__(self, face: FaceRecord, groups: Sequence[str]) -> Encoded:
        """Read a face; raise `DataError` naming its picture or mask when it cannot be used."""
        whole = self.encoding == "as is"
        if whole:
            image = bytes_of(face.image)
            kind, size = read_format(Content(image, str(face.image)))
        else:
            pixels, size = read_canvas(face.image, self.box, self.canvas)
        mask = None if face.mask is None else read_mask(face.mask, size, self.classes)
        labels = face.labels.tolist()
        if whole:
            mask_bytes = b"" if face.mask is None else bytes_of(face.mask)
        else:
            kind = self.encoding
            image = encoded(pixels, kind)
            mask_bytes = b"" if mask is None else _png(mask_canvas(mask, self.box, self.canvas))
        suffix = SUFFIXES.get(kind, f".{kind.lower()}")
        return Encoded(face.name, image, suffix, mask_bytes, labels, groups)


def encoded(pixels: NDArray[np.uint8], encoding: str) -> bytes:
    """Return uint8 (h, w, 3) as `jpeg`, of high quality and full colour, or lossless `webp`."""
    buffer = io.BytesIO()
    picture = Image.fromarray(pixels)
    if encoding == "jpeg":
        picture.save(buffer, format="JPEG", quality=JPEG_QUALITY, subsampling=0)
    else:
        picture.save(buffer, format="WEBP", lossless=True, method=0)
    return buffer.getvalue()


def _png(ids: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(ids).save(buffer, format="PNG")
    return buffer.getvalue()


def make_pack(
    faces: FaceSet,
    box: Box,
    out: Path,
    source: str,
    canvas: int | None = None,
    lossless: bool = False,
    taxonomy: Taxonomy | None = None,
    shard_faces: int = SHARD_FACES,
) -> Index:
    """Pack a set of faces into the folder `out`; return the index.

    Shards that an interrupted run finished are kept, and so are those of a finished pack: what is
    missing, or was removed because it is damaged, is made again.

    Args:
        faces: the set; with masks for all faces or for none.
        box: crop of the pictures, used with `canvas`.
        out: the folder; new, empty, or holding what this very call made before.
        source: what the faces are called in the index.
        canvas: cut each picture to the square of `box` and scale it to this side; None packs the
            files as they are.
        lossless: keep the scaled pixels exactly; else JPEG, in about half the space.
        taxonomy: classes of the masks; needed where there are masks.
        shard_faces: faces in a shard.

    Raises:
        DataError: for a picture or mask that cannot be used, naming it, and for a name that no
            reader takes.
        SettingsError: when `out` holds something else.
    """
    require_clean(faces.names, faces.source)
    with claimed(out, folder=True):
        return _make_pack(faces, box, out, source, canvas, lossless, taxonomy, shard_faces)


def _make_pack(
    faces: FaceSet,
    box: Box,
    out: Path,
    source: str,
    canvas: int | None,
    lossless: bool,
    taxonomy: Taxonomy | None,
    shard_faces: int,
) -> Index:
    cut = faces.cut if canvas is None else Cut(faces.cut.box if faces.cut else box, canvas)
    encoding: Encoding = "as is" if canvas is None else "webp" if lossless else "jpeg"
    plan = _plan(faces, cut, encoding, source, taxonomy, shard_faces)
    inner = box if cut is None else box_in(faces, cut.box, cut.canvas)
    encoder = Encoder(encoding, inner, cut.canvas if cut else 0, len(plan.classes or ()))
    require_same_inputs(out, of_faces(faces), resumed=_claim(out, plan))
    shards = []
    pool = ThreadPoolExecutor(usable_cores())
    with watched(total=len(faces), desc="pack", unit="face") as bar:
        try:
            for split, name, indices in shard_list(faces, shard_faces):
                metadata = finished_shard(out, name, split, len(indices))
                if metadata is None:
                    metadata = _pack_shard(out, name, split, faces.select(indices), encoder, pool)
                bar.update(len(indices))
                shards.append(metadata)
        finally:
            # Without this an error would wait for faces that nobody wants any more.
            pool.shutdown(wait=False, cancel_futures=True)
    index = Index(plan=plan, faces=len(faces), shards=tuple(shards))
    write_json(out / INDEX_FILE, index.model_dump(mode="json"))
    (out / PLAN_FILE).unlink(missing_ok=True)
    return index


def shard_list(faces: FaceSet, shard_faces: int) -> list[tuple[str, str, list[int]]]:
    """Return split (or `faces`), name and places of the faces of each shard."""
    shards = []
    for split in SPLIT_KEYS:
        places = [i for i, s in enumerate(faces.splits) if split_key(s) == split]
        for number, first in enumerate(range(0, len(places), shard_faces)):
            shards.append((split, shard_name(split, number), places[first : first + shard_faces]))
    return shards


def _plan(
    faces: FaceSet,
    cut: Cut | None,
    encoding: Encoding,
    source: str,
    taxonomy: Taxonomy | None,
    shard_faces: int,
) -> PackPlan:
    has_masks = faces.has_masks
    if has_masks and taxonomy is None:
        raise ValueError("masks need a taxonomy")
    digest = hashlib.sha256(as_json([faces.names, faces.splits, dict(faces.groups)]).encode())
    digest.update(faces.labels.tobytes())
    splits = [split_key(split) for split in faces.splits]
    return PackPlan(
        source=source,
        canvas=cut.canvas if cut else None,
        box=cut.box if cut else None,
        encoding=encoding,
        classes=taxonomy.classes if taxonomy and has_masks else None,
        attributes=dict(zip(faces.schema.names, faces.schema.regions, strict=True)),
        groups=tuple(faces.groups),
        splits={key: splits.count(key) for key in SPLIT_KEYS if key in splits},
        shard_faces=shard_faces,
        fingerprint=digest.hexdigest(),
    )


def _claim(out: Path, plan: PackPlan) -> bool:
    """Begin a pack, or go on with one of the same plan; tell whether there was one.

    What the source is called may differ: a folder has more than one path.
    """
    there = read_plan(out)
    if there is None:
        if out.exists() and not (out.is_dir() and holds_nothing(out)):
            raise SettingsError(f"{out} holds something else than a pack; choose another --out.")
        write_json(out / PLAN_FILE, plan.model_dump(mode="json"))
    elif there.model_copy(update={"source": plan.source}) != plan:
        raise SettingsError(
            f"{out} was packed from other faces or with other options; give the same ones, or "
            "choose another --out."
        )
    return there is not None


def _pack_shard(
    out: Path, name: str, split: str, faces: FaceSet, encoder: Encoder, pool: ThreadPoolExecutor
) -> ShardMetadata:
    groups = zip(*faces.groups.values(), strict=True) if faces.groups else repeat((), len(faces))
    return write_shard(out, name, split, pool.map(encoder, faces, groups))


def write_shard(out: Path, name: str, split: str, faces: Iterable[Encoded]) -> ShardMetadata:
    """Write the tar of some faces, then its table; each appears whole or not at all."""
    places, names, labels, groups = [], [], [], []
    with atomic_path(tar_path(out, name)) as temporary:
        with (
            temporary.open("wb") as file,
            tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as tar,
        ):
            for row, face in enumerate(faces):
                key = f"{name}-{row:06d}"
                sample: dict[str, object] = {"name": face.name, "labels": list(face.labels)}
                sample |= {"groups": list(face.groups)} if face.groups else {}
                image = _add(tar, file, f"{key}{face.suffix}", face.image)
                mask = _add(tar, file, f"{key}.mask.png", face.mask) if face.mask else NO_PLACE
                _add(tar, file, f"{key}.json", as_json(sample).encode())
                places.append((*image, *mask))
                names.append(face.name)
                labels.append(face.labels)
                groups.append(face.groups)
        with temporary.open("rb") as written:
            digest = hashlib.file_digest(written, "sha256").hexdigest()
        size = temporary.stat().st_size
    metadata = ShardMetadata(name=name, split=split, faces=len(names), bytes=size, sha256=digest)
    with atomic_path(table_path(out, name)) as temporary, temporary.open("wb") as file:
        np.savez(
            file,
            facts=np.array(metadata.model_dump_json()),
            places=np.array(places, dtype=np.int64).reshape(len(names), -1),
            names=np.array(names, dtype=np.str_),
            labels=np.array(labels, dtype=np.int8).reshape(len(names), -1),
            groups=np.array(groups, dtype=np.str_).reshape(len(names), -1),
        )
    return metadata


def _add(tar: tarfile.TarFile, file: IO[bytes], name: str, content: bytes) -> tuple[int, int, int]:
    """Append a member; return where its bytes begin, how many they are, and their CRC-32."""
    member = tarfile.TarInfo(name)
    member.size = len(content)
    at = file.tell() + BLOCK
    tar.addfile(member, io.BytesIO(content))
    return at, len(content), zlib.crc32(content)
