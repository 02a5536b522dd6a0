"""`sspl data`: make and inspect face data."""

from pathlib import Path

import click


@click.group()
def data() -> None:
    """Make and inspect face data."""


@data.command()
@click.argument("out", type=click.Path(path_type=Path))
@click.option(
    "--count", type=click.IntRange(1, 999_999), default=1000, show_default=True, help="Faces."
)
@click.option(
    "--seed", type=click.IntRange(0), default=0, show_default=True, help="Seed of the set."
)
@click.option(
    "--size",
    type=click.IntRange(32, 1024),
    default=96,
    show_default=True,
    help="Side of a picture in pixels.",
)
def synthetic(out: Path, count: int, seed: int, size: int) -> None:
    """Draw labelled faces with exact masks into the folder OUT.

    The folder gets CelebA's official layout: img_align_celeba, list_attr_celeba.txt,
    list_eval_partition.txt, and besides masks (19 classes) and contact_sheet.png.
    """
    from sspl.data.synthetic import write_synthetic

    write_synthetic(out, count, seed, size)
