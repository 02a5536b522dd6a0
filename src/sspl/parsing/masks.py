"""Masks for many pictures: resumable, with a summary and a contact sheet."""

import hashlib
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from sspl.data.images import read_image, read_mask
from sspl.data.palette import contact_sheet, overlay, write_image, write_mask
from sspl.data.records import FaceRecord, FaceSet, mask_path
from sspl.data.skipping import SKIPPED_FILE, OnError, Skipped, without
from sspl.device import Precision, keep_freed_memory, pick_device
from sspl.errors import DataError, SsplError
from sspl.files import write_csv, write_json
from sspl.parsing.model import Parser
from sspl.parsing.network import resize
from sspl.parsing.training import STRIDE, mirror_ids, parse

SHEET_FACES: Final = 40
TINY_SKIN: Final = 0.02
SUMMARY_FILE: Final = "summary.json"
SUSPICIOUS_FILE: Final = "suspicious.csv"
PARSER_FILE: Final = "parser.json"
SHEET_FILE: Final = "contact_sheet.png"


def network_size(size: tuple[int, int], short_side: int) -> tuple[int, int]:
    """Return height and width, multiples of 32, for a picture of (width, height).

    The short side becomes about `short_side` px; the aspect is kept to within the rounding.
    """
    scale = short_side / min(size)
    width, height = (max(STRIDE, math.ceil(s * scale / STRIDE - 0.5) * STRIDE) for s in size)
    return height, width


def make_masks(
    parser: Parser, faces: FaceSet, out: Path, short_side: int | None, average: bool,
    batch_size: int, device_name: str, precision: Precision, on_error: OnError = "fail",
) -> dict[str, Any]:  # fmt: skip
    """Write a palette PNG for every face that has none yet, then the summary; return it.

    An interrupted run goes on where it stopped: finished masks are complete files. With
    `on_error="skip"` pictures that cannot be read are listed in `skipped.csv`.
    """
    keep_freed_memory()
    _claim(out, parser)
    device = pick_device(device_name)
    network = parser.network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    todo = [face for face in faces if not mask_path(out, face.name).exists()]
    bar = tqdm(total=len(todo), desc="parse faces", unit="face")
    side = short_side or parser.size
    mirror = mirror_ids(parser.taxonomy) if average else None
    skipped = Skipped(on_error)
    for group, images in _batches(todo, side, batch_size, faces.source, skipped):
        logits = parse(network, images, device, precision, mirror)
        for (face, size), one in zip(group, logits, strict=True):
            ids = resize(one[None], (size[1], size[0]))[0].argmax(0)
            write_mask(
                mask_path(out, face.name), ids.to(torch.uint8).cpu().numpy(), len(parser.taxonomy)
            )
        bar.update(len(group))
    bar.close()
    skipped.write(out / SKIPPED_FILE)
    left = without(faces, skipped.names(faces.source))
    return summarise(parser, left, out, skipped)


def _claim(out: Path, parser: Parser) -> None:
    """Note which parser makes the masks of a folder; refuse to mix those of two."""
    digest = hashlib.sha256()
    for name, tensor in sorted(parser.network.state_dict().items()):
        digest.update(name.encode() + tensor.cpu().numpy().tobytes())
    mark, mine = out / PARSER_FILE, {"parser": digest.hexdigest(), "taxonomy": parser.taxonomy.name}
    if not mark.exists():
        write_json(mark, mine)
    elif json.loads(mark.read_text(encoding="utf-8")) != mine:
        raise SsplError(f"{out} holds masks of another parser ({mark.name}); choose another --out.")


Sized = tuple[FaceRecord, tuple[int, int]]


def _batches(
    faces: list[FaceRecord], short_side: int, batch_size: int, source: str, skipped: Skipped
) -> Iterator[tuple[list[Sized], Tensor]]:
    """Yield pictures of one network size together, with each one's own width and height."""
    waiting: dict[tuple[int, int], list[tuple[Sized, Tensor]]] = {}
    for face in faces:
        try:
            image = read_image(face.image)
        except DataError as error:
            skipped.note(source, face.name, error)
            continue
        size = network_size(image.size, short_side)
        pixels = torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1)[None].float()
        scaled = F.interpolate(pixels, size, mode="bilinear", antialias=True)[0]
        bucket = waiting.setdefault(size, [])
        bucket.append(((face, image.size), scaled))
        if len(bucket) == batch_size:
            yield [entry for entry, _ in bucket], torch.stack([x for _, x in bucket])
            bucket.clear()
    for bucket in waiting.values():
        if bucket:
            yield [entry for entry, _ in bucket], torch.stack([x for _, x in bucket])


def suspicion(ids: NDArray[np.uint8], skin: int) -> str | None:
    """Return what is wrong with a mask at first sight, or None."""
    if ids.min() == ids.max():
        return "one class only"
    if (ids == skin).mean() < TINY_SKIN:
        return f"skin covers less than {TINY_SKIN:.0%}"
    return None


def summarise(parser: Parser, faces: FaceSet, out: Path, skipped: Skipped) -> dict[str, Any]:
    """Read all masks back; write class frequencies, suspicious masks and a contact sheet."""
    taxonomy = parser.taxonomy
    pixels, presence = np.zeros(len(taxonomy)), np.zeros(len(taxonomy))
    suspicious: list[tuple[str, str]] = []
    shown = set(np.linspace(0, len(faces) - 1, min(SHEET_FACES, len(faces)), dtype=int).tolist())
    tiles = []
    for i, face in enumerate(tqdm(faces, "check masks", unit="mask", leave=False)):
        ids = np.asarray(read_mask(mask_path(out, face.name), None, len(taxonomy)))
        counts = np.bincount(ids.ravel(), minlength=len(taxonomy))[: len(taxonomy)]
        pixels += counts / max(1, ids.size)
        presence += counts > 0
        reason = suspicion(ids, taxonomy.index("skin")) if "skin" in taxonomy.classes else None
        if reason:
            suspicious.append((face.name, reason))
        if i in shown:
            picture = np.asarray(read_image(face.image))
            tiles += [picture, overlay(picture, ids, len(taxonomy))]
    write_image(out / SHEET_FILE, contact_sheet(tiles, 10, 144))
    write_csv(out / SUSPICIOUS_FILE, ("image", "reason"), suspicious)
    summary = {
        "faces": len(faces),
        "taxonomy": taxonomy.name,
        "suspicious": len(suspicious),
        "skipped": len(skipped),
        "classes": {
            name: {
                "pixel_share": round(float(pixels[i] / len(faces)), 5),
                "faces_with_it": round(float(presence[i] / len(faces)), 4),
            }
            for i, name in enumerate(taxonomy.classes)
        },
    }
    write_json(out / SUMMARY_FILE, summary)
    return summary


def summary_text(summary: dict[str, Any], out: Path) -> str:
    """Return the summary as a plain table and where to look."""
    lines = [f"{'class':<12} {'pixels':>8} {'faces with it':>14}"]
    for name, row in summary["classes"].items():
        lines.append(f"{name:<12} {row['pixel_share']:>8.2%} {row['faces_with_it']:>14.1%}")
    lines.append(f"{summary['faces']} masks in {out}, look at {SHEET_FILE}")
    lines.append(f"{summary['suspicious']} suspicious masks, named in {SUSPICIOUS_FILE}")
    if summary["skipped"]:
        lines.append(f"{summary['skipped']} pictures skipped, named in {SKIPPED_FILE}")
    return "\n".join(lines)
