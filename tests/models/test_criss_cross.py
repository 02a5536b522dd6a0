"""Criss-cross attention against loops over places, and what one and two rounds let through."""

import math

import pytest
import torch
from torch import Tensor

from sspl.models.criss_cross import CrissCrossAttention, RecurrentCrissCross
from sspl.models.network_settings import SegmentationSettings
from sspl.models.segmentation import SegmentationHead


def attention(channels: int = 16, gamma: float = 1.0) -> CrissCrossAttention:
    torch.manual_seed(0)
    subject = CrissCrossAttention(channels)
    subject.gamma.data.fill_(gamma)
    return subject


def by_loops(subject: CrissCrossAttention, x: Tensor) -> Tensor:
    """Place by place: softmax over the places of its row and column, each taken once."""
    query, key, value = subject.query(x), subject.key(x), subject.value(x)
    result = x.clone()
    faces, _, height, width = x.shape
    for face in range(faces):
        for i in range(height):
            for j in range(width):
                places = {(i, k) for k in range(width)} | {(k, j) for k in range(height)}
                assert len(places) == height + width - 1
                scores = {
                    p: math.exp(float(query[face, :, i, j] @ key[face, :, p[0], p[1]]))
                    for p in places
                }
                for (a, b), score in scores.items():
                    share = score / sum(scores.values())
                    result[face, :, i, j] += float(subject.gamma) * share * value[face, :, a, b]
    return result


@pytest.mark.parametrize("shape", [(4, 3), (3, 5), (1, 4), (4, 1), (1, 1)])
def test_attention_is_that_of_loops(shape: tuple[int, int]) -> None:
    subject = attention(gamma=0.7)
    x = torch.randn(2, 16, *shape)
    with torch.no_grad():
        torch.testing.assert_close(subject(x), by_loops(subject, x), atol=1e-5, rtol=1e-4)


def places_seen(rounds: int) -> Tensor:
    """Which input places have a part in the output at row 1, column 2 of a 4 x 5 map."""
    subject = attention()
    x = torch.randn(1, 16, 4, 5, requires_grad=True)
    y = x
    for _ in range(rounds):
        y = subject(y)
    y[0, :, 1, 2].square().sum().backward()
    assert x.grad is not None
    return x.grad[0].abs().sum(0) > 0


def test_one_round_sees_the_cross_and_two_see_everything() -> None:
    cross = torch.zeros(4, 5, dtype=torch.bool)
    cross[1] = cross[:, 2] = True
    assert torch.equal(places_seen(1), cross)
    assert places_seen(2).all()


def test_the_head_attends_twice_and_starts_without_context() -> None:
    torch.manual_seed(0)
    head = RecurrentCrissCross(32, 8, 3).eval()
    x = torch.randn(1, 32, 4, 5)
    with torch.no_grad():
        assert float(head.attention.gamma) == 0
        start = head(x)
        torch.nn.init.zeros_(head.attention.value.weight)
        assert torch.equal(head(x), start)  # gamma 0: values have no say yet
        torch.nn.init.normal_(head.attention.value.weight)
        head.attention.gamma.fill_(0.5)
        context = head.attention(head.attention(head.enter(x)))
        expected = head.classify(head.bottleneck(torch.cat([x, head.leave(context)], 1)))
        torch.testing.assert_close(head(x), expected)
        assert not torch.allclose(head(x), start, atol=1e-3)


def test_size_by_hand() -> None:
    """The reference's: 512 channels, a quarter of them in the attention, width 256, 19 classes."""
    attended = 512 * 128 * 9 + 2 * (128 * 16 + 16) + (128 * 128 + 128) + 1 + 128 * 128 * 9
    classified = (512 + 128) * 256 * 9 + 256 * 19 + 19
    norms = 2 * (128 + 128 + 256)  # scale and shift
    settings = SegmentationSettings(width=256, attention="criss_cross")
    head = SegmentationHead(settings, (64, 128, 256, 512), 19)
    assert attended + classified + norms == 2_238_388
    assert sum(p.numel() for p in head.parameters()) == 2_238_388


def test_whole_channels_are_dropped_before_the_classes_and_nothing_is_activated() -> None:
    torch.manual_seed(0)
    head = RecurrentCrissCross(8, 200, 3)
    kinds = {type(layer).__name__ for layer in head.modules()}
    assert kinds == {
        "RecurrentCrissCross", "CrissCrossAttention", "Sequential", "Conv2d", "BatchNorm2d",
        "Dropout2d",
    }  # fmt: skip
    seen: list[torch.Tensor] = []
    head.classify.register_forward_pre_hook(lambda layer, inputs: seen.append(inputs[0]))
    head(torch.randn(40, 8, 3, 3))
    dropped = (seen[0] == 0).all((2, 3))
    assert not (seen[0] == 0)[~dropped].any()
    assert float(dropped.float().mean()) == pytest.approx(0.1, abs=0.02)  # 8000 draws
    head.eval()(torch.randn(2, 8, 3, 3))
    assert not (seen[1] == 0).any()


def test_narrow_maps_keep_one_channel() -> None:
    head = RecurrentCrissCross(3, 8, 3)
    assert head.attention.value.out_channels == 1  # not 3 // 4
    assert head.attention.query.out_channels == 1
    assert head(torch.randn(2, 3, 3, 3)).shape == (2, 3, 3, 3)


def test_everything_stays_on_the_maps_device() -> None:
    """The meta device computes nothing, but refuses what lies elsewhere, as a GPU does."""
    with torch.device("meta"):
        subject = CrissCrossAttention(16)
    assert subject(torch.empty(2, 16, 4, 5, device="meta")).device.type == "meta"


@pytest.mark.parametrize("maps", [1, 2, 3])
def test_the_head_reads_the_maps_it_is_told_to(maps: int) -> None:
    torch.manual_seed(1)
    settings = SegmentationSettings(maps=maps, width=8, attention="criss_cross")
    head = SegmentationHead(settings, (4, 8, 16, 32), 5).eval()
    features = [
        torch.randn(2, w, 8 // 2**i, 8 // 2**i, requires_grad=True)
        for i, w in enumerate((4, 8, 16, 32))
    ]
    logits = head(features)
    assert logits.shape == (2, 5, 2 ** (maps - 1), 2 ** (maps - 1))
    logits.square().sum().backward()
    assert [f.grad is not None for f in features] == [i >= 4 - maps for i in range(4)]


def test_a_step_moves_gamma_and_then_the_attention() -> None:
    torch.manual_seed(0)
    head = RecurrentCrissCross(32, 8, 3)
    optimiser = torch.optim.SGD(head.parameters(), lr=0.1)
    x, truth = torch.randn(4, 32, 4, 4), torch.randint(3, (4, 4, 4))
    before = head.attention.query.weight.clone()
    for _ in range(2):
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(head(x), truth).backward()
        optimiser.step()
    assert head.attention.gamma.item() != 0
    assert not torch.equal(before, head.attention.query.weight)


def test_attention_works_under_autocast() -> None:
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert torch.isfinite(attention()(torch.randn(1, 16, 5, 4))).all()
