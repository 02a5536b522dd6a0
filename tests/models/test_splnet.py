"""The `splnet` architecture: its blocks, sizes, heads by region, adversary and both stages."""

import csv
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.numpy import load_file
from torch import Tensor, nn

import shared
from shared import context, draw_faces, learn, refused, sspl
from sspl.data.data_settings import DataSettings
from sspl.domain.attributes import AttributeSchema, celeba_schema
from sspl.domain.regions import REGIONS
from sspl.domain.taxonomy import UNKNOWN, built_in_taxonomy
from sspl.errors import DataError, SettingsError
from sspl.io.checkpoints import load_state, save_state
from sspl.io.weights import save_tensors
from sspl.metrics.tallies import Mean
from sspl.models.attributes import AttributeNetwork
from sspl.models.backbones.base import Backbone, pooled
from sspl.models.backbones.resnet import ResNet
from sspl.models.branches import (
    Branches,
    ChannelGate,
    CrossAttention,
    Fusion,
    RegionHeads,
    SpatialGate,
)
from sspl.models.bundle import load_model
from sspl.models.network_settings import BackboneSettings, HeadSettings
from sspl.models.splnet import BranchAttributeNetwork, build_attribute_network
from sspl.settings import build, read_settings
from sspl.tasks.base import Views
from sspl.tasks.pct import PatchClassification, PCTSettings, class_counts, largest_classes
from sspl.training.adversarial import FUSED, Adversary, build_discriminator
from sspl.training.attribute_network import (
    freeze_statistics,
    initialise_bias,
    log_odds,
    parameter_groups,
)
from sspl.training.finetune import Finetuning
from sspl.training.loop import Loop
from sspl.training.loss_settings import AdversarialSettings
from sspl.training.pretext_network import build_network
from sspl.training.stage_settings import FinetuneSettings, PretrainSettings, preset
from sspl.training.transfer import transfer

SMALL = BackboneSettings(width=0.125, stem_stride=2)
NO_BACKBONE: Backbone = None  # type: ignore[assignment]


def size(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def randomise(module: nn.Module, seed: int = 0) -> None:
    """Give every tensor, norms' statistics too, a value that matters."""
    draw = torch.Generator().manual_seed(seed)
    for name, tensor in module.state_dict().items():
        if tensor.is_floating_point():
            tensor.copy_(torch.randn(tensor.shape, generator=draw) * 0.3)
            if "running_var" in name:
                tensor.copy_(tensor.abs() + 0.5)


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def test_channel_gate_by_hand() -> None:
    gate = ChannelGate(2)
    with torch.no_grad():
        gate.squeeze.weight.copy_(torch.tensor([[1.0, -1.0]]))
        gate.squeeze.bias.copy_(torch.tensor([0.5]))
        gate.excite.weight.copy_(torch.tensor([[2.0], [-1.0]]))
        gate.excite.bias.copy_(torch.tensor([0.0, 1.0]))
        x = torch.tensor([[[[1.0, 3.0]], [[0.0, 2.0]]]])
        # Means 2 and 1; hidden relu(2 - 1 + 0.5) = 1.5; gates sigmoid(3) and sigmoid(-0.5).
        first, second = 1 + 1 / (1 + math.exp(-3)), 1 + 1 / (1 + math.exp(0.5))
        expected = [[[[first, 3 * first]], [[0.0, 2 * second]]]]
        torch.testing.assert_close(gate(x), torch.tensor(expected))
        # Means 0 and 1 switch the hidden unit off: gates sigmoid(0) and sigmoid(1).
        y = torch.tensor([[[[0.0]], [[1.0]]]])
        expected = [[[[0.0]], [[1 + 1 / (1 + math.exp(-1))]]]]
        torch.testing.assert_close(gate(y), torch.tensor(expected))


def test_spatial_gate_by_hand() -> None:
    gate = SpatialGate()
    with torch.no_grad():
        gate.conv.weight.zero_()
        gate.conv.weight[0, :, 1, 1] = torch.tensor([1.0, -2.0])  # mean, maximum of the place
        gate.conv.weight[0, 1, 1, 2] = 0.5  # maximum of the place to the right
        gate.conv.bias.fill_(0.25)
        x = torch.tensor([[[[1.0, 4.0]], [[3.0, 0.0]]]])
        # Means 2, 2; maxima 3, 4. Left: 2 - 6 + 2 + 0.25; right: 2 - 8 + 0 + 0.25.
        left, right = 1 + 1 / (1 + math.exp(1.75)), 1 + 1 / (1 + math.exp(5.75))
        expected = [[[[left, 4 * right]], [[3 * left, 0.0]]]]
        torch.testing.assert_close(gate(x), torch.tensor(expected))


def convolve(x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """3x3 convolution of (c, h, w) with zeros around, place by place."""
    _, h, w = x.shape
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1)))
    out = np.zeros((len(weight), h, w))
    for i in range(h):
        for j in range(w):
            out[:, i, j] = (weight * padded[None, :, i : i + 3, j : j + 3]).sum((1, 2, 3))
    return out


def norm_and_prelu(x: np.ndarray, state: dict[str, np.ndarray], name: str) -> np.ndarray:
    scale = state[f"{name}.1.weight"] / np.sqrt(state[f"{name}.1.running_var"] + 1e-5)
    shift = state[f"{name}.1.bias"] - state[f"{name}.1.running_mean"] * scale
    y = x * scale[:, None, None] + shift[:, None, None]
    return np.where(y > 0, y, y * state[f"{name}.2.weight"][:, None, None])


def block_by_hand(
    state: dict[str, np.ndarray], feature: np.ndarray, stage: np.ndarray, halve: bool
) -> np.ndarray:
    """docs/method.md#the-two-architectures in numpy, one picture at a time."""
    if halve:
        feature = norm_and_prelu(convolve(feature, state["adapt.0.weight"]), state, "adapt")
        pooled = np.zeros_like(stage)
        for i in range(stage.shape[1]):
            for j in range(stage.shape[2]):
                cell = feature[:, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2]
                pooled[:, i, j] = cell.max((1, 2))
        feature = pooled
    both = np.concatenate([feature, stage])
    squeeze = "channel_gate.squeeze"
    hidden = state[f"{squeeze}.weight"] @ both.mean((1, 2)) + state[f"{squeeze}.bias"]
    excite = "channel_gate.excite"
    gate = sigmoid(state[f"{excite}.weight"] @ np.maximum(hidden, 0) + state[f"{excite}.bias"])
    gated = both + both * gate[:, None, None]
    by_channel = norm_and_prelu(convolve(gated, state["mix.0.weight"]), state, "mix")
    total = feature + stage
    summary = np.stack([total.mean(0), total.max(0)])
    places = convolve(summary, state["spatial_gate.conv.weight"])[0]
    places = sigmoid(places + state["spatial_gate.conv.bias"])
    return by_channel + total + total * places


@pytest.mark.parametrize(
    ("inputs", "width", "halve", "shape"),
    [
        (16, 16, False, (3, 4)),
        (8, 16, True, (6, 8)),
        (8, 16, True, (5, 7)),
        (16, 16, True, (4, 4)),
    ],
)
def test_block_is_that_of_the_method(
    inputs: int, width: int, halve: bool, shape: tuple[int, int]
) -> None:
    block = CrossAttention(inputs, width, halve).eval()
    randomise(block)
    half = tuple(-(-s // 2) for s in shape) if halve else shape
    draw = torch.Generator().manual_seed(1)
    feature = torch.randn(2, inputs, *shape, generator=draw)
    stage = torch.randn(2, width, *half, generator=draw)
    with torch.no_grad():
        output = block(feature, stage)
    state = {n: t.double().numpy() for n, t in block.state_dict().items()}
    for i in range(2):
        expected = block_by_hand(
            state, feature[i].double().numpy(), stage[i].double().numpy(), halve
        )
        np.testing.assert_allclose(output[i].numpy(), expected, rtol=1e-4, atol=1e-4)


def test_convolutions_start_as_those_of_the_backbone() -> None:
    torch.manual_seed(0)
    block = CrossAttention(32, 64, halve=True)
    for convolution in (block.adapt[0], block.mix[0]):
        # He et al.: 2 / (9 places of 64 outputs); the inputs are 32 and 128.
        weight = convolution.weight.detach()  # type: ignore[union-attr, operator]
        assert float(weight.std()) == pytest.approx((2 / (64 * 9)) ** 0.5, rel=0.02)
        assert abs(float(weight.mean())) < 0.001


def test_branches_chain_their_own_blocks_from_the_first_map() -> None:
    torch.manual_seed(0)
    branches = Branches((8, 16, 16)).eval()
    randomise(branches)
    maps = [torch.randn(2, w, s, s) for w, s in ((8, 9), (16, 5), (16, 3))]
    with torch.no_grad():
        features = branches(maps)
        assert tuple(features) == REGIONS
        for region in REGIONS:
            blocks = branches.get_submodule(region)
            first, second, third = blocks.children()
            last = third(second(first(maps[0], maps[0]), maps[1]), maps[2])
            torch.testing.assert_close(features[region], last.mean((2, 3)))
        some = branches(maps, ("lower",))
        assert tuple(some) == ("lower",)
        assert torch.equal(some["lower"], features["lower"])
    assert not torch.allclose(features["upper"], features["lower"])


@pytest.mark.parametrize("settings", [{}, {"depth": 50}, {"stem_stride": 1}])
@pytest.mark.parametrize("side", [48, 45])
def test_branches_fit_every_backbone(settings: dict[str, Any], side: int) -> None:
    backbone = ResNet(BackboneSettings(**({"width": 0.125} | settings))).eval()
    with torch.no_grad():
        features = Branches(backbone.widths).eval()(backbone(torch.randn(1, 3, side, side + 3)))
    assert {f.shape for f in features.values()} == {(1, backbone.widths[-1])}


def test_sizes_of_the_reference() -> None:
    with torch.device("meta"):
        network = BranchAttributeNetwork(BackboneSettings(), HeadSettings(), celeba_schema())
    backbone, branches = network.backbone, network.pooling
    # By hand: gates, the convolution of the concatenation, the adapting ones; then norms, slopes.
    expected = 0
    for width in (64, 128, 256, 512):
        both = 2 * width
        hidden = both // 16
        expected += 2 * both * hidden + hidden + both + both * width * 9 + 2 * 9 + 1 + 3 * width
    for low, high in ((64, 128), (128, 256), (256, 512)):
        expected += low * high * 9 + 3 * high
    assert size(branches) == 4 * expected
    assert size(backbone) == pytest.approx(11.2e6, abs=0.05e6)
    assert size(network) == size(backbone) + size(branches) + 40 * 513
    assert size(network) == pytest.approx(43.2e6, abs=0.05e6)
    settings = build(PretrainSettings, preset("paper-splnet", "pretrain"))
    with torch.device("meta"):
        first = build_network(settings, built_in_taxonomy("celebamask19"))
    classified = 19 * 513 + (9 + 4) * 513 + 27 * 3 + 3 * 3  # PCT, PRT's heads, its stack to 3
    fused = 3 * 512 * 512 + 3 * 512
    head = 2_238_388  # test_criss_cross.py
    assert size(first) == size(backbone) + size(branches) + classified + fused + head
    assert size(first) == 46_209_406
    # The published network has 46,214,870, which is 0.012 % more (docs/method.md).
    assert size(first) == pytest.approx(46_214_870, rel=1.2e-4)
    assert first.fusion is not None


def test_sizes_of_the_discriminator() -> None:
    subject = build_discriminator(512)
    shapes = [tuple(m.weight.shape) for m in subject if isinstance(m, nn.Linear)]
    assert shapes == [(64, 512), (128, 64), (256, 128), (1, 256)]
    slopes = [m.negative_slope for m in subject if isinstance(m, nn.LeakyReLU)]
    assert slopes == [0.05] * 3
    assert not isinstance(subject[-1], nn.LeakyReLU)


INTERLEAVED = AttributeSchema(
    tuple("abcdefgh"), ("lower", "upper", "whole", "lower", "middle", "upper", "whole", "middle")
)


def test_logits_of_interleaved_groups_of_equal_size_keep_the_schemas_order() -> None:
    groups = {region: INTERLEAVED.group(region) for region in REGIONS}
    heads = RegionHeads(1, groups)
    with torch.no_grad():
        for region, places in groups.items():
            heads.get_submodule(region).weight.fill_(1)
            heads.get_submodule(region).bias.copy_(torch.tensor(places) / 10)
    features = {r: torch.tensor([[10.0 * (i + 1)]]) for i, r in enumerate(REGIONS)}
    tens = {r: 10 * (i + 1) for i, r in enumerate(REGIONS)}
    expected = [tens[r] + place / 10 for place, r in enumerate(INTERLEAVED.regions)]
    assert heads(features).tolist() == [pytest.approx(expected)]
    assert expected == [40.0, 20.1, 10.2, 40.3, 30.4, 20.5, 10.6, 30.7]
    heads.set_bias(-torch.arange(8.0))
    expected = [tens[r] - place for place, r in enumerate(INTERLEAVED.regions)]
    assert heads(features).tolist() == [pytest.approx(expected)]


def test_logits_are_worked_out_in_float32_even_under_autocast() -> None:
    heads = RegionHeads(1, {"whole": (0,)})
    torch.nn.init.ones_(heads.get_submodule("whole").weight)  # type: ignore[arg-type]
    heads.set_bias(torch.tensor([0.001]))
    half = {"whole": torch.ones(1, 1, dtype=torch.bfloat16)}
    with torch.autocast("cpu", torch.bfloat16):
        logits = heads(half)
    assert logits.dtype == torch.float32
    assert logits.item() == pytest.approx(1.001)  # in bf16 it would be 1
    with torch.no_grad():
        assert heads(half).item() == pytest.approx(1.001)


def test_heads_save_their_weights_alone() -> None:
    heads = RegionHeads(1, {"upper": (1,), "lower": (0, 2)})
    assert heads.order.tolist() == [1, 0, 2]
    assert set(heads.state_dict()) == {
        f"{region}.{tensor}" for region in ("upper", "lower") for tensor in ("weight", "bias")
    }


def test_region_without_outputs_has_no_head() -> None:
    heads = RegionHeads(2, {"whole": (1, 0), "upper": (), "lower": (2,)})
    assert list(heads) == ["whole", "lower"]
    assert heads({r: torch.zeros(1, 2) for r in REGIONS}).shape == (1, 3)


def test_pct_by_region_is_the_sum_of_the_regions_means() -> None:
    taxonomy = built_in_taxonomy("celebamask19")
    plain = PatchClassification(PCTSettings(top=4), context(6, taxonomy=taxonomy))
    parted = PatchClassification(
        PCTSettings(top=4), context(6, taxonomy=taxonomy, architecture="splnet")
    )
    assert isinstance(plain.head, nn.Linear)
    assert isinstance(parted.head, RegionHeads)
    with torch.no_grad():
        for region, names in taxonomy.regions.items():
            places = [taxonomy.classes.index(name) for name in names]
            head = parted.head.get_submodule(region)
            head.weight.copy_(plain.head.weight[places])
            head.bias.copy_(plain.head.bias[places])
    draw = torch.Generator().manual_seed(0)
    mask = torch.randint(19, (5, 6, 6), generator=draw).to(torch.uint8)
    mask[0] = UNKNOWN
    feature = torch.randn(5, 6, generator=draw)
    empty = torch.zeros(5, 3, 1, 1)
    views = Views(empty, None, empty, mask, torch.Generator())
    maps = [feature[:, :, None, None]]
    expected = plain(NO_BACKBONE, views, maps)
    result = parted(NO_BACKBONE, views, maps, dict.fromkeys(REGIONS, feature))
    assert result.tallies["accuracy"] == expected.tallies["accuracy"]
    # The sum of the regions' means, as in the reference: 2, 7, 4 and 6 of 19 classes.
    target = largest_classes(class_counts(mask, 19), 4)[1:]
    terms = F.binary_cross_entropy_with_logits(plain.head(feature)[1:], target, reduction="none")
    means = [terms[:, taxonomy.group(region)].mean() for region in REGIONS]
    assert [len(taxonomy.group(region)) for region in REGIONS] == [2, 7, 4, 6]
    torch.testing.assert_close(result.loss, torch.stack(means).sum())
    torch.testing.assert_close(expected.loss, terms.mean())


def test_each_branch_predicts_the_classes_of_its_region_alone() -> None:
    taxonomy = built_in_taxonomy("fasseg6")
    subject = PatchClassification(
        PCTSettings(), context(4, taxonomy=taxonomy, architecture="splnet")
    )
    assert isinstance(subject.head, RegionHeads)
    features = {region: torch.randn(1, 4) for region in REGIONS}
    before = subject.head(features)
    for region in REGIONS:
        after = subject.head(features | {region: features[region] + 1})
        changed = {c for i, c in enumerate(taxonomy.classes) if before[0, i] != after[0, i]}
        assert changed == set(taxonomy.regions[region])


def features_of(n: int, channels: int, seed: int = 0) -> dict[str, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    names = ("whole", FUSED)
    return {name: torch.randn(n, channels, generator=draw, requires_grad=True) for name in names}


def test_fusion_by_hand() -> None:
    """1x1 over the concatenated upper, middle and lower maps, PReLU, then the mean of places."""
    subject = Fusion(2).eval()
    weight = torch.zeros(2, 6, 1, 1)
    weight[0, 0] = weight[0, 2] = 1  # first channels of upper and middle
    weight[1, 5] = -1  # second channel of lower
    with torch.no_grad():
        convolution = subject.mix[0]
        assert isinstance(convolution, nn.Conv2d)
        convolution.weight.copy_(weight)
        maps = {r: torch.full((1, 2, 1, 2), 99.0) for r in REGIONS}
        maps["upper"][0, 0] = torch.tensor([[1.0, 2.0]])
        maps["middle"][0, 0] = torch.tensor([[3.0, 4.0]])
        maps["lower"][0, 1] = torch.tensor([[2.0, -6.0]])
        found = subject(maps)
    # (4 + 6) / 2, and (-2 * 0.25 + 6) / 2: PReLU before the mean.
    assert found.tolist() == [pytest.approx([5.0, 2.75], rel=1e-4)]
    assert sum(p.numel() for p in Fusion(512).parameters()) == 1536 * 512 + 3 * 512


def adversary(**changes: float) -> Adversary:
    torch.manual_seed(0)
    return Adversary(AdversarialSettings(**changes), 4, torch.device("cpu"))  # type: ignore[arg-type]


def test_term_reaches_the_parts_but_neither_the_whole_nor_the_discriminator() -> None:
    subject, features = adversary(), features_of(3, 4)
    result = subject.term(features)
    with torch.no_grad():
        verdict = subject.discriminator(features[FUSED])
        whole = subject.discriminator(features["whole"])
    expected = torch.log1p(torch.exp(-verdict)).mean()
    torch.testing.assert_close(result.loss.detach(), expected)
    right = int((verdict <= 0).sum() + (whole > 0).sum())
    assert result.tallies["discriminator_accuracy"].value() == pytest.approx(right / 6)
    result.loss.backward()
    assert all(p.grad is None for p in subject.discriminator.parameters())
    assert features["whole"].grad is None
    gradient = features[FUSED].grad
    assert gradient is not None
    assert float(gradient.abs().sum()) > 0


def test_a_verdict_of_0_is_for_the_parts() -> None:
    subject = adversary()
    subject.discriminator = nn.Sequential(nn.Identity())  # the feature is the verdict
    values = torch.tensor([[0.0], [0.5], [-1.0]])
    # Whole faces: 0.5 alone is told as one; parts: 0 and -1 are told as such.
    tally = subject.term({"whole": values, FUSED: values}).tallies["discriminator_accuracy"]
    assert tally == Mean(3.0, 6.0)


def test_the_discriminator_learns_at_its_own_rate() -> None:
    assert [group["lr"] for group in adversary(lr=0.02).optimiser.param_groups] == [0.02]


def test_the_adversarial_term_is_the_references() -> None:
    settings = AdversarialSettings()
    assert (settings.weight, settings.every) == (1.0, 3)
    (group,) = adversary().optimiser.param_groups
    assert (group["betas"], group["weight_decay"]) == ((0.9, 0.99), 5e-4)


def test_discriminators_step_never_reaches_the_network() -> None:
    torch.manual_seed(0)
    backbone = ResNet(SMALL)
    branches, fusion = Branches(backbone.widths), Fusion(backbone.widths[-1])
    subject = Adversary(AdversarialSettings(), backbone.widths[-1], torch.device("cpu"))

    def compared() -> dict[str, Tensor]:
        last = branches.maps(backbone(torch.randn(4, 3, 32, 32)))
        return {"whole": pooled([last["whole"]]), FUSED: fusion(last)}

    features = compared()
    parameters = [*backbone.parameters(), *branches.parameters(), *fusion.parameters()]
    subject.learn(features, 0)
    assert all(p.grad is None for p in parameters)
    # With gradients and values already there, both stay as they are.
    features = compared()
    subject.term(features).loss.backward()
    assert all(p.grad is None for p in branches["whole"].parameters())
    assert all(p.grad is not None for p in (*branches["lower"].parameters(), *fusion.parameters()))
    before = [(p.detach().clone(), None if p.grad is None else p.grad.clone()) for p in parameters]
    weights = [p.detach().clone() for p in subject.discriminator.parameters()]
    subject.learn(features, 0)
    for (value, gradient), p in zip(before, parameters, strict=True):
        assert torch.equal(value, p)
        assert p.grad is None if gradient is None else torch.equal(gradient, p.grad)  # type: ignore[arg-type]
    changed = [
        not torch.equal(a, b)
        for a, b in zip(weights, subject.discriminator.parameters(), strict=True)
    ]
    assert all(changed)


def test_discriminator_learns_to_tell_apart_every_few_steps() -> None:
    subject = adversary(every=3, lr=0.01)
    features = features_of(64, 4)
    features["whole"] = features["whole"] + 2
    start = [p.detach().clone() for p in subject.discriminator.parameters()]
    for step in (1, 2, 4, 5):
        subject.learn(features, step)
    assert all(
        torch.equal(a, b) for a, b in zip(start, subject.discriminator.parameters(), strict=True)
    )
    for step in range(0, 90, 3):
        subject.learn(features, step)
    assert subject.term(features).tallies["discriminator_accuracy"].value() > 0.95  # type: ignore[operator]


def test_state_holds_the_adversary_with_its_optimiser(tmp_path: Path) -> None:
    features = features_of(8, 4)
    network = nn.Linear(2, 2)
    optimiser = torch.optim.Adam(network.parameters())
    subject = adversary()
    subject.learn(features, 0)
    save_state(tmp_path, network, optimiser, {"rows": [{"a": 1}]}, {"adversary": subject.learner})
    subject.learn(features, 0)
    torch.manual_seed(9)
    again = Adversary(AdversarialSettings(), 4, torch.device("cpu"))
    metadata = load_state(tmp_path, network, optimiser, {"adversary": again.learner})
    assert metadata == {"rows": [{"a": 1}]}
    again.learn(features, 0)
    for mine, other in zip(
        subject.discriminator.parameters(), again.discriminator.parameters(), strict=True
    ):
        assert torch.equal(mine, other)


def stage_2(schema: AttributeSchema = INTERLEAVED) -> BranchAttributeNetwork:
    torch.manual_seed(2)
    network = build_attribute_network("splnet", SMALL, HeadSettings(), schema)
    assert isinstance(network, BranchAttributeNetwork)
    return network


def test_attributes_are_predicted_by_the_branch_of_their_region() -> None:
    network = stage_2().eval()
    picture = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        before = network(picture)
        for region in REGIONS:
            block = network.pooling.get_submodule(region).get_submodule("3")
            slopes = block.get_parameter("mix.1.bias")
            slopes.add_(1)
            changed = (network(picture) != before).any(0).nonzero().flatten()
            assert tuple(changed.tolist()) == INTERLEAVED.group(region)
            slopes.sub_(1)


def test_logits_are_float32_and_close_under_autocast() -> None:
    network = stage_2().eval()
    picture = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        expected = network(picture)
        with torch.autocast("cpu", torch.bfloat16):
            logits = network(picture)
    assert logits.dtype == torch.float32
    torch.testing.assert_close(logits, expected, rtol=0.1, atol=0.01)


def test_stage_2_adds_up_the_means_of_the_regions(faces: Path) -> None:
    data = DataSettings(format="celeba", root=faces)
    content = preset("demo", "finetune") | {
        "data": data.model_dump(), "architecture": "splnet", "backbone": SMALL.model_dump(),
        "canvas": 32, "input_size": 32, "head": {}, "labels": {"count": 10},
    }  # fmt: skip
    run = Finetuning(build(FinetuneSettings, content))
    schema = run.parts.train.schema
    assert set(run.groups) == {schema.group(region) for region in REGIONS}
    assert len(run.groups) == 4
    plain = build(FinetuneSettings, content | {"architecture": "sspl"})
    assert Finetuning(plain).groups == ()


def test_bias_starts_each_attribute_at_its_own_rate() -> None:
    network = stage_2()
    rates = np.linspace(0.1, 0.8, 8)
    initialise_bias(network.head, log_odds(rates))
    nothing = {region: torch.zeros(1, network.backbone.widths[-1]) for region in REGIONS}
    np.testing.assert_allclose(
        network.head(nothing).sigmoid().detach().numpy()[0], rates, rtol=1e-5
    )


def test_branch_without_attributes_is_not_run() -> None:
    network = stage_2(AttributeSchema(("a", "b"), ("lower", "lower")))
    network(torch.randn(2, 3, 32, 32)).sum().backward()
    run = {
        name.split(".")[0] for name, p in network.pooling.named_parameters() if p.grad is not None
    }
    assert run == {"lower"}


def test_groups_hold_every_parameter_once_and_freezing_all_leaves_the_heads() -> None:
    network = stage_2()
    groups = parameter_groups(network, FinetuneSettings(architecture="splnet", head_lr=3.0))
    listed = [id(p) for group, _ in groups for p in group]
    assert sorted(listed) == sorted(id(p) for p in network.parameters())
    assert [id(p) for p in groups[0][0]] == [id(p) for p in network.head.parameters()]
    assert groups[0][1] == 3.0
    frozen = FinetuneSettings(architecture="splnet", freeze=5)
    groups = parameter_groups(network, frozen)
    assert [id(p) for group, _ in groups for p in group] == [
        id(p) for p in network.head.parameters()
    ]
    network.train()
    freeze_statistics(network, 5)
    before = {name: buffer.clone() for name, buffer in network.named_buffers()}
    network(torch.randn(2, 3, 32, 32))
    assert all(torch.equal(before[name], buffer) for name, buffer in network.named_buffers())


def test_transfer_carries_backbone_and_branches_alone(tmp_path: Path) -> None:
    settings = PretrainSettings(architecture="splnet", backbone=SMALL)
    source = build_network(settings, built_in_taxonomy("celebamask19"))
    randomise(source)
    metadata = {"kind": "pretrained", "backbone": SMALL.model_dump(mode="json")}
    path = tmp_path / "pretrained.safetensors"
    save_tensors(path, source.state_dict(), metadata | {"architecture": "splnet"})
    network = stage_2()
    head = {name: t.clone() for name, t in network.head.state_dict().items()}
    report = transfer(network, tmp_path)
    assert source.branches is not None
    for there, here in ((source.backbone, network.backbone), (source.branches, network.pooling)):
        for name, tensor in there.state_dict().items():
            assert torch.equal(tensor, here.state_dict()[name]), name
    for name, tensor in network.head.state_dict().items():
        assert torch.equal(tensor, head[name])
    assert {name.split(".")[0] for name in report.loaded} == {"backbone", "branches"}
    assert {name.split(".")[0] for name in report.left} == {"fusion", "tasks"}
    assert set(report.new) == {f"head.{name}" for name in head}
    short = {n: t for n, t in source.state_dict().items() if n != "branches.lower.2.mix.2.weight"}
    save_tensors(path, short, metadata | {"architecture": "splnet"})
    with pytest.raises(DataError, match=r"tensor 'lower\.2\.mix\.2\.weight' is missing"):
        transfer(network, tmp_path)
    save_tensors(path, source.state_dict(), metadata | {"architecture": "splnet"})
    with pytest.raises(DataError, match="architecture splnet, but this run has sspl"):
        transfer(AttributeNetwork(SMALL, HeadSettings(), 5), tmp_path)
    save_tensors(path, source.state_dict(), metadata)
    with pytest.raises(DataError, match="architecture sspl, but this run has splnet"):
        transfer(network, tmp_path)


def test_settings_that_leave_the_branches_idle_or_pool_twice_are_refused() -> None:
    with pytest.raises(SettingsError, match="splnet needs pct among the tasks"):
        build(PretrainSettings, {"architecture": "splnet", "tasks": ["prt", "pst"]})
    with pytest.raises(SettingsError, match=r"set head\.pooling=average"):
        build(FinetuneSettings, {"architecture": "splnet", "head": {"pooling": "regions"}})


TINY = (
    *shared.TINY, "optim.batch_size=12", "runtime.deterministic=true", "architecture=splnet"
)  # fmt: skip


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_faces(tmp_path_factory.mktemp("synthetic"), 48, seed=5)


@pytest.fixture(scope="module")
def pretrained(faces: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("splnet") / "run"
    data = f"celeba:{faces},masks={faces / 'masks'}"
    learn(
        "pretrain",
        data,
        out,
        *TINY,
        "optim.epochs=3",
        "adversarial.every=2",
        "adversarial.weight=0.5",
    )
    return out


def test_pretraining_trains_branches_and_adversary(pretrained: Path) -> None:
    rows = list(csv.DictReader((pretrained / "metrics.csv").open()))
    assert float(rows[-1]["pct/loss"]) < float(rows[0]["pct/loss"])
    for row in rows:
        terms = [float(row[f"{name}/loss"]) for name in ("prt", "pst", "pct", "adversarial")]
        assert float(row["loss"]) == pytest.approx(sum(terms[:3]) + 0.5 * terms[3], abs=1e-4)
        assert 0 <= float(row["adversarial/discriminator_accuracy"]) <= 1
    names = load_file(pretrained / "pretrained.safetensors")
    assert {name.split(".")[0] for name in names} == {"backbone", "branches", "fusion", "tasks"}


def test_interrupted_pretraining_resumes_to_the_same_weights(
    pretrained: Path, tmp_path: Path
) -> None:
    from sspl.training import pretrain as stage1

    out, original = tmp_path / "run", Loop.epoch
    epochs: list[int] = []

    def interrupted(self: Loop[Any], epoch: int) -> None:
        epochs.append(epoch)
        if epochs == [0, 1]:
            raise KeyboardInterrupt
        original(self, epoch)

    settings = build(PretrainSettings, read_settings(pretrained / "settings.yaml"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Loop, "epoch", interrupted)
        with pytest.raises(KeyboardInterrupt):
            stage1.pretrain(settings, out)
        stage1.pretrain(settings, out, resume=True)
    assert epochs == [0, 1, 1, 2]
    for name in ("pretrained.safetensors", "state.safetensors"):
        one, other = load_file(pretrained / name), load_file(out / name)
        assert one.keys() == other.keys()
        for tensor, value in one.items():
            np.testing.assert_array_equal(value, other[tensor], err_msg=tensor)
    assert any(name.startswith("adversary.optimiser.") for name in one)


def test_both_stages_end_to_end(pretrained: Path, faces: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    learn(
        "finetune",
        f"celeba:{faces}",
        out,
        "--from",
        pretrained,
        "--labels",
        24,
        *TINY,
        "head.pooling=average",
        "optim.epochs=2",
        "evaluate_every=1",
        "ema=0.9",
    )
    summary = json.loads((out / "metrics.json").read_text())
    assert "branches.whole" in summary["transfer"].splitlines()[0]
    model = load_model(out)
    assert isinstance(model.network, BranchAttributeNetwork)
    sspl("evaluate", out, "--split", "val")
    report = json.loads((out / "evaluation-val.json").read_text())
    assert list(report["attributes"]) == list(model.schema.names)
    best = summary["best"]["val/accuracy"]
    assert report["mean"]["accuracy"] == pytest.approx(best)
    sentence = refused(
        "finetune",
        "--preset",
        "demo",
        "--data",
        f"celeba:{faces}",
        "--from",
        pretrained,
        "--labels",
        24,
        "--out",
        tmp_path / "other",
        *TINY,
        "architecture=sspl",
    )
    assert "was trained with splnet, not sspl" in sentence
