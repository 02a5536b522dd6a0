"""Features of faces, computed once: kept by what made them and by the content of each picture."""

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from sspl.data.images import Box
from sspl.data.pictures import Picture, bytes_of
from sspl.data.records import FaceSet
from sspl.data.streams import stream_canvases
from sspl.errors import DataError
from sspl.io.locks import locked
from sspl.io.progress import watched
from sspl.io.weights import load_tensors, save_tensors
from sspl.models.extractors import Extractor, shrunk

Pixels = NDArray[np.uint8]
Features = NDArray[np.float32]

BATCH: Final = 32
BLOCK: Final = 512
"""Faces whose features are written together: what a killed run loses at most."""

DIGEST_BYTES: Final = 16
SUFFIX: Final = ".safetensors"


class FeatureCache:
    """A folder of features of one extractor, used in one way.

    Each file holds the features of up to `BLOCK` pictures under the digests of their content, so
    that a picture is known wherever it lies. A damaged file is made anew.
    """

    def __init__(self, folder: Path, identity: Any) -> None:
        """Open it below `folder`; `identity`, JSON values, is all that the features depend on."""
        text = json.dumps(identity, sort_keys=True)
        self.folder = folder / hashlib.sha256(text.encode()).hexdigest()[: 2 * DIGEST_BYTES]

    def known(self) -> dict[bytes, Features]:
        """Return the features (d,) of each picture by its digest."""
        found: dict[bytes, Features] = {}
        for file in sorted(self.folder.glob(f"*{SUFFIX}")):
            try:
                tensors, _ = load_tensors(file)
                digests, rows = tensors["digests"].numpy(), tensors["features"].numpy()
            except (DataError, KeyError):
                file.unlink(missing_ok=True)
                continue
            found |= {d.tobytes(): row for d, row in zip(digests, rows, strict=True)}
        return found

    def add(self, digests: Sequence[bytes], rows: Features) -> None:
        """Keep the features (n, d) of n pictures."""
        name = hashlib.sha256(b"".join(digests)).hexdigest()[: 2 * DIGEST_BYTES]
        content = torch.frombuffer(bytearray(b"".join(digests)), dtype=torch.uint8)
        tensors = {"digests": content.view(-1, DIGEST_BYTES), "features": torch.from_numpy(rows)}
        save_tensors(self.folder / f"{name}{SUFFIX}", tensors, {"kind": "features"})

    def lock(self) -> Path:
        """Return the file that a process locks which looks for what is missing."""
        return self.folder.with_suffix(".lock")


def picture_digest(picture: Picture) -> bytes:
    """Return the digest of a picture's content; raise `DataError` when it cannot be read."""
    try:
        content = bytes_of(picture)
    except OSError as error:
        raise DataError(f"{picture}: cannot be read ({error.strerror or error}).") from None
    return hashlib.blake2b(content, digest_size=DIGEST_BYTES).digest()


def compute_features(
    extract: Callable[[Pixels], Features], faces: FaceSet, box: Box, canvas: int, title: str
) -> Features:
    """Return float32 (len(faces), features) of canvases uint8 (n, canvas, canvas, 3), in order."""
    bar = watched(total=len(faces), desc=title, unit="face", leave=False)
    rows = []
    with bar:
        for pixels in stream_canvases(faces, box, canvas, BATCH):
            rows.append(extract(pixels))
            bar.update(len(pixels))
    return np.concatenate(rows)


def extractor_features(
    extractor: Extractor, canvases: Pixels, mirrored: bool, device: torch.device
) -> Features:
    """Return float32 (n, features) of canvases uint8 (n, c, c, 3).

    With `mirrored` the features of the face and of its mirror image are averaged.
    """
    pixels = torch.from_numpy(canvases).permute(0, 3, 1, 2).to(device)
    pixels = shrunk(pixels, extractor.about.side)
    found = extractor(pixels)
    if mirrored:
        found = (found + extractor(pixels.flip(3))) / 2
    rows: Features = found.cpu().numpy()
    return rows


def face_features(
    extractor: Extractor,
    faces: FaceSet,
    box: Box,
    canvas: int,
    mirrored: bool,
    device: torch.device,
    folder: Path | None,
) -> Features:
    """Return an extractor's features of faces, float32 (len(faces), features), in their order.

    Args:
        extractor: frozen, in evaluation mode.
        faces: any faces; each picture is cut, and resized once, to a canvas of the extractor's
            side or more.
        box, canvas: of the pictures.
        mirrored: whether features are averaged over the mirror image.
        device: where the extractor runs.
        folder: where features are kept; those that are there are not computed again, by whichever
            process. None keeps none.
    """
    extractor.to(device)

    def missing(some: FaceSet) -> Features:
        def extract(canvases: Pixels) -> Features:
            return extractor_features(extractor, canvases, mirrored, device)

        return compute_features(extract, some, box, canvas, extractor.about.name)

    if folder is None:
        return missing(faces)
    identity = {
        "extractor": extractor.digest(),
        "box": box,
        "canvas": canvas,
        "mirrored": mirrored,
        "cut": None if faces.cut is None else [faces.cut.box, faces.cut.canvas],
    }
    cache = FeatureCache(folder, identity)
    digests = [picture_digest(picture) for picture in faces.images]
    with locked(cache.lock(), wait=True):
        known = cache.known()
        places = {d: i for i, d in enumerate(digests) if d not in known}
        wanted = sorted(places.values())
        for start in range(0, len(wanted), BLOCK):
            some = wanted[start : start + BLOCK]
            rows = missing(faces.select(some))
            cache.add([digests[i] for i in some], rows)
            known |= {digests[i]: row for i, row in zip(some, rows, strict=True)}
    return np.stack([known[d] for d in digests])
