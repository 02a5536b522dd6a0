"""Masks for many pictures: resumable, with a summary and a contact sheet."""

import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sspl.data.images import read_image, read_mask
from sspl.data.inputs import Stamp
from sspl.data.mask_shares import ClassCounts, oddities
from sspl.data.pairing import (
    mask_path,
    pictures_by_id,
    pictures_outside,
    require_no_picture,
    require_own_masks,
)
from sspl.data.palette import overlay, write_image, write_mask
from sspl.data.records import FaceRecord, FaceSet
from sspl.data.sheets import Tile, key_of, sheet
from sspl.data.skipping import SKIPPED_FILE, OnError, Skipped, without
from sspl.distributed.side_by_side import side_by_side
from sspl.domain.taxonomy import called
from sspl.errors import DataError, SsplError
from sspl.io.files import (
    append_text,
    parse_json,
    read_json,
    read_text,
    write_csv,
    write_json,
    write_text,
)
from sspl.io.locks import claimed
from sspl.io.names import path_below, require_clean, require_own_places
from sspl.io.progress import counted, watched
from sspl.parsing.parser import Parser, Pixels

log = logging.getLogger(__name__)

SHEET_FACES: Final = 40
MOST_ASPECT: Final = 20
TINY_SKIN: Final = 0.02
MOST_HELD: Final = 10**8
"""Pixels of pictures that wait for others of their size, at most."""

SUMMARY_FILE: Final = "summary.json"
SUSPICIOUS_FILE: Final = "suspicious.csv"
PARSER_FILE: Final = "parser.json"
MADE_FILE: Final = "made.jsonl"
"""A line for each mask: the name of its picture, and what tells that from another one."""

SHEET_FILE: Final = "contact_sheet.png"


def make_masks(
    parser: Parser, faces: FaceSet, out: Path, batch_size: int, on_error: OnError = "fail"
) -> dict[str, Any]:
    """Write a palette PNG for every face that has none yet, then the summary; return it.

    An interrupted run goes on where it stopped: finished masks are complete files. With
    `on_error="skip"` pictures that cannot be read are listed in `skipped.csv`.
    """
    faces = _without_masks(faces, out)
    _check_names(faces, out)
    with claimed(out, folder=True, deep=True):
        return _make_masks(parser, faces, out, batch_size, on_error)


def make_masks_side_by_side(
    open_on: Callable[[str], Parser],
    devices: Sequence[str],
    faces: FaceSet,
    out: Path,
    batch_size: int,
    on_error: OnError = "fail",
) -> dict[str, Any]:
    """Do as `make_masks` in a process on each of these devices; `open_on` opens the parser there.

    Batches are dealt out in turn, and so are those of one process.
    """
    faces = _without_masks(faces, out)
    _check_names(faces, out)
    with claimed(out, folder=True, deep=True):
        todo, _ = _undone(faces, out)
        places = {name: i for i, name in enumerate(faces.names)}
        batches = [todo[start : start + batch_size] for start in range(0, len(todo), batch_size)]
        works = []
        for number, device in enumerate(devices):
            own = [places[face.name] for b in batches[number :: len(devices)] for face in b]
            if own:
                share = faces.select(own)
                make = partial(_make_share, open_on, device, share, out, batch_size, on_error)
                works.append((f"{device} (process {number + 1})", make))
        side_by_side(works)
        # What a process that died left undone is made here, and what cannot be read is noted.
        return _make_masks(open_on(devices[0]), faces, out, batch_size, on_error)


def _make_share(
    open_on: Callable[[str], Parser],
    device: str,
    faces: FaceSet,
    out: Path,
    batch_size: int,
    on_error: OnError,
) -> None:
    parser = open_on(device)
    _claim(out, parser)
    for _ in _made_of(parser, list(faces), out, batch_size, faces.source, Skipped(on_error)):
        pass


def _made_of(
    parser: Parser,
    faces: list[FaceRecord],
    out: Path,
    batch_size: int,
    source: str,
    skipped: Skipped,
) -> Iterator[dict[str, Any]]:
    """Make masks batch by batch; yield the stamps of the pictures of each."""
    classes = len(parser.taxonomy)
    for group, pictures in _batches(parser, faces, batch_size, source, skipped):
        stamps = {face.name: Stamp.of(face.image).as_json() for face in group}
        for face, ids in zip(group, parser.parse(pictures), strict=True):
            place = mask_path(out, face.name)
            write_mask(path_below(out, place.relative_to(out).as_posix()), ids, classes)
        append_text(out / MADE_FILE, _lines(stamps))
        yield stamps


def _undone(faces: FaceSet, out: Path) -> tuple[list[FaceRecord], dict[str, Any]]:
    """Return the faces without a mask, and the stamps of the pictures that have one."""
    made = _read_made(out)
    todo = [face for face in faces if not _is_made(out, face, made)]
    changed = [face.name for face in todo if mask_path(out, face.name).exists()]
    if changed:
        log.warning(
            "%s and %d more pictures are not known to be those of their masks in %s, which are "
            "made anew.",
            changed[0],
            len(changed) - 1,
            out,
        )
    if made is None:
        undone = {face.name for face in todo}
        made = {f.name: Stamp.of(f.image).as_json() for f in faces if f.name not in undone}
        write_text(out / MADE_FILE, _lines(made))
    return todo, made


def _make_masks(
    parser: Parser, faces: FaceSet, out: Path, batch_size: int, on_error: OnError
) -> dict[str, Any]:
    _claim(out, parser)
    todo, made = _undone(faces, out)
    skipped = Skipped(on_error)
    with watched(total=len(todo), desc="parse faces", unit="face") as bar:
        for stamps in _made_of(parser, todo, out, batch_size, faces.source, skipped):
            made |= stamps
            bar.update(len(stamps))
    order = dict.fromkeys((*faces.names, *sorted(made)))
    write_text(out / MADE_FILE, _lines({name: made[name] for name in order if name in made}))
    skipped.write(out / SKIPPED_FILE)
    left = without(faces, skipped.names(faces.source))
    return summarise(parser, left, out, skipped)


def _lines(made: Mapping[str, Any]) -> str:
    return "".join(f"{json.dumps(item)}\n" for item in made.items())


def _read_made(out: Path) -> dict[str, Any] | None:
    """Return the stamp of each picture whose mask was made; None where an older version did it."""
    file = out / MADE_FILE
    if not file.exists():
        return None
    made = {}
    for line in read_text(file).splitlines():
        try:
            name, stamp = parse_json(line)
        except (ValueError, TypeError):
            continue  # cut short by a kill
        made[str(name)] = stamp
    # Whole lines alone, so that the next one does not go on with what a kill cut short.
    write_text(file, _lines(made))
    return made


def _is_made(out: Path, face: FaceRecord, made: Mapping[str, Any] | None) -> bool:
    """Tell whether there is a mask of this very picture.

    Of masks without a note by an older version the times decide.
    """
    mask = mask_path(out, face.name)
    if not mask.exists():
        return False
    if made is None:
        picture = face.image
        return not isinstance(picture, Path) or picture.stat().st_mtime <= mask.stat().st_mtime
    stamp = Stamp.parsed(made.get(face.name))
    return stamp is not None and stamp.fits(face.image)


def _without_masks(faces: FaceSet, out: Path) -> FaceSet:
    """Leave out what an earlier run made, where its folder is inside that of the pictures."""
    kept = pictures_outside(out, faces.images)
    if len(kept) == len(faces) or len(faces.schema):
        return faces
    log.warning("%s: what lies in %s is taken for masks.", faces.source, out)
    return faces.select(kept)


def _check_names(faces: FaceSet, out: Path) -> None:
    """Refuse names that lead elsewhere, and masks that would be written over something."""
    require_clean(faces.names, faces.source)
    places = [mask_path(out, name) for name in faces.names]
    require_own_places(faces.names, places, faces.source)
    require_own_masks(faces.names, faces.source)
    require_no_picture(places, pictures_by_id(faces.names, faces.images))
    if out / SHEET_FILE in places:
        name = faces.names[places.index(out / SHEET_FILE)]
        raise DataError(
            f"{faces.source}: the mask of '{name}' would be {SHEET_FILE}, which is written for "
            "all faces; rename it."
        )


def _claim(out: Path, parser: Parser) -> None:
    """Note which parser makes the masks of a folder; refuse to mix those of two."""
    mark = out / PARSER_FILE
    mine = {"parser": parser.fingerprint(), "taxonomy": parser.taxonomy.name}
    if not mark.exists():
        write_json(mark, mine)
    elif read_json(mark) != mine:
        raise SsplError(f"{out} holds masks of another parser ({mark.name}); choose another --out.")


def _batches(
    parser: Parser, faces: list[FaceRecord], batch_size: int, source: str, skipped: Skipped
) -> Iterator[tuple[list[FaceRecord], list[Pixels]]]:
    """Yield faces whose pictures the parser looks at in one size, with the pictures."""
    waiting: dict[tuple[int, int], list[tuple[FaceRecord, Pixels]]] = {}
    held = 0
    for face in faces:
        try:
            image = read_image(face.image)
            _require_room(face, image.size)
        except DataError as error:
            skipped.note(source, face.name, error)
            continue
        size = parser.looks_at(image.size)
        waiting.setdefault(size, []).append((face, np.asarray(image)))
        held += image.width * image.height
        if len(waiting[size]) == batch_size or held > MOST_HELD:
            fullest = max(waiting, key=lambda key: len(waiting[key]))
            batch = waiting.pop(fullest)
            held -= sum(pixels.shape[0] * pixels.shape[1] for _, pixels in batch)
            yield [face for face, _ in batch], [pixels for _, pixels in batch]
    for batch in waiting.values():
        yield [face for face, _ in batch], [pixels for _, pixels in batch]


def _require_room(face: FaceRecord, size: tuple[int, int]) -> None:
    """Refuse a sliver, whose shorter side could be brought to the parser's at a huge cost only."""
    if max(size) > MOST_ASPECT * min(size):
        raise DataError(
            f"{face.image}: {size[0]} x {size[1]} px; one side is more than {MOST_ASPECT} times "
            "the other, which leaves no room for a face."
        )


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
    pixels, presence, counts = np.zeros(len(taxonomy)), np.zeros(len(taxonomy)), ClassCounts()
    suspicious: list[tuple[str, str]] = []
    skin = taxonomy.index("skin") if called("skin", taxonomy.classes) else None
    shown = set(np.linspace(0, len(faces) - 1, min(SHEET_FACES, len(faces)), dtype=int).tolist())
    tiles = []
    for i, face in enumerate(watched(faces, "check masks", unit="mask", leave=False)):
        ids = np.asarray(read_mask(mask_path(out, face.name), None, len(taxonomy)))
        counts.add(ids)
        there = np.bincount(ids.ravel(), minlength=len(taxonomy))[: len(taxonomy)]
        pixels += there / max(1, ids.size)
        presence += there > 0
        reason = None if skin is None else suspicion(ids, skin)
        if reason:
            suspicious.append((face.name, reason))
        if i in shown:
            picture = np.asarray(read_image(face.image))
            laid_over = overlay(picture, ids, len(taxonomy))
            tiles.append(Tile([picture, laid_over], lines=[(face.name, None)]))
    key = key_of(taxonomy.classes, np.flatnonzero(presence).tolist())
    footer = [f"{len(tiles)} of {counted(len(faces), 'mask')}; background is left as it is."]
    write_image(out / SHEET_FILE, sheet(tiles, 5, 144, footer, key))
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
    for odd in oddities(counts, taxonomy):
        log.warning("%s: %s.", out, odd)
    write_json(out / SUMMARY_FILE, summary)
    return summary


def summary_text(summary: dict[str, Any], out: Path) -> str:
    """Return the summary as a plain table and where to look."""
    lines = [f"{'class':<12} {'pixels':>8} {'faces with it':>14}"]
    for name, row in summary["classes"].items():
        lines.append(f"{name:<12} {row['pixel_share']:>8.2%} {row['faces_with_it']:>14.1%}")
    lines.append(f"{counted(summary['faces'], 'mask')} in {out}, look at {SHEET_FILE}")
    suspicious = counted(summary["suspicious"], "suspicious mask")
    lines.append(f"{suspicious}, named in {SUSPICIOUS_FILE}")
    if summary["skipped"]:
        lines.append(f"{counted(summary['skipped'], 'picture')} skipped, named in {SKIPPED_FILE}")
    return "\n".join(lines)
