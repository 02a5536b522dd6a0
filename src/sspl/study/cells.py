"""The cells of a study: what is run once each, and where its results lie."""

import hashlib
import json
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

from pydantic import BaseModel

from sspl.errors import SettingsError
from sspl.io.user_code import file_of, is_user_code
from sspl.io.weight_headers import stated_checksum
from sspl.settings import Settings, build, merge
from sspl.study.probe_settings import FeatureSettings
from sspl.study.study_settings import (
    EVERY_KTH,
    CountSettings,
    MethodSettings,
    Protocol,
    StudySettings,
    filled,
)
from sspl.training.feature_settings import parse_features
from sspl.training.inheriting import read_start, taken_over
from sspl.training.stage_settings import FinetuneSettings, PretrainSettings, preset
from sspl.training.starts import weights_file
from sspl.weights import BUILT_IN

RESULT_FILE: Final = "result.json"
FAILURE_FILE: Final = "failure.json"
STAGE2: Final[dict[str, Any]] = {"select_by": "accuracy"}
"""What all cells of stage 2 have in common unless the study says otherwise: one way to select."""

KTH: Final = -1
"""In place of a subset's seed: every k-th face."""

S = TypeVar("S", bound=Settings)

_MACHINE: Final = {"data", "runtime", "pretrained", "kept_features"}
"""Settings that say where things are and how fast they run, not what is learnt."""


@dataclass(frozen=True, order=True)
class Cell:
    """One method at one label count on one label subset under one protocol.

    Args:
        method, protocol, labels: which.
        subset: seed of a random subset, or `KTH` for every k-th face.
        repeat: added to the study's seed.
    """

    method: str
    protocol: Protocol
    labels: int
    subset: int
    repeat: int = 0

    @property
    def name(self) -> str:
        """Its folder below `cells`."""
        drawn = "every-kth" if self.subset == KTH else f"subset-{self.subset}"
        drawn += f"-repeat-{self.repeat}" if self.repeat else ""
        return f"{self.method}/{self.protocol}/labels-{self.labels}/{drawn}"

    @property
    def subset_text(self) -> str:
        """The subset as tables name it."""
        return EVERY_KTH if self.subset == KTH else str(self.subset)


@dataclass(frozen=True)
class StudyPlan:
    """A cell with its settings, data left out.

    Args:
        cell: which.
        method: its method.
        start: weights that are there already, or None.
        features: networks from outside, side by side in the place of the backbone.
        pretrain: stage 1, or None.
        stage1: name of the folder of stage 1, the same for equal settings; empty without.
        finetune: stage 2; the probes take from it the faces, sizes and what to select by.
        settings_hash: tells apart cells that ran with other settings.
        minutes: budget of the cell.
        stage1_minutes: budget of its stage 1.
        teacher: what is fine-tuned first and teaches it, or None.
    """

    cell: Cell
    method: MethodSettings
    start: Path | None
    features: tuple[FeatureSettings, ...]
    pretrain: PretrainSettings | None
    stage1: str
    finetune: FinetuneSettings
    settings_hash: str
    minutes: float
    stage1_minutes: float
    teacher: "StudyPlan | None" = None


def list_cells(
    study: StudySettings, only: tuple[str, ...] = (), labels: tuple[int, ...] = ()
) -> list[Cell]:
    """Return the study's cells in the order of its sections, each once.

    `only` and `labels` pick methods and label counts; raises `SettingsError` for one of which
    the study has no cell. Repeats come last.
    """
    most = max(section.repeats for section in study.sections)
    cells = dict.fromkeys(
        Cell(method, protocol, count, KTH if subset == EVERY_KTH else int(subset), repeat)
        for repeat in range(most)
        for section in study.sections
        for count in section.labels
        for protocol in section.protocols
        for method in section.methods
        for subset in section.subsets
        if repeat < section.repeats
    )
    methods, counts = {c.method for c in cells}, {c.labels for c in cells}
    for method in only:
        if method not in methods:
            raise SettingsError(f"--only: no cell of '{method}'; use {', '.join(sorted(methods))}.")
    for count in labels:
        if count not in counts:
            there = ", ".join(map(str, sorted(counts)))
            raise SettingsError(f"--labels: no cell with {count} labels; use {there}.")
    return [
        c for c in cells if (not only or c.method in only) and (not labels or c.labels in labels)
    ]


def plan(study: StudySettings, cell: Cell) -> StudyPlan:
    """Resolve the settings of a cell; raises `SettingsError` naming the method that has wrong ones.

    Settings that stand at their default do not enter the hash, so that a setting which a later
    version adds does not make the results of this one foreign.
    """
    method = study.methods[cell.method]
    count = study.counts.get(cell.labels)
    where = f"methods.{cell.method}"
    own = _Own(where, method)
    seed = {"seed": study.seed + cell.repeat}
    pretrain = None
    if method.pretrain is not None:
        pretrain = _built(
            PretrainSettings,
            where,
            _preset(study.preset, "pretrain"),
            study.pretrain,
            seed,
            own.pretrain,
        )
    finetune = _built(
        FinetuneSettings,
        where,
        STAGE2,
        _stage2_preset(study.preset, own.start),
        study.finetune,
        count.finetune if count else {},
        seed,
        own.finetune,
        {"labels": _labels(cell, count)},
    )
    unlabelled = unlabelled_of(study, method)
    teacher = plan(study, replace(cell, method=method.teacher)) if method.teacher else None
    stage1 = {"pretrain": _dump(pretrain), "unlabelled": unlabelled}
    identity = {
        "protocol": cell.protocol,
        "data": study.data,
        "stage1": stage1 if pretrain else _of_start(own.start),
        "finetune": _stage2_dump(finetune),
        "features": [_by_content(_dumped(f)) for f in own.features] or None,
        **({} if teacher is None else {"teacher": teacher.settings_hash}),
        "probe": None if cell.protocol == "finetune" else _dump(getattr(study, cell.protocol)),
    }
    minutes = getattr(study.minutes, cell.protocol)
    if cell.protocol == "finetune" and count is not None and count.minutes is not None:
        minutes = count.minutes
    if teacher is not None and method.minutes is not None:
        minutes = method.minutes
    return StudyPlan(
        cell,
        method,
        own.start,
        own.features,
        pretrain,
        _stage1_name(pretrain, _hash(stage1)),
        finetune,
        _hash(identity),
        minutes,
        method.minutes or study.minutes.pretrain,
        teacher,
    )


class _Features(Settings):
    features: tuple[FeatureSettings, ...]


class _Own:
    """What a method says for itself, its environment variables filled in."""

    def __init__(self, where: str, method: MethodSettings) -> None:
        given = {"start", "pretrain", "finetune", "features"}
        content = filled(method.model_dump(mode="json", include=given), where)
        self.start = Path(content["start"]) if content["start"] else None
        self.pretrain, self.finetune = content["pretrain"] or {}, content["finetune"]
        each = [parse_features(f) if isinstance(f, str) else f for f in content["features"]]
        self.features = _built(_Features, where, {"features": each}).features


def _stage2_preset(name: str, start: Path | None) -> dict[str, Any]:
    """Return the preset of stage 2, with what weights that are there already have in its place."""
    content = _preset(name, "finetune")
    return content if start is None else taken_over(content, read_start(start))


def _labels(cell: Cell, count: CountSettings | None) -> dict[str, Any]:
    if cell.subset != KTH:
        return {"count": cell.labels, "subset_seed": cell.subset}
    share = count.percent if count else None
    drawn = {"count": cell.labels} if share is None else {"fraction": share / 100}
    return {"rule": EVERY_KTH} | drawn


def unlabelled_of(study: StudySettings, method: MethodSettings) -> tuple[str, ...]:
    """Return the data specs of a method's stage 1."""
    return method.unlabelled or study.unlabelled or (study.data,)


@cache
def _preset(name: str, stage: Literal["pretrain", "finetune"]) -> dict[str, Any]:
    return preset(name, stage)


def _built(kind: type[S], where: str, *layers: dict[str, Any]) -> S:
    content: dict[str, Any] = {}
    for layer in layers:
        content = merge(content, layer)
    try:
        return build(kind, content)
    except SettingsError as error:
        raise SettingsError(f"{where}: {error}") from None


def _dump(settings: BaseModel | None) -> dict[str, Any] | None:
    return None if settings is None else _dumped(settings)


def _dumped(settings: BaseModel) -> dict[str, Any]:
    content = settings.model_dump(mode="json", exclude=_MACHINE, exclude_defaults=True)
    if weights := content.get("backbone_weights"):
        content["backbone_weights"] = _content(weights)
    if isinstance(features := content.get("features"), list):
        content["features"] = [_by_content(each) for each in features]
    return content


def _by_content(features: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of a network from outside with what its file holds for where it lies."""
    return {k: _content(v) if k == "path" else v for k, v in features.items()}


def _content(path: str) -> str:
    """Return what tells the content of a run, of weights or of any other file from others'."""
    file = file_of(path)
    if file.is_dir() or str(file) == BUILT_IN:
        file = weights_file(file)
    if file.suffix == ".safetensors" and (checksum := stated_checksum(file)):
        return checksum
    if not file.is_file():
        raise SettingsError(f"{path}: there is no such file.")
    about = file.stat()
    return _digest(file, about.st_size, about.st_mtime_ns)


@cache
def _digest(file: Path, size: int, changed: int) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _of_start(start: Path | None) -> dict[str, str | None] | None:
    """Return what tells weights that are there already from others: their content."""
    return None if start is None else {"start": stated_checksum(weights_file(start))}


def _stage2_dump(settings: FinetuneSettings) -> dict[str, Any]:
    """Return the settings of stage 2 that are not those of every study."""
    dumped = (_dump(settings) or {}) | {"select_by": settings.select_by}
    return {key: value for key, value in dumped.items() if STAGE2.get(key) != value}


def _hash(content: Any) -> str:
    text = json.dumps(content, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _stage1_name(pretrain: PretrainSettings | None, digest: str) -> str:
    if pretrain is None:
        return ""
    tasks = [t.rpartition(":")[2] if is_user_code(t) else t for t in pretrain.tasks]
    return "-".join([pretrain.architecture, *tasks, digest[:8]])


def cell_folder(out: Path, cell: Cell) -> Path:
    """Return the folder of a cell within the study's."""
    return out / "cells" / cell.name


def read_json(path: Path) -> dict[str, Any] | None:
    """Return what a file of a study holds, None when it is not there."""
    if not path.is_file():
        return None
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content
