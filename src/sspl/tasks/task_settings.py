"""The settings of each task of stage 1, apart from the tasks: they are checked without torch."""

from collections.abc import Iterable, Mapping
from typing import Any, Final, Literal

from pydantic import Field

from sspl.data.view_settings import ColourSettings, GeometrySettings
from sspl.domain.attributes import celeba_schema
from sspl.errors import SettingsError
from sspl.io.user_code import is_user_code
from sspl.settings import Settings, build


class PRTSettings(Settings):
    """Settings of patch rotation.

    `angle_zero` is whether an unturned patch has a which-patch label; `norm_averages` which of the
    two inputs BatchNorm's running averages come from: plain crops alone, both, or each its own
    (and then its own scales and shifts too). `standardise` is what of a patch is normalised by its
    own mean and deviation: all channels together, or each channel.
    """

    grid: Literal[2, 3, 4] = Field(3, description="m: the picture is cut into m x m cells")
    patch_size: int | None = Field(None, ge=8, description="patch side in px; default: the input's")
    background_limit: float = Field(0.5, gt=0, le=1, description="largest background share to turn")
    jitter: float = Field(4.0, ge=0, description="largest shift of a colour channel, grey levels")
    angle_zero: Literal["ignore", "label"] = Field(
        "ignore", description="whether an unturned patch has a which-patch label"
    )
    norm_averages: Literal["crops", "shared", "separate"] = Field(
        "crops",
        description="inputs of BatchNorm's averages: plain crops, both kinds, or each its own",
    )
    standardise: Literal["together", "channels"] = Field(
        "together", description="what of a patch is normalised by itself: all channels, or each"
    )


class PSTSettings(Settings):
    """Settings of patch segmentation."""

    label_smoothing: float = Field(
        0.1, ge=0, lt=1, description="share of a target that is spread over all classes"
    )
    target_stride: int = Field(1, ge=1, le=16, description="take every k-th mask pixel as target")


class PCTSettings(Settings):
    """Settings of patch classification.

    `rule: top` is the reference's: the `top` largest classes are positive. `share`, which is ours,
    takes every class that covers more than `share` of the crop's known pixels, however many.
    """

    rule: Literal["top", "share"] = Field(
        "top", description="positive are the largest classes, or all above a share"
    )
    top: int = Field(9, ge=1, description="v: how many of the largest classes are positive")
    share: float = Field(0.005, ge=0, lt=1, description="share of pixels that a class must exceed")


class LocationSettings(Settings):
    """Settings of relative patch location."""

    patch_size: int | None = Field(
        None, ge=8, description="patch side in px; default: half of the input's"
    )


class TwoViewSettings(Settings):
    """How the two views of a face are drawn; stronger than the crop that other tasks share."""

    geometry: GeometrySettings = GeometrySettings(scale=(0.4, 1.0), shift=1.0, rotation=10)
    colour: ColourSettings = ColourSettings(
        brightness=0.4, contrast=0.4, saturation=0.4, cast=0.1, grey=0.2
    )


class SimCLRSettings(TwoViewSettings):
    """Settings of SimCLR."""

    temperature: float = Field(0.2, gt=0, description="of the softmax over similarities")
    projection: int = Field(128, ge=2, description="size of the vectors that are compared")


class BYOLSettings(TwoViewSettings):
    """Settings of BYOL."""

    decay: float = Field(0.99, ge=0, lt=1, description="of the average that the target network is")
    hidden: int = Field(512, ge=2, description="hidden size of both heads")
    projection: int = Field(128, ge=2, description="size of the vectors that are compared")


class ColouriseSettings(Settings):
    """Settings of colourisation."""

    bins: int = Field(32, ge=2, description="bins for each of Cb and Cr")
    range: float = Field(0.5, gt=0, le=1, description="largest Cb and Cr told apart; 1 is all")


class MaskedSettings(Settings):
    """Settings of masked image modelling."""

    grid: int = Field(6, ge=2, description="the picture is cut into grid x grid cells")
    ratio: float = Field(0.6, gt=0, lt=1, description="share of the cells that are covered")


class AttributesSettings(Settings):
    """Settings of known attributes."""

    names: tuple[str, ...] = Field(
        celeba_schema().names,
        min_length=1,
        description="attributes to learn; one that a set of faces does not have is unknown there",
    )


TASK_SETTINGS: Final[Mapping[str, type[Settings]]] = {
    "prt": PRTSettings,
    "pst": PSTSettings,
    "pct": PCTSettings,
    "rotnet": Settings,
    "location": LocationSettings,
    "simclr": SimCLRSettings,
    "byol": BYOLSettings,
    "colourise": ColouriseSettings,
    "masked": MaskedSettings,
    "attributes": AttributesSettings,
}
"""What `task.NAME` may hold, by the names of `sspl.tasks.TASKS` and in their order."""

BUILT_IN: Final = tuple(TASK_SETTINGS)


def require_task(task: str) -> None:
    """Raise `SettingsError` for what is neither a built-in task nor FILE.py:CLASS."""
    if task not in TASK_SETTINGS and not is_user_code(task):
        raise SettingsError(f"tasks: '{task}' is none of {', '.join(BUILT_IN)}, nor FILE.py:CLASS.")


def task_settings(given: Mapping[str, Any], tasks: Iterable[str]) -> dict[str, Settings]:
    """Return the settings of every built-in task and of the user's, each of the task's own model.

    Raises `SettingsError` naming a field that does not fit by its path, or a task that is unknown.
    """
    models, own = dict(TASK_SETTINGS), [task for task in tasks if task not in TASK_SETTINGS]
    for task in own:
        require_task(task)
    if own:
        # The classes of tasks need torch, and the names of the built-in ones do not.
        from sspl.tasks.loading import task_kinds

        models |= {name: kind.Settings for name, kind in task_kinds(own).items()}
    for name in given:
        if name not in models:
            raise SettingsError(f"task.{name}: no task has this name; use {', '.join(models)}.")
    return {
        name: build(model, given.get(name, {}), where=f"task.{name}")
        for name, model in models.items()
    }
