"""Whether the fast way of training costs accuracy: validation curves of both ways.

    python benchmarks/precision.py --labelled celeba:FOLDER,crop=celeba --labels 275 --subsets 3
        --unlabelled celeba:FOLDER,masks=MASKS,crop=celeba --out OUT
        [--stage1 optim.epochs=10] [--stage2 optim.epochs=40]

`plain` is fp32, contiguous and with torch's own PReLU and updates (`plain.py`), `as shipped` what
the settings say. Both have the same settings, seeds and label subsets, in stage 1 (with
--unlabelled) and in stage 2, and are judged on the validation faces alone. Writes curves.csv,
curves.png and precision.txt; an interrupted benchmark goes on where it stopped.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

import click
import numpy as np
from curves import FIGURES, Curve, draw
from curves import curve as validated_epochs
from plain import fp32, plainly

from sspl.data.data_settings import DataSettings, parse_data_spec
from sspl.evaluation.comparison import finetune_subset, spread
from sspl.io.files import write_csv, write_text
from sspl.io.run_files import PRETRAINED_FILE, SETTINGS_FILE
from sspl.settings import build, merge
from sspl.training.pretrain import pretrain
from sspl.training.stage_settings import FinetuneSettings, PretrainSettings, preset

WAYS = ("as shipped", "plain")


@contextmanager
def going(way: str) -> Iterator[None]:
    manner: AbstractContextManager[object] = plainly() if way == "plain" else nullcontext()
    with manner:
        yield


def pretrained(way: str, settings: PretrainSettings, folder: Path) -> Path:
    """Return the folder of the way's stage 1, run unless it is there."""
    if way == "plain":
        settings = fp32(settings)
    if not (folder / PRETRAINED_FILE).exists():
        with going(way):
            pretrain(settings, folder, resume=(folder / SETTINGS_FILE).exists())
    return folder


def curve(
    way: str,
    settings: FinetuneSettings,
    data: DataSettings,
    source: Path | None,
    labels: int,
    subset: int,
    out: Path,
) -> Curve:
    """Return the validated epochs of one label subset, run unless they are there."""
    if way == "plain":
        settings = fp32(settings)
    with going(way):
        content = settings.model_dump(mode="json")
        folder = finetune_subset(content, data, source, labels, subset, out)
    return validated_epochs(folder)


def table(curves: dict[str, list[Curve]]) -> str:
    """Return mean and spread of each way's best epochs, and of the difference, in percent."""
    best = {
        way: {f: [max(float(row[f]) for row in rows) for rows in found] for f in FIGURES}
        for way, found in curves.items()
    }
    lines = [f"{'best epoch':<24}" + "".join(f"{f:>24}" for f in FIGURES)]
    for way, figures in best.items():
        lines.append(f"{way:<24}" + "".join(f"{spread(figures[f]):>24}" for f in FIGURES))
    apart = [np.subtract(best["as shipped"][f], best["plain"][f]).tolist() for f in FIGURES]
    lines.append(f"{'difference by subset':<24}" + "".join(f"{spread(a):>24}" for a in apart))
    return "\n".join(lines)


@click.command()
@click.option("--labelled", "spec", required=True)
@click.option("--unlabelled", "specs", multiple=True, help="With masks; none: from scratch.")
@click.option("--labels", type=click.IntRange(2), default=275, show_default=True)
@click.option("--subsets", type=click.IntRange(1), default=3, show_default=True)
@click.option("--preset", "name", default="small", show_default=True)
@click.option("--stage1", multiple=True, metavar="KEY=VALUE")
@click.option("--stage2", multiple=True, metavar="KEY=VALUE")
@click.option("--out", type=click.Path(path_type=Path), required=True)
def main(
    spec: str,
    specs: tuple[str, ...],
    labels: int,
    subsets: int,
    name: str,
    stage1: tuple[str, ...],
    stage2: tuple[str, ...],
    out: Path,
) -> None:
    labelled = parse_data_spec(spec).absolute()
    unlabelled = [parse_data_spec(s).absolute().model_dump(mode="json") for s in specs]
    content = merge(preset(name, "pretrain"), {"data": unlabelled})
    first = build(PretrainSettings, content, stage1)
    second = build(FinetuneSettings, preset(name, "finetune"), stage2)
    curves: dict[str, list[Curve]] = {way: [] for way in WAYS}
    for way, found in curves.items():
        folder = out / way.replace(" ", "-")
        source = pretrained(way, first, folder / "pretrain").absolute() if specs else None
        for subset in range(subsets):
            found.append(curve(way, second, labelled, source, labels, subset, folder))
    cells = [
        (way, subset, row["epoch"], *(row[f] for f in FIGURES))
        for way, found in curves.items()
        for subset, rows in enumerate(found)
        for row in rows
    ]
    write_csv(out / "curves.csv", ("way", "subset", "epoch", *FIGURES), cells)
    draw([curves], [""], out / "curves.png")
    text = table(curves)
    write_text(out / "precision.txt", text + "\n")
    click.echo(text)


if __name__ == "__main__":
    main()
