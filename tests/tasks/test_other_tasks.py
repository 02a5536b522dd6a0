"""Tasks of other papers: targets and losses against hand-worked values and independent code."""

import itertools
import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from shared import OTHER_TASKS, context, tasks_of
from sspl.data.data_settings import DataSettings
from sspl.data.synthetic import write_synthetic
from sspl.data.view_settings import ColourSettings
from sspl.domain.attributes import schema_for
from sspl.models.backbones import build_backbone
from sspl.models.backbones.base import Backbone, pooled
from sspl.models.network_settings import BackboneSettings
from sspl.models.splnet import build_attribute_network
from sspl.settings import Settings, build
from sspl.tasks.base import PretextTask, Views
from sspl.tasks.byol import BYOL, BYOLSettings, regression_loss
from sspl.tasks.colourise import luma_and_chroma, to_bins
from sspl.tasks.location import AROUND, LocationSettings, RelativeLocation
from sspl.tasks.masked import MaskedModelling, MaskedSettings, draw_cover, masked_l1
from sspl.tasks.rotnet import WholeRotation
from sspl.tasks.simclr import SimCLR, SimCLRSettings, nt_xent, partners, two_views
from sspl.training.pretrain import pretrain
from sspl.training.stage_settings import FinetuneSettings, PretrainSettings
from sspl.training.transfer import transfer

SMALL = BackboneSettings(width=0.125, stem_stride=2)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def views(canvas: Tensor, crop: Tensor | None = None, seed: int = 0) -> Views:
    if crop is None:
        crop = F.interpolate(canvas.float(), 32) / 127.5 - 1
    return Views(canvas, None, crop, None, generator(seed))


def blobs(n: int, seed: int) -> Views:
    """Pictures dark above and bright below, red on the left, each with a pattern of its own."""
    draw = generator(seed)
    canvas = torch.linspace(20, 140, 48).view(1, 1, 48, 1).repeat(n, 3, 1, 48)
    canvas[:, 0, :, :24] += 50
    pattern = torch.rand((n, 3, 2, 2), generator=draw) * 100 - 30
    canvas = canvas + F.interpolate(pattern, 48, mode="bilinear", align_corners=True)
    return views(canvas.clamp(0, 255).to(torch.uint8), seed=seed)


def task_of(name: str, backbone: Backbone) -> PretextTask:
    # Views that differ less than those of the defaults, for pictures as these.
    alike = {"geometry": {"scale": [0.8, 1.0], "flip": 0}, "colour": {"brightness": 0.1}}
    content = {"tasks": [name], "input_size": 32, "canvas": 48, "task": {"simclr": alike}}
    settings = build(PretrainSettings, content)
    return tasks_of(settings, backbone)[name]


# RotNet


def test_crops_are_turned_as_their_labels_say() -> None:
    crop = torch.randn(40, 3, 6, 6)
    turned, quarters = WholeRotation(Settings(), context(8)).turned(
        views(torch.zeros(40, 3, 6, 6), crop)
    )
    assert set(quarters.tolist()) == {0, 1, 2, 3}
    for before, after, angle in zip(crop, turned, quarters, strict=True):
        wanted = np.rot90(before.numpy(), int(angle), axes=(1, 2))
        assert np.array_equal(after.numpy(), wanted)


# Relative location


def test_the_direction_is_that_of_the_second_patch() -> None:
    # Green is 20 times the cell's number between black red and white blue, which normalising each
    # patch by its own mean and deviation does not undo.
    cells = torch.arange(9).view(3, 3).repeat_interleave(16, 0).repeat_interleave(16, 1)
    picture = torch.stack([torch.zeros(48, 48), 20.0 * cells, torch.full((48, 48), 255.0)])
    canvas = picture.to(torch.uint8).repeat(60, 1, 1, 1)
    task = RelativeLocation(LocationSettings(patch_size=8), context(8))
    centre, other, direction = task.pairs(views(canvas))

    def cell(patches: Tensor) -> list[int]:
        red, green, blue = (patches[:, i].mean((1, 2)) for i in range(3))
        return (((green - red) / (blue - red)) * 255 / 20).round().long().tolist()

    assert cell(centre) == [4] * 60
    assert cell(other) == AROUND[direction].tolist()
    assert set(direction.tolist()) == set(range(8))


# SimCLR


def test_nt_xent_by_hand() -> None:
    # Two faces whose views are equal, and orthogonal to each other: e / (e + 1 + 1).
    vectors = torch.eye(2).repeat(2, 1)
    assert nt_xent(vectors, 1.0).item() == pytest.approx(math.log(1 + 2 / math.e))
    # Length has no part in it.
    assert nt_xent(vectors * 7, 1.0).item() == pytest.approx(math.log(1 + 2 / math.e))
    # A partner that is the opposite, others orthogonal: 1/e / (1/e + 1 + 1), at temperature 2
    # with the root of e.
    opposite = torch.cat([torch.eye(2), -torch.eye(2)])
    assert nt_xent(opposite, 1.0).item() == pytest.approx(math.log(1 + 2 * math.e))
    assert nt_xent(opposite, 2.0).item() == pytest.approx(math.log(1 + 2 * math.e**0.5))


def test_nt_xent_is_the_papers_formula() -> None:
    n, temperature = 5, 0.3
    z = torch.randn(2 * n, 7, generator=generator()).double().numpy()

    def similarity(i: int, j: int) -> float:
        return float(z[i] @ z[j] / np.linalg.norm(z[i]) / np.linalg.norm(z[j]))

    def loss(i: int, j: int) -> float:
        others = [math.exp(similarity(i, k) / temperature) for k in range(2 * n) if k != i]
        return -math.log(math.exp(similarity(i, j) / temperature) / sum(others))

    wanted = sum(loss(k, k + n) + loss(k + n, k) for k in range(n)) / (2 * n)
    assert nt_xent(torch.from_numpy(z), temperature).item() == pytest.approx(wanted, abs=1e-5)


def test_partners_are_the_two_views_of_a_face() -> None:
    assert partners(3, torch.device("cpu")).tolist() == [3, 4, 5, 0, 1, 2]
    canvas = torch.zeros(3, 3, 48, 48, dtype=torch.uint8)
    canvas[0, 0], canvas[1, 1], canvas[2, 2] = 200, 200, 200
    settings = SimCLRSettings(temperature=0.5)
    drawn = two_views(views(canvas), settings.model_copy(update={"colour": no_colour()}))
    assert drawn.shape == (6, 3, 32, 32)
    assert drawn.mean((2, 3)).argmax(1).tolist() == [0, 1, 2, 0, 1, 2]


def no_colour() -> ColourSettings:
    return ColourSettings(brightness=0, contrast=0, saturation=0, cast=0)


def test_the_two_views_of_a_face_differ() -> None:
    drawn = two_views(blobs(4, 0), SimCLRSettings())
    assert (drawn[:4] - drawn[4:]).abs().mean((1, 2, 3)).min() > 0.01


# BYOL


def test_the_loss_is_the_squared_distance_of_unit_vectors() -> None:
    x = torch.tensor([[3.0, 0.0], [0.0, 2.0], [1.0, 0.0]])
    y = torch.tensor([[1.0, 0.0], [0.0, -5.0], [0.0, 4.0]])
    assert regression_loss(x, y).item() == pytest.approx((0 + 4 + 2) / 3)
    a, b = torch.randn(6, 4), torch.randn(6, 4)
    distance = (F.normalize(a, dim=1) - F.normalize(b, dim=1)).square().sum(1).mean()
    assert regression_loss(a, b).item() == pytest.approx(distance.item(), abs=1e-6)


def test_the_target_follows_slowly_and_learns_nothing_by_itself() -> None:
    torch.manual_seed(0)
    backbone = build_backbone(SMALL)
    task = BYOL(BYOLSettings(decay=0.75, hidden=16, projection=8), context(backbone=backbone))
    before = [p.clone() for p in task.target_backbone.parameters()]
    with torch.no_grad():
        for parameter in backbone.parameters():
            parameter.add_(1)
    task.follow(backbone)
    for old, new in zip(before, task.target_backbone.parameters(), strict=True):
        assert torch.allclose(new, old + 0.25, atol=1e-5)
    task(backbone, blobs(6, 0), None).loss.backward()
    trained = {n for n, p in task.named_parameters() if p.grad is not None}
    assert trained
    assert not any(name.startswith("target") for name in trained)


def test_each_view_foretells_the_target_of_the_other() -> None:
    torch.manual_seed(0)
    backbone = build_backbone(SMALL)
    task = BYOL(BYOLSettings(decay=0.5, hidden=16, projection=8), context(backbone=backbone))
    found = task(backbone, blobs(6, 0), None).loss
    first, second = two_views(blobs(6, 0), task.settings).chunk(2)

    def through(backbone: Backbone, head: torch.nn.Module) -> tuple[Tensor, Tensor]:
        one, two = head(pooled(backbone(torch.cat([first, second])))).chunk(2)
        return one, two

    online = torch.nn.Sequential(task.project, task.predict)
    p1, p2 = through(backbone, online)
    z1, z2 = through(task.target_backbone, task.target_project)
    wanted = regression_loss(p1, z2) + regression_loss(p2, z1)
    assert found.item() == pytest.approx(wanted.item(), abs=1e-4)


# Colourisation


def test_luma_and_chroma_are_those_of_jpeg() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (8, 8, 3)).astype(np.uint8)
    y, cb, cr = (np.asarray(band) for band in Image.fromarray(picture).convert("YCbCr").split())
    rgb = torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 127.5 - 1
    luma, chroma = luma_and_chroma(rgb)
    assert luma[0, 0].numpy() * 127.5 + 127.5 == pytest.approx(y.astype(float), abs=1)
    for mine, theirs in zip(chroma[0], (cb, cr), strict=True):
        assert mine.numpy() * 127.5 + 128 == pytest.approx(theirs.astype(float), abs=1.1)


def test_bins_by_hand() -> None:
    values = torch.tensor([-0.9, -0.5, -0.26, -0.25, 0.0, 0.24, 0.25, 0.5, 0.9])
    assert to_bins(values, 4, 0.5).tolist() == [0, 0, 0, 1, 2, 2, 3, 3, 3]


def test_the_network_sees_no_colour() -> None:
    backbone = build_backbone(SMALL).eval()
    task = task_of("colourise", backbone).eval()
    seen: list[Tensor] = []
    backbone.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    task(backbone, blobs(4, 0), None)
    assert torch.equal(seen[0][:, 0], seen[0][:, 1])
    assert torch.equal(seen[0][:, 0], seen[0][:, 2])


# Masked image modelling


def test_cells_are_covered_whole_and_equally_many() -> None:
    cover = draw_cover(20, 5, 0.6, 32, generator())
    edges = [-(-i * 32 // 5) for i in range(6)]
    for picture in cover[:, 0]:
        cells = [
            picture[a:b, c:d]
            for (a, b), (c, d) in itertools.product(itertools.pairwise(edges), repeat=2)
        ]
        assert all(cell.all() or not cell.any() for cell in cells)
        assert sum(bool(cell.all()) for cell in cells) == 15
    assert len({tuple(c.flatten().tolist()) for c in cover}) == 20


def test_only_covered_pixels_count() -> None:
    target = torch.zeros(1, 3, 2, 2)
    stated = torch.tensor([[1.0, 5.0], [2.0, 9.0]]).expand(1, 3, 2, 2)
    cover = torch.tensor([[[[True, False], [True, False]]]])
    assert masked_l1(stated, target, cover).item() == pytest.approx(1.5)


@pytest.mark.parametrize("size", [32, 40])
def test_what_is_covered_is_hidden_and_asked_for(size: int) -> None:
    backbone = build_backbone(SMALL).eval()
    task = MaskedModelling(MaskedSettings(grid=4), context(backbone=backbone, input_size=size))
    torch.nn.init.zeros_(task.head.weight)
    assert task.head.bias is not None
    torch.nn.init.zeros_(task.head.bias)
    seen: list[Tensor] = []
    backbone.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    crop = torch.rand(5, 3, size, size) + 0.1
    loss = task(backbone, views(torch.zeros(5, 3, 48, 48), crop, seed=3), None).loss
    hidden = (seen[0] == 0).all(1)
    assert torch.equal(hidden, draw_cover(5, 4, 0.6, size, generator(3))[:, 0])
    # The head states 0 everywhere: the error is the mean of what is hidden.
    wanted = crop.permute(0, 2, 3, 1)[hidden].mean()
    assert loss.item() == pytest.approx(wanted.item(), abs=1e-5)


# All of them


@pytest.mark.parametrize("name", OTHER_TASKS)
def test_the_loss_falls(name: str) -> None:
    torch.manual_seed(0)
    backbone = build_backbone(SMALL)
    task = task_of(name, backbone)
    parameters = [p for p in (*backbone.parameters(), *task.parameters()) if p.requires_grad]
    optimiser = torch.optim.Adam(parameters, lr=3e-3)
    losses = []
    for step in range(25):
        loss = task(backbone, blobs(24, step), None).loss
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert sum(losses[-5:]) < 0.85 * sum(losses[:5])


@pytest.mark.parametrize("name", OTHER_TASKS)
def test_running_averages_are_the_crops_where_there_are_crops(name: str) -> None:
    backbone = build_backbone(SMALL)
    task = task_of(name, backbone)
    before = [b.clone() for n, b in backbone.named_buffers() if n.endswith("running_mean")]

    def changed() -> bool:
        now = [b for n, b in backbone.named_buffers() if n.endswith("running_mean")]
        return any(not torch.equal(a, b) for a, b in zip(before, now, strict=True))

    task(backbone, blobs(4, 0), [torch.zeros(1)])
    assert not changed()
    task(backbone, blobs(4, 0), None)
    assert changed()


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("synthetic") / "faces"
    write_synthetic(out, 24, 1, 48)
    return out / "img_align_celeba"


@pytest.mark.parametrize("name", [*OTHER_TASKS, "byol,pst"])
def test_a_run_of_stage_1_reaches_stage_2(name: str, faces: Path, tmp_path: Path) -> None:
    data = DataSettings(format="folder", root=faces)
    if "pst" in name:
        data = data.model_copy(update={"masks": faces.parent / "masks"})
    content = {
        "tasks": name.split(","), "canvas": 48, "input_size": 32, "backbone": SMALL.model_dump(),
        "optim": {"epochs": 1, "batch_size": 8}, "runtime": {"precision": "fp32"},
    }  # fmt: skip
    settings = build(PretrainSettings, content).model_copy(update={"data": (data,)})
    row = pretrain(settings, tmp_path / "run")
    assert math.isfinite(row["loss"])
    head = FinetuneSettings().head
    network = build_attribute_network("sspl", SMALL, head, schema_for(["Male"]))
    report = transfer(network, tmp_path / "run")
    assert all(n.startswith("backbone.") for n in report.loaded)
    assert all(n.startswith("tasks.") for n in report.left)


def test_equal_seeds_draw_equal_views() -> None:
    torch.manual_seed(0)
    backbone = build_backbone(SMALL).eval()
    for name in OTHER_TASKS:
        task = task_of(name, backbone).eval()
        losses = [task(backbone, blobs(6, seed), None).loss.item() for seed in (1, 1, 2)]
        assert losses[0] == losses[1] != losses[2], name


def test_settings_reach_the_tasks() -> None:
    content = {
        "tasks": ["simclr", "byol", "location", "colourise", "masked"],
        "task": {
            "simclr": {"temperature": 0.5, "projection": 16}, "byol": {"decay": 0.9},
            "location": {"patch_size": 24}, "colourise": {"bins": 5}, "masked": {"grid": 3},
        },
    }  # fmt: skip
    settings = build(PretrainSettings, content)
    backbone = build_backbone(BackboneSettings(width=0.125))
    tasks = tasks_of(settings, backbone)
    simclr, byol, location = tasks["simclr"], tasks["byol"], tasks["location"]
    assert isinstance(simclr, SimCLR)
    assert isinstance(byol, BYOL)
    assert isinstance(location, RelativeLocation)
    assert (simclr.settings.temperature, simclr.head[2].out_features) == (0.5, 16)
    assert (byol.settings.decay, location.size) == (0.9, 24)
