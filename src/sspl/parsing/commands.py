"""What `sspl parser` does: folders in, run folders and masks out."""

import logging
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from sspl.data.inputs import of_paths, of_values, require_same_inputs
from sspl.data.mask_shares import (
    ClassCounts,
    counted,
    never_there,
    nothing_to_learn,
    oddities,
)
from sspl.device import pick_device
from sspl.domain.taxonomy import UNKNOWN, Taxonomy, load_taxonomy
from sspl.errors import DataError, SettingsError
from sspl.io.files import write_json
from sspl.io.progress import watched
from sspl.io.runs import claimed_run, start_run, write_metrics
from sspl.metrics.pixels import confusion_matrix
from sspl.onnx import ONNX_SUFFIX
from sspl.parsing.landmarks import NAME as LANDMARKS
from sspl.parsing.landmarks import LandmarkParser
from sspl.parsing.model import ParserModel, load_parser, save_parser
from sspl.parsing.network_parser import NetworkParser
from sspl.parsing.pairs import draw_training_pairs, find_pairs, load_pairs
from sspl.parsing.parser import Parser
from sspl.parsing.parser_settings import ParserSettings
from sspl.parsing.report import parser_figures
from sspl.parsing.training import train_parser

log = logging.getLogger(__name__)

BATCH: Final = 16
EXTENT: Final = (
    "steps",
    "the learning rate follows a curve over all steps, so that a longer run would have learnt "
    "otherwise from its first one. Train a parser with more steps in another --out.",
)


def train_and_test(
    images: Path,
    masks: Path,
    classes: str | None,
    split_file: Path | None,
    settings: ParserSettings,
    out: Path,
    resume: bool = False,
) -> dict[str, Any]:
    """Train a parser, test it on the held-out pairs, write the run folder; return the figures.

    With `resume` a run that is in the folder already goes on.
    """
    with claimed_run(out):
        return _train_and_test(images, masks, classes, split_file, settings, out, resume)


def _train_and_test(
    images: Path,
    masks: Path,
    classes: str | None,
    split_file: Path | None,
    settings: ParserSettings,
    out: Path,
    resume: bool,
) -> dict[str, Any]:
    pick_device(settings.device)  # whether it is there is said before anything is written
    taxonomy = load_taxonomy(settings.taxonomy)
    source = load_taxonomy(classes) if classes else taxonomy
    pairs = find_pairs(images, masks, split_file)
    chosen = pairs.split("train")
    if settings.pairs is not None:
        chosen = draw_training_pairs(chosen, settings.pairs, settings.seed)
    columns = zip(pairs.names, pairs.images, pairs.masks, pairs.splits, strict=True)
    entries = [of_values("the classes", [source.classes, taxonomy.classes, taxonomy.mirror])]
    entries += [of_paths(name, (image, mask), split) for name, image, mask, split in columns]
    inputs = partial(require_same_inputs, out, entries)
    canvases = load_pairs(chosen, source, taxonomy, settings.size, "read training pairs")
    held_out = load_pairs(pairs.split("test"), source, taxonomy, settings.size, "read test pairs")
    _require_known(held_out[1], str(masks))
    _tell_of(counted(ids.numpy() for ids in canvases[1]), taxonomy, str(masks))
    start_run(out, "parser", settings, settings.seed, resume, EXTENT, inputs)
    training = train_parser(*canvases, taxonomy, settings, out, resume)
    model = ParserModel(training.network, taxonomy, settings.size)
    save_parser(out, model, settings.model)
    parser = NetworkParser(model, device=settings.device, precision=settings.precision)
    figures = parser_figures(agreement(parser, *held_out, taxonomy), taxonomy)
    figures["training_pairs"] = list(chosen.names)
    figures["seconds"] = None if training.seconds is None else round(training.seconds, 1)
    write_metrics(out, training.log, figures)
    return figures


def _require_known(masks: torch.Tensor, where: str) -> None:
    """Refuse test masks uint8 (n, s, s) by which nothing can be judged."""
    if not (masks != UNKNOWN).any():
        raise DataError(
            f"{where}: not one pixel of the test masks has a known class: all are 255, which "
            "means unknown."
        )


def _tell_of(counts: ClassCounts, taxonomy: Taxonomy, where: str) -> None:
    """Refuse training masks that teach nothing; warn of odd ones and of classes never shown."""
    problem = nothing_to_learn(counts, taxonomy)
    if problem is not None:
        raise DataError(f"{where}: {problem}.")
    for odd in oddities(counts, taxonomy):
        log.warning("%s: %s.", where, odd)
    absent = never_there(counts, taxonomy)
    if absent:
        log.warning(
            "%s: no training mask shows %s, so the parser cannot learn it.",
            where,
            ", ".join(absent),
        )


def open_parser(
    source: str, short_side: int | None = None, average: bool | None = None, device: str = "auto"
) -> Parser:
    """Return the parser of a run folder, of an ONNX file, or `landmarks[:FOLDER]`.

    Raises `SettingsError` when an option does not go with that kind of parser.
    """
    kind, _, folder = source.partition(":")
    if Path(source).suffix != ONNX_SUFFIX and kind != LANDMARKS:
        model = load_parser(Path(source))
        return NetworkParser(model, short_side, average is not False, device)
    if short_side is not None or average is not None or device not in ("auto", "cpu"):
        raise SettingsError(
            f"{source}: --short-side, --average and --device are for a trained parser; this one "
            "looks once, at its own size, on the CPU: leave them out."
        )
    # Only here, since both need the packages of an extra.
    if kind == LANDMARKS:
        from sspl.parsing.mesh_models import load_models

        models = load_models(Path(folder) if folder else None)
        return LandmarkParser(models.mesh, models.person, models.digest)
    from sspl.parsing.onnx_parser import OnnxParser

    return OnnxParser(Path(source))


def test_on(
    model: str,
    images: Path,
    masks: Path,
    classes: str | None,
    judge_by: str | None,
    split_file: Path | None,
    only: str,
    out: Path | None,
) -> dict[str, Any]:
    """Test a parser on another set of pairs; return the figures.

    The masks' classes and the parser's are both remapped by name to `judge_by`.
    """
    parser = open_parser(model)
    judge = load_taxonomy(judge_by) if judge_by else parser.taxonomy
    source = load_taxonomy(classes) if classes else judge
    pairs = find_pairs(images, masks, split_file)
    if only:
        pairs = pairs.select([i for i, n in enumerate(pairs.names) if n.startswith(only)])
        if not len(pairs):
            raise DataError(f"no pair's name starts with '{only}'.")
    canvases = load_pairs(pairs.split("test"), source, judge, parser.canvas, "read test pairs")
    _require_known(canvases[1], str(masks))
    for odd in oddities(counted(ids.numpy() for ids in canvases[1]), judge):
        log.warning("%s: %s.", masks, odd)
    figures = parser_figures(agreement(parser, *canvases, judge), judge)
    if out:
        write_json(out, figures)
    return figures


def agreement(
    parser: Parser, images: torch.Tensor, masks: torch.Tensor, judge: Taxonomy
) -> torch.Tensor:
    """Return the pixel confusion matrix of a parser and true masks, by the classes of `judge`.

    Pixels that the parser says nothing of (`UNKNOWN`) count as background.

    Args:
        images: uint8 (n, 3, s, s).
        masks: uint8 (n, s, s), ids of `judge`.
    """
    table = torch.from_numpy(judge.remap_table(parser.taxonomy))
    table[UNKNOWN] = judge.background
    confusion = torch.zeros(len(judge), len(judge), dtype=torch.int64)
    for start in watched(range(0, len(images), BATCH), "test parser", leave=False):
        batch = images[start : start + BATCH]
        found = np.stack(parser.parse([i.permute(1, 2, 0).contiguous().numpy() for i in batch]))
        predicted = table[torch.from_numpy(found).long()].long()
        confusion += confusion_matrix(masks[start : start + BATCH], predicted, len(judge))
    return confusion
