"""What the stages learn from, noted beside a run so that it does not go on with other inputs."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from sspl.data.inputs import Entry, of_faces, of_file, of_values
from sspl.data.records import FaceSource
from sspl.domain.taxonomy import load_taxonomy
from sspl.io.user_code import file_of, is_user_code
from sspl.io.weight_headers import stated_checksum
from sspl.training.face_sources import unlabelled_sources
from sspl.training.feature_settings import RunSettings, TorchSettings
from sspl.training.partition import Partition
from sspl.training.stage_settings import FinetuneSettings, LabelledSettings, PretrainSettings
from sspl.weights import resolved

LABELLED_FILE: Final = "labelled.txt"
VALIDATION_FILE: Final = "validation.txt"
"""Names of the faces that a run learnt from, and that it was selected on."""


def pretrain_inputs(
    settings: PretrainSettings, sources: Sequence[FaceSource], labelled: bool
) -> list[Entry]:
    """Return what a stage-1 run learns from: faces, weights, classes, tasks and, if any, labels."""
    entries = _taxonomy_and_backbone(settings)
    for task in filter(is_user_code, settings.tasks):
        entries.append(of_file(f"task {task}", file_of(task)))
    for number, source in enumerate(sources):
        where = f"data {number}: " if len(sources) > 1 else ""
        entries += [(where + name, about) for name, about in of_faces(source.faces, labelled)]
    return entries


def finetune_inputs(settings: FinetuneSettings, parts: Partition) -> list[Entry]:
    """Return what stage 2 learns from and is selected on: faces, labels, weights and classes."""
    entries = _taxonomy_and_backbone(settings)
    if settings.pretrained is not None:
        files = _weights(settings.pretrained)
        entries += [_of_weights(f"pretrained {file.name}", file) for file in files]
    entries += probe_inputs(settings, parts)
    for number, teacher in enumerate(settings.distillation.teachers):
        entries += [_of_weights(f"teacher {number} {f.name}", f) for f in _weights(teacher)]
    unlabelled = {
        "consistency.data": settings.consistency.data if settings.consistency.weight else None,
        "distillation.data": settings.distillation.data if settings.distillation.teachers else None,
    }
    if any(data is not None for data in unlabelled.values()):
        entries += of_faces(parts.rest)
    for what, data in unlabelled.items():
        for number, source in enumerate(unlabelled_sources(data or (), ("train",))):
            entries += [(f"{what} {number}: {n}", about) for n, about in of_faces(source.faces)]
    return entries


def probe_inputs(settings: LabelledSettings, parts: Partition) -> list[Entry]:
    """Return what heads on frozen features learn from: networks, faces and labels."""
    entries = []
    for number, network in enumerate(settings.features):
        what = f"features {number}"
        if isinstance(network, RunSettings):
            entries += [_of_weights(f"{what} {f.name}", f) for f in _weights(network.path)]
        elif isinstance(network, TorchSettings):
            entries.append(of_file(what, file_of(network.path)))
        else:
            entries.append(of_file(what, network.path))
    return [*entries, *of_faces(parts.train, labelled=True), *of_faces(parts.val, labelled=True)]


def _taxonomy_and_backbone(settings: PretrainSettings | FinetuneSettings) -> list[Entry]:
    classes = load_taxonomy(settings.taxonomy).classes
    entries = [of_values(f"taxonomy {settings.taxonomy}", classes)]
    if settings.backbone_weights is not None:
        entries.append(_of_weights("backbone_weights", settings.backbone_weights))
    return entries


def _of_weights(what: str, path: Path) -> Entry:
    """Return the entry of weights by their content: bytes differ each time they are written."""
    path = resolved(path)
    checksum = stated_checksum(path) if path.suffix == ".safetensors" and path.is_file() else None
    return of_file(what, path) if checksum is None else of_values(what, checksum)


def _weights(pretrained: Path) -> list[Path]:
    """Return the files that a run in this folder, or at this path, has its weights in."""
    pretrained = resolved(pretrained)
    if not pretrained.is_dir():
        return [pretrained]
    return [p for p in sorted(pretrained.glob("*.safetensors")) if "state" not in p.name]
