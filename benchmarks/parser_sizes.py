"""Which sizes of the picture a parser's logits are best averaged over.

    python benchmarks/parser_sizes.py PARSER IMAGES MASKS --classes classes.txt \\
        --split-file split.csv [--sizes 0.75,1 --sizes 0.75,1,1.25]

Judged on the training pairs that this parser was not trained on (it was trained with `--pairs`), so
that the test pairs are left unseen.
"""

import json
from pathlib import Path

import click
import torch

from sspl.device import pick_device
from sspl.domain.taxonomy import load_taxonomy
from sspl.io.run_files import METRICS_JSON
from sspl.metrics.pixels import confusion_matrix
from sspl.parsing.model import load_parser
from sspl.parsing.pairs import find_pairs, load_pairs
from sspl.parsing.report import parser_figures
from sspl.parsing.training import mirror_ids, parse

SIZES = ("1", "0.75", "0.75,1", "0.5,0.75,1", "0.75,1,1.25", "0.5,0.75,1,1.25")
BATCH = 16


@click.command()
@click.argument("model", type=click.Path(exists=True, path_type=Path))
@click.argument("images", type=click.Path(exists=True, path_type=Path))
@click.argument("masks", type=click.Path(exists=True, path_type=Path))
@click.option("--classes", required=True)
@click.option("--split-file", type=click.Path(exists=True, path_type=Path))
@click.option("--sizes", multiple=True, default=SIZES, show_default=True)
@click.option("--limit", type=click.IntRange(1), help="The first pairs only.")
def main(
    model: Path,
    images: Path,
    masks: Path,
    classes: str,
    split_file: Path | None,
    sizes: tuple[str, ...],
    limit: int | None,
) -> None:
    parser, device = load_parser(model), pick_device("auto")
    learnt = set(json.loads((model / METRICS_JSON).read_text())["training_pairs"])
    pairs = find_pairs(images, masks, split_file).split("train")
    unseen = [i for i, name in enumerate(pairs.names) if name not in learnt][:limit]
    if not unseen:
        raise click.ClickException("the parser was trained on every training pair; use --pairs.")
    source, own = load_taxonomy(classes), parser.taxonomy
    pictures, truth = load_pairs(pairs.select(unseen), source, own, parser.size, "read pairs")
    network = parser.network.to(device, memory_format=torch.channels_last)
    mirror = mirror_ids(own)
    click.echo(f"{'sizes':<20}{'mean IoU':>10}{'big classes':>13}   ({len(unseen)} unseen pairs)")
    for listed in sizes:
        scales = [float(x) for x in listed.split(",")]
        confusion = torch.zeros(len(own), len(own), dtype=torch.int64)
        for start in range(0, len(unseen), BATCH):
            batch = pictures[start : start + BATCH]
            logits = parse(network, batch, device, "auto", mirror, scales)
            found = logits.argmax(1).cpu()
            confusion += confusion_matrix(truth[start : start + BATCH], found, len(own))
        figures = parser_figures(confusion, own)
        big = figures.get("mean_big_iou", float("nan"))
        click.echo(f"{listed:<20}{figures['mean_iou']:>10.4f}{big:>13.4f}")


if __name__ == "__main__":
    main()
