"""Settings of stage 1 and stage 2, and the presets."""

from importlib import resources
from pathlib import Path
from typing import Any, Final, Literal

import yaml
from pydantic import Field, field_validator, model_validator

from sspl.data.settings import DataSettings
from sspl.data.skipping import OnError
from sspl.data.transforms import ColourSettings, GeometrySettings
from sspl.device import Precision
from sspl.errors import SettingsError
from sspl.models.attributes import HeadSettings
from sspl.models.branches import Architecture
from sspl.models.trunk import TrunkSettings
from sspl.schedules import stepwise, warmup_cosine
from sspl.settings import Settings, merge
from sspl.tasks.byol import BYOLSettings
from sspl.tasks.colourise import ColouriseSettings
from sspl.tasks.location import LocationSettings
from sspl.tasks.masked import MaskedSettings
from sspl.tasks.pct import PCTSettings
from sspl.tasks.prt import PRTSettings
from sspl.tasks.pst import PSTSettings, SegmentationSettings
from sspl.tasks.simclr import SimCLRSettings
from sspl.training.adversarial import AdversarialSettings
from sspl.training.consistency import ConsistencySettings
from sspl.training.deciding import ThresholdRule
from sspl.training.losses import LossSettings
from sspl.user_code import absolute, is_user_code

PRESETS: Final = ("paper-sspl", "paper-splnet", "small", "demo")
PAPERS_TASKS: Final = ("prt", "pst", "pct")
OTHER_TASKS: Final = ("rotnet", "location", "simclr", "byol", "colourise", "masked")
"""Tasks of other papers, to compare with."""

BUILT_IN: Final = (*PAPERS_TASKS, *OTHER_TASKS)
MOST_WARMUP: Final = 0.5


class ScheduleSettings(Settings):
    """Learning rate over the run, as a factor on `optim.lr`.

    `steps` are (until epoch, factor) pairs with a linear warm-up to the first factor; without
    them the warm-up, at most half of the run, leads into a half cosine down to a thousandth.
    """

    warmup_epochs: int = Field(0, ge=0)
    steps: tuple[tuple[int, float], ...] = ()

    @property
    def whole(self) -> bool:
        """Whether the factor of an epoch depends on how many there are in all."""
        return not self.steps

    def factor(self, epoch: int, progress_in_epoch: float, epochs: int) -> float:
        """Return the factor in a 0-based epoch; `progress_in_epoch` is in (0, 1]."""
        if self.steps:
            return stepwise(epoch, self.warmup_epochs, self.steps)
        progress = (epoch + progress_in_epoch) / epochs
        return warmup_cosine(progress, min(self.warmup_epochs / epochs, MOST_WARMUP))


class OptimSettings(Settings):
    """Optimiser and budget; `batch_size` counts the faces of a step over all processes."""

    name: Literal["adam", "adamw"] = "adamw"
    lr: float = Field(1e-3, gt=0)
    weight_decay: float = Field(0.05, ge=0)
    batch_size: int = Field(64, ge=2)
    epochs: int = Field(30, ge=1)
    accumulate: int = Field(
        1, ge=1, description="parts in which a process works through its share of a batch"
    )
    sync_batchnorm: bool = Field(
        True, description="among several processes, take BatchNorm's statistics over all of them"
    )
    clip: float = Field(5.0, gt=0, description="largest gradient norm")
    schedule: ScheduleSettings = ScheduleSettings(warmup_epochs=1)


def extent_of(optim: OptimSettings, instead: str) -> tuple[str, str | None]:
    """Return which setting says how long a run is, and why it cannot change, if so.

    `instead` says what to do in its place.
    """
    reason = (
        "the learning rate follows a curve over all epochs, so that a longer run would have learnt "
        f"otherwise from its first one. {instead}"
    )
    return "optim.epochs", reason if optim.schedule.whole else None


class RuntimeSettings(Settings):
    """Where and how the arithmetic runs; no effect on what is learnt but rounding."""

    device: str = "auto"
    precision: Precision = "auto"
    compile: bool = False
    workers: int = Field(
        0, ge=0, description="decoding processes when faces do not fit the cache; 0: threads"
    )
    cache_gb: float = Field(4.0, ge=0, description="keep decoded faces in memory up to this")


class PretrainSettings(Settings):
    """Stage 1."""

    seed: int = Field(0, ge=0)
    data: tuple[DataSettings, ...] = ()
    splits: tuple[str, ...] = Field(("train",), description="splits used, where a set has any")
    on_error: OnError = Field("fail", description="what to do with faces that cannot be read")
    architecture: Architecture = "sspl"
    taxonomy: str = "celebamask19"
    tasks: tuple[str, ...] = Field(
        PAPERS_TASKS,
        description=f"{', '.join(BUILT_IN)}, or FILE.py:CLASS for a task of your own",
    )
    weights: dict[str, float] = Field(
        default_factory=dict, description="loss weight by the task's name, 1 unless given"
    )
    canvas: int = Field(112, ge=32, le=2048, description="side of the face picture, px")
    input_size: int = Field(96, ge=32, le=1024, description="side of the network's input, px")
    trunk: TrunkSettings = TrunkSettings()
    trunk_weights: Path | None = Field(None, description="safetensors file the trunk starts from")
    segmentation: SegmentationSettings = SegmentationSettings()
    prt: PRTSettings = PRTSettings()
    pst: PSTSettings = PSTSettings()
    pct: PCTSettings = PCTSettings()
    location: LocationSettings = LocationSettings()
    simclr: SimCLRSettings = SimCLRSettings()
    byol: BYOLSettings = BYOLSettings()
    colourise: ColouriseSettings = ColouriseSettings()
    masked: MaskedSettings = MaskedSettings()
    adversarial: AdversarialSettings = AdversarialSettings()
    geometry: GeometrySettings = GeometrySettings(scale=(0.44, 0.44))
    colour: ColourSettings = ColourSettings()
    optim: OptimSettings = OptimSettings()
    save_every: int = Field(
        500, ge=1, description="steps between saves inside an epoch; its end is always saved"
    )
    runtime: RuntimeSettings = RuntimeSettings()

    @field_validator("tasks")
    @classmethod
    def _from_any_folder(cls, tasks: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(absolute(t) if is_user_code(t) else t for t in tasks)

    @model_validator(mode="after")
    def _tasks_once(self) -> "PretrainSettings":
        built_in = ", ".join(BUILT_IN)
        if not self.tasks or len(set(self.tasks)) != len(self.tasks):
            raise ValueError(f"tasks needs each task once and at least one of {built_in}")
        for task in self.tasks:
            if task not in BUILT_IN and not is_user_code(task):
                raise ValueError(f"tasks: '{task}' is none of {built_in}, nor FILE.py:CLASS")
        for name, weight in self.weights.items():
            if weight < 0:
                raise ValueError(f"weights.{name} must be at least 0")
        if self.architecture == "splnet" and "pct" not in self.tasks:
            raise ValueError(
                "architecture splnet needs pct among the tasks: it trains the branches"
            )
        return self

    def loss_weights(self) -> dict[str, float]:
        """Return the weight of each term of the loss by its name; 1 for one without an entry."""
        return self.weights | {"adversarial": self.adversarial.weight}


class LabelSettings(Settings):
    """Which training faces are labelled; all when neither count nor fraction is given."""

    count: int | None = Field(None, ge=1)
    fraction: float | None = Field(None, gt=0, le=1)
    rule: Literal["seeded", "every_kth"] = "seeded"
    subset_seed: int = Field(0, ge=0)
    val_fraction: float = Field(
        0.2, gt=0, lt=1, description="share of the labelled faces to select on, without a val split"
    )

    @model_validator(mode="after")
    def _one_of(self) -> "LabelSettings":
        if self.count is not None and self.fraction is not None:
            raise ValueError("give labels.count or labels.fraction, not both")
        return self


class FinetuneSettings(Settings):
    """Stage 2."""

    seed: int = Field(0, ge=0)
    data: DataSettings | None = None
    labels: LabelSettings = LabelSettings()
    pretrained: Path | None = Field(
        None, description="run of stage 1 or of stage 2, or packed model; none: from scratch"
    )
    canvas: int = Field(112, ge=32, le=2048)
    input_size: int = Field(96, ge=32, le=1024)
    architecture: Architecture = "sspl"
    trunk: TrunkSettings = TrunkSettings()
    trunk_weights: Path | None = Field(None, description="safetensors file the trunk starts from")
    taxonomy: str = "celebamask19"
    segmentation: SegmentationSettings = SegmentationSettings()
    head: HeadSettings = HeadSettings()
    geometry: GeometrySettings = GeometrySettings(scale=(0.8, 1.0), rotation=8)
    colour: ColourSettings = ColourSettings()
    loss: LossSettings = LossSettings()
    consistency: ConsistencySettings = ConsistencySettings()
    ema: float = Field(
        0.0, ge=0, lt=1, description="decay of the averaged weights that are kept; 0: none"
    )
    optim: OptimSettings = OptimSettings()
    layer_decay: float = Field(1.0, gt=0, le=1, description="lr factor per stage, last to first")
    head_lr: float = Field(1.0, gt=0, description="lr factor of the attribute heads")
    freeze: int = Field(
        0,
        ge=0,
        le=5,
        description="stem and stages, first to last, left as they are; 5: all that is pre-trained",
    )
    evaluate_every: int = Field(1, ge=1, description="epochs between looks at the validation split")
    patience: int | None = Field(None, ge=1, description="stop after so many looks without gain")
    select_by: Literal["auto", "accuracy", "balanced_accuracy", "average_precision"] = Field(
        "auto", description="auto: average precision where most attributes are rare, else accuracy"
    )
    flip_average: bool = Field(True, description="average over the mirrored face when predicting")
    calibrate: bool = Field(True, description="fit temperatures on the validation faces")
    thresholds: ThresholdRule = Field(
        "half", description="0.5, or the best balanced accuracy or F1 on the validation faces"
    )
    sure_accuracy: float | None = Field(
        None,
        gt=0.5,
        le=1,
        description="accuracy on the validation faces outside a band of 'not sure'; none: no band",
    )
    runtime: RuntimeSettings = RuntimeSettings()

    @model_validator(mode="after")
    def _one_start(self) -> "FinetuneSettings":
        if self.trunk_weights is not None and self.pretrained is not None:
            raise ValueError(
                "give trunk_weights or pretrained, not both; each sets the whole trunk"
            )
        return self

    @model_validator(mode="after")
    def _teacher(self) -> "FinetuneSettings":
        if self.consistency.weight and not self.ema:
            raise ValueError("consistency.weight needs a teacher: set ema, to 0.99 say")
        return self

    @model_validator(mode="after")
    def _one_kind_of_region(self) -> "FinetuneSettings":
        if self.architecture == "splnet" and self.head.pooling != "average":
            raise ValueError("architecture splnet has branches: set head.pooling=average")
        return self


def preset(name: str, stage: Literal["pretrain", "finetune"]) -> dict[str, Any]:
    """Return one stage's part of a preset as a mapping; raise `SettingsError` when unknown."""
    if name not in PRESETS:
        raise SettingsError(f"preset: unknown preset '{name}'; allowed are {', '.join(PRESETS)}.")
    file = resources.files("sspl") / "configs" / f"{name}.yaml"
    content = yaml.safe_load(file.read_text(encoding="utf-8"))
    part = merge(content.get("common", {}), content.get(stage, {}))
    return merge(preset(content["base"], stage), part) if "base" in content else part
