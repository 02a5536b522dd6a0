"""Stage 2 by hand, on what stage1.py left in FOLDER: `python examples/stage2.py FOLDER`.

`sspl finetune` takes the same steps, and adds the choice of the best epoch and calibration.
"""

import sys
from pathlib import Path

import torch

from sspl import data
from sspl.device import generator_for
from sspl.metrics import all_figures, means, positive_rates
from sspl.models import AttributeNetwork, BackboneSettings, HeadSettings
from sspl.optim import OptimSettings, make_optimiser, step
from sspl.training import load_backbone, masked_bce

CANVAS, SIZE, BATCH, LABELS, SEED = 48, 32, 8, 32, 0


def main(folder: Path, epochs: int = 5) -> tuple[list[float], dict[str, float]]:
    source = data.parse_data_spec(f"celeba:{folder}/faces")
    faces, box = source.open(), source.box()
    train = faces.select([i for i, split in enumerate(faces.splits) if split == "train"])
    train = train.select(data.label_subset(train.labels, LABELS, rule="seeded", seed=SEED))
    test = faces.select([i for i, split in enumerate(faces.splits) if split == "test"])
    torch.manual_seed(SEED)
    backbone = BackboneSettings(width=0.125, stem_stride=2)
    network = AttributeNetwork(backbone, HeadSettings(), len(faces.schema))
    print(load_backbone(network.backbone, folder / "stage1.safetensors").text())
    optimiser = make_optimiser([(list(network.parameters()), 1.0)], OptimSettings(lr=3e-3))
    canvases = data.Canvases([data.FaceSource(train, box)], CANVAS, classes=None)
    labels, losses = torch.from_numpy(train.labels), []
    for epoch in range(epochs):
        generator = generator_for(SEED, epoch)
        order = canvases.random_order(generator)
        for number, batch in enumerate(canvases.batches(order, BATCH)):
            geometry, colour = data.GeometrySettings(), data.ColourSettings()
            view = data.random_view(batch.images, geometry, colour, SIZE, generator)
            loss = masked_bce(network(view), labels[batch.index])
            step(optimiser, loss, clip=5.0, where=f"epoch {epoch + 1}, step {number + 1}")
            losses.append(loss.item())
        print(f"epoch {epoch + 1}: loss {losses[-1]:.3f}")
    canvases = data.Canvases([data.FaceSource(test, box)], CANVAS, classes=None)
    said, rates = probabilities(network, canvases), positive_rates(train.labels)
    figures = means(all_figures(faces.schema.names, test.labels, said, rates))
    print(f"test: average precision {figures['average_precision']:.3f}")
    return losses, figures


@torch.no_grad()
def probabilities(network, canvases):
    (batch,) = canvases.batches(range(len(canvases)), len(canvases))
    view = torch.nn.functional.interpolate(batch.images.float(), SIZE, mode="bilinear")
    return network.eval()(data.normalise(view)).sigmoid().numpy()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
