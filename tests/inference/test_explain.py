"""Logits taken apart: by hand on tiny networks, exactly on whole ones, sensibly on trained ones."""

import itertools
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from shared import CANVAS, SCHEMA, drawn, make_model, refused
from shared import sspl as command
from sspl.data.synthetic.render import SyntheticFace, render_face
from sspl.data.synthetic.traits import draw_traits
from sspl.data.transforms import normalise
from sspl.domain.taxonomy import built_in_taxonomy
from sspl.errors import SsplError
from sspl.inference.attribution import explain_canvases, mirrored_classes, take_apart
from sspl.inference.explain import FaceParts, _strongest, explain
from sspl.inference.heat import AGAINST, FOR, heat_map, legend
from sspl.inference.predict import PredictSettings
from sspl.models.attributes import AttributeNetwork
from sspl.models.bundle import AttributeModel, save_model
from sspl.models.network_settings import (
    Architecture,
    BackboneSettings,
    HeadSettings,
    SegmentationSettings,
)
from sspl.models.scoring import logits_of
from sspl.models.splnet import build_attribute_network


class Pixels(nn.Module):
    """A backbone whose last map is the picture itself."""

    widths = (3, 3, 3, 3)

    def forward(self, image: Tensor) -> list[Tensor]:
        return [image] * 4


def test_average_pooling_by_hand() -> None:
    """Two places; weights 2, 0, -1 for the first attribute: place (r, g, b) adds (2 r - b) / 2."""
    network = AttributeNetwork(BackboneSettings(width=0.125), HeadSettings(), 2).eval()
    network.backbone = Pixels()  # type: ignore[assignment]
    network.head = nn.Linear(3, 2)
    with torch.no_grad():
        network.head.weight.copy_(torch.tensor([[2.0, 0.0, -1.0], [0.0, 1.0, 0.0]]))
        network.head.bias.copy_(torch.tensor([0.5, -1.0]))
    image = torch.tensor([[[[1.0, 3.0]], [[4.0, 6.0]], [[2.0, 0.0]]]])
    parts = take_apart(network, image)
    assert parts.maps.tolist() == [[[[0.0, 3.0]], [[2.0, 3.0]]]]
    assert parts.baseline.tolist() == [0.5, -1.0]
    assert parts.logits().tolist() == network(image).tolist() == [[3.5, 4.0]]


class Halves(nn.Module):
    """A segmentation of two places: class 0 at the left one, class 1 at the right one."""

    def forward(self, maps: list[Tensor]) -> Tensor:
        left = torch.tensor([[[[50.0, -50.0]], [[-50.0, 50.0]]]])
        return left.expand(len(maps[0]), -1, -1, -1)


def test_regions_by_hand() -> None:
    """Features: mean of the red of class 0 and 1 (times 1 / 1.5), their shares, mean of the red.

    Red is 3 and 9: 2, 6, 0.5, 0.5 and 6. The average face has 1, 2, 0.5, 0.25 and 4, with
    variance 4 for all, so that a weight of 2 sqrt(5) adds the difference.
    """
    network = AttributeNetwork(
        BackboneSettings(width=0.125),
        HeadSettings(pooling="regions", region_map=1),
        1,
        SegmentationSettings(),
        ("background", "skin"),
    ).eval()
    network.backbone = Pixels()  # type: ignore[assignment]
    pooling = network.pooling
    pooling.segmentation = Halves()
    pooling.features = 5
    pooling.norm = nn.BatchNorm1d(5, affine=False, eps=0).eval()  # type: ignore[assignment]
    pooling.norm.running_mean = torch.tensor([1.0, 2.0, 0.5, 0.25, 4.0])  # type: ignore[union-attr]
    pooling.norm.running_var = torch.full((5,), 4.0)  # type: ignore[union-attr]
    network.head = nn.Linear(5, 1)
    signs = torch.tensor([1.0, -1.0, 10.0, 1.0, 1.0])
    with torch.no_grad():
        network.head.weight.copy_(signs[None] * 2 * 5**0.5)
        network.head.bias.fill_(0.25)
    image = torch.tensor([[[[3.0, 9.0]]]])
    parts = take_apart(network, image)
    assert parts.regions is not None
    assert parts.whole is not None
    assert parts.segmentation is not None
    # Class 0: 2 - 1 of look, 0 of size. Class 1: -(6 - 2) of look, 0.5 - 0.25 of size.
    torch.testing.assert_close(parts.regions, torch.tensor([[[1.0, -3.75]]]))
    torch.testing.assert_close(parts.whole, torch.tensor([[2.0]]))
    torch.testing.assert_close(parts.logits(), torch.tensor([[0.25 + 1 - 3.75 + 2]]))
    torch.testing.assert_close(parts.logits(), network(image))
    # Places: (3 - 1) / 1.5 and -(9 - 2) / 1.5 of look; (3 - 4) / 2 and (9 - 4) / 2 of the whole.
    wanted = [[[[2 / 1.5 - 0.5, -7 / 1.5 + 2.5]]]]
    torch.testing.assert_close(parts.maps, torch.tensor(wanted))
    torch.testing.assert_close(parts.segmentation[0, 0], torch.tensor([[1.0, 0.0]]))


@pytest.mark.parametrize("flip_average", [True, False])
@pytest.mark.parametrize("kind", ["average", "regions", "splnet"])
def test_parts_add_up_to_the_calibrated_logits(kind: str, flip_average: bool) -> None:
    model = whole_model(kind, flip_average)
    canvas = torch.from_numpy(drawn(4)).permute(0, 3, 1, 2)
    logits = logits_of(model.network, canvas, model.input_size, flip_average, "fp32")
    parts = explain_canvases(model, drawn(4))
    wanted = logits.numpy() / model.temperatures
    assert wanted.std() > 0.1
    np.testing.assert_allclose(parts.logits().numpy(), wanted, rtol=0, atol=2e-5)
    assert (parts.regions is not None) == (kind == "regions")


def whole_model(kind: str, flip_average: bool) -> AttributeModel:
    if kind != "average":
        return make_model("splnet" if kind == "splnet" else "sspl", flip_average)
    model = make_model("sspl", flip_average)
    torch.manual_seed(2)
    network = build_attribute_network(
        "sspl", BackboneSettings(width=0.125, stem_stride=2), HeadSettings(), SCHEMA
    ).eval()
    with torch.no_grad():
        network.head.weight.mul_(20)  # type: ignore[union-attr,operator]
    return replace(model, network=network)


@pytest.mark.parametrize("kind", ["average", "regions", "splnet"])
def test_a_mirrored_face_has_the_mirrored_map(kind: str) -> None:
    model = whole_model(kind, True)
    images = drawn(2)
    plain = explain_canvases(model, images)
    mirrored = explain_canvases(model, np.ascontiguousarray(images[:, :, ::-1]))
    torch.testing.assert_close(plain.maps, mirrored.maps.flip(3), rtol=0, atol=1e-5)
    assert (plain.maps - mirrored.maps).abs().max() > 1e-3


def test_left_and_right_trade_places_in_the_mirror() -> None:
    classes = ("background", "l_eye", "r_eye", "r_brow", "l_brow", "l_lip", "rest")
    assert mirrored_classes(classes) == [0, 2, 1, 4, 3, 5, 6]


def with_one_of(count: int, size: int) -> list[SyntheticFace]:
    """Return faces with glasses, with a hat and with neither, so many of each."""
    places: dict[tuple[bool, bool], list[int]] = {
        key: [] for key in ((True, False), (False, True), (False, False))
    }
    for i in itertools.count():
        labels = draw_traits(np.random.default_rng([0, i])).labels
        kind = (labels["Eyeglasses"], labels["Wearing_Hat"])
        if len(places.get(kind, range(count))) < count:
            places[kind].append(i)
        if min(map(len, places.values())) == count:
            return [render_face(0, i, size) for kind in places.values() for i in kind]
    raise AssertionError


class Told(nn.Module):
    """A segmentation that knows the true masks."""

    def __init__(self, masks: Tensor, classes: int) -> None:
        super().__init__()
        self.logits = 50 * F.one_hot(masks.long(), classes).permute(0, 3, 1, 2).float()

    def forward(self, maps: list[Tensor]) -> Tensor:
        return self.logits


def test_glasses_are_seen_about_the_eyes_and_hats_on_the_hat() -> None:
    """Heads learnt on features of a random backbone, pooled by region; nobody says which region."""
    faces = with_one_of(30, 48)
    images = normalise(torch.from_numpy(np.stack([f.image for f in faces])).float())
    masks = torch.from_numpy(np.stack([f.mask for f in faces]))
    names = ("Eyeglasses", "Wearing_Hat")
    labels = torch.tensor([[float(f.labels[name]) for name in names] for f in faces])
    taxonomy = built_in_taxonomy("celebamask19")
    torch.manual_seed(0)
    network = AttributeNetwork(
        BackboneSettings(width=0.125, stem_stride=1),
        HeadSettings(pooling="regions", region_map=1),
        2,
        SegmentationSettings(),
        taxonomy.classes,
    )
    network.pooling.segmentation = Told(masks, len(taxonomy))
    view = images.permute(0, 3, 1, 2).contiguous()
    network.pooling.norm.momentum = 1.0  # type: ignore[union-attr,assignment]
    with torch.no_grad():
        network.train()(view)
        features = network.eval().pooling(network.backbone(view))
    optimiser = torch.optim.Adam(network.head.parameters(), lr=0.1)
    for _ in range(150):
        loss = F.binary_cross_entropy_with_logits(network.head(features), labels)  # type: ignore[operator]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    with torch.no_grad():
        maps = take_apart(network, view).maps.clamp(min=0)
    assert maps.shape[2:] == masks.shape[1:]
    eyes = torch.isin(masks, torch.tensor([taxonomy.index(c) for c in ("l_eye", "r_eye", "eye_g")]))
    hat = masks == taxonomy.index("hat")
    glasses, hats = labels[:, 0] == 1, labels[:, 1] == 1

    def mass(attribute: int, region: Tensor, where: Tensor) -> float:
        """Return the share of a map's positive mass that lies in a region of the faces `where`."""
        added = maps[where, attribute]
        return float((added * region[where]).sum() / added.sum())

    assert mass(0, eyes, glasses) > 3 * mass(1, eyes, hats)
    assert mass(1, hat, hats) > 3 * mass(0, hat, hats)


def test_heat_map_is_red_for_and_blue_against() -> None:
    face = np.full((8, 8, 3), 128, np.uint8)
    added = np.array([[2.0, 0.0], [0.0, -1.0]])
    pixels = heat_map(face, added, 32).astype(int)
    red, blue, between = pixels[2, 2], pixels[29, 29], pixels[2, 29]
    assert np.abs(red - (0.8 * np.array(FOR) + 0.2 * 128)).max() < 12
    assert np.abs(blue - (0.4 * np.array(AGAINST) + 0.6 * 128)).max() < 12
    assert np.abs(between - 128).max() < 25
    assert (heat_map(face, np.zeros((2, 2)), 32) == 128).all()


def test_legend_names_what_covers_most() -> None:
    ids = np.array([[0, 0, 0, 2], [2, 2, 1, 3]], np.uint8)
    found = legend(ids, ("background", "skin", "hair", "hat", "neck"))
    assert [name for name, _ in found] == ["hair", "skin", "hat"]


def test_numbers_of_a_sheet_add_up_to_the_logit() -> None:
    regions = np.array([[0.5, -1.0, 0.25, 0.125, 2.0]], np.float32)
    parts = FaceParts(
        np.array([0.5]),
        np.array([-0.5], np.float32),
        np.zeros((1, 2, 2), np.float32),
        regions,
        np.array([0.75], np.float32),
        None,
    )
    lines = _strongest(parts, 0, ("background", "skin", "l_eye", "hair", "u_lip"))
    assert [text for text, _ in lines] == [
        "+2.00  upper lip",
        "-1.00  skin",
        "+0.75  whole face",
        "+0.50  background",
        "-0.12  the rest",
    ]
    assert [colour for _, colour in lines] == [FOR, AGAINST, FOR, FOR, AGAINST]


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("faces")
    for i in range(2):
        Image.fromarray(render_face(4, i, 64).image).save(folder / f"{i}.png")
    return folder


@pytest.mark.parametrize("architecture", ["sspl", "splnet"])
def test_command_writes_pictures_and_numbers(
    architecture: Architecture, faces: Path, tmp_path: Path
) -> None:
    save_model(tmp_path / "run", make_model(architecture, flip_average=True))
    out = tmp_path / "out"
    result = command("explain", tmp_path / "run", faces, "--out", out, "--top", 2)
    assert "2 faces explained" in result.output
    command("predict", tmp_path / "run", faces, "--out", tmp_path / "p.jsonl", "--device", "cpu")
    told = json.loads((tmp_path / "p.jsonl").read_text().splitlines()[1])["attributes"]
    explanation = json.loads((out / "1.png" / "explanation.json").read_text())
    likeliest = sorted(told, key=lambda name: -told[name]["probability"])[:2]
    assert list(explanation["attributes"]) == likeliest
    for name, found in explanation["attributes"].items():
        assert found["probability"] == pytest.approx(told[name]["probability"], abs=0.02)
        added = found.get("parts", {}).values() or np.ravel(found["map"])
        logit = np.log(found["probability"] / (1 - found["probability"]))
        assert found["baseline"] + sum(added) == pytest.approx(logit, abs=2e-3)
        with Image.open(out / "1.png" / f"{name}.png") as picture:
            assert picture.size == (224, 224)
    regions = architecture == "sspl"
    assert all(("parts" in found) == regions for found in explanation["attributes"].values())
    assert (out / "1.png" / "segmentation.png").exists() == regions
    with Image.open(out / "1.png" / "sheet.png") as sheet:
        assert sheet.size[0] == (4 if regions else 3) * 236 + 12
    named = tmp_path / "named"
    command(
        "explain",
        tmp_path / "run",
        faces / "0.png",
        "--out",
        named,
        "--attributes",
        "Big_Nose, Smiling",
    )
    (file,) = named.rglob("explanation.json")
    assert list(json.loads(file.read_text())["attributes"]) == ["Big_Nose", "Smiling"]


def test_what_cannot_be_explained_is_named(faces: Path, tmp_path: Path) -> None:
    save_model(tmp_path / "run", make_model("sspl", flip_average=True))
    arguments = ("explain", tmp_path / "run", faces, "--out", tmp_path / "out")
    assert "unknown attribute 'Nose'" in refused(*arguments, "--attributes", "Nose")
    assert not (tmp_path / "out").exists()

    class Portable:
        attributes, box, canvas = SCHEMA.names, (0.0, 0.0, 1.0, 1.0), CANVAS

    with pytest.raises(SsplError, match="an ONNX file cannot be explained"):
        explain(Portable(), [], tmp_path / "out", PredictSettings())  # type: ignore[arg-type]
