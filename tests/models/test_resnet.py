"""The backbone: size, strides, PReLU throughout, and what freezing leaves alone."""

import math

import pytest
import torch
from torch import nn

from shared import changed_by_a_step
from sspl.models.activation import PReLU
from sspl.models.attributes import AttributeNetwork
from sspl.models.backbones.base import pooled
from sspl.models.backbones.resnet import ResNet, ThinShortcut
from sspl.models.network_settings import BackboneSettings, HeadSettings
from sspl.training.attribute_network import parameter_groups
from sspl.training.stage_settings import FinetuneSettings

SMALL = BackboneSettings(width=0.125)


def parameters(**changes: float) -> int:
    return sum(p.numel() for p in ResNet(BackboneSettings(**changes)).parameters())  # type: ignore[arg-type]


def test_size_of_the_papers_backbone() -> None:
    assert parameters() == pytest.approx(11.2e6, abs=0.1e6)


def test_size_by_hand() -> None:
    # 3x3 convolutions of ResNet-18, the 7x7 stem and the three 1x1 shortcuts.
    convolutions = 3 * 64 * 49 + 4 * 64 * 64 * 9
    for low, high in ((64, 128), (128, 256), (256, 512)):
        convolutions += low * high * 9 + 3 * high * high * 9 + low * high
    # BatchNorm has a scale and a shift, PReLU a slope for each channel: the stem, each block's
    # input and middle, the end.
    channels = [64] + [64] * 4 + [64, 128, 128, 128] + [128, 256, 256, 256]
    channels += [256, 512, 512, 512, 512]
    assert parameters() == convolutions + 3 * sum(channels)


def test_deeper_backbones_have_the_size_of_their_resnets() -> None:
    # ResNet-34 and -50 without their 1000-way head, plus the PReLU slopes.
    assert parameters(depth=34) == pytest.approx(21.3e6, abs=0.1e6)
    assert parameters(depth=50) == pytest.approx(23.5e6, abs=0.1e6)


@pytest.mark.parametrize("stride", [1, 2, 4])
@pytest.mark.parametrize("size", [64, 45])
def test_maps_have_the_right_strides_and_channels(stride: int, size: int) -> None:
    backbone = ResNet(BackboneSettings(width=0.25, stem_stride=stride)).eval()  # type: ignore[arg-type]
    with torch.no_grad():
        maps = backbone(torch.randn(1, 3, size, size + 7))
    assert backbone.widths == (16, 32, 64, 128)
    for index, features in enumerate(maps):
        reach = stride * 2**index
        expected = (
            1,
            backbone.widths[index],
            math.ceil(size / reach),
            math.ceil((size + 7) / reach),
        )
        assert features.shape == expected


def test_bottleneck_maps_are_four_times_as_wide() -> None:
    backbone = ResNet(BackboneSettings(width=0.125, depth=50)).eval()
    with torch.no_grad():
        maps = backbone(torch.randn(1, 3, 33, 31))
    assert [m.shape[1] for m in maps] == [32, 64, 128, 256] == list(backbone.widths)


def test_prelu_everywhere() -> None:
    for depth in (18, 50):
        backbone = ResNet(BackboneSettings(width=0.125, depth=depth))  # type: ignore[arg-type]
        kinds = [type(m) for m in backbone.modules()]
        # One after each BatchNorm, none shared.
        assert kinds.count(PReLU) == kinds.count(nn.BatchNorm2d) == (18 if depth == 18 else 50)
        assert nn.ReLU not in kinds


def test_slopes_take_part() -> None:
    torch.manual_seed(0)
    backbone = ResNet(SMALL).eval()
    picture = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        before = pooled(backbone(picture))
        for module in list(backbone.modules()):
            if isinstance(module, nn.PReLU):
                old = module.weight.clone()
                module.weight.fill_(1.0)
                assert not torch.equal(before, pooled(backbone(picture)))
                module.weight.copy_(old)
        assert torch.equal(before, pooled(backbone(picture)))


def test_blocks_are_residual() -> None:
    backbone = ResNet(SMALL).eval()
    block = backbone.stages[0][1]
    nn.init.zeros_(block.conv2.weight)
    x = torch.randn(2, 8, 5, 5)
    assert torch.equal(block(x), x)


def test_pooled_is_the_mean_of_the_last_map() -> None:
    maps = [torch.full((1, 2, 4, 4), 9.0), torch.tensor([[[[1.0, 2.0], [3.0, 6.0]]]]).bfloat16()]
    feature = pooled(maps)
    assert feature.tolist() == [[3.0]]
    assert feature.dtype == torch.float32


def test_groups_hold_every_parameter_once_in_order() -> None:
    backbone = ResNet(SMALL)
    groups = backbone.parameter_groups()
    listed = [id(p) for group in groups for p in group]
    assert len(groups) == 5
    assert len(listed) == len(set(listed))
    assert set(listed) == {id(p) for p in backbone.parameters()}
    names = {id(p): n for n, p in backbone.named_parameters()}
    firsts = [names[id(group[0])].split(".")[:2] for group in groups]
    assert firsts[0][0] == "stem"
    assert firsts[1:] == [["stages", str(i)] for i in range(4)]


def network() -> AttributeNetwork:
    torch.manual_seed(0)
    return AttributeNetwork(SMALL, HeadSettings(), 3)


def test_layer_decay_falls_from_the_head_to_the_stem() -> None:
    subject = network()
    settings = FinetuneSettings(layer_decay=0.5, head_lr=3.0)
    groups = parameter_groups(subject, settings)
    assert [scale for _, scale in groups] == [3.0, 1.0, 0.5, 0.25, 0.125, 0.0625]
    assert groups[0][0][0] is subject.head.weight
    assert groups[-1][0][0] is subject.backbone.stem[0].weight
    listed = [id(p) for group, _ in groups for p in group]
    assert sorted(listed) == sorted(id(p) for p in subject.parameters())


@pytest.mark.parametrize("freeze", [0, 1, 3])
def test_frozen_stages_stay_as_they_are(freeze: int) -> None:
    subject = network()
    changed = changed_by_a_step(subject, freeze, 32)
    frozen = ["backbone.stem.", *(f"backbone.stages.{i}." for i in range(4))][:freeze]
    for name in subject.state_dict():
        assert (name not in changed) == name.startswith(tuple(frozen)), name


def test_frozen_backbone_stays_as_it_is() -> None:
    assert changed_by_a_step(network(), 5, 32) == {"head.weight", "head.bias"}


def test_head_is_linear() -> None:
    subject = network().eval()
    picture = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        expected = pooled(subject.backbone(picture)) @ subject.head.weight.T + subject.head.bias
        torch.testing.assert_close(subject(picture), expected)


def test_logits_are_float32_under_autocast() -> None:
    subject = network().eval()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert subject(torch.randn(2, 3, 32, 32)).dtype == torch.float32


def test_thin_shortcuts_are_strided_convolutions() -> None:
    """torch's own corrupts memory in fp32 and channels last, and so the process mostly dies."""
    thin = ResNet(BackboneSettings(width=0.125, stem_stride=1)).stages[1][0].shortcut
    assert isinstance(thin, ThinShortcut)
    assert (thin.in_channels, thin.stride) == (8, (2, 2))
    plain = nn.Conv2d(8, 16, 1, 2, bias=False)
    plain.load_state_dict(thin.state_dict())
    for side in (47, 48):
        x = torch.randn(2, 8, side, side)
        inputs = x.clone().requires_grad_(), x.contiguous(memory_format=torch.channels_last)
        inputs[1].requires_grad_()
        results = plain(inputs[0]), thin(inputs[1])
        torch.testing.assert_close(results[1], results[0])
        torch.testing.assert_close(thin.eval()(x), results[0])
        for result in results:
            (result**2).sum().backward()
        torch.testing.assert_close(inputs[1].grad, inputs[0].grad)
        torch.testing.assert_close(thin.weight.grad, plain.weight.grad, rtol=1e-4, atol=1e-4)
        thin.train()
