"""The commands, one after the other, on a few synthetic faces."""

import csv
import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image
from safetensors.numpy import load_file

from shared import TINY, draw_faces, learn, refused, sspl
from sspl.cli.main import cli
from sspl.evaluation.predictions import load_predictions
from sspl.models.bundle import load_model


@pytest.fixture(scope="session")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_faces(tmp_path_factory.mktemp("synthetic"), 120, seed=3)


@pytest.fixture(scope="session")
def parser(faces: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("parser") / "run"
    sspl(
        "parser",
        "train",
        faces / "img_align_celeba",
        faces / "masks",
        "--out",
        out,
        "--pairs",
        30,
        "size=64",
        "view=64",
        "steps=120",
        "batch_size=8",
        "model.width=0.125",
        "precision=fp32",
    )
    return out


def pretrain(faces: Path, out: Path, *more: str) -> Result:
    data = f"celeba:{faces},masks={faces / 'masks'}"
    return learn("pretrain", data, out, *TINY, "task.prt.patch_size=32", "optim.epochs=3", *more)


@pytest.fixture(scope="session")
def pretrained(faces: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("pretrain") / "run"
    pretrain(faces, out)
    return out


@pytest.fixture(scope="session")
def finetuned(faces: Path, pretrained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("finetune") / "run"
    learn(
        "finetune",
        f"celeba:{faces}",
        out,
        "--from",
        pretrained,
        "--labels",
        40,
        "--subset-seed",
        5,
        *TINY,
        "optim.epochs=4",
        "evaluate_every=1",
    )
    return out


def test_parser_learns_the_big_classes(parser: Path) -> None:
    figures = json.loads((parser / "metrics.json").read_text())
    # Chance for one of 19 classes is far below; skin and background are most of the picture.
    assert figures["iou"]["skin"] > 0.3
    assert figures["pixel_accuracy"] > 0.5
    assert len(figures["training_pairs"]) == 30


def test_parser_run_writes_palette_masks_and_resumes(
    parser: Path, faces: Path, tmp_path: Path
) -> None:
    out = tmp_path / "masks"
    pictures = faces / "img_align_celeba"
    sspl("parser", "run", parser, pictures, "--out", out, "--short-side", 64)
    first = (out / "000001.png").read_bytes()
    with Image.open(out / "000001.png") as mask:
        assert mask.mode == "P"
        assert mask.size == (48, 48)
    summary = json.loads((out / "summary.json").read_text())
    assert summary["faces"] == 120
    shares = [row["pixel_share"] for row in summary["classes"].values()]
    assert sum(shares) == pytest.approx(1, abs=1e-3)
    (out / "000002.png").unlink()
    kept = (out / "000003.png").stat().st_mtime_ns
    sspl("parser", "run", parser, pictures, "--out", out, "--short-side", 64)
    assert (out / "000002.png").exists()
    assert (out / "000003.png").stat().st_mtime_ns == kept
    assert (out / "000001.png").read_bytes() == first


def test_pretraining_lowers_every_loss(pretrained: Path) -> None:
    rows = list(csv.DictReader((pretrained / "metrics.csv").open()))
    for name in ("loss", "pst/loss", "pct/loss"):
        assert float(rows[-1][name]) < float(rows[0][name])
    assert {"prt/which_accuracy", "prt/angle_accuracy", "pst/miou", "pct/accuracy"} <= set(rows[0])


def test_run_folder_holds_what_makes_it_again(
    pretrained: Path, faces: Path, tmp_path: Path
) -> None:
    about = json.loads((pretrained / "run.json").read_text())
    assert about["seed"] == 0
    assert about["versions"]["torch"].split("+")[0].count(".") == 2
    out = tmp_path / "again"
    sspl("pretrain", "--settings", pretrained / "settings.yaml", "--out", out)
    assert_same_weights(out / "pretrained.safetensors", pretrained / "pretrained.safetensors")


def assert_same_weights(one: Path, other: Path) -> None:
    a, b = load_file(one), load_file(other)
    assert a.keys() == b.keys()
    for name, value in a.items():
        np.testing.assert_array_equal(value, b[name], err_msg=name)


def test_killed_pretraining_resumes_to_the_same_weights(
    pretrained: Path, faces: Path, tmp_path: Path
) -> None:
    out = tmp_path / "killed"
    command = [
        sys.executable, "-m", "sspl", "pretrain", "--settings", pretrained / "settings.yaml",
        "--out", out,
    ]  # fmt: skip
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        while not (out / "state.safetensors").exists():
            assert process.poll() is None, "finished before it could be killed"
        process.send_signal(signal.SIGKILL)
    finally:
        process.kill()
        process.wait()
    assert not (out / "pretrained.safetensors").exists()
    from sspl.training.loop import Loop

    original, epochs = Loop.epoch, []

    def recorded(self: Loop[Any], epoch: int) -> None:
        epochs.append(epoch)
        original(self, epoch)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Loop, "epoch", recorded)
        sspl("pretrain", "--settings", pretrained / "settings.yaml", "--out", out, "--resume")
    # It goes on after the last finished epoch: starting anew would end alike, but lose the work.
    assert 0 not in epochs
    assert_same_weights(out / "pretrained.safetensors", pretrained / "pretrained.safetensors")


def test_pretraining_stopped_inside_an_epoch_resumes_to_the_same_weights_and_log(
    pretrained: Path, faces: Path, tmp_path: Path
) -> None:
    """84 faces in batches of 16 are 5 steps; the run is stopped in step 4 of epoch 2."""
    from sspl.training import loop

    out = tmp_path / "stopped"
    command = ("pretrain", "--settings", pretrained / "settings.yaml", "--out", out, "save_every=2")
    original = loop.back_propagate
    steps: list[str] = []

    def stopped(*arguments: Any) -> None:
        steps.append(arguments[1])
        if steps[-1] == "epoch 2, step 4" and len(steps) == 9:
            raise KeyboardInterrupt
        original(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "back_propagate", stopped)
        result = CliRunner().invoke(cli, [str(a) for a in command], standalone_mode=False)
        assert isinstance(result.exception, click.exceptions.Abort | KeyboardInterrupt)
        sspl(*command, "--resume")
    # Step 3 was not saved, so it is the first to be done again.
    assert steps[9:12] == ["epoch 2, step 3", "epoch 2, step 4", "epoch 2, step 5"]
    assert_same_weights(out / "pretrained.safetensors", pretrained / "pretrained.safetensors")
    assert (out / "metrics.csv").read_text() == (pretrained / "metrics.csv").read_text()


@pytest.fixture(scope="session")
def semi_supervised(
    faces: Path, pretrained: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Like `finetuned`, with a teacher, unlabelled faces and features pooled by region."""
    out = tmp_path_factory.mktemp("semi") / "run"
    learn(
        "finetune",
        f"celeba:{faces}",
        out,
        "--from",
        pretrained,
        "--labels",
        30,
        *TINY,
        "optim.epochs=4",
        "evaluate_every=1",
        "ema=0.9",
        "consistency.weight=1",
        "consistency.threshold=0.6",
        "head.pooling=regions",
        f"consistency.data=[{{format: folder, root: {faces / 'img_align_celeba'}}}]",
    )
    return out


def test_unlabelled_faces_take_part(semi_supervised: Path) -> None:
    rows = list(csv.DictReader((semi_supervised / "metrics.csv").open()))
    assert all(float(row["consistency_loss"]) > 0 for row in rows)
    state = load_file(semi_supervised / "state.safetensors")
    kept = load_file(semi_supervised / "model.safetensors")
    epoch = json.loads((semi_supervised / "metrics.json").read_text())["best"]["epoch"]
    # The averaged weights are what is kept; those of the last epoch where that was the best.
    weight = "head.weight"
    assert not np.array_equal(kept[weight], state[f"network.network.{weight}"])
    same = np.array_equal(kept[weight], state[f"network.average.module.{weight}"])
    assert same == (epoch == 4)


def test_unlabelled_faces_change_what_is_learnt(semi_supervised: Path, tmp_path: Path) -> None:
    again = tmp_path / "run"
    settings = semi_supervised / "settings.yaml"
    sspl("finetune", "--settings", settings, "--out", again, "consistency.weight=3")
    weight = "network.network.backbone.stem.0.weight"
    one, other = (load_file(run / "state.safetensors")[weight] for run in (semi_supervised, again))
    assert not np.array_equal(one, other)


@pytest.mark.parametrize("which", ["finetuned", "semi_supervised"])
def test_interrupted_finetuning_resumes_to_the_same_model(
    which: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """A run that stops after two of four epochs and goes on ends where an undisturbed one does."""
    finetuned: Path = request.getfixturevalue(which)
    from sspl.settings import build, read_settings
    from sspl.training import finetune as stage2
    from sspl.training.loop import Loop
    from sspl.training.stage_settings import FinetuneSettings

    out = tmp_path / "resumed"
    settings = build(FinetuneSettings, read_settings(finetuned / "settings.yaml"))
    original = Loop.epoch
    epochs: list[int] = []

    def interrupted(self: Loop[Any], epoch: int) -> None:
        epochs.append(epoch)
        if epochs == [0, 1, 2]:
            raise KeyboardInterrupt
        original(self, epoch)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Loop, "epoch", interrupted)
        with pytest.raises(KeyboardInterrupt):
            stage2.finetune(settings, out)
        sspl("finetune", "--settings", finetuned / "settings.yaml", "--out", out, "--resume")
    # It goes on after the last finished epoch: starting anew would end alike, but lose the work.
    assert epochs == [0, 1, 2, 2, 3]
    assert_same_weights(out / "model.safetensors", finetuned / "model.safetensors")
    assert (out / "metrics.csv").read_text() == (finetuned / "metrics.csv").read_text()


def test_finetuning_selects_on_validation_and_saves_its_labels(finetuned: Path) -> None:
    summary = json.loads((finetuned / "metrics.json").read_text())
    rows = list(csv.DictReader((finetuned / "metrics.csv").open()))
    figure = f"val/{summary['selected_by']}"
    best = max(float(row[figure]) for row in rows)
    assert summary["best"][figure] == pytest.approx(best)
    labelled = (finetuned / "labelled.txt").read_text().split()
    assert len(labelled) == len(set(labelled)) == 40
    validation = set((finetuned / "validation.txt").read_text().split())
    assert not validation & set(labelled)


def test_evaluate_agrees_with_predict(finetuned: Path, faces: Path, tmp_path: Path) -> None:
    """Accuracy worked out from the prediction file is the accuracy that evaluate reports."""
    printed = sspl("evaluate", finetuned, "--split", "test", "--resamples", 200).output
    assert "95 % intervals from 200 resamples of 24 faces" in printed
    out = tmp_path / "predictions.csv"
    sspl("predict", finetuned, faces / "img_align_celeba", "--out", out, "--batch-size", 7)
    predicted = {row["image"]: row for row in csv.DictReader(out.open())}
    lines = (faces / "list_attr_celeba.txt").read_text().splitlines()
    names = lines[1].split()
    split = dict(
        row.split() for row in (faces / "list_eval_partition.txt").read_text().splitlines()
    )
    report = json.loads((finetuned / "evaluation-test.json").read_text())
    hits = dict.fromkeys(names, 0)
    test = [line.split() for line in lines[2:] if split[line.split()[0]] == "2"]
    for image, *values in test:
        for name, value in zip(names, values, strict=True):
            hits[name] += int(predicted[image][name] == ("1" if value == "1" else "0"))
            decided = float(predicted[image][f"{name}_probability"]) >= 0.5
            assert decided == (predicted[image][name] == "1")
    for name in names:
        assert report["attributes"][name]["accuracy"] == pytest.approx(hits[name] / len(test))
    low, high = report["intervals"]["mean"]["accuracy"]
    assert low <= report["mean"]["accuracy"] <= high
    with (finetuned / "evaluation-test.csv").open() as file:
        first = next(csv.DictReader(file))
    assert float(first["accuracy_low"]) <= float(first["accuracy"])
    kept = load_predictions(finetuned / "predictions-test.npz")
    assert kept.names == tuple(image for image, *_ in test)
    assert kept.attributes == tuple(names)
    np.testing.assert_array_equal(kept.labels, [[v == "1" for v in row] for _, *row in test])
    told = [[float(predicted[i][f"{n}_probability"]) for n in names] for i in kept.names]
    np.testing.assert_allclose(kept.probabilities, told, atol=6e-5)


def test_labels_in_a_csv_without_splits_hold_some_out(
    faces: Path, pretrained: Path, tmp_path: Path
) -> None:
    """The engineer's case: a folder and a CSV; validation faces come out of the labelled ones."""
    table = tmp_path / "labels.csv"
    rows = [(f"{i:06d}.jpg", str(i % 2), "" if i % 3 else "true") for i in range(1, 41)]
    with table.open("w", newline="") as file:
        csv.writer(file).writerows([("image", "Smiling", "Bald"), *rows])
    out = tmp_path / "run"
    spec = f"csv:{table},images={faces / 'img_align_celeba'}"
    learn("finetune", spec, out, "--from", "none", *TINY, "optim.epochs=2")
    labelled = set((out / "labelled.txt").read_text().split())
    validation = set((out / "validation.txt").read_text().split())
    assert len(labelled) == 32
    assert len(validation) == 8
    assert not labelled & validation
    assert labelled | validation == {name for name, *_ in rows}


def test_undefined_labels_of_maad_stay_out_from_loss_to_report(faces: Path, tmp_path: Path) -> None:
    """Yes, no and undefined by turns; every count is made from the table itself."""
    values = {
        f"{i:06d}.jpg": [("1", "-1", "0")[(i + a) % 3] for a in range(2)] for i in range(1, 121)
    }
    table, splits = tmp_path / "MAAD_Face.csv", tmp_path / "split.csv"
    rows = [",".join([name, str(i), *marks]) for i, (name, marks) in enumerate(values.items())]
    table.write_text("\n".join(["Filename,Identity,Smiling,Bald", *rows]) + "\n")
    names = list(values)
    parts = {"train": names[:60], "val": names[60:90], "test": names[90:]}
    lines = [f"{name},{part}" for part, its in parts.items() for name in its]
    splits.write_text("\n".join(["name,split", *lines]) + "\n")
    spec = f"maad:{table},images={faces / 'img_align_celeba'},split_file={splits}"
    out = tmp_path / "run"
    learn("finetune", spec, out, "--from", "none", "--labels", 20, *TINY, "optim.epochs=2")
    sspl("evaluate", out, "--split", "test")

    labelled = (out / "labelled.txt").read_text().split()
    assert len(labelled) == 20
    assert set(labelled) <= set(parts["train"])
    with (out / "evaluation-test.csv").open(newline="") as file:
        found = {row["name"]: row for row in csv.DictReader(file)}
    rates = load_model(out).training_rates
    for a, attribute in enumerate(("Smiling", "Bald")):
        known = [values[name][a] for name in labelled if values[name][a] != "0"]
        assert rates[a] == pytest.approx(known.count("1") / len(known))
        marks = [values[name][a] for name in parts["test"]]
        assert int(found[attribute]["positives"]) == marks.count("1") == 10
        assert int(found[attribute]["negatives"]) == marks.count("-1") == 10


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from click.testing import CliRunner; from sspl.cli.main import cli;"
        "assert CliRunner().invoke(cli, ['--help']).exit_code == 0;"
        "heavy = ('torch', 'sklearn', 'matplotlib', 'pydantic', 'PIL');"
        "print([m for m in heavy if m in sys.modules])"
    )
    output = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert output.stdout.strip() == "[]"


def test_bad_input_exits_with_2_and_no_traceback(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sspl", "pretrain", "--data", "celeba:nowhere", "--out"]
    output = subprocess.run([*command, tmp_path / "x"], capture_output=True, text=True, check=False)
    assert output.returncode == 2
    assert output.stderr.startswith("Error: ")
    assert "nowhere" in output.stderr
    assert "Traceback" not in output.stderr
    assert not (tmp_path / "x").exists()


def test_unknown_setting_names_itself_and_what_is_allowed(faces: Path, tmp_path: Path) -> None:
    sentence = refused("pretrain", "--data", faces, "--out", tmp_path / "x", "optim.epoch=3")
    assert "optim.epoch" in sentence
    assert "epochs" in sentence


def test_truncated_picture_is_named(faces: Path, tmp_path: Path) -> None:
    copy = tmp_path / "faces"
    shutil.copytree(faces, copy)
    victim = copy / "img_align_celeba" / "000001.jpg"
    victim.write_bytes(victim.read_bytes()[:300])
    sentence = refused(
        "finetune",
        "--preset",
        "demo",
        "--data",
        copy,
        "--from",
        "none",
        "--out",
        tmp_path / "x",
        *TINY,
    )
    assert str(victim) in sentence


def test_mask_of_another_size_is_named(faces: Path, tmp_path: Path) -> None:
    masks = tmp_path / "masks"
    shutil.copytree(faces / "masks", masks)
    with Image.open(masks / "000001.png") as mask:
        mask.resize((20, 20), Image.Resampling.NEAREST).save(masks / "000001.png")
    sentence = refused(
        "pretrain",
        "--preset",
        "demo",
        "--data",
        f"{faces},masks={masks}",
        "--out",
        tmp_path / "x",
        *TINY,
    )
    assert "20 x 20" in sentence
    assert "48 x 48" in sentence
    assert "000001.png" in sentence


def test_missing_masks_are_refused_only_where_a_task_needs_them(
    faces: Path, tmp_path: Path
) -> None:
    sentence = refused("pretrain", "--preset", "demo", "--data", faces, "--out", tmp_path / "x")
    assert "masks" in sentence
    learn(
        "pretrain",
        faces,
        tmp_path / "y",
        *TINY,
        "tasks=[prt]",
        "task.prt.patch_size=32",
        "optim.epochs=1",
    )
    assert (tmp_path / "y" / "pretrained.safetensors").exists()


def test_evaluating_without_an_attribute_is_refused(
    finetuned: Path, faces: Path, tmp_path: Path
) -> None:
    table = tmp_path / "labels.csv"
    table.write_text("image,Smiling\n000001.jpg,1\n")
    spec = f"csv:{table},images={faces / 'img_align_celeba'}"
    sentence = refused("evaluate", finetuned, "--data", spec, "--split", "all")
    assert "no labels for the model's attribute" in sentence


def test_a_run_folder_is_never_overwritten(pretrained: Path, faces: Path) -> None:
    before = (pretrained / "metrics.csv").read_bytes()
    data = f"celeba:{faces},masks={faces / 'masks'}"
    sentence = refused("pretrain", "--preset", "demo", "--data", data, "--out", pretrained, *TINY)
    assert "already holds a run" in sentence
    sentence = refused(
        "pretrain",
        "--preset",
        "demo",
        "--data",
        data,
        "--out",
        pretrained,
        *TINY,
        "--resume",
        "seed=9",
    )
    assert "other settings" in sentence
    assert (pretrained / "metrics.csv").read_bytes() == before


def test_a_loss_that_is_no_number_stops_the_run_and_keeps_the_checkpoint(
    pretrained: Path, faces: Path, tmp_path: Path
) -> None:
    import torch

    from sspl.errors import TrainingError
    from sspl.settings import build, read_settings
    from sspl.tasks.pct import PatchClassification
    from sspl.training.pretrain import pretrain as stage1
    from sspl.training.stage_settings import PretrainSettings

    settings = build(PretrainSettings, read_settings(pretrained / "settings.yaml"))
    original = PatchClassification.forward
    calls = 0

    def poisoned(self: PatchClassification, *arguments: object) -> object:
        nonlocal calls
        calls += 1
        result = original(self, *arguments)  # type: ignore[arg-type]
        if calls == 8:
            object.__setattr__(result, "loss", result.loss * torch.nan)
        return result

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PatchClassification, "forward", poisoned)
        with pytest.raises(TrainingError, match="nan"):
            stage1(settings, tmp_path / "run")
    rows = list(csv.DictReader((tmp_path / "run" / "metrics.csv").open()))
    assert [row["epoch"] for row in rows] == ["1"]


def test_options_that_would_be_ignored_are_refused(
    finetuned: Path, parser: Path, faces: Path, tmp_path: Path
) -> None:
    pictures = f"{faces / 'img_align_celeba'},crop=celeba"
    assert "leave crop out" in refused("predict", finetuned, pictures, "--out", tmp_path / "p.csv")
    assert "leave crop out" in refused("parser", "run", parser, pictures, "--out", tmp_path / "m")
    labelled = f"celeba:{faces},masks={faces / 'masks'}"
    assert "leave masks out" in refused("evaluate", finetuned, "--data", labelled)


def test_masks_of_two_parsers_are_not_mixed(parser: Path, faces: Path, tmp_path: Path) -> None:
    out = tmp_path / "masks"
    out.mkdir()
    (out / "parser.json").write_text('{"parser": "another", "taxonomy": "celebamask19"}')
    sentence = refused("parser", "run", parser, faces / "img_align_celeba", "--out", out)
    assert "another parser" in sentence
    assert [p.name for p in out.iterdir()] == ["parser.json"]


def test_both_stages_can_start_from_a_file_of_backbone_weights(
    pretrained: Path, faces: Path, tmp_path: Path
) -> None:
    """With next to no learning, or a frozen backbone, what was in the file is what comes out."""
    source = pretrained / "pretrained.safetensors"
    start = {n: t for n, t in load_file(source).items() if n.startswith("backbone.")}
    given = f"backbone_weights={source}"
    pretrain(faces, tmp_path / "one", given, "optim.lr=1e-12", "tasks=[pct]", "optim.epochs=1")
    learn(
        "finetune",
        f"celeba:{faces}",
        tmp_path / "two",
        "--from",
        "none",
        "--labels",
        40,
        *TINY,
        "optim.epochs=1",
        "freeze=5",
        given,
    )
    for file in ("one/pretrained.safetensors", "two/model.safetensors"):
        tensors = load_file(tmp_path / file)
        for name, tensor in start.items():
            if "running" not in name and "tracked" not in name:
                np.testing.assert_allclose(tensors[name], tensor, atol=1e-8, err_msg=name)
