"""How fast a trained parser makes masks, what bounds it, and the ratio to the plain way.

    python benchmarks/parser.py PARSER FORMAT:FACES [--faces 64] [--batch-size 16] [--rounds 3]

`network` is from decoded pictures to class ids, `picture to mask` the whole of `sspl parser run`,
from files to files. `plain` takes a picture at a time, in fp32 and contiguous, looks at it and at
its mirror image in the same sizes, and brings the logits of each look to the picture's size. All
take turns in each round; each figure is the median over the rounds. Shares are of torch's profiler.
"""

import tempfile
from collections import Counter
from itertools import count
from pathlib import Path

import click
import numpy as np
import torch
import torch.nn.functional as F
from step import kind_of
from timing import Work, timed
from torch.profiler import ProfilerActivity, profile

from sspl.data.data_settings import parse_data_spec
from sspl.data.images import read_image
from sspl.data.palette import write_mask
from sspl.data.transforms import normalise
from sspl.device import has_fast_bf16
from sspl.io.cores import usable_cores
from sspl.parsing.masks import make_masks
from sspl.parsing.model import ParserModel, load_parser
from sspl.parsing.network_parser import NetworkParser, network_size
from sspl.parsing.parser import Ids, Pixels
from sspl.parsing.training import AVERAGED_SCALES, mirror_ids, scaled_size


class Plain:
    """The straightforward way to parse."""

    def __init__(self, model: ParserModel) -> None:
        self.network = model.network.eval()
        self.mirror = mirror_ids(model.taxonomy)
        self.side, self.classes = model.size, len(model.taxonomy)

    @torch.inference_mode()
    def ids(self, pixels: Pixels) -> Ids:
        size = pixels.shape[:2]
        image = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].contiguous().float()
        looks_at = network_size((size[1], size[0]), self.side)
        view = normalise(F.interpolate(image, looks_at, mode="bilinear", antialias=True))
        total = torch.zeros(1, self.classes, *size)
        for scale in AVERAGED_SCALES:
            seen = F.interpolate(
                view, scaled_size(looks_at, scale), mode="bilinear", antialias=True
            )
            for flipped in (False, True):
                logits = self.network(seen.flip(3) if flipped else seen)[0]
                logits = logits.flip(3)[:, self.mirror] if flipped else logits
                total += F.interpolate(logits, size, mode="bilinear")
        found: Ids = total[0].argmax(0).numpy().astype(np.uint8)
        return found


@click.command()
@click.argument("model", type=click.Path(exists=True, path_type=Path))
@click.argument("images")
@click.option("--faces", "most", type=click.IntRange(1), default=64, show_default=True)
@click.option("--batch-size", type=click.IntRange(1), default=16, show_default=True)
@click.option("--rounds", type=click.IntRange(1), default=3, show_default=True)
def main(model: Path, images: str, most: int, batch_size: int, rounds: int) -> None:
    faces = parse_data_spec(images).open()
    faces = faces.select(range(min(most, len(faces))))
    plain, ours = Plain(load_parser(model)), NetworkParser(load_parser(model), device="cpu")
    pictures = [np.asarray(read_image(face.image)) for face in faces]
    batches = [pictures[i : i + batch_size] for i in range(0, len(pictures), batch_size)]
    folders = count()
    with tempfile.TemporaryDirectory() as place:

        def to_files() -> None:
            make_masks(ours, faces, Path(place) / str(next(folders)), batch_size)

        def plainly_to_files() -> None:
            for number, face in enumerate(faces):
                ids = plain.ids(np.asarray(read_image(face.image)))
                write_mask(Path(place) / f"{number}.png", ids, plain.classes)

        works: dict[str, Work] = {
            "network, plain": lambda: [plain.ids(pixels) for pixels in pictures],
            "network": lambda: [ours.parse(batch) for batch in batches],
            "picture to mask, plain": plainly_to_files,
            "picture to mask": to_files,
        }
        seconds = timed(works, rounds)
    size = "x".join(map(str, pictures[0].shape[1::-1]))
    fast = "bf16" if has_fast_bf16(torch.device("cpu")) else "no fast bf16"
    click.echo(
        f"{len(faces)} faces of {size}, network at {ours.canvas} px, {usable_cores()} cores, "
        f"{torch.get_num_threads()} threads, {fast}"
    )
    click.echo(f"{'':<24}{'faces/s':>10}{'ratio':>8}")
    for name, taken in seconds.items():
        ratio = seconds[f"{name.removesuffix(', plain')}, plain"] / taken
        click.echo(f"{name:<24}{len(faces) / taken:>10.1f}{ratio:>8.2f}")
    same = [
        (a == plain.ids(b)).mean() for a, b in zip(ours.parse(batches[0]), batches[0], strict=True)
    ]
    click.echo(f"the same class in {100 * np.mean(same):.2f} % of the pixels")
    click.echo(f"network: {shares(works['network'])}")


def shares(work: Work) -> str:
    """Return where the time goes, by kinds of operations."""
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        work()
    spent: Counter[str] = Counter()
    for event in profiler.events():
        kind = "resizing" if "upsample" in event.name else kind_of(event.name)
        spent[kind] += event.self_cpu_time_total
    return ", ".join(f"{n} {100 * t / spent.total():.0f} %" for n, t in spent.most_common(6))


if __name__ == "__main__":
    main()
