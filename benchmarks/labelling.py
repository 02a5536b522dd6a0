"""Whether faces that `sspl suggest` chooses are worth more labels than faces by chance.

    python benchmarks/labelling.py --data celeba:FOLDER,crop=celeba --from PRETRAIN_RUN \
        --attributes Eyeglasses,Smiling,Wearing_Hat --out OUT [--finetune 50 --finetune 200]

A labelling session is played through: faces of the training split are labelled round after round,
each round chosen with what the rounds before have told, and after each a linear probe on the frozen
features of the run is judged on the test split. No label of the test split has a part in anything
else, those of the validation split none in the probe. With `--finetune COUNT` networks are
fine-tuned on the faces of the first COUNT labels, too, in the way of each seed; the best epoch is
chosen on the validation split where there is one, whose labels are then beyond the count, alike
for every way. An interrupted benchmark goes on where it stopped.

Ways to choose: `random`; `diverse` (unlike each other and those that are labelled); `uncertain`
(the most expected errors, the first round by chance); `suggest` (as `sspl suggest` does); `mixed`
(as that, the first round by chance).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from sspl.apps.labelling.faces import images_root
from sspl.apps.labelling.features import extract
from sspl.apps.labelling.probe import opinions
from sspl.apps.labelling.selection import choose, uncertainty
from sspl.apps.labelling.suggest import box_of
from sspl.cli.label import names_in
from sspl.data.adapters.source import read_csv
from sspl.data.data_settings import DataSettings, parse_data_spec
from sspl.data.records import MISSING, FaceSet, Labels
from sspl.domain.attributes import AttributeSchema
from sspl.errors import SettingsError
from sspl.evaluation.comparison import finetune_subset, spread
from sspl.evaluation.evaluate import evaluate
from sspl.io.files import atomic_path, write_csv, write_text
from sspl.metrics.attributes import all_figures, means, positive_rates
from sspl.settings import build
from sspl.training.feature_source import load_source
from sspl.training.stage_settings import FinetuneSettings, RuntimeSettings, preset

FIGURES = ("balanced_accuracy", "average_precision")
CHANCE = "random"

Places = NDArray[np.int64]
Rule = Callable[
    [NDArray[np.float32], NDArray[np.float64], NDArray[np.bool_], int, np.random.Generator], Places
]


def by_chance(
    features: NDArray[np.float32],
    views: NDArray[np.float64],
    taken: NDArray[np.bool_],
    count: int,
    rng: np.random.Generator,
) -> Places:
    return rng.permutation(np.flatnonzero(~taken))[:count]


def diverse(
    features: NDArray[np.float32],
    views: NDArray[np.float64],
    taken: NDArray[np.bool_],
    count: int,
    rng: np.random.Generator,
) -> Places:
    return choose(features, views[:, :0], taken, count, rng)


def uncertain(
    features: NDArray[np.float32],
    views: NDArray[np.float64],
    taken: NDArray[np.bool_],
    count: int,
    rng: np.random.Generator,
) -> Places:
    left = np.flatnonzero(~taken)
    return left[np.argsort(-uncertainty(views[left]), kind="stable")[:count]]


# The first round, and all others.
WAYS: dict[str, tuple[Rule, Rule]] = {
    CHANCE: (by_chance, by_chance),
    "diverse": (diverse, diverse),
    "uncertain": (by_chance, uncertain),
    "suggest": (choose, choose),
    "mixed": (by_chance, choose),
}


@dataclass(frozen=True)
class Cell:
    """Mean figures over the attributes of one way and seed at one count of labels."""

    way: str
    seed: int
    labels: int
    judge: str
    figures: Mapping[str, float]


def session(
    features: NDArray[np.float32], truth: Labels, way: str, step: int, rounds: int, seed: int
) -> Places:
    """Play a labelling session through; return the faces in the order in which they were labelled.

    Args:
        features: (n, d) of the faces that may be labelled.
        truth: int8 (n, a), looked at for faces once they are labelled.
        way: one of `WAYS`.
        step: faces of a round.
        rounds: how many rounds.
        seed: of all that is by chance.
    """
    labels = np.full_like(truth, MISSING)
    taken = np.zeros(len(truth), dtype=bool)
    picked: list[int] = []
    for number in range(rounds):
        rule = WAYS[way][number > 0]
        views = opinions(features, labels) if number and rule is not by_chance else labels * 0.0
        new = rule(features, views, taken, step, np.random.default_rng([seed, number]))
        picked += [int(face) for face in new]
        taken[new] = True
        labels[new] = truth[new]
    return np.array(picked, dtype=np.int64)


def probed(
    features: NDArray[np.float32],
    truth: Labels,
    chosen: Places,
    test: NDArray[np.float32],
    test_truth: Labels,
    names: tuple[str, ...],
) -> dict[str, float]:
    """Return the test figures of a linear probe that learnt from the chosen faces."""
    known = truth[chosen]
    both = np.concatenate([features[chosen], test])
    unknown = np.full(test_truth.shape, MISSING, dtype=np.int8)
    views = opinions(both, np.concatenate([known, unknown]))[len(chosen) :]
    return kept(means(all_figures(names, test_truth, views, positive_rates(known))))


def kept(found: Mapping[str, float | None]) -> dict[str, float]:
    return {figure: found[figure] or float("nan") for figure in FIGURES}


def only(faces: FaceSet, attributes: tuple[str, ...]) -> FaceSet:
    """Return the faces with these attributes alone; all where none is named."""
    if not attributes:
        return faces
    columns = [faces.schema.index(name) for name in attributes]
    regions = tuple(faces.schema.regions[i] for i in columns)
    schema = AttributeSchema(attributes, regions)
    return replace(faces, schema=schema, labels=faces.labels[:, columns])


def finetuned(
    content: Mapping[str, Any],
    data: DataSettings,
    train: FaceSet,
    val: FaceSet | None,
    test: FaceSet,
    run: Path,
    out: Path,
) -> dict[str, float]:
    """Return the test figures of a network that was fine-tuned on all of `train`."""
    table = out / "labels.csv"
    parts = [("train", train), *([("val", val)] if val else [])]
    rows = [
        [face.name, split, *("" if label == MISSING else str(label) for label in face.labels)]
        for split, part in parts
        for face in part
    ]
    header = ["image", "split", *train.schema.names]
    if table.exists() and [row for _, row in read_csv(table)] != [header, *rows]:
        raise SettingsError(f"{table} names other faces than today's; choose another --out.")
    write_csv(table, header, rows)
    spec = DataSettings(format="csv", root=table, images=images_root(train), crop=data.crop)
    folder = finetune_subset(content, spec.absolute(), run.absolute(), len(train), 0, out)
    return kept(evaluate(folder, test, RuntimeSettings(), resamples=0).summary["mean"])


def table(cells: Sequence[Cell], judge: str) -> str:
    """Return mean and standard deviation over the seeds, and what each way has over chance."""
    mine = [cell for cell in cells if cell.judge == judge]
    counts = sorted({cell.labels for cell in mine})
    ways = list(dict.fromkeys(cell.way for cell in mine))
    lines = []
    for figure in FIGURES:
        title = f"{judge}, {figure.replace('_', ' ')}"
        lines.append(f"{title:<34}" + "".join(f"{f'{count} faces':>18}" for count in counts))
        values = {(c.way, c.labels, c.seed): c.figures[figure] for c in mine}
        seeds = sorted({cell.seed for cell in mine})

        def row(name: str, found: list[list[float]]) -> str:
            return f"{name:<34}" + "".join(f"{spread(part):>18}" for part in found)

        for way in ways:
            lines.append(row(way, [[values[way, n, s] for s in seeds] for n in counts]))
        for way in ways if CHANCE in ways else ():
            if way != CHANCE:
                gain = [[values[way, n, s] - values[CHANCE, n, s] for s in seeds] for n in counts]
                lines.append(row(f"{way} minus {CHANCE}", gain))
        lines.append("")
    return "\n".join(lines)


def draw(path: Path, cells: Sequence[Cell], attributes: int) -> None:
    """Draw a curve for each way: mean and standard deviation over the seeds."""
    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, panels = plt.subplots(1, len(FIGURES), figsize=(11, 4.6), layout="constrained")
    colours = ("#6b7280", "#0f766e", "#b45309", "#1d4ed8", "#9d174d")
    for axes, name in zip(panels, FIGURES, strict=True):
        for colour, way in zip(colours, dict.fromkeys(c.way for c in cells), strict=False):
            for judge, style in (("probe", "-"), ("fine-tuned", "--")):
                mine = [c for c in cells if (c.way, c.judge) == (way, judge)]
                if not mine:
                    continue
                counts = sorted({c.labels for c in mine})
                found = [[100 * c.figures[name] for c in mine if c.labels == n] for n in counts]
                middle = np.array([np.mean(part) for part in found])
                off = np.array([np.std(part, ddof=min(1, len(part) - 1)) for part in found])
                axes.plot(counts, middle, style, color=colour, marker=".", label=f"{way}, {judge}")
                axes.fill_between(
                    counts, middle - off, middle + off, color=colour, alpha=0.12, lw=0
                )
        axes.set_xlabel("labelled faces")
        axes.set_ylabel(f"{name.replace('_', ' ')} on test faces, %")
        axes.grid(alpha=0.3)
    panels[0].legend(fontsize=8)
    figure.suptitle(f"Mean over {attributes} attributes; bands: standard deviation over seeds")
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=110)
    plt.close(figure)


@click.command()
@click.argument("overrides", nargs=-1)
@click.option("--data", "spec", required=True, help="Labelled faces with a train and test split.")
@click.option("--from", "run", type=click.Path(exists=True, path_type=Path), required=True)
@click.option("--attributes", help="A,B,C; default: all.")
@click.option("--step", type=click.IntRange(1), default=25, show_default=True)
@click.option("--rounds", type=click.IntRange(1), default=8, show_default=True)
@click.option("--seeds", type=click.IntRange(1), default=3, show_default=True)
@click.option(
    "--way",
    "ways",
    multiple=True,
    type=click.Choice(list(WAYS)),
    default=list(WAYS),
    show_default=True,
)
@click.option("--finetune", "counts", multiple=True, type=click.IntRange(2), help="Repeatable.")
@click.option("--preset", "preset_name", default="small", show_default=True)
@click.option("--out", type=click.Path(path_type=Path), required=True)
def main(
    overrides: tuple[str, ...],
    spec: str,
    run: Path,
    attributes: str | None,
    step: int,
    rounds: int,
    seeds: int,
    ways: tuple[str, ...],
    counts: tuple[int, ...],
    preset_name: str,
    out: Path,
) -> None:
    data = parse_data_spec(spec).absolute()
    faces = only(data.open(), names_in(attributes))
    pool, test = faces.split("train"), faces.split("test")
    if step * rounds > len(pool) or any(count > step * rounds for count in counts):
        raise SettingsError(f"give at most {len(pool)} faces, and --finetune no more than these.")
    content = build(FinetuneSettings, preset(preset_name, "finetune"), overrides).model_dump(
        mode="json"
    )
    source = load_source(run)
    box = box_of(data, source)
    with tqdm(total=len(pool) + len(test), desc="look at faces", unit="face") as bar:
        found = extract(source, pool, box, seen=bar.update)
        judged = extract(source, test, box, found.scaling, seen=bar.update)
    names, cells = faces.schema.names, []
    sessions: dict[tuple[str, int], Places] = {}
    for way in ways:
        for seed in tqdm(range(seeds), desc=way, unit="session"):
            order = session(found.values, pool.labels, way, step, rounds, seed)
            sessions[way, seed] = order
            for labels in range(step, step * rounds + 1, step):
                figures = probed(
                    found.values, pool.labels, order[:labels], judged.values, test.labels, names
                )
                cells.append(Cell(way, seed, labels, "probe", figures))
            rows = enumerate((pool.names[i] for i in order), 1)
            write_csv(out / way / f"seed-{seed}" / "order.csv", ("place", "image"), rows)
    val = faces.split("val") if "val" in faces.splits else None
    for labels in sorted(counts):
        for (way, seed), order in sessions.items():
            folder = out / way / f"seed-{seed}" / f"labels-{labels}"
            chosen = pool.select(np.sort(order[:labels]))
            figures = finetuned(content, data, chosen, val, test, run, folder)
            cells.append(Cell(way, seed, labels, "fine-tuned", figures))
    header = ("way", "seed", "labels", "judge", *FIGURES)
    write_csv(
        out / "curves.csv",
        header,
        (
            (c.way, c.seed, c.labels, c.judge, *(round(v, 6) for v in c.figures.values()))
            for c in cells
        ),
    )
    judges = dict.fromkeys(cell.judge for cell in cells)
    text = f"{len(names)} attributes, {len(test)} test faces, {seeds} seeds, in percent\n\n"
    text += "\n".join(table(cells, judge) for judge in judges)
    write_text(out / "table.txt", text)
    draw(out / "curves.png", cells, len(names))
    click.echo(text)


if __name__ == "__main__":
    main()
