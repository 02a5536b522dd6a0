"""What a pre-training sample costs on one core, from a 512 px JPEG and its mask to its targets.

    python benchmarks/loader.py [--faces 32] [--side 512] [--preset paper-sspl] [--rounds 5]

A sample is a jittered crop and its mask (the target of PST), nine patches one of which is turned
(PRT), and the classes of the crop (PCT), at the sizes of the preset. The straightforward version
does the same with PIL patch by patch and a Python loop over the classes. Faces are drawn by
`sspl.data.synthetic`. Figures are medians over rounds in which all take their turn, in ms
of processor time a sample.
"""

import io
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click
import numpy as np
import torch
from PIL import Image, ImageEnhance, ImageOps
from torch import Tensor

from sspl.data.canvases import CanvasBatch, Canvases
from sspl.data.data_settings import parse_data_spec
from sspl.data.images import WHOLE_FRAME
from sspl.data.packs.read import PackedFaces
from sspl.data.packs.write import make_pack
from sspl.data.records import Faces, FaceSet, FaceSource
from sspl.data.synthetic import write_synthetic
from sspl.data.transforms import normalise
from sspl.device import generator_for, keep_freed_memory
from sspl.domain.taxonomy import Taxonomy, load_taxonomy
from sspl.models.backbones import build_backbone
from sspl.settings import build
from sspl.tasks.base import Views
from sspl.tasks.pct import class_counts, positive_classes
from sspl.tasks.prt import PatchRotation, cell_edges, patch_side
from sspl.training.pretext_network import make_views, task_context
from sspl.training.stage_settings import PRESETS, PretrainSettings, preset

BATCH = 16
Work = Callable[[], object]


@click.command()
@click.option("--faces", "count", type=click.IntRange(BATCH), default=32, show_default=True)
@click.option("--side", type=click.IntRange(32, 1024), default=512, show_default=True)
@click.option("--preset", "name", type=click.Choice(PRESETS), default="paper-sspl")
@click.option("--rounds", type=click.IntRange(1), default=5, show_default=True)
def main(count: int, side: int, name: str, rounds: int) -> None:
    torch.set_num_threads(1)
    keep_freed_memory()
    settings = build(PretrainSettings, preset(name, "pretrain"))
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_synthetic(root / "faces", count, 0, side)
        faces = parse_data_spec(f"celeba:{root / 'faces'},masks={root / 'faces' / 'masks'}").open()
        samples = Samples(settings, load_taxonomy(settings.taxonomy))
        own = samples.canvases(faces).canvas
        works = samples.works(faces) | packed_works(samples, faces, root)
        seconds = timed(works, rounds)
    click.echo(f"{count} faces of {side} px, canvas {settings.canvas}, one core, ms a sample")
    click.echo(f"{4 * own**2:,} bytes a face, {4 * settings.canvas**2:,} enlarged to the canvas")
    click.echo(table({work: 1000 * s / count for work, s in seconds.items()}))


class Samples:
    """How samples are made, in the package's way and in the straightforward one."""

    def __init__(self, settings: PretrainSettings, taxonomy: Taxonomy) -> None:
        self.settings, self.taxonomy = settings, taxonomy
        self.mirror = torch.from_numpy(taxonomy.mirror_table())
        self.prt = PatchRotation(
            settings.task["prt"],  # type: ignore[arg-type]
            task_context(settings, build_backbone(settings.backbone), taxonomy),
        )

    def canvases(self, faces: Faces, enlarge: bool = False) -> Canvases:
        return Canvases(
            [FaceSource(faces, faces.cut.box if faces.cut else WHOLE_FRAME)],
            self.settings.canvas,
            len(self.taxonomy),
            0.0,
            enlarge=enlarge,
        )

    def read(self, faces: Faces, enlarge: bool = False) -> list[CanvasBatch]:
        """One thread, since one core is what is asked about."""
        canvases, batches = self.canvases(faces, enlarge), []
        for first in range(0, len(faces), BATCH):
            places = range(first, min(first + BATCH, len(faces)))
            images, masks = zip(*(canvases.decode(i) for i in places), strict=True)
            pixels, ids = torch.stack(images).permute(0, 3, 1, 2), torch.stack(masks)
            batches.append(CanvasBatch(torch.tensor(places), pixels, ids))
        return batches

    def views(self, batches: list[CanvasBatch]) -> list[Views]:
        cpu = torch.device("cpu")
        return [make_views(b, self.settings, self.mirror, generator_for(0), cpu) for b in batches]

    @torch.no_grad()
    def patches(self, views: list[Views]) -> list[Tensor]:
        return [self.prt.stack(v)[0] for v in views]

    def targets(self, views: list[Views]) -> list[Tensor]:
        """What PST and PCT compare with; what PRT does comes with its patches."""
        made = []
        for view in views:
            assert view.crop_mask is not None
            counts = class_counts(view.crop_mask, len(self.taxonomy))
            made += [view.crop_mask.long(), positive_classes(counts, self.settings.task["pct"])]
        return made

    def works(self, faces: FaceSet) -> dict[str, Work]:
        batches = self.read(faces)
        views = self.views(batches)
        jpegs = [Path(str(face.image)).read_bytes() for face in faces]
        pngs = [Path(str(face.mask)).read_bytes() for face in faces]
        return {
            "straightforward": lambda: [self.straightforward(i, m) for i, m in self.files(faces)],
            "the package": lambda: self.whole(faces),
            "  JPEG decoder alone": lambda: [decoded(content) for content in jpegs],
            "  PNG decoder alone": lambda: [decoded(content) for content in pngs],
            "  read and cut, decoders included": lambda: self.read(faces),
            "  the same, enlarged to the canvas": lambda: self.read(faces, enlarge=True),
            "  crop of face and mask": lambda: self.views(batches),
            "  nine patches": lambda: self.patches(views),
            "  targets": lambda: self.targets(views),
        }

    def whole(self, faces: Faces) -> None:
        views = self.views(self.read(faces))
        self.patches(views)
        self.targets(views)

    @staticmethod
    def files(faces: FaceSet) -> Iterator[tuple[Path, Path]]:
        return ((Path(str(face.image)), Path(str(face.mask))) for face in faces)

    def straightforward(self, image: Path, mask: Path) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """A sample as a data set class usually makes it: face by face, patch by patch."""
        rng = np.random.default_rng(0)
        canvas, size, grid = (
            self.settings.canvas,
            self.settings.input_size,
            self.settings.task["prt"].grid,
        )
        with Image.open(image) as opened:
            face = opened.convert("RGB").resize((canvas, canvas), Image.Resampling.BILINEAR)
        with Image.open(mask) as opened:
            ids = opened.resize((canvas, canvas), Image.Resampling.NEAREST)
        side = round(canvas * self.settings.geometry.scale[0])
        x, y = (int(v) for v in rng.integers(canvas - side + 1, size=2))
        box = (x, y, x + side, y + side)
        crop = face.crop(box).resize((size, size), Image.Resampling.BILINEAR)
        crop_mask = ids.crop(box).resize((size, size), Image.Resampling.NEAREST)
        if rng.random() < 0.5:
            crop, crop_mask = ImageOps.mirror(crop), ImageOps.mirror(crop_mask)
        for change in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
            crop = change(crop).enhance(rng.uniform(0.8, 1.2))
        patches, candidates = [], []
        edges, reach = cell_edges(canvas, grid), patch_side(canvas, grid)
        for row in range(grid):
            for column in range(grid):
                top = int(rng.integers(edges[row], edges[row + 1] - reach + 1))
                left = int(rng.integers(edges[column], edges[column + 1] - reach + 1))
                cell = (left, top, left + reach, top + reach)
                background = np.asarray(ids.crop(cell)) == self.taxonomy.background
                if background.mean() <= 0.5:
                    candidates.append(len(patches))
                patches.append(face.crop(cell).resize((size, size), Image.Resampling.BILINEAR))
        which = int(rng.choice(candidates or [0]))
        patches[which] = patches[which].rotate(90 * int(rng.integers(4)))
        stack = [self.straightforward_patch(patch, rng) for patch in patches]
        pixels = np.asarray(crop_mask)
        counts = [int((pixels == c).sum()) for c in range(len(self.taxonomy))]
        ranked = sorted(range(len(counts)), key=lambda c: (-counts[c], c))[
            : self.settings.task["pct"].top
        ]
        present = [float(c in ranked and counts[c] > 0) for c in range(len(counts))]
        return (
            normalise(torch.from_numpy(np.asarray(crop, dtype=np.float32).transpose(2, 0, 1))),
            torch.from_numpy(np.concatenate(stack)),
            torch.from_numpy(pixels.astype(np.int64)),
            torch.tensor(present),
        )

    def straightforward_patch(self, patch: Image.Image, rng: np.random.Generator) -> np.ndarray:
        pixels = np.asarray(patch, dtype=np.float32).transpose(2, 0, 1)
        jitter = self.settings.task["prt"].jitter
        pixels = pixels + rng.uniform(-jitter, jitter, (3, 1, 1)).astype(np.float32)
        return (pixels - pixels.mean()) / (pixels.std() + 1)


def decoded(content: bytes) -> None:
    with Image.open(io.BytesIO(content)) as opened:
        opened.load()


def packed_works(samples: Samples, faces: FaceSet, root: Path) -> dict[str, Work]:
    """The package on packs: whole files, and canvases in both encodings."""
    ways: dict[str, dict[str, object]] = {
        "the package, packed as files": {},
        "the package, packed canvases": {"canvas": samples.settings.canvas},
        "the package, packed lossless": {"canvas": samples.settings.canvas, "lossless": True},
    }
    works: dict[str, Work] = {}
    for title, options in ways.items():
        out = root / title.replace(" ", "-")
        make_pack(faces, WHOLE_FRAME, out, "drawn", taxonomy=samples.taxonomy, **options)  # type: ignore[arg-type]
        packed = PackedFaces(out, ("train", "val", "test"))
        works[title] = lambda packed=packed: samples.whole(packed)  # type: ignore[misc]
    return works


@contextmanager
def clock(seconds: list[float]) -> Iterator[None]:
    begun = time.process_time()
    yield
    seconds.append(time.process_time() - begun)


def timed(works: dict[str, Work], rounds: int) -> dict[str, float]:
    """Return the median seconds of each work; a first round warms up and does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for number in range(rounds + 1):
        for name, work in works.items():
            with clock(seconds[name] if number else []):
                work()
    return {name: statistics.median(values) for name, values in seconds.items()}


def table(ms: dict[str, float]) -> str:
    lines = [f"{'':<36}{'ms':>8}{'samples/s':>12}{'ratio':>8}"]
    for name, value in ms.items():
        line = f"{name:<36}{value:>8.2f}"
        if not name.startswith(" "):
            line += f"{1000 / value:>12.0f}{ms['straightforward'] / value:>8.1f}"
        lines.append(line)
    total = ms["the package"]
    decoders = ms["  JPEG decoder alone"] + ms["  PNG decoder alone"]
    reading = ms["  read and cut, decoders included"]
    parts = {
        "decoding": decoders,
        "reading and cutting besides": reading - decoders,
        "the crop": ms["  crop of face and mask"],
        "the patches": ms["  nine patches"],
        "the targets": ms["  targets"],
    }
    shares = ", ".join(f"{name} {100 * v / total:.0f} %" for name, v in parts.items())
    first = max(parts, key=lambda part: parts[part])
    return "\n".join([*lines, f"Of the package's time: {shares}; bound by {first}."])


if __name__ == "__main__":
    main()
