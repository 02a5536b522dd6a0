"""Stage 2 that goes on from a fine-tuned model, and what is said of other starts."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from shared import INPUT_SIZE, SCHEMA, make_model
from sspl.domain.attributes import AttributeSchema
from sspl.errors import DataError
from sspl.inference.pack import pack_model
from sspl.io.run_files import PRETRAINED_FILE
from sspl.io.weights import save_tensors
from sspl.models.bundle import AttributeModel, save_model
from sspl.models.network_settings import Architecture, HeadSettings
from sspl.models.splnet import AnyAttributeNetwork, build_attribute_network
from sspl.training.backbone_weights import load_backbone
from sspl.training.starts import weights_file
from sspl.training.transfer import transfer

OTHER = AttributeSchema(
    ("Bald", "Big_Nose", "Smiling", "Eyeglasses"), ("upper", "middle", "whole", "whole")
)
"""Heads to keep, in another order; Eyeglasses shows in another region than before."""


def network(model: AttributeModel, schema: AttributeSchema) -> AnyAttributeNetwork:
    before = model.network
    return build_attribute_network(
        before.architecture,
        before.backbone_settings,
        before.head_settings,
        schema,
        getattr(before, "segmentation", None),
        getattr(before, "classes", ()),
    ).eval()


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("architecture", ["sspl", "splnet"])
def test_heads_of_the_same_attributes_say_what_they_said(
    architecture: Architecture, packed: bool, tmp_path: Path
) -> None:
    model, run = make_model(architecture, flip_average=False), tmp_path / "fine"
    save_model(run, model)
    if packed:
        pack_model(run, tmp_path / "packed")
        run = tmp_path / "packed"
    fresh = network(model, OTHER)
    report = transfer(fresh, run, OTHER).text()
    picture = torch.rand(2, 3, INPUT_SIZE, INPUT_SIZE, generator=torch.Generator().manual_seed(1))
    said, before = fresh(picture), model.network.eval()(picture)
    # A head of `splnet` reads the branch of its region.
    kept = ("Big_Nose", "Smiling", "Eyeglasses")[: 3 if architecture == "sspl" else 2]
    for name in kept:
        torch.testing.assert_close(said[:, OTHER.index(name)], before[:, SCHEMA.index(name)])
    if architecture == "splnet":
        assert not torch.allclose(said[:, OTHER.index("Eyeglasses")], before[:, 1])
        assert "heads kept: Big_Nose, Smiling; new: Bald, Eyeglasses; left behind: Eye" in report
    else:
        assert "heads kept: Big_Nose, Smiling, Eyeglasses; new: Bald; left behind: none" in report


def test_another_backbone_or_pooling_is_named(tmp_path: Path) -> None:
    model = make_model("sspl", flip_average=False)
    save_model(tmp_path, model)
    backbone = model.network.backbone_settings
    wider = build_attribute_network(
        "sspl", backbone.model_copy(update={"width": 0.2}), model.network.head_settings, SCHEMA
    )
    with pytest.raises(DataError, match=r"trained with backbone .* use the same backbone settings"):
        transfer(wider, tmp_path, SCHEMA)
    with pytest.raises(DataError, match="trained with architecture sspl"):
        transfer(network(make_model("splnet", flip_average=False), SCHEMA), tmp_path, SCHEMA)
    pools = "average" if model.network.head_settings.pooling == "regions" else "regions"
    other = build_attribute_network(
        "sspl", backbone, HeadSettings(pooling=pools), SCHEMA, classes=("background", "skin")
    )
    if pools == "regions":
        with pytest.raises(DataError, match=r"no segmentation .* set head\.pooling=average"):
            transfer(other, tmp_path, SCHEMA)
    else:
        assert "heads kept: none" in transfer(other, tmp_path, SCHEMA).text()


def test_a_backbone_starts_from_the_folder_of_a_run(tmp_path: Path) -> None:
    model = make_model("sspl", flip_average=False)
    save_model(tmp_path, model)
    fresh = network(model, SCHEMA)
    load_backbone(fresh.backbone, tmp_path)
    for name, tensor in model.network.backbone.state_dict().items():
        assert torch.equal(fresh.backbone.state_dict()[name], tensor), name


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("model.onnx", "an exported model"),
        ("model.pth", "a file of torch"),
        ("gone", "no such model file or folder"),
        ("parser/parser.safetensors", "a face parser"),
        ("run/settings.yaml", "not come to its end"),
        ("set/list_attr_celeba.txt", "a set of faces"),
        ("empty/notes.txt", "holds no such model file"),
    ],
)
def test_what_is_no_start_is_named_for_what_it_is(name: str, said: str, tmp_path: Path) -> None:
    start = tmp_path / name
    if name != "gone":
        start.parent.mkdir(exist_ok=True)
        start.write_bytes(b"x")
    start = start if start.parent == tmp_path else start.parent
    with pytest.raises(DataError, match=said) as caught:
        weights_file(start)
    assert "give the folder of a finished 'sspl pretrain' or 'sspl finetune'" in str(caught.value)


def test_weights_of_another_kind_are_named(tmp_path: Path) -> None:
    model = make_model("sspl", flip_average=False)
    fresh, weights = network(model, SCHEMA), {"a": torch.zeros(2)}
    (tmp_path / "plain").mkdir()
    save_file(weights, tmp_path / "plain" / PRETRAINED_FILE)
    with pytest.raises(DataError, match=r"no metadata of this software .* backbone_weights="):
        transfer(fresh, tmp_path / "plain", SCHEMA)
    for kind, said in (("parser", "but a face parser"), ("finetune-state", "checkpoint of a run")):
        save_tensors(tmp_path / f"{kind}.safetensors", weights, {"kind": kind})
        with pytest.raises(DataError, match=said):
            transfer(fresh, tmp_path / f"{kind}.safetensors", SCHEMA)
