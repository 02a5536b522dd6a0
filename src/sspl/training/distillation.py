"""Faces without labels whose targets are what other models say of them.

Distillation (Hinton et al., arXiv 1503.02531), attribute by attribute.
"""

import logging
from collections.abc import Container, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sspl.data.canvases import Canvases
from sspl.data.records import MISSING, FaceSet, FaceSource, Labels
from sspl.device import pick_device
from sspl.distributed.group import gathered
from sspl.distributed.sampler import own_places
from sspl.domain.attributes import AttributeSchema
from sspl.errors import SettingsError
from sspl.io.progress import counted
from sspl.models.bundle import AttributeModel, load_model
from sspl.models.frozen import frozen_part
from sspl.models.scoring import face_logits, kept_logits
from sspl.training.face_sources import unlabelled_sources
from sspl.training.partition import Partition
from sspl.training.stage_settings import FinetuneSettings

log = logging.getLogger(__name__)

Answers = NDArray[np.float32]


def taught_sources(settings: FinetuneSettings, parts: Partition) -> list[FaceSource]:
    """Return the faces that teachers are asked about, the labelled ones first.

    Raises `SettingsError` where there are no others.
    """
    assert settings.data is not None
    own = [FaceSource(faces, settings.data.box_of(faces)) for faces in (parts.train, parts.rest)]
    more = unlabelled_sources(settings.distillation.data, ("train",))
    if more:
        known = {file.resolve() for file in settings.data.open().images if isinstance(file, Path)}
        more = [_without(source, known) for source in more]
    sources = own[:1] + [source for source in (own[1], *more) if len(source.faces)]
    if len(sources) == 1:
        raise SettingsError(
            "distillation.teachers: every training face is labelled and distillation.data names no "
            "others to ask about; give some with --unlabelled, or leave --teacher out."
        )
    return sources


def _without(source: FaceSource, known: Container[Path]) -> FaceSource:
    """Leave out faces of the set itself: of its validation and test faces nothing is learnt."""
    faces = source.faces
    if not isinstance(faces, FaceSet):
        return source
    others = [
        i
        for i, file in enumerate(faces.images)
        if not (isinstance(file, Path) and file.resolve() in known)
    ]
    if len(others) < len(faces):
        log.info(
            "%s: %s that --data has, too, left out; those of its training faces are asked about "
            "already.",
            faces.source,
            counted(len(faces) - len(others), "face"),
        )
    return replace(source, faces=faces.select(others))


def taught_targets(
    settings: FinetuneSettings, parts: Partition, sources: Sequence[FaceSource], kept: Path
) -> Answers:
    """Return the targets of faces, float32 (faces, attributes), over all sources in their order.

    A target is the label where the face is one of the labelled ones, which come first, and the
    label is known; else the mean of the teachers' calibrated probabilities; `MISSING` where no
    teacher knows the attribute. The folder `kept` keeps features of frozen networks.
    """
    schema = parts.train.schema
    for path in settings.distillation.teachers:
        if path.suffix == ".onnx":
            raise SettingsError(
                f"distillation.teachers: {path} is an exported file; give the run or the packed "
                "model that it was exported from."
            )
    models = [(path, load_model(path)) for path in settings.distillation.teachers]
    for path, model in models:
        if not set(model.schema.names) & set(schema.names):
            raise SettingsError(
                f"distillation.teachers: {path} knows none of the attributes to be learnt "
                f"({', '.join(schema.names)}); it has {', '.join(model.schema.names)}."
            )
    said = [
        mean_answer([_answers(m, schema, s, settings, kept) for _, m in models]) for s in sources
    ]
    targets = np.concatenate(said)
    targets[: len(parts.train)] = filled_in(parts.train.labels, said[0])
    return targets


def taught_text(teachers: Sequence[Path], unlabelled: int) -> str:
    """Say who stood in for labels, of how many faces without labels."""
    names = ", ".join(teacher.resolve().name for teacher in teachers)
    return (
        f"Answers of other models ({names}) stood in for labels that were not known, those of "
        f"{unlabelled:,} further faces among them; what they get wrong this model is likely to get "
        "wrong, too."
    )


def mean_answer(answers: Sequence[Answers]) -> Answers:
    """Return the mean over those who know, float32 (faces, attributes); NaN is not knowing."""
    known = ~np.isnan(answers)
    total, count = np.nansum(answers, axis=0), known.sum(0)
    mean: Answers = np.where(count, total / np.maximum(count, 1), MISSING).astype(np.float32)
    return mean


def filled_in(labels: Labels, answers: Answers) -> Answers:
    """Return labels (faces, attributes), and answers where they are missing."""
    return np.where(labels == MISSING, answers, labels).astype(np.float32)


def _answers(
    model: AttributeModel,
    schema: AttributeSchema,
    source: FaceSource,
    settings: FinetuneSettings,
    kept: Path,
) -> Answers:
    """Return a model's probabilities (faces, attributes of the schema), NaN of unknown ones."""
    found = np.full((len(source.faces), len(schema)), np.nan, np.float32)
    shared = [name for name in schema.names if name in model.schema.names]
    probabilities = model.probabilities(_logits(model, source, settings, kept))
    theirs = [model.schema.index(name) for name in shared]
    found[:, [schema.index(name) for name in shared]] = probabilities[:, theirs]
    return found


def _logits(
    model: AttributeModel, source: FaceSource, settings: FinetuneSettings, kept: Path
) -> NDArray[np.float32]:
    runtime = settings.runtime
    device = pick_device(runtime.device)
    canvases = Canvases([source], model.canvas, None, 0.0, runtime.workers)
    if frozen_part(model.network) is not None and isinstance(source.faces, FaceSet):
        return kept_logits(
            model, source.faces, source.box, canvases, device, runtime.precision, kept
        )
    mine = face_logits(
        model.network.to(device), canvases, own_places(len(canvases)), model.input_size,
        model.flip_average, device, runtime.precision, title="ask the teacher",
    )  # fmt: skip
    return np.concatenate(gathered(mine))
