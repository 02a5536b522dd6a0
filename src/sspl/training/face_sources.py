"""Which faces are learnt from without labels, checked before a run begins."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from sspl.data.data_settings import DataSettings
from sspl.data.mask_shares import require_two_classes
from sspl.data.packs.read import PackedFaces
from sspl.data.records import MISSING, Faces, FaceSet, FaceSource, Labels
from sspl.data.skipping import SKIPPED_FILE, Skipped, usable, without
from sspl.domain.taxonomy import Taxonomy
from sspl.errors import SettingsError
from sspl.io.run_files import has_state
from sspl.training.stage_settings import PretrainSettings

log = logging.getLogger(__name__)


def unlabelled_sources(data: Sequence[DataSettings], splits: Sequence[str]) -> list[FaceSource]:
    """Open faces to learn from without labels: these splits of sets that have any, else all.

    Raises `SettingsError` when a set has splits, but none of these.
    """
    sources = []
    for part in data:
        faces = part.stream(splits)
        sources.append(FaceSource(faces, part.box_of(faces)))
    return sources


def stage_1_sources(settings: PretrainSettings) -> list[FaceSource]:
    """Open the faces of stage 1; raise `SettingsError` where none are given, or none of a split."""
    if not settings.data:
        raise SettingsError("data: no faces given; add --data FORMAT:FOLDER.")
    return unlabelled_sources(settings.data, settings.splits)


@dataclass(frozen=True)
class PretrainFaces:
    """The faces of a stage-1 run, those that it leaves out, and what is odd about their masks."""

    sources: list[FaceSource]
    skipped: Skipped
    odd: list[str]

    @property
    def has_masks(self) -> bool:
        """Whether each of them has a mask."""
        return all(source.faces.has_masks for source in self.sources)

    def tell(self, out: Path) -> None:
        """List the faces that are left out in the run folder, and warn of what is odd."""
        if self.skipped.policy == "skip":
            self.skipped.write(out / SKIPPED_FILE)
        if self.skipped:
            log.warning(self.skipped.text(out / SKIPPED_FILE))
        for sentence in self.odd:
            log.warning(sentence)


def pretrain_faces(
    settings: PretrainSettings,
    taxonomy: Taxonomy,
    learners: Sequence[str],
    resumed: Path | None,
    opened: Sequence[FaceSource] | None = None,
) -> PretrainFaces:
    """Open the faces of stage 1 for tasks of which `learners` cannot do without masks.

    `resumed` is the folder of a run to go on with, `opened` the faces where they were opened
    already. Raises `SettingsError` or `DataError` when the
    faces do not fit the run.
    """
    sources = list(opened or stage_1_sources(settings))
    skipped = Skipped(settings.on_error)
    sources = _usable(sources, skipped, len(taxonomy), resumed)
    for source in sources:
        _require_masks(source.faces, learners)
        _require_classes(source.faces, taxonomy)
    odd = [o for s in sources for o in _odd_masks(s.faces, taxonomy)] if learners else []
    return PretrainFaces(sources, skipped, odd)


def attribute_labels(sources: Sequence[FaceSource]) -> dict[str, Labels]:
    """Return int8 (faces,) by attribute, over all sources one after the other.

    Raises `SettingsError` for faces that come without labels, as those of a pack do here.
    """
    columns: dict[str, Labels] = {}
    total, start = sum(len(source.faces) for source in sources), 0
    for source in sources:
        faces = source.faces
        if not isinstance(faces, FaceSet):
            raise SettingsError(f"{faces.source}: comes without labels; give the set itself.")
        for name, column in zip(faces.schema.names, faces.labels.T, strict=True):
            labels = columns.setdefault(name, np.full(total, MISSING, np.int8))
            labels[start : start + len(faces)] = column
        start += len(faces)
    return columns


def _usable(
    sources: list[FaceSource], skipped: Skipped, classes: int, resumed: Path | None
) -> list[FaceSource]:
    """Leave out faces that cannot be read; a run that goes on leaves out those it has listed."""
    if skipped.policy == "fail":
        return sources
    begun = resumed is not None and has_state(resumed)
    if resumed is not None and begun:
        skipped.read(resumed / SKIPPED_FILE)

    def chosen(faces: Faces) -> Faces:
        if not isinstance(faces, FaceSet):
            return faces  # a pack, whose faces were all read when it was made
        if begun:
            return without(faces, skipped.names(faces.source))
        return usable(faces, classes, skipped)

    return [replace(s, faces=chosen(s.faces)) for s in sources]


def _require_masks(faces: Faces, tasks: Sequence[str]) -> None:
    if tasks and not faces.has_masks:
        raise SettingsError(
            f"tasks: {' and '.join(tasks)} cannot do without masks, and {faces.source} "
            "has none; make them with 'sspl parser run' and add masks=FOLDER, or use "
            "tasks=[prt]."
        )


def _odd_masks(faces: Faces, taxonomy: Taxonomy) -> list[str]:
    return [f"{faces.source}: {odd}." for odd in require_two_classes(faces, taxonomy)]


def _require_classes(faces: Faces, taxonomy: Taxonomy) -> None:
    classes = faces.classes if isinstance(faces, PackedFaces) else None
    if classes is not None and classes != taxonomy.classes:
        raise SettingsError(
            f"taxonomy: the masks in {faces.source} were packed with other classes than "
            f"{taxonomy.name} has; set the taxonomy that they were packed with."
        )
