"""What settings of stage 2 are worth, on the validation faces of several label subsets.

    python benchmarks/recipes.py --data celeba:FOLDER,crop=celeba --from PRETRAIN_RUN --out OUT \\
        --labels 275 --subsets 3 --try '' --try ema=0.99 --try 'loss.name=asymmetric head_lr=10'

Each `--try` is a list of settings laid over the preset, the empty one the preset itself. All share
subsets, seeds and budget, and are judged by the best epoch on the validation faces; the test split
is never opened. `--select-by` says what makes an epoch the best; some losses are after another
figure than accuracy. Finished runs are not run again, for another `--select-by` either; an
interrupted benchmark goes on where it stopped.
"""

import hashlib
from pathlib import Path

import click
from curves import curve
from decisions import FIGURES, table

from sspl.data.data_settings import parse_data_spec
from sspl.evaluation.comparison import finetune_subset
from sspl.io.files import write_csv, write_text
from sspl.settings import build
from sspl.training.stage_settings import FinetuneSettings, preset


def best_epoch(run: Path, figure: str) -> dict[str, float]:
    """Return the validation figures of the run's best epoch, the earliest of equals."""
    best = max(curve(run), key=lambda row: float(row[f"val/{figure}"]))
    return {f: float(best[f"val/{f}"]) for f in FIGURES}


def folder_name(tried: str) -> str:
    """Return a short name for a list of settings, the same for the same list."""
    digest = hashlib.sha256(" ".join(tried.split()).encode()).hexdigest()[:8]
    return f"recipe-{digest}" if tried.strip() else "preset"


@click.command()
@click.option("--data", "spec", required=True)
@click.option("--from", "source", required=True, help="Run folder of stage 1, or none.")
@click.option("--labels", type=click.IntRange(2), default=275, show_default=True)
@click.option("--subsets", type=click.IntRange(1), default=3, show_default=True)
@click.option("--preset", "preset_name", default="small", show_default=True)
@click.option("--try", "tried", multiple=True, required=True, metavar="'KEY=VALUE ...'")
@click.option("--select-by", type=click.Choice(FIGURES), default=FIGURES[0], show_default=True)
@click.option("--out", type=click.Path(path_type=Path), required=True)
def main(
    spec: str,
    source: str,
    labels: int,
    subsets: int,
    preset_name: str,
    tried: tuple[str, ...],
    select_by: str,
    out: Path,
) -> None:
    data = parse_data_spec(spec).absolute()
    start = None if source == "none" else Path(source).absolute()
    rows: dict[str, list[dict[str, float]]] = {}
    for settings in tried:
        stage2 = build(FinetuneSettings, preset(preset_name, "finetune"), settings.split())
        content = stage2.model_dump(mode="json")
        folder = out / folder_name(settings)
        title = settings.strip() or f"preset {preset_name}"
        runs = [
            finetune_subset(content, data, start, labels, s, folder / f"labels-{labels}")
            for s in range(subsets)
        ]
        rows[title] = [best_epoch(run, select_by) for run in runs]
        click.echo(table({title: rows[title]}, f"{labels} labels, validation"))
    text = table(rows, f"{labels} labels, validation, by {select_by}")
    cells = [
        (title, subset, *(round(cell[f], 6) for f in FIGURES))
        for title, found in rows.items()
        for subset, cell in enumerate(found)
    ]
    write_csv(out / f"recipes-{select_by}.csv", ("settings", "subset", *FIGURES), cells)
    write_text(out / f"recipes-{select_by}.txt", text + "\n")
    click.echo(text)


if __name__ == "__main__":
    main()
