"""The face parser: its network, its masks and what it says of them."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from sspl.data.images import read_mask
from sspl.data.pairing import mask_path
from sspl.data.palette import overlay, palette, write_mask
from sspl.domain.taxonomy import UNKNOWN, built_in_taxonomy
from sspl.errors import SettingsError
from sspl.parsing.masks import suspicion
from sspl.parsing.model import ParserModel, load_parser, save_parser
from sspl.parsing.network import ParserNetwork
from sspl.parsing.network_parser import network_size
from sspl.parsing.parser_settings import ParserModelSettings, ParserSettings
from sspl.parsing.training import degrade, parse, scaled_size
from sspl.settings import build

CPU = torch.device("cpu")
SMALL = ParserModelSettings(width=0.125)
SKIN = 1


@pytest.fixture(scope="module")
def network() -> ParserNetwork:
    """A small network whose running statistics are not the initial ones."""
    torch.manual_seed(0)
    subject = ParserNetwork(5, SMALL)
    for module in subject.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0  # else signals fade, and all pictures give the same logits
    with torch.no_grad():
        subject(torch.randn(4, 3, 64, 64))
    return subject.eval()


@pytest.mark.parametrize(("height", "width"), [(64, 64), (96, 160)])
def test_logits_stand_at_a_quarter_of_the_resolution(
    network: ParserNetwork, height: int, width: int
) -> None:
    with torch.no_grad():
        outputs = network(torch.randn(1, 3, height, width))
    assert [tuple(o.shape) for o in outputs] == [(1, 5, height // 4, width // 4)]


def test_boosters_follow_in_training_alone() -> None:
    torch.manual_seed(0)
    subject = ParserNetwork(5, SMALL).train()
    outputs = subject(torch.randn(2, 3, 64, 64))
    assert [tuple(o.shape) for o in outputs] == [
        (2, 5, 16, 16),
        (2, 5, 16, 16),
        (2, 5, 8, 8),
        (2, 5, 4, 4),
        (2, 5, 2, 2),
    ]
    assert len(subject.eval()(torch.randn(2, 3, 64, 64))) == 1


def test_every_parameter_learns_through_the_outputs() -> None:
    torch.manual_seed(0)
    subject = ParserNetwork(5, SMALL).train()
    sum(o.square().mean() for o in subject(torch.randn(2, 3, 64, 64))).backward()
    still = {n for n, p in subject.named_parameters() if p.grad is None or not p.grad.any()}
    # A shift before a 1x1 convolution and another BatchNorm cancels out.
    assert still <= {"stage5.2.norm.bias"}


def test_batches_of_one_are_refused() -> None:
    with pytest.raises(SettingsError, match="batch_size"):
        build(ParserSettings, {"batch_size": 1})


def test_a_batch_is_parsed_as_its_pictures_alone(network: ParserNetwork) -> None:
    images = torch.randint(256, (4, 3, 64, 96), generator=torch.Generator().manual_seed(1))
    together = parse(network, images, CPU, "fp32")
    alone = torch.cat([parse(network, image[None], CPU, "fp32") for image in images])
    assert together.shape == (4, 5, 64, 96)
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=1e-4)
    assert float((together[0] - together[1]).abs().max()) > 1e-2


def test_parse_brings_grey_levels_to_the_input_range(network: ParserNetwork) -> None:
    images = torch.full((1, 3, 32, 32), 255, dtype=torch.uint8)
    with torch.no_grad():
        expected = network(torch.ones(1, 3, 32, 32))[0]
    # The middle of each 4 x 4 block of a bilinear enlargement mixes the places around it.
    expected = torch.nn.functional.interpolate(expected, (32, 32), mode="bilinear")
    torch.testing.assert_close(parse(network, images, CPU, "fp32"), expected, atol=1e-4, rtol=1e-4)


def test_averaging_is_over_two_sizes_and_their_mirror_images(network: ParserNetwork) -> None:
    images = torch.randint(256, (2, 3, 64, 128), generator=torch.Generator().manual_seed(2))
    mirror = torch.tensor([0, 2, 1, 3, 4])
    expected = torch.zeros(2, 5, 64, 128)
    for size in ((64, 128), (64, 96)):  # 48 lies between 32 and 64: to the even multiple
        view = images / 127.5 - 1
        if size != (64, 128):
            view = torch.nn.functional.interpolate(view, size, mode="bilinear", antialias=True)
        for turned in (False, True):
            with torch.no_grad():
                logits = network(view.flip(3) if turned else view)[0]
            logits = logits.flip(3)[:, [0, 2, 1, 3, 4]] if turned else logits
            expected += torch.nn.functional.interpolate(logits, (64, 128), mode="bilinear") / 4
    found = parse(network, images, CPU, "fp32", mirror)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_a_scaled_size_is_the_nearest_multiple_of_32() -> None:
    assert scaled_size((256, 320), 0.75) == (
        192,
        256,
    )  # 240 is halfway: to even
    assert scaled_size((32, 200), 0.75) == (32, 160)  # 24 and 150


@given(width=st.integers(20, 4000), height=st.integers(20, 4000), side=st.integers(32, 512))
@settings(max_examples=100, deadline=None)
def test_network_size_is_the_nearest_multiple_of_32(width: int, height: int, side: int) -> None:
    found = network_size((width, height), side)
    for got, wanted in zip(found, (height, width), strict=True):
        scaled = wanted * side / min(width, height)
        assert got % 32 == 0
        assert got >= 32
        assert got == 32 or abs(got - scaled) <= 16 + 1e-6


def test_network_size_by_hand() -> None:
    assert network_size((178, 218), 256) == (320, 256)  # 313.5 is nearest to 320
    assert network_size((512, 512), 256) == (256, 256)
    assert network_size((1000, 10), 64) == (64, 6400)
    assert network_size((30, 30), 20) == (32, 32)


def test_suspicion() -> None:
    ids = np.zeros((10, 10), np.uint8)
    assert suspicion(ids, SKIN) == "one class only"
    assert suspicion(ids + np.uint8(SKIN), SKIN) == "one class only"
    ids[0, 0] = SKIN
    assert suspicion(ids, SKIN) == "skin covers less than 2%"
    ids[0, 1] = SKIN
    assert suspicion(ids, SKIN) is None
    ids[ids == SKIN] = 17
    assert suspicion(ids, SKIN) == "skin covers less than 2%"


@given(
    ids=hnp.arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9))),
    classes=st.sampled_from([2, 6, 11, 19, 200]),
)
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_written_masks_read_back(tmp_path: Path, ids: np.ndarray, classes: int) -> None:
    ids = ids % np.uint8(classes)
    path = tmp_path / "mask.png"
    write_mask(path, ids, classes)
    size = (ids.shape[1], ids.shape[0])
    assert np.array_equal(np.asarray(read_mask(path, size, classes)), ids)
    with Image.open(path) as image:
        assert image.mode == "P"
        assert np.array_equal(np.asarray(image.convert("RGB")), palette(classes)[ids])


@pytest.mark.parametrize(
    "classes",
    [
        19,
        11,
    ],
)
def test_unknown_pixels_survive_being_written(tmp_path: Path, classes: int) -> None:
    ids = np.array([[0, 1, UNKNOWN, classes - 1]], np.uint8)
    write_mask(tmp_path / "mask.png", ids, classes)
    with Image.open(tmp_path / "mask.png") as image:
        assert np.asarray(image).tolist() == ids.tolist()


def test_palette_colours_differ_and_background_is_black() -> None:
    colours = palette(19).astype(int)
    assert colours[0].tolist() == [0, 0, 0]
    distance = np.abs(colours[:, None] - colours[None]).sum(-1)
    assert distance[~np.eye(19, dtype=bool)].min() > 30


def test_overlay_leaves_background_and_unknown_as_they_are() -> None:
    pixels = np.full((1, 3, 3), 100, np.uint8)
    ids = np.array([[0, 4, UNKNOWN]], np.uint8)
    shown = overlay(pixels, ids, 19, 0.5)
    assert shown[0, 0].tolist() == shown[0, 2].tolist() == [100] * 3
    expected = (100 + palette(19)[4].astype(float)) / 2
    assert shown[0, 1].tolist() == pytest.approx(expected, abs=0.51)


def test_mask_path_keeps_folders() -> None:
    assert mask_path(Path("out"), "a/b.c.jpg") == Path("out/a/b.c.png")


def test_parser_comes_back_from_its_folder(network: ParserNetwork, tmp_path: Path) -> None:
    taxonomy = built_in_taxonomy("celebamask19")
    torch.manual_seed(0)
    subject = ParserNetwork(19, SMALL).eval()
    save_parser(tmp_path, ParserModel(subject, taxonomy, 96), SMALL)
    again = load_parser(tmp_path)
    assert (again.size, again.taxonomy.classes) == (96, taxonomy.classes)
    assert again.taxonomy.mirror_table().tolist() == taxonomy.mirror_table().tolist()
    assert not again.network.training
    images = torch.randint(256, (1, 3, 32, 32))
    assert torch.equal(
        parse(subject, images, CPU, "fp32"), parse(again.network, images, CPU, "fp32")
    )


def test_degrading_nothing_changes_nothing() -> None:
    images = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 255
    chosen = ParserSettings(degrade=0, noise=0)
    assert torch.equal(degrade(images, chosen, torch.Generator()), images)


def test_degrading_lowers_the_resolution_and_adds_bounded_noise() -> None:
    images = (torch.rand(20, 3, 32, 32, generator=torch.Generator().manual_seed(0)) > 0.5) * 255.0
    draw = torch.Generator().manual_seed(0)
    blurred = degrade(images, ParserSettings(degrade=1, noise=0), draw)
    steps, before = (x.diff(dim=3).abs().mean((1, 2, 3)) for x in (blurred, images))
    assert bool((steps < 0.8 * before).all())
    flat = torch.full((50, 3, 16, 16), 128.0)
    noise = degrade(flat, ParserSettings(degrade=0, noise=8), draw).flatten(1).std(1)
    assert float(noise.max()) < 8.7
    assert float(noise.mean()) == pytest.approx(4, abs=1)
