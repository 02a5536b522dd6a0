"""PRT: cells, patches, turns, labels and the backbone's running averages."""

import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from shared import context
from sspl.models.backbones.base import Backbone
from sspl.models.backbones.resnet import ResNet
from sspl.models.network_settings import BackboneSettings
from sspl.tasks import prt
from sspl.tasks.base import Views
from sspl.tasks.prt import NO_LABEL, PatchRotation, PRTSettings

BACKGROUND = 0
SKIN = 1
CANVAS = 48


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def views(seed: int, n: int = 2, mask: Tensor | None = None) -> Views:
    """Noise pictures, so that no patch looks like another or like itself turned."""
    canvas = torch.randint(256, (n, 3, CANVAS, CANVAS), generator=generator(99)).to(torch.uint8)
    return Views(canvas, mask, torch.zeros(n, 3, 8, 8), None, generator(seed))


def task(grid: int = 3, **changes: float | str) -> PatchRotation:
    chosen = PRTSettings(grid=grid, patch_size=16, **changes)  # type: ignore[arg-type]
    return PatchRotation(chosen, context(backbone=small_backbone(), input_size=16))


def small_backbone() -> Backbone:
    torch.manual_seed(0)
    return ResNet(BackboneSettings(width=0.125, stem_stride=1))


@given(size=st.integers(8, 3000), grid=st.sampled_from([2, 3, 4]))
@settings(max_examples=100, deadline=None)
def test_cells_fill_the_picture_exactly(size: int, grid: int) -> None:
    edges = prt.cell_edges(size, grid)
    assert all(isinstance(edge, int) for edge in edges)
    assert (edges[0], edges[-1], len(edges)) == (0, size, grid + 1)
    sides = [b - a for a, b in itertools.pairwise(edges)]
    assert max(sides) - min(sides) <= 1


@pytest.mark.parametrize(("grid", "side"), [(2, 236), (3, 150), (4, 100)])
def test_patch_side_of_512_is_the_papers(grid: int, side: int) -> None:
    assert prt.patch_side(512, grid) == side


@given(
    size=st.integers(16, 600), grid=st.sampled_from([2, 3, 4]), seed=st.integers(0, 2**31)
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_patches_lie_wholly_inside_their_cell(size: int, grid: int, seed: int) -> None:
    top, left = prt.draw_offsets(20, size, grid, generator(seed))
    side = prt.patch_side(size, grid)
    for place in range(grid * grid):
        row, column = divmod(place, grid)
        for offset, cell in ((top, row), (left, column)):
            low, high = cell * size // grid, (cell + 1) * size // grid
            assert int(offset[:, place].min()) >= low
            assert int(offset[:, place].max()) + side <= high


def test_offsets_reach_both_ends_of_the_slack() -> None:
    # A cell of 16 px with a patch of 48 * 150 // 512 = 14 px leaves offsets 0, 1 and 2.
    top, _ = prt.draw_offsets(300, CANVAS, 3, generator(0))
    assert sorted(set(top[:, 0].tolist())) == [0, 1, 2]
    assert sorted(set(top[:, 8].tolist())) == [32, 33, 34]


def test_turn_equals_numpy_rot90() -> None:
    patches = torch.arange(8 * 3 * 5 * 5).view(8, 3, 5, 5)
    quarters = torch.tensor([0, 1, 2, 3, 3, 2, 1, 0])
    turned = prt.turn(patches, quarters)
    for i, angle in enumerate(quarters.tolist()):
        expected = np.rot90(patches[i].numpy(), angle, axes=(1, 2))
        assert np.array_equal(turned[i].numpy(), expected)


def test_patch_of_pure_background_is_never_chosen_and_all_others_are() -> None:
    mask = torch.full((64, CANVAS, CANVAS), SKIN, dtype=torch.uint8)
    mask[:, 16:32, 32:48] = BACKGROUND  # place 5 of the 3 x 3 grid
    mask[:, 0:16, 0:16:3] = BACKGROUND  # place 0: a third of it, within the limit
    chosen: set[int] = set()
    for seed in range(8):
        _, which, _ = task().stack(views(seed, 64, mask))
        chosen |= set(which.tolist()) - {NO_LABEL}
    assert chosen == set(range(9)) - {5}


def test_background_is_told_by_its_share_not_by_a_sum_of_ids() -> None:
    # 60 % background beside the highest id: a sum of ids would call it foreground.
    mask = torch.full((32, CANVAS, CANVAS), 18, dtype=torch.uint8)
    mask[:, :, 0::5] = mask[:, :, 1::5] = mask[:, :, 2::5] = BACKGROUND
    mask[:, 32:48, 16:32] = SKIN  # place 7 alone is free of background
    for seed in range(4):
        _, which, _ = task().stack(views(seed, 32, mask))
        assert set(which.tolist()) <= {7, NO_LABEL}


def test_all_background_takes_the_patch_with_least() -> None:
    share = torch.full((6, 4), 1.0)
    share[:, 2] = 0.9
    assert prt.choose_patches(share, 0.5, generator(0)).tolist() == [2] * 6


def test_the_limit_itself_is_allowed() -> None:
    share = torch.tensor([[0.2, 0.5, 1.0, 0.51]]).repeat(50, 1)
    assert set(prt.choose_patches(share, 0.5, generator(1)).tolist()) == {0, 1}


def test_without_masks_every_patch_can_be_chosen() -> None:
    _, which, _ = task(grid=2).stack(views(0, 200))
    assert set(which.tolist()) == {NO_LABEL, 0, 1, 2, 3}


def test_no_which_label_exactly_where_the_angle_is_zero() -> None:
    _, which, quarters = task().stack(views(1, 200))
    assert set(quarters.tolist()) == {0, 1, 2, 3}
    assert torch.equal(which == NO_LABEL, quarters == 0)


def test_unturned_patches_can_keep_their_label() -> None:
    _, ignored, quarters = task().stack(views(1, 200))
    _, labelled, again = task(angle_zero="label").stack(views(1, 200))
    assert torch.equal(quarters, again)  # the same draws, so that the two can be compared
    assert NO_LABEL not in labelled
    assert torch.equal(labelled[quarters > 0], ignored[quarters > 0])
    assert set(labelled[quarters == 0].tolist()) == set(range(9))


def test_turned_patch_is_recoverable_from_the_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    subject = task(jitter=0)
    stacks, which, quarters = subject.stack(views(3, 40))
    monkeypatch.setattr(prt, "turn", lambda patches, angles: patches)
    upright, _, _ = subject.stack(views(3, 40))
    changed = 0
    for stack, plain, place, angle in zip(stacks, upright, which, quarters, strict=True):
        patches = stack.unflatten(0, (9, 3)).numpy().copy()
        if angle > 0:
            assert not np.array_equal(patches, plain.unflatten(0, (9, 3)).numpy())
            patches[place] = np.rot90(patches[place], -int(angle), axes=(1, 2))
            changed += 1
        # Turned before they are resized in whole grey levels, of which a deviation has about 70.
        np.testing.assert_allclose(patches, plain.unflatten(0, (9, 3)).numpy(), atol=1.1 / 50)
    assert changed > 20


def test_standardise_each_patch_by_itself() -> None:
    noise = torch.rand(2, 4, 3, 20, 20, generator=generator(0)) * 200
    patches = noise + torch.tensor([0.0, 20.0, 50.0]).view(3, 1, 1)
    result = prt.standardise(patches)
    every = (-3, -2, -1)
    torch.testing.assert_close(result.mean(every), torch.zeros(2, 4), atol=1e-5, rtol=0)
    # The + 1 grey level under the fraction leaves d / (d + 1), d being about 60 here.
    deviation = patches.std(every, correction=0)
    expected = deviation / (deviation + 1)
    torch.testing.assert_close(result.std(every, correction=0), expected, atol=1e-4, rtol=0)
    assert float(expected.min()) > 0.97


def test_patches_are_normalised_alike_some_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    patches = torch.randint(256, (4, 5, 3, 6, 6), generator=generator(2)).to(torch.uint8)
    shift = torch.rand(4, 5, 3, 1, 1, generator=generator(3))
    wanted = prt.standardise(patches, shift)
    monkeypatch.setattr(prt, "FEW_PIXELS", 3 * 3 * 6 * 6)
    torch.testing.assert_close(prt.standardise(patches, shift), wanted)


def test_resized_in_grey_levels_patches_are_those_of_floats_but_for_rounding() -> None:
    patches = (torch.rand(2, 3, 3, 50, 50, generator=generator(1)) * 256).to(torch.uint8)
    subject = task()
    wanted = F.interpolate(patches.flatten(0, 1).float(), (16, 16), mode="bilinear")
    difference = subject._resize(patches).flatten(0, 1).float() - wanted
    assert float(difference.abs().max()) < 1.01
    assert float(difference.abs().mean()) < 0.35
    assert abs(float(difference.mean())) < 0.1


def test_deviation_is_that_of_torch_even_of_nearly_flat_patches() -> None:
    noise = torch.randn(5, 3, 60, 60, generator=generator(0))
    patches = 200 + noise * torch.tensor([0.01, 0.1, 1, 10, 20]).view(5, 1, 1, 1)
    every = (-3, -2, -1)
    shift = torch.tensor([0.5, 0.0, -2.0]).view(3, 1, 1)
    before, moved = patches.clone(), patches.double() + shift
    mean, deviation = moved.mean(every, True), moved.std(every, correction=0, keepdim=True)
    result = prt.standardise(patches, shift)
    torch.testing.assert_close(result.double(), (moved - mean) / (deviation + 1), atol=5e-5, rtol=0)
    assert torch.equal(patches, before)


def test_jitter_survives_standardising() -> None:
    """Colour would be a shortcut if normalising a patch undid what jitter does to it."""
    plain, _, _ = task(jitter=0).stack(views(5))
    shifted, _, _ = task(jitter=20).stack(views(5))
    assert float((plain - shifted).abs().mean()) > 0.05


def test_each_channel_by_itself_undoes_the_jitter() -> None:
    """The reference's way: `task.prt.standardise: channels`."""
    patches = torch.rand(2, 4, 3, 20, 20, generator=generator(0)) * 200
    result = prt.standardise(patches, torch.tensor([0.0, 20.0, 50.0]).view(3, 1, 1), "channels")
    mean, deviation = (
        patches.mean((-2, -1), True),
        patches.std((-2, -1), correction=0, keepdim=True),
    )
    torch.testing.assert_close(result, (patches - mean) / (deviation + 1), atol=5e-5, rtol=0)
    plain, _, _ = task(jitter=0, standardise="channels").stack(views(5))
    shifted, _, _ = task(jitter=20, standardise="channels").stack(views(5))
    torch.testing.assert_close(plain, shifted, atol=1e-4, rtol=0)


def test_flat_patch_stays_finite() -> None:
    flat = torch.full((1, 3, 4, 4), 77.0)
    assert torch.equal(prt.standardise(flat), torch.zeros(1, 3, 4, 4))


def test_jitter_shifts_whole_channels_within_its_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prt, "standardise", lambda patches, shift, over: patches + shift)
    monkeypatch.setattr(prt, "turn", lambda patches, quarters: patches)
    plain, _, _ = task(jitter=0).stack(views(5, 30))
    shifted, _, _ = task(jitter=6).stack(views(5, 30))
    difference = shifted - plain
    per_channel = difference.mean((2, 3))
    torch.testing.assert_close(
        difference, per_channel[:, :, None, None].expand_as(difference), atol=1e-3, rtol=0
    )
    assert 5.5 < float(per_channel.abs().max()) <= 6
    assert float(per_channel.std()) == pytest.approx(6 / 3**0.5, rel=0.1)


def test_the_generator_alone_decides() -> None:
    first, again, other = (task().stack(views(seed)) for seed in (7, 7, 8))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0], other[0])


def test_patches_stand_in_reading_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prt, "standardise", lambda patches, shift, over: patches + shift)
    canvas = torch.zeros(1, 3, CANVAS, CANVAS, dtype=torch.uint8)
    for place in range(9):
        row, column = divmod(place, 3)
        for channel in range(3):
            cell = canvas[0, channel, row * 16 : row * 16 + 16, column * 16 : column * 16 + 16]
            cell.fill_(10 * place + channel)
    stacks, _, _ = task(jitter=0).stack(Views(canvas, None, canvas, None, generator(0)))
    values = [10 * place + channel for place in range(9) for channel in range(3)]
    assert stacks[0].mean((1, 2)).tolist() == pytest.approx(values)


def test_loss_is_finite_and_without_which_part_when_every_angle_is_zero(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    torch.manual_seed(0)
    subject, backbone, batch = task(), small_backbone(), views(0)
    monkeypatch.setattr(
        prt.torch, "randint", lambda high, size, generator: torch.zeros(size).long()
    )
    result = subject(backbone, batch, None)
    result.loss.backward()
    assert torch.isfinite(result.loss)
    assert subject.which.weight.grad is not None
    assert not subject.which.weight.grad.any()
    assert subject.angle.weight.grad is not None
    assert float(subject.angle.weight.grad.abs().sum()) > 0
    assert result.tallies["which_accuracy"].count == 0  # type: ignore[union-attr]
    assert result.tallies["angle_accuracy"].count == 2  # type: ignore[union-attr]


def test_sizes_by_hand() -> None:
    width = small_backbone().widths[-1]
    for places in (4, 9):
        subject = task(grid={4: 2, 9: 3}[places])
        # 1x1 without bias, the norm's scale and shift, the slope; then the two heads.
        reduce = 3 * places * 3 + 3 * 3
        heads = (width + 1) * places + (width + 1) * 4
        assert sum(p.numel() for p in subject.parameters()) == reduce + heads


def test_whole_grey_levels_on_a_cpu_and_floats_elsewhere() -> None:
    """The meta device computes nothing, but says what would come out."""
    patches = torch.zeros(1, 4, 3, 20, 20, dtype=torch.uint8)
    assert task()._resize(patches).dtype == torch.uint8  # the quick way, see `_resize`
    elsewhere = task()._resize(patches.to("meta"))
    assert (elsewhere.dtype, elsewhere.device.type) == (torch.float32, "meta")
    normal = prt.standardise(patches.to("meta"))
    assert (normal.dtype, normal.device.type) == (torch.float32, "meta")
    offsets = torch.zeros(1, 4, dtype=torch.int64, device="meta")
    share = task()._background_share(views(0, 1), offsets, offsets, 14)
    assert (share.shape, share.device.type) == ((1, 4), "meta")


class Autocast(torch.nn.Module):
    """A head as it is under autocast, without an opinion: what comes out has half the bits."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.outputs = outputs

    def forward(self, feature: Tensor) -> Tensor:
        return torch.zeros(len(feature), self.outputs, dtype=torch.bfloat16)


def test_loss_is_the_sum_of_both_cross_entropies() -> None:
    subject, backbone = task(), small_backbone()
    subject.which, subject.angle = Autocast(9), Autocast(4)  # type: ignore[assignment]
    _, which, _ = subject.stack(views(2, 8))
    assert 0 < int((which == NO_LABEL).sum()) < 8
    result = subject(backbone, views(2, 8), None)
    assert float(result.loss) == pytest.approx(np.log(9) + np.log(4), rel=1e-5)


@pytest.mark.parametrize(("patch_size", "side"), [(None, 20), (12, 12)])
def test_patches_are_as_large_as_the_input_unless_told_otherwise(
    patch_size: int | None, side: int
) -> None:
    subject = PatchRotation(
        PRTSettings(patch_size=patch_size), context(backbone=small_backbone(), input_size=20)
    )
    assert subject.stack(views(0))[0].shape == (2, 27, side, side)


def statistics(backbone: Backbone) -> list[Tensor]:
    return [b.clone() for n, b in backbone.named_buffers() if "running" in n]


def test_running_averages_learn_from_plain_crops_alone() -> None:
    subject, backbone = task().train(), small_backbone().train()
    before = statistics(backbone)
    momenta = [m.momentum for m in backbone.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    own = subject.reduce[1].running_mean.clone()
    subject(backbone, views(0), [])
    assert all(torch.equal(a, b) for a, b in zip(before, statistics(backbone), strict=True))
    assert not torch.equal(own, subject.reduce[1].running_mean)
    assert momenta == [
        m.momentum for m in backbone.modules() if isinstance(m, torch.nn.BatchNorm2d)
    ]
    backbone(torch.rand(2, 3, 16, 16))
    assert not any(torch.equal(a, b) for a, b in zip(before, statistics(backbone), strict=True))


def test_shared_averages_learn_from_the_stacks_too() -> None:
    subject, backbone = task(norm_averages="shared").train(), small_backbone().train()
    before = statistics(backbone)
    subject(backbone, views(0), [])
    assert not any(torch.equal(a, b) for a, b in zip(before, statistics(backbone), strict=True))


def test_separate_norms_leave_those_of_the_crops_alone() -> None:
    subject, backbone = task(norm_averages="separate").train(), small_backbone().train()
    norms = subject.norms
    assert norms is not None
    before = {n: t.clone() for n, t in backbone.state_dict().items()}
    own = {n: t.clone() for n, t in norms.state_dict().items()}
    subject(backbone, views(0), []).loss.backward()
    assert all(torch.equal(t, before[n]) for n, t in backbone.state_dict().items())
    changed = {n for n, t in norms.state_dict().items() if not torch.equal(t, own[n])}
    assert changed == {n for n in own if "running" in n or "tracked" in n}
    # The loss reaches the convolutions of the backbone, but only the norms that it went through.
    layers = [m for m in backbone.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert all(layer.weight.grad is None for layer in layers)
    assert all(layer.weight.grad is not None for layer in norms.layers)
    assert backbone.stem[0].weight.grad is not None  # type: ignore[index]


def test_separate_norms_are_the_ones_that_are_used() -> None:
    subject, backbone = task(norm_averages="separate").eval(), small_backbone().eval()
    assert subject.norms is not None
    x = torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        same = subject.norms.through(backbone, x)[-1]
        torch.testing.assert_close(same, backbone(x)[-1])
        for layer in subject.norms.layers:
            layer.bias += 1.0  # type: ignore[operator]
        for layer in (m for m in backbone.modules() if isinstance(m, torch.nn.BatchNorm2d)):
            layer.bias += 1.0
        expected = backbone(x)[-1]
        assert not torch.allclose(expected, same)
        torch.testing.assert_close(subject.norms.through(backbone, x)[-1], expected)


def test_without_crops_the_stacks_are_averaged() -> None:
    subject, backbone = task().train(), small_backbone().train()
    before = statistics(backbone)
    subject(backbone, views(0), None)
    assert not any(torch.equal(a, b) for a, b in zip(before, statistics(backbone), strict=True))
