"""Other backbones: what is asked of a timm model, and weights from a file, both strictly.

timm itself needs a torchvision that fits torch, so a stand-in with its interface is used here.
"""

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from shared import changed_by_a_step
from sspl.errors import DataError, SettingsError
from sspl.models.attributes import AttributeNetwork
from sspl.models.backbones import BACKBONES, build_backbone
from sspl.models.network_settings import BackboneSettings, HeadSettings
from sspl.settings import build, read_settings
from sspl.study.cells import list_cells, plan
from sspl.study.study_settings import load_study
from sspl.training.backbone_weights import load_backbone
from sspl.training.inheriting import finetune_settings
from sspl.training.stage_settings import FinetuneSettings, PretrainSettings

WIDTHS = (4, 6, 8, 10, 12)


class Flattened(nn.Module):
    """As timm cuts a ConvNeXt or ResNet: stem and stages as children of one flat model."""

    def __init__(self, strides: tuple[int, ...] = (2, 2, 2, 2, 2)) -> None:
        super().__init__()
        inputs = 3
        for name, width, stride in zip(self.names(), WIDTHS, strides, strict=True):
            block = nn.Sequential(
                nn.Conv2d(inputs, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width)
            )
            self.add_module(name.replace(".", "_"), block)
            inputs = width
        reductions = torch.tensor(strides).cumprod(0).tolist()
        self.feature_info = SimpleNamespace(
            reduction=lambda: reductions,
            channels=lambda: list(WIDTHS),
            module_name=self.names,
        )

    def names(self) -> list[str]:
        return ["stem.0", "stages.0", "stages.1", "stages.2", "stages.3"]

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = []
        for layer in self.children():
            x = layer(x)
            maps.append(x)
        return maps


class Nested(Flattened):
    """As timm leaves an EfficientNet: blocks inside one container, some without a map."""

    def __init__(self) -> None:
        super().__init__()
        layers = list(self.children())
        for name in list(self._modules):
            delattr(self, name)
        self.conv_stem = layers[0]
        self.blocks = nn.Sequential(*layers[1:4], nn.Conv2d(10, 10, 1), layers[4])

    def names(self) -> list[str]:
        return ["conv_stem", "blocks.0", "blocks.1", "blocks.2", "blocks.4"]

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = [self.conv_stem(x)]
        for block in self.blocks:
            maps.append(block(maps[-1]))
        return [m for i, m in enumerate(maps) if i != 4]


class ChannelsLast(Flattened):
    def forward(self, x: Tensor) -> list[Tensor]:
        return [m.permute(0, 2, 3, 1) for m in super().forward(x)]


class FixedSize(Flattened):
    def forward(self, x: Tensor) -> list[Tensor]:
        assert x.shape[2] == 224, "Input height doesn't match model (224)."
        return super().forward(x)


def stand_in(monkeypatch: pytest.MonkeyPatch, models: dict[str, Any]) -> None:
    def create_model(name: str, **options: object) -> nn.Module:
        assert options == {"pretrained": False, "features_only": True}
        if name not in models:
            raise RuntimeError(f"Unknown model ({name})")
        torch.manual_seed(0)
        return models[name]()  # type: ignore[no-any-return]

    module = ModuleType("timm")
    module.create_model = create_model  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "timm", module)


@pytest.fixture(params=[Flattened, Nested])
def model(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> type[nn.Module]:
    stand_in(monkeypatch, {"net": request.param})
    return request.param  # type: ignore[no-any-return]


NET = BackboneSettings(timm="net")


def test_the_last_four_maps_are_read(model: type[nn.Module]) -> None:
    backbone = build_backbone(NET).eval()
    x = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        maps = backbone(x)
        expected = backbone.body()(x)[1:]
    assert backbone.widths == (6, 8, 10, 12)
    assert [tuple(m.shape) for m in maps] == [
        (1, 6, 16, 24),
        (1, 8, 8, 12),
        (1, 10, 4, 6),
        (1, 12, 2, 3),
    ]
    assert all(torch.equal(a, b) for a, b in zip(maps, expected, strict=True))


def test_parts_hold_every_parameter_once_from_stem_to_last_stage(model: type[nn.Module]) -> None:
    backbone = build_backbone(NET)
    listed = [id(p) for group in backbone.parameter_groups() for p in group]
    assert sorted(listed) == sorted(id(p) for p in backbone.parameters())
    # Nothing before a part has a say in what the part's own map becomes, and it always has.
    widths = [next(reversed(list(part.parameters()))).shape[0] for part in backbone.parts()]
    assert widths == list(WIDTHS)


def test_freezing_follows_the_parts(model: type[nn.Module]) -> None:
    network = AttributeNetwork(NET, HeadSettings(), 2).train()
    before = set(network.state_dict())
    changed = changed_by_a_step(network, 3, 64)
    last = {Flattened: ("stages_2", "stages_3"), Nested: ("blocks.2", "blocks.3", "blocks.4")}
    free = tuple(f"backbone.net.{name}." for name in last[model])  # type: ignore[index]
    assert changed == {n for n in before if n.startswith((*free, "head."))}


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        (lambda: Flattened((2, 2, 1, 2, 2)), r"strides \[4, 4, 8, 16\]"),
        (ChannelsLast, "not .faces, channels, height, width."),
        (FixedSize, "cannot take a picture of 64 px"),
    ],
)
def test_a_model_that_does_not_fit_is_refused(
    made: Any, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(monkeypatch, {"net": made})
    with pytest.raises(SettingsError, match=rf"^backbone\.timm: .*{reason}"):
        build_backbone(NET)


def test_an_unknown_model_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch, {})
    with pytest.raises(SettingsError, match="'net' is no timm model"):
        build_backbone(NET)


def test_without_timm_the_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(SettingsError, match=r"install '.\[timm\]', with a torchvision that fits"):
        build_backbone(NET)


def test_a_torchvision_that_does_not_fit_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It raises RuntimeError, not ImportError, when timm imports it."""
    text = "raise RuntimeError('operator torchvision::nms does not exist')"
    (tmp_path / "timm.py").write_text(text)
    monkeypatch.delitem(sys.modules, "timm", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(SettingsError, match=r"cannot be imported \(operator torchvision::nms"):
        build_backbone(NET)


def test_sizes_beside_a_timm_model_are_refused() -> None:
    with pytest.raises(SettingsError, match=r"write 'backbone=\{timm: net\}'"):
        build(PretrainSettings, {"backbone": {"width": 0.5, "timm": "net"}})
    settings = build(PretrainSettings, {"backbone": {"width": 0.5}}, ["backbone={timm: net}"])
    assert settings.backbone == NET


SMALL = BackboneSettings(width=0.125)


def weights(tmp_path: Path, tensors: dict[str, Tensor]) -> Path:
    path = tmp_path / "weights.safetensors"
    save_file({n: t.clone() for n, t in tensors.items()}, path)
    return path


@pytest.mark.parametrize("prefix", ["", "backbone."])
def test_a_file_fills_the_whole_backbone(prefix: str, tmp_path: Path) -> None:
    torch.manual_seed(1)
    there, here = build_backbone(SMALL), build_backbone(SMALL)
    tensors = {f"{prefix}{n}": t for n, t in there.state_dict().items()}
    others = {"tasks.pct.head.bias" if prefix else "fc.bias": torch.zeros(3)}
    report = load_backbone(here, weights(tmp_path, tensors | others))
    for name, tensor in there.state_dict().items():
        assert torch.equal(here.state_dict()[name], tensor), name
    assert set(report.loaded) == set(there.state_dict())
    assert report.left == tuple(others)
    assert f"transferred: {len(tensors)} tensors" in report.text()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda t: t.pop("norm.weight"), "tensor 'norm.weight' is missing"),
        (lambda t: t.update({"norm.weight": torch.zeros(3)}), r"'norm.weight' has shape \(3,\)"),
        (lambda t: t.update({"stages.0.9.act1.weight": torch.zeros(3)}), "has no place in this"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(change: Any, reason: str, tmp_path: Path) -> None:
    tensors = dict(build_backbone(SMALL).state_dict())
    change(tensors)
    path = weights(tmp_path, tensors)
    with pytest.raises(DataError, match=reason) as caught:
        load_backbone(build_backbone(SMALL), path)
    assert str(path) in str(caught.value)


def test_a_timm_file_bears_the_names_of_the_uncut_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(monkeypatch, {"net": Flattened})
    tensors = {n: torch.randn_like(t.float()) for n, t in Flattened().state_dict().items()}
    tensors = {n: t.long() if "tracked" in n else t for n, t in tensors.items()}
    uncut = {
        n.replace("stages_", "stages.").replace("stem_", "stem."): t for n, t in tensors.items()
    }
    uncut["head.fc.weight"] = torch.zeros(2, 2)
    backbone = build_backbone(NET)
    report = load_backbone(backbone, weights(tmp_path, uncut))
    assert report.left == ("head.fc.weight",)
    for name, tensor in backbone.body().state_dict().items():
        assert torch.equal(tensor, tensors[name]), name


def saved_by_torch(tmp_path: Path, content: Any) -> Path:
    torch.save(content, tmp_path / "weights.pth")
    return tmp_path / "weights.pth"


@pytest.mark.parametrize(
    "wrapped",
    [
        lambda t: t,
        lambda t: {"epoch": 3, "state_dict": {f"module.{n}": x for n, x in t.items()}},
        lambda t: {"model": {"state_dict": t}, "optimizer": {"lr": 0.1}},
    ],
)
def test_a_file_of_torch_fills_the_whole_backbone(wrapped: Any, tmp_path: Path) -> None:
    torch.manual_seed(1)
    there, here = build_backbone(SMALL), build_backbone(SMALL)
    tensors = dict(there.state_dict()) | {"fc.bias": torch.zeros(3)}
    report = load_backbone(here, saved_by_torch(tmp_path, wrapped(tensors)))
    for name, tensor in there.state_dict().items():
        assert torch.equal(here.state_dict()[name], tensor), name
    assert report.left == ("fc.bias",)


class Code:
    """What a pickle can do to whoever opens it."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return (open, ("touched",))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ({"x": Code()}, "cannot be read as tensors alone .* save its state_dict"),
        (nn.Linear(2, 2), "cannot be read as tensors alone"),
        ([1, 2], "holds no state_dict, which has a tensor for each name"),
        ({"epoch": 1}, "holds no state_dict"),
    ],
)
def test_a_file_of_torch_that_is_no_state_dict_is_refused(
    content: Any, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = saved_by_torch(tmp_path, content)
    (tmp_path / "touched").unlink(missing_ok=True)
    with pytest.raises(DataError, match=reason):
        load_backbone(build_backbone(SMALL), path)
    assert not (tmp_path / "touched").exists()


def test_a_refusal_says_how_much_fits(tmp_path: Path) -> None:
    tensors = dict(build_backbone(SMALL).state_dict())
    whole = len(tensors)
    tensors.pop("norm.weight")
    tensors["norm.bias"] = torch.zeros(3)
    tensors["fc.bias"] = torch.zeros(3)
    with pytest.raises(DataError) as caught:
        load_backbone(build_backbone(SMALL), saved_by_torch(tmp_path, tensors))
    assert f"{whole - 2} of the backbone's {whole} tensors fit" in str(caught.value)
    assert f"1 of the file's {whole} are of other parts" in str(caught.value)


def test_a_timm_model_in_a_file_takes_the_place_of_the_presets_sizes(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text("backbone: {timm: net}\nhead: {dropout: 0.3}\n")
    settings = finetune_settings("small", read_settings(tmp_path / "s.yaml"))
    assert settings.backbone == NET
    assert (settings.head.dropout, settings.head.pooling) == (0.3, "regions")
    assert finetune_settings("small", {"backbone": {"width": 0.25}}).backbone.depth == 18


def test_a_timm_model_in_a_study() -> None:
    named = {"backbone": {"timm": "net"}}
    methods = {"net": {"pretrain": {"tasks": ["pst"], **named}, "finetune": named}}
    sections = [{"methods": ["net"], "labels": [55]}]
    study = load_study("celeba10k", (), {"methods": methods, "sections": sections})
    each = plan(study, list_cells(study)[0])
    assert each.pretrain is not None
    assert each.pretrain.backbone == each.finetune.backbone == NET


def test_two_starts_are_refused() -> None:
    with pytest.raises(SettingsError, match="give backbone_weights or pretrained, not both"):
        build(FinetuneSettings, {"backbone_weights": "a.safetensors", "pretrained": "run"})


@pytest.mark.parametrize(
    "settings", [BackboneSettings(), BackboneSettings(depth=50), BackboneSettings(timm="resnet18")]
)
def test_one_of_the_list_takes_the_settings(settings: BackboneSettings) -> None:
    kinds = [kind.__name__ for kind in BACKBONES if kind.takes(settings)]
    assert kinds == ["ResNet" if settings.timm is None else "TimmBackbone"]
