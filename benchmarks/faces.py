"""How many faces a detector finds, and where their landmarks come to lie.

    python benchmarks/faces.py PHOTOS [--detector yunet|haar] [--as-is] [--faces 600]

Each photograph counts as found when a face lies over its middle. That face is cropped and looked
for again; the table says where its landmarks lie in CelebA's frame of 178 x 218 px. With --as-is
the pictures are taken for crops already, as CelebA's aligned pictures are, and not cropped.
"""

from pathlib import Path

import click
import numpy as np
from PIL import Image

from sspl.data.adapters.folder import read_folder
from sspl.data.images import read_image
from sspl.faces.alignment import FRAME_HEIGHT, FRAME_WIDTH, cut, place
from sspl.faces.detectors import MIN_SCORES, make_detector
from sspl.faces.face import LANDMARKS, Face, FaceDetector


def middle_face(detector: FaceDetector, image: Image.Image) -> Face | None:
    """Return the largest face whose box holds the middle of the picture."""
    x, y = image.width / 2, image.height / 2
    found = [
        face
        for face in detector.detect(np.asarray(image))
        if face.box[0] <= x <= face.box[2] and face.box[1] <= y <= face.box[3]
    ]
    return max(found, key=lambda face: face.area, default=None)


def frame(detector: FaceDetector, image: Image.Image, as_is: bool) -> tuple[bool, Face | None]:
    """Return whether a picture's face is found, and that face as seen in CelebA's frame."""
    if as_is:
        face = middle_face(detector, image.resize((FRAME_WIDTH, FRAME_HEIGHT)))
        return face is not None, face
    face = middle_face(detector, image)
    if face is None:
        return False, None
    return True, middle_face(detector, cut(image, place(face)))


@click.command()
@click.argument("photos", type=click.Path(exists=True, path_type=Path))
@click.option("--detector", "name", type=click.Choice(list(MIN_SCORES)), default="yunet")
@click.option("--as-is", is_flag=True)
@click.option("--faces", "count", type=click.IntRange(1), help="The first ones only.")
def main(photos: Path, name: str, as_is: bool, count: int | None) -> None:
    detector = make_detector(name, MIN_SCORES[name])
    images = read_folder(photos).images[:count]
    seen = [frame(detector, read_image(path), as_is) for path in images]
    faces = [face for _, face in seen if face is not None]
    click.echo(f"{len(images)} pictures, the middle face found in {sum(ok for ok, _ in seen)}")
    points = [f.landmarks for f in faces if f.landmarks is not None]
    click.echo(f"{'landmark':<12}{'x':>16}{'y':>16}   ({len(points)} faces in the frame)")
    for i, landmark in enumerate(LANDMARKS):
        places = np.array([p[i] for p in points if i < len(p)])
        if len(places):
            cells = (
                f"{m:.1f} +- {s:.1f}" for m, s in zip(places.mean(0), places.std(0), strict=True)
            )
            click.echo(f"{landmark:<12}" + "".join(f"{cell:>16}" for cell in cells))


if __name__ == "__main__":
    main()
