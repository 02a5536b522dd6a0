"""Files of version 0.1, which said trunk, are read by their worth."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from sspl.domain.attributes import schema_for
from sspl.io.checkpoints import load_state, save_state
from sspl.io.files import write_json
from sspl.io.resuming import require_same_settings
from sspl.io.weights import read_tensors, save_tensors
from sspl.models.attributes import AttributeNetwork
from sspl.models.bundle import AttributeModel, load_model, model_metadata
from sspl.models.network_settings import BackboneSettings, HeadSettings
from sspl.settings import build, read_settings
from sspl.settings.early_files import renamed_keys, renamed_tensors
from sspl.training.backbone_weights import load_backbone
from sspl.training.stage_settings import FinetuneSettings, PretrainSettings
from sspl.training.transfer import transfer

SMALL = BackboneSettings(width=0.125, stem_stride=2)
SCHEMA = schema_for(("Smiling", "Young"))


def network(seed: int) -> AttributeNetwork:
    torch.manual_seed(seed)
    return AttributeNetwork(SMALL, HeadSettings(), len(SCHEMA)).eval()


def as_0_1(names: dict[str, Any]) -> dict[str, Any]:
    """The names of 0.1, written out: `backbone` alone had another."""
    return {
        "trunk" + n.removeprefix("backbone") if n.startswith("backbone") else n: v
        for n, v in names.items()
    }


def model(made: AttributeNetwork) -> AttributeModel:
    ones = np.ones(len(SCHEMA))
    return AttributeModel(made, SCHEMA, (0.0, 0.0, 1.0, 1.0), 32, 32, True, ones / 2, ones)


def same(one: nn.Module, other: nn.Module) -> bool:
    pairs = zip(one.state_dict().items(), other.state_dict().items(), strict=True)
    return all(a == b and torch.equal(x, y) for (a, x), (b, y) in pairs)


@pytest.mark.parametrize("packed", [False, True], ids=["run folder", "packed model"])
def test_fine_tuned_models_of_0_1_keep_their_weights(tmp_path: Path, packed: bool) -> None:
    made = network(1)
    metadata = as_0_1(model_metadata(model(made)))
    assert {"trunk"} == metadata.keys() - model_metadata(model(made)).keys()
    tensors = as_0_1(made.state_dict())
    save_tensors(tmp_path / "model.safetensors", tensors, None if packed else metadata)
    if packed:
        write_json(tmp_path / "config.json", metadata)
    read = load_model(tmp_path).network
    assert read.backbone_settings == SMALL
    assert same(read, made)


def test_stage_1_of_0_1_starts_a_fine_tuning(tmp_path: Path) -> None:
    made, fresh = network(1), network(2)
    own = {f"backbone.{n}": t for n, t in made.backbone.state_dict().items()}
    metadata = {"kind": "pretrained", "backbone": SMALL.model_dump(), "tasks": ["prt"]}
    save_tensors(tmp_path / "pretrained.safetensors", as_0_1(own), as_0_1(metadata))
    assert set(transfer(fresh, tmp_path).loaded) == own.keys()
    assert same(fresh.backbone, made.backbone)
    other = network(3)
    load_backbone(other.backbone, tmp_path)
    assert same(other.backbone, made.backbone)


def test_checkpoints_of_0_1_are_gone_on_from(tmp_path: Path) -> None:
    made, fresh = network(1), network(2)
    save_state(tmp_path, made, torch.optim.Adam(made.parameters()), {"rows": []})
    file = tmp_path / "state.safetensors"
    tensors, metadata = read_tensors(file)
    early = {n.replace("network.backbone.", "network.trunk."): t for n, t in tensors.items()}
    save_tensors(file, early, metadata)
    load_state(tmp_path, fresh, torch.optim.Adam(fresh.parameters()))
    assert same(fresh, made)


def test_settings_of_0_1_mean_what_they_meant(tmp_path: Path) -> None:
    file = tmp_path / "settings.yaml"
    early = {"trunk": {"width": 0.125}, "trunk_weights": "w.safetensors", "seed": 3}
    file.write_text(yaml.safe_dump(early | {"prt": {"grid": 2}, "byol": {"hidden": 8}}))
    now = build(PretrainSettings, read_settings(file))
    assert (now.backbone.width, now.backbone_weights, now.seed) == (0.125, Path("w.safetensors"), 3)
    assert now.task["prt"].model_dump()["grid"] == 2
    assert now.task["byol"].model_dump()["hidden"] == 8
    assert now.task["pct"].model_dump()["top"] == 9
    assert require_same_settings(file, now) == ()
    file.write_text(yaml.safe_dump(early))
    assert build(FinetuneSettings, read_settings(file)).backbone.width == 0.125


def test_no_content_hides_another() -> None:
    both = {"trunk.a": 1, "backbone.a": 2, "network.trunk.a": 3, "head.trunk.a": 4}
    assert renamed_tensors(both) == {
        "trunk.a": 1, "backbone.a": 2, "network.backbone.a": 3, "head.trunk.a": 4
    }  # fmt: skip
    keys = {"trunk": 1, "backbone": 2, "prt": {"grid": 2}, "task": {"prt": {"grid": 3}}}
    assert renamed_keys(keys) == keys
    assert renamed_keys({"pst": "plain"}) == {"pst": "plain"}


@given(
    st.dictionaries(
        st.from_regex(r"(network\.)?(trunk|backbone|head)\.[ab]", fullmatch=True), st.integers()
    )
)
def test_no_tensor_is_lost(tensors: dict[str, int]) -> None:
    renamed = renamed_tensors(tensors)
    assert sorted(renamed.values()) == sorted(tensors.values())
    assert renamed_tensors(renamed) == renamed
