"""Why a model says what it says of some faces: maps, sums by semantic class, segmentation."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.special import expit

from sspl.data.framing import DETECT, Unlike
from sspl.data.palette import write_image, write_mask
from sspl.data.sheets import Line, Tile, sheet
from sspl.data.streams import in_batches, read_ahead
from sspl.domain.wording import in_words
from sspl.errors import SsplError
from sspl.faces.face import FaceDetector
from sspl.faces.photographs import detector_of
from sspl.inference.attribution import Parts, explain_canvases
from sspl.inference.crops import FaceCrop
from sspl.inference.drawing import inside
from sspl.inference.heat import AGAINST, FOR, SIDE, heat_map, legend, segmented
from sspl.inference.predict import Looker, PredictSettings, require_own_results
from sspl.inference.scorers import Scorer, TorchScorer
from sspl.inference.sources import Shot, Source
from sspl.io.files import write_json
from sspl.io.locks import claimed
from sspl.io.names import path_below
from sspl.io.progress import watched
from sspl.models.attributes import AttributeNetwork
from sspl.models.bundle import AttributeModel
from sspl.models.frozen import with_backbone

EXPLANATION_FILE: Final = "explanation.json"
SHEET_FILE: Final = "sheet.png"
SEGMENTATION_FILE: Final = "segmentation.png"
PICTURES_AT_ONCE: Final = 16
CLASSES_SHOWN: Final = 4
GRID_COLUMNS: Final = 4
COLOURED: Final = (
    "Red speaks for the attribute, blue against it; the strongest place has the full colour."
)
ADDED: Final = (
    "Numbers: what each part of the face adds to the logit of the percentage above; the rest is "
    "what the other parts add, and where the model begins."
)


@dataclass(frozen=True)
class FaceParts:
    """The parts of one face's calibrated logits as arrays, attributes first; see `Parts`."""

    probabilities: NDArray[np.float64]
    baseline: NDArray[np.float32]
    maps: NDArray[np.float32]
    regions: NDArray[np.float32] | None
    whole: NDArray[np.float32] | None
    ids: NDArray[np.uint8] | None


def face_parts(parts: Parts) -> list[FaceParts]:
    """Return the parts face by face."""
    probabilities = expit(parts.logits().double().cpu().numpy())
    baseline, maps = parts.baseline.cpu().numpy(), parts.maps.cpu().numpy()
    regions = None if parts.regions is None else parts.regions.cpu().numpy()
    whole = None if parts.whole is None else parts.whole.cpu().numpy()
    ids = None
    if parts.segmentation is not None:
        ids = parts.segmentation.argmax(1).byte().cpu().numpy()
    return [
        FaceParts(
            probabilities[i],
            baseline,
            maps[i],
            None if regions is None else regions[i],
            None if whole is None else whole[i],
            None if ids is None else ids[i],
        )
        for i in range(len(maps))
    ]


def explain(
    scorer: Scorer,
    sources: Sequence[Source],
    out: Path,
    settings: PredictSettings,
    attributes: Sequence[str] = (),
    make: Callable[[], FaceDetector] | None = None,
) -> int:
    """Write a folder of pictures and numbers for every face; return how many there were.

    Args:
        scorer: the model, one that runs in torch.
        sources: pictures.
        out: folder; a face's own one below it bears the name of its picture.
        settings: how pictures are looked at; `top` likeliest attributes are explained.
        attributes: names of those to explain in their place.
        make: returns a face detector, in place of the one that the settings name.

    Raises `DataError` for an attribute that the model has not or a picture that cannot be used.
    """
    if not isinstance(scorer, TorchScorer):
        raise SsplError("an ONNX file cannot be explained; give the run or model folder.")
    with claimed(out, folder=True, deep=True):
        return _explain(scorer, sources, out, settings, attributes, make)


def _explain(
    scorer: TorchScorer,
    sources: Sequence[Source],
    out: Path,
    settings: PredictSettings,
    attributes: Sequence[str],
    make: Callable[[], FaceDetector] | None,
) -> int:
    with_backbone(scorer.model.network, "explain")
    wanted = [scorer.model.schema.index(name) for name in attributes]
    found = settings.detection
    make = make or (lambda: detector_of(found))
    require_own_results(sources, lambda name: inside(out, name))
    looker = Looker(scorer, settings, make, keeps=False)
    shots = chain.from_iterable(source.shots() for source in sources)
    batches = in_batches(shots, PICTURES_AT_ONCE)
    count, unlike = 0, Unlike(scorer.pictures)
    with watched(desc="explain", unit="face", leave=False) as bar:
        for pictures in read_ahead(looker.look, batches, settings.threads):
            for picture in pictures:
                if picture.error is not None:
                    raise picture.error
                unlike.note(picture.unlike)
            faces = [
                (picture.shot, number, face)
                for picture in pictures
                for number, face in enumerate(picture.faces)
            ]
            for batch in in_batches(faces, settings.batch_size):
                canvases = np.stack([face.canvas for _, _, face in batch])
                parts = face_parts(explain_canvases(scorer.model, canvases))
                for (shot, number, face), one in zip(batch, parts, strict=True):
                    _write_face(
                        _folder(out, shot, number, face),
                        scorer.model,
                        face,
                        one,
                        wanted,
                        settings.top,
                    )
                    bar.update()
                count += len(batch)
    unlike.warn(DETECT)
    return count


def _folder(out: Path, shot: Shot, number: int, face: FaceCrop) -> Path:
    folder = inside(out, shot.name)
    folder = folder if shot.frame is None else folder / f"{shot.frame:06d}"
    return folder if face.box is None else folder / f"face-{number}"


def _write_face(
    folder: Path,
    model: AttributeModel,
    face: FaceCrop,
    parts: FaceParts,
    wanted: Sequence[int],
    top: int,
) -> None:
    files = attribute_files(model.schema.names)
    chosen = list(wanted) or [int(i) for i in np.argsort(-parts.probabilities)[:top]]
    names, classes = model.schema.names, classes_of(model)
    tiles, key = [Tile([np.asarray(_large(face))], "Face")], list[Line]()
    if parts.ids is not None:
        write_mask(folder / SEGMENTATION_FILE, parts.ids, len(classes))
        pixels = segmented(face.canvas, parts.ids, len(classes))
        tiles.append(Tile([pixels], "Segmentation, colours below"))
        key = legend(parts.ids, classes)
    for i in chosen:
        pixels = heat_map(face.canvas, parts.maps[i])
        write_image(path_below(folder, files[i]), Image.fromarray(pixels))
        title = f"{in_words(names[i])} {parts.probabilities[i]:.0%}"
        tiles.append(Tile([pixels], title, _strongest(parts, i, classes)))
    footer = (COLOURED, ADDED) if parts.regions is not None else (COLOURED,)
    write_image(folder / SHEET_FILE, sheet(tiles, GRID_COLUMNS, SIDE, footer, key))
    write_json(folder / EXPLANATION_FILE, _explanation(model, face, parts, chosen, classes))


def attribute_files(names: Sequence[str]) -> list[str]:
    """Return for each attribute the name of its picture, no two alike and none another's."""
    taken = {Path(name).stem for name in (SHEET_FILE, SEGMENTATION_FILE)}
    files = []
    for name in names:
        stem = re.sub(r'[\x00-\x1f/\\:*?"<>|]', "_", name)
        while stem.casefold() in taken:
            stem += "_"
        taken.add(stem.casefold())
        files.append(f"{stem}.png")
    return files


def _large(face: FaceCrop) -> Image.Image:
    return Image.fromarray(face.canvas).resize((SIDE, SIDE), Image.Resampling.BICUBIC)


def classes_of(model: AttributeModel) -> tuple[str, ...]:
    """Return the semantic classes that a model pools by; none where it pools otherwise."""
    network = model.network
    return network.classes if isinstance(network, AttributeNetwork) else ()


def by_part(parts: FaceParts, attribute: int, classes: Sequence[str]) -> dict[str, float]:
    """Return what each semantic class and the face as a whole add; nothing without classes."""
    if parts.regions is None or parts.whole is None:
        return {}
    found = dict(zip(classes, parts.regions[attribute].tolist(), strict=True))
    return found | {"whole face": float(parts.whole[attribute])}


def _strongest(parts: FaceParts, attribute: int, classes: Sequence[str]) -> list[Line]:
    """Return what the strongest parts add, and all the rest with the baseline."""
    found = sorted(by_part(parts, attribute, classes).items(), key=lambda item: -abs(item[1]))
    if not found:
        return []
    rest = float(parts.baseline[attribute]) + sum(value for _, value in found[CLASSES_SHOWN:])
    shown = [
        *((in_words(name), value) for name, value in found[:CLASSES_SHOWN]),
        ("the rest", rest),
    ]
    return [(f"{value:+.2f}  {name}", FOR if value > 0 else AGAINST) for name, value in shown]


def _explanation(
    model: AttributeModel,
    face: FaceCrop,
    parts: FaceParts,
    chosen: Sequence[int],
    classes: Sequence[str],
) -> dict[str, Any]:
    explanation: dict[str, Any] = {"box": face.box, "score": face.score, "attributes": {}}
    for i in chosen:
        added = by_part(parts, i, classes)
        entry: dict[str, Any] = {
            "probability": float(parts.probabilities[i]),
            "baseline": float(parts.baseline[i]),
        }
        if added:
            entry["parts"] = added
        entry["map"] = [[round(v, 5) for v in row] for row in parts.maps[i].tolist()]
        explanation["attributes"][model.schema.names[i]] = entry
    return explanation
