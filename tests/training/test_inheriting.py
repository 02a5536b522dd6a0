"""What stage 2 has of its start without being told, and what contradicts that."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from shared import BOX, make_model
from sspl.data.data_settings import CELEBA_BOX, parse_data_spec
from sspl.domain.taxonomy import built_in_taxonomy
from sspl.errors import DataError, SettingsError
from sspl.inference.pack import pack_model
from sspl.io.run_files import PRETRAINED_FILE
from sspl.io.weights import save_tensors
from sspl.models.bundle import save_model
from sspl.models.model_metadata import read_metadata
from sspl.settings import dump_yaml
from sspl.training.inheriting import finetune_settings, read_start
from sspl.training.stage_settings import FinetuneSettings, PretrainSettings

STAGE_1 = {
    "kind": "pretrained",
    "architecture": "sspl",
    "backbone": {"depth": 34, "width": 0.25, "stem_stride": 2},
    "segmentation": {"maps": 2, "width": 16},
    "canvas": 80,
    "input_size": 48,
    "box": list(CELEBA_BOX),
    "tasks": ["prt", "pst"],
    "classes": list(built_in_taxonomy("lapa11").classes),
}


def stage_1(folder: Path, **changes: Any) -> Path:
    """Write what a run of stage 1 leaves, but for its tensors."""
    folder.mkdir(exist_ok=True)
    save_tensors(folder / PRETRAINED_FILE, {"t": torch.zeros(1)}, STAGE_1 | changes)
    return folder


def started(start: Path, *overrides: str, spec: str = "folder:faces") -> FinetuneSettings:
    data = parse_data_spec(spec).absolute().model_dump(exclude_unset=True)
    return finetune_settings("small", {"pretrained": str(start), "data": data}, overrides)


def test_stage_1_gives_its_sizes_backbone_crop_and_head(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO"):
        found = started(stage_1(tmp_path / "pre"))
    assert (found.canvas, found.input_size, found.architecture) == (80, 48, "sspl")
    assert found.backbone.model_dump(exclude={"timm", "own"}) == STAGE_1["backbone"]
    assert (found.segmentation.maps, found.segmentation.width) == (2, 16)
    assert found.taxonomy == "lapa11"
    assert found.head.pooling == "regions"
    assert found.data is not None
    assert found.data.crop == "celeba"
    assert "canvas=80, input_size=48, crop=celeba." in caplog.text


def test_what_the_preset_says_of_learning_stays(tmp_path: Path) -> None:
    found = started(stage_1(tmp_path / "pre"))
    assert (found.optim.epochs, found.head_lr, found.head.dropout) == (40, 10, 0.2)


def test_without_masks_nothing_is_pooled_by_region(tmp_path: Path) -> None:
    assert started(stage_1(tmp_path / "a", tasks=["prt"])).head.pooling == "average"
    found = started(stage_1(tmp_path / "b", architecture="splnet", tasks=["pst", "pct"]))
    assert (found.architecture, found.head.pooling) == ("splnet", "average")


@pytest.mark.parametrize("packed", [False, True])
def test_a_fine_tuned_model_gives_the_same(packed: bool, tmp_path: Path) -> None:
    model, run = make_model("sspl", flip_average=False), tmp_path / "fine"
    save_model(run, model)
    if packed:
        pack_model(run, tmp_path / "packed")
        run = tmp_path / "packed"
    found = started(run)
    assert (found.canvas, found.input_size) == (40, 32)
    assert found.backbone == model.network.backbone_settings
    assert (found.head.pooling, found.head.region_map) == ("regions", 4)
    assert found.data is not None
    assert found.data.crop == BOX
    assert read_metadata(run).box == BOX


@pytest.mark.parametrize("value", ["canvas=80", "input_size=48", "backbone.depth=34"])
def test_the_same_value_given_again_is_accepted(value: str, tmp_path: Path) -> None:
    pre = stage_1(tmp_path / "pre")
    assert started(pre, value) == started(pre)
    assert started(pre, spec="folder:faces,crop=celeba") == started(pre)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("canvas=112", "canvas: {} was trained with 80, not 112; leave it out"),
        ("input_size=96", "input_size: {} was trained with 48, not 96; leave it out"),
        ("backbone.width=0.5", "backbone: {} was trained with depth 34, width 0.25, stem_stride 2"),
        ("architecture=splnet", "architecture: {} was trained with sspl, not splnet"),
    ],
)
def test_a_contradiction_is_refused(value: str, said: str, tmp_path: Path) -> None:
    pre = stage_1(tmp_path / "pre")
    with pytest.raises(SettingsError) as caught:
        started(pre, value, "head.pooling=average")
    assert str(caught.value).startswith(said.format(pre))


def test_another_crop_of_the_same_pictures_is_refused_and_of_others_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pre, faces = stage_1(tmp_path / "pre"), tmp_path / "faces"
    faces.mkdir()
    data = [{"format": "folder", "root": str(faces), "crop": "celeba"}]
    (pre / "settings.yaml").write_text(dump_yaml(PretrainSettings.model_validate({"data": data})))
    with pytest.raises(SettingsError, match=r"with crop=celeba, not none; leave crop out\.$"):
        started(pre, spec=f"folder:{faces},crop=none")
    with pytest.raises(SettingsError, match="on these pictures"):
        started(pre, spec=f"csv:{tmp_path / 'l.csv'},images={faces},crop=none")
    with caplog.at_level("INFO"):
        found = started(pre, spec=f"folder:{tmp_path},crop=none")
    assert found.data is not None
    assert found.data.crop == "none"
    assert "crop=none as given, where its own pictures had crop=celeba" in caplog.text


def test_files_of_earlier_versions_have_their_crop_in_the_settings(tmp_path: Path) -> None:
    pre = stage_1(tmp_path / "pre", box=None)
    assert read_start(pre).box is None
    parts = [{"format": "folder", "root": name, "crop": [0, 0, 1, 0.5]} for name in ("a", "b")]
    (pre / "settings.yaml").write_text(yaml.safe_dump({"data": parts}))
    assert read_start(pre).box == (0, 0, 1, 0.5)
    parts[0]["crop"] = "celeba"
    (pre / "settings.yaml").write_text(yaml.safe_dump({"data": parts}))
    assert read_start(pre).box is None


def test_a_pack_keeps_its_own_crop(tmp_path: Path) -> None:
    found = started(stage_1(tmp_path / "pre"), spec=f"packed:{tmp_path}")
    assert found.data is not None
    assert found.data.crop == "none"


def test_what_is_no_start_is_said_before_its_weights_are_read(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"kind": "other"}))
    save_tensors(tmp_path / "x.safetensors", {"t": torch.zeros(1)}, {"kind": "parser"})
    with pytest.raises(DataError, match="holds no stage-1 weights but a face parser"):
        read_start(tmp_path / "x.safetensors")
