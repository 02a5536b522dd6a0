"""Which faces to label next: the choice, the probe behind it, the features and the command."""

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

import shared
from shared import draw_faces, learn, refused, sspl
from sspl.apps.labelling.features import extract, scaling_of
from sspl.apps.labelling.probe import balanced_interval, opinions, probe, standing
from sspl.apps.labelling.selection import POOL, choose, spread, uncertainty
from sspl.cli.label import names_in
from sspl.data.canvases import Canvases
from sspl.data.data_settings import parse_data_spec
from sspl.data.images import image_canvas, read_image
from sspl.data.records import MISSING, FaceSource
from sspl.errors import SettingsError
from sspl.evaluation.statistics import wilson
from sspl.models.attributes import RegionPooling
from sspl.models.scoring import face_probabilities
from sspl.training.feature_source import load_source

TINY = (*shared.TINY, "optim.epochs=1")


@pytest.fixture(scope="session")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_faces(tmp_path_factory.mktemp("label"), 60, seed=3)


@pytest.fixture(scope="session")
def pretrained(faces: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("label-pre") / "run"
    data = f"celeba:{faces},masks={faces / 'masks'},crop=0:0:1:0.9"
    learn("pretrain", data, out, *TINY, "task.prt.patch_size=32", "tasks=[pst]")
    return out


@pytest.fixture(scope="session")
def finetuned(faces: Path, pretrained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("label-fine") / "run"
    learn("finetune", f"celeba:{faces}", out, "--from", pretrained, *TINY, "flip_average=false")
    return out


def row(*values: float) -> np.ndarray:
    return np.array(values, dtype=np.float32)[:, None]


def test_uncertainty_is_the_expected_number_of_errors() -> None:
    views = np.array([[0.5, 0.1], [0.9, 1.0], [0.2, 0.4]])
    np.testing.assert_allclose(uncertainty(views), [0.6, 0.1, 0.6])
    np.testing.assert_allclose(uncertainty(np.empty((2, 0))), [0, 0])


def test_a_face_is_drawn_in_step_with_its_squared_distance() -> None:
    # From the centre 0 the faces are 1 and 2 away: 1 to 4.
    free = np.array([False, True, True])
    first = [
        spread(row(0, 1, 2), free, row(0), 1, np.random.default_rng(s))[0] for s in range(2000)
    ]
    assert set(first) == {1, 2}
    assert np.mean(np.array(first) == 2) == pytest.approx(0.8, abs=0.03)


def test_the_nearest_centre_counts() -> None:
    # 9 and 99 are centres; 10 is 1 away, 0 is 9 away from the nearest: 1 to 81.
    features, free = row(9, 99, 10, 0), np.array([False, False, True, True])
    drawn = [
        spread(features, free, features[:2], 1, np.random.default_rng(s))[0] for s in range(1000)
    ]
    assert np.mean(np.array(drawn) == 3) == pytest.approx(81 / 82, abs=0.012)


def test_copies_of_what_is_there_come_last_and_no_face_twice() -> None:
    features = row(0, 0, 10, 10, 20)
    for seed in range(20):
        picked = spread(
            features, np.ones(5, dtype=bool), features[:1], 9, np.random.default_rng(seed)
        )
        assert sorted(picked) == [0, 1, 2, 3, 4]
        assert {*features[picked[:2], 0]} == {10, 20}


def test_without_centres_the_first_is_drawn_evenly() -> None:
    free = np.array([True, True, True, False])
    first = [
        spread(row(0, 1, 50, 2), free, row(), 1, np.random.default_rng(s))[0] for s in range(1500)
    ]
    np.testing.assert_allclose(np.bincount(first, minlength=4) / 1500, [1 / 3] * 3 + [0], atol=0.05)


def test_only_the_most_uncertain_are_looked_at() -> None:
    rng = np.random.default_rng(1)
    features = rng.normal(size=(40, 3)).astype(np.float32)
    views = np.full((40, 1), 0.99)
    views[:12, 0] = 0.45
    taken = np.zeros(40, dtype=bool)
    taken[:2] = True
    for seed in range(10):
        picked = choose(features, views, taken, 2, np.random.default_rng(seed))
        # POOL * 2 of the ten that are left and uncertain, ties by place.
        assert POOL == 4
        assert set(picked) <= set(range(2, 10))
        assert len(set(picked)) == 2
    again = choose(features, views, taken, 2, np.random.default_rng(9))
    np.testing.assert_array_equal(picked, again)


def test_uncertain_faces_keep_away_from_labelled_ones() -> None:
    # Face 0 is labelled, 1 to 3 look like it; face 5 is far away, but not among the four most
    # uncertain.
    crowd = row(0, 0, 0, 0, 7, 100)
    views = np.array([[0.5]] * 5 + [[0.9]])
    for seed in range(10):
        picked = choose(crowd, views, np.arange(6) == 0, 1, np.random.default_rng(seed))
        assert list(picked) == [4]


def test_without_opinions_all_faces_are_looked_at() -> None:
    features = row(*[0] * 30, 9)
    taken = np.arange(31) == 0
    for views in (np.empty((31, 0)), np.full((31, 2), 0.3)):
        assert list(choose(features, views, taken, 1, np.random.default_rng(4))) == [30]
    assert list(choose(features, views, np.ones(31, dtype=bool), 1, np.random.default_rng(4))) == []


def test_standardised_features_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sspl.apps.labelling.features.BLOCK", 7)
    rng = np.random.default_rng(0)
    values = (rng.normal(size=(30, 4)) * [1, 5, 0, 1e-3] + [0, 3, 2, 9]).astype(np.float32)
    expected = (values - values.mean(0)) / np.maximum(values.std(0), 1e-9) / 2
    expected[:, 2] = 0
    scaling_of(values).apply(values)
    np.testing.assert_allclose(values, expected, atol=2e-3)


def test_the_probe_is_a_balanced_logistic_regression() -> None:
    rng = np.random.default_rng(2)
    features = rng.normal(size=(20, 50)).astype(np.float32) / 7
    labels = (features[:, 0] > 0.05).astype(np.int8)
    others = rng.normal(size=(8, 50)).astype(np.float32) / 7
    full = LogisticRegression(C=10, class_weight="balanced", tol=1e-8, max_iter=5000)
    expected = full.fit(features, labels).predict_proba(others)[:, 1]
    np.testing.assert_allclose(probe(features, labels, others), expected, atol=2e-3)


def test_opinions_by_probe_by_prior_and_by_count() -> None:
    features = row(-1, -1, 1, 1, 1, -1)
    labels = np.full((6, 3), MISSING, dtype=np.int8)
    labels[:4, 0] = [0, 0, 1, 1]
    labels[:3, 1] = 1
    labels[:3, 2] = 1
    prior = np.full((6, 3), np.nan)
    prior[:, 1] = 0.7
    prior[:, 0] = 0.7
    views = opinions(features, labels, prior)
    assert views[4, 0] > 0.8
    assert views[5, 0] < 0.2
    np.testing.assert_allclose(views[:, 1], 0.7)
    np.testing.assert_allclose(views[:, 2], 4 / 5)


def test_the_interval_of_balanced_accuracy() -> None:
    # Alike in both classes: half the distances' hypotenuse is the single distance over sqrt 2.
    share, low, high = wilson(8, 10)
    found = balanced_interval(8, 10, 8, 10)
    root = 2**0.5
    np.testing.assert_allclose(
        found, (share, share - (share - low) / root, share + (high - share) / root)
    )
    middle, low, high = balanced_interval(3, 3, 5, 5)
    assert (middle, high) == (1, 1)
    assert 0.5 < low < 0.9


def test_the_standing_is_judged_by_faces_unseen() -> None:
    rng = np.random.default_rng(5)
    noise = rng.normal(size=(40, 100)).astype(np.float32) / 10
    labels = np.arange(40).astype(np.int8) % 2
    # With more features than faces every probe is right on the faces that it has seen.
    seen = probe(noise, labels, noise) >= 0.5
    assert (seen == labels).all()
    found = standing(noise, labels)
    assert found.balanced_accuracy is not None
    assert found.balanced_accuracy < 0.75
    assert found.low is not None
    assert found.low < 0.5
    told = standing(row(*(labels * 2.0 - 1)), labels)
    assert (told.yes, told.no, told.balanced_accuracy) == (20, 20, 1)
    few = standing(row(*[0.0] * 12), np.array([1, 1, *[0] * 10], dtype=np.int8))
    assert (few.yes, few.no, few.balanced_accuracy, few.low) == (2, 10, None, None)


def test_features_after_stage_1_are_pooled_by_region(faces: Path, pretrained: Path) -> None:
    source = load_source(pretrained)
    assert source.model is None
    assert isinstance(source.network.pooling, RegionPooling)
    assert source.box == (0, 0, 1, 0.9)
    data = parse_data_spec(f"celeba:{faces}").open().select(range(20))
    counts: list[int] = []
    found = extract(source, data, device="cpu", precision="fp32", batch_size=8, seen=counts.append)
    assert counts == [8, 8, 4]
    assert found.opinions.shape == (20, 0)
    raw = []
    for face in data:
        canvas = image_canvas(read_image(face.image), source.box, 48)
        pixels = torch.from_numpy(canvas.copy()).permute(2, 0, 1)[None].float()
        view = torch.nn.functional.interpolate(pixels, 32, mode="bilinear") / 127.5 - 1
        with torch.inference_mode():
            raw.append(source.network.pooling(source.network.backbone(view))[0].numpy())
    expected = np.array(raw)
    spread_out = expected.std(0) > 1e-6 * (1 + abs(expected.mean(0)))
    expected = (expected - expected.mean(0)) / expected.std(0) / expected.shape[1] ** 0.5
    np.testing.assert_allclose(found.values[:, spread_out], expected[:, spread_out], atol=2e-2 / 10)


def test_a_fine_tuned_model_has_opinions_too(faces: Path, finetuned: Path) -> None:
    source = load_source(finetuned)
    assert source.model is not None
    data = parse_data_spec(f"celeba:{faces}").open().select(range(10))
    found = extract(source, data, device="cpu", precision="fp32", batch_size=4)
    canvases = Canvases([FaceSource(data, source.model.box)], 48, None)
    expected = face_probabilities(source.model, canvases, torch.device("cpu"), "fp32")
    np.testing.assert_allclose(found.opinions, expected, atol=1e-5)


def test_the_branches_of_splnet_are_joined(faces: Path, tmp_path: Path) -> None:
    learn(
        "pretrain",
        f"celeba:{faces},masks={faces / 'masks'}",
        tmp_path,
        *TINY,
        "architecture=splnet",
        "tasks=[pct]",
    )
    source = load_source(tmp_path / "pretrained.safetensors")
    data = parse_data_spec(f"celeba:{faces}").open().select(range(3))
    found = extract(source, data, device="cpu", precision="fp32")
    assert found.values.shape == (3, 4 * source.network.backbone.widths[-1])


def listed(path: Path) -> list[str]:
    with path.open(newline="") as file:
        return [row["image"] for row in csv.DictReader(file)]


def test_a_list_is_the_same_for_a_seed(faces: Path, pretrained: Path, tmp_path: Path) -> None:
    one, again, other = (tmp_path / f"{name}.csv" for name in "abc")
    for out, seed in ((one, 1), (again, 1), (other, 2)):
        pictures = faces / "img_align_celeba"
        chosen = ("--count", 5, "--seed", seed)
        sspl("suggest", "--from", pretrained, pictures, *chosen, "--out", out)
    assert one.read_bytes() == again.read_bytes()
    assert listed(one) != listed(other)
    assert len(set(listed(one))) == 5
    assert one.read_text().splitlines()[0] == "image,place,uncertainty"


def test_labelled_faces_are_left_out_and_held_out_ones_not_looked_at(
    faces: Path, pretrained: Path, tmp_path: Path
) -> None:
    pictures = faces / "img_align_celeba"

    def write(held_out: int) -> Path:
        lines = ["image,split,Smiling"]
        lines += [f"{i:06d}.jpg,train,{i % 2}" for i in range(1, 9)]
        lines += ["000009.jpg,train,"]
        lines += [f"{i:06d}.jpg,test,{held_out}" for i in range(10, 50)]
        labels = tmp_path / "labels.csv"
        labels.write_text("\n".join(lines) + "\n")
        return labels

    found = []
    for held_out in (0, 1):
        sspl(
            "suggest",
            "--from",
            pretrained,
            pictures,
            "--labelled",
            write(held_out),
            "--out",
            tmp_path / "next.csv",
            "--count",
            99,
        )
        assert sorted(listed(tmp_path / "next.csv")) == [f"{i:06d}.jpg" for i in range(50, 61)]
        found.append((tmp_path / "next.csv").read_text())
    assert found[0] == found[1]
    assert 0 < float(found[0].splitlines()[1].split(",")[2]) <= 0.5


def test_lists_that_are_refused(
    faces: Path, pretrained: Path, finetuned: Path, tmp_path: Path
) -> None:
    pictures, out = faces / "img_align_celeba", tmp_path / "next.csv"
    labels = tmp_path / "labels.csv"

    def told(*arguments: object) -> str:
        return refused("suggest", *arguments, "--out", out)

    labels.write_text("image,Smiling\n000001.jpg,1\n")
    more = tmp_path / "more"
    more.mkdir()
    (more / "other.jpg").write_bytes((pictures / "000001.jpg").read_bytes())
    from_run = ("--from", pretrained)
    assert "labels.csv" in told(*from_run, more, "--labelled", labels)
    assert "no attribute 'Bald'" in told(
        *from_run, pictures, "--labelled", labels, "--attributes", "Bald"
    )
    assert "holds neither" in told("--from", more, pictures)
    assert "leave crop out" in told("--from", finetuned, f"folder:{pictures},crop=celeba")
    labels.write_text("image,Smiling\nother.jpg,1\n")
    assert "nothing is left" in told(*from_run, more, "--labelled", labels)
    assert not out.exists()


def test_a_fine_tuned_model_says_what_it_is_unsure_of(
    faces: Path, finetuned: Path, tmp_path: Path
) -> None:
    out = tmp_path / "next.csv"
    pictures = faces / "img_align_celeba"
    ask = ("suggest", "--from", finetuned, pictures, "--attributes", "Smiling,Bangs", "--out", out)
    sspl(*ask, "--count", 5, "--device", "cpu")
    source = load_source(finetuned)
    found = extract(source, parse_data_spec(str(pictures)).open(), device="cpu")
    columns = [source.attributes.index(name) for name in ("Smiling", "Bangs")]
    doubt = uncertainty(found.opinions[:, columns])
    pool = [f"{i + 1:06d}.jpg" for i in np.argsort(-doubt)[: 4 * 5]]
    assert set(listed(out)) <= set(pool)
    with out.open(newline="") as file:
        for line in csv.DictReader(file):
            place = int(line["image"][:6]) - 1
            assert float(line["uncertainty"]) == pytest.approx(doubt[place], abs=1e-4)


def test_damaged_pictures_stop_it_or_are_listed(
    faces: Path, pretrained: Path, tmp_path: Path
) -> None:
    some, out = tmp_path / "some", tmp_path / "next.csv"
    some.mkdir()
    for i in (1, 2, 3):
        name = f"{i:06d}.jpg"
        (some / name).write_bytes((faces / "img_align_celeba" / name).read_bytes())
    (some / "000002.jpg").write_bytes(b"no picture")
    ask = ("suggest", "--from", pretrained, some, "--out", out)
    assert "000002.jpg" in refused(*ask)
    assert not out.exists()
    sspl(*ask, "--on-error", "skip")
    assert sorted(listed(out)) == ["000001.jpg", "000003.jpg"]
    assert "000002.jpg" in (tmp_path / "next.skipped.csv").read_text()


def test_names_of_a_list() -> None:
    assert names_in("A, B") == ("A", "B")
    assert names_in("\ufeffA\u200b,Big\u00a0Nose") == ("A", "Big Nose")  # as in a table's header
    assert names_in(None) == ()
    for text in ("A,A", "A,,B"):
        with pytest.raises(SettingsError, match="each name once"):
            names_in(text)
