"""What settings of stage 2 are worth, on the validation faces of several label subsets.

    python benchmarks/recipes.py --data celeba:FOLDER,crop=celeba --from PRETRAIN_RUN --out OUT \\
        --labels 275 --subsets 3 --try '' --try ema=0.99 --try 'loss.name=asymmetric head_lr=10'

Each `--try` is a list of settings laid over the preset, the empty one the preset itself. All share
subsets, seeds and budget, and are judged by the best epoch on the validation faces; the test split
is never opened. An interrupted benchmark goes on where it stopped.
"""

import hashlib
from pathlib import Path

import click
from decisions import FIGURES, table, validated

from sspl.data.settings import parse_data_spec
from sspl.files import write_csv, write_text
from sspl.settings import build
from sspl.training.settings import FinetuneSettings, preset


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
@click.option("--out", type=click.Path(path_type=Path), required=True)
def main(
    spec: str, source: str, labels: int, subsets: int, preset_name: str, tried: tuple[str, ...],
    out: Path,
) -> None:  # fmt: skip
    data = parse_data_spec(spec).absolute()
    start = None if source == "none" else Path(source).absolute()
    rows: dict[str, list[dict[str, float]]] = {}
    for settings in tried:
        stage2 = build(FinetuneSettings, preset(preset_name, "finetune"), settings.split())
        content = stage2.model_dump(mode="json")
        folder = out / folder_name(settings)
        title = settings.strip() or f"preset {preset_name}"
        rows[title] = [
            validated(start, content, data, labels, subset, folder) for subset in range(subsets)
        ]
        click.echo(table({title: rows[title]}, f"{labels} labels, validation"))
    cells = [
        (title, subset, *(round(cell[f], 6) for f in FIGURES))
        for title, found in rows.items()
        for subset, cell in enumerate(found)
    ]
    write_csv(out / "recipes.csv", ("settings", "subset", *FIGURES), cells)
    text = table(rows, f"{labels} labels, validation")
    write_text(out / "recipes.txt", text + "\n")
    click.echo(text)


if __name__ == "__main__":
    main()
