"""Images a second and peak memory of streaming from a pack, from a thousand to a million faces.

    python benchmarks/scale.py [--records 1000,10000,100000,1000000] [--distinct 2000] [--side 112]
        [--most 0] [--workers 0] [--folder FOLDER]

Drawn faces and their masks, `distinct` of them over and over, are packed in shards of 1,000; a
million takes about 16 GB in FOLDER (a temporary one unless given, removed in the end). Each size is
streamed in a process of its own: an epoch in pre-training's random order, or its first `most`
faces, decoded to canvases in batches of 64, nothing kept. `start` is from opening the pack to the
first batch; `middle` from opening it to the first batch when half of the epoch is skipped, as
after an interruption. `cpu ms` is the process's own time on the processor for each face, which
other work on the machine hardly changes. Memory is the largest resident set of the process, and
what of it was there before the pack was opened; the network is not in it.
"""

import json
import resource
import subprocess
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path

import click
import numpy as np
import torch
from tqdm import tqdm

from sspl.data.canvases import Canvases
from sspl.data.images import WHOLE_FRAME
from sspl.data.packs.layout import INDEX_FILE, Index, PackPlan, ShardMetadata, shard_name
from sspl.data.packs.read import PackedFaces
from sspl.data.packs.write import Encoded, encoded, write_shard
from sspl.data.palette import write_mask
from sspl.data.records import FaceSource
from sspl.data.synthetic.render import render_face
from sspl.device import generator_for
from sspl.domain.taxonomy import built_in_taxonomy
from sspl.io.files import write_json

SHARD = 1000
BATCH = 64
CLASSES = built_in_taxonomy("celebamask19").classes


@click.command()
@click.option("--records", default="1000,10000,100000,1000000", show_default=True)
@click.option("--distinct", type=click.IntRange(1), default=2000, show_default=True)
@click.option("--side", type=click.IntRange(32, 512), default=112, show_default=True)
@click.option("--most", type=click.IntRange(0), default=0, help="Faces to stream; 0: all.")
@click.option("--workers", type=click.IntRange(0), default=0, show_default=True)
@click.option("--folder", type=click.Path(file_okay=False, path_type=Path))
@click.option("--stream", type=click.Path(path_type=Path), hidden=True)
def main(
    records: str,
    distinct: int,
    side: int,
    most: int,
    workers: int,
    folder: Path | None,
    stream: Path | None,
) -> None:
    if stream is not None:
        click.echo(json.dumps(streamed(stream, side, most, workers)))
        return
    counts = [int(count) for count in records.split(",")]
    if any(count % SHARD for count in counts):
        raise click.BadParameter(f"give multiples of {SHARD}", param_hint="--records")
    with tempfile.TemporaryDirectory(dir=folder) as place:
        root = Path(place) / "pack"
        shards = write_shards(root, max(counts) // SHARD, distinct, side)
        size = sum(shard.bytes for shard in shards) / max(counts)
        click.echo(f"{side} px, {size:,.0f} bytes a face, {workers or 'no'} worker processes")
        click.echo(
            f"{'faces':>10}{'streamed':>10}{'images/s':>10}{'cpu ms':>8}{'start, s':>10}"
            f"{'middle, s':>11}{'peak MB':>9}{'before':>8}"
        )
        for count in counts:
            write_index(root, shards[: count // SHARD], side)
            command = [sys.executable, __file__, "--stream", root, "--side", str(side)]
            command += ["--most", str(most), "--workers", str(workers)]
            output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
            f = json.loads(output)
            click.echo(
                f"{count:>10,}{f['streamed']:>10,}{f['rate']:>10,.0f}{f['cpu']:>8.2f}"
                f"{f['start']:>10.2f}{f['middle']:>11.2f}{f['peak']:>9.0f}{f['before']:>8.0f}"
            )


def write_shards(root: Path, shards: int, distinct: int, side: int) -> list[ShardMetadata]:
    faces = []
    for index in tqdm(range(distinct), "draw faces", leave=False):
        face = render_face(0, index, side)
        mask = root / "mask.png"
        write_mask(mask, face.mask, len(CLASSES))
        faces.append((encoded(face.image, "jpeg"), mask.read_bytes()))
    mask.unlink()

    def records(shard: int) -> list[Encoded]:
        chosen = np.random.default_rng(shard).integers(distinct, size=SHARD)
        return [
            Encoded(f"{shard:06d}/{row:06d}.jpg", faces[i][0], ".jpg", faces[i][1])
            for row, i in enumerate(chosen)
        ]

    bar = tqdm(range(shards), "write shards", leave=False)
    return [write_shard(root, shard_name("faces", n), "faces", records(n)) for n in bar]


def write_index(root: Path, shards: list[ShardMetadata], side: int) -> None:
    faces = sum(shard.faces for shard in shards)
    plan = PackPlan(
        source="drawn faces",
        canvas=side,
        box=WHOLE_FRAME,
        encoding="jpeg",
        classes=CLASSES,
        attributes={},
        groups=(),
        splits={"faces": faces},
        shard_faces=SHARD,
        fingerprint="",
    )
    index = Index(plan=plan, faces=faces, shards=tuple(shards))
    write_json(root / INDEX_FILE, index.model_dump(mode="json"))


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def streamed(root: Path, side: int, most: int, workers: int) -> dict[str, float]:
    torch.set_num_threads(1)
    before = peak_mb()

    def opened(share: float) -> tuple[float, Canvases, int, int]:
        begun = time.perf_counter()
        source = FaceSource(PackedFaces(root, ()), WHOLE_FRAME)
        canvases = Canvases([source], side, len(CLASSES), 0.0, workers)
        steps = len(canvases) // BATCH
        return begun, canvases, int(share * steps), steps

    begun, canvases, first, steps = opened(0.5)
    order = canvases.random_order(generator_for(0, 0))
    next(canvases.batches(order, BATCH, first, steps))
    middle = time.perf_counter() - begun
    begun, canvases, _, steps = opened(0)
    steps = min(steps, -(-most // BATCH)) if most else steps
    order = canvases.random_order(generator_for(0, 0))
    batches = canvases.batches(order, BATCH, 0, steps)
    for _ in islice(batches, 1):
        pass
    start = time.perf_counter() - begun
    begun, worked = time.perf_counter(), time.process_time()
    faces = sum(len(batch.index) for batch in tqdm(batches, total=steps - 1, leave=False))
    seconds, worked = time.perf_counter() - begun, time.process_time() - worked
    return {
        "streamed": faces + BATCH,
        "rate": faces / seconds,
        "cpu": 1000 * worked / faces,
        "start": start,
        "middle": middle,
        "peak": peak_mb(),
        "before": before,
    }


if __name__ == "__main__":
    main()
