"""Settings of stage 1 and stage 2, and the presets."""

from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import yaml
from pydantic import (
    ConfigDict,
    Field,
    SerializationInfo,
    SkipValidation,
    ValidationInfo,
    field_serializer,
    field_validator,
    model_validator,
)

from sspl.data.data_settings import DataSettings
from sspl.data.skipping import OnError
from sspl.data.view_settings import ColourSettings, GeometrySettings
from sspl.errors import SettingsError
from sspl.io.run_files import SETTINGS_FILE
from sspl.io.user_code import absolute, is_user_code
from sspl.models.network_settings import (
    Architecture,
    BackboneSettings,
    HeadSettings,
    SegmentationSettings,
)
from sspl.optim.optim_settings import OptimSettings
from sspl.settings import Precision, Settings, build, merge, read_settings
from sspl.tasks.built_in import BUILT_IN, TaskSettings
from sspl.training.deciding import ThresholdRule
from sspl.training.feature_settings import FeatureList, LinearSettings
from sspl.training.loss_settings import (
    AdversarialSettings,
    ConsistencySettings,
    DistillationSettings,
    LossSettings,
)

PRESETS: Final = (
    "paper-sspl",
    "paper-splnet",
    "paper-sspl-as-published",
    "paper-splnet-as-published",
    "small",
    "demo",
)
PAPERS_TASKS: Final = ("prt", "pst", "pct")


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

    device: str = Field("auto", description="auto, cpu, cuda, cuda:1 or the like")
    precision: Precision = Field(
        "auto", description="auto: bf16 where that is fast, else fp16 on GPUs, else fp32"
    )
    deterministic: bool = Field(
        False,
        description="kernels that add in a fixed order alone: a GPU gives the same bits each time",
    )
    compile: bool = Field(False, description="let torch compile the network; needs a C++ compiler")
    workers: int = Field(
        0, ge=0, description="decoding processes when faces do not fit the cache; 0: threads"
    )
    cache_gb: float = Field(4.0, ge=0, description="keep decoded faces in memory up to this")
    cache_folder: Path | None = Field(
        None,
        description="folder of files of decoded faces, which all processes of a machine share",
    )


class PretrainSettings(Settings):
    """Stage 1.

    Examples:
        >>> settings = PretrainSettings(tasks=("prt",), task={"prt": {"grid": 2}})
        >>> settings.task["prt"].grid, settings.optim.batch_size
        (2, 64)
    """

    seed: int = Field(0, ge=0, description="of initial weights, order and views")
    data: tuple[DataSettings, ...] = Field((), description="faces to learn from; --data gives them")
    splits: tuple[str, ...] = Field(("train",), description="splits used, where a set has any")
    on_error: OnError = Field("fail", description="what to do with faces that cannot be read")
    architecture: Architecture = Field(
        "sspl", description="one feature, or four branches by region"
    )
    taxonomy: str = Field(
        "celebamask19", description="classes of the masks: a built-in list, or a file"
    )
    tasks: tuple[str, ...] = Field(
        PAPERS_TASKS,
        description=f"{', '.join(BUILT_IN)}, or FILE.py:CLASS for a task of your own",
    )
    weights: dict[str, float] = Field(
        default_factory=dict, description="loss weight by the task's name, 1 unless given"
    )
    canvas: int = Field(112, ge=32, le=2048, description="side of the face picture, px")
    enlarge: bool = Field(
        True,
        description="bring smaller pictures to the canvas when read; false: the view does",
    )
    input_size: int = Field(96, ge=32, le=1024, description="side of the network's input, px")
    backbone: BackboneSettings = BackboneSettings()
    backbone_weights: Path | None = Field(
        None, description="safetensors file, or one of torch, that the backbone starts from"
    )
    segmentation: SegmentationSettings = SegmentationSettings()
    task: SkipValidation[Mapping[str, Any]] = Field(
        default_factory=dict, validate_default=True, description="settings of each task by its name"
    )
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

    @field_validator("task", mode="plain")
    @classmethod
    def _of_each_task(cls, given: Any, info: ValidationInfo) -> TaskSettings:
        if not isinstance(given, Mapping):
            raise ValueError("input should be settings by the names of tasks")
        return TaskSettings(given, info.data.get("tasks", ()))

    @field_serializer("task")
    def _of_each_task_again(self, task: TaskSettings, info: SerializationInfo) -> dict[str, Any]:
        """Return what a dictionary of them would be, for which pydantic knows no other way."""
        return {
            name: settings.model_dump(mode=info.mode, exclude_defaults=info.exclude_defaults)
            for name, settings in task.items()
        }

    @model_validator(mode="after")
    def _tasks_once(self) -> "PretrainSettings":
        if not self.tasks or len(set(self.tasks)) != len(self.tasks):
            built_in = ", ".join(BUILT_IN)
            raise ValueError(f"tasks needs each task once and at least one of {built_in}")
        for name, weight in self.weights.items():
            if weight < 0:
                raise ValueError(f"weights.{name} must be at least 0")
            if name not in self.task:
                raise ValueError(
                    f"weights.{name}: no task has this name; use {', '.join(self.task)}"
                )
        if self.architecture == "splnet" and "pct" not in self.tasks:
            raise ValueError(
                "architecture splnet needs pct among the tasks: it trains the branches"
            )
        return self


class LabelSettings(Settings):
    """Which training faces are labelled; all when neither count nor fraction is given."""

    count: int | None = Field(None, ge=1, description="how many labelled faces to use; --labels")
    fraction: float | None = Field(
        None, gt=0, le=1, description="which share of the training faces to use; --fraction"
    )
    rule: Literal["seeded", "every_kth"] = Field(
        "seeded", description="draw by subset_seed, or take every k-th in file order"
    )
    subset_seed: int = Field(0, ge=0, description="of the choice of labelled faces; --subset-seed")
    val_fraction: float = Field(
        0.2,
        ge=0,
        lt=1,
        description="share of the labelled faces to select on, without a val split; 0: none",
    )

    @model_validator(mode="after")
    def _one_of(self) -> "LabelSettings":
        if self.count is not None and self.fraction is not None:
            raise ValueError("give labels.count or labels.fraction, not both")
        return self


class LabelledSettings(Settings):
    """What is learnt from labelled faces, and chosen on validation faces, in whichever way."""

    data: DataSettings | None = Field(None, description="labelled faces; --data gives them")
    labels: LabelSettings = LabelSettings()
    select_by: Literal["auto", "accuracy", "balanced_accuracy", "average_precision", "last"] = (
        Field(
            "auto",
            description="figure of the epoch kept; auto: average precision where most attributes "
            "are rare, else accuracy; last: the last epoch",
        )
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
    features: FeatureList = Field(
        (), description="frozen networks, PATH[,key=value...] each; --features gives them"
    )
    linear: LinearSettings = LinearSettings()
    kept_features: Path | None = Field(
        None, description="where computed features are kept; none: features/ beside the run"
    )


class ProbeSettings(LabelledSettings):
    """Linear heads on features of frozen networks.

    Examples:
        >>> ProbeSettings(features="net.onnx,size=112").features[0].size
        112
    """


class FinetuneSettings(LabelledSettings):
    """Stage 2.

    Examples:
        >>> settings = FinetuneSettings(labels={"count": 100}, head={"pooling": "regions"})
        >>> settings.labels.count, settings.loss.name
        (100, 'bce')
    """

    seed: int = Field(0, ge=0, description="of initial weights, order and views")
    pretrained: Path | None = Field(
        None, description="run of stage 1 or of stage 2, or packed model; none: from scratch"
    )
    canvas: int = Field(112, ge=32, le=2048, description="side of the face picture, px")
    enlarge: bool = Field(
        True,
        description="bring smaller pictures to the canvas when read; false: the view does",
    )
    input_size: int = Field(96, ge=32, le=1024, description="side of the network's input, px")
    architecture: Architecture = Field(
        "sspl", description="one feature, or four branches by region"
    )
    backbone: BackboneSettings = BackboneSettings()
    backbone_weights: Path | None = Field(
        None, description="safetensors file, or one of torch, that the backbone starts from"
    )
    taxonomy: str = Field(
        "celebamask19", description="classes of the masks: a built-in list, or a file"
    )
    segmentation: SegmentationSettings = SegmentationSettings()
    head: HeadSettings = HeadSettings()
    geometry: GeometrySettings = GeometrySettings(scale=(0.8, 1.0), rotation=8)
    colour: ColourSettings = ColourSettings()
    loss: LossSettings = LossSettings()
    consistency: ConsistencySettings = ConsistencySettings()
    distillation: DistillationSettings = DistillationSettings()
    ema: float = Field(
        0.0, ge=0, lt=1, description="decay of the averaged weights that are kept; 0: none"
    )
    frozen_share: Annotated[float, Field(ge=0, le=1)] | Literal["validation"] = Field(
        0.5, description="weight of the heads on features; validation: chosen there, epoch by epoch"
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

    @model_validator(mode="after")
    def _one_start(self) -> "FinetuneSettings":
        if self.backbone_weights is not None and self.pretrained is not None:
            raise ValueError(
                "give backbone_weights or pretrained, not both; each sets the whole backbone"
            )
        return self

    @model_validator(mode="after")
    def _teacher(self) -> "FinetuneSettings":
        if self.consistency.weight and not self.ema:
            raise ValueError("consistency.weight needs a teacher: set ema, to 0.99 say")
        if self.distillation.data and not self.distillation.teachers:
            raise ValueError("distillation.data needs teachers to ask: add --teacher RUN")
        return self

    @model_validator(mode="after")
    def _one_kind_of_region(self) -> "FinetuneSettings":
        if self.architecture == "splnet" and self.head.pooling != "average":
            raise ValueError("architecture splnet has branches: set head.pooling=average")
        return self


class _OfData(Settings):
    """What settings of any run on labelled faces say of its faces."""

    model_config = ConfigDict(extra="ignore")

    data: DataSettings | None = None


def data_of(run: Path) -> DataSettings | None:
    """Return the labelled faces of a run; raise `SettingsError` when it has no settings."""
    return build(_OfData, read_settings(run / SETTINGS_FILE)).data


def preset(name: str, stage: Literal["pretrain", "finetune"]) -> dict[str, Any]:
    """Return one stage's part of a preset as a mapping; raise `SettingsError` when unknown."""
    if name not in PRESETS:
        raise SettingsError(f"preset: unknown preset '{name}'; allowed are {', '.join(PRESETS)}.")
    file = resources.files("sspl") / "configs" / f"{name}.yaml"
    content = yaml.safe_load(file.read_text(encoding="utf-8"))
    part = merge(content.get("common", {}), content.get(stage, {}))
    return merge(preset(content["base"], stage), part) if "base" in content else part
