"""Stage 1 by hand, on drawn faces: `python examples/stage1.py FOLDER`.

`sspl pretrain` takes the same steps, and adds a schedule, checkpoints and many processes.
"""

import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

from sspl import data
from sspl.device import generator_for
from sspl.domain import load_taxonomy
from sspl.models import BackboneSettings, build_backbone
from sspl.optim import OptimSettings, make_optimiser, step
from sspl.tasks import PatchClassification, PatchRotation, PatchSegmentation, TaskContext, Views

TASKS = (PatchRotation, PatchSegmentation, PatchClassification)
CANVAS, SIZE, BATCH, SEED = 48, 32, 8, 0


def views_of(batch, mirror, generator):
    """Draw one random crop of each face, and the same crop of its mask."""
    scale = data.GeometrySettings(scale=(0.5, 1.0))
    geometry = data.draw_geometry(len(batch.images), scale, generator)
    crop = data.warp_images(batch.images, geometry, SIZE)
    crop = data.normalise(data.jitter_colour(crop, data.ColourSettings(), generator))
    crop_mask = data.warp_masks(batch.masks, geometry, SIZE, mirror)
    return Views(batch.images, batch.masks, crop, crop_mask, generator)


def main(folder: Path, count: int = 64, epochs: int = 3) -> list[float]:
    data.write_synthetic(folder / "faces", count, seed=1, size=CANVAS)
    faces = data.parse_data_spec(f"celeba:{folder}/faces,masks={folder}/faces/masks")
    taxonomy = load_taxonomy("celebamask19")
    source = data.FaceSource(faces.stream(["train"]), faces.box())
    canvases = data.Canvases([source], CANVAS, len(taxonomy))
    torch.manual_seed(SEED)
    backbone = build_backbone(BackboneSettings(width=0.125, stem_stride=2))
    context = TaskContext(backbone, taxonomy, SIZE)
    tasks = torch.nn.ModuleDict({kind.name: kind(kind.Settings(), context) for kind in TASKS})
    network = torch.nn.ModuleDict({"backbone": backbone, "tasks": tasks}).train()
    optimiser = make_optimiser([(list(network.parameters()), 1.0)], OptimSettings(lr=3e-3))
    mirror, losses = torch.from_numpy(taxonomy.mirror_table()), []
    for epoch in range(epochs):
        order = canvases.random_order(generator_for(SEED, epoch))
        for number, batch in enumerate(canvases.batches(order, BATCH, steps=len(order) // BATCH)):
            views = views_of(batch, mirror, generator_for(SEED, epoch, number))
            maps = backbone(views.crop)
            loss = sum(task(backbone, views, maps).loss for task in tasks.values())
            step(optimiser, loss, clip=5.0, where=f"epoch {epoch + 1}, step {number + 1}")
            losses.append(loss.item())
        print(f"epoch {epoch + 1}: loss {losses[-1]:.3f}")
    save_file(network.state_dict(), folder / "stage1.safetensors")
    return losses


if __name__ == "__main__":
    main(Path(sys.argv[1]))
