"""What the targets of each stage-1 task cost, against the plain way with PIL and loops.

    python benchmarks/targets.py [--canvas 512] [--size 224] [--grid 3] [--batch-size 16]
        [--rounds 5]

From decoded canvases and masks to what each task learns from: the stack of patches of PRT, the
cropped mask of PST, the classes of PCT. `plain` takes a face at a time: PIL cuts and resizes each
patch, numpy standardises it, a loop counts each class. Each figure is the median over rounds in
which all take their turn.
"""

import click
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from step import made_up
from timing import Work, timed

from sspl.data.canvases import CanvasBatch
from sspl.data.transforms import draw_geometry, warp_masks
from sspl.data.view_settings import GeometrySettings
from sspl.device import keep_freed_memory
from sspl.domain.taxonomy import built_in_taxonomy
from sspl.io.cores import usable_cores
from sspl.models.backbones import build_backbone
from sspl.models.network_settings import BackboneSettings
from sspl.tasks.base import Views
from sspl.tasks.pct import class_counts, largest_classes
from sspl.tasks.prt import PatchRotation, PRTSettings, cell_edges, patch_side

TOP = 9
TAXONOMY = built_in_taxonomy("celebamask19")
MIRROR = TAXONOMY.mirror_table()


def ours(batch: CanvasBatch, size: int, grid: int) -> dict[str, Work]:
    n, canvas = len(batch.index), batch.images.shape[-1]
    assert batch.masks is not None
    masks, generator = batch.masks, torch.Generator().manual_seed(0)
    backbone = build_backbone(BackboneSettings(width=0.125))
    settings = PRTSettings.model_validate({"grid": grid})
    task = PatchRotation(settings, backbone, size, TAXONOMY.background)
    geometry = GeometrySettings(scale=(size / canvas, size / canvas))
    mirror = torch.from_numpy(TAXONOMY.mirror_table())
    crops = masks[:, :size, :size].contiguous()
    views = Views(batch.images, masks, torch.empty(0), None, generator)

    def pst() -> None:
        warp_masks(masks, draw_geometry(n, geometry, generator), size, mirror)

    return {
        "PRT": lambda: task.stack(views),
        "PST": pst,
        "PCT": lambda: largest_classes(class_counts(crops, len(TAXONOMY)), TOP),
    }


def plain(batch: CanvasBatch, size: int, grid: int) -> dict[str, Work]:
    draw = np.random.default_rng(0)
    assert batch.masks is not None
    images = [Image.fromarray(i) for i in batch.images.permute(0, 2, 3, 1).numpy()]
    masks = [Image.fromarray(m) for m in batch.masks.numpy()]
    crops = batch.masks[:, :size, :size].numpy()
    faces = list(zip(images, masks, strict=True))
    return {
        "PRT": lambda: np.stack([stack(i, m, size, grid, draw) for i, m in faces]),
        "PST": lambda: np.stack([crop(m, size, draw) for m in masks]),
        "PCT": lambda: np.stack([present(c) for c in crops]),
    }


def stack(
    image: Image.Image, mask: Image.Image, size: int, grid: int, draw: np.random.Generator
) -> NDArray[np.float32]:
    edges, side = cell_edges(image.width, grid), patch_side(image.width, grid)
    patches, allowed = [], []
    for row in range(grid):
        for column in range(grid):
            top = int(draw.integers(edges[row], edges[row + 1] - side + 1))
            left = int(draw.integers(edges[column], edges[column + 1] - side + 1))
            box = (left, top, left + side, top + side)
            patch = image.crop(box).resize((size, size), Image.Resampling.BILINEAR)
            pixels = np.asarray(patch, dtype=np.float32) + draw.uniform(-4, 4, 3).astype(np.float32)
            patches.append((pixels - pixels.mean()) / (pixels.std() + 1))
            background = np.mean(np.asarray(mask.crop(box)) == TAXONOMY.background)
            if background <= 0.5:
                allowed.append(len(patches) - 1)
    chosen = int(draw.choice(allowed or range(len(patches))))
    patches[chosen] = np.rot90(patches[chosen], int(draw.integers(4)))
    return np.concatenate([p.transpose(2, 0, 1) for p in patches])


def crop(mask: Image.Image, size: int, draw: np.random.Generator) -> NDArray[np.uint8]:
    left, top = draw.integers(0, mask.width - size + 1, 2)
    cut = mask.crop((left, top, left + size, top + size))
    if draw.random() < 0.5:
        return MIRROR[np.asarray(cut.transpose(Image.Transpose.FLIP_LEFT_RIGHT))]
    return np.asarray(cut)


def present(mask: NDArray[np.uint8]) -> NDArray[np.float32]:
    counts = {}
    for name in range(len(TAXONOMY)):
        counts[name] = int(np.sum(mask == name))
    largest = sorted(counts, key=lambda name: (-counts[name], name))[:TOP]
    target = np.zeros(len(TAXONOMY), np.float32)
    for name in largest:
        if counts[name]:
            target[name] = 1.0
    return target


@click.command()
@click.option("--canvas", type=click.IntRange(32), default=512, show_default=True)
@click.option("--size", type=click.IntRange(8), default=224, show_default=True)
@click.option("--grid", type=click.IntRange(2, 4), default=3, show_default=True)
@click.option("--batch-size", type=click.IntRange(1), default=16, show_default=True)
@click.option("--rounds", type=click.IntRange(1), default=5, show_default=True)
def main(canvas: int, size: int, grid: int, batch_size: int, rounds: int) -> None:
    keep_freed_memory()
    batch = made_up(batch_size, canvas, len(TAXONOMY))
    works = {f"{name} ours": work for name, work in ours(batch, size, grid).items()}
    works |= {f"{name} plain": work for name, work in plain(batch, size, grid).items()}
    seconds = timed(works, rounds)
    click.echo(
        f"{canvas} px canvases, {size} px inputs, {batch_size} faces, {usable_cores()} cores, "
        f"{torch.get_num_threads()} threads"
    )
    click.echo(f"{'ms a sample':<14}{'ours':>10}{'plain':>10}{'ratio':>8}")
    for task in ("PRT", "PST", "PCT"):
        fast, slow = (1000 * seconds[f"{task} {way}"] / batch_size for way in ("ours", "plain"))
        click.echo(f"{task:<14}{fast:>10.2f}{slow:>10.2f}{slow / fast:>8.1f}")


if __name__ == "__main__":
    main()
