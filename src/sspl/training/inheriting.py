"""Which settings stage 2 takes over from what it starts from, and which would contradict that."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sspl.data.data_settings import DataSettings, crop_text, name_of_box
from sspl.data.images import Box
from sspl.domain.taxonomy import BUILT_IN, built_in_taxonomy
from sspl.errors import SettingsError
from sspl.io.run_files import SETTINGS_FILE
from sspl.io.weight_headers import checked_metadata, stated_metadata
from sspl.models.model_metadata import CONFIG_FILE, ModelMetadata, not_alone, read_metadata
from sspl.settings import build, merge, read_settings
from sspl.training.stage_settings import FinetuneSettings, preset
from sspl.training.starts import PretrainedMetadata, not_a_start, weights_file

log = logging.getLogger(__name__)

SAME: Final = ("architecture", "backbone", "canvas", "input_size")
"""Settings that a start and what goes on from it have alike."""


@dataclass(frozen=True)
class Start:
    """What a run of either stage, or a packed model, says of itself.

    Args:
        path: where it is.
        same: its values of the settings in `SAME`.
        usual: settings that go on well from it.
        box: the part of each picture that it learnt from, None where that is not known or not one.
        pictures: folders that its pictures lie in, where that is known.
    """

    path: Path
    same: Mapping[str, Any]
    usual: Mapping[str, Any]
    box: Box | None
    pictures: frozenset[Path]


def read_start(path: Path) -> Start:
    """Read what can be started from, but no weights.

    Raises `DataError` when there is nothing to start from.
    """
    file = weights_file(path)
    content = stated_metadata(file)
    kind = content.get("kind") if isinstance(content, dict) else None
    packed = content is None and (file.parent / CONFIG_FILE).is_file()
    known: PretrainedMetadata | ModelMetadata
    if kind == "pretrained":
        known = checked_metadata(PretrainedMetadata, content, file)
    elif kind == "attributes" or packed:
        known = read_metadata(file)
        if known.frozen is not None:
            raise not_alone(path)
    else:
        raise not_a_start(file, content)
    run = file.parent / SETTINGS_FILE
    settings = read_settings(run) if run.is_file() else {}
    data = _data_in(settings)
    boxes = {part.box() for part in data if part.format != "packed"}
    common = boxes.pop() if len(boxes) == 1 else None
    same = {key: value for key, value in known.model_dump(mode="json").items() if key in SAME}
    return Start(
        path,
        {key: value for key, value in same.items() if value is not None},
        _usual(known, settings),
        common if known.box is None else known.box,
        frozenset(_pictures(part) for part in data),
    )


def _usual(
    known: PretrainedMetadata | ModelMetadata, settings: Mapping[str, Any]
) -> dict[str, Any]:
    if isinstance(known, ModelMetadata):
        assert known.head is not None
        head = known.head.model_dump(mode="json", include={"pooling", "region_map"})
    else:
        regions = known.architecture == "sspl" and "pst" in known.tasks
        head = {} if regions else {"pooling": "average"}
    usual: dict[str, Any] = {"head": head}
    if head.get("pooling") != "average":
        usual["segmentation"] = known.segmentation.model_dump(mode="json")
    alike = (name for name in BUILT_IN if built_in_taxonomy(name).classes == known.classes)
    taxonomy = settings.get("taxonomy") or next(alike, None)
    return usual | ({"taxonomy": taxonomy} if taxonomy else {})


def finetune_settings(
    preset_name: str, given: Mapping[str, Any], overrides: Sequence[str] = ()
) -> FinetuneSettings:
    """Return the settings of stage 2: a preset, its start's own over it, what is given over both.

    The log says what is the start's. Raises `SettingsError` where something given contradicts it.
    """
    base, start = preset(preset_name, "finetune"), None
    if given.get("pretrained"):
        start = read_start(Path(given["pretrained"]))
        base = taken_over(base, start)
    content = merge(base, dict(given))
    if start is not None and isinstance(content.get("data"), dict):
        content["data"] = framed(content["data"], start)
    settings = build(FinetuneSettings, content, overrides)
    if start is not None:
        log.info(agreement(settings, start))
    return settings


def taken_over(preset: Mapping[str, Any], start: Start) -> dict[str, Any]:
    """Return a preset of stage 2 with what a start has in place of its own."""
    merged = merge(dict(preset), dict(start.usual)) | dict(start.same)
    return merged | {k: start.usual[k] for k in ("segmentation",) if k in start.usual}


def framed(data: dict[str, Any], start: Start) -> dict[str, Any]:
    """Return labelled faces as settings, cut as those of a start were where no crop is given."""
    # A pack remembers how its faces were cut.
    if start.box is None or "crop" in data or data.get("format") == "packed":
        return data
    return data | {"crop": name_of_box(start.box)}


def agreement(settings: FinetuneSettings, start: Start) -> str:
    """Return what a run has of its start, in words.

    Raises `SettingsError` naming the first setting that contradicts it. Pictures that lie elsewhere
    may be cut otherwise.
    """
    mine = settings.model_dump(mode="json", include=set(start.same))
    for key in start.same:
        if mine[key] != start.same[key]:
            raise SettingsError(
                f"{key}: {start.path} was trained with {_shown(start.same[key])}, not "
                f"{_shown(mine[key])}; leave it out, or start from another run."
            )
    words = [f"{key}={_shown(value)}" for key, value in start.same.items()]
    data = settings.data
    if data is None or start.box is None or data.format == "packed":
        return f"From {start.path}: {', '.join(words)}."
    if data.box() == start.box:
        return f"From {start.path}: {', '.join([*words, f'crop={crop_text(start.box)}'])}."
    theirs, ours = crop_text(start.box), crop_text(data.box())
    if _pictures(data) in start.pictures:
        raise SettingsError(
            f"crop: {start.path} was trained on these pictures with crop={theirs}, not {ours}; "
            "leave crop out."
        )
    return (
        f"From {start.path}: {', '.join(words)}; crop={ours} as given, where its own pictures had "
        f"crop={theirs}."
    )


def _data_in(settings: Mapping[str, Any]) -> list[DataSettings]:
    content = settings.get("data") or []
    parts = content if isinstance(content, list) else [content]
    return [DataSettings.model_validate(part) for part in parts]


def _pictures(data: DataSettings) -> Path:
    folder = data.root if data.root.is_dir() else data.root.parent
    return (data.images or folder).absolute()


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {part}" for key, part in value.items() if part is not None)
    return str(value)
