"""Masks and patch tasks of a stage-1 run as pictures, with what the network says of them."""

from dataclasses import replace
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from markupsafe import Markup
from numpy.typing import NDArray
from torch import Tensor

from sspl.data.canvases import CanvasBatch, Canvases
from sspl.data.images import WHOLE_FRAME, Box
from sspl.data.palette import overlay, palette
from sspl.data.records import FaceSet, FaceSource
from sspl.data.synthetic.render import render_face
from sspl.domain.taxonomy import Taxonomy, load_taxonomy
from sspl.io.run_files import PRETRAINED_FILE, SETTINGS_FILE
from sspl.io.user_code import is_user_code
from sspl.io.weights import load_strictly, load_tensors
from sspl.models.backbones.base import pooled
from sspl.reporting.page import drawing, picture
from sspl.settings import build, read_settings
from sspl.tasks.base import Views
from sspl.tasks.pct import PatchClassification, class_counts, positive_classes
from sspl.tasks.prt import NO_LABEL, PatchRotation
from sspl.tasks.pst import PatchSegmentation
from sspl.training.pretext_network import Pretrainer, build_network, make_views
from sspl.training.stage_settings import PretrainSettings

BATCH: Final = 32
"""Faces that are looked at; stacks of patches are normalised over all of them."""

SHOWN: Final = 3
SIDE: Final = 192
DRAWN_TAXONOMY: Final = "celebamask19"
"""Drawn faces have masks of these classes alone."""

FRAME: Final = (226, 60, 40)

Pixels = NDArray[np.uint8]


class Panel(NamedTuple):
    """One picture of a row, or text alone, and what stands below it."""

    image: Markup
    caption: str


def pretext_pictures(run: Path, faces: FaceSet | None, box: Box | None) -> dict[str, Any]:
    """Return the pictures of a stage-1 run; empty where its weights are not there.

    Empty too where a task came from a file of its own: to look at a run must not run code.

    They show drawn faces, or some of `faces` (of each picture `box`).
    """
    if not (run / PRETRAINED_FILE).is_file():
        return {}
    content = read_settings(run / SETTINGS_FILE)
    if any(is_user_code(str(task)) for task in content.get("tasks") or ()):
        return {}
    settings = build(PretrainSettings, content)
    settings = settings.model_copy(update={"backbone_weights": None})
    taxonomy = load_taxonomy(settings.taxonomy)
    network = build_network(settings, taxonomy)
    load_strictly(network, load_tensors(run / PRETRAINED_FILE)[0], str(run / PRETRAINED_FILE))
    batch = _drawn(settings.canvas, settings.taxonomy)
    if faces is not None:
        batch = _some(faces, box, settings.canvas, len(taxonomy))
    mirror = torch.from_numpy(taxonomy.mirror_table())
    generator = torch.Generator().manual_seed(settings.seed)
    views = make_views(batch, settings, mirror, generator, torch.device("cpu"))
    with torch.no_grad():
        parts = _face_parts(network, views, taxonomy)
    colours = ["#{:02x}{:02x}{:02x}".format(*rgb) for rgb in palette(len(taxonomy)).tolist()]
    masks = batch.masks is not None
    return {
        "real": faces is not None,
        "note": _note(faces is not None, masks),
        "faces": [{"parts": face} for face in parts],
        "classes": list(zip(taxonomy.classes, colours, strict=True)) if masks else [],
    }


def _face_parts(network: Pretrainer, views: Views, taxonomy: Taxonomy) -> list[list[Panel]]:
    rows: list[list[Panel]] = [[] for _ in range(min(SHOWN, len(views.canvas)))]
    for task in network.tasks.values():
        if isinstance(task, PatchRotation):
            rows = [a + b for a, b in zip(rows, _rotation_parts(network, task, views), strict=True)]
    first = replace(
        views,
        crop=views.crop[:SHOWN],
        crop_mask=None if views.crop_mask is None else views.crop_mask[:SHOWN],
    )
    if network.uses_crop:
        rows = [a + b for a, b in zip(rows, _crop_parts(network, first, taxonomy), strict=True)]
    return rows


def _note(real: bool, masks: bool) -> str:
    text = (
        "Faces of the run's own data, which are personal data."
        if real
        else "Drawn faces, which the run may never have seen; real ones are personal data and "
        "shown with --faces alone."
    )
    return text + ("" if masks else " There are no masks of these classes for them.")


def _drawn(canvas: int, taxonomy: str) -> CanvasBatch:
    rendered = [render_face(2026, i, canvas) for i in range(BATCH)]
    images = torch.from_numpy(np.stack([face.image for face in rendered])).permute(0, 3, 1, 2)
    masks = torch.from_numpy(np.stack([face.mask for face in rendered]))
    known = taxonomy == DRAWN_TAXONOMY
    return CanvasBatch(torch.arange(BATCH), images.contiguous(), masks if known else None)


def _some(faces: FaceSet, box: Box | None, canvas: int, classes: int) -> CanvasBatch:
    order = np.random.default_rng(0).permutation(len(faces))[:BATCH]
    chosen = faces.select(order)
    masked = all(mask is not None for mask in chosen.masks)
    source = FaceSource(chosen, box or WHOLE_FRAME)
    canvases = Canvases([source], canvas, classes if masked else None)
    return next(iter(canvases.batches(range(len(chosen)), len(chosen))))


def _rotation_parts(network: Pretrainer, task: PatchRotation, views: Views) -> list[list[Panel]]:
    """Return the grid and the patches, the turned one framed, with what the heads say."""
    # In training mode, as in stage 1: the running averages are those of plain crops.
    network.train()
    stacks, which, quarters = task.stack(views)
    reduced = task.reduce(stacks)
    norms = task.norms
    maps = network.backbone(reduced) if norms is None else norms.through(network.backbone, reduced)
    feature = pooled(maps)
    places, angles = task.which(feature).argmax(1), task.angle(feature).argmax(1)
    grid, side = task.settings.grid, stacks.shape[-1]
    parts = []
    for i in range(min(SHOWN, len(stacks))):
        turned, angle = int(which[i]), 90 * int(quarters[i])
        patches = _as_pixels(stacks[i].view(grid**2, 3, side, side), 2.5)
        said = f"predicted: patch {int(places[i]) + 1}, {90 * int(angles[i])}°"
        true = "nothing is turned" if turned == NO_LABEL else f"patch {turned + 1} by {angle}°"
        image = picture(_sheet(patches, grid, turned), f"Patches of a face; {true}.", SIDE)
        parts.append([Panel(image, f"Rotation: {true}; {said}")])
    return parts


def _crop_parts(network: Pretrainer, views: Views, taxonomy: Taxonomy) -> list[list[Panel]]:
    """Return the crop, its mask, the mask that the network sees, and the classes in it."""
    network.eval()
    maps = network.backbone(views.crop)
    crops = _as_pixels(views.crop, 1.0)
    parts = [[Panel(picture(crop, "Random crop of the face.", SIDE), "The crop")] for crop in crops]
    tasks = list(network.tasks.values())
    classes = len(taxonomy)
    if views.crop_mask is not None:
        for i, part in enumerate(parts):
            mask = overlay(crops[i], views.crop_mask[i].numpy(), classes, 0.8)
            part.append(Panel(drawing(mask, "Mask of the crop.", SIDE), "Its mask"))
    for task in tasks:
        if isinstance(task, PatchSegmentation):
            size = views.crop.shape[-2:]
            logits = F.interpolate(task.head(maps), size, mode="bilinear", align_corners=False)
            found = logits.argmax(1).to(torch.uint8).numpy()
            for i, part in enumerate(parts):
                mask = overlay(crops[i], found[i], classes, 0.8)
                part.append(
                    Panel(drawing(mask, "Mask by the network.", SIDE), "Segmentation: predicted")
                )
        if isinstance(task, PatchClassification) and views.crop_mask is not None:
            regions = None if network.branches is None else network.branches(maps)
            said = task.head(pooled(maps) if regions is None else regions) > 0
            there = positive_classes(class_counts(views.crop_mask, classes), task.settings) > 0.5
            for part, yes, true in zip(parts, said, there, strict=True):
                part.append(Panel(Markup(), _classes_text(taxonomy, yes, true)))
    return parts


def _classes_text(taxonomy: Taxonomy, said: Tensor, true: Tensor) -> str:
    def names(chosen: Tensor) -> str:
        return ", ".join(taxonomy.classes[i] for i in chosen.nonzero()[:, 0].tolist()) or "none"

    missed, added = names(true & ~said), names(said & ~true)
    return (
        f"Classification: in the crop {names(true)}; missed: {missed}; wrongly predicted: {added}"
    )


def _as_pixels(images: Tensor, reach: float) -> list[Pixels]:
    """Map float (n, 3, h, w) in [-reach, reach] to pictures uint8 (h, w, 3)."""
    levels = ((images / reach + 1) * 127.5).clamp(0, 255).round().to(torch.uint8)
    return list(levels.permute(0, 2, 3, 1).contiguous().numpy())


def _sheet(patches: list[Pixels], grid: int, framed: int) -> Pixels:
    """Arrange patches in their grid, one of them in a frame (none where `framed` is negative)."""
    side = patches[0].shape[0]
    edge, gap = max(2, side // 16), max(2, side // 12)
    sheet = np.full((grid * (side + gap) + gap, grid * (side + gap) + gap, 3), 255, np.uint8)
    for i, patch in enumerate(patches):
        top, left = (gap + place * (side + gap) for place in divmod(i, grid))
        if i == framed:
            sheet[top - edge : top + side + edge, left - edge : left + side + edge] = FRAME
        sheet[top : top + side, left : left + side] = patch
    return sheet
