"""Heads that weights of stage 1 bring along: fitted, kept, and where stage 2 starts from them."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from shared import draw_faces, learn, make_model, refused, sspl
from sspl.data.canvases import Canvases
from sspl.data.data_settings import parse_data_spec
from sspl.data.records import FaceSource
from sspl.data.synthetic import write_synthetic
from sspl.data.transforms import plain_view
from sspl.domain.attributes import schema_for
from sspl.errors import DataError
from sspl.io.locks import lock_of, locked
from sspl.io.run_files import PRETRAINED_FILE
from sspl.io.weights import load_tensors, save_tensors
from sspl.models.attributes import AttributeNetwork, RegionPooling
from sspl.models.bundle import save_model
from sspl.models.network_settings import BackboneSettings, HeadSettings, SegmentationSettings
from sspl.training import ready_heads
from sspl.training.attribute_network import settle_scales
from sspl.training.ready_heads import ready_weight
from sspl.training.starts import READY_WEIGHT
from sspl.training.transfer import ContinuedReport, transfer

NAMES = ("smiling", "Wearing Hat", "Freckles")


def network_for(run: Path, names: tuple[str, ...], **head: object) -> AttributeNetwork:
    metadata = load_tensors(run / PRETRAINED_FILE)[1]
    settings = HeadSettings(**({"pooling": "regions"} | head))  # type: ignore[arg-type]
    segmentation = SegmentationSettings(**metadata["segmentation"])
    backbone = BackboneSettings(**metadata["backbone"])
    return AttributeNetwork(
        backbone, settings, len(names), segmentation, tuple(metadata["classes"])
    )


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("ready")
    faces = draw_faces(folder / "faces", 24, seed=3)
    for tasks in ("pst", "pct"):
        learn("pretrain", f"celeba:{faces},masks={faces}/masks", folder / tasks, f"tasks=[{tasks}]")
    return folder / "pst", faces


def test_weights_are_those_of_logistic_regression_on_what_the_pooling_gives() -> None:
    rng = np.random.default_rng(0)
    features = (rng.normal(size=(200, 6)) * [1, 5, 0.1, 2, 1, 3] + [0, 4, 1, 0, 9, 0]).astype("f4")
    labels = np.stack([features[:, 1] > 4.5, rng.random(200) < 0.3], axis=1).astype(np.int8)
    labels[:20, 1] = -1
    weight = ready_weight(features, labels, strength=0.5)
    scaled = (features - features.mean(0)) / features.std(0)
    for column, row in zip(labels.T, weight, strict=True):
        known = column >= 0
        model = LogisticRegression(C=1 / (0.5 * known.sum()))
        model.fit(scaled[known], column[known])
        pooled = torch.from_numpy(scaled).float() / 6**0.5
        expected = scaled @ model.coef_[0]
        assert (pooled @ row).tolist() == pytest.approx(expected, abs=2e-3)


def test_stage_2_starts_from_heads_of_the_same_name(pretrained: tuple[Path, Path]) -> None:
    run, faces = pretrained
    said = sspl("heads", run, "--data", f"celeba:{faces}").output
    assert "heads from 24 faces" in said
    tensors, metadata = load_tensors(run / PRETRAINED_FILE)
    names = metadata["heads"]["names"]
    network = network_for(run, NAMES)
    bias = network.head.bias.clone()
    report = transfer(network, run, schema_for(NAMES))
    assert isinstance(report, ContinuedReport)
    assert report.heads == ("smiling", "Wearing Hat")
    assert report.new_heads == ("Freckles",)
    assert READY_WEIGHT in report.loaded
    assert READY_WEIGHT not in report.left
    assert (
        f"left behind: {', '.join(report.left_heads[:5])}, {len(names) - 7} more" in report.text()
    )
    assert set(report.left_heads) == set(names) - {"Smiling", "Wearing_Hat"}
    for place, name in enumerate(("Smiling", "Wearing_Hat")):
        assert torch.equal(network.head.weight[place], tensors[READY_WEIGHT][names.index(name)])
    assert network.head.weight[2].std().item() == pytest.approx(0.01, rel=0.3)
    assert torch.equal(network.head.bias, bias)


def test_faces_are_drawn_where_none_are_given(
    pretrained: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, _ = pretrained
    # None is drawn for a run that could not read from them.
    monkeypatch.setattr(ready_heads, "write_synthetic", None)
    assert "without PST" in refused("heads", run.with_name("pct"))
    monkeypatch.undo()
    monkeypatch.setattr(ready_heads, "DRAWN", 24)
    assert "heads from 24 faces: 5_o_Clock_Shadow" in sspl("heads", run).output
    drawn = load_tensors(run / PRETRAINED_FILE)[0][READY_WEIGHT]
    faces = tmp_path / "drawn"
    write_synthetic(faces, 24, ready_heads.DRAWN_SEED, ready_heads.DRAWN_SIZE, "photo")
    sspl("heads", run, "--data", f"celeba:{faces}")
    assert torch.equal(load_tensors(run / PRETRAINED_FILE)[0][READY_WEIGHT], drawn)


def test_heads_stay_when_a_finished_run_is_repeated_and_wait_for_whoever_writes(
    pretrained: tuple[Path, Path],
) -> None:
    run, faces = pretrained
    sspl("heads", run, "--data", f"celeba:{faces}")
    before = (run / PRETRAINED_FILE).read_bytes()
    data = f"celeba:{faces},masks={faces}/masks"
    learn("pretrain", data, run, "tasks=[pst]", "--resume")
    assert (run / PRETRAINED_FILE).read_bytes() == before
    with locked(lock_of(run, folder=True)) as free:
        assert free
        assert "being written by another process" in refused("heads", run, "--data", data)
    assert (run / PRETRAINED_FILE).read_bytes() == before


def test_heads_for_other_features_stay_behind(pretrained: tuple[Path, Path]) -> None:
    run, faces = pretrained
    sspl("heads", run, "--data", f"celeba:{faces}")
    for other in ({"pooling": "average"}, {"region_map": 3}):
        network = network_for(run, NAMES, **other)
        before = network.head.weight.clone()
        report = transfer(network, run, schema_for(NAMES))
        assert isinstance(report, ContinuedReport)
        assert report.heads == ()
        assert torch.equal(network.head.weight, before)


def test_heads_of_another_size_are_refused(pretrained: tuple[Path, Path], tmp_path: Path) -> None:
    run, faces = pretrained
    sspl("heads", run, "--data", f"celeba:{faces}")
    tensors, metadata = load_tensors(run / PRETRAINED_FILE)
    network, schema = network_for(run, NAMES), schema_for(NAMES)
    tensors[READY_WEIGHT] = tensors[READY_WEIGHT][:, :7]
    save_tensors(tmp_path / PRETRAINED_FILE, tensors, metadata)
    with pytest.raises(DataError, match=r"heads\.weight has shape .*'sspl heads'"):
        transfer(network, tmp_path, schema)
    del tensors[READY_WEIGHT]
    save_tensors(tmp_path / PRETRAINED_FILE, tensors, metadata)
    with pytest.raises(DataError, match=r"heads\.weight has shape \(0,\)"):
        transfer(network, tmp_path, schema)


def test_without_pst_there_are_no_regions_for_heads(pretrained: tuple[Path, Path]) -> None:
    run, faces = pretrained
    said = refused("heads", run.with_name("pct"), "--data", f"celeba:{faces}")
    assert "without PST" in said


def test_faces_without_labels_and_other_folders_are_refused(
    pretrained: tuple[Path, Path], tmp_path: Path
) -> None:
    run, faces = pretrained
    pictures = faces / "img_align_celeba"
    assert "no attribute has faces with a yes" in refused(
        "heads", run, "--data", f"folder:{pictures}"
    )
    table = tmp_path / "labels.csv"
    rows = "000001.jpg,1,1\n000002.jpg,0,1\n000003.jpg,,1\n"
    table.write_text(f"image,Smiling,Bald\n{rows}")
    said = sspl("heads", run, "--data", f"csv:{table},images={pictures}").output
    assert "1 head from 3 faces: Smiling." in said
    save_model(tmp_path, make_model("sspl", flip_average=False))
    assert "is a fine-tuned model" in refused("heads", tmp_path, "--data", f"celeba:{faces}")


def test_only_so_many_faces_are_looked_at_spread_over_the_set(
    pretrained: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, faces = shutil.copytree(pretrained[0], tmp_path / "run"), pretrained[1]
    seen: list[np.ndarray] = []
    monkeypatch.setattr(ready_heads, "MOST_FACES", 10)
    monkeypatch.setattr(
        ready_heads,
        "ready_weight",
        lambda features, labels, _: seen.append(labels) or torch.zeros(labels.shape[1], 1),
    )
    data = parse_data_spec(f"celeba:{faces}")
    found = data.open()
    ready_heads.add_ready_heads(run, found, data.box_of(found), torch.device("cpu"))
    assert len(seen[0]) == 8
    assert np.array_equal(seen[0][1], found.labels[3, [found.schema.index(n) for n in learnt(run)]])


def learnt(run: Path) -> tuple[str, ...]:
    names: tuple[str, ...] = tuple(load_tensors(run / PRETRAINED_FILE)[1]["heads"]["names"])
    return names


def test_averages_begin_at_those_of_the_faces(pretrained: tuple[Path, Path]) -> None:
    network = network_for(pretrained[0], NAMES)
    transfer(network, pretrained[0], schema_for(NAMES))
    pooling = network.pooling
    assert isinstance(pooling, RegionPooling)
    others = {n: b.clone() for n, b in network.backbone.named_buffers()}
    views = torch.rand(8, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    settle_scales(network, views.split(4))
    with torch.no_grad():
        maps = network.eval().backbone(views)
        features = pooling.unscaled(maps, *pooling.regions(maps))
    assert torch.allclose(pooling.norm.running_mean, features.mean(0), atol=1e-5)
    assert torch.allclose(pooling.norm.running_var, features.var(0), atol=1e-5)
    assert pooling.norm.momentum == 0.1
    for name, buffer in network.backbone.named_buffers():
        assert torch.equal(buffer, others[name]), name


def test_averages_that_were_learnt_stay(pretrained: tuple[Path, Path]) -> None:
    network = network_for(pretrained[0], NAMES)
    pooling = network.pooling
    assert isinstance(pooling, RegionPooling)
    views = torch.rand(8, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    network.train()(views)
    learnt = {n: b.clone() for n, b in pooling.norm.named_buffers()}
    settle_scales(network, [views])
    for name, buffer in pooling.norm.named_buffers():
        assert torch.equal(buffer, learnt[name]), name


def test_a_start_with_heads_tells_attributes_apart_before_any_step(
    pretrained: tuple[Path, Path],
) -> None:
    """Heads fitted on faces say more of these than chance once the averages are settled."""
    run, faces = pretrained
    sspl("heads", run, "--data", f"celeba:{faces}", "--strength", "0.01")
    schema = schema_for(("Smiling",))
    network = network_for(run, schema.names)
    transfer(network, run, schema)
    data = parse_data_spec(f"celeba:{faces}")
    found = data.open()
    metadata = load_tensors(run / PRETRAINED_FILE)[1]
    source = FaceSource(found, data.box_of(found))
    canvases = Canvases([source], metadata["canvas"], None)
    (batch,) = canvases.batches(range(24), 24)
    view = plain_view(batch.images, metadata["input_size"])
    settle_scales(network, [view])
    with torch.no_grad():
        logits = network.eval()(view)[:, 0].numpy()
    truth = found.labels[:, found.schema.names.index("Smiling")] == 1
    assert roc_auc_score(truth, logits) > 0.95
