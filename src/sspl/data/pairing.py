"""Which mask belongs to which picture: by name below their folders, no file in two roles."""

import os
import posixpath
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Final

from sspl.errors import DataError
from sspl.io.names import folded

MASK_SUFFIXES: Final = frozenset({".png", ".bmp", ".tif", ".tiff"})
"""How names of masks end; what the file holds is looked at when it is read."""

NOTES: Final = frozenset({".txt", ".json", ".csv", ".xml", ".yaml", ".yml"})
"""Kinds of files that may lie beside a mask of the same name and say something of it."""

_WORDS: Final = (
    "mask", "masks", "seg", "segm", "segmentation", "label", "labels", "parsing", "gt", "anno",
    "matte",
)  # fmt: skip
"""What a mask may be called besides the name of its picture."""

FileId = tuple[int, int]
"""Device and number of a file: the same for all its names and links."""


def mask_path(root: Path, name: str) -> Path:
    """Return where the mask of a face of this name lies: `root/<name with suffix .png>`."""
    return root / Path(name).with_suffix(".png")


def stem_of(name: str) -> str:
    """Return a name below a folder without its suffix, `a/b` of `a/b.jpg`."""
    return PurePosixPath(name).with_suffix("").as_posix()


def marked_stems(stem: str) -> Iterator[str]:
    """Yield the stems of the pictures that a file of this stem may be the mask of.

    `a/b` of `a/b_seg` and of `a/mask-b`.
    """
    folder, own = posixpath.split(stem)
    for word in _WORDS:
        for sign in "_-. ":
            if own.lower().endswith(f"{sign}{word}"):
                yield stem[: -len(word) - 1]
            if own.lower().startswith(f"{word}{sign}"):
                yield posixpath.join(folder, own[len(word) + 1 :])


def file_id(path: Path) -> FileId | None:
    """Return what tells a file from others, links followed; None where there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def files_below(root: Path, suffixes: Iterable[str] | None = None) -> list[Path]:
    """Return all files below a folder whose names end so, in any case, in the order of paths.

    Without `suffixes` the names may end in any way.

    Hidden ones are left out. Links are followed, and no folder is read twice. Raises `DataError`
    when a folder cannot be listed.
    """
    if not root.is_dir():
        raise DataError(f"{root}: no such folder.")
    wanted = None if suffixes is None else frozenset(suffixes)
    return sorted(p for p in _walk(root) if wanted is None or p.suffix.lower() in wanted)


def _walk(root: Path) -> Iterator[Path]:
    def refuse(error: OSError) -> None:
        raise DataError(f"{error.filename}: cannot be listed ({error.strerror or error}).")

    seen: set[FileId | None] = set()
    for folder, subfolders, files in os.walk(root, followlinks=True, onerror=refuse):
        if (here := file_id(Path(folder))) in seen:
            subfolders.clear()
            continue
        seen.add(here)
        subfolders[:] = sorted(f for f in subfolders if not f.startswith("."))
        yield from (Path(folder, name) for name in files if not name.startswith("."))


def by_stem(files: Iterable[Path], root: Path) -> dict[str, list[Path]]:
    """Return files by their folded stem below `root`."""
    found: dict[str, list[Path]] = {}
    for file in files:
        found.setdefault(folded(stem_of(file.relative_to(root).as_posix())), []).append(file)
    return found


def is_below(path: Path, folder: Path) -> bool:
    """Tell whether a path lies strictly below a folder, both as they really are."""
    real, above = path.resolve(), folder.resolve()
    return real != above and real.is_relative_to(above)


def require_own_masks(names: Sequence[str], source: str) -> None:
    """Raise `DataError` naming two faces that would share a mask, such as `a.jpg` and `a.png`.

    Names that differ in case alone share one where case is ignored.
    """
    seen: dict[str, str] = {}
    for name in names:
        other = seen.setdefault(folded(stem_of(name)), name)
        if other != name:
            raise DataError(
                f"{source}: '{other}' and '{name}' would share the mask {stem_of(name)}.png; "
                "rename one of them."
            )


def require_no_picture(masks: Iterable[Path], pictures: Mapping[FileId, str]) -> None:
    """Raise `DataError` for the first mask that is one of the pictures, also by a link."""
    for mask in masks:
        found = file_id(mask)
        if found is not None and found in pictures:
            raise DataError(
                f"{mask}: is the picture {pictures[found]} itself, not a mask; "
                "keep masks in a folder of their own."
            )


def pictures_by_id(names: Iterable[str], images: Iterable[object]) -> dict[FileId, str]:
    """Return the names of pictures that are files of their own, by what tells the files apart."""
    files = zip(names, images, strict=True)
    return {
        there: name
        for name, image in files
        if isinstance(image, Path) and (there := file_id(image)) is not None
    }


def pictures_outside(root: Path, images: Sequence[object]) -> list[int]:
    """Return the places of pictures that are no masks in the folder `root`.

    What lies there and ends as masks do is one, unless all pictures lie there.
    """
    parents = {image.parent for image in images if isinstance(image, Path)}
    inside = {p for p in parents if p.resolve() == root.resolve() or is_below(p, root)}
    if inside == parents:
        return list(range(len(images)))

    def is_mask(image: object) -> bool:
        return (
            isinstance(image, Path)
            and image.parent in inside
            and image.suffix.lower() in MASK_SUFFIXES
        )

    return [i for i, image in enumerate(images) if not is_mask(image)]


def pair_faces(
    names: Sequence[str], images: Sequence[object], root: Path, source: str, labelled: bool
) -> dict[int, Path]:
    """Return the masks below `root` of faces by name, for the places of the faces that are kept.

    A mask is called as its picture, or as that with a word such as `_seg`. Where no labels say
    that each file is a face, files that are masks of others (`a.png` beside `a.jpg` in one folder,
    or a folder of masks inside that of the pictures) are left out.

    Args:
        names: of the faces.
        images: their pictures; only those that are files of their own (`Path`) can be masks too.
        root: folder of masks.
        source: where the faces come from, for messages.
        labelled: whether there are labels; then nothing is left out.

    Raises `DataError` naming the first face without a mask, and how many; two faces that would
    share one; and a mask that is a face's picture.
    """
    kept = list(range(len(names))) if labelled else pictures_outside(root, images)
    pictures = pictures_by_id((names[i] for i in kept), (images[i] for i in kept))
    masks = {i: mask_path(root, names[i]) for i in kept}
    ids = {i: file_id(mask) for i, mask in masks.items()}
    own = {i: names[i] for i, found in ids.items() if found and pictures.get(found) == names[i]}
    for i, mask in (_otherwise_called(own, root, exact=False) if own else {}).items():
        masks[i], ids[i] = mask, file_id(mask)
    if not labelled:
        owners = {i: pictures.get(found) for i, found in ids.items() if found is not None}
        of_others = {owner for i, owner in owners.items() if owner not in (None, names[i])}
        kept = [i for i in kept if names[i] not in of_others]
    require_own_masks([names[i] for i in kept], source)
    there = {i: masks[i] for i in kept if ids[i] is not None}
    if len(there) < len(kept):
        there |= _otherwise_called({i: names[i] for i in kept if i not in there}, root)
    absent = [masks[i] for i in kept if i not in there]
    if absent:
        raise DataError(
            f"{len(absent)} of {len(kept)} faces of {source} have no mask, the first is "
            f"{absent[0]}; make them with 'sspl parser run'."
        )
    left = {names[i] for i in kept}
    require_no_picture(there.values(), {k: name for k, name in pictures.items() if name in left})
    return {i: there[i] for i in kept}


def _otherwise_called(
    names: Mapping[int, str], root: Path, *, exact: bool = True
) -> dict[int, Path]:
    """Find masks whose names differ from `mask_path` in case, accents' form or suffix.

    Else, and without `exact` at once, those that are called so with a word besides.
    """
    if not root.is_dir():
        return {}
    found = by_stem(files_below(root, MASK_SUFFIXES), root)
    marked = _by_marked_stem(found)
    called = {}
    for i, name in names.items():
        stem = folded(stem_of(name))
        files = (exact and found.get(stem)) or marked.get(stem, [])
        if len(files) > 1:
            raise DataError(f"'{name}' has two masks, {files[0]} and {files[1]}; keep one.")
        if files:
            called[i] = files[0]
    return called


def _by_marked_stem(found: Mapping[str, list[Path]]) -> dict[str, list[Path]]:
    """Return files by the stem of the picture that they are called after with a word."""
    marked: dict[str, list[Path]] = {}
    for stem, files in found.items():
        for base in marked_stems(stem):
            marked.setdefault(base, []).extend(files)
    return marked


def find_pairs_of(
    images: Path, masks: Path, suffixes: Iterable[str]
) -> list[tuple[str, Path, Path]]:
    """Return (stem, picture, mask) of every mask below `masks`, in the order of the masks' paths.

    A picture and its mask have one path below their folders but for the suffix, case and the form
    of accents left aside, or that of the mask has a word such as `_seg` besides. The folders may
    be the same (`a.jpg` beside `a.png`, the mask) or one inside the other. Pictures without a
    mask are left out.

    Args:
        images: folder of pictures.
        masks: folder of masks.
        suffixes: how names of pictures end.

    Raises `DataError` naming a mask that has no picture, more than one, or is one itself; two
    masks of one picture; and what lies among masks in a format that may change their ids.
    """
    pictures = [p for p in files_below(images, suffixes) if not _of_other(p, images, masks)]
    below = [p for p in files_below(masks) if not _of_other(p, masks, images)]
    found = [p for p in below if p.suffix.lower() in MASK_SUFFIXES]
    ids = {there: p for p in pictures if (there := file_id(p)) is not None}
    named = by_stem(pictures, images)
    for path in below:
        kind = path.suffix.lower()
        if kind in MASK_SUFFIXES or kind in NOTES:
            continue
        meant = kind in suffixes or folded(stem_of(path.relative_to(masks).as_posix())) in named
        if meant and file_id(path) not in ids:
            raise DataError(
                f"{path}: masks are PNG, BMP or TIFF files, since other formats may change class "
                "ids; save it as PNG."
            )
    stems = {mask: stem_of(mask.relative_to(masks).as_posix()) for mask in found}
    marked = (mask for mask in found if not _others(mask, stems[mask], named))
    theirs = {file_id(p) for mask in marked for p in _of_marked(mask, stems[mask], named)}
    owners: dict[Path, Path] = {}
    pairs = []
    for mask in (m for m in found if file_id(m) not in theirs):
        picture = _picture_of(mask, stems[mask], named, images)
        if picture in owners:
            raise DataError(f"{picture}: has two masks, {owners[picture]} and {mask}; keep one.")
        owners[picture] = mask
        pairs.append((stem_of(picture.relative_to(images).as_posix()), picture, mask))
    chosen = {there: str(p) for _, p, _ in pairs if (there := file_id(p)) is not None}
    require_no_picture((mask for _, _, mask in pairs), chosen)
    return pairs


def _of_other(path: Path, own: Path, other: Path) -> bool:
    """Tell whether a file lies in the folder of the other kind, which is inside its own."""
    return is_below(other, own) and is_below(path, other)


def _others(mask: Path, stem: str, named: Mapping[str, list[Path]]) -> list[Path]:
    """Return the pictures of a stem that are not the mask itself."""
    return [p for p in named.get(folded(stem), []) if file_id(p) != file_id(mask)]


def _of_marked(mask: Path, stem: str, named: Mapping[str, list[Path]]) -> list[Path]:
    """Return the pictures that a mask is called after with a word such as `_seg`."""
    return next((found for base in marked_stems(stem) if (found := _others(mask, base, named))), [])


def _picture_of(mask: Path, stem: str, named: Mapping[str, list[Path]], images: Path) -> Path:
    same = named.get(folded(stem), [])
    there = _others(mask, stem, named) or _of_marked(mask, stem, named)
    if len(there) > 1:
        raise DataError(
            f"{there[0]} and {there[1]} would share the mask {mask}; rename one of the pictures, "
            "and its mask."
        )
    if not there and same:
        raise DataError(
            f"{mask}: is in the folder of pictures too, and no other picture there is named "
            f"'{stem}'; keep masks in a folder of their own."
        )
    if not there:
        raise DataError(f"{mask}: no picture named '{stem}' in {images}.")
    return there[0]
