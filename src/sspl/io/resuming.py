"""Whether a run that goes on has the settings that it began with."""

from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel

from sspl.errors import SettingsError
from sspl.settings import S, Settings, build, fields_of, read_settings

FREE: Final = (
    "runtime.device",
    "runtime.compile",
    "runtime.workers",
    "runtime.cache_gb",
    "runtime.cache_folder",
    "device",
    "kept_features",
    "save_every",
)
"""Settings that may differ when a run goes on: they say where and how fast, not what is learnt."""

PLACES: Final = (
    "data*.root", "data*.images", "data*.masks", "data*.schema_file", "data*.split_file",
    "pretrained", "backbone_weights", "features*.path", "consistency.data*.root",
    "consistency.data*.images", "consistency.data*.masks", "consistency.data*.schema_file",
    "consistency.data*.split_file", "distillation.teachers*", "distillation.data*.root",
    "distillation.data*.images", "distillation.data*.masks", "distillation.data*.schema_file",
    "distillation.data*.split_file",
)  # fmt: skip
"""Where inputs lie, which may have moved: the inputs themselves are compared."""

Extent = tuple[str, str | None]
"""Key of the setting that says how long a run is, and why it cannot become longer, if so."""


def require_same_settings(
    file: Path, now: S, extent: Extent | None = None, done: int = 0
) -> tuple[str, ...]:
    """Compare settings with those that a run began with; return what of them may and does differ.

    A setting that an older version did not write takes its default.

    Args:
        file: the settings the run began with.
        now: those that it is to go on with.
        extent: as above; without a reason it may become longer.
        done: how much of that extent is behind the run.

    Raises `SettingsError` naming every setting that differs, with its old and its new value, and
    those of the file that this version does not know.
    """
    before = read_settings(file)
    strange = _unknown(type(now), before, "")
    if strange:
        raise SettingsError(
            f"{file} has settings that this version does not know ({', '.join(strange)}); go on "
            "with the version that wrote them, or remove them to go on without."
        )
    try:
        old = build(type(now), before)
    except SettingsError as error:
        raise SettingsError(f"{file}: {error}") from None
    then, new = _flat(old.model_dump(mode="json")), _flat(now.model_dump(mode="json"))
    absent = object()
    keys = [k for k in {**then, **new} if then.get(k, absent) != new.get(k, absent)]
    free = [
        k
        for k in keys
        if any(fnmatchcase(_plain(k), f) for f in FREE)
        or (any(fnmatchcase(_plain(k), f) for f in PLACES) and _as_many(then.get(k), new.get(k)))
    ]
    wrong = [k for k in keys if k not in free]
    if extent is not None and extent[0] in wrong and set(wrong) <= {extent[0]}:
        _require_extent(file, extent, then[extent[0]], new[extent[0]], done)
        free.append(extent[0])
        wrong = []
    if wrong:
        said = "; ".join(f"{k} was {_short(then.get(k))}, now {_short(new.get(k))}" for k in wrong)
        raise SettingsError(
            f"{file.parent} was started with other settings ({said}); resume with the same ones "
            "or choose another --out."
        )
    return tuple(free)


def _require_extent(file: Path, extent: Extent, before: int, now: int, done: int) -> None:
    key, reason = extent
    if reason is not None:
        raise SettingsError(
            f"{file.parent} was started with other settings ({key} was {before}, now {now}), and "
            f"that one cannot change: {reason}"
        )
    if now < done:
        raise SettingsError(
            f"{key}: {now} is less than the {done} that {file.parent} has behind it; ask for more."
        )


def _unknown(model: type[BaseModel], content: Any, where: str) -> list[str]:
    if not isinstance(content, Mapping):
        return []
    found = []
    for key, value in content.items():
        path = f"{where}{key}"
        if key not in model.model_fields:
            found.append(path)
        # Tasks have models of their own, by which `build` judges what stands below them.
        elif (nested := fields_of(model, key)) not in (None, Settings):
            for part in value if isinstance(value, list) else [value]:
                found += _unknown(nested, part, f"{path}.")
    return found


def _flat(content: Any, path: str = "") -> dict[str, Any]:
    if isinstance(content, dict) and content:
        pairs = [(f"{path}.{key}" if path else str(key), value) for key, value in content.items()]
    elif isinstance(content, list) and any(isinstance(part, dict) for part in content):
        pairs = [(f"{path}[{i}]", value) for i, value in enumerate(content)]
    else:
        return {path: content}
    return {k: v for key, value in pairs for k, v in _flat(value, key).items()}


def _as_many(before: Any, now: Any) -> bool:
    """Tell whether places can have moved: one more or one less is another input."""
    return not (isinstance(before, list) and isinstance(now, list) and len(before) != len(now))


def _plain(key: str) -> str:
    return key.replace("[", ".").replace("]", "")


def _short(value: Any) -> str:
    text = "none" if value is None else str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
