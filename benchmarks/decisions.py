"""What the open decisions of stage 1 are worth.

They are docs/method.md#do-not-repeat-5, docs/method.md#do-not-repeat-12 and
docs/method.md#do-not-repeat-15.

    python benchmarks/decisions.py --unlabelled celeba:FOLDER,masks=MASKS,crop=celeba \
        --labelled celeba:FOLDER,crop=celeba --labels 275 --subsets 3 --out OUT \
        --stage1 optim.epochs=15 --stage2 optim.epochs=40

Each choice is pre-trained and fine-tuned under the same budget, seeds and label subsets, and
judged on the validation faces that selected the epoch; the test split is never opened, so that a
choice made here leaves it unseen. An interrupted benchmark goes on where it stopped, cell by cell;
with --choice several machines can share the work.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from sspl.data.data_settings import DataSettings, parse_data_spec
from sspl.evaluation.comparison import finetune_subset, spread
from sspl.io.files import write_csv, write_text
from sspl.io.run_files import METRICS_JSON, PRETRAINED_FILE, SETTINGS_FILE
from sspl.settings import build, merge
from sspl.training.pretrain import pretrain
from sspl.training.stage_settings import FinetuneSettings, PretrainSettings, preset

ALL_TASKS = {"tasks": ["prt", "pst", "pct"]}
NEAR_SCALE = ALL_TASKS | {"geometry": {"scale": [0.5, 1.0]}}
REFERENCE_SCALE = ALL_TASKS | {"geometry": {"scale": [0.4375, 0.4375]}}

# Each differs from the first in one thing.
CHOICES: dict[str, dict[str, Any]] = {
    "as-decided": NEAR_SCALE
    | {"task": {"prt": {"angle_zero": "ignore", "norm_averages": "crops"}}},
    "angle-zero-labelled": NEAR_SCALE
    | {"task": {"prt": {"angle_zero": "label", "norm_averages": "crops"}}},
    "averages-shared": NEAR_SCALE
    | {"task": {"prt": {"angle_zero": "ignore", "norm_averages": "shared"}}},
    "norms-separate": NEAR_SCALE
    | {"task": {"prt": {"angle_zero": "ignore", "norm_averages": "separate"}}},
    "crop-of-the-reference": REFERENCE_SCALE
    | {"task": {"prt": {"angle_zero": "ignore", "norm_averages": "crops"}}},
}
FIGURES = ("accuracy", "balanced_accuracy", "average_precision")


def pretrained(
    choice: str,
    preset_name: str,
    data: Sequence[DataSettings],
    overrides: Sequence[str],
    seed: int,
    out: Path,
) -> Path:
    """Return the folder of the choice's stage 1, run unless it is there."""
    folder = out / choice / f"seed-{seed}" / "pretrain"
    if not (folder / PRETRAINED_FILE).exists():
        content = merge(preset(preset_name, "pretrain"), CHOICES[choice])
        content |= {"data": [d.model_dump(mode="json") for d in data], "seed": seed}
        settings = build(PretrainSettings, content, overrides)
        pretrain(settings, folder, resume=(folder / SETTINGS_FILE).exists())
    return folder


def validated(
    source: Path | None,
    content: Mapping[str, Any],
    data: DataSettings,
    labels: int,
    subset: int,
    out: Path,
) -> dict[str, float]:
    """Return the validation figures of one label subset's best epoch, run unless they are there.

    `source` is the folder of stage 1, None to start from scratch; runs go into `out`.
    """
    folder = finetune_subset(content, data, source, labels, subset, out / f"labels-{labels}")
    best = json.loads((folder / METRICS_JSON).read_text(encoding="utf-8"))["best"]
    return {figure: best[f"val/{figure}"] for figure in FIGURES}


def table(rows: dict[str, list[dict[str, float]]], title: str) -> str:
    """Return mean and standard deviation of each choice's figures, in percent."""
    width = max(24, *(len(choice) + 2 for choice in rows))
    lines = [f"{title:<{width}}" + "".join(f"{f:>20}" for f in FIGURES)]
    for choice, cells in rows.items():
        columns = [spread([cell[figure] for cell in cells]) for figure in FIGURES]
        lines.append(f"{choice:<{width}}" + "".join(f"{c:>20}" for c in columns))
    return "\n".join(lines)


@click.command()
@click.option("--unlabelled", "specs", multiple=True, required=True, help="With masks; repeatable.")
@click.option("--labelled", "spec", required=True)
@click.option("--labels", type=click.IntRange(2), default=275, show_default=True)
@click.option("--subsets", type=click.IntRange(1), default=3, show_default=True)
@click.option("--seeds", type=click.IntRange(1), default=1, show_default=True, help="Of stage 1.")
@click.option("--preset", "preset_name", default="small", show_default=True)
@click.option("--choice", "chosen", multiple=True, type=click.Choice(list(CHOICES)))
@click.option("--stage1", multiple=True, metavar="KEY=VALUE")
@click.option("--stage2", multiple=True, metavar="KEY=VALUE")
@click.option("--out", type=click.Path(path_type=Path), required=True)
def main(
    specs: tuple[str, ...],
    spec: str,
    labels: int,
    subsets: int,
    seeds: int,
    preset_name: str,
    chosen: tuple[str, ...],
    stage1: tuple[str, ...],
    stage2: tuple[str, ...],
    out: Path,
) -> None:
    unlabelled = [parse_data_spec(s).absolute() for s in specs]
    labelled = parse_data_spec(spec).absolute()
    content = build(FinetuneSettings, preset(preset_name, "finetune"), stage2).model_dump(
        mode="json"
    )
    rows: dict[str, list[dict[str, float]]] = {}
    for choice in chosen or CHOICES:
        rows[choice] = []
        for seed in range(seeds):
            source = pretrained(choice, preset_name, unlabelled, stage1, seed, out)
            rows[choice] += [
                validated(source.absolute(), content, labelled, labels, s, source.parent)
                for s in range(subsets)
            ]
    cells = [
        (choice, number // subsets, number % subsets, *(round(cell[f], 6) for f in FIGURES))
        for choice, found in rows.items()
        for number, cell in enumerate(found)
    ]
    write_csv(out / "decisions.csv", ("choice", "seed", "subset", *FIGURES), cells)
    text = table(rows, f"{labels} labels, validation")
    write_text(out / "decisions.txt", text + "\n")
    click.echo(text)


if __name__ == "__main__":
    main()
