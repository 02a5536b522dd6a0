"""PST: the smoothed loss, its metric and which maps the head reads."""

import math

import pytest
import torch
from sklearn.metrics import jaccard_score
from torch import Tensor

from shared import FixedHead, context
from sspl.domain.taxonomy import UNKNOWN, built_in_taxonomy
from sspl.models.backbones.base import Backbone
from sspl.models.network_settings import SegmentationSettings
from sspl.models.segmentation import SegmentationHead
from sspl.tasks.base import Views
from sspl.tasks.pst import PatchSegmentation, PSTSettings

TAXONOMY = built_in_taxonomy("fasseg6")
WIDTHS = (8, 8, 16, 16)
NO_BACKBONE: Backbone = None  # type: ignore[assignment]


def feature_maps(seed: int = 0) -> list[Tensor]:
    draw = torch.Generator().manual_seed(seed)
    return [
        torch.randn(2, width, 8 // 2**i, 8 // 2**i, generator=draw)
        for i, width in enumerate(WIDTHS)
    ]


def head(maps: int) -> SegmentationHead:
    torch.manual_seed(3)
    return SegmentationHead(SegmentationSettings(maps=maps, width=8), WIDTHS, 6).eval()


def views(mask: Tensor) -> Views:
    empty = torch.zeros(len(mask), 3, 1, 1)
    return Views(empty, None, empty, mask, torch.Generator())


def fixed(logits: Tensor, **changes: float) -> PatchSegmentation:
    settings = PSTSettings(**changes)  # type: ignore[arg-type]
    subject = PatchSegmentation(settings, context(*WIDTHS, taxonomy=TAXONOMY))
    subject.head = FixedHead(logits)  # type: ignore[assignment]
    return subject


def random_mask(seed: int = 0) -> Tensor:
    draw = torch.Generator().manual_seed(seed)
    mask = torch.randint(6, (2, 8, 8), generator=draw).to(torch.uint8)
    mask[torch.rand(mask.shape, generator=draw) < 0.3] = UNKNOWN
    return mask


def test_loss_is_smoothed_cross_entropy_over_known_pixels() -> None:
    logits = torch.randn(2, 6, 8, 8, generator=torch.Generator().manual_seed(1))
    mask = random_mask()
    losses = []
    for face in range(2):
        for row in range(8):
            for column in range(8):
                truth = int(mask[face, row, column])
                if truth == UNKNOWN:
                    continue
                scores = logits[face, :, row, column].tolist()
                norm = math.log(sum(math.exp(s) for s in scores))
                # Truth has probability 0.9 + 0.1 / 6, every other class 0.1 / 6.
                losses.append(
                    -sum(
                        (0.1 / 6 + (0.9 if i == truth else 0)) * (s - norm)
                        for i, s in enumerate(scores)
                    )
                )
    assert 64 < len(losses) < 128
    loss = fixed(logits, label_smoothing=0.1)(NO_BACKBONE, views(mask), []).loss
    assert float(loss) == pytest.approx(sum(losses) / len(losses), rel=1e-5)


def test_unknown_pixels_have_no_part_in_the_gradient() -> None:
    logits = torch.randn(2, 6, 8, 8, requires_grad=True)
    mask = random_mask()
    fixed(logits)(NO_BACKBONE, views(mask), []).loss.backward()
    assert logits.grad is not None
    strength = logits.grad.abs().sum(1)
    assert torch.equal(strength > 0, mask != UNKNOWN)


def test_metric_is_the_mean_jaccard_of_the_classes_present() -> None:
    logits = torch.randn(2, 6, 8, 8, generator=torch.Generator().manual_seed(2))
    mask = random_mask(4)
    mask[mask == 5] = UNKNOWN  # a class that is predicted but never true
    tally = fixed(logits)(NO_BACKBONE, views(mask), []).tallies["miou"]
    known = mask != UNKNOWN
    expected = jaccard_score(
        mask[known].numpy(), logits.argmax(1)[known].numpy(), labels=range(5), average="macro"
    )
    assert tally.value() == pytest.approx(expected)


def test_perfect_logits_score_one() -> None:
    mask = random_mask(5)
    logits = torch.nn.functional.one_hot(mask.long() % 255 % 6, 6).permute(0, 3, 1, 2) * 50.0
    result = fixed(logits, label_smoothing=0.0)(NO_BACKBONE, views(mask), [])
    assert result.tallies["miou"].value() == 1.0
    assert float(result.loss) < 1e-6


def test_coarse_logits_are_spread_over_the_crop_before_they_are_judged() -> None:
    # Places 0 and 1 of two, seen at four px: bilinear between their middles, flat outside.
    logits = torch.zeros(1, 6, 1, 2)
    logits[0, 1] = torch.tensor([0.0, 4.0])
    mask = torch.tensor([[[0, 0, 1, 1]]], dtype=torch.uint8)
    loss = fixed(logits, label_smoothing=0.0)(NO_BACKBONE, views(mask), []).loss
    # Class 1 has 0, 1, 3 and 4 there, the five others 0.
    norms = [math.log(5 + math.exp(z)) for z in (0, 1, 3, 4)]
    assert float(loss) == pytest.approx((sum(norms) - 3 - 4) / 4, rel=1e-6)


def test_maps_are_summed_at_the_finest_ones_size() -> None:
    settings = SegmentationSettings(maps=2, width=8)
    subject = SegmentationHead(settings, WIDTHS, 6)
    subject.mix = torch.nn.Identity()
    for layer in subject.project:
        torch.nn.init.ones_(layer.weight)  # type: ignore[arg-type]
    fine = torch.zeros(1, 16, 1, 4)
    fine[0, 3] = torch.tensor([10.0, 20.0, 30.0, 40.0])
    coarse = torch.zeros(1, 16, 1, 2)
    coarse[0, 5] = torch.tensor([0.0, 4.0])
    merged = subject([torch.zeros(0), torch.zeros(0), fine, coarse])
    assert merged.shape == (1, 8, 1, 4)
    assert merged[0, 0, 0].tolist() == pytest.approx([10, 21, 33, 44])


def test_logits_are_float32_at_the_finest_maps_size_even_under_autocast() -> None:
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        for read, side in ((1, 1), (2, 2), (4, 8)):
            logits = head(read)(feature_maps())
            assert (logits.shape, logits.dtype) == ((2, 6, side, side), torch.float32)


def test_sizes_by_hand() -> None:
    def size(**changes: object) -> int:
        settings = SegmentationSettings(**changes)  # type: ignore[arg-type]
        return sum(p.numel() for p in SegmentationHead(settings, (4, 8, 16, 32), 5).parameters())

    # A 3x3 convolution without bias between two norms (scale, shift) with a slope, then classes.
    light = 3 * 8 + 8 * 8 * 9 + 3 * 8 + 8 * 5 + 5
    assert size(maps=1, width=8) == 32 * 8 + light
    assert size(maps=3, width=8) == (8 + 16 + 32) * 8 + light


@pytest.mark.parametrize("read", [1, 2, 3, 4])
def test_head_reads_the_last_maps_alone(read: int) -> None:
    subject = head(read)
    before = subject(feature_maps())
    for index in range(4):
        maps = feature_maps()
        maps[index] = maps[index] + torch.randn(maps[index].shape)
        same = torch.equal(before, subject(maps))
        assert same == (index < 4 - read)


def test_target_stride_reads_every_kth_pixel() -> None:
    mask = torch.full((1, 8, 8), UNKNOWN, dtype=torch.uint8)
    mask[:, 2::4, 2::4] = 3  # the middle of each 4 x 4 block
    logits = torch.zeros(1, 6, 2, 2)
    tally = fixed(logits, target_stride=4)(NO_BACKBONE, views(mask), []).tallies["miou"]
    counts = tally.counts  # type: ignore[union-attr]
    assert int(counts.sum()) == 4
    assert int(counts[3].sum()) == 4


def test_batch_without_a_known_pixel_has_a_finite_loss() -> None:
    mask = torch.full((2, 8, 8), UNKNOWN, dtype=torch.uint8)
    loss = fixed(torch.zeros(2, 6, 8, 8))(NO_BACKBONE, views(mask), []).loss
    assert torch.isfinite(loss)
