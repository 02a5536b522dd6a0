"""What ways of stage 1 are worth over several seeds: linear probes on their frozen features.

    python benchmarks/stage1.py --data celeba:FOLDER,crop=celeba [--labels 27 --labels 275] \\
        [--record FILE] pst+pct=pair-0,pair-1,pair-2 all=all-0,all-1,all-2

Each way is named with its runs of stage 1, one a seed, in the same order. A linear probe learns
from label subsets of each size and is judged on the validation faces; no test face is opened.
Beside the means over seeds (of each the mean over subsets) stands the difference from the first
way, seed by seed, with its 95 % interval by Student's t; with one seed there is none.
"""

from pathlib import Path
from typing import Any, Final

import click
import numpy as np
from decisions import FIGURES
from numpy.typing import NDArray
from scipy.special import expit
from scipy.stats import t as student

from sspl.data.data_settings import DataSettings, parse_data_spec
from sspl.data.records import FaceSet
from sspl.data.subsets import label_subset
from sspl.device import pick_device
from sspl.io.files import write_json
from sspl.metrics.attributes import all_figures, means, positive_rates
from sspl.models.feature_cache import compute_features
from sspl.study.features import network_extractor, some_canvases
from sspl.study.probes import fit_probe
from sspl.training.feature_settings import LinearSettings
from sspl.training.feature_source import load_source
from sspl.training.linear_heads import LabelledFeatures

COUNTS: Final = (27, 55, 275, 1099)
SUBSETS: Final = 3
Figures = NDArray[np.float64]


def features_of(run: Path, data: DataSettings, *parts: FaceSet) -> list[NDArray[np.float32]]:
    """Return a run's features of faces; what they are standardised by comes from the first."""
    source, box = load_source(run), data.box_of(parts[0])
    plain = some_canvases(parts[0], box, source.canvas)
    extract = network_extractor(
        source.network, plain, source.input_size, True, pick_device("auto"), "auto"
    )
    return [compute_features(extract, part, box, source.canvas, "features") for part in parts]


def judged(run: Path, data: DataSettings, counts: tuple[int, ...]) -> Figures:
    """Return the validation figures of a run's probes, float64 (counts, figures)."""
    faces = data.open()
    train, val = faces.split("train"), faces.split("val")
    learnt, looked = features_of(run, data, train, val)
    shown = LabelledFeatures(looked, val.labels)
    rows = []
    for count in counts:
        found = []
        for subset in range(SUBSETS):
            chosen = label_subset(train.labels, count, fraction=None, rule="seeded", seed=subset)
            labels = train.labels[chosen]
            fitted = LabelledFeatures(learnt[chosen], labels)
            probe = fit_probe(LinearSettings(), fitted, shown, FIGURES[0], False)
            figures = means(
                all_figures(
                    val.schema.names,
                    val.labels,
                    expit(probe.predict(looked)),
                    positive_rates(labels),
                )
            )
            found.append([float(figures[f] or np.nan) for f in FIGURES])
        rows.append(np.mean(found, axis=0))
    return np.array(rows)


def differences(ways: dict[str, list[Figures]]) -> dict[str, tuple[Figures, Figures | None]]:
    """Return of each way but the first the mean difference and half its interval's width."""
    first, *others = ways
    found: dict[str, tuple[Figures, Figures | None]] = {}
    for way in others:
        pairs = np.array(ways[way]) - np.array(ways[first])[: len(ways[way])]
        n, half = len(pairs), None
        if n > 1:
            half = student.ppf(0.975, n - 1) * pairs.std(0, ddof=1) / n**0.5
        found[way] = pairs.mean(0), half
    return found


def report(ways: dict[str, list[Figures]], counts: tuple[int, ...]) -> str:
    """Return the tables, one a label count, in percent."""
    apart, lines = differences(ways), []
    for row, count in enumerate(counts):
        titles = "".join(f"{f.replace('_', ' '):>34}" for f in FIGURES)
        lines.append(f"{f'validation, {count} labels':<24}{titles}")
        for way, runs in ways.items():
            here = 100 * np.array(runs)[:, row]
            cells = []
            for i, (mean, spread) in enumerate(zip(here.mean(0), here.std(0), strict=True)):
                cell = f"{mean:.2f} +- {spread:.2f}"
                if way in apart:
                    difference, half = (None if x is None else 100 * x[row, i] for x in apart[way])
                    assert difference is not None
                    cell += f" ({difference:+.2f}" + (f" +- {half:.2f})" if half else ")")
                cells.append(f"{cell:>34}")
            lines.append(f"{f'{way}, {len(runs)} seeds':<24}{''.join(cells)}")
        lines.append("")
    return "\n".join(lines)


@click.command()
@click.argument("ways", nargs=-1, required=True)
@click.option("--data", "spec", required=True)
@click.option("--labels", "counts", type=click.IntRange(2), multiple=True, default=COUNTS)
@click.option("--record", type=click.Path(path_type=Path, dir_okay=False))
def main(ways: tuple[str, ...], spec: str, counts: tuple[int, ...], record: Path | None) -> None:
    data = parse_data_spec(spec).absolute()
    found: dict[str, list[Figures]] = {}
    for way in ways:
        name, _, runs = way.partition("=")
        found[name] = [judged(Path(run), data, counts) for run in runs.split(",")]
        click.echo(f"{name} done", err=True)
    click.echo(report(found, counts))
    if record is not None:
        content: dict[str, Any] = {
            name: {
                str(count): [dict(zip(FIGURES, run[row].tolist(), strict=True)) for run in runs]
                for row, count in enumerate(counts)
            }
            for name, runs in found.items()
        }
        write_json(record, {"ways": content, "subsets": SUBSETS, "split": "val"})


if __name__ == "__main__":
    main()
