"""What stage 1 on drawn faces teaches of photographs: a probe and the parts of the face.

    python benchmarks/drawn.py --data celeba:FOLDER,crop=celeba \\
        --pairs IMAGES MASKS --classes FILE --split-file FILE RUN [RUN ...]

Each RUN of stage 1 is read as it is. A linear probe on its frozen features learns from some label
subsets and is judged on the validation faces; its segmentation head is judged as a face parser on
the training part of pairs of photographs and masks; its ready heads, where it has any, say what
they can before any label. No test face or pair is opened, so that drawn
faces can be chosen by this. `--record FILE` writes what was found as JSON, with the SHA-256 of each
file of weights; that of `builtin` is benchmarks/results/weights.json, and a test holds
docs/weights.md to it.
"""

import hashlib
from pathlib import Path
from typing import Any, Final

import click
import numpy as np
import torch
from decisions import FIGURES, table
from scipy.special import expit

from sspl.data.data_settings import parse_data_spec
from sspl.data.records import FaceSource
from sspl.data.transforms import plain_view
from sspl.device import pick_device
from sspl.domain.taxonomy import load_taxonomy
from sspl.io.files import write_json
from sspl.metrics.attributes import all_figures, means, positive_rates
from sspl.models.feature_cache import compute_features
from sspl.models.scoring import face_logits
from sspl.parsing.commands import agreement, open_parser
from sspl.parsing.pairs import draw_training_pairs, find_pairs, load_pairs
from sspl.parsing.report import parser_figures
from sspl.settings import build
from sspl.study.features import network_extractor, some_canvases
from sspl.study.probes import fit_probe
from sspl.training.attribute_network import settle_scales, started_network
from sspl.training.feature_settings import LinearSettings
from sspl.training.feature_source import load_source
from sspl.training.inheriting import finetune_settings
from sspl.training.linear_heads import LabelledFeatures
from sspl.training.partition import partition
from sspl.training.ready_heads import ready_heads_of
from sspl.training.run_canvases import canvases_of
from sspl.training.stage_settings import FinetuneSettings
from sspl.training.starts import weights_file

ENOUGH: Final = 512
"""Faces that features are standardised over."""

CHOSEN_BY: Final = FIGURES[0]


def probed(run: Path, data: dict[str, Any], labels: int, subset: int) -> dict[str, float]:
    """Return the validation figures of a linear probe on one label subset."""
    given = {"data": data, "labels": {"count": labels, "subset_seed": subset}}
    settings = build(FinetuneSettings, given)
    assert settings.data is not None
    parts, source = partition(settings), load_source(run)
    box, canvas = settings.data.box_of(parts.train), source.canvas
    plain = some_canvases(parts.rest, box, canvas)
    extract = network_extractor(
        source.network, plain, source.input_size, True, pick_device("auto"), "auto"
    )
    train, val = (
        LabelledFeatures(compute_features(extract, part, box, canvas, "features"), part.labels)
        for part in (parts.train, parts.val)
    )
    probe = fit_probe(LinearSettings(), train, val, CHOSEN_BY, False)
    found = all_figures(
        parts.val.schema.names,
        val.labels,
        expit(probe.predict(val.features)),
        positive_rates(train.labels),
    )
    return {f: float(means(found)[f] or np.nan) for f in FIGURES}


def heads_alone(run: Path, data: dict[str, Any]) -> dict[str, float] | None:
    """Return what a run's ready heads say of validation faces before any label; None without heads.

    They are judged on the attributes that they are for. Features are standardised over training
    faces whose labels are not looked at.
    """
    ready = ready_heads_of(run)
    if ready is None:
        return None
    given = {"pretrained": str(run), "data": data, "labels": {"count": 2}}
    settings = finetune_settings("small", given, [])
    assert settings.data is not None
    parts = partition(settings)
    names, schema = list(ready.rows(parts.val.schema.names)), parts.val.schema
    network, _ = started_network(settings, schema, torch.zeros(len(schema)))
    rest, val = (
        canvases_of([FaceSource(f, settings.data.box_of(f))], settings.canvas, None, settings)
        for f in (parts.rest.select(range(ENOUGH)), parts.val)
    )
    size, cpu = settings.input_size, torch.device("cpu")
    settle_scales(network, (plain_view(b.images, size) for b in rest.batches(range(ENOUGH), 64)))
    logits = face_logits(network, val, range(len(val)), size, True, cpu, "auto")
    judged = [schema.index(name) for name in names]
    labels = parts.val.labels[:, judged]
    found = all_figures(tuple(names), labels, expit(logits[:, judged]), positive_rates(labels))
    figures = {f: float(means(found)[f] or np.nan) for f in ("average_precision", "auc")}
    return figures | {"attributes": len(names), "share of yes": float((labels == 1).mean())}


def digest(run: str) -> str:
    """Return the SHA-256 of the file of weights of a run."""
    return hashlib.sha256(weights_file(Path(run)).read_bytes()).hexdigest()


@click.command()
@click.argument("runs", nargs=-1, required=True)
@click.option("--data", "spec", required=True)
@click.option("--labels", type=click.IntRange(2), default=275, show_default=True)
@click.option("--subsets", type=click.IntRange(1), default=3, show_default=True)
@click.option("--pairs", nargs=2, type=click.Path(path_type=Path, exists=True))
@click.option("--classes")
@click.option("--split-file", type=click.Path(path_type=Path, exists=True))
@click.option("--count", type=click.IntRange(1), default=200, show_default=True, help="Pairs.")
@click.option("--record", type=click.Path(path_type=Path, dir_okay=False))
def main(
    runs: tuple[str, ...],
    spec: str,
    labels: int,
    subsets: int,
    pairs: tuple[Path, Path] | None,
    classes: str | None,
    split_file: Path | None,
    count: int,
    record: Path | None,
) -> None:
    data = parse_data_spec(spec).absolute().model_dump()
    rows = {run: [probed(Path(run), data, labels, s) for s in range(subsets)] for run in runs}
    click.echo(table(rows, f"validation, {labels} labels"))
    kept: dict[str, dict[str, Any]] = {
        run: {"sha256": digest(run), "labels": labels, "probes": found}
        for run, found in rows.items()
    }
    for run in runs:
        alone = heads_alone(Path(run), data)
        if alone is not None:
            click.echo(
                f"{run}, heads alone: " + ", ".join(f"{n} {v:.3f}" for n, v in alone.items())
            )
            kept[run]["heads alone"] = alone
    for run in runs if pairs else ():
        parser = open_parser(run)
        found = find_pairs(*pairs, split_file).split("train")
        chosen = draw_training_pairs(found, min(count, len(found)), 7)
        source = load_taxonomy(classes) if classes else parser.taxonomy
        canvases = load_pairs(chosen, source, parser.taxonomy, 192, "read pairs")
        figures = parser_figures(agreement(parser, *canvases, parser.taxonomy), parser.taxonomy)
        shares = {"mean IoU": figures["mean_iou"], "of big classes": figures["mean_big_iou"]}
        click.echo(f"{run}: " + ", ".join(f"{n} {100 * v:.1f}" for n, v in shares.items()))
        kept[run]["parser"] = shares
    if record is not None:
        write_json(record, kept)


if __name__ == "__main__":
    main()
