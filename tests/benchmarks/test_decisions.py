"""`benchmarks/decisions.py`: each choice changes one thing, and finished cells are kept."""

import csv
from pathlib import Path
from types import ModuleType

import pytest
from click.testing import CliRunner

from shared import import_file
from sspl.data.synthetic import write_synthetic
from sspl.evaluation import comparison
from sspl.settings import build, merge
from sspl.training.stage_settings import PretrainSettings, preset

FILE = Path(__file__).resolve().parents[2] / "benchmarks" / "decisions.py"


@pytest.fixture(scope="module")
def decisions() -> ModuleType:
    return import_file(FILE)


def leaves(content: dict[str, object], path: str = "") -> dict[str, object]:
    found: dict[str, object] = {}
    for key, value in content.items():
        if isinstance(value, dict):
            found |= leaves(value, f"{path}{key}.")
        else:
            found[path + key] = value
    return found


def test_each_choice_differs_from_the_decided_one_in_one_setting(decisions: ModuleType) -> None:
    def resolved(choice: str) -> dict[str, object]:
        content = merge(preset("small", "pretrain"), decisions.CHOICES[choice])
        return leaves(build(PretrainSettings, content).model_dump())

    base = resolved("as-decided")
    changed = {}
    for choice in list(decisions.CHOICES)[1:]:
        other = resolved(choice)
        (key,) = (k for k in base if base[k] != other[k])
        changed[choice] = (key, other[key])
    assert changed == {
        "angle-zero-labelled": ("task.prt.angle_zero", "label"),
        "averages-shared": ("task.prt.norm_averages", "shared"),
        "norms-separate": ("task.prt.norm_averages", "separate"),
        "crop-of-the-reference": ("geometry.scale", (0.4375, 0.4375)),
    }


@pytest.mark.slow
def test_it_judges_on_validation_and_goes_on_where_it_stopped(
    decisions: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    faces = tmp_path / "faces"
    write_synthetic(faces, 60, 1, 48)
    partition = faces / "list_eval_partition.txt"
    # Were a test face needed, there is none.
    kept = [row.replace(" 2", " 0") for row in partition.read_text().splitlines()]
    partition.write_text("\n".join(kept) + "\n")
    tiny = (
        "canvas=48",
        "input_size=32",
        "backbone={width: 0.125, stem_stride: 2}",
        "segmentation={maps: 1, width: 8}",
        "optim.epochs=1",
    )
    arguments = [
        "--unlabelled", f"celeba:{faces},masks={faces / 'masks'}", "--labelled", f"celeba:{faces}",
        "--labels", "16", "--subsets", "2", "--preset", "demo", "--out", str(tmp_path / "out"),
        "--choice", "as-decided", "--choice", "norms-separate",
        *(a for o in tiny for a in ("--stage1", o)), *(a for o in tiny for a in ("--stage2", o)),
        "--stage1", "task.prt.patch_size=16", "--stage1", "optim.batch_size=16",
    ]  # fmt: skip
    result = CliRunner().invoke(decisions.main, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    cells = list(csv.DictReader((tmp_path / "out" / "decisions.csv").open()))
    assert [(c["choice"], c["subset"]) for c in cells] == [
        ("as-decided", "0"),
        ("as-decided", "1"),
        ("norms-separate", "0"),
        ("norms-separate", "1"),
    ]
    # Only the cell whose folder is gone is run again.
    gone = tmp_path / "out" / "norms-separate" / "seed-0" / "labels-16" / "subset-1"
    gone.rename(tmp_path / "gone")
    runs: list[Path] = []
    original = comparison.finetune

    def recorded(settings: object, folder: Path, resume: bool) -> object:
        runs.append(folder)
        return original(settings, folder, resume)

    monkeypatch.setattr(comparison, "finetune", recorded)
    monkeypatch.delattr(decisions, "pretrain")
    again = CliRunner().invoke(decisions.main, arguments, catch_exceptions=False)
    assert runs == [gone]
    assert again.stdout.splitlines()[-3:] == result.stdout.splitlines()[-3:]
