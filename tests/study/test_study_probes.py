"""Probes and frozen features, against hand-worked values and independent code."""

import numpy as np
import pytest
import torch
from scipy.special import expit
from skimage.color import rgb2lab
from skimage.feature import hog
from sklearn.linear_model import LogisticRegression
from torch import nn

from sspl.models.attributes import AttributeNetwork
from sspl.models.backbones.base import pooled
from sspl.models.network_settings import BackboneSettings, HeadSettings
from sspl.models.splnet import AnyAttributeNetwork
from sspl.study.features import hog_extractor, network_extractor, renew_averages
from sspl.study.probe_settings import HogSettings, KNNSettings
from sspl.study.probes import fit_probe, knn_logits
from sspl.training.feature_settings import LinearSettings
from sspl.training.linear_heads import (
    SURE,
    LabelledFeatures,
    fit_linear,
    standardisation,
)


def blobs(n: int, seed: int, gap: float = 1.0) -> LabelledFeatures:
    """Three features, of which the first tells attribute 0 and the second attribute 1."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, (n, 2)).astype(np.int8)
    features = rng.normal(size=(n, 3)).astype(np.float32)
    features[:, :2] += gap * (2 * labels - 1)
    return LabelledFeatures(features * np.float32([1, 10, 1]) + 5, labels)


def test_linear_probe_is_logistic_regression_on_standardised_features() -> None:
    train, val, test = blobs(60, 0), blobs(40, 1), blobs(50, 2)
    heads = fit_linear(LinearSettings(strengths=(0.05,)), train, val, "accuracy")
    mean, deviation = train.features.mean(0), train.features.std(0)
    x = (train.features - mean) / deviation
    for i in range(2):
        # 0.05 a face and 60 faces: C is one over 3.
        model = LogisticRegression(C=1 / 3, max_iter=500).fit(x, train.labels[:, i])
        wanted = model.decision_function((test.features - mean) / deviation)
        assert heads(test.features)[:, i] == pytest.approx(wanted, abs=2e-3)


def test_a_missing_label_has_no_part_in_the_linear_probe() -> None:
    train, val = blobs(60, 0), blobs(40, 1)
    some = LabelledFeatures(train.features, train.labels.copy())
    some.labels[40:, 0] = -1
    wrong = LabelledFeatures(train.features, train.labels.copy())
    wrong.labels[40:, 0] = 1 - wrong.labels[40:, 0]
    settings = LinearSettings(strengths=(0.05,))
    with_gaps = fit_linear(settings, some, val, "accuracy")(val.features)
    full = fit_linear(settings, train, val, "accuracy")(val.features)
    assert with_gaps[:, 1] == pytest.approx(full[:, 1])
    mean, inverse = standardisation(train.features)
    x = ((train.features - mean) * inverse)[:40]
    model = LogisticRegression(C=1 / (0.05 * 40), max_iter=500).fit(x, train.labels[:40, 0])
    wanted = model.decision_function((val.features - mean) * inverse)
    assert with_gaps[:, 0] == pytest.approx(wanted, abs=2e-3)


def test_an_attribute_of_one_kind_gets_its_rate() -> None:
    train, val = blobs(20, 0), blobs(20, 1)
    train.labels[:, 0] = 1
    train.labels[:, 1] = -1
    found = fit_linear(LinearSettings(strengths=(0.1,)), train, val, "accuracy")
    assert expit(found(val.features))[:, 0] == pytest.approx(SURE)
    assert expit(found(val.features))[:, 1] == pytest.approx(0.5)


def test_validation_chooses_the_strength() -> None:
    # Few faces, many features that say nothing: a weak penalty learns the noise by heart.
    rng = np.random.default_rng(0)

    def noisy(n: int) -> LabelledFeatures:
        part = blobs(n, n)
        noise = rng.normal(size=(n, 80)).astype(np.float32)
        return LabelledFeatures(np.concatenate([part.features, noise], axis=1), part.labels)

    train, val = noisy(30), noisy(400)
    settings = LinearSettings(strengths=(1e6, 0.3, 1e-6))
    assert fit_linear(settings, train, val, "average_precision").strength != 1e-6
    same = LabelledFeatures(val.features, np.full_like(val.labels, 1))
    # Every strength is equally good where there is nothing to tell apart: the largest is taken.
    assert fit_linear(settings, train, same, "balanced_accuracy").strength == 1e6


def test_calibration_divides_each_attributes_logits() -> None:
    train, val = blobs(200, 0, gap=0.2), blobs(200, 1, gap=0.2)
    settings = KNNSettings(neighbours=(1,))
    raw = fit_probe(settings, train, val, "accuracy", False).predict(val.features)
    calm = fit_probe(settings, train, val, "accuracy", True).predict(val.features)
    # One neighbour is always sure, and often wrong.
    ratio = raw / calm
    assert ratio[:, 0] == pytest.approx(ratio[0, 0])
    assert ratio[0, 0] == pytest.approx(5, abs=0.01)


def test_votes_of_neighbours_by_hand() -> None:
    train = LabelledFeatures(
        np.float32([[1, 0], [0, 2], [3, 3], [-1, 0]]), np.int8([[1], [0], [-1], [0]])
    )
    face = np.float32([[5, 0]])
    # Similarities 1, 0, 0.707 and -1; the third face does not know the attribute.
    weight = np.exp(-1 / 0.5)
    two = knn_logits(train, face, 2, temperature=0.5)
    assert expit(two) == pytest.approx(np.array([[1 / (1 + weight)]]))
    three = knn_logits(train, face, 3, temperature=0.5)
    assert expit(three)[0, 0] == pytest.approx(1 / (1 + weight + np.exp(-2 / 0.5)))
    assert expit(knn_logits(train, face, 1, 0.5))[0, 0] == pytest.approx(SURE)
    unknown = LabelledFeatures(train.features, np.full((4, 1), -1, np.int8))
    assert knn_logits(unknown, face, 1, 0.5).tolist() == [[0.0]]


def test_validation_chooses_the_number_of_neighbours() -> None:
    # Every fifth label is wrong: one neighbour repeats the errors, twenty outvote them.
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 2, (200, 1)).astype(np.int8)
    angle = (labels[:, 0] * 2 + rng.normal(size=200) * 0.1).astype(np.float64)
    features = np.stack([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32)
    wrong = labels.copy()
    wrong[::5] = 1 - wrong[::5]
    train = LabelledFeatures(features[:100], wrong[:100])
    val = LabelledFeatures(features[100:], labels[100:])
    chosen = fit_probe(KNNSettings(neighbours=(1, 20, 900)), train, val, "accuracy", False)
    assert chosen.chosen == 20
    everyone = fit_probe(KNNSettings(neighbours=(900,)), train, val, "accuracy", False)
    assert everyone.chosen == 100


@pytest.fixture(scope="module")
def network() -> AnyAttributeNetwork:
    torch.manual_seed(0)
    return AttributeNetwork(BackboneSettings(width=0.125, stem_stride=2), HeadSettings(), 3)


def pixels(n: int, size: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, size, size, 3)).astype(np.uint8)


def test_running_averages_are_taken_anew(network: AnyAttributeNetwork) -> None:
    views = [torch.randn(8, 3, 32, 32), torch.randn(8, 3, 32, 32) + 2]
    renew_averages(network, views)
    conv, norm = network.backbone.stem[0], network.backbone.stem[1]
    assert isinstance(norm, nn.BatchNorm2d)
    with torch.no_grad():
        means = torch.stack([conv(view).mean((0, 2, 3)) for view in views])
    assert torch.allclose(norm.running_mean, means.mean(0), atol=1e-5)
    assert norm.momentum == 0.1
    assert not network.training


def test_features_of_a_network_are_what_its_heads_read(network: AnyAttributeNetwork) -> None:
    plain = pixels(16, 40, 1)
    faces = pixels(3, 40)
    extract = network_extractor(network, [plain], 32, False, torch.device("cpu"), "fp32")
    view = torch.from_numpy(faces).permute(0, 3, 1, 2).float()
    # Sampled as at stage 2's input: pixel centres spread over the canvas.
    grid = nn.functional.affine_grid(torch.eye(2, 3).repeat(3, 1, 1), [3, 3, 32, 32], False)
    view = nn.functional.grid_sample(view, grid, align_corners=False) / 127.5 - 1
    with torch.no_grad():
        wanted = pooled(network.backbone(view))
        logits = network.head(torch.from_numpy(extract(faces)))
        assert torch.allclose(logits, network(view), atol=1e-4)
        mirrored = (wanted + pooled(network.backbone(view.flip(3)))) / 2
    assert extract(faces) == pytest.approx(wanted.numpy(), abs=1e-4)
    both = network_extractor(network, [plain], 32, True, torch.device("cpu"), "fp32")
    assert both(faces) == pytest.approx(mirrored.numpy(), abs=1e-4)


def test_gradients_and_colours_by_direct_calls() -> None:
    faces = pixels(6, 32)
    settings = HogSettings(kind="hog", colour_grid=2, components=100)
    found = hog_extractor(settings, [faces[:3], faces[3:]], 32)(faces)
    rows = []
    for face in faces / 255:
        colours = [
            rgb2lab(face)[i : i + 16, j : j + 16].mean((0, 1)) / 100
            for i in (0, 16)
            for j in (0, 16)
        ]
        gradients = hog(face, 9, (8, 8), (2, 2), channel_axis=-1)
        rows.append(np.concatenate([gradients, *colours]))
    described = np.array(rows)
    # All components are kept, so the PCA only turns the descriptors: distances stay.
    assert found.shape == (6, 6)
    for i in range(6):
        wanted = np.linalg.norm(described - described[i], axis=1)
        assert np.linalg.norm(found - found[i], axis=1) == pytest.approx(wanted, abs=1e-3)
