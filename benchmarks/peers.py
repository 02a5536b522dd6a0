"""How fast this package is beside others that do the same, in one run.

    OMP_NUM_THREADS=1 taskset -c 1 python benchmarks/peers.py [--photos FOLDER]
        [--network faceres faceres.onnx] [--network dlib dlib-face.onnx] [--rounds 5]

The others live in a virtual environment of their own, beside this package's dependencies; what
is not installed there is said and left out. Compared are

- `views`: from decoded canvases of 112 px to normalised crops of 96 px, by the same kind of crop,
  mirror image and changes of colour, in batches of 32: torchvision v2, lightly, albumentations and
  kornia;
- `simclr`: a step of stage 1 with the task `simclr` against one put together from lightly's views,
  projection head and loss, with the same backbone, batch and optimiser;
- `network`: attributes of canvases by the model of preset small, mirror images averaged, as torch
  runs it and exported, against networks in onnxruntime, one picture each;
- `detection`: faces in photographs, by our detectors and by OpenCV's cascade and dlib's alone.

Figures are medians over rounds in which all of a part take their turn; ratios are to ours.
"""

import tempfile
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from cost import OURS, models
from PIL import Image
from step import made_up, pretraining_step
from timing import Work, timed

from sspl.data.adapters.folder import read_folder
from sspl.data.images import read_image
from sspl.data.transforms import random_view
from sspl.data.view_settings import ColourSettings, GeometrySettings
from sspl.device import autocast, keep_freed_memory
from sspl.errors import first_line
from sspl.faces.detectors import MIN_SCORES, make_detector
from sspl.inference.export import export_onnx
from sspl.inference.portable import load_portable
from sspl.models.backbones import build_backbone
from sspl.models.scoring import logits_of
from sspl.settings import build, merge
from sspl.study.provenance import machine
from sspl.training.feature_settings import parse_features
from sspl.training.feature_source import open_extractor
from sspl.training.pretrain import Pretraining
from sspl.training.stage_settings import PretrainSettings, ProbeSettings, preset

CANVAS, SIZE, BATCH = 112, 96, 32
SCALE = (0.5, 1.0)
"""Of a crop's side; that of its area is the square."""

JITTER = {"brightness": 0.2, "contrast": 0.2, "saturation": 0.2}
AREA = (SCALE[0] ** 2, SCALE[1] ** 2)
STEP = {"tasks": ["simclr"], "optim": {"batch_size": BATCH}}

Makers = dict[str, Callable[[], Work]]


def usable_torchvision() -> None:
    """Let torchvision be imported where its compiled operators do not fit torch: none is used."""
    try:
        torch.ops.torchvision.nms  # noqa: B018 - asks whether it is there
    except (AttributeError, RuntimeError):
        library = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        LIBRARIES.append(library)


LIBRARIES: list[torch.library.Library] = []


def views(images: torch.Tensor) -> Makers:
    pictures = [Image.fromarray(i) for i in images.permute(0, 2, 3, 1).numpy()]

    def ours() -> Work:
        geometry, colour = GeometrySettings(scale=SCALE, flip=0.5), ColourSettings(**JITTER)
        draw = torch.Generator().manual_seed(0)
        return lambda: random_view(images, geometry, colour, SIZE, draw)

    def torchvision() -> Work:
        from torchvision.transforms import v2

        steps = [
            v2.RandomResizedCrop(SIZE, AREA, (1, 1), antialias=False),
            v2.RandomHorizontalFlip(),
            v2.ColorJitter(**JITTER),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize([0.5] * 3, [0.5] * 3),
        ]
        made = v2.Compose(steps)
        return lambda: torch.stack([made(image) for image in images])

    def lightly() -> Work:
        made = lightly_view()
        return lambda: torch.stack([made(picture) for picture in pictures])

    def albumentations() -> Work:
        import albumentations as a

        made = a.Compose(
            [
                a.RandomResizedCrop((SIZE, SIZE), scale=AREA, ratio=(1, 1)),
                a.HorizontalFlip(),
                a.ColorJitter(**JITTER, hue=0, p=1),
                a.Normalize(0.5, 0.5),
            ]
        )
        arrays = [np.asarray(picture) for picture in pictures]
        return lambda: torch.from_numpy(np.stack([made(image=i)["image"] for i in arrays]))

    def kornia() -> Work:
        import kornia.augmentation as k

        made = k.AugmentationSequential(
            k.RandomResizedCrop((SIZE, SIZE), AREA, (1, 1)),
            k.RandomHorizontalFlip(),
            k.ColorJitter(**JITTER, p=1),
            k.Normalize([0.5] * 3, [0.5] * 3),
        )
        return lambda: made(images.float() / 255)

    return {
        OURS: ours,
        "torchvision": torchvision,
        "lightly": lightly,
        "albumentations": albumentations,
        "kornia": kornia,
    }


def lightly_view() -> Callable[[Image.Image], torch.Tensor]:
    """Return lightly's transform of SimCLR for one view, without blur and loss of colour."""
    from lightly.transforms.simclr_transform import SimCLRViewTransform

    made: Callable[[Image.Image], torch.Tensor] = SimCLRViewTransform(
        input_size=SIZE, cj_prob=1, cj_bright=0.2, cj_contrast=0.2, cj_sat=0.2, cj_hue=0,
        cj_strength=1, min_scale=AREA[0], random_gray_scale=0, gaussian_blur=0,
        normalize={"mean": [0.5] * 3, "std": [0.5] * 3},
    )  # fmt: skip
    return made


def simclr(images: torch.Tensor) -> Makers:
    settings = build(PretrainSettings, merge(preset("small", "pretrain"), STEP))

    def ours() -> Work:
        return pretraining_step(Pretraining(settings))

    def lightly() -> Work:
        from lightly.loss import NTXentLoss
        from lightly.models.modules.heads import SimCLRProjectionHead

        backbone = build_backbone(settings.backbone).to(memory_format=torch.channels_last)
        width = backbone.widths[-1]
        head, loss = SimCLRProjectionHead(width, width, 128), NTXentLoss(temperature=0.5)
        parameters = [*backbone.parameters(), *head.parameters()]
        optimiser = torch.optim.AdamW(parameters, 1e-3, foreach=True)
        pictures = [Image.fromarray(i) for i in images.permute(0, 2, 3, 1).numpy()]
        view = lightly_view()

        def step() -> None:
            both = torch.stack([view(picture) for _ in range(2) for picture in pictures])
            with autocast(torch.device("cpu"), "auto"):
                maps = backbone(both.contiguous(memory_format=torch.channels_last))
                found = head(maps[-1].mean((2, 3)))
            optimiser.zero_grad()
            loss(*found.float().chunk(2)).backward()
            optimiser.step()

        return step

    return {OURS: ours, "lightly": lightly}


def network(networks: tuple[tuple[str, str], ...], folder: Path) -> Makers:
    model = models(())[OURS]
    canvas = torch.randint(256, (BATCH, 3, model.canvas, model.canvas), dtype=torch.uint8)

    def ours() -> Work:
        return lambda: logits_of(model.network, canvas, model.input_size, True, "auto")

    def exported() -> Work:
        export_onnx(model, folder / "ours.onnx")
        portable, images = load_portable(folder / "ours.onnx"), canvas.permute(0, 2, 3, 1).numpy()
        return lambda: portable.probabilities(images)

    def other(word: str) -> Work:
        (settings,) = build(ProbeSettings, {"features": [parse_features(word)]}).features
        extractor = open_extractor(settings)
        side = extractor.about.side
        pixels = torch.rand(BATCH, 3, side, side) * 255
        return lambda: extractor(pixels)

    others = {name: lambda word=word: other(word) for name, word in networks}
    return {OURS: ours, f"{OURS}, exported": exported, **others}


def detection(photos: Path) -> Makers:
    arrays = [np.asarray(read_image(path)) for path in read_folder(photos).images[:BATCH]]

    def own(name: Any) -> Work:
        detector = make_detector(name, MIN_SCORES[name])
        return lambda: [detector.detect(array) for array in arrays]

    def cascade() -> Work:
        import cv2

        file = Path(cv2.data.haarcascades) / "haarcascade_frontalface_default.xml"
        made = cv2.CascadeClassifier(str(file))
        greys = [cv2.cvtColor(array, cv2.COLOR_RGB2GRAY) for array in arrays]
        return lambda: [made.detectMultiScale(grey, 1.1, 3) for grey in greys]

    def dlib() -> Work:
        import dlib

        made = dlib.get_frontal_face_detector()
        return lambda: [made(array, 0) for array in arrays]

    return {
        f"{OURS} yunet": lambda: own("yunet"),
        f"{OURS} haar": lambda: own("haar"),
        "opencv cascade": cascade,
        "dlib": dlib,
    }


def compared(title: str, makers: Makers, rounds: int) -> None:
    """Print milliseconds an item of each, and how many times slower than the first it is."""
    works: dict[str, Work] = {}
    for name, make in makers.items():
        try:
            work = make()
            work()
        except Exception as error:  # versions of others that do not fit fail in many ways
            reason = f"{type(error).__name__}: {first_line(error)}"
            click.echo(f"{title:<10}{name:<18}left out: {reason}")
        else:
            works[name] = work
    seconds = timed(works, rounds)
    first = next(iter(seconds.values()))
    for name, taken in seconds.items():
        click.echo(f"{title:<10}{name:<18}{1000 * taken / BATCH:>10.2f} ms{taken / first:>8.2f}")


def versions() -> str:
    names = ("torch", "torchvision", "lightly", "albumentations", "kornia", "onnxruntime",
             "opencv-python-headless", "dlib-bin")  # fmt: skip
    found = []
    for name in names:
        try:
            found.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            found.append(f"{name} not installed")
    return ", ".join(found)


@click.command()
@click.option("--photos", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--network", "networks", nargs=2, multiple=True, help="NAME PATH[,key=value...]")
@click.option("--rounds", type=click.IntRange(1), default=5, show_default=True)
def main(photos: Path | None, networks: tuple[tuple[str, str], ...], rounds: int) -> None:
    keep_freed_memory()
    usable_torchvision()
    images = made_up(BATCH, CANVAS, 19).images
    click.echo(f"{machine('cpu')}, {torch.get_num_threads()} threads\n{versions()}")
    compared("views", views(images), rounds)
    compared("simclr", simclr(images), rounds)
    with tempfile.TemporaryDirectory() as folder:
        compared("network", network(networks, Path(folder)), rounds)
    if photos is not None:
        compared("detection", detection(photos), rounds)


if __name__ == "__main__":
    main()
