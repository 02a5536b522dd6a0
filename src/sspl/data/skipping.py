"""Faces that cannot be used: stop at the first one, or leave them out and list them."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, Literal

from sspl.data.adapters.dialect import read_csv
from sspl.data.images import read_image, read_mask
from sspl.data.records import FaceRecord, FaceSet
from sspl.errors import DataError
from sspl.io.cores import usable_cores
from sspl.io.files import write_csv
from sspl.io.progress import watched

OnError = Literal["fail", "skip"]
"""What to do with a picture or mask that cannot be read."""

SKIPPED_FILE: Final = "skipped.csv"
SKIPPED_COLUMNS: Final = ("source", "image", "reason")


class Skipped:
    """The faces that a run left out, and why; with the policy `fail` there are none."""

    def __init__(self, policy: OnError) -> None:
        self.policy = policy
        self.rows: list[tuple[str, str, str]] = []

    def __len__(self) -> int:
        return len(self.rows)

    def note(self, source: str, name: str, error: DataError) -> None:
        """Note that the face `name` of `source` cannot be used; with `fail` raise the error."""
        if self.policy == "fail":
            raise error
        self.rows.append((source, name, " ".join(str(error).split())))

    def names(self, source: str) -> set[str]:
        """Return the faces of a source that were left out."""
        return {name for there, name, _ in self.rows if there == source}

    def write(self, file: Path) -> None:
        """Write the list as CSV; where nothing was left out, remove that of an earlier run."""
        if self.rows:
            write_csv(file, SKIPPED_COLUMNS, self.rows)
        else:
            file.unlink(missing_ok=True)

    def read(self, file: Path) -> None:
        """Take over the list that an earlier part of the same run wrote, if it wrote one."""
        rows = list(read_csv(file)) if file.exists() else []
        if rows and tuple(rows[0][1]) != SKIPPED_COLUMNS:
            raise DataError(f"{file}: expected the columns {','.join(SKIPPED_COLUMNS)}.")
        self.rows = [(source, name, reason) for _, (source, name, reason) in rows[1:]]

    def text(self, file: Path) -> str:
        """Return one line that counts them."""
        faces = "1 face was" if len(self) == 1 else f"{len(self)} faces were"
        return f"{faces} skipped; {file} says which and why."


def without(faces: FaceSet, names: set[str]) -> FaceSet:
    """Return the faces but those of `names`; raise `DataError` when none is left."""
    kept = [i for i, name in enumerate(faces.names) if name not in names]
    if not kept:
        raise DataError(f"{faces.source}: not one of its {len(faces)} faces can be used.")
    return faces.select(kept)


def usable(faces: FaceSet, classes: int | None, skipped: Skipped) -> FaceSet:
    """Read every picture, and with `classes` every mask; return the faces that can be used.

    Raises the `DataError` of the first that cannot be used when the policy is `fail`, and one of
    its own when none can.
    """
    with ThreadPoolExecutor(usable_cores()) as pool:
        problems = pool.map(lambda face: _problem(face, classes), faces)
        bar = watched(problems, "check faces", len(faces), unit="face", leave=False)
        try:
            for name, error in zip(faces.names, bar, strict=True):
                if error is not None:
                    skipped.note(faces.source, name, error)
        finally:
            # Without this an error would wait for pictures that nobody asks for any more.
            pool.shutdown(wait=False, cancel_futures=True)
    return without(faces, skipped.names(faces.source))


def _problem(face: FaceRecord, classes: int | None) -> DataError | None:
    try:
        size = read_image(face.image).size
        if classes is not None and face.mask is not None:
            read_mask(face.mask, size, classes)
    except DataError as error:
        return error
    return None
