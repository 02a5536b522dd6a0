"""Every setting is listed with its values, its default and a sentence, and found when misspelt."""

from pathlib import Path
from typing import Literal

import pytest
from pydantic import Field, NonNegativeInt

from sspl.cli.settings import COMMANDS, settings_of
from sspl.errors import SettingsError
from sspl.settings import Settings, build
from sspl.settings.keys import Key, keys_of
from sspl.training.stage_settings import PRESETS, FinetuneSettings, PretrainSettings


class Part(Settings):
    level: float = Field(0.5, gt=0, lt=1, description="how much")


class Whole(Settings):
    place: Path = Field(description="where")
    part: Part = Part(level=0.25)
    parts: tuple[Part, ...] = Field((), description="several")
    by_name: dict[str, Part] = Field(default_factory=dict, description="named")
    kind: Literal["a", "b"] | None = Field(None, description="which")
    side: int | None = Field(None, ge=8, multiple_of=4, description="px")
    pair: tuple[NonNegativeInt, bool] = Field((1, True), description="both")


def test_keys_by_hand() -> None:
    assert keys_of(Whole) == [
        Key("place", "path", "", "where"),
        Key("part.level", "number above 0 below 1", "0.25", "how much"),
        Key("parts", "[settings, ...]", "[]", "several"),
        Key("parts[].level", "number above 0 below 1", "0.5", "how much"),
        Key("by_name", "{text: settings}", "{}", "named"),
        Key("by_name.NAME.level", "number above 0 below 1", "0.5", "how much"),
        Key("kind", "a or b, or null", "null", "which"),
        Key("side", "whole number from 8 by 4, or null", "null", "px"),
        Key("pair", "[whole number from 0, true or false]", "[1, true]", "both"),
    ]


def test_values_of_an_instance_are_the_defaults() -> None:
    keys = keys_of(Whole(place=Path("x"), by_name={"n": Part(level=0.75)}))
    found = {key.name: key.default for key in keys}
    assert (found["place"], found["by_name.n.level"]) == ("x", "0.75")


@pytest.mark.parametrize("command", COMMANDS)
def test_each_setting_of_a_command_has_a_sentence(command: str) -> None:
    keys = keys_of(settings_of(command))
    assert len(keys) > 25
    assert [key.name for key in keys if not key.says or key.kind == "anything"] == []


@pytest.mark.parametrize("name", PRESETS)
def test_listed_defaults_are_read_back(name: str) -> None:
    """Each plain key, given with the default that the list has, changes nothing."""
    for command, model in (("pretrain", PretrainSettings), ("finetune", FinetuneSettings)):
        known = settings_of(command, name)
        keys = [k for k in keys_of(known) if "[]" not in k.name and not k.name.startswith("data.")]
        assert build(model, {}, [f"{k.name}={k.default}" for k in keys]) == known


@pytest.mark.parametrize(
    ("model", "override", "meant"),
    [
        (PretrainSettings, "epochs=3", "epochs: unknown setting; did you mean optim.epochs?"),
        (
            PretrainSettings,
            "optim.epoch=3",
            "optim.epoch: unknown setting; did you mean optim.epochs?",
        ),
        (
            PretrainSettings,
            "task.prt.gird=3",
            "task.prt.gird: unknown setting; did you mean task.prt.grid?",
        ),
        (
            FinetuneSettings,
            "warmup_epochs=3",
            "warmup_epochs: unknown setting; did you mean optim.schedule.warmup_epochs?",
        ),
        (FinetuneSettings, "lr=3", "lr: unknown setting; did you mean optim.lr?"),
    ],
)
def test_what_an_unknown_key_is_meant_for(model: type[Settings], override: str, meant: str) -> None:
    with pytest.raises(SettingsError) as caught:
        build(model, {}, [override])
    assert str(caught.value) == meant


def test_several_faults_are_one_sentence() -> None:
    with pytest.raises(SettingsError) as caught:
        build(PretrainSettings, {}, ["epochs=3", "optim.lr=0"])
    assert str(caught.value) == (
        "optim.lr: input should be greater than 0 (got 0); "
        "epochs: unknown setting; did you mean optim.epochs?"
    )
