"""What a study compares, as settings."""

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from string import Template
from types import MappingProxyType
from typing import Any, Final, Literal

from pydantic import Field, NonNegativeInt, field_validator, model_validator

from sspl.data.data_settings import DataSettings, parse_data_spec
from sspl.errors import SettingsError
from sspl.settings import Settings, build, merge, read_settings
from sspl.study.probe_settings import FeatureSettings, HogSettings, KNNSettings
from sspl.training.feature_settings import LinearSettings

Protocol = Literal["finetune", "linear", "knn"]
EVERY_KTH: Final = "every_kth"
"""The paper's label subset, in place of a seed."""

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")


class MethodSettings(Settings):
    """One way to come by features: stage 1, nothing (from scratch), or an extractor from outside.

    `start` names weights that are there already, in the place of a stage 1 of its own. `pretrain`
    and `finetune` are settings of the two stages, laid over those of the study; without `pretrain`
    there is no stage 1. `features` takes the place of the backbone. `minutes` is the budget of
    stage 1, or of a cell with a teacher, where it is not that of the study; `unlabelled` are the
    faces of stage 1. `${NAME}` stands for
    an environment variable, asked for when the method has cells to run.
    """

    pretrain: dict[str, Any] | None = Field(
        None, description="settings of stage 1 over those of the study; none: no stage 1"
    )
    finetune: dict[str, Any] = Field(
        default_factory=dict, description="settings of stage 2 over those of the study"
    )
    start: Path | None = Field(
        None, description="run of stage 1 that is there already, or builtin; none: its own, if any"
    )
    features: tuple[str | FeatureSettings, ...] = Field(
        (),
        description="networks from outside, side by side in the place of the backbone: "
        "PATH[,key=value...], or settings",
    )
    teacher: str | None = Field(
        None,
        description="method of the study that is fine-tuned first, in each cell, and whose answers "
        "stand in for the labels of the other training faces",
    )
    minutes: float | None = Field(
        None,
        gt=0,
        description="budget of stage 1, or of a cell with a teacher, where it is not the study's",
    )
    unlabelled: tuple[str, ...] = Field(
        (), description="faces of stage 1 where they, or their masks, are not those of the study"
    )

    @field_validator("features", mode="before")
    @classmethod
    def _one_or_more(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str | Mapping) else value or ()

    @model_validator(mode="after")
    def _one_kind(self) -> "MethodSettings":
        if self.start is not None and (self.pretrain is not None or self.features):
            raise ValueError("start is in the place of a stage 1: give no pretrain or features")
        if self.features and (self.pretrain is not None or self.finetune):
            raise ValueError(
                "features come from outside the backbone: give no pretrain or finetune"
            )
        if self.features and self.teacher is not None:
            raise ValueError("teacher needs a network to teach: give no features")
        if len(self.features) > 1 and any(isinstance(f, HogSettings) for f in self.features):
            raise ValueError("features of kind hog stand alone, without networks beside them")
        return self


class SectionSettings(Settings):
    """Some cells: every method at every count under every protocol on every label subset.

    With `repeats` all of it is done so often, stage 1 too, each time with the next seed.
    """

    methods: tuple[str, ...] = Field(min_length=1, description="names of methods")
    labels: tuple[int, ...] = Field(min_length=1, description="numbers of labelled faces")
    protocols: tuple[Protocol, ...] = Field(
        ("finetune",), min_length=1, description="what is done with the features"
    )
    subsets: tuple[NonNegativeInt | Literal["every_kth"], ...] = Field(
        (0, 1, 2), min_length=1, description="seeds of random subsets, or every_kth, the paper's"
    )
    repeats: int = Field(1, ge=1, description="seeds of stage 1 and of fine-tuning")

    @field_validator("labels")
    @classmethod
    def _at_least_two(cls, labels: tuple[int, ...]) -> tuple[int, ...]:
        if min(labels, default=2) < 2:
            raise ValueError("labels must be at least 2")
        return labels


class MinutesSettings(Settings):
    """The budget of one run, in minutes of the machine that the study is planned for.

    It bounds nothing: a result must not depend on a machine's speed. It is what `--dry-run`
    reckons with until a like cell is done, and a cell that took longer is reported.
    """

    pretrain: float = Field(30.0, gt=0, description="of a run of stage 1")
    finetune: float = Field(3.0, gt=0, description="of a fine-tuned cell")
    linear: float = Field(1.0, gt=0, description="of a linear probe")
    knn: float = Field(1.0, gt=0, description="of a nearest-neighbour probe")


class CountSettings(Settings):
    """What differs at one label count: settings of stage 2, and the minutes of its cells."""

    finetune: dict[str, Any] = Field(
        default_factory=dict, description="settings of stage 2 at this label count"
    )
    minutes: float | None = Field(None, gt=0, description="budget of a cell at this label count")
    percent: float | None = Field(
        None, gt=0, le=100, description="share of the training faces that tables call it by"
    )


class CostSettings(Settings):
    """What a study is planned by: the operations of each network, and how fast they are done.

    `--dry-run` counts them for each cell. `gflops` is what the device reaches in training, not its
    peak; once cells are done, their measured time corrects it.
    """

    gflops: float = Field(gt=0, description="billions of operations a second reached in training")
    unlabelled: int = Field(ge=1, description="faces of stage 1")
    val: int = Field(0, ge=0, description="validation faces")
    test: int = Field(ge=1, description="test faces")


class StudySettings(Settings):
    """A study.

    `data` and `unlabelled` are data specs as on the command line; `${NAME}` stands for an
    environment variable. `pretrain` and `finetune` are laid over the preset, for every method.
    """

    name: str = Field(min_length=1, description="what the data are called in the results")
    data: str = Field(description="labelled faces, with the splits train, test and, best, val")
    unlabelled: tuple[str, ...] = Field(
        (), description="faces of stage 1, with their masks; those of `data` unless given"
    )
    preset: str = Field("small", description="what pretrain and finetune are laid over")
    seed: int = Field(0, ge=0, description="of stage 1 and of fine-tuning")
    pretrain: dict[str, Any] = Field(
        default_factory=dict, description="settings of stage 1, for every method"
    )
    finetune: dict[str, Any] = Field(
        default_factory=dict, description="settings of stage 2, for every method"
    )
    counts: dict[int, CountSettings] = Field(
        default_factory=dict, description="what differs at one label count"
    )
    methods: dict[str, MethodSettings] = Field(
        description="ways to come by features, by their names"
    )
    sections: tuple[SectionSettings, ...] = Field(min_length=1, description="which cells there are")
    linear: LinearSettings = LinearSettings()
    knn: KNNSettings = KNNSettings()
    minutes: MinutesSettings = MinutesSettings()
    cost: CostSettings | None = Field(
        None, description="plan each cell by its operations; none: by minutes"
    )
    published: Literal["CelebA", "LFWA"] | None = Field(
        None, description="set whose published figures stand in the tables"
    )
    keep_models: bool = Field(True, description="keep the weights of fine-tuned cells")

    @model_validator(mode="after")
    def _fit_together(self) -> "StudySettings":
        for name in self.methods:
            if not _NAME.fullmatch(name):
                raise ValueError(f"methods: '{name}' must be letters, digits and . _ + - alone")
        for name, method in self.methods.items():
            self._require_teacher(name, method.teacher)
        for number, section in enumerate(self.sections):
            for name in section.methods:
                if name not in self.methods:
                    raise ValueError(
                        f"sections.{number}.methods: no method is called '{name}'; "
                        f"there are {', '.join(self.methods)}"
                    )
                method = self.methods[name]
                if method.teacher is not None and set(section.protocols) != {"finetune"}:
                    raise ValueError(
                        f"sections.{number}: {name} has a teacher, which fine-tuning alone asks; "
                        "use the protocol finetune"
                    )
                if method.features and "finetune" in section.protocols:
                    raise ValueError(
                        f"sections.{number}: {name} has features from outside the backbone, "
                        "which cannot be fine-tuned; use the protocols linear and knn"
                    )
        return self

    def _require_teacher(self, name: str, teacher: str | None) -> None:
        if teacher is None:
            return
        found = self.methods.get(teacher)
        if found is None or found.features or found.teacher is not None:
            able = [n for n, m in self.methods.items() if not m.features and m.teacher is None]
            raise ValueError(
                f"methods.{name}.teacher: '{teacher}' is no method that is fine-tuned without a "
                f"teacher; those are {', '.join(able)}"
            )


def load_study(
    text: str, overrides: Sequence[str] = (), given: Mapping[str, Any] = MappingProxyType({})
) -> StudySettings:
    """Read the study that `text` names: a YAML file, or one that comes with the package.

    `base: NAME` in a file takes over another of its folder, or of the package, and is laid
    under it; what is `given`, and then `overrides`, are laid over it. Raises `SettingsError`
    naming the file or the field that is wrong.
    """
    content = merge(_content(_find(text, Path())), dict(given))
    return build(StudySettings, content, overrides)


def packaged_studies() -> list[str]:
    """Return the names of the studies that come with the package."""
    return sorted(
        file.stem for file in _folder().glob("*.yaml") if not file.stem.startswith("base")
    )


def _folder() -> Path:
    return Path(str(resources.files("sspl") / "configs" / "bench"))


def _find(text: str, folder: Path) -> Path:
    for path in (folder / text, folder / f"{text}.yaml", _folder() / f"{Path(text).stem}.yaml"):
        if path.is_file():
            return path
    raise SettingsError(
        f"config: there is no file '{text}' and no study of that name in the package; "
        f"those are {', '.join(packaged_studies())}."
    )


def _content(path: Path) -> dict[str, Any]:
    content = read_settings(path)
    base = content.pop("base", None)
    if base is None:
        return content
    if not isinstance(base, str) or (below := _find(base, path.parent)) == path:
        raise SettingsError(f"{path}: base must name another study, not {base!r}.")
    return merge(_content(below), content)


def open_spec(spec: str) -> DataSettings:
    """Parse a data spec with environment variables in it; raises `SettingsError` for an unset one.

    Paths come out absolute.
    """
    where = f"data '{spec}'"
    return parse_data_spec(_filled(spec, where, "give the data on the command line")).absolute()


def filled(content: Any, where: str) -> Any:
    """Return JSON values with environment variables in place of `${NAME}`, at any depth.

    Raises `SettingsError`, beginning with `where`, for one that is not set.
    """
    match content:
        case str():
            return _filled(content, where, "leave its cells out by --only")
        case Mapping():
            return {key: filled(value, where) for key, value in content.items()}
        case Iterable():
            return [filled(value, where) for value in content]
    return content


def _filled(text: str, where: str, instead: str) -> str:
    try:
        return Template(text).substitute(os.environ)
    except KeyError as absent:
        raise SettingsError(
            f"{where}: the environment variable {absent.args[0]} is not set; set it, or {instead}."
        ) from None
    except ValueError:
        raise SettingsError(f"{where}: write ${{NAME}} for a variable, $$ for $.") from None
