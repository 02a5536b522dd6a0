"""Pooling by semantic region, worked out pixel by pixel."""

import pytest
import torch
from torch import Tensor, nn

from shared import FixedHead, changed_by_a_step
from sspl.models.attributes import AttributeNetwork, RegionPooling
from sspl.models.network_settings import BackboneSettings, HeadSettings, SegmentationSettings
from sspl.training.attribute_network import parameter_groups
from sspl.training.stage_settings import FinetuneSettings

WIDTHS = (4, 3, 5, 6)
CLASSES = ("background", "skin", "hair")
TINY = BackboneSettings(width=0.125, stem_stride=2)


def maps(seed: int = 0) -> list[Tensor]:
    draw = torch.Generator().manual_seed(seed)
    return [torch.randn(4, w, 8 // 2**i, 8 // 2**i, generator=draw) for i, w in enumerate(WIDTHS)]


def pooling(logits: Tensor, region_map: int = 2) -> RegionPooling:
    subject = RegionPooling(WIDTHS, region_map, SegmentationSettings(width=8), len(CLASSES))
    subject.segmentation = FixedHead(logits)  # type: ignore[assignment]
    subject.norm = nn.Identity()  # type: ignore[assignment]
    return subject.eval()


def test_features_are_means_over_the_places_of_each_class() -> None:
    draw = torch.Generator().manual_seed(1)
    ids = torch.randint(2, (4, 4, 4), generator=draw)  # no place is hair
    logits = 100.0 * nn.functional.one_hot(ids, 3).permute(0, 3, 1, 2)
    given = maps()
    features = pooling(logits)(given)
    expected = []
    for face in range(4):
        values = []
        for class_id in range(3):
            places = [
                given[1][face, :, row, column]
                for row in range(4)
                for column in range(4)
                if ids[face, row, column] == class_id
            ]
            total = torch.stack(places).sum(0) if places else torch.zeros(3)
            values.append(total / (len(places) + 0.5))
        values.append(torch.tensor([(ids[face] == c).float().mean() for c in range(3)]))
        values.append(given[3][face].mean((1, 2)))
        expected.append(torch.cat(values) / (3 * 4 + 6) ** 0.5)
    torch.testing.assert_close(features, torch.stack(expected))


@pytest.mark.parametrize("region_map", [1, 2, 3, 4])
def test_one_region_is_average_pooling_of_the_chosen_map(region_map: int) -> None:
    logits = torch.zeros(4, 3, 4, 4)
    logits[:, 1] = 100.0
    given = maps()
    features = pooling(logits, region_map)(given)
    chosen = given[region_map - 1]
    width, places = chosen.shape[1], chosen[0, 0].numel()
    mean = features[:, width : 2 * width] * features.shape[1] ** 0.5
    torch.testing.assert_close(mean, chosen.mean((2, 3)) * places / (places + 0.5))
    assert float(features[:, :width].abs().max()) < 1e-6


def test_standardised_features_make_a_vector_of_length_one() -> None:
    subject = RegionPooling(WIDTHS, 2, SegmentationSettings(width=8), 3).train()
    features = subject(maps())
    assert float(features.detach().square().sum(1).mean()) == pytest.approx(1, abs=0.05)
    torch.testing.assert_close(features.mean(0), torch.zeros(18), atol=1e-5, rtol=0)


def network() -> AttributeNetwork:
    torch.manual_seed(0)
    head = HeadSettings(pooling="regions")
    return AttributeNetwork(TINY, head, 3, SegmentationSettings(width=8), CLASSES)


def test_head_lr_is_for_the_new_heads_alone() -> None:
    subject = network()
    groups = parameter_groups(subject, FinetuneSettings(head_lr=4.0, layer_decay=0.5))
    scale = {id(p): factor for group, factor in groups for p in group}
    assert len(scale) == len(list(subject.parameters()))
    assert {n for n, p in subject.named_parameters() if scale[id(p)] == 4.0} == {
        "head.weight",
        "head.bias",
    }
    assert all(scale[id(p)] == 1.0 for p in subject.pooling.parameters())


def test_freezing_all_that_is_pretrained_leaves_the_heads() -> None:
    changed = changed_by_a_step(network(), 5, 32)
    norm = {f"pooling.norm.{n}" for n in ("running_mean", "running_var", "num_batches_tracked")}
    assert changed == {"head.weight", "head.bias"} | norm
