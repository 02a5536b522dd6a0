"""Where the parts of faces are, on average: of masks of photographs, or of drawn faces.

    python benchmarks/proportions.py CELEBAMASK/masks --classes CELEBAMASK/classes.txt
    python benchmarks/proportions.py drawn/masks

The style `photo` of the drawn faces has the means of the first; the second shows how near it comes.
Faces that are turned or whose eyes are not both seen are left out.
"""

from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray

from sspl.data.images import read_mask
from sspl.domain.taxonomy import Taxonomy, load_taxonomy

PARTS = ("l_brow", "nose", "u_lip", "l_lip")
HEAD = ("distance of the eyes, in frames", "height of the eyes, in frames")


def measures(mask: NDArray[np.uint8], taxonomy: Taxonomy) -> list[float] | None:
    """Return what `HEAD` says, and how far below the eyes `PARTS` are, in distances of the eyes."""
    places = {n: np.argwhere(mask == taxonomy.index(n)) for n in ("l_eye", "r_eye", *PARTS)}
    if min(len(places["l_eye"]), len(places["r_eye"])) < 4:
        return None
    left, right = places["l_eye"].mean(0), places["r_eye"].mean(0)
    apart, middle = float(np.hypot(*(left - right))), (left + right) / 2
    if abs(left[0] - right[0]) > 0.15 * apart or apart < 0.15 * len(mask):
        return None
    heights = [places[n][:, 0].mean() if len(places[n]) > 3 else np.nan for n in PARTS]
    below = [(height - middle[0]) / apart for height in heights]
    return [apart / len(mask), middle[0] / len(mask), *below]


@click.command()
@click.argument("masks", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--classes", default="celebamask19", show_default=True)
def main(masks: Path, classes: str) -> None:
    taxonomy = load_taxonomy(classes)
    read = (
        measures(np.asarray(read_mask(path, None, len(taxonomy))), taxonomy)
        for path in sorted(masks.glob("*.png"))
    )
    rows = np.array([row for row in read if row is not None])
    click.echo(f"{len(rows)} faces")
    for name, mean, spread in zip(
        (*HEAD, *PARTS), np.nanmean(rows, 0), np.nanstd(rows, 0), strict=True
    ):
        click.echo(f"{name:<32} {mean:5.2f} +- {spread:.2f}")


if __name__ == "__main__":
    main()
