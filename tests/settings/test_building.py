"""Settings: refusals that say where and what, overrides, and round trips."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from sspl.errors import SettingsError
from sspl.settings import apply_override, build, dump_yaml, merge, read_settings
from sspl.tasks.prt import PRTSettings
from sspl.training.stage_settings import PRESETS, FinetuneSettings, PretrainSettings, preset

STAGES = [("pretrain", PretrainSettings), ("finetune", FinetuneSettings)]


def message(model: Any, content: dict[str, Any], *overrides: str) -> str:
    with pytest.raises(SettingsError) as caught:
        build(model, content, overrides)
    return str(caught.value)


def test_unknown_key_is_refused_with_the_names_allowed() -> None:
    assert message(PRTSettings, {"unlike": 3}) == (
        "unlike: unknown setting; allowed are angle_zero, background_limit, grid, jitter, "
        "norm_averages, patch_size, standardise."
    )


def test_unknown_nested_key_names_its_own_level() -> None:
    assert message(PretrainSettings, {}, "task.prt.unlike=3") == (
        "task.prt.unlike: unknown setting; allowed are angle_zero, background_limit, grid, jitter, "
        "norm_averages, patch_size, standardise."
    )
    assert message(PretrainSettings, {"optim": {"schedule": {"unlike": 1}}}) == (
        "optim.schedule.unlike: unknown setting; allowed are steps, warmup_epochs."
    )


def test_unknown_key_inside_a_list_and_an_optional_part_names_its_own_level() -> None:
    data = {"format": "folder", "root": "faces", "colour": 1}
    assert message(PretrainSettings, {"data": [data]}).startswith(
        "data.0.colour: unknown setting; allowed are "
    )
    said = message(FinetuneSettings, {"data": data})
    assert said.startswith("data.colour: unknown setting; allowed are ")
    assert "root" in said
    assert "layer_decay" not in said


@pytest.mark.parametrize(
    ("overrides", "start", "got"),
    [
        (["optim.lr=0"], "optim.lr: input should be greater than 0", "got 0"),
        (["task.prt.grid=5"], "task.prt.grid: input should be 2, 3 or 4", "got 5"),
        (["canvas=16"], "canvas: input should be greater than or equal to 32", "got 16"),
        (["optim.epochs=many"], "optim.epochs: input should be a valid integer", "got 'many'"),
        (
            ["task.pst.label_smoothing=1"],
            "task.pst.label_smoothing: input should be less than 1",
            "got 1",
        ),
        (["tasks=[prt,prt]"], "settings: tasks needs each task once", "prt"),
        (["tasks=[]"], "settings: tasks needs each task once and at least one", ""),
        (["weights.prt=-1"], "settings: weights.prt must be at least 0", ""),
        (["tasks=[prt,xyz]"], "tasks: 'xyz' is none of prt, pst, pct, rotnet", ""),
    ],
)
def test_bad_value_names_its_path(overrides: list[str], start: str, got: str) -> None:
    said = message(PretrainSettings, {}, *overrides)
    assert said.startswith(start)
    assert got in said


def test_every_problem_is_named() -> None:
    said = message(PretrainSettings, {}, "optim.lr=-1", "seed=-2", "canvass=64")
    assert all(
        path in said
        for path in ("optim.lr: ", "seed: ", "canvass: unknown setting; did you mean canvas")
    )


def test_count_and_fraction_together_are_refused() -> None:
    said = message(FinetuneSettings, {}, "labels.count=10", "labels.fraction=0.1")
    assert said.startswith("labels: give labels.count or labels.fraction, not both")
    for one in ("labels.count=10", "labels.fraction=0.1"):
        build(FinetuneSettings, {}, [one])


def test_overrides_are_read_as_yaml() -> None:
    settings = build(
        PretrainSettings,
        {"seed": 1, "optim": {"epochs": 5, "lr": 0.1}},
        [
            "seed=7",
            "optim.lr=5e-4",
            "tasks=[pct, prt]",
            "geometry.scale=[0.5, 0.75]",
            "optim.schedule.steps=[[3, 1.0], [5, 0.1]]",
            "runtime.compile=true",
            "task.prt.patch_size=null",
            "weights.pct=2",
            "taxonomy=a=b",
        ],
    )
    assert (settings.seed, settings.optim.lr, settings.optim.epochs) == (7, 0.0005, 5)
    assert settings.tasks == ("pct", "prt")
    assert settings.geometry.scale == (0.5, 0.75)
    assert settings.optim.schedule.steps == ((3, 1.0), (5, 0.1))
    assert settings.runtime.compile is True
    assert settings.task["prt"].patch_size is None
    assert settings.weights == {"pct": 2.0}
    assert settings.taxonomy == "a=b"


def test_later_override_wins() -> None:
    assert build(PretrainSettings, {}, ["seed=1", "seed=2"]).seed == 2


@pytest.mark.parametrize("override", ["seed", "=3", ""])
def test_override_without_a_key_or_value_is_refused(override: str) -> None:
    with pytest.raises(SettingsError, match="write key=value"):
        apply_override({}, override)


def test_override_below_a_plain_value_or_of_broken_yaml_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"seed\.x: 'seed' is a plain value"):
        apply_override({"seed": 3}, "seed.x=1")
    with pytest.raises(SettingsError, match=r"tasks: the value '\[prt' is not valid YAML"):
        apply_override({}, "tasks=[prt")


def test_merge_goes_key_by_key_and_leaves_its_arguments_alone() -> None:
    base = {"a": {"x": 1, "y": 2}, "b": [1, 2]}
    top = {"a": {"y": 3}, "b": [9], "c": 4}
    assert merge(base, top) == {"a": {"x": 1, "y": 3}, "b": [9], "c": 4}
    assert base == {"a": {"x": 1, "y": 2}, "b": [1, 2]}
    assert top == {"a": {"y": 3}, "b": [9], "c": 4}


def test_build_leaves_its_argument_alone() -> None:
    content = {"optim": {"lr": 0.1}}
    build(PretrainSettings, content, ["optim.lr=0.2"])
    assert content == {"optim": {"lr": 0.1}}


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize(("stage", "model"), STAGES)
def test_every_preset_survives_being_written_and_read(
    tmp_path: Path, name: str, stage: Any, model: Any
) -> None:
    settings = build(model, preset(name, stage), ["seed=11"])
    assert settings != build(model, {})
    path = tmp_path / "settings.yaml"
    path.write_text(dump_yaml(settings), encoding="utf-8")
    again = build(model, read_settings(path))
    assert again == settings
    assert dump_yaml(again) == dump_yaml(settings)


def test_paths_and_odd_numbers_survive_being_written() -> None:
    content = {"pretrained": "runs/größe: 1", "optim": {"lr": 1e-12}, "labels": {"fraction": 0.002}}
    settings = build(FinetuneSettings, content)
    again = build(FinetuneSettings, yaml.safe_load(dump_yaml(settings)))
    assert again == settings
    assert again.pretrained == Path("runs/größe: 1")


def test_presets_by_hand() -> None:
    paper = build(PretrainSettings, preset("paper-sspl", "pretrain"))
    assert (paper.canvas, paper.input_size, paper.task["prt"].grid, paper.task["pct"].top) == (
        512,
        224,
        3,
        9,
    )
    assert paper.task["pst"].label_smoothing == 0.1
    assert paper.geometry.scale == (0.4375, 0.4375)  # 224 of 512
    assert (paper.backbone.depth, paper.backbone.width, paper.backbone.stem_stride) == (18, 1.0, 4)
    for name in PRESETS:
        first = build(PretrainSettings, preset(name, "pretrain"))
        second = build(FinetuneSettings, preset(name, "finetune"))
        assert first.backbone == second.backbone  # else stage 1 cannot be carried over
        assert (first.canvas, first.input_size) == (second.canvas, second.input_size)
        assert second.geometry.rotation <= 15  # docs/method.md#do-not-repeat-2


def test_unknown_preset_names_those_there_are() -> None:
    with pytest.raises(SettingsError, match="unknown preset 'big'; allowed are paper-sspl"):
        preset("big", "pretrain")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"- a\n- b\n", "expected 'key: value' lines"),
        (b"a: [1\n", "not valid YAML"),
        (b"seed: 1\nseed: 2\n", "the key 'seed' comes twice"),
        (b"a: \xff\xfe\n", "cannot be read as text"),
        (None, "no such file"),
    ],
)
def test_bad_settings_files_are_named(tmp_path: Path, content: bytes | None, reason: str) -> None:
    path = tmp_path / "settings.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SettingsError, match=reason) as caught:
        read_settings(path)
    assert str(path) in str(caught.value)


def test_empty_file_and_byte_order_mark_are_fine(tmp_path: Path) -> None:
    path = tmp_path / "settings.yaml"
    path.write_bytes(b"")
    assert read_settings(path) == {}
    path.write_bytes(b"\xef\xbb\xbfseed: 3\n")
    assert read_settings(path) == {"seed": 3}


def test_settings_cannot_be_changed_afterwards() -> None:
    with pytest.raises(ValueError, match="frozen"):
        PRTSettings().grid = 2  # type: ignore[misc]
